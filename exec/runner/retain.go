package runner

import (
	"os"
	"slices"
	"time"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node/fleet"
)

// outdated picks the runs whose folders may go: ended longer than keep ago, or beyond the newest most. states are in the
// order of their last change.
func outdated(states []exec.State, now time.Time, keep time.Duration, most int) []fleet.UUID {
	var ended []exec.State
	for _, s := range states {
		if s.Ended != nil {
			ended = append(ended, s)
		}
	}
	slices.SortStableFunc(ended, func(a, b exec.State) int { return b.Ended.Time.Compare(a.Ended.Time) })
	var out []fleet.UUID
	for i, s := range ended {
		if i >= most || now.Sub(s.Ended.Time) > keep {
			out = append(out, s.Command)
		}
	}
	return out
}

// prune removes folders that are no longer kept, and those of commands that the ledger has forgotten. A run that is
// going is in the ledger without an end, and stays.
func (r *Runner) prune() {
	entries, err := os.ReadDir(r.runs.Name())
	if err != nil {
		r.cfg.Log.Warn("cannot list the run folders", "err", err)
		return
	}
	drop := map[fleet.UUID]bool{}
	for _, command := range outdated(r.Ledger().Since(time.Time{}), r.cfg.Now(), r.cfg.Keep, MaxKept) {
		drop[command] = true
	}
	for _, e := range entries {
		command, err := fleet.ParseUUID(e.Name())
		if err != nil || !(drop[command] || r.forgotten(command)) {
			continue
		}
		dir := r.folder(command)
		removeCgroup(cgroupName(dir))
		if err := os.RemoveAll(string(dir)); err != nil {
			r.cfg.Log.Warn("cannot remove a run folder", "command", command.String(), "err", err)
		}
	}
}

func (r *Runner) forgotten(command fleet.UUID) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, going := r.running[command] // about to be recorded as started
	_, known := r.ledger.Get(command)
	return !known && !going
}

func (r *Runner) pruneSometimes() {
	ticker := time.NewTicker(pruneEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			r.prune()
		case <-r.ctx.Done():
			return
		}
	}
}
