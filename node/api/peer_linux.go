package api

import (
	"net"
	"os/user"
	"slices"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/muster-fleet/muster/node/fleet"
)

// caller is who opened a connection: an account of this host, by the kernel's word at the moment of connecting, or an operator
// elsewhere, by a proved key.
type caller struct {
	uid      uint32
	groups   []uint32
	operator *Operator // nil: an account
}

// need says what a path asks of its caller.
type need uint8

const (
	anyone need = iota
	member      // root, the agent's account, the group that may look at the fleet, or an operator elsewhere
	owner       // root or the agent's account, and nobody elsewhere
)

// admit reports why c may not use a path, or nil. group returns the ID of the group that may look, if there is one.
func (c caller) admit(n need, self uint32, group func() (uint32, bool)) error {
	if c.operator != nil {
		return c.operator.admit(n)
	}
	if n == anyone || c.uid == 0 || c.uid == self {
		return nil
	}
	if n == owner {
		return fleet.Errorf(fleet.Denied, "only root and the agent's own account may do this").Hinted("repeat it with sudo")
	}
	if gid, ok := group(); ok && slices.Contains(c.groups, gid) {
		return nil
	}
	return fleet.Errorf(fleet.Denied, "only root and the group muster may look at the fleet through this host").
		Hinted("sudo usermod -aG muster $USER and log in again, or repeat it with sudo")
}

// admit is caller.admit of an operator elsewhere, whose rights on this host are those of an account that may look at the fleet.
// An account's right to act as the host, or as somebody on it, is none of theirs.
func (o *Operator) admit(n need) error {
	if err := o.Stands(); err != nil {
		return err
	}
	if n == owner {
		return fleet.Errorf(fleet.Denied, "only root of the host itself may do this").Hinted("do it on that host, without --via")
	}
	return nil
}

// callerOf asks the kernel who opened conn.
func callerOf(conn *net.UnixConn) (caller, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return caller{}, err
	}
	var c caller
	var failed error
	err = raw.Control(func(fd uintptr) {
		cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
		if err != nil {
			failed = err
			return
		}
		c.uid = cred.Uid
		c.groups = append(peerGroups(fd), cred.Gid)
	})
	if err == nil {
		err = failed
	}
	return c, err
}

// peerGroups returns the supplementary groups of the process at the other end; none when the kernel does not tell.
func peerGroups(fd uintptr) []uint32 {
	groups := make([]uint32, 64)
	for range 2 {
		size := uint32(len(groups) * 4)
		_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, fd, unix.SOL_SOCKET, unix.SO_PEERGROUPS,
			uintptr(unsafe.Pointer(&groups[0])), uintptr(unsafe.Pointer(&size)), 0)
		switch errno {
		case 0:
			return groups[:min(int(size/4), len(groups))]
		case unix.ERANGE: // size says how much it takes; the kernel allows 65,536 groups
			groups = make([]uint32, min(size/4, 65_536))
		default:
			return nil
		}
	}
	return nil
}

// groupID looks a group up anew at every call: it may be made after the agent has started.
func groupID(name string) func() (uint32, bool) {
	return func() (uint32, bool) {
		g, err := user.LookupGroup(name)
		if err != nil {
			return 0, false
		}
		gid, err := strconv.ParseUint(g.Gid, 10, 32)
		return uint32(gid), err == nil
	}
}
