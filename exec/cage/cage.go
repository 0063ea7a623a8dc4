package cage

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/muster-fleet/muster/node/fleet"
)

// How processes are held together, so that all of them can be found when they have to go. Beside any of these the
// supervisor is a child subreaper.
const (
	Any  = ""     // the first of the following that works
	V2   = "v2"   // a cgroup v2 of its own: cgroup.kill, or freeze and kill before Linux 5.14
	V1   = "v1"   // a cgroup of the v1 freezer
	None = "none" // the subreaper alone
)

// home holds our cgroups: one per supervisor, and one that they themselves move to, so that stopping the agent's service
// does not stop them.
const (
	home        = "muster"
	supervisors = "supervisors"
)

// Name names a cgroup after the folder of a run or a session: two agents on one host may hold the same one.
func Name(dir string) string {
	sum := fleet.Sum([]byte(dir))
	return filepath.Base(dir) + "-" + sum.Text()[:8]
}

// Cgroups are the places in this host's cgroup file systems where ours may lie; "" where there is none.
type Cgroups struct{ v2, v1 string }

// V2 is the folder of our cgroups of version 2, "" if there is none.
func (c Cgroups) V2() string { return c.v2 }

// V1 is the folder of our cgroups of the v1 freezer, "" if there is none.
func (c Cgroups) V1() string { return c.v1 }

// find reads the mount table of a process (the text of /proc/self/mountinfo).
func find(mountinfo string) Cgroups {
	var c Cgroups
	for line := range strings.Lines(mountinfo) {
		before, after, ok := strings.Cut(line, " - ")
		f, kind := strings.Fields(before), strings.Fields(after)
		if !ok || len(f) < 5 || len(kind) < 3 {
			continue
		}
		switch {
		case kind[0] == "cgroup2" && c.v2 == "":
			c.v2 = filepath.Join(unescapeMount(f[4]), home)
		case kind[0] == "cgroup" && c.v1 == "" && slices.Contains(strings.Split(kind[2], ","), "freezer"):
			c.v1 = filepath.Join(unescapeMount(f[4]), home)
		}
	}
	return c
}

// unescapeMount undoes the octal escapes of mountinfo.
func unescapeMount(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

// Host finds the places of this host; none if it has no cgroups.
func Host() Cgroups {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return Cgroups{}
	}
	return find(string(data))
}

// Cage is one cgroup; the zero value is none.
type Cage struct {
	path string
	v2   bool
	// Worn says that cgroup.kill may have been used on it. Kernels from 6.14 on kill whatever clone3 puts into such a
	// cgroup from outside: they compare how often the cgroup was killed with the count of the parent's own.
	Worn bool
}

// Make makes a cgroup of that name, as good a one as the host allows.
func Make(at Cgroups, how, name string) Cage {
	if (how == Any || how == V2) && at.v2 != "" {
		if path := filepath.Join(at.v2, name); os.MkdirAll(path, 0o755) == nil {
			return Cage{path: path, v2: true}
		}
	}
	if (how == Any || how == V1) && at.v1 != "" {
		if path := filepath.Join(at.v1, name); os.MkdirAll(path, 0o755) == nil {
			return Cage{path: path}
		}
	}
	return Cage{}
}

// JoinSupervisors moves the calling process out of the agent's own cgroup, where it can.
func JoinSupervisors(at Cgroups) {
	if at.v2 != "" {
		path := filepath.Join(at.v2, supervisors)
		if os.MkdirAll(path, 0o755) == nil {
			join(path)
		}
	}
}

func join(path string) error {
	return os.WriteFile(filepath.Join(path, "cgroup.procs"), []byte("0"), 0)
}

// Exists reports whether there is a cgroup.
func (c Cage) Exists() bool { return c.path != "" }

// Path is the folder of the cgroup, "" if there is none.
func (c Cage) Path() string { return c.path }

// Remove removes the cgroup if nothing lives in it; daemons that were left alive keep theirs until they end.
func (c Cage) Remove() {
	for range 20 { // what was killed a moment ago may still be on its way out
		if !c.Exists() || !errors.Is(os.Remove(c.path), unix.EBUSY) || len(c.PIDs()) > 0 {
			return
		}
		time.Sleep(pause)
	}
}

// Remove removes what is left of the cgroups of a name, if they are empty.
func Remove(name string) {
	at := Host()
	for _, home := range []string{at.v2, at.v1} {
		if home != "" {
			Cage{path: filepath.Join(home, name)}.Remove()
		}
	}
}

const (
	// rounds and pause bound how long a kill waits for processes to be gone: 5 s. What a kernel cannot kill in
	// that time hangs in an uninterruptible call.
	rounds = 5000
	pause  = time.Millisecond
)

// Empty kills every process in the cgroup and returns when none is left, or reports false. It knows nothing of processes
// outside it: see KillAll.
func (c Cage) Empty() bool {
	if !c.Exists() {
		return true
	}
	if c.v2 && os.WriteFile(filepath.Join(c.path, "cgroup.kill"), []byte("1"), 0) == nil {
		return c.waitEmpty()
	}
	for range rounds { // while it is frozen nothing in it can fork
		c.freeze(true)
		pids := c.PIDs()
		for _, pid := range pids {
			unix.Kill(pid, unix.SIGKILL)
		}
		c.freeze(false)
		if len(pids) == 0 {
			return true
		}
		time.Sleep(pause)
	}
	return false
}

func (c Cage) waitEmpty() bool {
	for range rounds {
		if len(c.PIDs()) == 0 {
			return true
		}
		time.Sleep(pause)
	}
	return false
}

func (c Cage) freeze(on bool) {
	name, value := "freezer.state", "THAWED"
	switch {
	case c.v2 && on:
		name, value = "cgroup.freeze", "1"
	case c.v2:
		name, value = "cgroup.freeze", "0"
	case on:
		value = "FROZEN"
	}
	if os.WriteFile(filepath.Join(c.path, name), []byte(value), 0) != nil || !on || c.v2 {
		return
	}
	for range 50 { // a v1 freezer is FREEZING until all tasks have stopped
		if state, err := os.ReadFile(filepath.Join(c.path, name)); err != nil || string(bytes.TrimSpace(state)) == "FROZEN" {
			return
		}
		time.Sleep(pause)
	}
}

// PIDs lists what lives in the cgroup.
func (c Cage) PIDs() []int {
	data, err := os.ReadFile(filepath.Join(c.path, "cgroup.procs"))
	if err != nil {
		return nil
	}
	return numbers(string(data))
}

// outside is where a supervisor goes back to after forking inside the cgroup.
func (c Cage) outside() string {
	path := filepath.Join(filepath.Dir(c.path), supervisors)
	os.MkdirAll(path, 0o755)
	return path
}

const shell = "/bin/sh"

// Start forks a program into the cgroup and returns its PID. The calling thread must live as long as the supervisor if
// the child is to die with it (Pdeathsig). A script without a #! line is given to the shell, as shells do.
func (c Cage) Start(path string, argv []string, attr *syscall.ProcAttr) (pid int, err error) {
	restore := plainOOMScore()
	defer restore()
	pid, err = c.fork(path, argv, attr)
	if errors.Is(err, syscall.ENOEXEC) {
		pid, err = c.fork(shell, slices.Concat([]string{shell, path}, argv[1:]), attr)
	}
	return pid, err
}

// StartFirst is Start of the first of some paths that the child can execute, as execvp does it: one that it may not is passed
// over for one that it may. The error is what execve said, at path: of those that are passed over, the first that says more
// than that there is nothing.
func (c Cage) StartFirst(paths []string, argv []string, attr *syscall.ProcAttr) (pid int, path string, err error) {
	err = syscall.ENOENT
	for _, candidate := range paths {
		pid, again := c.Start(candidate, argv, attr)
		switch {
		case again == nil:
			return pid, candidate, nil
		case nothingThere(again):
		case errors.Is(again, syscall.EACCES):
			if nothingThere(err) {
				path, err = candidate, again
			}
		default:
			return 0, candidate, again
		}
	}
	return 0, path, err
}

func nothingThere(err error) bool {
	return errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.ENOTDIR)
}

// ofProgram reports whether an error of a fork into a cgroup is about the program, so that forking otherwise would not help.
func ofProgram(err error) bool {
	for _, of := range []syscall.Errno{syscall.ENOEXEC, syscall.ELOOP, syscall.ENAMETOOLONG, syscall.E2BIG, syscall.ETXTBSY} {
		if errors.Is(err, of) {
			return true
		}
	}
	return nothingThere(err)
}

func (c Cage) fork(path string, argv []string, attr *syscall.ProcAttr) (int, error) {
	if !c.Exists() {
		return syscall.ForkExec(path, argv, attr)
	}
	if c.v2 && !c.Worn {
		if dir, err := os.Open(c.path); err == nil {
			defer dir.Close()
			attr.Sys.UseCgroupFD, attr.Sys.CgroupFD = true, int(dir.Fd())
			pid, err := syscall.ForkExec(path, argv, attr)
			attr.Sys.UseCgroupFD = false
			if err == nil || ofProgram(err) {
				return pid, err
			}
		}
	}
	// Before Linux 5.7, on v1, and where others were killed before: be in the cgroup while forking, so that the child is never outside it.
	if err := join(c.path); err != nil {
		return syscall.ForkExec(path, argv, attr)
	}
	defer join(c.outside())
	return syscall.ForkExec(path, argv, attr)
}

// plainOOMScore gives the next child the score of an ordinary process; the supervisor keeps the agent's.
func plainOOMScore() (restore func()) {
	const name = "/proc/self/oom_score_adj"
	was, err := os.ReadFile(name)
	if err != nil || string(bytes.TrimSpace(was)) == "0" {
		return func() {}
	}
	os.WriteFile(name, []byte("0"), 0)
	return func() { os.WriteFile(name, was, 0) }
}

// KillAll kills the process group, everything in the cgroup, and, cgroup or not, every child of the calling process, where
// children of the dead become its own (it is a subreaper), until none is left; or reports false. reap takes the exits of
// children without blocking and reports whether any are left: a PID that is listed as a child cannot be another process
// before it is called again. exited hears of SIGCHLD.
func (c *Cage) KillAll(group int, reap func() (left bool), exited <-chan os.Signal) bool {
	unix.Kill(-group, unix.SIGKILL)
	gone := c.Empty()
	c.Worn = true
	for range rounds {
		if !reap() {
			return gone
		}
		for _, pid := range Children() {
			unix.Kill(pid, unix.SIGKILL)
		}
		select {
		case <-exited:
		case <-time.After(pause):
		}
	}
	return false
}
