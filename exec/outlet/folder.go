package outlet

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"syscall"

	"github.com/muster-fleet/muster/node/fleet"
)

// Modes of what is written: for the group of those who read it, and for nobody else.
const (
	fileMode   fs.FileMode = 0o640
	folderMode fs.FileMode = 0o750
)

// folder writes files DIR/COMMAND/NODE/STREAM.
type folder struct{ path string }

// Copy writes one file. The folder itself must exist: where a share is not mounted, its mount point's parent must not fill
// up instead. No link in it leads out of it.
func (f folder) Copy(ctx context.Context, s Source) error {
	if err := s.check(); err != nil {
		return err
	}
	root, err := os.OpenRoot(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		return fleet.Errorf(fleet.Unavailable, "there is no folder %s on this node", f.path).Hinted("make it, or mount what belongs there: it is not made, so that a share that is not mounted fills no other disk")
	}
	if err != nil {
		return f.trouble(err)
	}
	defer root.Close()
	name := below(s.Command, s.Node, s.Stream)
	if err := makeFolders(root, path.Dir(name)); err != nil {
		return f.trouble(err)
	}
	part := path.Join(path.Dir(name), "."+s.Stream+"-"+rand.Text()+".part")
	if err := f.write(ctx, root, part, s); err != nil {
		root.Remove(part)
		return err
	}
	if err := root.Rename(part, name); err != nil {
		root.Remove(part)
		return f.trouble(err)
	}
	for dir := path.Dir(name); ; dir = path.Dir(dir) {
		if err := syncFolder(root, dir); err != nil {
			return f.trouble(err)
		}
		if dir == "." {
			return nil
		}
	}
}

func (f folder) write(ctx context.Context, root *os.Root, part string, s Source) error {
	in, err := s.Open()
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := root.OpenFile(part, os.O_WRONLY|os.O_CREATE|os.O_EXCL, fileMode)
	if err != nil {
		return f.trouble(err)
	}
	defer out.Close()
	n, err := io.Copy(out, &stopping{ctx, io.LimitReader(in, s.Size)})
	switch {
	case err != nil:
		return f.trouble(err)
	case n != s.Size:
		return fleet.Errorf(fleet.Unavailable, "%s ended after %d of %d bytes", s, n, s.Size)
	}
	if err := errors.Join(out.Chmod(fileMode), out.Sync()); err != nil { // the mode whatever the umask
		return f.trouble(err)
	}
	return nil
}

func (f folder) trouble(err error) error {
	if _, ok := errors.AsType[*fleet.Error](err); ok {
		return err
	}
	kind := fleet.Unavailable
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		kind = fleet.Exhausted
	}
	return fleet.Errorf(kind, "output cannot be copied to %s: %w", f.path, bare(err))
}

func bare(err error) error {
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		return pe.Err
	}
	return err
}

// makeFolders makes a path and gives each new folder its mode whatever the umask.
func makeFolders(root *os.Root, dir string) error {
	if dir == "." {
		return nil
	}
	if err := makeFolders(root, path.Dir(dir)); err != nil {
		return err
	}
	err := root.Mkdir(dir, folderMode)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return root.Chmod(dir, folderMode)
}

func syncFolder(root *os.Root, dir string) error {
	f, err := root.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Sync(); err != nil && !errors.Is(err, syscall.EINVAL) { // some file systems cannot sync a folder
		return err
	}
	return nil
}

// stopping reads until its context is over.
type stopping struct {
	ctx context.Context
	r   io.Reader
}

func (s *stopping) Read(p []byte) (int, error) {
	if err := context.Cause(s.ctx); err != nil {
		return 0, err
	}
	return s.r.Read(p)
}
