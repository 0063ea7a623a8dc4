package auth

import (
	"slices"
	"strings"
	"time"

	"github.com/muster-fleet/muster/node/fleet"
)

// What the fleet's settings say of sessions, and what holds where they say nothing.
const (
	MinSessionTime = time.Minute // of session.idle and session.most: SSM's least
	// DefaultSessionIdle is SSM's idleSessionTimeout.
	DefaultSessionIdle = 20 * time.Minute
	// DefaultSessionMost is the longest maxSessionDuration that SSM takes.
	DefaultSessionMost = 24 * time.Hour
)

// The values of SettingSessionRecord.
const (
	SessionRecordBestEffort = "best-effort" // the default
	SessionRecordDurable    = "durable"
	SessionRecordOff        = "off"
	SessionRecordInput      = "input" // what is typed, too; behind one of the others: durable,input
)

// checkSessionRecord wants one of the ways to record, and perhaps ",input" behind it.
func checkSessionRecord(value string) error {
	way, input, more := strings.Cut(value, ",")
	ways := []string{SessionRecordBestEffort, SessionRecordDurable, SessionRecordOff}
	if !slices.Contains(ways, way) || more && (input != SessionRecordInput || way == SessionRecordOff) {
		return fleet.Errorf(fleet.Invalid, "sessions cannot be recorded as %q", shorten(value)).
			Hinted("%s; %s,%s: what is typed, too", strings.Join(ways, ", "), SessionRecordDurable, SessionRecordInput)
	}
	return nil
}

// SessionIdle returns how long a session on a terminal may idle.
func (s Settings) SessionIdle() time.Duration {
	return s.sessionTime(SettingSessionIdle, DefaultSessionIdle)
}

// SessionMost returns how long a session lasts at most.
func (s Settings) SessionMost() time.Duration {
	return s.sessionTime(SettingSessionMost, DefaultSessionMost)
}

func (s Settings) sessionTime(name string, byDefault time.Duration) time.Duration {
	if span, err := parseSpan(s.Get(name), MinSessionTime, MaxSessionTime); err == nil {
		return span
	}
	return byDefault
}

// SessionRecord returns how sessions are recorded, and whether what is typed is recorded, too.
func (s Settings) SessionRecord() (way string, input bool) {
	value := s.Get(SettingSessionRecord)
	if value == "" || checkSessionRecord(value) != nil {
		return SessionRecordBestEffort, false
	}
	way, _, input = strings.Cut(value, ",")
	return way, input
}
