package report

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node/fleet"
)

type clock struct{ now time.Time }

func (c *clock) Now() time.Time { return c.now }

func prune(t *testing.T, s *Store, want int) {
	t.Helper()
	if got, err := s.Prune(); err != nil || got != want {
		t.Fatalf("%d reports were removed, %v; want %d", got, err, want)
	}
}

func TestPruneByAge(t *testing.T) {
	day := 24 * time.Hour
	c := &clock{time.Unix(1_800_000_000, 0)}
	dir := t.TempDir()
	s := open(t, dir, Options{Now: c.Now})
	put(t, s, rep(command(1), 1, 1, exec.Success), rep(command(1), 2, 1, exec.Success), rep(command(2), 1, 1, exec.InProgress))
	c.now = c.now.Add(20 * day)
	put(t, s, rep(command(2), 1, 2, exec.Success), rep(command(3), 1, 1, exec.Success))
	c.now = c.now.Add(10 * day)
	prune(t, s, 0) // exactly as old as they may get
	c.now = c.now.Add(time.Second)
	prune(t, s, 2) // command 2 was heard of since
	if len(of(t, s, command(1))) != 0 || len(of(t, s, command(2))) != 1 || len(of(t, s, command(3))) != 1 {
		t.Fatal("the wrong command was removed")
	}
	s.Close()
	s = open(t, dir, Options{Now: c.Now}) // the file is sound: it opens without being moved
	c.now = c.now.Add(20 * day)
	prune(t, s, 2)
	if left, _ := damagedFiles(filepath.Join(dir, FileName)); len(left) != 0 {
		t.Fatal("pruning damaged the store")
	}
	put(t, s, rep(command(1), 1, 1, exec.Success)) // and a pruned command may come again
	if len(of(t, s, command(1))) != 1 {
		t.Fatal("not stored after pruning")
	}
}

func TestPruneManyCommandsInSteps(t *testing.T) {
	c := &clock{time.Unix(1_800_000_000, 0)}
	s := open(t, t.TempDir(), Options{Now: c.Now})
	const many = 2*sweepMost + 10
	done := make(chan error)
	for n := range many {
		m := rep(command(n), 1, 1, exec.Success)
		go func() { done <- s.Put(m.report, m.signed) }()
	}
	for range many {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	c.now = c.now.Add(DefaultKeep + time.Second)
	prune(t, s, many)
}

func TestSizePutsOutTheOldest(t *testing.T) {
	const limit = 2 << 20
	c := &clock{time.Unix(1_800_000_000, 0)}
	warned := &lines{}
	dir := t.TempDir()
	s := open(t, dir, Options{Now: c.Now, MaxBytes: limit, Log: warned.log()})
	const many = 200 // of 20 KB: twice what fits
	for n := range many {
		c.now = c.now.Add(time.Second)
		put(t, s, out(command(n), 1, 1, exec.InProgress, 20_000))
		if n > 0 {
			put(t, s, rep(command(0), 2, uint32(n), exec.InProgress)) // the first stays the most recently heard of
		}
	}
	oldest := many
	for n := many - 1; n > 0; n-- {
		if there := len(of(t, s, command(n))) == 1; there && n != oldest-1 {
			t.Fatalf("command %d is there and command %d, which is younger, is not", n, oldest-1)
		} else if there {
			oldest = n
		}
	}
	if kept := many - oldest; kept < limit/20_000/2 || kept > limit/20_000 {
		t.Errorf("%d commands of 20 KB are kept in %d bytes", kept, limit)
	}
	if len(of(t, s, command(0))) != 2 {
		t.Error("a command was put out while its nodes still report")
	}
	if s.excess() > limit/slackParts+64<<10 || warned.count() == 0 {
		t.Errorf("%d bytes too many, %d warnings", s.excess(), warned.count())
	}
	if info, _ := os.Stat(filepath.Join(dir, FileName)); info.Size() > 2*limit {
		t.Errorf("the file has %d bytes", info.Size())
	}
}

func TestOneCommandIsNotForgottenForSize(t *testing.T) {
	s := open(t, t.TempDir(), Options{MaxBytes: 1 << 20})
	var err error
	n := 0
	for ; err == nil && n < 200; n++ {
		m := out(command(1), n, 1, exec.Success, 20_000)
		err = s.Put(m.report, m.signed)
	}
	if e := wantKind(t, err, fleet.Exhausted); e.Hint == "" {
		t.Error("no hint")
	}
	if got := len(of(t, s, command(1))); got != n-1 {
		t.Fatalf("%d of %d reports that were taken are there", got, n-1)
	}
	prune(t, s, 0)
}

func TestPruneBringsASmallerStoreIntoItsSize(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Options{})
	for n := range 50 {
		put(t, s, out(command(n), 1, 1, exec.Success, 20_000))
	}
	s.Close()
	s = open(t, dir, Options{MaxBytes: 512 << 10})
	if n, err := s.Prune(); err != nil || n < 20 || n > 40 || s.excess() != 0 || len(of(t, s, command(49))) != 1 {
		t.Fatalf("%d removed, %v, %d bytes too many", n, err, s.excess())
	}
}
