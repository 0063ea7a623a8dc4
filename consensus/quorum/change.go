package quorum

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/hashicorp/raft"

	"github.com/muster-fleet/muster/node/fleet"
)

// Change changes the configuration by one step, if it is still the one that the step was decided for (Conflict
// otherwise). Only the leader can. A step that takes the leader's own vote hands leadership over instead, and returns
// ErrNotLeader: the next leader will take the step.
func (q *Quorum) Change(ctx context.Context, change Change) error {
	if q.raft.State() != raft.Leader {
		return q.notLeader()
	}
	if change.Replica == q.self && (change.Do == Demote || change.Do == Remove) {
		if err := q.TransferLeadership(ctx); err != nil {
			return err
		}
		return q.notLeader()
	}
	id, at := change.Replica.serverID(), change.Replica.address()
	err := q.await(ctx, func() error {
		switch change.Do {
		case AddSpare:
			return q.raft.AddNonvoter(id, at, change.Prev, changeTimeout).Error()
		case Promote:
			return q.raft.AddVoter(id, at, change.Prev, changeTimeout).Error()
		case Demote:
			return q.raft.DemoteVoter(id, change.Prev, changeTimeout).Error()
		case Remove:
			return q.raft.RemoveServer(id, change.Prev, changeTimeout).Error()
		case Keep:
		}
		return nil
	})
	if err == nil && change.Do == AddSpare {
		q.transport.added(id, time.Now())
	}
	return q.failedChange(change, err)
}

func (q *Quorum) failedChange(change Change, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipTransferInProgress):
		return q.notLeader()
	case strings.HasPrefix(err.Error(), "configuration changed since"): // raft has no value for it
		return fleet.Errorf(fleet.Conflict, "the servers have changed meanwhile: %w", err)
	default:
		return fleet.Errorf(fleet.Unavailable, "cannot %s %s: %w", change.Do, change.Replica, err)
	}
}

// TransferLeadership hands leadership to the voter that is furthest, and returns when this server no longer leads.
func (q *Quorum) TransferLeadership(ctx context.Context) error {
	if q.raft.State() != raft.Leader {
		return q.notLeader()
	}
	err := q.await(ctx, func() error { return q.raft.LeadershipTransfer().Error() })
	if err != nil && q.raft.State() == raft.Leader {
		return fleet.Errorf(fleet.Unavailable, "no other server took the lead: %w", err)
	}
	return nil
}

// await runs what may wait for raft's main loop, no longer than the caller has patience.
func (q *Quorum) await(ctx context.Context, run func() error) error {
	if !q.begin() {
		return closedError()
	}
	result := make(chan error, 1)
	go func() {
		defer q.done()
		result <- run()
	}()
	select {
	case err := <-result:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}
