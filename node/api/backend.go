package api

import (
	"context"

	"github.com/muster-fleet/muster/consensus"
	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

// Backend is what the agent offers. Its methods are called by many goroutines at once.
type Backend interface {
	KeyringBackend
	ParamsBackend
	SessionsBackend
	RecordBackend
	// Status returns what the host says of itself and of what it sees.
	Status(ctx context.Context) node.Status
	// Quorum returns who keeps the replicated state, and what this host's own replica has come to.
	Quorum(ctx context.Context) node.QuorumStatus
	// Nodes lists the enrolled nodes by name, also those that are lost or have left.
	Nodes(ctx context.Context) []Node
	// Operators lists the operators who stand.
	Operators(ctx context.Context) []auth.Operator
	// Propose brings an entry to the leader. A repetition of the same signed statement returns the first result. Where the
	// fleet refuses, the result says why, and the error is the result's; other errors come without a result: nobody answered,
	// or this host knew better.
	Propose(ctx context.Context, e consensus.Entry) (consensus.Result, error)
	// Read asks the servers. signed is a node.Read, signed by an operator for auth.ForRequest.
	Read(ctx context.Context, signed auth.Envelope) (node.Answer, error)
	// Watch asks the servers for a command's news until ctx ends, the servers hang up or each fails: what is committed
	// first, then each node's newest report, then every newer one.
	Watch(ctx context.Context, signed auth.Envelope, each func(node.Update) error) error
	// Leave says goodbye to the fleet and stops the agent. The node stays enrolled.
	Leave(ctx context.Context) error

	// Policy returns the text of the policy that this host judges by; "" before it has one.
	Policy(ctx context.Context) string
	// Groups lists the saved groups by name.
	Groups(ctx context.Context) []auth.Group
	// Settings lists the fleet's settings that are not at their default, by name.
	Settings(ctx context.Context) []auth.Setting
	// Usage says what the parts of the data folder take of the host's disk.
	Usage(ctx context.Context) []Store
	// Output brings a run's output from the node that keeps it: a head, pieces in order, and a head as of the end. signed
	// is a node.Read of node.ReadOutput.
	Output(ctx context.Context, node fleet.ID, signed auth.Envelope, ask exec.OutputAsk, each func(exec.OutputPiece) error) error
	// Decisions asks a node what it decided about a command, oldest first. signed is a node.Read of node.ReadWhy.
	Decisions(ctx context.Context, node fleet.ID, signed auth.Envelope) ([]exec.Decision, error)
	// Direct gives an order to the fleet without the quorum, by gossip alone.
	Direct(ctx context.Context, order exec.Order) error
	// NodeReport asks a node for its own newest report of a command, which is verified. signed is a node.Read of
	// node.ReadReport.
	NodeReport(ctx context.Context, node fleet.ID, signed auth.Envelope) (auth.Envelope, error)
}

// Node is a member, with what one needs to sign about it.
type Node struct {
	fleet.Member
	Seq uint64 // of the newest signed statement about its tags; the next has one more
}

// Store is one part of a host's data folder.
type Store struct {
	What  string // "runs", "reports", "decisions", …
	Path  string
	Bytes int64
	Bound int64 // bytes that it keeps to; 0: none of its own
	Items int64 // things in it; 0: not counted
	Free  int64 // bytes that its disk has left for this account
}
