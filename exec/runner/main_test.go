package runner

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/exec/steps"
	"github.com/muster-fleet/muster/node/fleet"

	"github.com/muster-fleet/muster/exec/cage"
	"github.com/muster-fleet/muster/exec/cage/cagetest"
)

// The test binary also plays the supervisor, an agent that can be killed, and a program that hides its processes.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "supervise":
			os.Exit(Supervise(os.Args[2:]))
		case "agent":
			agentMain(os.Args[2], os.Args[3], os.Args[4], os.Args[5:])
		case "act":
			os.Exit(actMain(os.Args[2:]))
		case cagetest.HideArg:
			cagetest.Hide(os.Args[2])
		case cagetest.HiddenArg:
			cagetest.Hidden(os.Args[2])
		}
	}
	os.Exit(m.Run())
}

func self(t testing.TB) string {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// agentMain opens a runner, starts one command, and says what happened. With "barrier" it dies right behind the barrier.
func agentMain(dir, how, command string, argv []string) {
	id, err := fleet.ParseUUID(command)
	if err != nil {
		panic(err)
	}
	exe, _ := os.Executable()
	cfg := Config{Dir: dir, Self: []string{exe, "supervise"}, ledgerSize: 64 << 10}
	if how == "barrier" {
		cfg.afterBarrier = func() { syscall.Kill(os.Getpid(), syscall.SIGKILL) }
	}
	r, err := Open(cfg)
	if err != nil {
		panic(err)
	}
	now := time.Now()
	if err := r.Start(context.Background(), Spec{Command: id, Issued: now, Expires: now.Add(time.Hour), Plan: plain(argv...)}); err != nil {
		panic(err)
	}
	for e := range r.Events() {
		if _, ok := e.(Started); ok {
			fmt.Println("started")
		}
	}
}

// actMain is this binary's acts: most show what they were given.
func actMain(args []string) int {
	in, _ := io.ReadAll(os.Stdin)
	if args[0] == "leave" {
		return leaveBehind(string(in))
	}
	fmt.Printf("%s %s %t\n", args, in, os.Getenv(downloadsVar) != "")
	if args[0] == "foreign" {
		return steps.ExitInvalidPlatform
	}
	return 0
}

func newID() fleet.UUID {
	var id fleet.UUID
	rand.Read(id[:])
	return id
}

type harness struct {
	*Runner
	t   testing.TB
	cfg Config
}

// open opens a runner on dir that is closed, and whose runs are stopped, with the test.
func open(t testing.TB, cfg Config) *harness {
	t.Helper()
	if cfg.Dir == "" {
		cfg.Dir = t.TempDir()
	}
	if cfg.ledgerSize == 0 {
		cfg.ledgerSize = 64 << 10
	}
	if cfg.grace == 0 {
		cfg.grace = 300 * time.Millisecond
	}
	if cfg.Self == nil {
		cfg.Self = []string{self(t), "supervise"}
	}
	if cfg.Act == nil {
		cfg.Act = []string{self(t), "act"}
	}
	cfg.Log = slog.New(slog.NewTextHandler(testWriter{t}, nil))
	r, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	h := &harness{r, t, cfg}
	t.Cleanup(func() {
		for _, s := range h.Ledger().Since(time.Time{}) {
			if t.Failed() && s.Started != nil {
				cage.KillLeftovers(cage.Name(string(h.folder(s.Command))), commandIDVar+"="+s.Command.String(), cfg.Log)
			}
		}
		h.Close()
		h.noComplaints()
	})
	return h
}

// noComplaints looks into what the supervisors wrote: a crash, or the race detector's finding.
func (h *harness) noComplaints() {
	names, _ := filepath.Glob(filepath.Join(h.cfg.Dir, runsName, "*", errorsName))
	for _, name := range names {
		if data, err := os.ReadFile(name); err == nil && len(data) > 0 {
			h.t.Errorf("a supervisor complained: %s", data)
		}
	}
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(p []byte) (int, error) {
	fmt.Fprintf(os.Stderr, "%s: %s", w.t.Name(), p)
	return len(p), nil
}

// reopen closes the runner and opens it again, as an agent restart does.
func (h *harness) reopen() *harness {
	h.t.Helper()
	h.Close()
	return open(h.t, h.cfg)
}

func plain(argv ...string) steps.Plan { return steps.Plan{Steps: []steps.Step{{Argv: argv}}} }

func spec(argv ...string) Spec {
	now := time.Now()
	return Spec{Command: newID(), Digest: fleet.Sum([]byte("body")), Issued: now, Expires: now.Add(time.Hour), Plan: plain(argv...)}
}

// document is a spec of steps that exit codes mean something to.
func document(all ...steps.Step) Spec {
	s := spec()
	for i := range all {
		if all[i].Name == "" {
			all[i].Name = string(rune('a' + i))
		}
	}
	s.Plan = steps.Plan{Steps: all, Codes: true}
	return s
}

// sh is a step of a shell line.
func sh(line string) steps.Step { return steps.Step{Argv: []string{line}} }

// statuses shows steps as name:status:code.
func statuses(all []exec.StepReport) string {
	var out []string
	for _, s := range all {
		out = append(out, fmt.Sprintf("%s:%s:%d", s.Name, s.Status, s.ExitCode))
	}
	return strings.Join(out, " ")
}

func (h *harness) start(s Spec) {
	h.t.Helper()
	if err := h.Start(h.t.Context(), s); err != nil {
		h.t.Fatalf("start: %v", err)
	}
}

// await reads events until pick accepts one.
func await[E Event](h *harness, pick func(E) bool) E {
	h.t.Helper()
	limit := time.NewTimer(30 * time.Second)
	defer limit.Stop()
	for {
		select {
		case e, ok := <-h.Events():
			if !ok {
				h.t.Fatal("the events ended")
			}
			if x, ok := e.(E); ok && pick(x) {
				return x
			}
		case <-limit.C:
			h.t.Fatal("waited 30 s for an event")
		}
	}
}

func (h *harness) ended(command fleet.UUID) Result {
	h.t.Helper()
	return await(h, func(e Ended) bool { return e.Command == command }).Result
}

func (h *harness) hasStarted(command fleet.UUID) Started {
	h.t.Helper()
	return await(h, func(e Started) bool { return e.Command == command })
}

// run runs a spec to its end.
func (h *harness) run(s Spec) Result {
	h.t.Helper()
	h.start(s)
	return h.ended(s.Command)
}

func (h *harness) text(command fleet.UUID, stream Stream) string {
	h.t.Helper()
	out, err := h.Head(command, stream, MaxRead)
	if err != nil {
		h.t.Fatal(err)
	}
	return string(out)
}

// until polls for something that another process does without telling anybody.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(30 * time.Second)
	for !ok() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("waited 30 s until %s", what)
		}
	}
}

func supervisorOf(t testing.TB, h *harness, command fleet.UUID) int {
	t.Helper()
	mark, err := h.folder(command).start()
	if err != nil {
		t.Fatal(err)
	}
	return mark.PID
}

func wantStatus(t testing.TB, got Result, want exec.Status) {
	t.Helper()
	if got.Status != want {
		t.Fatalf("status %s, want %s: %+v", got.Status, want, got)
	}
}

func longDir(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), strings.Repeat("long", 40))
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}
