package action

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/muster-fleet/muster/node/fleet"
)

// destination is where a download goes: a folder, or a path that is a file's or a folder's as the content is.
type destination struct {
	path   string // absolute
	folder bool   // it ends in "/", or is a folder already, or nothing was asked for
}

// destination reads destinationPath: relative ones are below the run's downloads.
func (h host) destination(text string) (destination, error) {
	if strings.ContainsRune(text, 0) {
		return destination{}, fleet.Errorf(fleet.Invalid, "destinationPath holds a zero byte")
	}
	to := place(h.downloads, text)
	if info, err := os.Stat(to.path); err == nil {
		switch {
		case info.IsDir():
			to.folder = true
		case to.folder:
			return destination{}, fleet.Errorf(fleet.Conflict, "%s is a file, not a folder", to.path)
		case !info.Mode().IsRegular():
			return destination{}, fleet.Errorf(fleet.Conflict, "%s is neither a file nor a folder", to.path)
		}
	}
	return to, nil
}

// place resolves a path of a document. A relative one lies below the downloads, wherever its dots lead.
func place(downloads, text string) destination {
	d := destination{path: text, folder: text == "" || strings.HasSuffix(text, "/") || text == "." || strings.HasSuffix(text, "/.")}
	if !filepath.IsAbs(text) {
		d.path = filepath.Join(downloads, filepath.Join("/", text))
	}
	d.path = filepath.Clean(d.path)
	return d
}

// file returns the path of a file of that name, and makes the folders above it.
func (d destination) file(name string) (string, error) {
	path := d.path
	if d.folder {
		if name = fileName(name); name == "" {
			return "", fleet.Errorf(fleet.Invalid, "the source names no file; give destinationPath a file name")
		}
		path = filepath.Join(d.path, name)
	}
	if info, err := os.Lstat(path); err == nil && info.IsDir() {
		return "", fleet.Errorf(fleet.Conflict, "%s is a folder", path)
	}
	return path, makeFolder(filepath.Dir(path))
}

// fileName returns the last element of a path from elsewhere, or "" if that is no name for a file.
func fileName(path string) string {
	name := path[strings.LastIndex(path, "/")+1:]
	if name == "." || name == ".." || len(name) > 255 || strings.ContainsRune(name, 0) {
		return ""
	}
	return name
}

func makeFolder(path string) error {
	if err := os.MkdirAll(path, 0o777); err != nil { // the umask of the run decides, as for a script's mkdir
		return troubleAt(path, err)
	}
	return nil
}

// size prints a number of bytes.
func size(n int64) string {
	if n == 1 {
		return "1 byte"
	}
	return fmt.Sprintf("%d bytes", n)
}

// troubleAt says what is wrong with a path, in words for people; a full disk above all.
func troubleAt(path string, err error) error {
	switch {
	case isFull(err):
		return fleet.Errorf(fleet.Exhausted, "the disk is full at %s: %w", path, bare(err)).Hinted("make room there, or choose another destinationPath")
	case os.IsPermission(err):
		return fleet.Errorf(fleet.Denied, "%s: %w", path, bare(err))
	case os.IsNotExist(err):
		return fleet.Errorf(fleet.NotFound, "%s: %w", path, fs.ErrNotExist)
	}
	return fleet.Errorf(fleet.Unavailable, "%s: %w", path, bare(err))
}
