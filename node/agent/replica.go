package agent

import (
	"io"
	"slices"
	"sync/atomic"

	"github.com/muster-fleet/muster/consensus"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

// Replica is the agreed state on a server, as the quorum's machine.
type Replica struct {
	state    atomic.Pointer[consensus.State]
	grown    chan struct{}                 // the state moved
	followed atomic.Pointer[following]     // raft may apply before the agent runs
	restored atomic.Uint64                 // how often the state was replaced
	watched  atomic.Pointer[chan struct{}] // closed when parameters have changed; nil: nobody waits
	halted   atomic.Pointer[error]         // why it takes nothing more; nil: it does
	readied  readied
}

// following is who hears what the replica takes, in order, as it takes it.
type following struct {
	committed func(c *consensus.Command, cancel []auth.Envelope) // a command was taken; or cancelled, by none or one
	paced     func(c *consensus.Command)                         // a paced command is new, or its rollout went on
}

// NewReplica makes the state of a fleet that was not founded yet.
func NewReplica() *Replica {
	r := &Replica{grown: make(chan struct{}, 1)}
	s := consensus.NewState()
	r.state.Store(&s)
	return r
}

// State returns the state, an immutable value.
func (r *Replica) State() consensus.State { return *r.state.Load() }

// Apply takes one committed item. The quorum calls it in order, from one goroutine.
func (r *Replica) Apply(index uint64, item []byte) any { return r.ApplyBatch(index, [][]byte{item})[0] }

// follow tells what an entry changed.
func (r *Replica) follow(e consensus.Entry, before, after consensus.State) {
	to := r.followed.Load()
	if to == nil {
		return
	}
	switch e := e.(type) {
	case consensus.PutCommand:
		c := after.Commands(1)[0]
		to.committed(c, nil)
		changed(before, after, c.ID(), to.paced)
	case consensus.PutCancel:
		if c := after.Commands(1)[0]; c.Act == after.Act && after.Act != before.Act {
			to.committed(c, []auth.Envelope{e.Statement})
			changed(before, after, c.ID(), to.paced)
		}
	case consensus.PutGrants:
		changed(before, after, e.Command, to.paced)
	case consensus.PutEndings:
		changed(before, after, e.Command, to.paced)
	case consensus.PutAct, consensus.PutToken, consensus.DeleteToken, consensus.PutRequest, consensus.PutDocument, consensus.ChangeDocument,
		consensus.PutParams, consensus.ParamsDue, consensus.SetLevel:
	}
}

// changed tells of a paced command that is another than before, and of those that it is linked with: what became of one
// may let the others go on.
func changed(before, after consensus.State, id fleet.UUID, tell func(*consensus.Command)) {
	c, ok := after.Command(id)
	if !ok {
		return
	}
	linked := []fleet.UUID{id}
	if main, ok := after.Command(c.Body.After.Command); ok && !c.Body.After.IsZero() {
		c, linked = main, append(linked, main.ID())
	}
	linked = append(linked, c.Body.Pace.Gates...)
	if on := c.Body.Pace.OnStop; !on.IsZero() {
		linked = append(linked, on)
	}
	for i, id := range linked {
		now, ok := after.Command(id)
		if was, had := before.Command(id); !ok || had && was == now || slices.Contains(linked[:i], id) || !now.Body.Pace.Limited {
			continue
		}
		tell(now)
	}
}

func (r *Replica) tell() {
	select {
	case r.grown <- struct{}{}:
	default:
	}
}

// paramsMoved returns a channel that is closed when parameters have changed after the call.
func (r *Replica) paramsMoved() <-chan struct{} {
	fresh := make(chan struct{})
	for {
		if now := r.watched.Load(); now != nil {
			return *now
		}
		if r.watched.CompareAndSwap(nil, &fresh) {
			return fresh
		}
	}
}

// tellWatches wakes those who wait for parameters. Where nobody does it costs nothing.
func (r *Replica) tellWatches() {
	if now := r.watched.Swap(nil); now != nil {
		close(*now)
	}
}

// Snapshot returns an immutable picture of the state.
func (r *Replica) Snapshot() func(io.Writer) error { return r.State().WriteSnapshot }

// Halted returns why the replica takes nothing more, or nil: an item came that only a newer version understands. It holds
// the state before that item from then on, and goes on when a newer program opens it, or when it is restored from a snapshot
// that this one can read.
func (r *Replica) Halted() error {
	if why := r.halted.Load(); why != nil {
		return *why
	}
	return nil
}

// Restore replaces the state.
func (r *Replica) Restore(in io.Reader) error {
	s, err := consensus.ReadSnapshot(in)
	if err != nil {
		return err
	}
	r.halted.Store(nil)
	r.state.Store(&s)
	r.restored.Add(1)
	r.tell()
	r.tellWatches()
	return nil
}
