package api

import (
	"context"

	"github.com/muster-fleet/muster/consensus"
	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

// Backend is what the agent offers. Its methods are called by many goroutines at once.
type Backend interface {
	// Status returns what the host says of itself and of what it sees.
	Status(ctx context.Context) node.Status
	// Quorum returns who keeps the replicated state, and what this host's own replica has come to.
	Quorum(ctx context.Context) node.QuorumStatus
	// Nodes lists the enrolled nodes by name, also those that are lost or have left.
	Nodes(ctx context.Context) []Node
	// Operators lists the operators who stand.
	Operators(ctx context.Context) []auth.Operator
	// Propose brings an entry to the leader. A repetition of the same signed statement returns the first result.
	Propose(ctx context.Context, e consensus.Entry) (consensus.Result, error)
	// Read asks the servers. signed is a node.Read, signed by an operator for auth.ForRequest.
	Read(ctx context.Context, signed auth.Envelope) (node.Answer, error)
	// Watch asks the servers for a command's news until ctx ends, the servers hang up or each fails: what is committed
	// first, then each node's newest report, then every newer one.
	Watch(ctx context.Context, signed auth.Envelope, each func(node.Update) error) error
	// Leave says goodbye to the fleet and stops the agent. The node stays enrolled.
	Leave(ctx context.Context) error
}

// Node is a member, with what one needs to sign about it.
type Node struct {
	fleet.Member
	Seq uint64 // of the newest signed statement about its tags; the next has one more
}
