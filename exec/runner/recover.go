package runner

import (
	"os"
	"time"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node/fleet"
)

// traces is what is left of a run when the agent starts.
type traces struct {
	known  bool        // the ledger says that it was started
	status exec.Status // by the ledger
	marked bool        // its folder has a start mark
	alive  bool        // its supervisor lives
	hasEnd bool        // its folder says how it ended
	goesOn bool        // its journal says that nothing of it is in doubt
}

// step is what to do about a run when the agent starts.
type step int

const (
	leave  step = iota // nothing: it has ended and that is recorded
	remove             // the start was never recorded, nothing ran: forget the folder
	follow             // its supervisor lives, or another one can go on
	settle             // it ended while no agent looked
	giveUp             // nobody can say how it ended
)

// next decides about a run by its traces. adopt says that the ledger lost its start (its last record was damaged) and
// the folder bears witness.
func (t traces) next() (do step, adopt bool) {
	adopt = !t.known && (t.marked || t.alive)
	switch {
	case !t.known && !adopt:
		return remove, false
	case t.known && t.status.Final():
		return leave, false
	case t.hasEnd:
		return settle, adopt
	case t.alive:
		return follow, adopt
	case t.known && t.status == exec.Unknown:
		return leave, false
	case t.goesOn:
		return follow, adopt
	}
	return giveUp, adopt
}

// recover takes up every run that the ledger or a folder knows of.
func (r *Runner) recover(found []fleet.UUID) {
	seen := map[fleet.UUID]bool{}
	for _, command := range found {
		seen[command] = true
		r.takeUp(command)
	}
	for _, s := range r.Ledger().Since(time.Time{}) {
		if !seen[s.Command] && s.Status() == exec.InProgress {
			r.takeUp(s.Command)
		}
	}
	r.prune()
}

func (r *Runner) takeUp(command fleet.UUID) {
	dir := r.folder(command)
	s, _ := r.Ledger().Get(command)
	t := traces{known: s.Started != nil, status: s.Status(), marked: dir.hasStart(), alive: dir.alive()}
	note, err := dir.end()
	t.hasEnd = err == nil && fleet.UUID(note.Command) == command
	if !t.hasEnd && !t.alive {
		_, t.goesOn = r.resumable(command, dir)
	}
	do, adopt := t.next()
	if adopt && !r.adopt(command, dir) {
		return
	}
	run := newRun(command)
	run.cancelled = s.Cancelled != nil
	switch do {
	case leave:
	case remove:
		if err := os.RemoveAll(string(dir)); err != nil {
			r.cfg.Log.Warn("cannot remove a run folder", "command", command.String(), "err", err)
		}
	case follow:
		select {
		case r.slots <- struct{}{}:
			run.slot = true
		default: // more run than may start now: the limit holds for new ones
		}
		r.register(run)
		r.wg.Go(func() { r.follow(run) })
	case settle:
		r.end(run, note.record())
	case giveUp:
		r.lost(run, dir, err)
	}
}

// adopt records a start that only the run's folder remembers.
func (r *Runner) adopt(command fleet.UUID, dir folder) bool {
	mark, err := dir.start()
	if err != nil || fleet.UUID(mark.Command) != command {
		mark = startMark{Command: command}
	}
	err = r.journal.append(mark.record(r.cfg.Now()))
	if err != nil {
		r.cfg.Log.Error("a run has a start mark that the ledger cannot take", "command", command.String(), "err", err)
		return false
	}
	r.cfg.Log.Warn("the ledger had lost a start; its run folder bears witness", "command", command.String())
	return true
}
