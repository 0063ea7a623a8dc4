package folder

import (
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

// documentsName is the folder of the publications that this host fetched for its orders.
const documentsName = "documents"

// MaxDocuments is how many publications are kept. Each has about 66 KiB at most.
const MaxDocuments = 64

// PutDocument keeps a publication by its key. At MaxDocuments the one that was not asked for or put for longest goes.
func (f *Folder) PutDocument(key fleet.ID, publication auth.Envelope) error {
	f.documents.Lock()
	defer f.documents.Unlock()
	dir := filepath.Join(f.dir, documentsName)
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return diskError("make", dir, err)
	}
	if err := f.write(documentPath(key), publication); err != nil {
		return err
	}
	return dropDocuments(dir)
}

// Document returns the publication of that key. One that is damaged counts as none: it is fetched again.
func (f *Folder) Document(key fleet.ID) (auth.Envelope, error) {
	f.documents.Lock()
	defer f.documents.Unlock()
	var e auth.Envelope
	if err := f.read(documentPath(key), &e); err != nil {
		return auth.Envelope{}, fleet.Errorf(fleet.NotFound, "no document %s is kept here", key)
	}
	path := filepath.Join(f.dir, documentPath(key))
	now := time.Now()
	_ = os.Chtimes(path, now, now) // only the order in which they go hangs on it
	return e, nil
}

// Documents returns all publications that are kept, without those that are damaged.
func (f *Folder) Documents() []auth.Envelope {
	f.documents.Lock()
	defer f.documents.Unlock()
	entries, _ := os.ReadDir(filepath.Join(f.dir, documentsName)) // none were kept yet
	var out []auth.Envelope
	for _, file := range entries {
		var e auth.Envelope
		if f.read(filepath.Join(documentsName, file.Name()), &e) == nil {
			out = append(out, e)
		}
	}
	return out
}

func documentPath(key fleet.ID) string {
	return filepath.Join(documentsName, hex.EncodeToString(key[:]))
}

// dropDocuments removes what is beyond MaxDocuments, and files that never became whole.
func dropDocuments(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return diskError("read", dir, err)
	}
	type file struct {
		name string
		used int64
	}
	var files []file
	for _, e := range entries {
		info, err := e.Info()
		if err != nil { // gone meanwhile
			continue
		}
		if strings.HasPrefix(e.Name(), newPrefix) {
			_ = os.Remove(filepath.Join(dir, e.Name()))
			continue
		}
		files = append(files, file{e.Name(), info.ModTime().UnixNano()})
	}
	slices.SortFunc(files, func(a, b file) int {
		if a.used != b.used {
			return int(min(max(a.used-b.used, -1), 1))
		}
		return strings.Compare(a.name, b.name)
	})
	for i := range max(0, len(files)-MaxDocuments) {
		if err := os.Remove(filepath.Join(dir, files[i].name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return diskError("remove", filepath.Join(dir, files[i].name), err)
		}
	}
	return nil
}
