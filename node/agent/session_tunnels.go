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
	// endedTunnels is how many are remembered when they have ended, where no disk does it. Those whose statement could be used
	// again are, in any case; with so many of them no other is opened.
	endedTunnels = 1_000
)

// tunnelLost is the exit code of a tunnel that nobody ended: whoever comes back may open another in its place.
const tunnelLost = -1

// tunnels are the sessions of kind SessionForward that live, and those that have ended where no disk keeps them. Nothing runs
// in them, so the agent serves them itself: after a restart of the agent the operator's end opens another one. All methods are
// safe for concurrent use.
type tunnels struct {
	mu     sync.Mutex
	live   map[fleet.UUID]*tunnel
	past   map[fleet.UUID]node.SessionState // that have ended, and are not on the disk yet
	ended  []node.SessionState              // that never will be; oldest first
	dials  int
	closed bool           // the agent stops
	ending sync.WaitGroup // those of past
}

// tunnel is one of them.
type tunnel struct {
	state   node.SessionState // as opened
	grace   time.Duration     // that it is kept while nobody is connected
	keep    tunnelKeeper      // nil: no disk
	ears    []*ear            // where it listens
	in, out atomic.Int64      // bytes from and to the operator
	active  atomic.Int64      // Unix milliseconds of the last connection that began or ended
	over    context.Context   // ends with the tunnel; its cause is what is said then
	end     context.CancelCauseFunc
	conns   sync.WaitGroup // connections that are not recorded yet

	held   int         // streams of the operator
	dials  int         // of them, connections
	alone  *time.Timer // runs while nobody is connected
	most   *time.Timer
	count  int64 // connections so far
	recent []node.SessionConnection
}

// tunnelKeeper keeps on the disk what becomes of tunnels, and tells of their ends; see Sessions.
type tunnelKeeper interface {
	TunnelConnection(id fleet.UUID, c node.SessionConnection)
	EndTunnel(state node.SessionState)
}

// open begins a tunnel, which the disk has already if keep is not nil. It ends at its time, or when nobody was connected for the
// grace. Then its listeners are closed at once; and when its connections have ended as well, that is kept, or else ended called.
func (t *tunnels) open(o node.SessionOrder, ears []*ear, keep tunnelKeeper, now func() time.Time, ended func(node.SessionState)) (*tunnel, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.forget(now())
	switch {
	case t.closed:
		return nil, fleet.Errorf(fleet.Unavailable, "this agent is stopping")
	case len(t.ended) >= endedTunnels:
		return nil, fleet.Errorf(fleet.Exhausted, "too many sessions were opened here within a few minutes").Hinted("try again in a quarter of an hour")
	}
	if t.live == nil {
		t.live, t.past = map[fleet.UUID]*tunnel{}, map[fleet.UUID]node.SessionState{}
	}
	x := &tunnel{state: o.State(), grace: time.Duration(o.Grace) * time.Millisecond, keep: keep, ears: ears}
	for _, e := range ears {
		x.state.Listening = append(x.state.Listening, e.addr)
	}
	x.active.Store(o.Opened)
	x.over, x.end = context.WithCancelCause(context.Background())
	t.ending.Add(1)
	context.AfterFunc(x.over, func() {
		defer t.ending.Done()
		x.conns.Wait()
		t.settle(x, ended)
	})
	x.most = time.AfterFunc(time.Duration(o.Most)*time.Millisecond, func() {
		t.finish(o.ID, "its time is over", now())
	})
	x.alone = time.AfterFunc(x.grace, func() {
		t.abandon(x, now())
	})
	t.live[o.ID] = x
	return x, nil
}

// forget drops the oldest of what is remembered, as far as it is no more than a memory.
func (t *tunnels) forget(now time.Time) {
	for over := len(t.ended) - endedTunnels + 1; over > 0; over-- {
		i := slices.IndexFunc(t.ended, func(s node.SessionState) bool { return s.Expires < now.Add(-time.Hour).UnixMilli() })
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
	if x == nil {
		return nil, t.gone(id)
	}
	if dial {
		if err := t.begin(x, now); err != nil {
			return nil, err
		}
	}
	x.held++
	x.alone.Stop()
	return x, nil
}

// begin counts one connection more, with the lock.
func (t *tunnels) begin(x *tunnel, now time.Time) error {
	switch {
	case x.dials >= maxTunnelDials:
		return fleet.Errorf(fleet.Exhausted, "session %s has %d connections open, the limit", x.state.ID, x.dials)
	case t.dials >= maxAllDials:
		return fleet.Errorf(fleet.Exhausted, "this node has %d connections of tunnels open, the limit", t.dials)
	}
	x.dials++
	x.count++
	t.dials++
	x.conns.Add(1)
	x.active.Store(now.UnixMilli())
	return nil
}

// connects makes a connection of what was held without one.
func (t *tunnels) connects(x *tunnel, now time.Time) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if x.over.Err() != nil {
		return context.Cause(x.over)
	}
	return t.begin(x, now)
}

// unconnect undoes connects: there was no connection after all.
func (t *tunnels) unconnect(x *tunnel) {
	t.mu.Lock()
	defer t.mu.Unlock()
	x.dials--
	x.count--
	t.dials--
	x.conns.Done()
}

// record keeps what became of a connection.
func (t *tunnels) record(x *tunnel, c node.SessionConnection) {
	t.mu.Lock()
	x.recent = append(x.recent, c)
	x.recent = slices.Clone(x.recent[max(len(x.recent)-node.MaxRecentConnections, 0):])
	t.mu.Unlock()
	if x.keep != nil {
		x.keep.TunnelConnection(x.state.ID, c)
	}
}

// gone says what became of a tunnel that does not live, with the lock.
func (t *tunnels) gone(id fleet.UUID) error {
	if s, ok := t.past[id]; ok {
		return endedError(s)
	}
	for _, s := range t.ended {
		if s.ID == id {
			return endedError(s)
		}
	}
	return node.NoSession(id)
}

// endedError says that a tunnel has ended. One that nobody ended is as unknown as one that never was: whoever comes back opens
// another.
func endedError(s node.SessionState) error {
	if s.Code == tunnelLost {
		return node.NoSession(s.ID)
	}
	return fleet.Errorf(fleet.Expired, "session %s has ended: %s", s.ID, s.Why)
}

// release undoes hold.
func (t *tunnels) release(x *tunnel, dial bool, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if dial {
		x.dials--
		t.dials--
		x.conns.Done()
		x.active.Store(now.UnixMilli())
	}
	if x.held--; x.held == 0 && x.over.Err() == nil {
		x.alone.Reset(x.grace)
	}
}

// finish ends a tunnel and its connections for a reason, if it lives.
func (t *tunnels) finish(id fleet.UUID, why string, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if x := t.live[id]; x != nil {
		s := x.now()
		s.Why = why
		t.stop(x, s, endedError(s), now)
	}
}

// abandon ends a tunnel to which nobody is connected.
func (t *tunnels) abandon(x *tunnel, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.live[x.state.ID] == x && x.held == 0 {
		s := x.now()
		s.Why, s.Code = "nobody was connected for "+x.grace.String(), tunnelLost
		t.stop(x, s, endedError(s), now)
	}
}

// stop ends a tunnel, with the lock; says is what its streams are told.
func (t *tunnels) stop(x *tunnel, s node.SessionState, says error, now time.Time) {
	delete(t.live, s.ID)
	x.alone.Stop()
	x.most.Stop()
	for _, e := range x.ears {
		e.close() // before anybody hears that it has ended
	}
	s.Attached, s.Listening, s.Ended = false, nil, now.UnixMilli()
	t.past[s.ID] = s
	x.end(says)
}

// settle keeps the end of a tunnel whose connections have ended.
func (t *tunnels) settle(x *tunnel, ended func(node.SessionState)) {
	t.mu.Lock()
	s := t.past[x.state.ID]
	s.In, s.Out, s.Dials, s.Recent = x.in.Load(), x.out.Load(), x.count, x.recent
	t.past[s.ID] = s
	if x.keep == nil {
		t.ended = append(t.ended, s)
		delete(t.past, s.ID)
		t.mu.Unlock()
		ended(s)
		return
	}
	t.mu.Unlock()
	x.keep.EndTunnel(s)
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.past, s.ID)
}

// now returns the state of a tunnel as it is, with the lock.
func (x *tunnel) now() node.SessionState {
	s := x.state
	s.In, s.Out, s.Active, s.Attached = x.in.Load(), x.out.Load(), x.active.Load(), x.held > 0
	s.Dials, s.Recent = x.count, x.recent
	return s
}

func (t *tunnels) find(id fleet.UUID) (node.SessionState, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if x := t.live[id]; x != nil {
		return x.now(), true
	}
	if s, ok := t.past[id]; ok {
		return s, true
	}
	for _, s := range t.ended {
		if s.ID == id {
			return s, true
		}
	}
	return node.SessionState{}, false
}

func (t *tunnels) list() []node.SessionState {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := make([]node.SessionState, 0, len(t.live)+len(t.past)+len(t.ended))
	for _, x := range t.live {
		out = append(out, x.now())
	}
	for _, s := range t.past {
		out = append(out, s)
	}
	out = append(out, t.ended...)
	slices.SortFunc(out, func(a, b node.SessionState) int { return cmp.Compare(b.Started, a.Started) })
	return out
}

// close ends them all, because the agent stops, and returns when that is kept. Whoever comes back to the next agent opens
// another.
func (t *tunnels) close(now time.Time) {
	t.mu.Lock()
	t.closed = true
	for _, x := range t.live {
		s := x.now()
		s.Why, s.Code = "the agent stopped", tunnelLost
		t.stop(x, s, fleet.Errorf(fleet.Unavailable, "the agent of this node stops"), now)
	}
	t.mu.Unlock()
	t.ending.Wait()
}
