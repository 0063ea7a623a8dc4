package lan

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// process is a process of this machine that may be somebody else's child. It is held by a file descriptor, so that its
// number can never come to mean another one.
type process struct {
	pid  int
	file *os.File // closed when nobody knows the process any more
}

// hold takes hold of a process that is known to live.
func hold(pid int) (*process, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil, fmt.Errorf("process %d: %w", pid, err)
	}
	return &process{pid, os.NewFile(uintptr(fd), "pidfd")}, nil
}

func (p *process) alive() bool { return p != nil && !p.ended(0) }

// ended waits until the process has ended, at most for d.
func (p *process) ended(d time.Duration) bool {
	deadline := time.Now().Add(d)
	for {
		fds := []unix.PollFd{{Fd: int32(p.file.Fd()), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, int(max(0, time.Until(deadline).Milliseconds())))
		if !errors.Is(err, unix.EINTR) {
			return err == nil && n > 0
		}
	}
}

// signal sends a signal; a process that has ended takes none.
func (p *process) signal(sig unix.Signal) error {
	if err := unix.PidfdSendSignal(int(p.file.Fd()), sig, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("signal %d to process %d: %w", sig, p.pid, err)
	}
	return nil
}

// end sends a signal that ends the process, and waits until it has.
func (p *process) end(sig unix.Signal) error {
	if err := p.signal(sig); err != nil {
		return err
	}
	if !p.ended(Patience) {
		return fmt.Errorf("process %d does not end on signal %d within %s", p.pid, sig, Patience)
	}
	return nil
}

// pidsIn lists the processes of the machine that are in the same PID namespace as one of them.
func pidsIn(pid int) ([]int, error) {
	space, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", pid))
	if err != nil {
		return nil, err
	}
	all, err := pids()
	if err != nil {
		return nil, err
	}
	var out []int
	for _, other := range all {
		if in, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", other)); err == nil && in == space {
			out = append(out, other)
		}
	}
	return out, nil
}

func pids() ([]int, error) {
	names, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, err
	}
	var out []int
	for _, name := range names {
		if pid, err := strconv.Atoi(filepath.Base(name)); err == nil {
			out = append(out, pid)
		}
	}
	return out, nil
}

// insidePID returns the number that a process has in its own namespace.
func insidePID(pid int) (int, bool) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, false
	}
	for line := range strings.Lines(string(raw)) {
		if list, ok := strings.CutPrefix(line, "NSpid:"); ok {
			fields := strings.Fields(list)
			n, err := strconv.Atoi(fields[len(fields)-1])
			return n, err == nil
		}
	}
	return 0, false
}

// stateOf returns the letter that the kernel has for what a process does; 0 where there is none.
func stateOf(pid int) byte {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, rest, ok := bytes.Cut(raw, []byte(") "))
	if err != nil || !ok || len(rest) == 0 {
		return 0
	}
	return rest[0]
}

// zombie reports whether a process has ended and at most waits to be reaped.
func zombie(pid int) bool {
	state := stateOf(pid)
	return state == 0 || state == 'Z' || state == 'X'
}

// words reads what a process has in /proc as strings that end with zero bytes.
func words(pid int, name string) []string {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, name))
	if err != nil || len(raw) == 0 {
		return nil
	}
	return strings.Split(strings.TrimSuffix(string(raw), "\x00"), "\x00")
}

// title is how a host's first process is called; ps shows it, and Sweep finds it.
func title(lan, host string) string { return prefix + ":" + lan + ":" + host }

// titled finds the first processes of a lan's hosts, by the hosts' names. Only those count that are the first of their
// namespaces.
func titled(lan string) (map[string]*process, error) {
	all, err := pids()
	if err != nil {
		return nil, err
	}
	out := map[string]*process{}
	for _, pid := range all {
		w := words(pid, "cmdline")
		if len(w) == 0 || !strings.HasPrefix(w[0], title(lan, "")) {
			continue
		}
		p, err := hold(pid)
		if inside, ok := insidePID(pid); err == nil && ok && inside == 1 && !zombie(pid) {
			out[strings.TrimPrefix(w[0], title(lan, ""))] = p
		}
	}
	return out, nil
}
