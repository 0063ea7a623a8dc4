package host

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/muster-fleet/muster/consensus/quorum"
	"github.com/muster-fleet/muster/node/agent"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/transport"
)

// raftStreams lets the quorum speak over the transport.
type raftStreams struct{ end *transport.Endpoint }

func (r raftStreams) Open(ctx context.Context, id fleet.ID, bulk bool) (net.Conn, error) {
	plane := transport.Raft
	if bulk {
		plane = transport.RaftBulk
	}
	return r.end.Open(ctx, id, plane)
}

// replicas lets the agent use the quorum.
type replicas struct {
	quorum *quorum.Quorum
	self   fleet.ID
	now    func() time.Time

	mu      sync.Mutex
	demoted time.Time // when a lost voter was last demoted
}

func (r *replicas) Propose(ctx context.Context, item []byte) (any, error) {
	v, err := r.quorum.Propose(ctx, item)
	return v, r.said(err)
}

// Age says how long what this replica has may lag behind what was agreed; false when nobody can say.
func (r *replicas) Age() (time.Duration, bool) { return r.quorum.Age() }

// lookAtRole is how often a host looks whether the record still gives it the role that it was started in.
const lookAtRole = time.Second

// awaitRole reports, as soon as it is so, that the record gives this host another role than it was started in; false
// when ctx ended before.
func (h *Host) awaitRole(ctx context.Context) bool {
	look := time.NewTicker(lookAtRole)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-look.C:
			if h.roleChanged() {
				if h.outbound {
					h.setFree(true)
				}
				return true
			}
		}
	}
}

// roleChanged is false for a server that is none any more as long as the others count on its replica. Who is outbound-only
// is no server, whatever its operators allow.
func (h *Host) roleChanged() bool {
	record := h.Agent.Record()
	self, known := record.Roster.Node(h.ID)
	switch {
	case !known || self.Removed != 0 || h.idle != "":
		return false
	case h.quorum == nil:
		return self.Server && !h.outbound
	}
	return (!self.Server || h.outbound) && !h.Agent.CountedOn()
}

func (r *replicas) Read(ctx context.Context) error { return r.said(r.quorum.Read(ctx)) }

// said turns the quorum's errors into those that the agent knows.
func (r *replicas) said(err error) error {
	if lead, ok := errors.AsType[quorum.ErrNotLeader](err); ok {
		return agent.NotLeader{Leader: lead.Leader}
	}
	return err
}

func (r *replicas) Status() agent.Replication {
	s := r.quorum.Status()
	out := agent.Replication{Leader: s.Leader, Leading: s.State == quorum.Leading, Term: s.Term, Trouble: s.Restarted}
	if s.Stalled {
		out.Trouble = "this server's disk hangs: it does not lead until it answers"
	}
	out.Voters, out.Spares = ids(s.Voters), ids(s.Spares)
	out.Member = slices.Contains(out.Voters, r.self) || slices.Contains(out.Spares, r.self)
	return out
}

func ids(servers []quorum.Server) []fleet.ID {
	var out []fleet.ID
	for _, s := range servers {
		out = append(out, s.ID)
	}
	return out
}

func (r *replicas) ConfirmTerm(incarnation, term uint64) error {
	return r.quorum.ConfirmTerm(incarnation, term)
}

func (r *replicas) Incarnation() uint64 { return r.quorum.Incarnation() }

func (r *replicas) Changed() <-chan struct{} { return r.quorum.Changes() }

func (r *replicas) Bootstrap() error { return r.quorum.Bootstrap() }

func (r *replicas) StepDown(ctx context.Context) error {
	return r.said(r.quorum.TransferLeadership(ctx))
}

func (r *replicas) Tend(ctx context.Context, nodes int, servers []agent.Candidate) (string, error) {
	in := r.quorum.Status().Inputs()
	in.Now, in.Nodes = r.now(), nodes
	r.mu.Lock()
	in.Demoted = r.demoted
	r.mu.Unlock()
	for _, c := range servers {
		in.Servers = append(in.Servers, quorum.Candidate{ID: c.ID, Incarnation: c.Incarnation, Alive: c.Alive, Zone: c.Zone, Drained: c.Drained})
	}
	if quorum.Relieved(in) {
		return "gives up the lead: this node is drained", r.StepDown(ctx)
	}
	change, why := quorum.NextChange(in)
	if change.Do == quorum.Keep {
		return "", nil
	}
	if err := r.quorum.Change(ctx, change); err != nil {
		return "", r.said(err)
	}
	if change.Do == quorum.Demote {
		r.mu.Lock()
		r.demoted = in.Now
		r.mu.Unlock()
	}
	return fmt.Sprintf("%s %s: %s", change.Do, change.Replica, why), nil
}
