package session

import (
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/muster-fleet/muster/exec/cage"
)

// signalNumber reads a signal's name without SIG; 0: nobody knows it.
func signalNumber(name string) syscall.Signal { return unix.SignalNum("SIG" + name) }

// signalGroup sends a signal to the processes of a group that belong to a session, one by one: the kernel names the group before
// a terminal also when it is long gone, and what has its number then may be anybody's. A handle is taken before its process is
// looked at, so that nobody is hit by a number that changed hands. It reports whether there were any.
func signalGroup(session, group int, n syscall.Signal) (hit bool) {
	for _, pid := range cage.Processes() {
		if stat, err := cage.ReadStat(pid); err != nil || stat.Session != session || stat.Group != group {
			continue
		}
		handle, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			continue
		}
		if stat, err := cage.ReadStat(pid); err == nil && stat.Session == session && stat.Group == group {
			hit = unix.PidfdSendSignal(handle, n, nil, 0) == nil || hit
		}
		unix.Close(handle)
	}
	return hit
}

// signalName is the name without SIG.
func signalName(s syscall.Signal) string {
	if name := unix.SignalName(s); name != "" {
		return strings.TrimPrefix(name, "SIG")
	}
	return s.String()
}
