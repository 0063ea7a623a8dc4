package agent

import (
	"context"
	"io"
	"net/netip"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

// Stream is one stream of frames with a peer whose key was proved.
type Stream interface {
	Peer() fleet.ID
	Context() context.Context
	ReadFrame() (kind byte, body []byte, err error)
	WriteFrame(kind byte, body []byte) error
	WriteError(err error) error
	Close() error
}

// Peers carries requests and bells to other nodes.
type Peers interface {
	Request(ctx context.Context, id fleet.ID, kind byte, body []byte) (byte, []byte, error)
	Open(ctx context.Context, id fleet.ID) (Stream, error)
	// OpenBulk is Open on the plane of what is large.
	OpenBulk(ctx context.Context, id fleet.ID) (Stream, error)
	Ring(by node.Way, bell []byte)
	Note(by node.Way, beacon []byte)
	Drop(id fleet.ID, why string)
	UseKeys(send uint32, accept map[uint32][32]byte)
	Observed() []netip.AddrPort
}

// Gossip knows who is there.
type Gossip interface {
	Members() []node.Sighting
	Changed() <-chan struct{}
	Join(ctx context.Context, peers map[fleet.ID][]netip.AddrPort) int
	Evict(id fleet.ID)
	Leave(ctx context.Context) error
}

// Quorum is this host's replica of the agreed state. A host that is no server has none.
type Quorum interface {
	// Propose returns a consensus.Result, or NotLeader.
	Propose(ctx context.Context, item []byte) (any, error)
	// Read returns when the replica's state may be read as the newest, or NotLeader.
	Read(ctx context.Context) error
	Status() Replication
	ConfirmTerm(incarnation, term uint64) error
	Incarnation() uint64
	Changed() <-chan struct{}
	// Tend moves the set of voters one step towards what it should be, and says what it did.
	Tend(ctx context.Context, nodes int, servers []Candidate) (string, error)
	Bootstrap() error
	StepDown(ctx context.Context) error
}

// Replication is how a replica stands.
type Replication struct {
	Leader  fleet.ID
	Leading bool // from here
	Term    uint64
	Voters  []fleet.ID
	Spares  []fleet.ID
	Member  bool   // this host is one of them
	Trouble string // what was wrong with the replica's files; empty: nothing
}

// Candidate is an eligible server as the leader sees it.
type Candidate struct {
	ID          fleet.ID
	Incarnation uint64
	Alive       bool
	Zone        string
	Drained     bool // operators want it to have no vote, as long as another can
}

// NotLeader is the error of Propose and Read on a replica that does not lead.
type NotLeader struct{ Leader fleet.ID }

// Error says where to go, if that is known.
func (e NotLeader) Error() string {
	if e.Leader.IsZero() {
		return "no leader is known here"
	}
	return "the leader is " + e.Leader.String()
}

// Runner runs commands on this host. What happens to them comes back as node events.
type Runner interface {
	// Start returns an error only if nothing was started and the ledger does not say that it was: TooLate, NotStarted, or
	// any other, which means NotStarted as Failed.
	Start(ctx context.Context, e node.StartRun) error
	Cancel(command fleet.UUID) error
	Refuse(command fleet.UUID, digest fleet.ID, as exec.Status, reason string) error
	// OpenOutput opens one output of a run, exec.StdoutName or exec.StderrName. NotFound: not run here; Expired: no longer kept.
	OpenOutput(command fleet.UUID, stream string) (KeptOutput, error)
	// Recall posts what the ledger knows of commands that were started here before.
	Recall(post func(node.Event))
}

// TooLate is the error of Runner.Start when the boot time is past StartRun.By and the ledger was not written.
type TooLate struct{}

// Error says so.
func (TooLate) Error() string { return "it is too late for its grant" }

// NotStarted is the error of Runner.Start when what was ordered cannot be done on this host.
type NotStarted struct {
	As  exec.Status // a final status
	Err error
}

// Error says why.
func (e NotStarted) Error() string { return e.Err.Error() }

// Unwrap returns why.
func (e NotStarted) Unwrap() error { return e.Err }

// Decisions is the log that answers why this node did something, or did not.
type Decisions interface {
	// Put never fails and never waits.
	Put(command fleet.UUID, d exec.Decision)
	Of(command fleet.UUID) ([]exec.Decision, error)
}

// Sessions runs the sessions of this host in which something runs: all kinds but auth.SessionForward. They outlive the
// agent. All methods are safe for concurrent use.
type Sessions interface {
	// Open starts what a session runs, and returns when it runs, or why it does not. It has nobody attached then. Conflict:
	// a session of that ID was opened before.
	Open(ctx context.Context, order node.SessionOrder) error
	// Attach returns the way to what runs in a session, for the operator's end: flow both ways. have is how many frames of
	// the node's flow that end has taken, theirs how many of the operator's flow were taken here. The newest attachment
	// wins, an older one ends. NotFound: there is no such session, or it is over and gone.
	Attach(ctx context.Context, id fleet.UUID, by fleet.ID, have uint64) (conn io.ReadWriteCloser, theirs uint64, err error)
	// Known returns all sessions that Get would, from memory: what may be long (Argv, Reason) and what changes are left out.
	Known() []node.SessionState
	// Get returns a session as it is now: one that runs, or one that has ended as long as something of it is kept, its
	// order's Expires at least. NotFound: there is none.
	Get(id fleet.UUID) (node.SessionState, error)
	// List returns all that Get would.
	List() []node.SessionState
	// Kill ends a session that runs; by is what its operator is told.
	Kill(id fleet.UUID, by string) error
	// OpenTunnel begins to keep a session of kind auth.SessionForward, which the agent itself serves, and TunnelConnection a
	// connection of it that has ended. EndTunnel keeps its end, and tells of it as of every end; from then on the others have it.
	OpenTunnel(order node.SessionOrder) error
	TunnelConnection(id fleet.UUID, c node.SessionConnection)
	EndTunnel(state node.SessionState)
	// Recording opens the recording of a session, as far as it has come. It is sealed where the session's was.
	Recording(id fleet.UUID) (io.ReadCloser, error)
	// Look shows a session that runs to somebody else than its operator, who is told of it: lines as node/session/cast has
	// them. Whoever reads slowly slows nobody.
	Look(ctx context.Context, id fleet.UUID, who string) (io.ReadCloser, error)
	// PutCopies keeps what is known of the copies of a recording, and CopiesOf returns it. Wanting lists the sessions whose
	// recordings are to have more copies than they have.
	PutCopies(id fleet.UUID, c node.RecordingCopies) error
	CopiesOf(id fleet.UUID) node.RecordingCopies
	Wanting() []fleet.UUID
}

// Reports is the store of a server.
type Reports interface {
	Put(r exec.Report, signed auth.Envelope) error
	Watch(ctx context.Context, command fleet.UUID, each func(auth.Envelope) error) error
	PutFacts(id fleet.ID, signed auth.Envelope) error
	Facts() (map[fleet.ID]auth.Envelope, error)
	Of(command fleet.UUID) ([]auth.Envelope, error)
	Prune() (int, error)
}

// Folder keeps what must survive a restart.
type Folder interface {
	AppendActs(acts []auth.Act, heads []fleet.ID) error
	ReadActs(from uint64, maxBytes int) ([]auth.Act, error)
	PutFloor(time int64, length uint64, head fleet.ID) error
	PutKeys(keys map[uint32][32]byte) error
	PutPeers(peers map[fleet.ID][]netip.AddrPort) error
	// PutDocument keeps a publication by its key (exec.DocumentRef.Key); the one that was not needed for longest goes.
	PutDocument(key fleet.ID, publication auth.Envelope) error
	// Document returns what PutDocument kept, or fleet.NotFound.
	Document(key fleet.ID) (auth.Envelope, error)
	// Documents returns all that it keeps, in whatever order; there are few. What cannot be read is left out.
	Documents() []auth.Envelope
}
