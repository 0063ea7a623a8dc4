package metrics

import "time"

// Snapshot is how a host does at one moment. Groups that a host does not have are nil, and nothing is told of them.
type Snapshot struct {
	Build    Build
	Started  time.Time // of this process's agent
	Process  Process
	Fleet    Fleet
	Agent    Agent
	Quorum   Quorum
	Replica  *Replica // of a server
	Runs     *Runs
	Sessions *Sessions
	Network  Network
	Gossip   Gossip
	Reports  *Reports // of a server
	Disk     Disk
	Budget   Budget
	Release  Release
	Scrapes  uint64 // answered before this one
}

// Build is which program runs.
type Build struct {
	Version, Go, Arch string
	Level             uint32 // the highest level of formats that it speaks; 0: not told
}

// Process is what the agent's process takes of its host.
type Process struct {
	CPUSeconds float64 // user and system
	RSS        uint64  // resident memory, bytes
	Heap       uint64  // live objects and garbage, bytes
	GCSeconds  float64 // of CPU time
	Goroutines int
	Files      int // open
	MaxFiles   uint64
}

// Fleet is what this host has agreed with, and whom it sees.
type Fleet struct {
	Online, Lost, Left int    // members by status
	Level              uint32 // agreed; 0: not told
	Act                uint64 // index of the newest act that is known here
	Acts               uint64 // of the record
	CharterEntries     uint64
	BeaconAge          time.Duration // since the servers' newest word; negative: there was none yet
}

// Agent is how the loop does.
type Agent struct {
	Turns        uint64        // of the loop
	Queue        int           // events that wait for it
	BellsLost    uint64        // that found no room
	Requests     uint64        // of peers, served
	Refused      uint64        // of these, answered with an error
	ClockOff     time.Duration // what this host's clock is known to be off by
	Warnings     int           // that muster status has
	PeersRefuse  bool          // peers say that this node is not one of the fleet
	Paused       bool          // by this host's own root
	Drained      bool          // by an operator
	OutboundOnly bool
	Uplinks      int // that stand, on an outbound-only host
}

// Quorum is who keeps the state, as far as this host knows.
type Quorum struct {
	LeaderKnown                  bool
	Voters, VotersOnline, Spares int
}

// Bearable is how many more voters may be lost before writes stop; negative: they have stopped.
func (q Quorum) Bearable() int {
	if q.Voters == 0 {
		return 0
	}
	return q.VotersOnline - (q.Voters/2 + 1)
}

// Replica is a server's own copy of the state.
type Replica struct {
	Member, Leading, Stalled bool
	Term, Commit, Applied    uint64
	Act                      uint64
	Bytes                    int64 // of its files of log and stable values
}

// Runs are the commands of this host.
type Runs struct {
	Running, Queued, Capacity int
	Started                   uint64
	Ended                     []Count // by status
	Bytes, Bound              int64   // of what ended runs keep on the disk
	Ledger                    int64   // bytes
}

// Count is how many there are of a kind.
type Count struct {
	Of string
	N  uint64
}

// Sessions are those of this host.
type Sessions struct{ Running, Attached, Kept int }

// Network is how the UDP socket does.
type Network struct {
	Connections     []Count // by plane
	Peers           int     // with a connection
	Opened          uint64  // connections so far
	HalfOpen        int     // connections that have not said who they are
	Pipes           int     // that pass through this host, or end here
	PacketsSent     uint64  // sealed packets
	PacketsReceived uint64  // genuine ones
	PacketsDropped  uint64  // that are none of this fleet's
	SocketDrops     uint64  // datagrams for which the socket's buffer had no room
}

// Gossip is how the detection of failures does.
type Gossip struct {
	Health   int           // 0 is well; each missed answer counts
	Silence  time.Duration // since anything was heard; negative: nothing yet
	KeyEpoch uint32        // of the fleet's gossip key
}

// Reports is a server's store of what nodes reported.
type Reports struct {
	Bytes, Bound int64
	Kept         uint64 // taken since the start
	Watchers     int
}

// Disk is that of the data folder.
type Disk struct{ Free, Size int64 }

// Budget is what the self-watchdog holds, and how often it acted.
type Budget struct {
	MemoryBytes int64   // 0: none
	CPUPercent  int     // 0: none
	Acts        []Count // by act
}

// Release is what was carried of releases.
type Release struct{ SentBytes, ReceivedBytes uint64 }
