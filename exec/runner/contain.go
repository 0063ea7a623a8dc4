package runner

import (
	"bytes"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/muster-fleet/muster/node/fleet"
)

// How a run's processes are held together, so that all of them can be found at a timeout or a cancel. Beside any of
// these the supervisor is a child subreaper.
const (
	containAny  = ""     // the first of the following that works
	containV2   = "v2"   // a cgroup v2 of its own: cgroup.kill, or freeze and kill before Linux 5.14
	containV1   = "v1"   // a cgroup of the v1 freezer
	containNone = "none" // the subreaper alone
)

// cgroupHome holds our cgroups: one per run, and one that the supervisors move to, so that stopping the agent's service
// does not stop them.
const (
	cgroupHome        = "muster"
	cgroupSupervisors = "supervisors"
)

// cgroupName names a run's cgroup after command and folder: two agents on one host may run the same command.
func cgroupName(dir folder) string {
	sum := fleet.Sum([]byte(dir))
	return filepath.Base(string(dir)) + "-" + sum.Text()[:8]
}

// cgroups are the places in this host's cgroup file systems where ours may lie; "" where there is none.
type cgroups struct{ v2, v1 string }

// findCgroups reads the mount table of a process (the text of /proc/self/mountinfo).
func findCgroups(mountinfo string) cgroups {
	var c cgroups
	for line := range strings.Lines(mountinfo) {
		before, after, ok := strings.Cut(line, " - ")
		f, kind := strings.Fields(before), strings.Fields(after)
		if !ok || len(f) < 5 || len(kind) < 3 {
			continue
		}
		switch {
		case kind[0] == "cgroup2" && c.v2 == "":
			c.v2 = filepath.Join(unescapeMount(f[4]), cgroupHome)
		case kind[0] == "cgroup" && c.v1 == "" && slices.Contains(strings.Split(kind[2], ","), "freezer"):
			c.v1 = filepath.Join(unescapeMount(f[4]), cgroupHome)
		}
	}
	return c
}

// unescapeMount undoes the octal escapes of mountinfo.
func unescapeMount(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

func hostCgroups() cgroups {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return cgroups{}
	}
	return findCgroups(string(data))
}

// container is one run's cgroup; the zero value is none.
type container struct {
	path string
	v2   bool
	// worn says that cgroup.kill may have been used on it. Kernels from 6.14 on kill whatever clone3 puts into such a
	// cgroup from outside: they compare how often the cgroup was killed with the count of the parent's own.
	worn bool
}

// makeContainer makes the run's cgroup, as good a one as the host allows.
func makeContainer(at cgroups, how, name string) container {
	if (how == containAny || how == containV2) && at.v2 != "" {
		if path := filepath.Join(at.v2, name); os.MkdirAll(path, 0o755) == nil {
			return container{path: path, v2: true}
		}
	}
	if (how == containAny || how == containV1) && at.v1 != "" {
		if path := filepath.Join(at.v1, name); os.MkdirAll(path, 0o755) == nil {
			return container{path: path}
		}
	}
	return container{}
}

// joinSupervisors moves the calling process out of the agent's own cgroup, where it can.
func joinSupervisors(at cgroups) {
	if at.v2 != "" {
		path := filepath.Join(at.v2, cgroupSupervisors)
		if os.MkdirAll(path, 0o755) == nil {
			joinCgroup(path)
		}
	}
}

func joinCgroup(path string) error {
	return os.WriteFile(filepath.Join(path, "cgroup.procs"), []byte("0"), 0)
}

func (c container) exists() bool { return c.path != "" }

// remove removes the cgroup if nothing lives in it; daemons that a run left keep theirs until they end.
func (c container) remove() {
	for range 20 { // what was killed a moment ago may still be on its way out
		if !c.exists() || !errors.Is(os.Remove(c.path), unix.EBUSY) || len(c.pids()) > 0 {
			return
		}
		time.Sleep(killPause)
	}
}

// removeCgroup removes what is left of a run's cgroup, if it is empty.
func removeCgroup(name string) {
	at := hostCgroups()
	for _, home := range []string{at.v2, at.v1} {
		if home != "" {
			container{path: filepath.Join(home, name)}.remove()
		}
	}
}

const (
	// killRounds and killPause bound how long a kill waits for processes to be gone: 5 s. What a kernel cannot kill in
	// that time hangs in an uninterruptible call.
	killRounds = 5000
	killPause  = time.Millisecond
)

// killAll kills every process in the cgroup and returns when none is left, or reports false.
func (c container) killAll() bool {
	if !c.exists() {
		return true
	}
	if c.v2 && os.WriteFile(filepath.Join(c.path, "cgroup.kill"), []byte("1"), 0) == nil {
		return c.waitEmpty()
	}
	for range killRounds { // while it is frozen nothing in it can fork
		c.freeze(true)
		pids := c.pids()
		for _, pid := range pids {
			unix.Kill(pid, unix.SIGKILL)
		}
		c.freeze(false)
		if len(pids) == 0 {
			return true
		}
		time.Sleep(killPause)
	}
	return false
}

func (c container) waitEmpty() bool {
	for range killRounds {
		if len(c.pids()) == 0 {
			return true
		}
		time.Sleep(killPause)
	}
	return false
}

func (c container) freeze(on bool) {
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
		time.Sleep(killPause)
	}
}

func (c container) pids() []int {
	data, err := os.ReadFile(filepath.Join(c.path, "cgroup.procs"))
	if err != nil {
		return nil
	}
	return numbers(string(data))
}

func numbers(text string) []int {
	var out []int
	for f := range strings.FieldsSeq(text) {
		if n, err := strconv.Atoi(f); err == nil && n > 0 {
			out = append(out, n)
		}
	}
	return out
}

// children lists the calling process's children.
func children() []int {
	lists, err := filepath.Glob("/proc/self/task/*/children")
	if err != nil || len(lists) == 0 {
		return childrenByStat()
	}
	var out []int
	for _, name := range lists {
		if data, err := os.ReadFile(name); err == nil {
			out = append(out, numbers(string(data))...)
		}
	}
	return out
}

// childrenByStat is for kernels without CONFIG_PROC_CHILDREN.
func childrenByStat() []int {
	var out []int
	self := os.Getpid()
	for _, pid := range processes() {
		if stat, err := readStat(pid); err == nil && stat.parent == self {
			out = append(out, pid)
		}
	}
	return out
}

func processes() []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var out []int
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			out = append(out, pid)
		}
	}
	return out
}

// procStat is what we need of /proc/PID/stat.
type procStat struct {
	parent int
	start  uint64 // ticks since boot
}

func readStat(pid int) (procStat, error) {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return procStat{}, err
	}
	return parseStat(string(data))
}

// parseStat reads the fields behind the program's name, which may hold anything.
func parseStat(text string) (procStat, error) {
	f := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	if len(f) < 20 {
		return procStat{}, fs.ErrInvalid
	}
	parent, err1 := strconv.Atoi(f[1])
	start, err2 := strconv.ParseUint(f[19], 10, 64)
	return procStat{parent, start}, errors.Join(err1, err2)
}

// killLeftovers kills what a run left behind when its supervisor died: everything in its cgroup, and whatever still
// carries its command ID in its environment. Without a cgroup, a process that cleared its environment stays.
func killLeftovers(command fleet.UUID, name string, log *slog.Logger) {
	at := hostCgroups()
	for _, c := range []container{{path: filepath.Join(at.v2, name), v2: true}, {path: filepath.Join(at.v1, name)}} {
		if _, err := os.Stat(filepath.Join(c.path, "cgroup.procs")); err != nil {
			continue
		}
		if !c.killAll() {
			log.Warn("processes of a lost run cannot be killed", "command", command.String(), "pids", c.pids())
		}
		c.remove()
	}
	for range 20 { // each round catches what the last one's victims had forked
		if killMarked(commandIDVar+"="+command.String()) == 0 {
			return
		}
		time.Sleep(killPause)
	}
}

// killMarked kills the processes whose environment has the entry, and returns how many there were. The handle is taken
// before the environment is read, so that a reused PID is never hit.
func killMarked(entry string) int {
	killed := 0
	for _, pid := range processes() {
		handle, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			continue
		}
		env, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/environ")
		if err == nil && slices.Contains(strings.Split(string(env), "\x00"), entry) {
			if unix.PidfdSendSignal(handle, unix.SIGKILL, nil, 0) == nil {
				killed++
			}
		}
		unix.Close(handle)
	}
	return killed
}

// outside is where a supervisor goes back to after forking inside the cgroup.
func (c container) outside() string {
	path := filepath.Join(filepath.Dir(c.path), cgroupSupervisors)
	os.MkdirAll(path, 0o755)
	return path
}
