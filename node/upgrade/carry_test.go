package upgrade

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func holdLock(t *testing.T, path string) *os.File {
	t.Helper()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err == nil {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX)
	}
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// site is a host with a fake agent.
type site struct {
	t       *testing.T
	program string
	order   Order
	pid     int
}

// newSite starts an agent of version 1, which behaves somehow, and orders version 2.
func newSite(t *testing.T, now, then string) *site {
	root, err := os.MkdirTemp("", "upgrade") // sockets have short names
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(root) })
	s := &site{t: t, program: filepath.Join(root, "agent")}
	data, socket, fresh := filepath.Join(root, "data"), filepath.Join(root, "s"), filepath.Join(root, "new")
	if err := os.Mkdir(data, 0o700); err != nil {
		t.Fatal(err)
	}
	fakeProgram(t, s.program, "1.0.0", now)
	fakeProgram(t, fresh, "2.0.0", then)
	s.order = Order{
		Agent: fakeClient(socket), Socket: socket, DataDir: data, Binary: fresh, To: Build{Version: "2.0.0", Level: 2}, Arch: "amd64", Level: 2,
		Say:  t.Logf,
		wait: patience{confirm: 4 * time.Second, steady: 300 * time.Millisecond, gone: time.Second, manager: 500 * time.Millisecond, back: 10 * time.Second},
	}
	cmd := &exec.Cmd{Path: s.program, Args: []string{fakeName, socket, data}, Dir: root, Env: os.Environ()}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { _ = cmd.Wait() }()
	s.pid = cmd.Process.Pid
	if err := s.order.await(t.Context(), "1.0.0", 10*time.Second); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if p, err := agentAt(socket); err == nil {
			p.kill()
			p.close()
		}
	})
	return s
}

// has wants a version to answer, as the process it was or as another, to be the program, and nothing beside it.
func (s *site) has(version string, sameProcess bool) {
	s.t.Helper()
	if err := s.order.await(s.t.Context(), version, 5*time.Second); err != nil {
		s.t.Fatalf("version %s does not answer: %v", version, err)
	}
	p, err := agentAt(s.order.Socket)
	if err != nil {
		s.t.Fatal(err)
	}
	defer p.close()
	if (p.pid == s.pid) != sameProcess {
		s.t.Errorf("the agent was process %d, and is %d", s.pid, p.pid)
	}
	if got, _, _ := markOf(s.program); got != version {
		s.t.Errorf("the program is version %s, want %s", got, version)
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(s.program), ".muster-*")); len(left) > 0 {
		s.t.Errorf("beside the program lies %q", left)
	}
	if now, ok, err := Read(s.order.DataDir); err != nil || ok && !now.Stage.Over() {
		s.t.Errorf("the trial is not over: %+v, %v", now, err)
	}
}

func TestCarry(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		now, then string
		want      string // of the error
		version   string
		same      bool // process
	}{
		{"works", "works", "", "2.0.0", true},
		{"works", "exits", "taken back, and 1.0.0 runs again: it ended, and did not come back", "1.0.0", false},
		{"works", "hangs", "taken back, and 1.0.0 runs again: it did not answer", "1.0.0", false},
		{"refuses", "works", "taken back, and 1.0.0 runs again: the agent does not restart: its configuration has a mistake", "1.0.0", true},
	} {
		t.Run(c.now+" "+c.then, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, c.now, c.then)
			out, err := s.order.Carry(t.Context())
			if c.want == "" && (err != nil || out.From != "1.0.0" || out.To != "2.0.0" || out.Already) || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("%+v, %v", out, err)
			}
			s.has(c.version, c.same)
			if c.want == "" {
				if out, err := s.order.Carry(t.Context()); err != nil || !out.Already {
					t.Errorf("again: %+v, %v", out, err)
				}
			}
		})
	}
}

// TestNothingIsChanged: what can be known beforehand is said beforehand.
func TestNothingIsChanged(t *testing.T) {
	t.Parallel()
	s := newSite(t, "works", "works")
	for _, c := range []struct {
		name   string
		change func(*Order)
		want   string
	}{
		{"another version", func(o *Order) { o.To.Version = "2.0.1" }, "says that it is version 2.0.0, and its release says 2.0.1"},
		{"another architecture", func(o *Order) { o.Arch = "arm64" }, "the new program is for linux/amd64, and this host is linux/arm64"},
		{"another level", func(o *Order) { o.To.Level = 3 }, "knows levels up to 2, and its release says 3"},
		{"no program", func(o *Order) {
			o.Binary = filepath.Join(t.TempDir(), "none")
			if err := os.WriteFile(o.Binary, []byte("\x7fELF and nothing else"), 0o755); err != nil {
				t.Fatal(err)
			}
		}, "does not run on this host"},
		{"nobody answers", func(o *Order) { o.Socket += "x" }, "no agent answers"},
	} {
		o := s.order
		c.change(&o)
		if _, err := o.Carry(t.Context()); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
		s.has("1.0.0", true)
	}
	other := holdLock(t, filepath.Join(s.order.DataDir, actName))
	if _, err := s.order.Carry(t.Context()); err == nil || !strings.Contains(err.Error(), "another upgrade is under way") {
		t.Errorf("two at a time: %v", err)
	}
	other.Close()
	fakeProgram(t, s.program+".dpkg", "1.5.0", "works")
	if err := os.Rename(s.program+".dpkg", s.program); err != nil {
		t.Fatal(err)
	}
	if _, err := s.order.Carry(t.Context()); err == nil || !strings.Contains(err.Error(), "is not the program that the agent runs") {
		t.Errorf("a package replaced it: %v", err)
	}
	if got, _, _ := markOf(s.program); got != "1.5.0" {
		t.Errorf("the package's program is gone: %s", got)
	}
}

// TestReplacedOnTrial: a version that is well, and at whose place lies somebody else's program meanwhile, is not watched for ever.
func TestReplacedOnTrial(t *testing.T) {
	t.Parallel()
	s := newSite(t, "works", "replaced")
	if _, err := s.order.Carry(t.Context()); err == nil || !strings.Contains(err.Error(), "another program was put in the place of version 2.0.0") {
		t.Errorf("%v", err)
	}
	s.has("2.0.0", true)
}

// TestKeptInTime: who was taken back since it was looked at is not kept.
func TestKeptInTime(t *testing.T) {
	m := newMachine(t, t.TempDir())
	for _, c := range []struct {
		there string
		stage Stage
		want  Stage
	}{{"new", Trying, Kept}, {"new", Back, Back}, {"old", Trying, Trying}, {"new", Undone, Undone}} {
		if err := os.WriteFile(m.trial.Program, []byte(c.there), 0o755); err != nil {
			t.Fatal(err)
		}
		m.trial.Stage = c.stage
		if now, _ := m.trial.keepIfThere(); now.Stage != c.want {
			t.Errorf("%+v: %s", c, now.Stage)
		}
	}
}

// TestStoppedOnTrial: who is stopped while the new program is on trial leaves it there.
func TestStoppedOnTrial(t *testing.T) {
	t.Parallel()
	s := newSite(t, "works", "works")
	s.order.wait.steady = time.Minute
	ctx, stop := context.WithTimeout(t.Context(), 2*time.Second)
	defer stop()
	if _, err := s.order.Carry(ctx); err == nil || !strings.Contains(err.Error(), "stopped while version 2.0.0 is on trial") {
		t.Errorf("%v", err)
	}
	if now, ok, err := Read(s.order.DataDir); err != nil || !ok || now.Stage != Trying || now.Starts != 1 {
		t.Errorf("%+v, %v", now, err)
	}
	if _, err := s.order.Carry(t.Context()); err == nil || !strings.Contains(err.Error(), "still on trial") {
		t.Errorf("%v", err)
	}
}

// TestFullDisk: where nothing can be written down, the old program comes back all the same, and an agent proves itself all the same.
func TestFullDisk(t *testing.T) {
	m := newMachine(t, t.TempDir())
	ready := func() {
		t.Helper()
		for _, err := range []error{
			os.WriteFile(m.trial.Program, []byte("new"), 0o755), os.WriteFile(m.trial.Old, []byte("old"), 0o755), m.trial.save(m.dir),
			os.MkdirAll(filepath.Join(m.dir, trialName+".new", "x"), 0o700), // as a full disk does, it keeps the trial from being written
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	ready()
	if s, err := Start(m.dir, m.trial.Program); err == nil || !s.InTrial() {
		t.Errorf("%+v, %v", s, err)
	}
	if back, err := GiveUp(m.dir, "no good"); m.has(m.trial.Program) != "old" {
		t.Errorf("the program is %q: %v, %v", m.has(m.trial.Program), back, err)
	}
}
