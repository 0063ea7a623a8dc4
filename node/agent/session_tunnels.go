package agent

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/fleet"
)

// Limits of tunnels.
const (
	maxTunnelDials = 256   // connections of one session at a time
	maxAllDials    = 1_024 // of all sessions: each takes a descriptor of the agent
	// endedTunnels is how many are remembered when they have ended. Those whose statement could be used again are, in any
	// case; with so many of them no other is opened.
	endedTunnels = 1_000
)

// tunnels are the sessions of kind SessionForward. Nothing runs in them, so the agent keeps them itself, in memory: after a
// restart of the agent the operator opens another one. All methods are safe for concurrent use.
type tunnels struct {
	mu    sync.Mutex
	live  map[fleet.UUID]*tunnel
	ended []endedTunnel // oldest first
	dials int
}

// tunnel is one of them.
type tunnel struct {
	state   node.SessionState // as opened
	grace   time.Duration     // that it is kept while nobody is connected
	in, out atomic.Int64      // bytes from and to the operator
	active  atomic.Int64      // Unix milliseconds of the last connection that began or ended
	over    context.Context   // ends with the tunnel; its cause is what is said then
	end     context.CancelCauseFunc

	held  int         // streams of the operator
	dials int         // of them, connections
	alone *time.Timer // runs while nobody is connected
	most  *time.Timer
}

// endedTunnel is what is remembered of one.
type endedTunnel struct {
	state node.SessionState
	left  bool // nobody was connected for the grace
}

// open begins a tunnel. It ends at its time, or when nobody was connected for the grace; ended is called then.
func (t *tunnels) open(o node.SessionOrder, now func() time.Time, ended func(node.SessionState)) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.forget(now()); len(t.ended) >= endedTunnels {
		return fleet.Errorf(fleet.Exhausted, "too many sessions were opened here within a few minutes").Hinted("try again in a quarter of an hour")
	}
	if t.live == nil {
		t.live = map[fleet.UUID]*tunnel{}
	}
	x := &tunnel{state: o.State(), grace: time.Duration(o.Grace) * time.Millisecond}
	x.active.Store(o.Opened)
	x.over, x.end = context.WithCancelCause(context.Background())
	context.AfterFunc(x.over, func() {
		if s, ok := t.find(o.ID); ok {
			ended(s)
		}
	})
	x.most = time.AfterFunc(time.Duration(o.Most)*time.Millisecond, func() {
		t.finish(o.ID, "its time is over", now(), false)
	})
	x.alone = time.AfterFunc(x.grace, func() {
		t.finish(o.ID, "nobody was connected for "+x.grace.String(), now(), true)
	})
	t.live[o.ID] = x
	return nil
}

// forget drops the oldest of what is remembered, as far as it is no more than a memory.
func (t *tunnels) forget(now time.Time) {
	for over := len(t.ended) - endedTunnels + 1; over > 0; over-- {
		i := slices.IndexFunc(t.ended, func(e endedTunnel) bool { return e.state.Expires < now.Add(-time.Hour).UnixMilli() })
		if i < 0 {
			return
		}
		t.ended = slices.Delete(t.ended, i, i+1)
	}
}

// hold marks that the operator is connected, until the tunnel's release; dial: by a connection of the tunnel.
func (t *tunnels) hold(id fleet.UUID, dial bool, now time.Time) (*tunnel, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	x := t.live[id]
	switch {
	case x == nil:
		return nil, t.gone(id)
	case dial && x.dials >= maxTunnelDials:
		return nil, fleet.Errorf(fleet.Exhausted, "session %s has %d connections open, the limit", id, x.dials)
	case dial && t.dials >= maxAllDials:
		return nil, fleet.Errorf(fleet.Exhausted, "this node has %d connections of tunnels open, the limit", t.dials)
	}
	if dial {
		x.dials++
		t.dials++
		x.active.Store(now.UnixMilli())
	}
	x.held++
	x.alone.Stop()
	return x, nil
}

// gone says what became of a tunnel that does not live. One that was given up is as unknown as one that never was: whoever
// comes back opens another.
func (t *tunnels) gone(id fleet.UUID) error {
	for _, e := range t.ended {
		if e.state.ID == id && !e.left {
			return endedError(e.state)
		}
	}
	return node.NoSession(id)
}

func endedError(s node.SessionState) error {
	return fleet.Errorf(fleet.Expired, "session %s has ended: %s", s.ID, s.Why)
}

// release undoes hold.
func (t *tunnels) release(x *tunnel, dial bool, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if dial {
		x.dials--
		t.dials--
		x.active.Store(now.UnixMilli())
	}
	if x.held--; x.held == 0 && x.over.Err() == nil {
		x.alone.Reset(x.grace)
	}
}

// finish ends a tunnel and its connections, if it lives; left: if nobody is connected, and for that reason.
func (t *tunnels) finish(id fleet.UUID, why string, now time.Time, left bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	x := t.live[id]
	if x == nil || left && x.held > 0 {
		return
	}
	delete(t.live, id)
	x.alone.Stop()
	x.most.Stop()
	s := x.now()
	s.Attached, s.Ended, s.Why = false, now.UnixMilli(), why
	t.ended = append(t.ended, endedTunnel{state: s, left: left})
	x.end(endedError(s))
}

// now returns the state of a tunnel as it is.
func (x *tunnel) now() node.SessionState {
	s := x.state
	s.In, s.Out, s.Active, s.Attached = x.in.Load(), x.out.Load(), x.active.Load(), x.held > 0
	return s
}

func (t *tunnels) find(id fleet.UUID) (node.SessionState, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if x := t.live[id]; x != nil {
		return x.now(), true
	}
	for _, e := range t.ended {
		if e.state.ID == id {
			return e.state, true
		}
	}
	return node.SessionState{}, false
}

func (t *tunnels) list() []node.SessionState {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := make([]node.SessionState, 0, len(t.live)+len(t.ended))
	for _, x := range t.live {
		out = append(out, x.now())
	}
	for _, e := range t.ended {
		out = append(out, e.state)
	}
	slices.SortFunc(out, func(a, b node.SessionState) int { return cmp.Compare(b.Started, a.Started) })
	return out
}

// close ends them all, because the agent stops.
func (t *tunnels) close(now time.Time) {
	t.mu.Lock()
	ids := make([]fleet.UUID, 0, len(t.live))
	for id := range t.live {
		ids = append(ids, id)
	}
	t.mu.Unlock()
	for _, id := range ids {
		t.finish(id, "the agent stopped", now, false)
	}
}
