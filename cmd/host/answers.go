package host

import (
	"context"
	"fmt"
	"net"

	"golang.org/x/sys/unix"

	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/agent"
	"github.com/muster-fleet/muster/node/api"
	"github.com/muster-fleet/muster/node/fleet"
)

// desk lets the local API ask the agent.
type desk struct {
	*agent.Agent
	host *Host
}

// fewBytes is how much room on the data folder's disk is so little that status says so: what ledger and audit set aside.
const fewBytes = 16 << 20

// Status is the agent's, with what this host's disk has to say.
func (d desk) Status(ctx context.Context) node.Status {
	s := d.Agent.Status(ctx)
	s.Agent = usage()
	s.Warnings = append(s.Warnings, d.host.configWarnings()...)
	if trouble := d.host.unmeasured.Load(); trouble != nil {
		s.Warnings = append(s.Warnings, *trouble)
	}
	if why := d.host.keeper.refusing(); why != "" {
		s.Warnings = append(s.Warnings, "the agent is over its budget: "+why+"; it takes no new sessions and nothing large (muster doctor)")
	}
	dir := d.host.opts.Dir
	var disk unix.Statfs_t
	if err := unix.Statfs(dir, &disk); err == nil {
		if left := disk.Bavail * uint64(disk.Bsize); left < fewBytes {
			s.Warnings = append(s.Warnings, fmt.Sprintf("the disk of %s has %d KiB left: when it is full, nothing can be run or kept here (df -h %s)",
				dir, left>>10, dir))
		}
	}
	return s
}

// Quorum is who keeps the state as the agent knows it, with what this host's replica has come to.
func (d desk) Quorum(ctx context.Context) node.QuorumStatus {
	q := d.Agent.Status(ctx).Quorum
	q.Level = d.Agent.LevelStatus(ctx)
	if d.host.replica != nil {
		state := d.host.replica.State()
		q.Replica = node.ReplicaStatus{Act: state.Taken, Digest: state.Digest()}
	}
	return q
}

func (d desk) Nodes(ctx context.Context) []api.Node {
	roster := d.Record().Roster
	var out []api.Node
	for _, m := range d.Agent.Nodes(ctx) {
		n := api.Node{Member: m}
		if entry, ok := roster.Node(m.ID); ok {
			n.Seq = entry.Seq
		}
		out = append(out, n)
	}
	return out
}

// Node is one of them, without what it says of itself.
func (d desk) Node(_ context.Context, text string) (api.Node, error) {
	m, err := d.Find(text)
	if err != nil {
		return api.Node{}, err
	}
	entry, ok := d.Record().Roster.Node(m.ID)
	if !ok {
		return api.Node{}, fleet.Errorf(fleet.NotFound, "node %s is not in the fleet's record (any more)", m.Name).Hinted("muster node list")
	}
	if m.ID == d.host.ID && len(m.Addrs) == 0 { // nobody has told yet where this host is, or nobody can dial it
		m.Addrs = reachable(d.host.end.LocalAddr())
	}
	return api.Node{Member: m, Seq: entry.Seq}, nil
}

// Acts is a part of this host's record.
func (d desk) Acts(ctx context.Context, from uint64) (api.Acts, error) {
	acts, length, head, err := d.Agent.Acts(ctx, from)
	return api.Acts{Length: length, Head: head, Acts: acts}, err
}

// Sessions lists those of this host.
func (d desk) Sessions(context.Context) []node.SessionState { return d.Agent.Sessions() }

// Answer serves the API on l, and to operators elsewhere, until ctx ends.
func (h *Host) Answer(ctx context.Context, l net.Listener) error {
	return api.Serve(ctx, l, desk{h.Agent, h}, api.Options{Version: h.opts.Version, Operators: h.operators, Restart: h.restart, Log: h.opts.Log})
}

// admitOperator serves the API to an operator who came over the network.
func (h *Host) admitOperator(ctx context.Context, conn net.Conn, by fleet.ID, stands func() error, large func(context.Context) (func(), bool)) error {
	return h.operators.Admit(ctx, conn, api.Operator{Key: by, Stands: stands, Large: large})
}
