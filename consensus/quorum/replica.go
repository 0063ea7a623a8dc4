package quorum

import (
	"strconv"
	"strings"

	"github.com/hashicorp/raft"

	"github.com/muster-fleet/muster/node/fleet"
)

// Replica names one copy of the state: a node, and which of its copies. A node whose replica was lost returns as a
// higher incarnation, so that no vote or acknowledgement of the lost copy is ever taken for one of the new copy.
type Replica struct {
	ID          fleet.ID
	Incarnation uint64
}

// IsZero reports whether r names nothing.
func (r Replica) IsZero() bool { return r == Replica{} }

// Compare orders replicas by ID, then incarnation.
func (r Replica) Compare(other Replica) int {
	if c := r.ID.Compare(other.ID); c != 0 {
		return c
	}
	switch {
	case r.Incarnation < other.Incarnation:
		return -1
	case r.Incarnation > other.Incarnation:
		return 1
	}
	return 0
}

// String returns "<ID on screens>/<incarnation>".
func (r Replica) String() string { return r.ID.String() + "/" + strconv.FormatUint(r.Incarnation, 10) }

// text is the replica's name inside raft, as server ID and as address alike: an address without the incarnation would
// let a new copy answer what was asked of the old one.
func (r Replica) text() string { return r.ID.Text() + "/" + strconv.FormatUint(r.Incarnation, 10) }

func (r Replica) serverID() raft.ServerID     { return raft.ServerID(r.text()) }
func (r Replica) address() raft.ServerAddress { return raft.ServerAddress(r.text()) }

// parseReplica reads what text writes.
func parseReplica(text string) (Replica, error) {
	node, number, found := strings.Cut(text, "/")
	incarnation, err := strconv.ParseUint(number, 10, 64)
	if !found || err != nil || strconv.FormatUint(incarnation, 10) != number {
		return Replica{}, fleet.Errorf(fleet.Invalid, "%q does not name a replica", text)
	}
	id, err := fleet.ParseID(node)
	if err != nil {
		return Replica{}, err
	}
	return Replica{ID: id, Incarnation: incarnation}, nil
}

// nextIncarnation is greater than any incarnation this data folder has had, and, where the clock is right, greater
// than those of folders that are gone: it counts Unix seconds.
func nextIncarnation(previous uint64, unixSeconds int64) uint64 {
	return max(previous+1, uint64(max(unixSeconds, 1)))
}

// members returns the voting replicas of a configuration, and all of its replicas, in its order.
func members(configuration raft.Configuration) (voters, all []Replica) {
	for _, server := range configuration.Servers {
		replica, err := parseReplica(string(server.ID))
		if err != nil {
			continue // only quorum writes configurations, so there is none
		}
		all = append(all, replica)
		if server.Suffrage == raft.Voter {
			voters = append(voters, replica)
		}
	}
	return voters, all
}
