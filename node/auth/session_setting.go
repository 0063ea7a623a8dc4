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

// The values of SettingSessionCopies.
const (
	SessionCopiesSealed = "sealed" // the default: only what nobody but auditors can read leaves its node
	SessionCopiesAll    = "all"
	SessionCopiesOff    = "off"
)

const (
	// MaxSessionAuditors is how many operators and teams session.auditors names at most.
	MaxSessionAuditors = 32
	// DefaultSessionKeep is how long recordings are kept.
	DefaultSessionKeep = 90 * 24 * time.Hour
	// auditorTeam begins the name of a team among auditors; names of operators have no colon.
	auditorTeam = "team:"
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

// checkSessionAuditors wants names of operators and team:NAME, separated by commas.
func checkSessionAuditors(value string) error {
	names := strings.Split(value, ",")
	if len(names) > MaxSessionAuditors {
		return fleet.Errorf(fleet.Invalid, "%d auditors are named; at most %d", len(names), MaxSessionAuditors).Hinted("name a team of them: team:NAME")
	}
	for i, name := range names {
		if slices.Contains(names[:i], name) {
			return fleet.Errorf(fleet.Invalid, "auditor %q is named twice", shorten(name))
		}
		if err := fleet.CheckName(strings.TrimPrefix(name, auditorTeam)); err != nil {
			return fleet.Errorf(fleet.Invalid, "auditors are operators and teams, and %q is no name of one", shorten(name)).Hinted("ann,bob or team:security")
		}
	}
	return nil
}

func checkSessionCopies(value string) error {
	which := []string{SessionCopiesSealed, SessionCopiesAll, SessionCopiesOff}
	if !slices.Contains(which, value) {
		return fleet.Errorf(fleet.Invalid, "there are no copies of kind %q", shorten(value)).Hinted("%s", strings.Join(which, ", "))
	}
	return nil
}

// SessionAuditors returns what names those who alone can read recordings; none: recordings are not sealed.
func (s Settings) SessionAuditors() []string {
	value := s.Get(SettingSessionAuditors)
	if value == "" {
		return nil
	}
	return strings.Split(value, ",")
}

// SessionCopies reports whether servers keep copies of recordings that are sealed, or not.
func (s Settings) SessionCopies(sealed bool) bool {
	switch s.Get(SettingSessionCopies) {
	case SessionCopiesAll:
		return true
	case SessionCopiesOff:
		return false
	}
	return sealed
}

// SessionKeep returns how long recordings are kept.
func (s Settings) SessionKeep() time.Duration {
	if span, err := parseSpan(s.Get(SettingSessionKeep), MinRecordsKeep, MaxRecordsKeep); err == nil {
		return span
	}
	return DefaultSessionKeep
}

// SessionTo returns where recordings go besides; empty: nowhere.
func (s Settings) SessionTo() string { return s.Get(SettingSessionTo) }

// Auditors returns the operators whom session.auditors names and who may act now, by name; named: it names anybody at all. Who
// is named both as an operator and by a team is there once.
func (r Record) Auditors(now time.Time) (out []Operator, named bool) {
	names := r.Settings.SessionAuditors()
	if len(names) == 0 || r.Charter == nil {
		return nil, len(names) > 0
	}
	for _, op := range r.Charter.Operators() {
		if _, err := r.Charter.Current(op.ID(), now); err == nil && audits(op, names) {
			out = append(out, op)
		}
	}
	return out, true
}

func audits(op Operator, names []string) bool {
	return slices.ContainsFunc(names, func(name string) bool {
		if team, ok := strings.CutPrefix(name, auditorTeam); ok {
			return slices.Contains(op.Teams, team)
		}
		return name == op.Name
	})
}
