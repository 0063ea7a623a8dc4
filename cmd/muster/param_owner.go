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

// mayHoldSecret refuses to put a secret into a file whose owner may be anybody who was there first: what a file keeps of its
// owner is worth as much as the folder that it lies in.
func mayHoldSecret(path string, old os.FileInfo, keepsMode bool) error {
	dir, err := os.Stat(filepath.Dir(path))
	if err != nil {
		return notWritten(path, err)
	}
	file, ok := old.Sys().(*syscall.Stat_t)
	folder, known := dir.Sys().(*syscall.Stat_t)
	switch {
	case keepsMode && old.Mode().Perm()&0o007 != 0:
		return fleet.Errorf(fleet.Denied, "a secret is in it, and everybody can read %s (mode %#o)", path, old.Mode().Perm()).
			Hinted("chmod 600 %s, or --mode 0640", path)
	case !ok || !known || int(file.Uid) == os.Geteuid() || file.Uid == 0:
		return nil
	case dir.Mode().Perm()&0o002 != 0 || file.Uid != folder.Uid && folder.Uid != 0 && int(folder.Uid) != os.Geteuid():
		return fleet.Errorf(fleet.Denied, "a secret is in it, and %s belongs to the account with uid %d, who could have put it there", path, file.Uid).
			Hinted("ls -ld %s %s; rm %s if it is not meant", filepath.Dir(path), path, path)
	}
	return nil
}
