package quorum

import (
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/muster-fleet/muster/node/fleet"
)

// transport is raft's network transport with changes: heartbeats take no short cut (hashicorp/raft #695), nothing is
// pipelined, snapshots travel on the bulk plane, a leader with a stalled disk falls silent (#503), what followers know is
// seldom repeated, and contacts are remembered.
type transport struct {
	*raft.NetworkTransport
	bulk    *raft.NetworkTransport
	pipes   *plumbing
	timeout time.Duration // raft's heartbeat timeout
	asked   chan raft.RPC // what other servers ask, for raft
	mute    atomic.Bool
	durable func(index uint64) error // waits until our own entries up to index are; set it before raft has the transport

	mu       sync.Mutex
	since    time.Time // when this server began to lead
	contacts map[raft.ServerID]contact
	news     chan struct{} // closed and made anew by stir
}

// contact is what a leader knows of a follower.
type contact struct {
	last    time.Time // of its last answer
	asked   time.Time // when the request left that it answered last; zero before the first answer
	tip     tip       // of the last request that it accepted; a heartbeat changes the term alone
	lastLog uint64    // the newest entry it has
	matched bool      // it has accepted entries from us, so that its log is a prefix of ours
}

// newTransport makes a transport; a request may take 2.5 heartbeat timeouts, because it may wait behind a stalled write
// of the follower for some seconds.
func newTransport(pipes *plumbing, heartbeat time.Duration, log hclog.Logger) *transport {
	timeout := 5 * heartbeat / 2
	build := func(bulk bool) *raft.NetworkTransport {
		return raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
			Logger: log, Stream: newLayer(pipes, bulk), MaxPool: 3, Timeout: timeout,
			// No pipelines: when a follower refuses a pipelined request, raft 1.8.0 can stop replicating to it for ever
			// (the sender waits for the reader of responses, which has left). Batches go one at a time anyway.
			MaxRPCsInFlight: 1,
		})
	}
	return &transport{
		NetworkTransport: build(false), bulk: build(true), pipes: pipes, timeout: heartbeat, asked: make(chan raft.RPC),
		since: time.Now(), contacts: map[raft.ServerID]contact{}, news: make(chan struct{}),
		durable: func(uint64) error { return nil },
	}
}

// SetHeartbeatHandler does nothing. With a handler, heartbeats change term and state beside raft's main loop, without a
// lock, and a deposed leader can write an entry of the new term; without, they wait their turn in the main loop.
func (t *transport) SetHeartbeatHandler(func(raft.RPC)) {}

// Consumer gives raft what other servers ask, once Quorum.listen has heard it.
func (t *transport) Consumer() <-chan raft.RPC { return t.asked }

// InstallSnapshot sends a snapshot on the bulk plane.
func (t *transport) InstallSnapshot(id raft.ServerID, target raft.ServerAddress, request *raft.InstallSnapshotRequest,
	response *raft.InstallSnapshotResponse, content io.Reader,
) error {
	if err := t.speak(); err != nil {
		return err
	}
	return t.bulk.InstallSnapshot(id, target, request, response, content)
}

// AppendEntries sends entries or a heartbeat, unless the follower knows it all and has answered lately. That it has taken
// entries is said once they are durable here, too (see ahead).
func (t *transport) AppendEntries(id raft.ServerID, target raft.ServerAddress, request *raft.AppendEntriesRequest,
	response *raft.AppendEntriesResponse,
) error {
	if err := t.speak(); err != nil {
		return err
	}
	if t.rest(id, request, response) {
		return nil
	}
	if err := t.speak(); err != nil {
		return err
	}
	asked := time.Now()
	if err := t.NetworkTransport.AppendEntries(id, target, request, response); err != nil {
		return err
	}
	if n := len(request.Entries); n > 0 {
		if err := t.durable(request.Entries[n-1].Index); err != nil {
			return err
		}
	}
	t.heard(id, asked, request, response)
	return nil
}

// Close closes both planes.
func (t *transport) Close() error { return errors.Join(t.bulk.Close(), t.NetworkTransport.Close()) }

func (t *transport) speak() error {
	if t.mute.Load() {
		return fleet.Errorf(fleet.Unavailable, "the disk is stalled; another server must lead")
	}
	return nil
}

// silence stops or lets a leader speak to its followers. Raft's main loop hangs in a stalled write, so it cannot be
// asked to step down; but followers that hear nothing elect another, and it steps down once it wakes.
func (t *transport) silence(mute bool) (changed bool) {
	changed = t.mute.Swap(mute) != mute
	if mute && changed {
		t.pipes.hangUp(func(s *stream) bool { return !s.accepted })
	}
	return changed
}

// lead forgets contacts of an earlier term: silence counts from now.
func (t *transport) lead(now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.since, t.contacts = now, map[raft.ServerID]contact{}
}

// added counts a server's silence from now.
func (t *transport) added(id raft.ServerID, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, found := t.contacts[id]; !found {
		t.contacts[id] = contact{last: now}
	}
}

func (t *transport) heard(id raft.ServerID, asked time.Time, request *raft.AppendEntriesRequest, response *raft.AppendEntriesResponse) {
	t.mu.Lock()
	defer t.mu.Unlock()
	known := t.contacts[id]
	known.last, known.asked = time.Now(), asked
	known.lastLog = response.LastLog
	switch {
	case !response.Success:
		known.tip = tip{}
	case isHeartbeat(request): // it carries nothing and is accepted by any log
		if known.tip.term != request.Term {
			known.tip = tip{term: request.Term}
		}
	default:
		known.tip, known.matched = tipOf(request), true
	}
	t.contacts[id] = known
}

func (t *transport) contact(id raft.ServerID) contact {
	t.mu.Lock()
	defer t.mu.Unlock()
	known, found := t.contacts[id]
	if !found {
		known.last = t.since
	}
	return known
}
