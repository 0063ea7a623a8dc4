package action

import (
	"context"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/muster-fleet/muster/node/fleet"
)

// tree collects files below a hidden folder, and puts them in place when all of them are there. No name and no link can
// lead out of it: the kernel is asked for every step of a path (os.Root).
type tree struct {
	part  string // the hidden folder
	root  *os.Root
	files int
	bytes int64
}

// newTree makes an empty tree in the file system of the folder parent, which is made.
func newTree(parent string) (*tree, error) {
	if err := makeFolder(parent); err != nil {
		return nil, err
	}
	part := filepath.Join(parent, partName())
	if err := os.Mkdir(part, 0o777); err != nil {
		return nil, troubleAt(parent, err)
	}
	root, err := os.OpenRoot(part)
	if err != nil {
		os.RemoveAll(part)
		return nil, troubleAt(part, err)
	}
	return &tree{part: part, root: root}, nil
}

// discard removes what has not been put in place.
func (t *tree) discard() {
	t.root.Close()
	os.RemoveAll(t.part)
}

// name checks a slash-separated path from elsewhere.
func (t *tree) name(name string) (string, error) {
	clean := path.Clean(name)
	if !filepath.IsLocal(clean) || strings.ContainsRune(name, 0) {
		return "", fleet.Errorf(fleet.Denied, "the content has a path that leads out of it: %q", name)
	}
	if t.files++; t.files > maxFiles {
		return "", fleet.Errorf(fleet.Exhausted, "the content has more than %d files", maxFiles)
	}
	return clean, nil
}

func (t *tree) trouble(name string, err error) error {
	if strings.Contains(err.Error(), "escapes") {
		return fleet.Errorf(fleet.Denied, "the content has a path that leads out of it: %q", name)
	}
	return troubleAt(name, err)
}

// folder makes a folder and those above it.
func (t *tree) folder(name string) error {
	clean, err := t.name(name)
	if err != nil {
		return err
	}
	if err := t.root.MkdirAll(clean, 0o777); err != nil {
		return t.trouble(name, err)
	}
	return nil
}

// file writes a file of exactly length bytes; length -1: as many as come.
func (t *tree) file(ctx context.Context, name string, from io.Reader, length int64, executable bool) error {
	clean, err := t.name(name)
	if err != nil {
		return err
	}
	if err := t.root.MkdirAll(path.Dir(clean), 0o777); err != nil {
		return t.trouble(name, err)
	}
	mode := fs.FileMode(0o666)
	if executable {
		mode = 0o777
	}
	f, err := t.root.OpenFile(clean, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return t.trouble(name, err)
	}
	defer f.Close()
	n, err := io.Copy(f, &bounded{ctx: ctx, r: from, left: maxDownload - t.bytes})
	switch {
	case err != nil:
		err = copyTrouble(name, err)
	case length >= 0 && n != length:
		err = fleet.Errorf(fleet.Unavailable, "%q broke off after %d of %d bytes", name, n, length)
	default:
		t.bytes += n
		return nil
	}
	t.root.Remove(clean) // it may be tried again
	return err
}

// link makes a symbolic link, if what it points to is inside the tree.
func (t *tree) link(name, to string) error {
	clean, err := t.name(name)
	if err != nil {
		return err
	}
	if path.IsAbs(to) || !filepath.IsLocal(path.Join(path.Dir(clean), to)) {
		return fleet.Errorf(fleet.Denied, "the content has a link that leads out of it: %q", name)
	}
	if err := t.root.MkdirAll(path.Dir(clean), 0o777); err != nil {
		return t.trouble(name, err)
	}
	if err := t.root.Symlink(to, clean); err != nil {
		return t.trouble(name, err)
	}
	return nil
}

// checkLinks refuses links that lead out of a folder, also by way of others, which their own text does not show.
func checkLinks(top string) error {
	root, err := os.OpenRoot(top)
	if err != nil {
		return troubleAt(top, err)
	}
	defer root.Close()
	return filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.Type()&fs.ModeSymlink == 0 {
			return err
		}
		name, err := filepath.Rel(top, path)
		if err != nil {
			return err
		}
		if _, err := root.Stat(name); err != nil && strings.Contains(err.Error(), "escapes") {
			return fleet.Errorf(fleet.Denied, "the content has a link that leads out of it: %q", name)
		}
		return nil
	})
}

// settle puts what is below from in the tree in place at folder: each file under its name, over what was there. All of it
// is on the disk before the first has its name.
func (t *tree) settle(ctx context.Context, from, folder string) error {
	top := filepath.Join(t.part, filepath.FromSlash(from))
	if err := checkLinks(top); err != nil {
		return err
	}
	if err := syncTree(ctx, top); err != nil {
		return err
	}
	if err := makeFolder(folder); err != nil {
		return err
	}
	err := filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == top {
			return err
		}
		rel, err := filepath.Rel(top, path)
		if err != nil {
			return err
		}
		return t.move(path, filepath.Join(folder, rel), d)
	})
	if err != nil {
		return troubleIn(folder, err)
	}
	return syncFolders(folder, top)
}

// move gives one entry its name. A folder that is there keeps what it has.
func (t *tree) move(from, to string, d fs.DirEntry) error {
	info, err := os.Lstat(to)
	exists := err == nil
	switch {
	case d.IsDir() && exists && info.IsDir():
		return nil
	case d.IsDir() && exists:
		return fleet.Errorf(fleet.Conflict, "%s is in the way: it is no folder", to)
	case d.IsDir():
		if err := os.Rename(from, to); err != nil {
			return err
		}
		return fs.SkipDir // all that was below it moved along
	case exists && info.IsDir():
		return fleet.Errorf(fleet.Conflict, "%s is in the way: it is a folder", to)
	}
	return os.Rename(from, to)
}

func troubleIn(folder string, err error) error {
	if _, ok := err.(*fleet.Error); ok {
		return err
	}
	return troubleAt(folder, err)
}

// syncTree puts files and folders on the disk.
func syncTree(ctx context.Context, top string) error {
	return filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		if err == nil {
			err = context.Cause(ctx)
		}
		if err != nil || !(d.IsDir() || d.Type().IsRegular()) {
			return err
		}
		return syncFolder(path) // files are synced alike
	})
}

// syncFolders syncs a folder and those below it that top has too: where names were put.
func syncFolders(folder, top string) error {
	return filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(top, path)
		if err != nil {
			return err
		}
		return syncFolder(filepath.Join(folder, rel))
	})
}

// settleFile puts one file of the tree in place at to, whose folder exists.
func (t *tree) settleFile(name, to string) error {
	from := filepath.Join(t.part, filepath.FromSlash(name))
	info, err := os.Lstat(from)
	if err != nil {
		return troubleAt(to, err)
	}
	if !info.Mode().IsRegular() {
		return fleet.Errorf(fleet.Invalid, "%q is a link; ask for what it points to", name)
	}
	if err := syncFolder(from); err != nil {
		return err
	}
	if err := os.Rename(from, to); err != nil {
		return troubleAt(to, err)
	}
	return syncFolder(filepath.Dir(to))
}
