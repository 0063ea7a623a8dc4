package copy

import (
	"errors"
	"path"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/muster-fleet/muster/node/session/copy/talk"
)

// folder is one that is written to. It stays open while anything in it is not in place; then it gets the rights and the
// time that its sender gave, which writing to it would have changed.
type folder struct {
	fd   int
	path string // for people
	in   *folder
	name string // in it; "" for the one that the copy lands in
	n    uint64
	made bool // by this copy: one that was there keeps its own rights
	mode uint16
	time int64
	uses atomic.Int32
}

// openFolder opens the folder that a copy lands in. Links to it are followed: a person named it.
func openFolder(path string) (*folder, error) {
	fd, err := again(func() (int, error) { return unix.Open(path, folderFlags, 0) })
	if errors.Is(err, unix.ENOENT) {
		return nil, talk.NoFolder(path)
	}
	if err != nil {
		return nil, troubleAt(path, err)
	}
	f := &folder{fd: fd, path: path}
	f.uses.Store(1)
	return f, nil
}

// enter makes a folder in f, or opens the one that is there. No link is followed.
func (f *folder) enter(n uint64, m talk.Folder) (*folder, error) {
	in := &folder{path: path.Join(f.path, m.Name), in: f, name: m.Name, n: n, mode: m.Mode & 0o777, time: m.Time}
	err := unix.Mkdirat(f.fd, m.Name, 0o700)
	in.made = err == nil
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return nil, troubleAt(in.path, err)
	}
	in.fd, err = again(func() (int, error) { return unix.Openat(f.fd, m.Name, folderFlags|unix.O_NOFOLLOW, 0) })
	if err != nil {
		return nil, troubleAt(in.path, err)
	}
	if in.made { // at once, so that a copy that breaks off leaves folders with the rights that they should have
		if err := unix.Fchmod(in.fd, uint32(in.mode|0o700)); err != nil {
			unix.Close(in.fd)
			return nil, troubleAt(in.path, err)
		}
	}
	in.uses.Store(1)
	f.keep()
	return in, nil
}

func (f *folder) keep() { f.uses.Add(1) }

// release lets go of f; the last to do so finishes it, and lets go of the folder that it is in. It returns what failed
// first, and for which.
func (f *folder) release() (failed *folder, err error) {
	for ; f != nil && f.uses.Add(-1) == 0; f = f.in {
		if e := f.finish(); e != nil && err == nil {
			failed, err = f, troubleAt(f.path, e)
		}
	}
	return failed, err
}

// finish puts what the folder holds on the disk, and gives it its rights and its time.
func (f *folder) finish() error {
	defer unix.Close(f.fd)
	if f.made {
		if err := unix.Fchmod(f.fd, uint32(f.mode)); err != nil {
			return err
		}
		if err := setTime(f.in.fd, f.name, f.time); err != nil {
			return err
		}
	}
	return syncIfAble(f.fd)
}

// syncIfAble syncs, where the file system knows how to.
func syncIfAble(fd int) error {
	_, err := again(func() (struct{}, error) { return struct{}{}, unix.Fsync(fd) })
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOTSUP) {
		return nil
	}
	return err
}

// setTime sets when an entry was last changed; that is also when it was last read.
func setTime(fd int, name string, nanoseconds int64) error {
	ts := unix.NsecToTimespec(nanoseconds)
	return unix.UtimesNanoAt(fd, name, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW)
}
