package params

import (
	"github.com/muster-fleet/muster/node/auth"
)

// Param is a parameter with its versions. Values are shared and never changed: what changes one returns another.
type Param struct {
	Name     string
	Born     int64
	Last     uint32     // the newest version's number
	Seq      uint32     // label changes so far
	Versions []*Version // by number; never empty; at most MaxVersions
	Labels   []LabelAt  // by label
	Told     []Told     // notices of policies that have been given for the newest version
}

// Version is one version of a parameter.
type Version struct {
	Number   uint32
	Op       uint32         // place of its Put in the change
	Body     []byte         // the encoded Op
	Change   *auth.Envelope // shared by all that it changed
	Operator string         // who signed it
	Time     int64          // Unix milliseconds, leader's stamp
	Act      uint64
	Put      *Put
	Content  []byte // encoded Content
}

// LabelAt is a label with the version that has it. The change that put it there is kept, so that a reader can check it.
type LabelAt struct {
	Label   string
	Version uint32
	Op      uint32
	Body    []byte // the encoded Op
	Change  *auth.Envelope
	Act     uint64
}

// Told is a notice that was given.
type Told struct {
	Policy uint32 // place in Put.Policies
	At     int64  // Unix milliseconds
}

// Event is something that happened to a parameter. Events are in order of Act and Part, and a watch goes on after the last
// one that it has seen.
type Event struct {
	Act     uint64
	Part    uint32 // order within one act
	Time    int64  // Unix milliseconds
	Kind    EventKind
	Name    string
	Born    int64
	Version uint32
	Labels  []string          // that were moved
	By      string            // operator; empty: time did it
	Tags    map[string]string // of the newest version then, by which policy judges who may hear of it; shared, never changed
}

// EventPos is where a watch stands: behind that event.
type EventPos struct {
	Act  uint64
	Part uint32
}

// Pos returns the event's own position.
func (e Event) Pos() EventPos { return EventPos{e.Act, e.Part} }

// Before reports whether o comes later.
func (p EventPos) Before(o EventPos) bool {
	return p.Act < o.Act || p.Act == o.Act && p.Part < o.Part
}

// EventKind says what happened.
type EventKind string

// The kinds of events.
const (
	EventCreated   EventKind = "created"
	EventUpdated   EventKind = "updated"
	EventDeleted   EventKind = "deleted"
	EventLabelled  EventKind = "labelled"
	EventExpired   EventKind = "expired"   // and deleted
	EventExpires   EventKind = "expires"   // ExpirationNotification
	EventUnchanged EventKind = "unchanged" // NoChangeNotification
)
