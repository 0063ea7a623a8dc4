package quorum

import (
	"time"

	"github.com/hashicorp/raft"

	"github.com/muster-fleet/muster/node/fleet"
)

// State is what a replica does now.
type State string

// The states, by raft's names.
const (
	Follower State = "follower"
	Electing State = "candidate"
	Leading  State = "leader"
	Closed   State = "closed"
)

// Status is a replica's view of the quorum at one moment.
type Status struct {
	Self      Replica
	State     State
	Leader    fleet.ID // zero if none is known
	Term      uint64
	Index     uint64   // of the newest committed configuration known here; 0 if none
	Voters    []Server // of the newest configuration
	Spares    []Server
	Commit    uint64 // index of the newest committed entry
	Applied   uint64 // index of the newest entry handed to the machine
	Stalled   bool   // the disk hangs, and this server does not lead therefore
	Restarted string // why this process found the former replica unusable and began a new one; empty if it did not
}

const caughtUpWithin = 64 // entries behind the leader: a few round trips at full load

// Status returns the replica's view. It does not wait for raft's main loop.
func (q *Quorum) Status() Status {
	now := time.Now()
	status := Status{
		Self:      q.self,
		State:     stateOf(q.raft.State()),
		Leader:    q.leader().ID,
		Term:      q.raft.CurrentTerm(),
		Index:     q.known.index(),
		Commit:    q.raft.CommitIndex(),
		Applied:   q.raft.AppliedIndex(),
		Stalled:   q.transport.mute.Load(),
		Restarted: q.restarted,
	}
	voters, all := members(q.configuration())
	voting := map[Replica]bool{}
	for _, voter := range voters {
		voting[voter] = true
	}
	last := q.raft.LastIndex()
	for _, replica := range all {
		server := Server{Replica: replica, Voter: voting[replica]}
		if status.State == Leading {
			server.LastContact, server.CaughtUp = q.contact(replica, last, now)
		}
		if server.Voter {
			status.Voters = append(status.Voters, server)
		} else {
			status.Spares = append(status.Spares, server)
		}
	}
	return status
}

func (q *Quorum) contact(replica Replica, last uint64, now time.Time) (time.Time, bool) {
	if replica == q.self {
		return now, true
	}
	known := q.transport.contact(replica.serverID())
	return known.last, known.matched && known.lastLog+caughtUpWithin >= last
}

func stateOf(state raft.RaftState) State {
	switch state {
	case raft.Follower:
		return Follower
	case raft.Candidate:
		return Electing
	case raft.Leader:
		return Leading
	case raft.Shutdown:
	}
	return Closed
}

// Inputs returns NextChange's inputs as far as this replica knows them.
func (s Status) Inputs() Inputs {
	return Inputs{Self: s.Self, Index: s.Index, Members: append(append([]Server(nil), s.Voters...), s.Spares...)}
}
