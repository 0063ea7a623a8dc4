package lan

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// churn is how many sessions come and go, and how many at a time: one operator may have 64 at a node.
const (
	churnShort  = 40
	churnLong   = 1000 // where tests may take long
	churnAtOnce = 20
)

// TestSessionsLeaveNothing (MUSTER_LONG=1: a thousand) opens sessions of all kinds and ends them in all ways, at random and beside each other, with an agent
// that is killed meanwhile. What is left there then: no process, no terminal, no open file, no goroutine.
func TestSessionsLeaveNothing(t *testing.T) {
	t.Parallel()
	l := founded(t, 2)
	from, to := l.Host("n1"), l.Host("n2")
	count := churnShort
	if os.Getenv("MUSTER_LONG") != "" {
		count = churnLong
	}
	if r := from.Muster(t.Context(), "exec", to.Name(), "--", "true"); r.Code != 0 { // the account is made
		t.Fatalf("%+v", r)
	}
	settled := func() bool { return len(running(t, from, to)) == 0 }
	eventually(t, "nothing runs", settled)
	before := tracesOf(t, to)

	var all sync.WaitGroup
	work := make(chan int)
	for range churnAtOnce {
		all.Go(func() {
			for i := range work {
				comesAndGoes(t, from, to, rand.New(rand.NewPCG(7, uint64(i))))
			}
		})
	}
	for i := range count {
		if i == count/2 {
			must(t, to.Kill())
			must(t, to.Start())
		}
		work <- i
	}
	close(work)
	all.Wait()

	for _, id := range running(t, from, to) { // they wait for a client that is dead, for minutes
		if r := from.Muster(t.Context(), "session", "kill", id, "--node", to.Name()); r.Code != 0 {
			t.Logf("kill %s: %+v", id, r)
		}
	}
	eventually(t, "no session runs", settled)
	defer func() {
		if t.Failed() {
			t.Errorf("before: %+v\nnow: %+v", before, tracesOf(t, to))
		}
	}()
	eventually(t, "nothing is left", func() bool { return tracesOf(t, to).within(before) })
	if left := sessionGoroutines(t, to); len(left) > 0 {
		t.Errorf("%d goroutines are left:\n%s", len(left), strings.Join(left, "\n\n"))
	}
}

// comesAndGoes opens a session and ends it, some way.
func comesAndGoes(t *testing.T, from, to *Host, chance *rand.Rand) {
	ctx, cancel := context.WithTimeout(t.Context(), Patience)
	defer cancel()
	args, speaks := someSession(to, chance)
	cmd := from.Command(ctx, append([]string{"muster"}, args...)...)
	in, err := cmd.StdinPipe()
	must(t, err)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	must(t, cmd.Start())
	defer func() {
		_ = in.Close()
		_ = cmd.Wait() // how it ends is not looked at: the agent is killed, too
	}()
	if speaks {
		fmt.Fprintln(in, "hello")
	}
	rest(chance, 400*time.Millisecond)
	switch chance.IntN(5) {
	case 0: // it ends by itself, or when its input does
		_ = in.Close()
		rest(chance, time.Second)
	case 1: // whoever sits before it is killed
		endChildren(cmd.Process.Pid)
	case 2: // or goes away
		signalChildren(cmd.Process.Pid, unix.SIGTERM)
	case 3: // somebody ends it
		if ids := running(t, from, to); len(ids) > 0 {
			from.Muster(ctx, "session", "kill", ids[chance.IntN(len(ids))], "--node", to.Name())
		}
	case 4: // its supervisor is killed
		if all := supervisors(t, to); len(all) > 0 {
			_ = unix.Kill(all[chance.IntN(len(all))], unix.SIGKILL)
		}
	}
	rest(chance, 200*time.Millisecond)
	endChildren(cmd.Process.Pid)
}

func rest(chance *rand.Rand, most time.Duration) {
	<-time.After(time.Duration(chance.Int64N(int64(most))))
}

// someSession returns the command line of one, and whether it reads.
func someSession(to *Host, chance *rand.Rand) (args []string, speaks bool) {
	user := []string{"root", "muster-user"}[chance.IntN(2)]
	exec := func(tty bool, line string) []string {
		args := []string{"exec", to.Name(), "--user", user}
		if tty {
			args = append(args, "--tty")
		}
		return append(args, "--", line)
	}
	tty := chance.IntN(2) == 0
	switch chance.IntN(6) {
	case 0:
		return exec(tty, "true"), false
	case 1:
		return exec(tty, "cat"), true
	case 2: // it does not want to go, and leaves something behind
		return exec(tty, "trap '' HUP INT TERM; setsid sleep 54321 & sleep 54321 & cat; wait"), true
	case 3:
		return exec(tty, "while :; do echo line after line; done"), false
	case 4:
		return []string{"forward", to.Name(), "0:127.0.0.1:1"}, false
	default:
		return []string{"cp", "/bin/bash", to.Name() + ":/tmp/bash" + strconv.Itoa(chance.IntN(9)), "--user", user}, false
	}
}

// running lists the sessions that have not ended.
func running(t *testing.T, from, to *Host) (ids []string) {
	r := from.Muster(t.Context(), "session", "list", to.Name(), "-o", "json")
	var all []struct {
		ID    string
		Ended *string
	}
	if r.Code != 0 || json.Unmarshal([]byte(r.Stdout), &all) != nil {
		return []string{"unknown"} // the agent is down just now
	}
	for _, s := range all {
		if s.Ended == nil {
			ids = append(ids, s.ID)
		}
	}
	return ids
}

// supervisors are the processes that hold sessions.
func supervisors(t *testing.T, h *Host) (pids []int) {
	all, err := h.Processes()
	must(t, err)
	for _, p := range all {
		if slices.Contains(p.Argv, "supervise-session") {
			pids = append(pids, p.PID)
		}
	}
	return pids
}

// signalChildren signals what nsenter has started.
func signalChildren(pid int, signal unix.Signal) {
	raw, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	for _, word := range strings.Fields(string(raw)) {
		if child, err := strconv.Atoi(word); err == nil {
			_ = unix.Kill(child, signal)
		}
	}
}

// hostTraces is what sessions could leave on a host.
type hostTraces struct {
	processes []string // that are neither the agent nor of this test
	terminals int
	files     int // that the agent has open
}

func (h hostTraces) within(before hostTraces) bool {
	const spare = 4 // sockets of connections that come and go by themselves
	return len(h.processes) <= len(before.processes) && h.terminals <= before.terminals && h.files <= before.files+spare
}

func tracesOf(t *testing.T, h *Host) (out hostTraces) {
	t.Helper()
	all, err := h.Processes()
	must(t, err)
	for _, p := range all {
		if p.PID != h.PID() && p.Inside != 1 {
			out.processes = append(out.processes, fmt.Sprintf("%d %q", p.Inside, p.Argv))
		}
	}
	count := func(pattern string) int {
		found, err := filepath.Glob(pattern)
		must(t, err)
		return len(found)
	}
	out.terminals = count(filepath.Join(h.root(), "dev/pts/[0-9]*"))
	out.files = count(fmt.Sprintf("/proc/%d/fd/*", h.PID()))
	return out
}

// sessionGoroutines ends the agent with a trace of what it was doing, and returns the goroutines that a session would need.
func sessionGoroutines(t *testing.T, h *Host) (left []string) {
	t.Helper()
	must(t, unix.Kill(h.PID(), unix.SIGQUIT))
	eventually(t, "the agent has ended", func() bool { return !h.Running() })
	raw, err := os.ReadFile(h.Log())
	must(t, err)
	_, trace, ok := strings.Cut(string(raw), "SIGQUIT: quit")
	if !ok || !strings.Contains(trace, "\ngoroutine ") {
		t.Fatalf("it left no trace: %s", raw[max(0, len(raw)-2000):])
	}
	for _, g := range strings.Split(trace, "\n\n") {
		for _, word := range []string{".ServeSession(", ".goOn(", ".relay(", ".openTunnel(", "session.(*Sessions).follow", "agent.pour("} {
			if strings.Contains(g, word) {
				left = append(left, g)
				break
			}
		}
	}
	return left
}
