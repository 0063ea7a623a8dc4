package cage

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// Children lists the calling process's children.
func Children() []int {
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
	for _, pid := range Processes() {
		if stat, err := ReadStat(pid); err == nil && stat.Parent == self {
			out = append(out, pid)
		}
	}
	return out
}

// Processes lists all processes that this one can see.
func Processes() []int {
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

// Stat is what we need of /proc/PID/stat.
type Stat struct {
	Parent  int
	Group   int // process group
	Session int
	Start   uint64 // ticks since boot: with the PID it names one process
}

// ReadStat reads it.
func ReadStat(pid int) (Stat, error) {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return Stat{}, err
	}
	return parseStat(string(data))
}

// parseStat reads the fields behind the program's name, which may hold anything.
func parseStat(text string) (Stat, error) {
	f := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	if len(f) < 20 {
		return Stat{}, fs.ErrInvalid
	}
	var s Stat
	var errs [4]error
	s.Parent, errs[0] = strconv.Atoi(f[1])
	s.Group, errs[1] = strconv.Atoi(f[2])
	s.Session, errs[2] = strconv.Atoi(f[3])
	s.Start, errs[3] = strconv.ParseUint(f[19], 10, 64)
	return s, errors.Join(errs[:]...)
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

// Reap takes the exits of all children so far, and returns that of one of them, nil while it has none, and whether any are left. It
// never blocks, and nothing else may wait for children: a PID that was listed as a child is nobody else's before the next Reap.
func Reap(of int) (its *syscall.WaitStatus, left bool) {
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil:
			return its, false
		case pid == 0:
			return its, true
		case pid == of:
			its = &status
		}
	}
}
