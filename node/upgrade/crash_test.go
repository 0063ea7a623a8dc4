package upgrade

import (
	"os"
	"path/filepath"
	"testing"

	"pgregory.net/rapid"
)

// machine is a host's disk with programs of one word, as the machine sees it.
type machine struct {
	dir   string // data folder
	trial Trial
}

func newMachine(t interface{ Fatal(...any) }, root string) machine {
	m := machine{dir: filepath.Join(root, "data")}
	program := filepath.Join(root, "bin", "muster")
	for _, dir := range []string{m.dir, filepath.Dir(program)} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	old, fresh := besides(program, m.dir)
	m.trial = Trial{Format: format, ID: "x", Program: program, Old: old, New: fresh, Stage: Ready,
		From: Build{Version: "1"}, To: Build{Version: "2"}}
	write := func(path, text string) string {
		if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
		sum, err := sumOf(path)
		if err != nil {
			t.Fatal(err)
		}
		return sum
	}
	m.trial.To.Sum = write(filepath.Join(root, "new"), "new")
	m.trial.From.Sum = write(program, "old")
	return m
}

func (m machine) has(path string) string {
	raw, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return string(raw)
}

// upgrade does the first so many steps of an upgrade: all of prepare's, in its order.
func (m machine) upgrade(t *rapid.T, steps int) {
	program := m.trial.Program
	for i, step := range []func() error{
		func() error { return place(filepath.Join(filepath.Dir(m.dir), "new"), m.trial.New, program) },
		func() error { return saveOld(program, program, m.trial.Old) },
		func() error { return m.trial.save(m.dir) },
		func() error { return m.trial.swap() },
	} {
		if i == steps {
			return
		}
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
}

// crashes does what follows from a decision, as far as a number of steps; do has the same order.
func (m machine) crashes(t *rapid.T, now Trial, next Next, steps int) {
	if next.Save && steps > 0 {
		if err := now.save(m.dir); err != nil {
			t.Fatal(err)
		}
		steps--
	}
	if next.Restore && steps > 0 {
		if err := now.restore(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestAnyCrash: whatever happens, and wherever it is cut off, the host has one whole program; what a package put there stays; and
// an upgrade that nobody confirms is over after a few starts, with the old program back and nothing left beside it.
func TestAnyCrash(t *testing.T) {
	root := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		at, err := os.MkdirTemp(root, "")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(at)
		m := newMachine(t, at)
		confirmed, packaged := false, false
		m.upgrade(t, rapid.IntRange(0, 4).Draw(t, "steps of the upgrade"))
		for range rapid.IntRange(0, 6).Draw(t, "events") {
			now, ok, err := Read(m.dir)
			if err != nil {
				t.Fatal(err)
			}
			switch rapid.SampledFrom([]string{"start", "cut start", "keep", "back", "cut back", "package"}).Draw(t, "event") {
			case "start":
				m.start(t)
			case "cut start":
				if ok && !now.Stage.Over() {
					after, next := now.Start(now.found())
					m.crashes(t, after, next, rapid.IntRange(0, 2).Draw(t, "steps"))
				}
			case "keep":
				if ok && now.Stage == Trying && now.found() == New {
					if _, _, _, err := change(m.dir, "x", Trial.Keep); err != nil {
						t.Fatal(err)
					}
					confirmed = true
				}
			case "back", "cut back":
				if ok && !now.Stage.Over() && now.found() == New {
					after, next := now.GoBack("it is no good")
					m.crashes(t, after, next, rapid.IntRange(0, 2).Draw(t, "steps"))
				}
			case "package":
				if err := os.WriteFile(m.trial.Program+".dpkg", []byte("package"), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.Rename(m.trial.Program+".dpkg", m.trial.Program); err != nil {
					t.Fatal(err)
				}
				packaged = true
			}
			m.whole(t, packaged)
		}
		for range MaxStarts + 2 {
			m.start(t)
			m.whole(t, packaged)
		}
		now, ok, err := Read(m.dir)
		if err != nil || ok && !now.Stage.Over() {
			t.Fatalf("it is not over: %+v, %v", now, err)
		}
		want := "old"
		switch {
		case packaged:
			want = "package"
		case confirmed:
			want = "new"
		}
		if got := m.has(m.trial.Program); got != want {
			t.Fatalf("the program is %q, want %q: %+v", got, want, now)
		}
		if m.has(m.trial.Old) != "" || m.has(m.trial.New) != "" {
			t.Fatalf("something is left beside it: %+v", now)
		}
	})
}

func (m machine) start(t *rapid.T) {
	if _, err := Start(m.dir, m.trial.Program); err != nil {
		t.Fatal(err)
	}
}

func (m machine) whole(t *rapid.T, packaged bool) {
	got := m.has(m.trial.Program)
	if got != "old" && got != "new" && got != "package" || packaged && got != "package" {
		t.Fatalf("the program is %q", got)
	}
}

// TestDecidedBeforeDone: what a decision says is on the disk before it is done.
func TestDecidedBeforeDone(t *testing.T) {
	m := newMachine(t, t.TempDir())
	if err := os.Mkdir(m.trial.Old, 0o755); err != nil { // a folder cannot take a file's name
		t.Fatal(err)
	}
	now, next := m.trial.GoBack("no good")
	if _, _, err := now.do(m.dir, next); err == nil {
		t.Fatal("it was done")
	}
	if after, ok, err := Read(m.dir); err != nil || !ok || after.Stage != Back || after.Why != "no good" {
		t.Errorf("%+v, %v", after, err)
	}
}

// TestNothingToGoBackTo: where the old program is gone, the new one stays, and the trial is over.
func TestNothingToGoBackTo(t *testing.T) {
	m := newMachine(t, t.TempDir())
	if err := m.trial.save(m.dir); err != nil {
		t.Fatal(err)
	}
	now, next, ok, err := change(m.dir, "x", func(now Trial) (Trial, Next) { return now.GoBack("no good") })
	if err != nil || !ok || next.Again || now.Stage != Undone {
		t.Errorf("%+v, %+v, %v", now, next, err)
	}
}

// TestSecondAgent: a start where an agent runs already is a mistake, and counts for nothing.
func TestSecondAgent(t *testing.T) {
	m := newMachine(t, t.TempDir())
	m.trial.Stage, m.trial.Starts = Trying, 1
	if err := os.WriteFile(m.trial.Program, []byte("new"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := m.trial.save(m.dir); err != nil {
		t.Fatal(err)
	}
	first := holdLock(t, filepath.Join(m.dir, folderLock))
	for range 3 {
		if s, err := Start(m.dir, m.trial.Program); err != nil || s.InTrial() || s.Again != "" {
			t.Errorf("%+v, %v", s, err)
		}
	}
	first.Close()
	if s, err := Start(m.dir, m.trial.Program); err != nil || s.Trial.Starts != 2 {
		t.Errorf("%+v, %v", s, err)
	}
}
