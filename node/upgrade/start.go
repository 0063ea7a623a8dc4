package upgrade

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/muster-fleet/muster/node/fleet"
)

// Started is what an agent's start means for an upgrade.
type Started struct {
	Again string // start the program at this path in place of this one; "": go on
	Trial Trial  // that this process is in; its Stage is Trying then
	Note  string // for the log
}

// InTrial reports whether this process must prove itself.
func (s Started) InTrial() bool { return s.Trial.Stage == Trying }

// folderLock is the file in the data folder that a running agent has locked.
const folderLock = "lock"

// Start is to be called when an agent starts, before it opens anything in its data folder. Where another agent runs there, this start
// is a mistake that counts for nothing. program is the path of the agent's own.
func Start(dir, program string) (s Started, err error) {
	t, ok, err := Read(dir)
	over := !ok || t.Stage.Over()
	if over { // what was prepared, and never came to be tried, is removed too
		t.Old, t.New = besides(program, dir)
	}
	if err != nil || over && !t.remains() || Runs(dir) {
		return s, err
	}
	if over {
		return s, t.clearRest(dir)
	}
	err = locked(dir, func() error {
		if t, ok, err = Read(dir); err != nil || !ok {
			return err
		}
		was := t.Stage
		now, next := t.Start(t.found())
		t, next, err = now.do(dir, next)
		switch {
		case next.Watch:
			s.Trial, s.Note = t, "version "+t.To.Version+" is on trial"
		case err != nil:
		case next.Again:
			s.Again, s.Note = t.Program, "the upgrade to "+t.To.Version+" is taken back: "+t.Why
		case t.Stage != was:
			s.Note = "the upgrade to " + t.To.Version + " is over: " + t.Why
		}
		return err
	})
	return s, err
}

// clearRest removes what a trial that is over left beside the program, or an upgrade that never came to be one. What an upgrade that is
// under way lays down there is not touched.
func (t Trial) clearRest(dir string) error {
	return locked(dir, func() error {
		only, err := alone(dir)
		if fleet.KindOf(err) == fleet.Conflict {
			return nil
		}
		if err != nil {
			return err
		}
		defer only.Close()
		if now, ok, err := Read(dir); err != nil || ok && !now.Stage.Over() {
			return err
		}
		t.clear()
		return nil
	})
}

// remains reports whether something still lies beside the program.
func (t Trial) remains() bool {
	for _, path := range []string{t.Old, t.New} {
		if _, err := os.Lstat(path); err == nil {
			return true
		}
	}
	return false
}

// Runs reports whether an agent has the data folder.
func Runs(dir string) bool { return runs(filepath.Join(dir, folderLock)) }

// runs reports whether somebody holds a lock.
func runs(lock string) bool {
	f, err := os.Open(lock)
	if err != nil {
		return false
	}
	defer f.Close() // and with it the lock, where it was free
	return errors.Is(syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB), syscall.EWOULDBLOCK)
}

// lookEvery is how often an agent in trial looks whether somebody has spoken.
const lookEvery = time.Second

// Prove waits, in an agent in trial, until somebody has said that it is well or, where nobody does, until it can say so itself.
// view is what it sees, asked for once. Where it must go back, the old program is at its place when Prove returns true: start it.
func Prove(ctx context.Context, dir string, t Trial, view func() View, log *slog.Logger) (again bool) {
	began := time.Now()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-tick.C:
		}
		over, again := look(dir, t.ID, time.Since(began), view, log)
		if over {
			return again
		}
	}
}

func look(dir, id string, after time.Duration, view func() View, log *slog.Logger) (over, again bool) {
	now, ok, err := Read(dir)
	if err == nil && (!ok || now.ID != id || now.Stage.Over()) {
		return true, false
	}
	lack := ""
	if after >= SelfAfter {
		lack = now.Before.Lack(view())
	}
	now, next, ok, err := change(dir, id, func(t Trial) (Trial, Next) { return t.Judge(after, lack) })
	switch {
	case err != nil:
		log.Error("the trial of this version cannot be ended", "err", err)
		return false, false // the disk may take it later
	case !ok:
		return true, false
	case next.Again:
		log.Error("the upgrade is taken back", "version", now.To.Version, "why", now.Why)
		return true, true
	case next != (Next{}):
		log.Info("the upgrade is kept: nobody watched it, and this agent is well", "version", now.To.Version)
		return true, false
	}
	return false, false
}

// Supports returns the level that the agent of a data folder may say it supports, where its program's newest is so high: while
// it is in trial, no more than what it may go back to.
func Supports(dir string, newest fleet.Level) fleet.Level {
	t, ok, err := Read(dir)
	if err != nil || !ok {
		return newest
	}
	return t.SupportsUntil(newest)
}

// GiveUp puts the old program back, because the new one could not be started or could not begin its work. back is false where no
// upgrade is under way.
func GiveUp(dir, why string) (back bool, err error) {
	if t, ok, err := Read(dir); err != nil || !ok || t.Stage.Over() { // a folder that is no host's yet is left as it is
		return false, err
	}
	err = locked(dir, func() error {
		t, ok, err := Read(dir)
		if err != nil || !ok || t.Stage.Over() || t.found() != New && t.found() != Unread {
			return err
		}
		back = true
		now, next := t.GoBack(why)
		if t, _, err = now.do(dir, next); err != nil {
			return err
		}
		now, next = t.Start(t.found())
		_, _, err = now.do(dir, next)
		return err
	})
	return back && err == nil, err
}
