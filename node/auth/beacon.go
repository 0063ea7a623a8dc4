package auth

import (
	"time"

	"github.com/muster-fleet/muster/node/fleet"
)

// MaxVoters and MaxSpares bound a beacon. Five voters and two spares are the most that the quorum grows to; the rest is
// room for a change in flight.
const (
	MaxVoters = 7
	MaxSpares = 7
)

// Beacon is a server's signed summary of the newest state it holds. Nodes learn from it that they are behind, whom to
// ask, and that time goes on.
type Beacon struct {
	Time         int64 // Unix milliseconds
	Epoch        uint64
	CharterHead  fleet.ID
	CharterLen   uint64
	RecordHead   fleet.ID
	RecordLen    uint64
	Act          uint64 // newest act index, commands included
	GossipEpoch  uint32
	Term         uint64
	Leader       fleet.ID // zero: none known
	Voters       []fleet.ID
	Spares       []fleet.ID
	AuditRoot    fleet.ID // zero until the audit log is there
	FleetVersion uint16   // the level that servers write
}

// OpenBeacon verifies a beacon by an eligible server of the roster.
func OpenBeacon(r Record, e Envelope) (Beacon, error) {
	n, err := r.Roster.Enrolled(e.Key)
	if err != nil {
		return Beacon{}, err
	}
	if !n.Server {
		return Beacon{}, fleet.Errorf(fleet.Denied, "node %s signed a beacon, but no operator made it a server", n.Name)
	}
	b, err := Open[Beacon](e, ForBeacon, r.Charter.fleetID, n.Key)
	switch {
	case err != nil:
	case len(b.Voters) > MaxVoters || len(b.Spares) > MaxSpares:
		err = fleet.Errorf(fleet.Invalid, "beacon of %s with too many servers", n.Name)
	case !isTime(b.Time):
		err = fleet.Errorf(fleet.Invalid, "beacon of %s with a time that is none: %d", n.Name, b.Time)
	}
	return b, err
}

// Contradicts reports whether b and r are two histories of equal length: the proof that somebody rewrote, held back or
// made up an act of the record. r may be the liar's work as well as b: ask other servers.
func (b Beacon) Contradicts(r Record) bool {
	return b.RecordLen == r.Length && b.RecordHead != r.Head
}

// Newer reports whether b tells of a later state than old. Compare beacons of one server only, and keep the newest of
// each: beside a server that lies about its term, every honest beacon looks old.
func (b Beacon) Newer(old Beacon) bool {
	switch {
	case b.Epoch != old.Epoch:
		return b.Epoch > old.Epoch
	case b.Term != old.Term:
		return b.Term > old.Term
	case b.Act != old.Act:
		return b.Act > old.Act
	}
	return b.Time > old.Time
}

// Clock judges time: what the fleet said last, and when this host heard it. The zero Clock trusts the host's.
type Clock struct {
	Floor int64         // Unix milliseconds: the newest beacon's time; persisted
	Heard time.Duration // time since boot at which it was Floor; 0: not known, as after a restart; not persisted
}

// Instant is a moment as a host sees it.
type Instant struct {
	Wall time.Time
	Boot time.Duration // CLOCK_BOOTTIME
}

// Hear returns the clock after a beacon of time ms that came straight from its signer, who is taken to have made it
// just now.
func (c Clock) Hear(ms int64, at Instant) Clock {
	switch {
	case !isTime(ms) || ms == 0:
		return c
	case c.anchored(at) && ms <= c.expected(at):
		return c.Overhear(ms, at) // late: what we count ourselves is nearer to the truth
	case ms < c.Floor-MaxSkew.Milliseconds():
		return c // not just made, whoever it came from
	}
	return Clock{Floor: max(ms, c.Floor), Heard: at.Boot}
}

// Overhear returns the clock after a beacon of time ms that came by way of another member, who may have held it for
// hours: it raises the floor, and says nothing about how late it is now.
func (c Clock) Overhear(ms int64, at Instant) Clock {
	switch {
	case !isTime(ms) || ms <= c.Floor:
		return c
	case !c.anchored(at):
		return Clock{Floor: ms}
	case ms > c.expected(at):
		return Clock{Floor: ms, Heard: at.Boot}
	}
	return Clock{Floor: ms, Heard: c.Heard + time.Duration(ms-c.Floor)*time.Millisecond}
}

// anchored reports whether the clock knows when Floor was. A Heard ahead of the boot time is another boot's.
func (c Clock) anchored(at Instant) bool { return c.Heard > 0 && c.Heard <= at.Boot }

// expected returns the time that it must be at least, in Unix milliseconds.
func (c Clock) expected(at Instant) int64 {
	if c.anchored(at) {
		return c.Floor + (at.Boot - c.Heard).Milliseconds()
	}
	return c.Floor
}

// Now returns the time that statements are judged by: the host's, or the floor where the host's lags behind it.
func (c Clock) Now(at Instant) time.Time {
	if at.Wall.UnixMilli() < c.Floor {
		return time.UnixMilli(c.Floor)
	}
	return at.Wall
}

// Suspect returns by how much the host's clock is wrong beyond MaxSkew, or 0. A clock behind the floor is wrong at any
// time; one ahead of it shows only against a beacon heard since this agent started.
func (c Clock) Suspect(at Instant) time.Duration {
	if c.Floor == 0 {
		return 0
	}
	off := at.Wall.Sub(time.UnixMilli(c.expected(at)))
	if off < -MaxSkew || (c.anchored(at) && off > MaxSkew) {
		return off
	}
	return 0
}
