package main

import (
	"os"
	"path/filepath"
	"syscall"

	"github.com/muster-fleet/muster/node/fleet"
)

// likeOwner gives a file the owner of another, where that is not its owner yet.
func likeOwner(f *os.File, like os.FileInfo) error {
	want, ok := like.Sys().(*syscall.Stat_t)
	if !ok || (int(want.Uid) == os.Geteuid() && int(want.Gid) == os.Getegid()) {
		return nil
	}
	return f.Chown(int(want.Uid), int(want.Gid))
}

// place is a file that is there, and the folder that it lies in.
type place struct {
	path      string
	owner     int // uid
	mode      os.FileMode
	dirOwner  int
	dirMode   os.FileMode
	keepsMode bool // of what takes its place
}

// placeOf looks at a file that is there.
func placeOf(path string, old os.FileInfo, keepsMode bool) (place, error) {
	dir, err := os.Stat(filepath.Dir(path))
	if err != nil {
		return place{}, notWritten(path, err)
	}
	file, ok := old.Sys().(*syscall.Stat_t)
	folder, known := dir.Sys().(*syscall.Stat_t)
	if !ok || !known {
		return place{}, fleet.Errorf(fleet.Internal, "%s: whose it is cannot be seen", path)
	}
	return place{path, int(file.Uid), old.Mode().Perm(), int(folder.Uid), dir.Mode().Perm(), keepsMode}, nil
}

// mayHoldSecret refuses to put a secret into a file that keeps its owner, where that may be anybody who was there first: a
// file's owner is worth as much as the folder that it lies in.
func (p place) mayHoldSecret(self int) error {
	trusted := p.owner == self || p.owner == 0
	switch {
	case p.keepsMode && p.mode&0o007 != 0:
		return fleet.Errorf(fleet.Denied, "a secret is in it, and everybody can read %s (mode %#o)", p.path, p.mode).
			Hinted("chmod 600 %s, or --mode 0640", p.path)
	case trusted:
		return nil
	case p.dirMode&0o002 != 0, p.dirOwner != 0 && p.dirOwner != self && p.dirOwner != p.owner:
		return fleet.Errorf(fleet.Denied, "a secret is in it, and %s belongs to the account with uid %d, who could have put it there", p.path, p.owner).
			Hinted("ls -ld %s %s; rm %s if it is not meant", filepath.Dir(p.path), p.path, p.path)
	}
	return nil
}
