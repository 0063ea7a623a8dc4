package runner

import (
	"cmp"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node/fleet"

	"github.com/muster-fleet/muster/exec/cage"
)

// retention says which ended runs keep their folders.
type retention struct {
	keep  time.Duration // after their end
	runs  int           // at most, the newest
	bytes int64         // at most, of all folders together, those of runs in progress included
}

// outdated picks the runs whose folders may go: ended longer than keep ago, beyond the newest runs, or the oldest while
// all folders together take more than the bytes. sizes are what each folder takes.
func (k retention) outdated(states []exec.State, sizes map[fleet.UUID]int64, now time.Time) []fleet.UUID {
	var ended []exec.State
	for _, s := range states {
		if s.Ended != nil {
			ended = append(ended, s)
		}
	}
	slices.SortStableFunc(ended, func(a, b exec.State) int { return b.Ended.Time.Compare(a.Ended.Time) })
	var total int64
	for _, size := range sizes {
		total += size
	}
	var out []fleet.UUID
	for i := len(ended) - 1; i >= 0; i-- { // the oldest first
		s := ended[i]
		if i < k.runs && now.Sub(s.Ended.Time) <= k.keep && total <= k.bytes {
			continue
		}
		total -= sizes[s.Command]
		out = append(out, s.Command)
	}
	return out
}

// DiskUsage is what run folders take on the disk.
type DiskUsage struct {
	Path   string
	Runs   int   // folders
	Bytes  int64 // that they take
	Bound  int64 // above which the oldest ended runs' folders go; what runs in progress write may exceed it
	Ledger int64 // bytes of the ledger and its spare
}

// Usage counts what runs take on this host's disk.
func (r *Runner) Usage() DiskUsage {
	u := DiskUsage{Path: r.runs.Name(), Bound: r.bound.Load()}
	for _, size := range r.sizes() {
		u.Runs++
		u.Bytes += size
	}
	for _, name := range []string{ledgerName, spareName} {
		u.Ledger += sizeOf(filepath.Join(r.cfg.Dir, name))
	}
	return u
}

// KeepBytes changes how much the folders of all runs may take before those of the oldest ended runs go; 0 is
// DefaultKeepBytes.
func (r *Runner) KeepBytes(n int64) {
	r.bound.Store(cmp.Or(n, DefaultKeepBytes))
	r.roomNeeded(0)
}

// sizes counts every run folder.
func (r *Runner) sizes() map[fleet.UUID]int64 {
	entries, err := os.ReadDir(r.runs.Name())
	if err != nil {
		r.cfg.Log.Warn("cannot list the run folders", "err", err)
	}
	out := map[fleet.UUID]int64{}
	for _, e := range entries {
		if command, err := fleet.ParseUUID(e.Name()); err == nil {
			out[command] = sizeOf(string(r.folder(command)))
		}
	}
	return out
}

// sizeOf counts the bytes of a file, or of all files below a folder. What vanishes meanwhile counts nothing.
func sizeOf(path string) int64 {
	var total int64
	_ = filepath.WalkDir(path, func(_ string, e os.DirEntry, err error) error {
		if err != nil {
			return nil
		}
		if info, err := e.Info(); err == nil && info.Mode().IsRegular() {
			total += info.Size()
		}
		return nil
	})
	return total
}

// prune removes folders that are no longer kept, and those of commands that the ledger has forgotten. A run that is
// going is in the ledger without an end, and stays.
func (r *Runner) prune() {
	sizes := r.sizes()
	drop := map[fleet.UUID]bool{}
	k := retention{r.cfg.Keep, MaxKept, r.bound.Load()}
	for _, command := range k.outdated(r.Ledger().Since(time.Time{}), sizes, r.cfg.Now()) {
		drop[command] = true
	}
	var left int64
	for command, size := range sizes {
		if !drop[command] && !r.forgotten(command) {
			left += size
			continue
		}
		dir := r.folder(command)
		cage.Remove(cage.Name(string(dir)))
		if err := dir.remove(); err != nil {
			r.cfg.Log.Warn("cannot remove a run folder", "command", command.String(), "err", err)
		}
	}
	r.kept.Store(left)
}

// remove removes all that a run left on the disk.
func (f folder) remove() error {
	if err := f.clearAfter(); err != nil {
		return err
	}
	return os.RemoveAll(string(f))
}

func (r *Runner) forgotten(command fleet.UUID) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, going := r.running[command] // about to be recorded as started
	_, known := r.ledger.Get(command)
	return !known && !going
}

// roomNeeded counts what a run leaves, and has the folders looked through when they take too much.
func (r *Runner) roomNeeded(bytes int64) {
	if r.kept.Add(bytes) <= r.bound.Load() {
		return
	}
	select {
	case r.crowd <- struct{}{}:
	default:
	}
}

func (r *Runner) pruneSometimes() {
	ticker := time.NewTicker(pruneEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			r.prune()
		case <-r.crowd:
			r.prune()
		case <-r.ctx.Done():
			return
		}
	}
}
