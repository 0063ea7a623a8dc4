package action

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/muster-fleet/muster/exec/document"
	"github.com/muster-fleet/muster/node/fleet"
)

// fromLocal copies a file or folder of this host.
func (h host) fromLocal(ctx context.Context, in document.SourceInfo, to destination) error {
	if in.Path == "" {
		return fleet.Errorf(fleet.Invalid, "sourceInfo has no path")
	}
	if err := checkSHA(in.SHA256); err != nil {
		return err
	}
	from := place(h.downloads, in.Path).path
	info, err := os.Stat(from)
	switch {
	case err != nil:
		return troubleAt(from, err)
	case info.IsDir() && in.SHA256 != "":
		return fleet.Errorf(fleet.Invalid, "sha256 is for one file, and %s is a folder", from)
	case info.IsDir():
		return h.localFolder(ctx, from, to)
	case !info.Mode().IsRegular():
		return fleet.Errorf(fleet.Invalid, "%s is neither a file nor a folder", from)
	}
	file, err := to.file(from)
	if err != nil {
		return err
	}
	f, err := os.Open(from)
	if err != nil {
		return troubleAt(from, err)
	}
	defer f.Close()
	n, err := write(ctx, file, f, -1, in.SHA256)
	if err == nil {
		h.brought(file, n)
	}
	return err
}

func (h host) localFolder(ctx context.Context, from string, to destination) error {
	t, err := newTree(filepath.Dir(to.path))
	if err != nil {
		return err
	}
	defer t.discard()
	err = filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == from {
			return err
		}
		if path == t.part || path == to.path { // the copy itself, where it goes below what is copied
			return fs.SkipDir
		}
		name, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		return copyEntry(ctx, t, name, path, d)
	})
	if err != nil {
		return troubleIn(from, err)
	}
	if err := t.settle(ctx, ".", to.path); err != nil {
		return err
	}
	h.sayOut("%s: %s", to.path, size(t.bytes))
	return nil
}

func copyEntry(ctx context.Context, t *tree, name, path string, d fs.DirEntry) error {
	switch {
	case d.IsDir():
		return t.folder(name)
	case d.Type()&fs.ModeSymlink != 0:
		to, err := os.Readlink(path)
		if err != nil {
			return err
		}
		return t.link(name, to)
	case !d.Type().IsRegular():
		return fleet.Errorf(fleet.Invalid, "%s is no file, folder or symbolic link", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	return t.file(ctx, name, f, -1, info.Mode()&0o111 != 0)
}
