package runner

import (
	"errors"

	"github.com/muster-fleet/muster/exec/steps"
	"github.com/muster-fleet/muster/node/fleet"
)

// maxTries bounds how many supervisors in a row may go on with a run without making a single entry in its journal.
const maxTries = 3

// resumable reports whether a run without a supervisor and without an end can go on, and with what.
func (r *Runner) resumable(command fleet.UUID, dir folder) (steps.Move, bool) {
	_, g, err := dir.progress(command)
	if err != nil {
		return nil, false
	}
	if _, err := dir.order(); err != nil {
		return nil, false
	}
	move := g.Next(r.boot)
	_, doubt := move.(steps.Doubt)
	return move, !doubt
}

// goOn decides what becomes of a run whose supervisor is gone without an end, and reports whether that is its end here.
func (r *Runner) goOn(run *run, dir folder, why error) (over bool) {
	move, ok := r.resumable(run.command, dir)
	if !ok {
		r.lost(run, dir, why)
		return true
	}
	run.stepwise = true
	var stop steps.Stopped
	_, waits := move.(steps.Reboot)
	_, done := move.(steps.Done)
	switch {
	case r.cfg.Idle != "" && !done:
		stop = steps.Stopped{Status: steps.Failed, Why: r.cfg.Idle}
	case waits:
		if stop, ok = r.awaitReboot(run); !ok {
			return true
		}
	case r.isCancelled(run):
		stop = steps.Stopped{Status: steps.Cancelled, Why: "the run was cancelled"}
	}
	secrets, stop, ok := r.openAgain(run, dir, stop)
	if !ok {
		return true
	}
	defer wipe(secrets)
	if err := r.relaunch(run, dir, stop, secrets); err != nil {
		r.cfg.Log.Error("a run cannot go on", "command", run.command.String(), "err", err)
		r.lost(run, dir, err)
		return true
	}
	return false
}

// relaunch starts a supervisor that goes on with a run.
func (r *Runner) relaunch(run *run, dir folder, stop steps.Stopped, secrets [][]byte) error {
	read, _, err := dir.progress(run.command)
	if err != nil {
		return err
	}
	if len(read.Entries) != run.entries {
		run.entries, run.tries = len(read.Entries), 0
	}
	if run.tries++; run.tries > maxTries {
		return fleet.Errorf(fleet.Internal, "%d supervisors in a row died between its steps", maxTries)
	}
	o, err := dir.order()
	if err != nil {
		return err
	}
	if fleet.UUID(o.Command) != run.command {
		return fleet.Errorf(fleet.Invalid, "the order in %s is of another command", string(dir))
	}
	p, err := dir.prepareAgain()
	if errors.Is(err, errAlive) {
		return nil
	}
	if err != nil {
		return err
	}
	defer p.Close()
	o.BootID, o.Resume, o.Stop, o.StopWhy, o.Act = r.boot, true, string(stop.Status), stop.Why, r.cfg.Act
	o.Opened = len(secrets) > 0
	r.cfg.Log.Info("a run goes on", "command", run.command.String(), "stop", o.Stop)
	return r.launch(dir, p, o, secrets)
}
