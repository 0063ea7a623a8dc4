package main

import (
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/muster-fleet/muster/node/fleet"
)

// asOwner does what reads and writes files of who, with no more rights to files than theirs: their folders are theirs to fill with
// links, so that root who goes through them could be led to any file, and make it theirs. What do makes belongs to them.
func asOwner(who owner, do func() error) error {
	if who.gid < 0 { // nobody else than who runs this
		return do()
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine, and its rights with it
		err := takeRights(who)
		if err == nil {
			err = do()
		}
		done <- err
	}()
	return <-done
}

// takeRights leaves this thread the rights to files that who has: the kernel takes root's from it with the number.
func takeRights(who owner) error {
	if err := unix.Setgroups(nil); err != nil { // of this thread alone
		return err
	}
	_ = unix.Setfsgid(who.gid) // says nothing
	_ = unix.Setfsuid(who.uid)
	uid, _ := unix.SetfsuidRetUid(-1) // changes nothing
	gid, _ := unix.SetfsgidRetGid(-1)
	if uid != who.uid || gid != who.gid {
		return fleet.Errorf(fleet.Denied, "the rights of %s cannot be taken on", who.name)
	}
	return nil
}
