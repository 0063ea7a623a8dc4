package folder

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
)

// A small file is {magic "MUSTER", format version, name, 0x0a, body, SHA-256 of all before}.
const (
	magic      = "MUSTER"
	formatByte = '1'
	maxSmall   = 8 << 20
	newPrefix  = ".new-" // of files that are not whole yet
)

func header(name string) []byte { return append([]byte(magic+string(formatByte)+" "+name), '\n') }

// write puts a file in place whole: temporary file, fsync, rename, fsync of the folder.
func (f *Folder) write(name string, body any) error {
	data := append(header(name), wire.Marshal(body)...)
	sum := sha256.Sum256(data)
	return WriteFile(filepath.Join(f.dir, name), append(data, sum[:]...), 0o600)
}

// read reads what write wrote. A file that is not there is fs.ErrNotExist.
func (f *Folder) read(name string, body any) error {
	path := filepath.Join(f.dir, name)
	info, err := os.Stat(path)
	if err == nil && info.Size() > maxSmall {
		return damaged(path, "it is larger than it can be")
	}
	var data []byte
	if err == nil {
		data, err = os.ReadFile(path)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err != nil {
		return diskError("read", path, err)
	}
	head := header(name)
	if len(data) < len(head)+sha256.Size {
		return damaged(path, "it is cut")
	}
	content, sum := data[:len(data)-sha256.Size], data[len(data)-sha256.Size:]
	if want := sha256.Sum256(content); !bytes.Equal(sum, want[:]) {
		return damaged(path, "its checksum differs")
	}
	if !bytes.HasPrefix(content, head) {
		return damaged(path, "it is of another kind or version")
	}
	if err := wire.Unmarshal(content[len(head):], body); err != nil {
		return damaged(path, err.Error())
	}
	return nil
}

func damaged(path, how string) error {
	return fleet.Errorf(fleet.Internal, "%s is damaged: %s", path, how)
}

// WriteFile replaces a file atomically and durably.
func WriteFile(path string, data []byte, mode fs.FileMode) error {
	dir := filepath.Dir(path)
	tmp, err := os.CreateTemp(dir, newPrefix+"*")
	if err != nil {
		return diskError("write", path, err)
	}
	defer os.Remove(tmp.Name()) // after the rename this removes nothing
	_, err = tmp.Write(data)
	if err == nil {
		err = tmp.Chmod(mode)
	}
	if err == nil {
		err = tmp.Sync()
	}
	err = errors.Join(err, tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err == nil {
		err = syncDir(dir)
	}
	if err != nil {
		return diskError("write", path, err)
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// diskError says what a failing disk means and what to do.
func diskError(verb, path string, err error) error {
	kind, hint := fleet.Internal, ""
	switch {
	case errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT):
		kind, hint = fleet.Exhausted, "make room on that disk: df -h "+filepath.Dir(path)
	case errors.Is(err, syscall.EROFS):
		kind, hint = fleet.Unavailable, "the file system is read-only: mount -o remount,rw, and look into dmesg for why"
	case errors.Is(err, syscall.ENOTDIR):
		kind, hint = fleet.Invalid, "it, or what it is in, is a file: choose another folder with --data-dir"
	case errors.Is(err, fs.ErrPermission):
		kind, hint = fleet.Denied, "run as the owner of that folder (root for a system agent), or choose another with --data-dir"
	}
	err = cause(err)
	e := fleet.Errorf(kind, "cannot %s %s: %w", verb, path, err)
	e.Hint = hint
	return e
}

// cause returns what the system said, without the paths that os puts before it: a temporary file's name helps nobody.
func cause(err error) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return e.Err
	}
	if e, ok := errors.AsType[*os.LinkError](err); ok {
		return e.Err
	}
	return err
}
