package session

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/muster-fleet/muster/exec/cage/cagetest"
	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/session/flow"
)

// A program has its streams apart, its input has an end, and its exit code arrives.
func TestProgram(t *testing.T) {
	t.Parallel()
	h := open(t, Config{})
	id := h.open(program1("cat; echo on error >&2; exit 7"))
	p := h.attach(id, false)
	p.types("through\n")
	p.stdin.Close()
	if exit := p.leaves(); exit.Code != 7 || exit.Signal != "" || exit.Why != "" {
		t.Fatalf("%+v", exit)
	}
	if p.out.String() != "through\n" || p.errs.String() != "on error\n" {
		t.Fatalf("%q %q", p.out, p.errs)
	}
	if s := h.ended(id); s.Code != 7 || s.In != 8 || s.Out != 17 || s.Ended < s.Started || s.Operator != "ann" {
		t.Fatalf("%+v", s)
	}
	until(t, "the supervisor is gone", func() bool { return !h.folder(id).alive() })
}

func TestTerminal(t *testing.T) {
	t.Parallel()
	h := open(t, Config{})
	o := order1(auth.SessionShell)
	o.Terminal = []auth.Terminal{{Name: "xterm-256color", Rows: 30, Cols: 100}}
	o.Env = []string{"PS1=ready> ", "MUSTER_SESSION_ID=forged"}
	p := h.attach(h.open(o), true)
	p.types("stty size; echo $TERM $MUSTER_OPERATOR; tty\n")
	p.sees("30 100")
	p.sees("xterm-256color ann")
	p.sees("/dev/pts/")
	p.types("echo id=$MUSTER_SESSION_ID; shopt -q login_shell && echo log''in; case $0 in -*) echo da''sh;; esac\n")
	p.sees("id=" + o.ID.String())
	p.sees("dash")
	p.resizes <- flow.Resize{Rows: 50, Cols: 120}
	p.types("until stty size | grep '^50 120'; do sleep 0.05; done\n") // what is typed may overtake it
	p.sees("50 120\r\n")
	p.types("sh -c \"echo as''leep; exec sleep 1000\"\n")
	p.sees("asleep\r\n")
	p.types("\x03")
	p.types("echo back$((40+2))\n")
	p.sees("back42")
	p.types("exit 3\n")
	if exit := p.leaves(); exit.Code != 3 {
		t.Fatalf("%+v", exit)
	}
}

func TestSignals(t *testing.T) {
	t.Parallel()
	h := open(t, Config{})
	p := h.attach(h.open(program1("trap 'echo interrupted; exit 5' INT; echo ready; while :; do sleep 0.05; done")), false)
	p.sees("ready")
	p.signals <- "INT"
	p.sees("interrupted")
	if exit := p.leaves(); exit.Code != 5 {
		t.Fatalf("%+v", exit)
	}
	p = h.attach(h.open(program1("echo ready; exec sleep 1000")), false)
	p.sees("ready")
	p.signals <- "NOSUCH"
	p.signals <- "KILL"
	if exit := p.leaves(); exit.Code != -1 || exit.Signal != "KILL" {
		t.Fatalf("%+v", exit)
	}
}

// Nothing is lost or repeated whenever connections end.
func TestResumes(t *testing.T) {
	t.Parallel()
	h := open(t, Config{})
	id := h.open(program1("i=0; while [ $i -lt 3000 ]; do i=$((i+1)); echo line $i; done; cat"))
	p := h.attach(id, false)
	for i, at := range []string{"line 10\n", "line 500\n", "line 2000\n"} {
		p.sees(at)
		p.cut()
		p.back()
		until(t, "somebody is attached again", func() bool { return p.connections() > i+1 })
	}
	p.sees("line 3000\n")
	p.cut()
	p.types("typed while away")
	p.stdin.Close()
	p.back()
	if exit := p.leaves(); exit.Code != 0 {
		t.Fatalf("%+v", exit)
	}
	lines := strings.SplitAfter(p.out.String(), "\n")
	if len(lines) != 3001 || lines[3000] != "typed while away" || lines[2999] != "line 3000\n" {
		t.Fatalf("%d lines, the last is %q", len(lines), lines[len(lines)-1])
	}
}

// What ended while nobody was attached is told to who comes back, and then forgotten.
func TestEndsWhileAway(t *testing.T) {
	t.Parallel()
	h := open(t, Config{})
	away := filepath.Join(t.TempDir(), "away")
	id := h.open(program1("echo ready; until [ -e " + away + " ]; do sleep 0.02; done; echo alone; exit 9"))
	p := h.attach(id, false)
	p.sees("ready")
	p.cut()
	if err := os.WriteFile(away, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	h.ended(id)
	p.back()
	if exit := p.leaves(); exit.Code != 9 || !strings.Contains(p.out.String(), "alone\n") {
		t.Fatalf("%+v %q", exit, p.out)
	}
	until(t, "the supervisor is gone", func() bool { return !h.folder(id).alive() })
	_, _, err := h.Attach(t.Context(), id, ann, 0)
	if fleet.KindOf(err) != fleet.Expired || !strings.Contains(err.Error(), "exit 9") {
		t.Fatalf("%v", err)
	}
}

func TestGrace(t *testing.T) {
	t.Parallel()
	h := open(t, Config{})
	o := program1("trap 'echo hung up > $HOME_OF_TEST/hup; exit 0' HUP; echo ready; while :; do sleep 0.05; done")
	dir := t.TempDir()
	o.Env, o.Grace = []string{"HOME_OF_TEST=" + dir}, 300
	id := h.open(o)
	p := h.attach(id, false)
	p.sees("ready")
	p.cut()
	s := h.ended(id)
	if !strings.Contains(s.Why, "nobody was attached") || s.Code != 0 {
		t.Fatalf("%+v", s)
	}
	if !exists(filepath.Join(dir, "hup")) {
		t.Fatal("it was not hung up first")
	}
	p.back()
	if exit := p.leaves(); !strings.Contains(exit.Why, "nobody was attached") {
		t.Fatalf("%+v", exit)
	}
}

func TestIdleAndMost(t *testing.T) {
	t.Parallel()
	h := open(t, Config{})
	o := onTerminal("echo ready; exec cat")
	o.Idle = 400
	p := h.attach(h.open(o), true)
	p.sees("ready")
	if exit := p.leaves(); !strings.Contains(exit.Why, "no input or output for 400ms") || exit.Signal != "HUP" {
		t.Fatalf("%+v", exit)
	}
	if !strings.Contains(p.notices.String(), "no input or output") {
		t.Fatalf("%q", p.notices)
	}
	o = onTerminal("trap '' HUP TERM; while :; do echo busy; sleep 0.05; done")
	o.Most, o.Idle = 500, 1000
	p = h.attach(h.open(o), true)
	if exit := p.leaves(); !strings.Contains(exit.Why, "its time is over") || exit.Signal != "KILL" {
		t.Fatalf("%+v", exit)
	}
}

func TestKill(t *testing.T) {
	t.Parallel()
	h := open(t, Config{})
	marker := cagetest.Marker()
	id := h.open(onTerminal(self(t), "hide", marker))
	p := h.attach(id, true)
	p.sees("hiding")
	until(t, "all hide", func() bool { return len(cagetest.WithMarker("hidden")) >= 4 && len(cagetest.WithMarker(marker)) >= 5 })
	if err := h.Kill(id, "killed by bob"); err != nil {
		t.Fatal(err)
	}
	if exit := p.leaves(); exit.Why != "killed by bob" {
		t.Fatalf("%+v", exit)
	}
	if left := cagetest.WithMarker(marker); len(left) > 0 {
		t.Fatalf("still alive: %v", left)
	}
	if s := h.ended(id); s.Why != "killed by bob" || s.Signal != "HUP" {
		t.Fatalf("%+v", s)
	}
	until(t, "the supervisor is gone", func() bool { return !h.folder(id).alive() })
	if err := h.Kill(id, "again"); fleet.KindOf(err) != fleet.Expired {
		t.Fatalf("%v", err)
	}
	if err := h.Kill(newID(), "what"); fleet.KindOf(err) != fleet.NotFound {
		t.Fatalf("%v", err)
	}
}

// What a program leaves ends with it, with and without a cgroup.
func TestLeavesNothing(t *testing.T) {
	t.Parallel()
	for _, contain := range []string{"", "none"} {
		h := open(t, Config{contain: contain})
		marker := cagetest.Marker()
		o := program1(`"$0" hide ` + marker + ` & sleep 0.3; echo done`)
		o.Argv = []string{"/bin/sh", "-c", o.Argv[0], self(t)}
		p := h.attach(h.open(o), false)
		p.sees("hiding")
		if exit := p.leaves(); exit.Code != 0 || exit.Why != "" {
			t.Fatalf("%+v", exit)
		}
		if left := cagetest.WithMarker(marker); len(left) > 0 {
			t.Fatalf("%q: still alive: %v", contain, left)
		}
	}
}

func TestCannotBegin(t *testing.T) {
	t.Parallel()
	h := open(t, Config{})
	nobody := program1("true")
	nobody.User = "no-such-user"
	tunnel := order1(auth.SessionForward)
	bare := order1(auth.SessionShell)
	for name, c := range map[string]struct {
		o    func() error
		kind fleet.Kind
	}{
		"no such user":   {func() error { return h.Sessions.Open(t.Context(), nobody) }, fleet.NotFound},
		"a tunnel":       {func() error { return h.Sessions.Open(t.Context(), tunnel) }, fleet.Invalid},
		"no terminal":    {func() error { return h.Sessions.Open(t.Context(), bare) }, fleet.Invalid},
		"nothing to run": {func() error { return h.Sessions.Open(t.Context(), program1()) }, fleet.Invalid},
	} {
		if err := c.o(); err == nil || fleet.KindOf(err) != c.kind {
			t.Errorf("%s: %v", name, err)
		}
	}
	if all := h.List(); len(all) > 0 || len(h.Known()) > 0 {
		t.Fatalf("something is left: %+v", all)
	}
	for _, c := range []struct {
		argv []string
		code int32
		why  string
	}{
		{[]string{"no-such-program", "x"}, 127, "command not found"},
		{[]string{"/etc/passwd", "x"}, 126, "not executable"},
	} {
		id := h.open(program1(c.argv...))
		p := h.attach(id, false)
		if exit := p.leaves(); exit.Code != c.code || exit.Why != "" || !strings.Contains(p.notices.String(), c.why) {
			t.Errorf("%v: %+v", c.argv, exit)
		}
	}
	twice := program1("true")
	h.open(twice)
	if err := h.Sessions.Open(t.Context(), twice); fleet.KindOf(err) != fleet.Conflict {
		t.Fatalf("%v", err)
	}
}

func TestStrangersSeeNothing(t *testing.T) {
	t.Parallel()
	h := open(t, Config{})
	id := h.open(program1("sleep 1000"))
	if _, _, err := h.Attach(t.Context(), id, fleet.Sum([]byte("bob's key")), 0); fleet.KindOf(err) != fleet.NotFound {
		t.Fatalf("%v", err)
	}
	if _, _, err := h.Attach(t.Context(), newID(), ann, 0); fleet.KindOf(err) != fleet.NotFound {
		t.Fatalf("%v", err)
	}
}

// Backpressure reaches the program, and lets go of it.
func TestSlowReader(t *testing.T) {
	t.Parallel()
	h := open(t, Config{})
	o := program1("yes")
	o.Record = node.RecordNone
	id := h.open(o)
	until(t, "the window is full", func() bool {
		s, err := h.Get(id)
		return err == nil && s.Out >= flow.BulkWindow-2*flow.MaxPayload
	})
	for range 20 { // it would go on meanwhile
		if s, _ := h.Get(id); s.Out > flow.BulkWindow+4*flow.MaxPayload {
			t.Fatalf("%d bytes were taken of a program that nobody reads", s.Out)
		}
	}
	p := h.attach(id, false)
	until(t, "it goes on", func() bool { return len(p.out.String()) > 2*flow.BulkWindow })
	p.signals <- "TERM"
	if exit := p.leaves(); exit.Signal != "TERM" {
		t.Fatalf("%+v", exit)
	}
}

func TestNewestAttachmentWins(t *testing.T) {
	t.Parallel()
	h := open(t, Config{})
	id := h.open(program1("echo ready; exec cat"))
	p := h.attach(id, false)
	p.sees("ready")
	conn, theirs, err := h.Attach(t.Context(), id, ann, 1)
	if err != nil || theirs != 0 {
		t.Fatalf("%d %v", theirs, err)
	}
	defer conn.Close()
	p.types("mine again\n")
	p.sees("mine again")
	p.stdin.Close()
	p.leaves()
	if p.connections() < 2 {
		t.Fatal("the first was not closed")
	}
}

// A session that is killed while nobody reads it has ended at once, and who comes back within the minute hears the rest.
func TestKilledUnread(t *testing.T) {
	t.Parallel()
	h := open(t, Config{})
	o := onTerminal("seq -f 'line %.0f' 1 1000000")
	id := h.open(o)
	p := h.attach(id, true)
	p.sees("line 10\r\n")
	p.cut()
	var last int64
	until(t, "the window is full", func() bool {
		was := last
		s, err := h.Get(id)
		last = s.Out
		return err == nil && last > 100_000 && last == was
	})
	if err := h.Kill(id, "killed"); err != nil {
		t.Fatal(err)
	}
	s := h.ended(id)
	p.back()
	if exit := p.leaves(); exit.Why != "killed" || int64(len(p.out.String())) != s.Out {
		t.Fatalf("%+v, %d bytes of %d", exit, len(p.out.String()), s.Out)
	}
	lines := strings.Split(p.out.String(), "\r\n")
	for i, l := range lines[:len(lines)-1] {
		if l != "line "+strconv.Itoa(i+1) {
			t.Fatalf("line %d is %q", i+1, l)
		}
	}
}

// Who types is not idle, though nothing is shown.
func TestTypingIsNotIdle(t *testing.T) {
	t.Parallel()
	h := open(t, Config{})
	o := onTerminal("stty -echo; echo ready; exec cat >/dev/null")
	o.Idle = 1000
	id := h.open(o)
	p := h.attach(id, true)
	p.sees("ready")
	began := time.Now()
	until(t, "more than its idle time has passed", func() bool {
		p.types("x\n")
		return time.Since(began) > 1500*time.Millisecond
	})
	if s, err := h.Get(id); err != nil || s.Ended != 0 {
		t.Fatalf("%+v %v", s, err)
	}
}

// A job before the terminal hears what the terminal and the operator send, and the shell behind it does not.
func TestForeground(t *testing.T) {
	t.Parallel()
	h := open(t, Config{})
	o := order1(auth.SessionShell)
	o.Terminal = []auth.Terminal{{Name: "dumb", Rows: 24, Cols: 80}}
	p := h.attach(h.open(o), true)
	for _, name := range []flow.Signal{"INT", "USR1", "TERM"} {
		job := cagetest.Marker()
		p.types("sh -c \"echo job''ready-" + job + "; exec sleep 1000\"\n")
		p.sees("jobready-" + job)
		p.signals <- name
		p.types("echo shell''lives-" + job + "\n")
		p.sees("shelllives-" + job)
	}
	p.types("exit\n")
	p.leaves()
}
