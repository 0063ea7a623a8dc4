package folder

import (
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/muster-fleet/muster/node/fleet"
)

// copiesName is the folder of what this host has read of parameters. Files are named by a hash: a parameter's name may hold
// any path.
const copiesName = "params"

// copyBody is what is in a file.
type copyBody struct{ Data []byte }

// PutCopy keeps what was read of one parameter, in place of what was there.
func (f *Folder) PutCopy(key fleet.ID, data []byte) error {
	dir := filepath.Join(f.dir, copiesName)
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return diskError("make", dir, err)
	}
	return f.write(copyPath(key), copyBody{data})
}

// Copy returns what PutCopy kept, or NotFound. What is damaged counts as none: it is read from a server again.
func (f *Folder) Copy(key fleet.ID) ([]byte, error) {
	var body copyBody
	if err := f.read(copyPath(key), &body); err != nil {
		return nil, fleet.Errorf(fleet.NotFound, "nothing is kept of that parameter")
	}
	return body.Data, nil
}

// DropCopy removes what PutCopy kept, if it is there.
func (f *Folder) DropCopy(key fleet.ID) error {
	path := filepath.Join(f.dir, copyPath(key))
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return diskError("remove", path, err)
	}
	return nil
}

// Copies shows all that is kept. What is damaged, and what never became whole, is removed.
func (f *Folder) Copies(each func(key fleet.ID, data []byte)) error {
	dir := filepath.Join(f.dir, copiesName)
	d, err := os.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return diskError("read", dir, err)
	}
	defer d.Close()
	for {
		entries, err := d.ReadDir(256)
		for _, e := range entries {
			f.copyOf(e.Name(), each)
		}
		if err != nil || len(entries) == 0 { // io.EOF, or what is left is read another time
			return nil
		}
	}
}

func (f *Folder) copyOf(name string, each func(key fleet.ID, data []byte)) {
	raw, err := hex.DecodeString(name)
	if err == nil && len(raw) == len(fleet.ID{}) {
		data, err := f.Copy(fleet.ID(raw))
		if err == nil {
			each(fleet.ID(raw), data)
			return
		}
	}
	if err == nil || strings.HasPrefix(name, newPrefix) {
		_ = os.Remove(filepath.Join(f.dir, copiesName, name)) // it stays where it cannot go, and is passed over again
	}
}

func copyPath(key fleet.ID) string { return filepath.Join(copiesName, hex.EncodeToString(key[:])) }
