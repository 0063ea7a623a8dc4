package upgrade

import (
	"os"
	"path/filepath"
	"testing"
)

// A folder that is no host's yet is left as it is: init wants it empty.
func TestNothingToGiveUp(t *testing.T) {
	dir := t.TempDir()
	if back, err := GiveUp(dir, "no reason"); back || err != nil {
		t.Error(back, err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Error(left, err)
	}
}

// A program that cannot be read is nobody else's: the old one comes back, and is not removed.
func TestUnreadableProgram(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "muster")
	if err := os.Mkdir(path, 0o755); err != nil { // opens, and gives no byte
		t.Fatal(err)
	}
	tr := Trial{Stage: Trying, Program: path, From: Build{Sum: "a"}, To: Build{Sum: "b"}}
	if found := tr.found(); found != Unread {
		t.Fatalf("found %d", found)
	}
	if now, next := tr.Start(Unread); now.Stage != Back || !next.Restore || next.Clear {
		t.Errorf("%s %+v", now.Stage, next)
	}
	tr.Program = filepath.Join(dir, "nothing")
	if found := tr.found(); found != Other {
		t.Errorf("found %d where nothing is", found)
	}
}

// Who cannot start a program that cannot be read gives it up.
func TestUnreadableIsGivenUp(t *testing.T) {
	m := newMachine(t, t.TempDir())
	m.trial.Stage = Trying
	for _, err := range []error{
		os.Remove(m.trial.Program), os.Symlink(m.trial.Program, m.trial.Program), // it leads to itself
		os.WriteFile(m.trial.Old, []byte("old"), 0o755), m.trial.save(m.dir),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if back, err := GiveUp(m.dir, "it cannot be started"); !back || err != nil || m.has(m.trial.Program) != "old" {
		t.Errorf("%t, %v, %q", back, err, m.has(m.trial.Program))
	}
}
