package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// machine is what figures depend on and muster cannot help.
type machine struct {
	CPUs       int
	CPU        string
	Memory     int64
	Kernel     string
	Disk       string // of the temporary folder, where the hosts' disks lie
	LoadBefore load
	LoadAfter  load
}

// load is the machine's load average over 1, 5 and 15 minutes.
type load [3]float64

func (l load) String() string { return fmt.Sprintf("%.1f %.1f %.1f", l[0], l[1], l[2]) }

// lookAtMachine reads the facts; what cannot be read is empty.
func lookAtMachine() machine {
	m := machine{CPUs: runtime.NumCPU(), CPU: "unknown", Disk: diskOf(os.TempDir()), LoadBefore: readLoad()}
	if raw, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		if model, ok := colonValue(string(raw), "model name"); ok {
			m.CPU = model
		}
	}
	if raw, err := os.ReadFile("/proc/meminfo"); err == nil {
		m.Memory, _ = kilobytes(string(raw), "MemTotal")
	}
	var name unix.Utsname
	if unix.Uname(&name) == nil {
		m.Kernel = string(bytes.TrimRight(name.Release[:], "\x00"))
	}
	return m
}

func readLoad() load {
	raw, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return load{}
	}
	return parseLoad(string(raw))
}

// parseLoad reads /proc/loadavg.
func parseLoad(text string) load {
	var l load
	for i, field := range strings.Fields(text) {
		if i >= len(l) {
			break
		}
		l[i], _ = strconv.ParseFloat(field, 64)
	}
	return l
}

// diskOf names the file system and device that a folder lies on.
func diskOf(folder string) string {
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return "unknown disk"
	}
	device, kind := mountOf(string(mounts), folder)
	if kind == "" {
		return "unknown disk"
	}
	raw, err := os.ReadFile(filepath.Join("/sys/class/block", filepath.Base(device), "queue/rotational"))
	switch {
	case err != nil:
		return kind + " on " + device
	case strings.TrimSpace(string(raw)) == "1":
		return kind + " on " + device + ", said to rotate"
	}
	return kind + " on " + device + ", solid state"
}

// mountOf returns device and file system of the innermost mount that holds a folder; of several at one place the last is seen.
func mountOf(mounts, folder string) (device, kind string) {
	longest := -1
	for line := range strings.Lines(mounts) {
		fields := strings.Fields(line)
		if len(fields) < 3 || len(fields[1]) < longest {
			continue
		}
		if at := strings.TrimSuffix(fields[1], "/"); folder == at || strings.HasPrefix(folder, at+"/") {
			device, kind, longest = fields[0], fields[2], len(fields[1])
		}
	}
	return device, kind
}

// colonValue returns the value of the first line "key : value".
func colonValue(text, key string) (string, bool) {
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == key {
			return strings.TrimSpace(value), true
		}
	}
	return "", false
}

// kilobytes returns the bytes of the first line "key: n kB".
func kilobytes(text, key string) (int64, bool) {
	value, ok := colonValue(text, key)
	number, isKB := strings.CutSuffix(value, " kB")
	if !ok || !isKB {
		return 0, false
	}
	n, err := strconv.ParseInt(number, 10, 64)
	return n * 1024, err == nil
}
