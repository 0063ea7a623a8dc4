package upgrade

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// besides returns where the old and the new program lie while a trial goes on: in the program's own folder, so that renames
// move them. Several agents may have one program; their data folders tell them apart.
func besides(program, dataDir string) (old, fresh string) {
	sum := sha256.Sum256([]byte(dataDir))
	name := filepath.Join(filepath.Dir(program), ".muster-"+hex.EncodeToString(sum[:4]))
	return name + ".old", name + ".new"
}

// sumOf returns the SHA-256 of a file, hexadecimal.
func sumOf(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	hash := sha256.New()
	if _, err := io.Copy(hash, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(hash.Sum(nil)), nil
}

// found says which program lies at the path.
func (t Trial) found() Found {
	sum, err := sumOf(t.Program)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return Other
	case err != nil:
		return Unread
	case sum == t.To.Sum:
		return New
	case sum == t.From.Sum:
		return Old
	}
	return Other
}

// place copies a program beside the one that it shall replace, synced, as that one's owner and with its mode.
func place(from, to string, like string) (err error) {
	info, err := os.Stat(like)
	if err != nil {
		return failed("read", like, err)
	}
	src, err := os.Open(from)
	if err != nil {
		return failed("read", from, err)
	}
	defer src.Close()
	_ = os.Remove(to)
	dst, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o700)
	if err != nil {
		return failed("write", to, err)
	}
	defer func() {
		if err != nil {
			err = failed("write", to, err)
			_ = os.Remove(to)
		}
	}()
	_, err = io.Copy(dst, src)
	if err == nil {
		err = looksLike(dst, info, like)
	}
	if err == nil {
		err = dst.Sync()
	}
	return errors.Join(err, dst.Close())
}

// looksLike gives a file the owner, the mode, and the labels of another.
func looksLike(f *os.File, info fs.FileInfo, like string) error {
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		if err := f.Chown(int(s.Uid), int(s.Gid)); err != nil && os.Geteuid() == 0 {
			return err
		}
	}
	for _, name := range []string{"security.selinux", "security.capability"} {
		value := make([]byte, 1024)
		n, err := syscall.Getxattr(like, name, value)
		if err == nil && n > 0 { // a label that does not stay is the policy's own
			_ = syscall.Setxattr(f.Name(), name, value[:n], 0)
		}
	}
	return f.Chmod(info.Mode().Perm() | info.Mode()&(fs.ModeSetuid|fs.ModeSetgid))
}

// saveOld keeps the program that runs under another name: a second name of the same file, or a copy of it where the file has
// none any more, or the file system knows no second names.
func saveOld(running, program, old string) error {
	_ = os.Remove(old)
	if same(running, program) && os.Link(program, old) == nil {
		return nil
	}
	return place(running, old, program)
}

func same(a, b string) bool {
	x, err1 := os.Stat(a)
	y, err2 := os.Stat(b)
	return err1 == nil && err2 == nil && os.SameFile(x, y)
}

// swap puts the new program in place.
func (t Trial) swap() error {
	if err := os.Rename(t.New, t.Program); err != nil {
		return failed("replace", t.Program, err)
	}
	return syncDir(filepath.Dir(t.Program))
}

// restore puts the old program back. Where it is gone, there is nothing to go back to.
func (t Trial) restore() error {
	if err := os.Rename(t.Old, t.Program); err != nil {
		return failed("put back", t.Program, err)
	}
	return syncDir(filepath.Dir(t.Program))
}

// clear removes what lies beside the program. What cannot be removed is removed at the next start.
func (t Trial) clear() {
	for _, path := range []string{t.Old, t.New} {
		if path != "" && path != t.Program {
			_ = os.Remove(path)
		}
	}
}
