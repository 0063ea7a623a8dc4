package upgrade

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"os"
	osexec "os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/exec/runner"
	"github.com/muster-fleet/muster/exec/steps"
	"github.com/muster-fleet/muster/node/fleet"
)

// act is what the act of these tests is given.
type act struct {
	Runs, Socket, DataDir, Binary string
	Gone                          time.Duration
}

// actMain upgrades a fake agent under a real supervisor.
func actMain() int {
	var in act
	if err := json.NewDecoder(os.Stdin).Decode(&in); err != nil {
		return 2
	}
	command, err := fleet.ParseUUID(os.Getenv("MUSTER_COMMAND_ID"))
	if err != nil {
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	o := Order{
		Agent: fakeClient(in.Socket), Socket: in.Socket, DataDir: in.DataDir, Binary: in.Binary, To: Build{Version: "2.0.0", Level: 2}, Arch: "amd64", Level: 2,
		Say:   func(format string, args ...any) { fmt.Printf(format+"\n", args...) },
		LetGo: func() error { return runner.LetGo(in.Runs, command) },
		wait:  patience{confirm: time.Minute, steady: time.Second, gone: in.Gone, manager: 500 * time.Millisecond, back: 2 * time.Second},
	}
	if _, err := o.Carry(ctx); err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

// running is a run that upgrades a site's agent to a version that exits at once.
type running struct {
	*site
	*runner.Runner
	command fleet.UUID
}

func (s *site) upgrading(gone time.Duration, more ...steps.Step) *running {
	s.t.Helper()
	self, err := os.Executable()
	if err != nil {
		s.t.Fatal(err)
	}
	dir := s.t.TempDir()
	r, err := runner.Open(runner.Config{Dir: dir, Self: []string{self, "supervise"}, Act: []string{self, "act"}})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(r.Close)
	inputs, err := json.Marshal(act{Runs: dir, Socket: s.order.Socket, DataDir: s.order.DataDir, Binary: s.order.Binary, Gone: gone})
	if err != nil {
		s.t.Fatal(err)
	}
	out := &running{site: s, Runner: r}
	_, _ = rand.Read(out.command[:])
	now := time.Now()
	err = r.Start(s.t.Context(), runner.Spec{Command: out.command, Digest: fleet.Sum(inputs), Issued: now, Expires: now.Add(time.Hour),
		Plan: steps.Plan{Codes: true, Steps: append([]steps.Step{{Name: "upgrade", Act: "upgrade", Inputs: inputs}}, more...)}})
	if err != nil {
		s.t.Fatal(err)
	}
	return out
}

// ended waits for the run's end.
func (r *running) ended(want exec.Status) {
	r.t.Helper()
	for e := range r.Events() {
		if e, ok := e.(runner.Ended); ok {
			if e.Result.Status != want {
				r.t.Errorf("the run ended as %+v", e.Result)
			}
			return
		}
	}
}

// hold keeps the next agent from answering, until the file is removed.
func (s *site) hold() (release func()) {
	path := filepath.Join(s.order.DataDir, "hold")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		s.t.Fatal(err)
	}
	return func() { _ = os.Remove(path) }
}

// anew waits for an agent of the old version that is another process than the first.
func (s *site) anew() (pid int) {
	s.t.Helper()
	until(s.t, "an agent was started", func() bool {
		raw, _ := os.ReadFile(filepath.Join(s.order.DataDir, "pid"))
		pid, _ = strconv.Atoi(string(raw))
		version, _, _ := markOf(proc(pid, "exe"))
		return pid != s.pid && version == "1.0.0"
	})
	return pid
}

// begin starts a process, which ends with the test, and waits until its arguments can be seen.
func begin(t *testing.T, cmd *osexec.Cmd) {
	t.Helper()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	until(t, "its program runs", func() bool { return len(words(cmd.Process.Pid, "cmdline")) > 0 })
}

func looked(t *testing.T, cmd *osexec.Cmd) *process {
	t.Helper()
	p, err := take(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.close)
	return p
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited 30 s until %s", what)
		}
	}
}

// TestAgentOutlivesItsRun: an agent that the act started is no part of the act's run.
func TestAgentOutlivesItsRun(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		end  func(*running, int)
		want exec.Status
		more []steps.Step
	}{
		{"cancel", func(r *running, _ int) { _ = r.Cancel(r.command) }, exec.Cancelled, nil},
		{"supervisor killed", func(_ *running, parent int) { _ = syscall.Kill(parent, syscall.SIGKILL) }, exec.Unknown, nil},
		{"next step", func(*running, int) {}, exec.Failed, []steps.Step{{Name: "late", Argv: []string{"sleep 1000"}, Timeout: 500}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, "works", "exits")
			release := s.hold()
			r := s.upgrading(time.Second, c.more...)
			pid := s.anew()
			if got, want := groupsOf(strconv.Itoa(pid)), groupsOf(strconv.Itoa(os.Getpid())); !sameGroups(got, want) {
				t.Errorf("it lives in %v, want %v", got, want)
			}
			act, err := strconv.Atoi(stated(pid, "PPid"))
			if err != nil {
				t.Fatal(err)
			}
			supervisor, err := strconv.Atoi(stated(act, "PPid"))
			if err != nil || !slices.Contains(words(supervisor, "cmdline"), "supervise") {
				t.Fatalf("process %d is no supervisor: %q", supervisor, words(supervisor, "cmdline"))
			}
			c.end(r, supervisor)
			r.ended(c.want)
			release()
			s.has("1.0.0", false)
			if dead(pid) {
				t.Error("the agent that was started is dead")
			}
			if parent := stated(pid, "PPid"); parent == strconv.Itoa(supervisor) {
				t.Error("it belongs to the run's supervisor")
			}
		})
	}
}

func sameGroups(a, b groups) bool {
	for name := range b {
		if a[name] != b[name] {
			return false
		}
	}
	return len(a) == len(b)
}

// TestCancelledWithoutAgent: who is stopped while the new version has ended, and before it was taken back, leaves no host without an
// agent.
func TestCancelledWithoutAgent(t *testing.T) {
	t.Parallel()
	s := newSite(t, "works", "exits")
	r := s.upgrading(time.Minute)
	until(t, "the new version has ended", func() bool {
		now, ok, err := Read(s.order.DataDir)
		return err == nil && ok && now.Stage != "" && dead(s.pid)
	})
	if err := r.Cancel(r.command); err != nil {
		t.Fatal(err)
	}
	r.ended(exec.Cancelled)
	s.has("1.0.0", false)
}

// TestKeepers: who starts again what ends is known.
func TestKeepers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "supervise-daemon")
	sleep, err := osexec.LookPath("sleep")
	if err == nil {
		err = place(sleep, path, sleep)
	}
	if err != nil {
		t.Fatal(err)
	}
	cmd := osexec.Command(path, "1000")
	begin(t, cmd)
	if !keeps(strconv.Itoa(cmd.Process.Pid)) || keeps(strconv.Itoa(os.Getpid())) {
		t.Error("a keeper is not told from others")
	}
}

// TestUnitOfOthers: an agent that lives in the unit of whoever started it by hand is not started by starting that unit.
func TestUnitOfOthers(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "systemctl"), []byte("#!/bin/sh\n"), 0o755); err != nil { // all is well with that unit
		t.Fatal(err)
	}
	sleep, err := osexec.LookPath("sleep")
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir)
	cmd := osexec.Command(sleep, "1000")
	cmd.Dir = dir
	begin(t, cmd)
	p := looked(t, cmd)
	defer p.kill()
	p.unit = "cron.service"
	if err := (Order{Say: t.Logf}).start(p, sleep); err != nil {
		t.Fatal(err)
	}
	until(t, "it was started", func() bool { return len(p.lives()) == 2 })
}

// TestWhoseProcess: what another user starts in the agent's likeness is not the agent.
func TestWhoseProcess(t *testing.T) {
	cmd := osexec.Command("sleep", "1000")
	begin(t, cmd)
	p := looked(t, cmd)
	if !p.alike(p.pid) {
		t.Error("the agent is not like itself")
	}
	p.users = "1\t1\t1\t1"
	if p.alike(p.pid) {
		t.Error("another user's process is taken for the agent")
	}
}

// TestNobodyReads: an agent whose output goes into a named pipe that nobody reads any more can be looked at all the same.
func TestNobodyReads(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	w, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	cmd := osexec.Command("sleep", "1000")
	cmd.Stdout = w
	begin(t, cmd)
	r.Close()
	w.Close()
	p := looked(t, cmd)
	if p.out != nil {
		t.Error("it was opened")
	}
}

// TestStartSparesAnUpgrade: a start of the agent removes nothing of what an upgrade that is under way lays down.
func TestStartSparesAnUpgrade(t *testing.T) {
	m := newMachine(t, t.TempDir())
	for _, path := range []string{m.trial.Old, m.trial.New} {
		if err := os.WriteFile(path, []byte("x"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	act, err := alone(m.dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Start(m.dir, m.trial.Program); err != nil || m.has(m.trial.Old) == "" || m.has(m.trial.New) == "" {
		t.Errorf("%q, %q, %v", m.has(m.trial.Old), m.has(m.trial.New), err)
	}
	act.Close()
	if _, err := Start(m.dir, m.trial.Program); err != nil || m.has(m.trial.Old)+m.has(m.trial.New) != "" {
		t.Errorf("%q, %q, %v", m.has(m.trial.Old), m.has(m.trial.New), err)
	}
}

// TestGroupsOfMounts: each hierarchy is found by its name.
func TestGroupsOfMounts(t *testing.T) {
	all := hierarchiesOf(strings.Join([]string{
		`26 25 0:22 / /sys/fs/cgroup ro,nosuid - tmpfs tmpfs ro,mode=755`,
		`27 26 0:23 / /sys/fs/cgroup/unified rw,nosuid shared:5 - cgroup2 cgroup2 rw`,
		`33 26 0:29 /lxc/a /sys/fs/cgroup/freezer rw,nosuid shared:9 - cgroup cgroup rw,freezer`,
		`34 26 0:30 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpuacct,cpu`,
		`35 26 0:31 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd`,
	}, "\n"))
	for name, want := range map[string]string{"": "/unified", "freezer": "/freezer", "cpu,cpuacct": "/cpu", "name=systemd": "/systemd", "memory": ""} {
		h, ok := all.of(name)
		if ok != (want != "") || ok && h.at != "/sys/fs/cgroup"+want {
			t.Errorf("%q is at %q", name, h.at)
		}
	}
}
