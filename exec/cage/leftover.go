package cage

import (
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// KillLeftovers kills what was left behind when a supervisor died: everything in the cgroup of that name, and whatever
// still carries the entry NAME=value in its environment. Without a cgroup, a process that cleared its environment stays.
func KillLeftovers(name, entry string, log *slog.Logger) {
	at := Host()
	for _, c := range []Cage{{path: filepath.Join(at.v2, name), v2: true}, {path: filepath.Join(at.v1, name)}} {
		if _, err := os.Stat(filepath.Join(c.path, "cgroup.procs")); err != nil {
			continue
		}
		if !c.Empty() {
			log.Warn("processes whose supervisor died cannot be killed", "of", entry, "pids", c.PIDs())
		}
		c.Remove()
	}
	for range 20 { // each round catches what the last one's victims had forked
		if KillMarked(entry) == 0 {
			return
		}
		time.Sleep(pause)
	}
}

// KillMarked kills the processes whose environment has the entry, and returns how many there were. The handle is taken
// before the environment is read, so that a reused PID is never hit.
func KillMarked(entry string) int {
	killed := 0
	for _, pid := range Processes() {
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
