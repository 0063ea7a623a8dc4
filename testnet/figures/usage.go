package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// tick is what /proc counts CPU time in: USER_HZ is 100 on every architecture of Linux that Go has. Counters are cut to whole
// ticks when they are read, so that sums over many processes are right on average only.
const tick = 10 * time.Millisecond

// cpu is the processor time of processes, in user and in kernel mode together.
type cpu struct {
	own      time.Duration
	children time.Duration // that have ended and were waited for, with theirs
}

// parseStat reads CPU times of /proc/PID/stat. The process's name, the second field, may hold anything.
func parseStat(text string) (cpu, error) {
	fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:]) // from field 3, the state
	if len(fields) < 15 {
		return cpu{}, fmt.Errorf("no stat of a process: %q", text)
	}
	var ticks [4]int64 // utime, stime, cutime, cstime: fields 14 to 17
	for i := range ticks {
		var err error
		if ticks[i], err = strconv.ParseInt(fields[11+i], 10, 64); err != nil {
			return cpu{}, fmt.Errorf("stat of a process: %w", err)
		}
	}
	return cpu{time.Duration(ticks[0]+ticks[1]) * tick, time.Duration(ticks[2]+ticks[3]) * tick}, nil
}

// cpuOf reads what one process took.
func cpuOf(pid int) (cpu, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return cpu{}, err
	}
	return parseStat(string(raw))
}

// spaceOf names the PID namespace of a process.
func spaceOf(pid int) (string, error) { return os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", pid)) }

// cpuIn sums what all processes in some PID namespaces took, the ended ones too: their parents have it.
func cpuIn(spaces map[string]bool) (time.Duration, error) {
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return 0, err
	}
	var sum time.Duration
	for _, dir := range dirs {
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil {
			continue
		}
		space, err := spaceOf(pid)
		if err != nil || !spaces[space] {
			continue // it has ended, or is none of ours
		}
		if used, err := cpuOf(pid); err == nil {
			sum += used.own + used.children
		}
	}
	return sum, nil
}

// memory is what a process has in memory, in bytes.
type memory struct{ rss, pss float64 }

func memoryOf(pid int) (memory, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return memory{}, err
	}
	rollup, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return memory{}, err
	}
	rss, hasRSS := kilobytes(string(status), "VmRSS")
	pss, hasPSS := kilobytes(string(rollup), "Pss")
	if !hasRSS || !hasPSS {
		return memory{}, fmt.Errorf("process %d: the kernel does not tell its memory", pid)
	}
	return memory{float64(rss), float64(pss)}, nil
}
