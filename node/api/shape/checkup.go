package shape

import "time"

// CheckupAsk says what is to be checked. Node is a name, an ID or a unique beginning of one: the way to that node alone
// instead of to a sample.
type CheckupAsk struct {
	Node string `json:"node,omitempty"`
}

// Checkup is what an agent finds of its own host, and of the ways between it and other members.
type Checkup struct {
	Format   int           `json:"format"`
	Node     Named         `json:"node"`
	Now      time.Time     `json:"now"`      // by the host's own clock
	Port     int           `json:"port"`     // UDP, of the agent
	Outbound bool          `json:"outbound"` // nobody can dial this host
	Ways     []WayCheck    `json:"ways"`
	Keys     KeyCheck      `json:"keys"`
	Beacon   BeaconCheck   `json:"beacon"`
	Process  ProcessCheck  `json:"process"`
	Host     HostCheck     `json:"host"`
	Budget   BudgetCheck   `json:"budget"`
	Config   []string      `json:"config"` // what is wrong with the host's configuration
	Members  []MemberCheck `json:"members"`
}

// MemberCheck is what a member says of its program.
type MemberCheck struct {
	Name    string `json:"name"`
	Version string `json:"version"` // "" while it is not known
	Status  string `json:"status"`
}

// WayCheck is the way between this host and one member.
type WayCheck struct {
	Peer     Named   `json:"peer"`
	Status   string  `json:"status"` // as gossip has it
	Voter    bool    `json:"voter"`
	Outbound bool    `json:"outbound"` // nobody can dial it, so nobody tried
	There    []Probe `json:"there"`    // from here to the peer's addresses, each from a port that nobody knows
	Asked    Asked   `json:"asked"`    // what it answers over a connection of the two agents
	Back     []Probe `json:"back"`     // from the peer to this host's addresses, each from a port that nobody knows
	// BackError says why the peer did not try; "" where it did.
	BackError string `json:"back_error"`
	// Others are other members' tries to reach the peer, made where this host has no answer from it.
	Others []OtherProbe `json:"others"`
}

// Asked is what a peer answers to a question between agents.
type Asked struct {
	OK       bool   `json:"ok"`
	Older    bool   `json:"older"`   // it is of a version that does not know the question
	Refused  bool   `json:"refused"` // it says no: this node is removed there, or may not ask
	Error    string `json:"error"`
	RTT      int64  `json:"rtt_us"`
	ClockOff int64  `json:"clock_off_us"` // its clock less this host's
	Version  string `json:"version"`
	Level    int    `json:"level"` // what its program supports; 0: not told
}

// Probe is what came of packets to one address.
type Probe struct {
	Address  string `json:"address"`
	Answered bool   `json:"answered"`
	RTT      int64  `json:"rtt_us"`
	// Largest is the largest UDP payload that passed and was answered, in bytes: also where Answered is false, because what
	// QUIC needs did not pass.
	Largest int    `json:"largest_bytes"`
	Error   string `json:"error"` // why nothing could be sent, or who said no
}

// OtherProbe is a probe by another member.
type OtherProbe struct {
	By     Named   `json:"by"`
	Probes []Probe `json:"probes"`
	Error  string  `json:"error"`
}

// KeyCheck says how old keys are.
type KeyCheck struct {
	GossipEpoch uint32        `json:"gossip_epoch"`
	GossipSince *time.Time    `json:"gossip_since"` // null: not known
	HasGossip   bool          `json:"has_gossip"`   // this host has the key that the record names
	Enrolled    *time.Time    `json:"enrolled"`     // null: not known
	Operators   []OperatorKey `json:"operators"`
}

// OperatorKey is an operator's key with its end.
type OperatorKey struct {
	Name    string     `json:"name"`
	Expires *time.Time `json:"expires"` // null: never
}

// BeaconCheck is the newest word of the quorum.
type BeaconCheck struct {
	Age      *int64 `json:"age_ms"` // null: there was none yet
	Level    int    `json:"level"`  // the fleet's level
	Supports int    `json:"supports"`
}

// ProcessCheck is what the agent's process is and holds.
type ProcessCheck struct {
	PID       int           `json:"pid"`
	Version   string        `json:"version"`
	Began     time.Time     `json:"began"`
	RSS       int64         `json:"rss_bytes"`
	Files     int           `json:"files"`
	FileLimit int64         `json:"file_limit"`
	Sockets   []SocketCheck `json:"sockets"` // of the internet; unix sockets are not told
	Stuck     bool          `json:"stuck"`   // its loop has ended no turn for seconds
	Dumpable  bool          `json:"dumpable"`
	Replaced  bool          `json:"replaced"` // its file on the disk is another by now
	Root      bool          `json:"root"`
	Metrics   string        `json:"metrics"` // where metrics are to be served; "": nowhere
}

// SocketCheck is one socket of the agent.
type SocketCheck struct {
	Proto     string `json:"proto"` // udp or tcp
	Local     string `json:"local"`
	Listening bool   `json:"listening"`
	RecvBytes int    `json:"receive_buffer_bytes"`
	SendBytes int    `json:"send_buffer_bytes"`
	Drops     int64  `json:"drops"` // packets that found its buffer full since it was opened; -1: not known
}

// HostCheck is what can be told of a host without any agent.
type HostCheck struct {
	Dir        string           `json:"dir"`
	DirError   string           `json:"dir_error"` // why the data folder could not be looked at
	Free       int64            `json:"free_bytes"`
	Total      int64            `json:"total_bytes"`
	FreeFiles  int64            `json:"free_files"` // inodes; -1: the file system does not count them
	ReadOnly   bool             `json:"read_only"`
	Fsync      int64            `json:"fsync_us"`       // the median of some
	FsyncWorst int64            `json:"fsync_worst_us"` //
	FsyncError string           `json:"fsync_error"`
	Loose      []string         `json:"loose"` // files of the data folder that others than its owner can read or write
	LooseMore  int              `json:"loose_more"`
	RmemMax    int              `json:"rmem_max"`
	WmemMax    int              `json:"wmem_max"`
	Interfaces []InterfaceCheck `json:"interfaces"`
	Routes     bool             `json:"routes"`     // there is a default route
	ClockKept  string           `json:"clock_kept"` // yes, no, or "" where the kernel does not say
	MemTotal   int64            `json:"memory_bytes"`
	MemFree    int64            `json:"memory_available_bytes"`
	Kernel     string           `json:"kernel"`
	Upgrade    *UpgradeCheck    `json:"upgrade"` // the last one of the agent; null: there was none
}

// UpgradeCheck is the last upgrade of a host's agent.
type UpgradeCheck struct {
	Stage string `json:"stage"` // ready, trying, back, kept or undone
	From  string `json:"from"`
	To    string `json:"to"`
	Why   string `json:"why"` // it was taken back
}

// InterfaceCheck is a network interface that is up.
type InterfaceCheck struct {
	Name string `json:"name"`
	MTU  int    `json:"mtu"`
}

// BudgetCheck is what the agent may take of its host, and what it did to keep to that.
type BudgetCheck struct {
	Memory   int64       `json:"memory_bytes"` // 0: no bound
	CPU      int         `json:"cpu_percent"`  // of one processor; 0: no bound
	Refusing string      `json:"refusing"`     // why it takes no new sessions and nothing large; "": it does
	Acts     []BudgetAct `json:"acts"`         // the newest few
}

// BudgetAct is one thing that an agent did to keep to its budget.
type BudgetAct struct {
	At   time.Time `json:"at"`
	What string    `json:"what"`
	Why  string    `json:"why"`
}

// Doctor is the doctor's answer.
type Doctor struct {
	Format   int       `json:"format"`
	Node     string    `json:"node"`
	Healthy  bool      `json:"healthy"` // no finding is a problem
	Findings []Finding `json:"findings"`
	Stores   []Store   `json:"stores"`
}

// Finding is one thing that the doctor looked at.
type Finding struct {
	Check    string `json:"check"` // clock, disk, ways, …: one word that stays
	Level    string `json:"level"` // ok, note, warning or problem
	What     string `json:"what"`
	Evidence string `json:"evidence"`
	Mend     string `json:"mend"` // a command or an act; "" where there is nothing to do
}
