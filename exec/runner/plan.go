package runner

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/muster-fleet/muster/exec/steps"
	"github.com/muster-fleet/muster/node/fleet"

	"github.com/muster-fleet/muster/exec/cage"
)

// runPlan executes the steps of a plan from where its journal ends.
func (s *supervision) runPlan() (note endNote, ended bool, err error) {
	if s.o.Resume {
		err = s.reopen()
	} else if err = s.open(); err != nil {
		note, err = s.notMarked(err)
		return note, true, err
	}
	if err != nil {
		return endNote{}, false, err
	}
	if s.o.Stop != "" {
		s.halt(steps.Status(s.o.Stop), s.o.StopWhy)
	}
	for {
		switch m := s.journal.g.Next(s.o.BootID).(type) {
		case steps.Start:
			if len(s.leave) > 0 { // whoever is next goes on here, perhaps behind a restart of the host
				return endNote{}, false, s.persist()
			}
			if why := s.step(m); why != "" {
				return s.note(failed(why)), true, nil
			}
			if s.late {
				_ = s.persist()
				return s.terminated(), true, nil
			}
		case steps.Reboot:
			if err := s.persist(); err != nil {
				return s.note(failed("it asked for a reboot, but its journal cannot be written: " + bare(err).Error())), true, nil
			}
			return endNote{}, false, nil
		case steps.Done:
			_ = s.persist() // the end block says how it ended; without this sync the steps' own ends may be lost with the power
			return s.note(m.Outcome), true, nil
		case steps.Doubt:
			return endNote{}, false, fmt.Errorf("nobody saw the end of step %d", m.Step+1)
		}
	}
}

// open makes what the run needs before its first step, and its start mark. All of it is synced.
func (s *supervision) open() error {
	if err := writeOrder(s.o); err != nil {
		return err
	}
	var err error
	s.journal, err = createJournal(s.o.Command, steps.Opened{Plan: s.o.Plan.Outline(), Limit: max(1, milliseconds(time.Duration(s.o.Timeout)))})
	if err == nil {
		err = s.journal.sync()
	}
	if err == nil {
		err = makeDownloads(s.o)
	}
	if err != nil {
		return err
	}
	return s.writeStart()
}

// writeOrder keeps the order for whoever has to go on with the run.
func writeOrder(o order) error {
	f, err := os.OpenFile(orderName, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Write(cage.SealNote(o)); err != nil {
		return err
	}
	return f.Sync()
}

// readOrder reads what writeOrder wrote.
func (f folder) order() (order, error) {
	var o order
	info, err := os.Stat(f.path(orderName))
	if err != nil {
		return o, err
	}
	if info.Size() > 2*MaxSpec {
		return o, fleet.Errorf(fleet.Invalid, "the order has %d bytes", info.Size())
	}
	data, err := os.ReadFile(f.path(orderName))
	if err == nil {
		err = cage.OpenNote(data, &o)
	}
	if err == nil && o.Format != orderFormat {
		err = fleet.Errorf(fleet.Invalid, "the order has format %d, this version knows %d", o.Format, orderFormat)
	}
	return o, err
}

// reopen takes up what an earlier supervisor left. One that died before its start mark leaves none; no step begins
// without it.
func (s *supervision) reopen() (err error) {
	if err := s.writeStart(); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("its start mark cannot be written: %w", err)
	}
	if s.journal, err = openJournal(s.o.Command); err != nil {
		return fmt.Errorf("the journal of its steps cannot be read: %w", err)
	}
	if err := makeDownloads(s.o); err != nil {
		return fmt.Errorf("no folder for its downloads: %w", err)
	}
	if mark, err := folder(".").start(); err == nil {
		s.began = fromUnixNano(mark.Time)
	}
	s.fresh = !s.journal.g.Begun()
	stdout, stderr := s.journal.g.Written()
	s.stdout = reopenCapture(string(Stdout), s.o.MaxOutput, stdout, s.mask)
	s.stderr = reopenCapture(string(Stderr), s.o.MaxOutput, stderr, s.mask)
	return nil
}

// persist syncs what the journal vouches for, then the journal.
func (s *supervision) persist() error {
	if s.stdout != nil {
		s.stdout.sync()
		s.stderr.sync()
	}
	return s.journal.sync()
}

// step makes one attempt of a step, or stops the run that was cancelled or may begin nothing any more. It returns why nothing was started and nothing
// can be.
func (s *supervision) step(m steps.Start) (why string) {
	select {
	case <-s.asked:
		s.halt(steps.Cancelled, "the run was cancelled")
		return ""
	default:
	}
	if s.halted.Load() {
		s.halt(steps.Failed, "this host does nothing any more: muster status there says why")
		return ""
	}
	began := steps.Began{Step: m.Step, Attempt: m.Attempt, At: time.Now().UnixMilli(), Boot: s.o.BootID}
	began.Stdout, began.Stderr = s.journal.g.Written()
	err := s.journal.add(began)
	if err == nil {
		err = s.journal.sync() // with it the end of the step before
	}
	if err != nil {
		return fmt.Sprintf("step %d was not started, its journal cannot be written: %v", m.Step+1, bare(err))
	}
	e := s.attempt(m.Step, time.Duration(m.Timeout)*time.Millisecond)
	e.Attempt = m.Attempt
	if s.stdout == nil {
		e.Stdout, e.Stderr = began.Stdout, began.Stderr
	}
	_ = s.journal.add(e) // what could not be written stops the next step
	return ""
}

// halt ends the run between two steps.
func (s *supervision) halt(as steps.Status, why string) {
	_ = s.journal.add(steps.Stopped{Status: as, Why: s.mask.text(why), At: time.Now().UnixMilli()})
}

// clearAway removes what nobody needs when the run has ended. Journal, marks and outputs stay until the folder goes.
func (s *supervision) clearAway() {
	if s.o.Plan.Plain() {
		os.Remove(scriptName)
		return
	}
	scripts, _ := filepath.Glob(scriptName + "*")
	for _, name := range scripts {
		os.Remove(name)
	}
	os.Remove(orderName)
	os.RemoveAll(s.o.Downloads)
	_ = removePrivate(fleet.UUID(s.o.Command).String(), s.o.Downloads) // the agent tries again, and says what cannot be removed
}

// clearAfter does the same for a supervisor that did not come to it.
func (f folder) clearAfter() error {
	if _, err := os.Lstat(f.path(journalName)); err != nil {
		return nil
	}
	err := os.Remove(f.path(orderName))
	if errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	return errors.Join(err, removeDownloads(f), removePrivate(filepath.Base(string(f)), downloadsOf(f, false), downloadsOf(f, true)))
}

// removePrivate removes what acts of a run left that were killed: files with keys and environments in them. downloads are the
// folders that the run may have had.
func removePrivate(command string, downloads ...string) error {
	var failed error
	for _, parent := range steps.PrivateParents() {
		there, err := os.ReadDir(parent)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			failed = errors.Join(failed, err)
		}
		for _, entry := range there {
			own := func(folder string) bool { return strings.HasPrefix(entry.Name(), steps.PrivatePrefix(command, folder)) }
			if slices.ContainsFunc(downloads, own) {
				failed = errors.Join(failed, os.RemoveAll(filepath.Join(parent, entry.Name())))
			}
		}
	}
	return failed
}
