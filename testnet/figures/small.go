package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// What an agent on a small host is put to.
const (
	smallOutput = 10_000_000 // bytes that a command writes there
	smallRest   = 10 * time.Second
	smallPreset = "edge"
)

// measureSmall has an agent on the edge preset in groups of 512 and 128 MB, in a fleet of four: a spare, which holds all of the
// fleet's state and does not vote.
func measureSmall(ctx context.Context, p place) (out []figure, err error) {
	for _, megabytes := range []int{512, 128} {
		p.say("small: %d MB", megabytes)
		figures, err := smallHost{megabytes, smallOutput, smallRest}.measure(ctx, p)
		if err != nil {
			return out, fmt.Errorf("%d MB: %w", megabytes, err)
		}
		out = append(out, figures...)
	}
	return out, nil
}

// smallHost is a host of so little memory, and a command that writes much.
type smallHost struct {
	megabytes int // of 2^20 bytes
	output    int // bytes
	rest      time.Duration
}

func (s smallHost) measure(ctx context.Context, p place) (out []figure, err error) {
	g, err := newMemoryGroup(int64(s.megabytes) << 20)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, g.remove()) }()
	f, err := startPlain(ctx, p, 3)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.end()) }()
	f.group = g
	if err := f.join(ctx, "--preset", smallPreset); err != nil {
		return nil, err
	}
	f.group = nil
	if err := errors.Join(f.whole(ctx), pause(ctx, s.rest)); err != nil {
		return nil, err
	}
	a := f.agents[3]
	idle, err := memoryOf(a.cmd.Process.Pid)
	if err != nil {
		return nil, err
	}
	took, err := s.loud(ctx, f, a)
	if err != nil {
		return nil, err
	}
	busy, err := memoryOf(a.cmd.Process.Pid)
	if err != nil {
		return nil, fmt.Errorf("the agent is gone: %w", err)
	}
	peak, kills, err := g.read()
	key, name := fmt.Sprintf("small_%d_", s.megabytes), fmt.Sprintf("%d MB", s.megabytes)
	what := fmt.Sprintf("a command of %d MB of output", s.output/1e6)
	return []figure{
		{key: key + "idle_rss_bytes", name: name + ": RSS, idle", unit: octets, value: idle.rss, note: "preset edge, a spare of a fleet of 4; its group has no swap"},
		{key: key + "idle_pss_bytes", name: name + ": PSS, idle", unit: octets, value: idle.pss, note: "the other agents here share the program's pages"},
		{key: key + "after_rss_bytes", name: name + ": RSS, after " + what, unit: octets, value: busy.rss},
		{key: key + "peak_bytes", name: name + ": all of its group, most", unit: octets, value: peak, note: "with the command, its supervisor and the page cache, which fills what is there"},
		{key: key + "run_seconds", name: name + ": " + what + ", run and fetched", unit: seconds, value: took.Seconds()},
		figure{key: key + "kills_count", name: name + ": processes killed for memory", unit: count, value: kills}.noted("the agent survived, and all of the output came"),
	}, err
}

// loud runs a command that writes much on a, asks for all of it from the first agent, and wants it whole and the agent alive.
func (s smallHost) loud(ctx context.Context, f *plain, a *plainAgent) (time.Duration, error) {
	before, err := startOf(a.cmd.Process.Pid)
	if err != nil {
		return 0, err
	}
	began := time.Now()
	text, err := f.say(ctx, f.agents[0], "-o", "json", "run", "--target", a.name, "--", fmt.Sprintf("head -c %d /dev/zero | tr '\\0' x", s.output))
	if err != nil {
		return 0, err
	}
	var ran said
	if err := json.Unmarshal(text, &ran); err != nil || ran.Tally.Success != 1 {
		return 0, fmt.Errorf("the command did not succeed: %w: %s", err, text)
	}
	output, err := f.say(ctx, f.agents[0], "command", "show", ran.ID.String(), "--node", a.name, "--stdout")
	if err != nil {
		return 0, err
	}
	took := time.Since(began)
	if len(output) != s.output || len(bytes.Trim(output, "x")) != 0 {
		return 0, fmt.Errorf("of %d bytes of output %d came", s.output, len(output))
	}
	if after, err := startOf(a.cmd.Process.Pid); err != nil || after != before {
		return 0, fmt.Errorf("the agent did not survive: %w", err)
	}
	return took, nil
}

// startOf says when a process was started, which tells it from another with its number.
func startOf(pid int) (string, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", err
	}
	fields := strings.Fields(string(raw[bytes.LastIndexByte(raw, ')')+1:])) // from field 3, the state
	if len(fields) < 20 || fields[0] == "Z" {
		return "", fmt.Errorf("process %d has ended", pid)
	}
	return fields[19], nil
}

// memoryGroup is a control group that bounds memory.
type memoryGroup struct {
	dir  string
	kind groupKind
}

// groupKind is what the files of a group are called in a version of control groups.
type groupKind struct{ root, limit, swap, swapLimit, peak, events, kills string }

// groupKinds are version 1 and 2. In version 1 the bound of swap is one of both together, in version 2 one of swap alone.
func groupKinds(limit int64) []groupKind {
	text := strconv.FormatInt(limit, 10)
	return []groupKind{
		{"/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.memsw.limit_in_bytes", text, "memory.max_usage_in_bytes", "memory.oom_control", "oom_kill"},
		{"/sys/fs/cgroup", "memory.max", "memory.swap.max", "0", "memory.peak", "memory.events", "oom_kill"},
	}
}

// newMemoryGroup makes a group without swap.
func newMemoryGroup(limit int64) (*memoryGroup, error) {
	var errs []error
	for _, kind := range groupKinds(limit) {
		g := &memoryGroup{filepath.Join(kind.root, fmt.Sprintf("muster-figures-%d-%d", os.Getpid(), limit)), kind}
		if err := os.Mkdir(g.dir, 0o755); err != nil {
			errs = append(errs, err)
			continue
		}
		err := g.write(kind.limit, strconv.FormatInt(limit, 10))
		if err == nil {
			_ = g.write(kind.swap, kind.swapLimit) // a kernel that counts no swap has no such file
			return g, nil
		}
		errs = append(errs, err, os.Remove(g.dir))
	}
	return nil, fmt.Errorf("this machine has no control groups that bound memory: %w", errors.Join(errs...))
}

func (g *memoryGroup) write(file, text string) error {
	return os.WriteFile(filepath.Join(g.dir, file), []byte(text), 0)
}

// enter puts a command's argv into the group: it is a member before it is the program.
func (g *memoryGroup) enter(argv []string) []string {
	return append([]string{"/bin/sh", "-c", "echo $$ > " + g.dir + `/cgroup.procs && exec "$@"`, "sh"}, argv...)
}

// read returns the most that all of it ever had, in bytes, and how many of it the kernel killed for want of memory.
func (g *memoryGroup) read() (peak, kills float64, err error) {
	raw, err := os.ReadFile(filepath.Join(g.dir, g.kind.peak))
	if err == nil {
		peak, err = strconv.ParseFloat(strings.TrimSpace(string(raw)), 64)
	}
	if errors.Is(err, os.ErrNotExist) {
		err = nil // kernels before 5.19 do not keep the peak in version 2
	}
	events, eventsErr := os.ReadFile(filepath.Join(g.dir, g.kind.events))
	for line := range strings.Lines(string(events)) {
		if value, ok := strings.CutPrefix(line, g.kind.kills+" "); ok {
			kills, _ = strconv.ParseFloat(strings.TrimSpace(value), 64)
		}
	}
	return peak, kills, errors.Join(err, eventsErr)
}

// remove ends what is left in it, supervisors too, and removes it.
func (g *memoryGroup) remove() error {
	deadline := time.Now().Add(patience)
	for {
		raw, err := os.ReadFile(filepath.Join(g.dir, "cgroup.procs"))
		if err != nil {
			return err
		}
		for _, word := range strings.Fields(string(raw)) {
			if pid, err := strconv.Atoi(word); err == nil {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		}
		if err = os.Remove(g.dir); err == nil || !errors.Is(err, syscall.EBUSY) || time.Now().After(deadline) {
			return err
		}
		time.Sleep(look)
	}
}
