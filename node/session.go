package node

import (
	"strings"
	"time"

	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

// SessionOrder is what came of judging a session: everything that is needed to open it, with nothing left to decide.
// It never leaves the host.
type SessionOrder struct {
	ID       fleet.UUID
	By       fleet.ID // the operator's key: whoever attaches has it
	Operator string   // name
	From     string   // where the operator's end is; the agent sets it
	Rule     string   // the policy that permitted
	Kind     auth.SessionKind
	User     string // account; never empty, but of SessionForward, which has none
	Argv     []string
	Terminal []auth.Terminal // none or one
	Env      []string        // K=V
	Forward  []string        // each HOST:PORT, in canonical form
	Reason   string
	Shell    bool  // the operator writes shell lines: context.shell, as policy was asked
	Opened   int64 // Unix milliseconds, when it was judged
	Expires  int64 // Unix milliseconds, when its statement is of no more use; see AdmitSession
	Idle     int64 // milliseconds without input or output before it ends; 0: it may idle
	Most     int64 // milliseconds that it lasts at most; never 0
	Grace    int64 // milliseconds that what runs waits for a client that went away; never 0
	Record   SessionRecord
	Input    bool     // record what is typed, too
	Auditors [][]byte // HPKE public keys to seal the recording to; none: it is not sealed
}

// SessionRecord says how a session is recorded.
type SessionRecord uint8

// The ways to record.
const (
	RecordBestEffort SessionRecord = 1 // before it is shown, synced every 100 ms; where the disk is full, the session says so and goes on
	RecordDurable    SessionRecord = 2 // synced before it is shown; where the disk is full, the session ends
	RecordNone       SessionRecord = 3 // connections, bytes and times only: what a copy or a tunnel carries is not kept
)

// SessionState is what is told about a session, running or ended. What it was given as environment is not in it.
type SessionState struct {
	ID        fleet.UUID
	By        fleet.ID
	Operator  string
	From      string
	Rule      string
	Kind      auth.SessionKind
	User      string
	Argv      []string
	Terminal  bool
	Shell     bool
	Forward   []string
	Reason    string
	Idle      int64 // as in SessionOrder
	Most      int64
	Expires   int64
	Started   int64 // Unix milliseconds
	Active    int64 // Unix milliseconds of the last input or output
	Ended     int64 // Unix milliseconds; 0: it runs
	Attached  bool  // somebody looks at it
	In        int64 // bytes from the operator
	Out       int64 // bytes to the operator
	Code      int32 // of an ended one
	Signal    string
	Why       string // why it ended, where the program did not end by itself
	Recording SessionRecording
}

// SessionRecording is what is known of a session's recording. The zero one: there is none.
type SessionRecording struct {
	Bytes  int64
	Digest fleet.ID // SHA-256 of the whole of an ended one
	Sealed bool     // only auditors can read it
}

// State returns what is told of the session when it begins.
func (o SessionOrder) State() SessionState {
	return SessionState{
		ID: o.ID, By: o.By, Operator: o.Operator, From: o.From, Rule: o.Rule, Kind: o.Kind, User: o.User, Argv: o.Argv,
		Terminal: len(o.Terminal) > 0, Shell: o.Shell, Forward: o.Forward, Reason: o.Reason, Idle: o.Idle, Most: o.Most,
		Expires: o.Expires, Started: o.Opened, Active: o.Opened,
	}
}

// MayDial reports why the session may not connect to a place, or nil. What was signed is compared as it stands.
func (s SessionState) MayDial(to string) error {
	if s.Kind != auth.SessionForward {
		return fleet.Errorf(fleet.Invalid, "session %s is for %s and connects to nothing", s.ID, s.Kind)
	}
	for _, f := range s.Forward {
		if f == to {
			return nil
		}
	}
	return fleet.Errorf(fleet.Denied, "session %s may connect to %s only", s.ID, strings.Join(s.Forward, ", "))
}

// Text returns one line that shows what the session is, for lists.
func (s SessionState) Text() string {
	switch s.Kind {
	case auth.SessionExec:
		return strings.Join(s.Argv, " ")
	case auth.SessionForward:
		return strings.Join(s.Forward, " ")
	case auth.SessionShell, auth.SessionCopy:
	}
	return s.Kind.String()
}

// Length returns how long the session lasts, or lasted.
func (s SessionState) Length(now time.Time) time.Duration {
	end := now.UnixMilli()
	if s.Ended != 0 {
		end = s.Ended
	}
	return time.Duration(max(end-s.Started, 0)) * time.Millisecond
}
