package node

import (
	"fmt"
	"time"

	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

// SessionLimits bounds the sessions of a host. As a host's own word a zero field says nothing.
type SessionLimits struct {
	Idle     time.Duration // of what runs on a terminal, without input or output
	Most     time.Duration
	All      int // open at a time
	Operator int // open at a time of one operator's key
}

const (
	// MaxSessions is how many sessions a node has open at a time: at a few MB for each supervisor, what a small host
	// bears.
	MaxSessions = 256
	// MaxOperatorSessions leaves the others room.
	MaxOperatorSessions = 64
	// TerminalGrace is how long a shell waits for a client that went away: long enough to walk to another network.
	TerminalGrace = 5 * time.Minute
	// PlainGrace is the same for what has no terminal, so nobody who would come back to it by hand.
	PlainGrace = time.Minute
	// MaxSessionsListed is how many sessions one answer lists.
	MaxSessionsListed = 1_000
)

// SessionLimitsOf returns what the fleet allows, narrowed by the host's own word.
func SessionLimitsOf(s auth.Settings, own SessionLimits) SessionLimits {
	return SessionLimits{
		Idle: least(s.SessionIdle(), own.Idle), Most: least(s.SessionMost(), own.Most),
		All: least(MaxSessions, own.All), Operator: least(MaxOperatorSessions, own.Operator),
	}
}

// least returns the lesser of two bounds, of which zero is none.
func least[T int | int64 | time.Duration](a, b T) T {
	if a <= 0 || b > 0 && b < a {
		return b
	}
	return a
}

// times fills in how long a session may idle, last and wait. What nobody sits before idles as long as it lasts: a copy of
// a large tree may be silent for long.
func (l SessionLimits) times(o *SessionOrder, s auth.Session) {
	idle, grace := time.Duration(0), PlainGrace
	if len(s.Terminal) > 0 {
		idle, grace = l.Idle, TerminalGrace
	}
	o.Idle = least(idle, time.Duration(s.Idle)*time.Millisecond).Milliseconds()
	o.Most = least(l.Most, time.Duration(s.Most)*time.Millisecond).Milliseconds()
	o.Grace = grace.Milliseconds()
}

// AdmitSession reports why one session more cannot be opened beside those that there are, or nil. have holds the ended
// ones too, which count as long as something of them lingers, and are held at least as long as their statements could be used again: each opens one session. A client that did not hear
// that its session was opened attaches.
func AdmitSession(o SessionOrder, have []SessionState, limits SessionLimits) error {
	all, operator, lingering := 0, 0, 0
	for _, s := range have {
		switch {
		case s.ID == o.ID:
			return fleet.Errorf(fleet.Conflict, "session %s was opened before", o.ID).Hinted("open another one")
		case s.Ended != 0 && !s.Lingers:
			continue
		case s.Ended != 0:
			lingering++
		}
		if s.By == o.By {
			operator++
		}
		all++
	}
	switch {
	case operator >= limits.Operator:
		return fleet.Errorf(fleet.Exhausted, "operator %s has %d sessions on this node, the limit%s", o.Operator, operator, lingerText(lingering)).
			Hinted("muster session list; muster session kill ID")
	case all >= limits.All:
		return fleet.Errorf(fleet.Exhausted, "this node has %d sessions, the limit%s", all, lingerText(lingering)).
			Hinted("muster session list; muster session kill ID")
	}
	return nil
}

func lingerText(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf(" (%d have ended, and wait for a client that has not heard of it)", n)
}
