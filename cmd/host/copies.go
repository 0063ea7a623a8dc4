package host

import (
	"io"
	"os"
	"path/filepath"

	"github.com/muster-fleet/muster/exec/outlet"
	"github.com/muster-fleet/muster/exec/runner"
	"github.com/muster-fleet/muster/node/agent"
	"github.com/muster-fleet/muster/node/decisions"
	"github.com/muster-fleet/muster/node/fleet"
)

// makeRecords opens what remembers for people: the decisions, and the output that leaves the host. A host without them
// still runs what it is ordered to.
func (h *Host) makeRecords(shells *agent.Shells) {
	log, err := decisions.Open(filepath.Join(h.opts.Dir, decisionsName), decisions.Options{Log: h.opts.Log})
	if err != nil {
		h.opts.Log.Warn("decisions are not kept: muster why will not know of them", "err", err)
	} else {
		h.decisions, shells.Decisions = log, log
	}
	if h.runner == nil {
		return
	}
	h.copies, err = outlet.OpenQueue(outlet.Config{
		Dir: filepath.Join(h.opts.Dir, copiesName), Node: h.Name, Options: outlet.Options{Getenv: os.Getenv}, Open: h.openOutput,
		Told: h.Agent.CopyTold, Delayed: h.Agent.CopyTold, Log: h.opts.Log,
	})
	if err != nil {
		h.opts.Log.Warn("no output is copied from here", "err", err)
		return
	}
	shells.Outlets = h.copies
}

// openOutput reads a stream of a run that has ended, for a copy.
func (h *Host) openOutput(command fleet.UUID, stream string) (io.ReadCloser, int64, error) {
	file, err := h.runner.OpenOutput(command, runner.Stream(stream))
	if err != nil {
		return nil, 0, err
	}
	sum, _ := file.Sum()
	return struct {
		io.Reader
		io.Closer
	}{io.NewSectionReader(file, 0, sum.Kept), file}, sum.Kept, nil
}
