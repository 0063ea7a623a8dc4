package shape

import (
	"time"

	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/fleet"
)

// Version is what the agent says of itself to anyone.
type Version struct {
	Version string `json:"version"` // of muster
	API     int    `json:"api"`     // of the paths and shapes
}

// Named is an ID with its name.
type Named struct {
	ID   fleet.ID `json:"id"`
	Name string   `json:"name"`
}

// Status is what a host says of itself and of what it sees.
type Status struct {
	Format   int       `json:"format"`
	Version  string    `json:"version"`
	Fleet    Named     `json:"fleet"`
	Self     Node      `json:"self"`
	Charter  Chain     `json:"charter"`
	Record   Chain     `json:"record"`
	Now      time.Time `json:"now"`
	ClockOff int64     `json:"clock_off_ms"`
	Nodes    Counts    `json:"nodes"`
	Quorum   Quorum    `json:"quorum"`
	Observed []string  `json:"observed"`
	Outbound bool      `json:"outbound"` // nobody can dial this host
	Uplinks  []Server  `json:"uplinks"`  // through whom it is reached then
	Agent    Usage     `json:"agent"`
	Warnings []string  `json:"warnings"`
}

// Usage is what the agent's process takes of its host.
type Usage struct {
	RSS        uint64 `json:"rss_bytes"`
	Goroutines int    `json:"goroutines"`
	Files      int    `json:"files"`
}

// Chain says how far a signed log has come here.
type Chain struct {
	Head   *fleet.ID `json:"head,omitempty"`
	Length uint64    `json:"length"`
	Act    uint64    `json:"act,omitempty"`
}

// Counts counts members by status.
type Counts struct {
	Online int `json:"online"`
	Lost   int `json:"lost"`
	Left   int `json:"left"`
}

// Quorum is who keeps the replicated state.
type Quorum struct {
	Format   int      `json:"format"`
	Leader   *Named   `json:"leader"` // null: none is known
	Term     uint64   `json:"term"`
	Voters   []Server `json:"voters"`
	Spares   []Server `json:"spares"`
	Danger   string   `json:"danger"`            // what would stop writes; empty: one loss is survived
	Outbound []Server `json:"outbound"`          // eligible, and never voters or spares, for nobody can dial them
	Replica  *Replica `json:"replica,omitempty"` // of this host
	Level    Level    `json:"level"`
}

// Level is how far the fleet's hosts agree on what may be written.
type Level struct {
	Level    uint16        `json:"level"`    // the fleet's
	Supports uint16        `json:"supports"` // the newest of this host's program
	Holding  []LevelHolder `json:"holding"`  // who keeps it below the newest of the leader's program; muster quorum status alone has it
	More     int           `json:"more"`     // how many more do than are listed
}

// LevelHolder is a host that is not known to support the newest level.
type LevelHolder struct {
	ID     fleet.ID `json:"id"`
	Name   string   `json:"name"`
	Level  uint16   `json:"level"` // 0: it has not said
	Server bool     `json:"server"`
	Online bool     `json:"online"`
	Waits  bool     `json:"waits"` // the level waits for it
}

// OfLevel returns the shape of l.
func OfLevel(l node.LevelStatus) Level {
	out := Level{Level: uint16(l.Level), Supports: uint16(l.Supports), Holding: []LevelHolder{}, More: l.More}
	for _, h := range l.Holding {
		out.Holding = append(out.Holding, LevelHolder{ID: h.ID, Name: h.Name, Level: uint16(h.Level), Server: h.Server, Online: h.Online, Waits: h.Waits})
	}
	return out
}

// status returns what OfLevel was given. An agent of the first level says none.
func (l Level) status() node.LevelStatus {
	out := node.LevelStatus{Level: max(fleet.Level(l.Level), fleet.LevelFirst), Supports: max(fleet.Level(l.Supports), fleet.LevelFirst), More: l.More}
	for _, h := range l.Holding {
		out.Holding = append(out.Holding, node.LevelHolder{ID: h.ID, Name: h.Name, Level: fleet.Level(h.Level), Server: h.Server, Online: h.Online, Waits: h.Waits})
	}
	return out
}

// Replica names a replica's state: equal at the same act on all servers.
type Replica struct {
	Act    uint64   `json:"act"`
	Digest fleet.ID `json:"digest"`
}

// Server is one server of the quorum.
type Server struct {
	ID     fleet.ID `json:"id"`
	Name   string   `json:"name"`
	Online bool     `json:"online"`
}

// OfStatus returns the shape of s.
func OfStatus(s node.Status) Status {
	out := Status{
		Format: Format, Version: s.Version, Fleet: Named{s.Fleet, s.FleetName}, Self: OfNode(s.Self, 0),
		Charter: Chain{Head: &s.CharterHead, Length: s.CharterLen}, Record: Chain{Length: s.RecordLen, Act: s.Act},
		Now: s.Now.UTC(), ClockOff: s.ClockOff.Milliseconds(), Nodes: Counts{s.Online, s.Lost, s.Left},
		Quorum: OfQuorum(s.Quorum), Observed: make([]string, 0, len(s.Observed)), Outbound: s.Outbound, Uplinks: []Server{},
		Agent: Usage(s.Agent), Warnings: s.Warnings,
	}
	for _, addr := range s.Observed {
		out.Observed = append(out.Observed, addr.String())
	}
	for _, u := range s.Uplinks {
		out.Uplinks = append(out.Uplinks, Server(u))
	}
	if out.Warnings == nil {
		out.Warnings = []string{}
	}
	return out
}

// Status returns what OfStatus was given, the clock's offset in whole milliseconds.
func (s Status) Status() (node.Status, error) {
	self, err := s.Self.Member()
	if err != nil {
		return node.Status{}, err
	}
	observed, err := addrs(s.Observed)
	out := node.Status{
		Version: s.Version, Fleet: s.Fleet.ID, FleetName: s.Fleet.Name, Self: self, CharterLen: s.Charter.Length,
		Act: s.Record.Act, RecordLen: s.Record.Length, Now: s.Now, ClockOff: time.Duration(s.ClockOff) * time.Millisecond,
		Online: s.Nodes.Online, Lost: s.Nodes.Lost, Left: s.Nodes.Left, Quorum: s.Quorum.Quorum(), Observed: observed,
		Outbound: s.Outbound,
		Agent:    node.Usage(s.Agent), Warnings: s.Warnings,
	}
	for _, u := range s.Uplinks {
		out.Uplinks = append(out.Uplinks, node.ServerStatus(u))
	}
	if s.Charter.Head != nil {
		out.CharterHead = *s.Charter.Head
	}
	return out, err
}

// OfQuorum returns the shape of q.
func OfQuorum(q node.QuorumStatus) Quorum {
	out := Quorum{
		Format: Format, Term: q.Term, Voters: []Server{}, Spares: []Server{}, Outbound: []Server{}, Danger: q.Danger, Level: OfLevel(q.Level),
	}
	for _, v := range q.Voters {
		out.Voters = append(out.Voters, Server(v))
	}
	for _, s := range q.Spares {
		out.Spares = append(out.Spares, Server(s))
	}
	for _, o := range q.Outbound {
		out.Outbound = append(out.Outbound, Server(o))
	}
	if !q.Replica.Digest.IsZero() {
		replica := Replica(q.Replica)
		out.Replica = &replica
	}
	if q.Leader.IsZero() {
		return out
	}
	out.Leader = &Named{ID: q.Leader}
	for _, v := range append(out.Voters[:len(out.Voters):len(out.Voters)], out.Spares...) {
		if v.ID == q.Leader {
			out.Leader.Name = v.Name
		}
	}
	return out
}

// Quorum returns what OfQuorum was given.
func (q Quorum) Quorum() node.QuorumStatus {
	out := node.QuorumStatus{Term: q.Term, Danger: q.Danger, Level: q.Level.status()}
	for _, v := range q.Voters {
		out.Voters = append(out.Voters, node.ServerStatus(v))
	}
	for _, s := range q.Spares {
		out.Spares = append(out.Spares, node.ServerStatus(s))
	}
	for _, o := range q.Outbound {
		out.Outbound = append(out.Outbound, node.ServerStatus(o))
	}
	if q.Leader != nil {
		out.Leader = q.Leader.ID
	}
	if q.Replica != nil {
		out.Replica = node.ReplicaStatus(*q.Replica)
	}
	return out
}
