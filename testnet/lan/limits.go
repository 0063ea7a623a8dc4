package lan

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
)

// Limits bound an agent and what it starts. 0 bounds nothing.
type Limits struct {
	Files     uint64 // open file descriptors of each process
	Memory    uint64 // bytes of private writable memory of each process; beyond that the kernel refuses
	Processes uint64 // processes and threads, of the agent and all that it starts together
}

// Limit sets bounds for the agent's next start.
func (h *Host) Limit(limits Limits) error {
	h.lan.mu.Lock()
	defer h.lan.mu.Unlock()
	h.mu.Lock()
	h.limits = limits
	h.mu.Unlock()
	return h.lan.saveLocked()
}

// wrap returns what goes before the agent's argv. Processes are not prlimit's business: it does not count root's.
func (l Limits) wrap() []string {
	var out []string
	if l.Files > 0 {
		out = append(out, "--nofile="+strconv.FormatUint(l.Files, 10))
	}
	if l.Memory > 0 {
		out = append(out, "--data="+strconv.FormatUint(l.Memory, 10))
	}
	if out == nil {
		return nil
	}
	return append([]string{"prlimit"}, append(out, "--")...)
}

// cgroupRoots are where a group that bounds processes may be made: version 1, then 2.
var cgroupRoots = [...]string{"/sys/fs/cgroup/pids", "/sys/fs/cgroup"}

// cgroup makes the host's control group, if processes are bounded, and returns its folder.
func (h *Host) cgroup() (string, error) {
	if h.limits.Processes == 0 {
		return "", nil
	}
	for _, root := range cgroupRoots {
		dir := filepath.Join(root, prefix+"-"+h.lan.opts.Name+"-"+h.name)
		if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
			continue
		}
		err := os.WriteFile(filepath.Join(dir, "pids.max"), []byte(strconv.FormatUint(h.limits.Processes, 10)), 0)
		if err == nil {
			return dir, nil
		}
		_ = os.Remove(dir)
	}
	return "", fmt.Errorf("this machine has no control groups that bound processes in %v", cgroupRoots)
}

// removeCgroups removes the groups of a lan that has ended.
func removeCgroups(name string) error {
	var errs []error
	for _, root := range cgroupRoots {
		dirs, err := filepath.Glob(filepath.Join(root, prefix+"-"+name+"-*"))
		errs = append(errs, err)
		for _, dir := range dirs {
			errs = append(errs, os.Remove(dir))
		}
	}
	return errors.Join(errs...)
}
