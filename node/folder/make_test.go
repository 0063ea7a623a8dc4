package folder

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/muster-fleet/muster/node/fleet"
)

func TestCreateClearsWhatAnEarlierTryLeft(t *testing.T) {
	w := newTown(t)
	must(t, os.Remove(filepath.Join(w.dir, "identity")))
	must(t, os.WriteFile(filepath.Join(w.dir, ".new-123"), []byte("half"), 0o600))
	f, err := Create(w.dir)
	must(t, err)
	if left := snapshot(t, w.dir); len(left) != 1 {
		t.Fatalf("left: %v", left)
	}
	w.fill(t, f) // as if nothing had been there: acts are not there twice
	must(t, f.Close())
	if _, _, err := readAll(w.dir, w.fleet.ID()); err != nil {
		t.Fatal(err)
	}
}

func TestCreateRefuses(t *testing.T) {
	make := func(files ...string) string {
		dir := filepath.Join(t.TempDir(), "data")
		must(t, os.Mkdir(dir, 0o755))
		for _, name := range files {
			must(t, os.WriteFile(filepath.Join(dir, name), nil, 0o600))
		}
		return dir
	}
	for what, dir := range map[string]string{
		"a host":           make("identity"),
		"a former host":    make("record", "ledger"),
		"somebody's files": make("thesis.tex"),
	} {
		before := snapshot(t, dir)
		_, err := Create(dir)
		checkHelpful(t, err, dir)
		if fleet.KindOf(err) != fleet.Conflict {
			t.Errorf("%s: %v", what, err)
		}
		info, err := os.Stat(dir)
		must(t, err)
		if len(snapshot(t, dir)) != len(before) || info.Mode().Perm() != 0o755 {
			t.Errorf("%s: the folder was changed", what)
		}
	}
	file := filepath.Join(make("x"), "x")
	_, err := Create(file)
	checkHelpful(t, err, file)
	_, err = Create(filepath.Join(file, "below"))
	checkHelpful(t, err, file)
}

func TestDiscardLeavesNothing(t *testing.T) {
	w := newTown(t)
	parent := t.TempDir()
	for _, existed := range []bool{false, true} {
		dir := filepath.Join(parent, "new")
		if existed {
			must(t, os.Mkdir(dir, 0o755))
		}
		f, err := Create(dir)
		must(t, err)
		must(t, f.PutJoining(w.identity()))
		w.fill(t, f)
		must(t, f.Discard())
		if existed {
			if left := snapshot(t, dir); len(left) != 0 {
				t.Fatalf("left: %v", left)
			}
			must(t, os.Remove(dir))
		}
		if _, err := os.Lstat(dir); !os.IsNotExist(err) {
			t.Fatalf("the folder is there: %v", err)
		}
	}
}

func TestJoiningKeys(t *testing.T) {
	w := newTown(t)
	dir := filepath.Join(t.TempDir(), "new")
	me := w.identity()
	f, err := Create(dir)
	must(t, err)
	must(t, f.PutJoining(me))
	must(t, f.Close())
	if f, err = Create(dir); err != nil { // the next try
		t.Fatal(err)
	}
	if again, ok := f.Joining(me.Fleet, me.Name); !ok || string(again.Seed) != string(me.Seed) {
		t.Fatal("the keys of the first try are gone")
	}
	if _, ok := f.Joining(me.Fleet, "other"); ok {
		t.Fatal("keys of another name were taken up")
	}
	if _, ok := f.Joining(fleet.Sum(nil), me.Name); ok {
		t.Fatal("keys of another fleet were taken up")
	}
	must(t, f.PutIdentity(me))
	if _, ok := f.Joining(me.Fleet, me.Name); ok {
		t.Fatal("the keys are there twice")
	}
	must(t, f.Close())
	if id, ok := FleetOf(dir); !ok || id != me.Fleet {
		t.Fatal("the fleet of the new host is not told")
	}
}

func TestLocked(t *testing.T) {
	w := newTown(t)
	f, err := Open(w.dir)
	must(t, err)
	defer f.Close()
	_, err = Open(w.dir)
	checkHelpful(t, err, w.dir)
	if fleet.KindOf(err) != fleet.Conflict {
		t.Fatal(err)
	}
}
