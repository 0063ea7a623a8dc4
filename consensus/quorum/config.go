package quorum

import (
	"context"
	"io"
	"log/slog"
	"net"
	"time"

	"github.com/muster-fleet/muster/node/fleet"
)

// Machine is the replicated state. Apply must be deterministic; quorum calls Apply, Snapshot and Restore one at a time
// and in order, Apply once per item. The items of one batch share an index.
type Machine interface {
	// Apply returns what goes to whoever proposed the item on this node. A refusal is such a value, never a panic.
	Apply(index uint64, item []byte) any
	// Snapshot returns an immutable picture at once; it is written later, beside further calls of Apply.
	Snapshot() (write func(io.Writer) error)
	// Restore replaces the state; when it fails the state must be as before.
	Restore(io.Reader) error
}

// Batches is a Machine that takes all items of a log entry at once, so that it can share work among them.
type Batches interface {
	Machine
	// ApplyBatch is Apply of each item in order; it returns as many answers.
	ApplyBatch(index uint64, items [][]byte) []any
}

// Halting is a Machine that may come to an item which it must not go past, because a newer program wrote it.
type Halting interface {
	Machine
	// Halted returns why the machine takes nothing more, or nil. Restore may end that, and so does a newer program, which
	// applies again what the machine left out.
	Halted() error
}

// halted returns why a machine takes nothing more, or nil.
func halted(m Machine) error {
	if h, ok := m.(Halting); ok {
		return h.Halted()
	}
	return nil
}

// Streams opens streams to other nodes: on the raft plane, or on the bulk plane for snapshots. The context is for the
// opening alone. Closing the stream must end both directions.
type Streams interface {
	Open(ctx context.Context, id fleet.ID, bulk bool) (net.Conn, error)
}

// Timeouts are raft's. Lease must be below Heartbeat, so that a leader that lost its majority stops before others elect.
type Timeouts struct {
	Heartbeat time.Duration // a voter that hears nothing for so long asks for an election
	Election  time.Duration // a candidate without result starts again after once to twice this; not below Heartbeat
	Lease     time.Duration // a leader that misses a majority for so long steps down
}

// LAN suits servers within 100 ms of each other. 2 s rides out disk stalls of 0.7 s (measured) without an election; a
// leader's death is mended within 3 s.
func LAN() Timeouts {
	return Timeouts{Heartbeat: 2 * time.Second, Election: 2 * time.Second, Lease: 1500 * time.Millisecond}
}

// WAN suits servers on several continents or on poor links.
func WAN() Timeouts {
	return Timeouts{Heartbeat: 5 * time.Second, Election: 5 * time.Second, Lease: 4 * time.Second}
}

// Config says what a replica is made of. Zero Timeouts mean LAN, a nil Log discards.
type Config struct {
	Dir     string // holds this node's replica and what was put aside; 0700, nothing else may live in it
	Self    fleet.ID
	Machine Machine
	Streams Streams
	Log     *slog.Logger

	// Eligible says whether operators made a node a server. A replica without configuration, or one that has heard no
	// leader for 30 s (the servers it knows may all have been replaced), listens to eligible nodes; otherwise it listens
	// to the servers of its newest configuration alone. It is called from several goroutines.
	Eligible func(fleet.ID) bool

	// Confirm asks a voter whether its replica has that incarnation and its current term is still that one: nil if both.
	// The answer is ConfirmTerm's.
	Confirm func(ctx context.Context, voter fleet.ID, incarnation, term uint64) error

	Timeouts Timeouts

	SnapshotEntries uint64 // a snapshot is due after so many log entries; zero means 8,192
	SnapshotBytes   int64  // or after so many bytes of them; zero means 64 MiB
}

// Limits, in bytes unless said otherwise.
const (
	MaxItem = 512 << 10 // of one proposed item; the Raft entry limit of the security rules

	batchBytes   = 256 << 10 // a batch takes no further item beyond this
	batchItems   = 1024      // and no more items than this
	waitingBytes = 32 << 20  // proposals may wait in memory up to this, then they are refused
	waitingItems = 16384

	maxAppendEntries = 16        // entries a leader sends at once: 16 times the largest entry is 8 MiB
	requestBytes     = 32 << 20  // a peer may send this much, on all its streams, without having been answered: three such requests
	snapshotBytes    = 1 << 30   // and this much on the bulk plane: the largest snapshot
	answerBytes      = 64 << 10  // and this much as the answer to a request: numbers, and perhaps an error
	streamsPerPeer   = 16        // raft opens 3 pooled, a pipeline, and one per concurrent request; each costs 256 KiB
	trailingBytes    = 16 << 20  // of log kept behind a snapshot, so that a server back from a reboot needs no snapshot
	trailingEntries  = 10_240    // entries; the same bound for logs of small entries
	snapshotsKept    = 2         // the newest, and the one before in case its reading fails
	damagedKept      = 2         // folders put aside; older ones are deleted
	damageTries      = 1_000_000 // names tried for such a folder
)

// Times that are no matter of taste per fleet.
const (
	commitTimeout    = 20 * time.Millisecond // followers learn of the last commit at most 2 of these later; see rest for why that costs nothing when nothing happens
	helloTimeout     = 10 * time.Second      // an accepted stream must say what it wants by then
	lockTimeout      = time.Second           // for another process's lock on the files
	strangerAfter    = 30 * time.Second      // without a leader, eligible strangers are listened to
	stallAfter       = 5 * time.Second       // a write to the store that takes longer makes a leader fall silent
	watchEvery       = 500 * time.Millisecond
	snapshotRetry    = 10 * time.Second
	diskRetry        = time.Second
	snapshotInterval = 30 * time.Second // how often raft looks whether SnapshotEntries is reached
	changeTimeout    = 10 * time.Second // a change of the configuration waits so long for its predecessor
)

func (c Config) withDefaults() (Config, error) {
	if c.Dir == "" || c.Self.IsZero() || c.Machine == nil || c.Streams == nil {
		return c, fleet.Errorf(fleet.Internal, "quorum: folder, node, machine and streams must be given")
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Eligible == nil {
		c.Eligible = func(fleet.ID) bool { return false }
	}
	if c.Timeouts == (Timeouts{}) {
		c.Timeouts = LAN()
	}
	if c.SnapshotEntries == 0 {
		c.SnapshotEntries = 8192
	}
	if c.SnapshotBytes == 0 {
		c.SnapshotBytes = 64 << 20
	}
	return c, nil
}
