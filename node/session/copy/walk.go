package copy

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/session/copy/talk"
)

// source is a file that is to be sent.
type source struct {
	in   *opened // the folder that it is in; nil: path is the way to it
	name string  // in that folder
	as   string  // what the receiver is told
	path string  // for people
	mode uint16
	time int64
	size int64
	*bounds
	*branch
}

// open opens the file, unless something else has come in its place: no link within a tree is followed, and nothing that
// could wait for ever is read.
func (f *source) open() (*os.File, error) {
	const flags = unix.O_RDONLY | unix.O_NONBLOCK | unix.O_CLOEXEC
	var fd int
	var err error
	if f.in == nil {
		fd, err = again(func() (int, error) { return unix.Open(f.path, flags, 0) })
	} else {
		fd, err = again(func() (int, error) { return unix.Openat(f.in.fd(), f.name, flags|unix.O_NOFOLLOW, 0) })
	}
	if err != nil {
		return nil, err
	}
	var is unix.Stat_t
	err = unix.Fstat(fd, &is)
	if err == nil && f.in == nil {
		err = f.check(fd, "", f.path)
	}
	if err == nil && is.Mode&unix.S_IFMT != unix.S_IFREG {
		err = fleet.Errorf(fleet.Conflict, "%s is no file any more", f.path)
	}
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), f.path), nil
}

// again repeats a call that a signal interrupted.
func again[T any](call func() (T, error)) (T, error) {
	for {
		v, err := call()
		if !errors.Is(err, unix.EINTR) {
			return v, err
		}
	}
}

// opened is a folder that stays open while files of it wait for their turn. One goroutine uses it.
type opened struct {
	*os.File
	uses int
	*branch
}

func (o *opened) fd() int { return int(o.Fd()) }

func (o *opened) keep() {
	if o != nil {
		o.uses++
	}
}

func (o *opened) release() {
	if o == nil {
		return
	}
	if o.uses--; o.uses == 0 {
		o.Close()
	}
}

// source sends what a person named: the one place where links are followed, and patterns mean something.
func (s *sending) source(named string) error {
	if s.bounds == nil {
		if _, err := os.Lstat(named); err != nil {
			return s.skip(troubleAt(named, err))
		}
		return s.top(named, talk.Base(named))
	}
	ways, away, pattern := s.bounds.expand(tilde(named))
	if !pattern {
		return s.top(ways[0], talk.Base(named))
	}
	if len(away) > 0 { // by links that were not there when the copy began
		if err := s.skip((&Elsewhere{Paths: away, named: named}).plain()); err != nil {
			return err
		}
	} else if len(ways) == 0 {
		return s.skip(fleet.Errorf(fleet.NotFound, "nothing matches %s", named))
	}
	for _, way := range ways {
		if err := s.top(way, talk.Base(way)); err != nil {
			return err
		}
	}
	return nil
}

// tilde writes out the home of the account that this runs as.
func tilde(path string) string {
	switch {
	case path == "":
		return "."
	case path == "~", strings.HasPrefix(path, "~/"):
		if home, err := os.UserHomeDir(); err == nil {
			return home + path[1:]
		}
	}
	return path
}

// top sends one thing under a name.
func (s *sending) top(way, as string) error {
	is, err := s.look(way)
	if err != nil {
		return s.skip(troubleAt(way, err))
	}
	switch is.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		return s.file(&source{as: as, path: way, mode: uint16(is.Mode & 0o777), time: is.Mtim.Nano(), size: is.Size, bounds: s.bounds})
	case unix.S_IFDIR:
		if !s.deep {
			return s.skip(fleet.Errorf(fleet.Invalid, "%s is a folder", way).Hinted("-r copies folders, with what is in them"))
		}
		fd, err := again(func() (int, error) { return unix.Open(way, folderFlags, 0) })
		if err == nil {
			if err = s.bounds.check(fd, "", way); err != nil {
				unix.Close(fd)
			}
		}
		if err != nil {
			return s.skip(troubleAt(way, err))
		}
		return s.folder(fd, way, nil, 1, talk.Folder{Name: as, Mode: uint16(is.Mode & 0o777), Time: is.Mtim.Nano()})
	}
	return s.skip(special(way))
}

// look says what a person named, if it is within bounds.
func (s *sending) look(way string) (is unix.Stat_t, err error) {
	fd, err := again(func() (int, error) { return unix.Open(way, unix.O_PATH|unix.O_CLOEXEC, 0) })
	if err != nil {
		return is, err
	}
	defer unix.Close(fd)
	if err = s.bounds.check(fd, "", way); err == nil {
		err = unix.Fstat(fd, &is)
	}
	return is, err
}

func special(path string) *fleet.Error {
	return fleet.Errorf(fleet.Invalid, "%s is neither a file, a folder nor a link: it is left out", path)
}

const folderFlags = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC

// batch is how many names of a folder are read at a time, so that a folder of millions costs no more.
const batch = 256

// folder sends an open folder, which it closes.
func (s *sending) folder(fd int, way string, up *branch, depth int, m talk.Folder) error {
	in := &opened{File: os.NewFile(uintptr(fd), way), uses: 1}
	defer in.release()
	if depth > talk.MaxDepth {
		return s.skip(fleet.Errorf(fleet.Exhausted, "%s is more than %d folders deep", way, talk.MaxDepth))
	}
	var err error
	if in.branch, err = s.named(m, up); err != nil {
		return err
	}
	defer s.done(in.branch)
	for !s.isDead(in.branch) {
		names, err := in.Readdirnames(batch)
		for _, name := range names {
			if err := s.entry(in, name, filepath.Join(way, name), depth); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			if err := s.skip(troubleAt(way, err)); err != nil {
				return err
			}
			break
		}
	}
	return s.line.say(talk.Leave{})
}

// entry sends one entry of a folder. What has gone since its name was read is passed over: it is as if it had gone before.
func (s *sending) entry(in *opened, name, path string, depth int) error {
	if err := s.stopped(); err != nil || s.isDead(in.branch) {
		return err
	}
	var is unix.Stat_t
	err := unix.Fstatat(in.fd(), name, &is, unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return s.skip(troubleAt(path, err))
	}
	mode, time := uint16(is.Mode&0o777), is.Mtim.Nano()
	switch is.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		return s.file(&source{in: in, name: name, as: name, path: path, mode: mode, time: time, size: is.Size})
	case unix.S_IFLNK:
		return s.link(in, name, path, time)
	case unix.S_IFDIR:
		fd, err := again(func() (int, error) { return unix.Openat(in.fd(), name, folderFlags|unix.O_NOFOLLOW, 0) })
		if err != nil {
			return s.skip(troubleAt(path, err))
		}
		return s.folder(fd, path, in.branch, depth+1, talk.Folder{Name: name, Mode: mode, Time: time})
	}
	return s.skip(special(path))
}

func (s *sending) link(in *opened, name, path string, time int64) error {
	to := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(in.fd(), name, to)
	if err != nil {
		return s.skip(troubleAt(path, err))
	}
	b, err := s.named(talk.Link{Name: name, To: string(to[:n]), Time: time}, in.branch)
	s.done(b)
	return err
}
