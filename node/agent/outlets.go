package agent

import (
	"cmp"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

// Outlets copies full output to where it shall be kept besides.
type Outlets interface {
	// Expect keeps, synced, that the output of a run that is about to start is to be copied.
	Expect(command fleet.UUID, to string) error
	// Ready says that the run has ended. It never waits, and does nothing for a run that is not expected any more.
	Ready(command fleet.UUID)
	// Expected lists the runs that were never said to have ended.
	Expected() []fleet.UUID
}

// outputTo is where a run's full output goes besides: what the command says, else what the fleet's setting says; empty:
// nowhere.
func outputTo(cmd exec.Command, settings auth.Settings) string {
	return cmp.Or(cmd.OutputTo, settings.OutputTo())
}

// expectCopy notes, before a run starts, where its output is to go, so that a crash at any later moment does not lose the
// copy. A disk that does not take the note costs the copy, not the run.
func (a *Agent) expectCopy(cmd exec.Command) {
	to := outputTo(cmd, a.record().Settings)
	switch {
	case to == "":
	case a.outlets == nil:
		a.CopyTold(cmd.Header.ID, to, fleet.Errorf(fleet.Unavailable, "%s copies no output", a.cfg.Name))
	default:
		if err := a.outlets.Expect(cmd.Header.ID, to); err != nil {
			a.CopyTold(cmd.Header.ID, to, err)
		}
	}
}

// readyCopy notices the end of a run. A run of which nobody saw the end has output as well.
func (a *Agent) readyCopy(ev node.Event) {
	ended, ok := ev.(node.RunEnded)
	if ok && ended.Started != 0 && a.outlets != nil {
		a.outlets.Ready(ended.Command)
	}
}

// recallCopies finds the runs whose end came to nobody's ears: this host was down for longer than the ledger's ends are told
// again.
func (a *Agent) recallCopies() {
	if a.outlets == nil {
		return
	}
	for _, command := range a.outlets.Expected() {
		output, err := a.runner.OpenOutput(command, exec.StdoutName)
		if fleet.KindOf(err) == fleet.Expired { // it ended long ago: the copy has to be given up
			a.outlets.Ready(command)
		}
		if err != nil {
			continue // it may start yet
		}
		if _, ended := output.Sum(); ended {
			a.outlets.Ready(command)
		}
		a.complain("close an output", output.Close())
	}
}

// CopyTold notes what became of a copy; err is nil when it is complete.
func (a *Agent) CopyTold(command fleet.UUID, to string, err error) {
	d := exec.Decision{At: a.now().UnixMilli(), What: exec.DecidedOutput, Detail: "copied to " + to}
	if err != nil {
		d.Detail = "could not be copied to " + to + ": " + err.Error()
		a.log.Warn("the full output of a command could not be copied; it is still kept here", "command", command, "to", to, "err", err)
	}
	if a.decisions != nil {
		a.decisions.Put(command, d)
	}
}
