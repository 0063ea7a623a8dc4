package runner

import (
	"path/filepath"

	"github.com/muster-fleet/muster/exec"
)

// Stats are what this host's runs come to, from memory but for the size of the ledger.
type Stats struct {
	Running, Queued, Capacity int
	Started                   uint64                 // since Open
	Ended                     map[exec.Status]uint64 // likewise; refusals among them
	Bytes, Bound              int64                  // that run folders take by the last count and by what ended since, and may take
	Ledger                    int64                  // bytes of the ledger and its spare
}

// Stats returns how runs stand now.
func (r *Runner) Stats() Stats {
	s := Stats{
		Running: len(r.slots), Queued: int(r.queued.Load()), Capacity: cap(r.slots), Bytes: r.kept.Load(), Bound: r.bound.Load(),
		Ended: map[exec.Status]uint64{},
	}
	for _, name := range []string{ledgerName, spareName} {
		s.Ledger += sizeOf(filepath.Join(r.cfg.Dir, name))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	s.Started = r.counted.started
	for status, n := range r.counted.ended {
		s.Ended[status] = n
	}
	return s
}

// counted is what the ledger was told since Open, for Stats.
type counted struct {
	started uint64
	ended   map[exec.Status]uint64 // nil until the first
}

func (c *counted) take(record exec.Record) {
	var as exec.Status
	switch record := record.(type) {
	case exec.StartedRecord:
		c.started++
		return
	case exec.EndedRecord:
		as = record.Status
	case exec.RefusedRecord:
		if as = record.Status; as == "" {
			as = exec.Refused
		}
	case exec.CancelledRecord:
		return
	}
	if c.ended == nil {
		c.ended = map[exec.Status]uint64{}
	}
	c.ended[as]++
}
