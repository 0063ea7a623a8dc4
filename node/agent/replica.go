package agent

import (
	"io"
	"sync/atomic"

	"github.com/muster-fleet/muster/consensus"
)

// Replica is the agreed state on a server, as the quorum's machine.
type Replica struct {
	state     atomic.Pointer[consensus.State]
	grown     chan struct{}                            // the state moved
	committed atomic.Pointer[func(*consensus.Command)] // raft may apply before the agent runs
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
func (r *Replica) Apply(_ uint64, item []byte) any {
	entry, now, err := consensus.Decode(item)
	if err != nil {
		return consensus.Refuse(err)
	}
	before := r.State()
	next, result := before.Apply(entry, now)
	r.state.Store(&next)
	r.tell()
	if result.Why == "" && next.Act != before.Act {
		r.ring(entry, next)
	}
	return result
}

// ring tells the leader's loop of a command that was just taken or cancelled.
func (r *Replica) ring(e consensus.Entry, s consensus.State) {
	committed := r.committed.Load()
	if committed == nil {
		return
	}
	if _, ok := e.(consensus.PutCommand); ok {
		(*committed)(s.Commands(1)[0])
	}
	if _, ok := e.(consensus.PutCancel); ok {
		if c := s.Commands(1)[0]; c.Cancel != nil && c.Act == s.Act {
			(*committed)(c)
		}
	}
}

func (r *Replica) tell() {
	select {
	case r.grown <- struct{}{}:
	default:
	}
}

// Snapshot returns an immutable picture of the state.
func (r *Replica) Snapshot() func(io.Writer) error { return r.State().WriteSnapshot }

// Restore replaces the state.
func (r *Replica) Restore(in io.Reader) error {
	s, err := consensus.ReadSnapshot(in)
	if err != nil {
		return err
	}
	r.state.Store(&s)
	r.tell()
	return nil
}
