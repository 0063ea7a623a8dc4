package node

import (
	"fmt"
	"slices"
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
	Listen   []string // each ADDRESS:PORT, in canonical form
	Paths    []string // of a copy, in canonical form
	Put      bool
	Deep     bool
	Document []auth.SessionDocument // none or one: by which the session was made
	Profile  string                 // lines that are typed into a shell before anything of the operator's
	// Unrecorded is why the session is not recorded though it should be, for the one whose session it is; empty: nothing to say.
	Unrecorded string
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
	Listen    []string // as signed
	Listening []string // of a running one, in the order of Listen: where it listens, with the ports that it got
	Paths     []string
	Put       bool
	Deep      bool
	Dials     int64                  // connections of a tunnel so far, either way
	Lingers   bool                   // it has ended, and a process of it still waits for its client
	Recent    []SessionConnection    // the last of them that have ended, the oldest first; at most MaxRecentConnections
	Document  []auth.SessionDocument // none or one
	Copies    []fleet.ID             // servers that have a copy of the recording
}

// MaxRecentConnections is how many of a tunnel's ended connections are told with its state; its recording has them all.
const MaxRecentConnections = 32

// SessionConnection is one connection of a tunnel that has ended.
type SessionConnection struct {
	To    string // HOST:PORT that was connected to; of one that came in, where the node listens
	From  string // of one that came in: who connected
	Began int64  // Unix milliseconds
	Ended int64
	In    int64  // bytes from the operator
	Out   int64  // bytes to the operator
	Why   string // why it broke, or came to nothing; empty: both ends had said all
}

// Text returns the connection as one line of a recording.
func (c SessionConnection) Text() string {
	text := c.To
	if c.From != "" {
		text = c.From + " at " + c.To
	}
	began := time.UnixMilli(c.Began).UTC().Format("2006-01-02T15:04:05.000Z")
	text = fmt.Sprintf("%s, %s, for %s, %d bytes in, %d out", text, began, time.Duration(max(c.Ended-c.Began, 0))*time.Millisecond, c.In, c.Out)
	if c.Why != "" {
		text += ": " + c.Why
	}
	return text
}

// SessionRecording is what is known of a session's recording. The zero one: there is none.
type SessionRecording struct {
	Bytes  int64
	Digest fleet.ID // SHA-256 of the whole of an ended one
	Sealed bool     // only auditors can read it
	Left   int64    // bytes of the session that are not in it, of an ended one: more was poured out than is recorded, or the disk was full
}

// State returns what is told of the session when it begins.
func (o SessionOrder) State() SessionState {
	return SessionState{
		ID: o.ID, By: o.By, Operator: o.Operator, From: o.From, Rule: o.Rule, Kind: o.Kind, User: o.User, Argv: o.Argv,
		Terminal: len(o.Terminal) > 0, Shell: o.Shell, Forward: o.Forward, Listen: o.Listen, Paths: o.Paths, Put: o.Put, Deep: o.Deep, Reason: o.Reason, Idle: o.Idle, Most: o.Most,
		Expires: o.Expires, Document: o.Document, Started: o.Opened, Active: o.Opened,
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

// MayAccept reports why the session gets no connections that come in at the n-th of its places, from 0 on, or nil.
func (s SessionState) MayAccept(n uint16) error {
	if s.Kind == auth.SessionForward && int(n) < len(s.Listen) {
		return nil
	}
	return fleet.Errorf(fleet.Denied, "session %s listens at %d places, and not at one with number %d", s.ID, len(s.Listen), n)
}

// Text returns one line that shows what the session is, for lists.
func (s SessionState) Text() string {
	for _, d := range s.Document {
		return documentText(d)
	}
	switch s.Kind {
	case auth.SessionExec:
		return strings.Join(s.Argv, " ")
	case auth.SessionForward:
		return strings.Join(slices.Concat(s.Forward, listening(s)), " ")
	case auth.SessionCopy:
		way := "from "
		if s.Put {
			way = "to "
		}
		return way + strings.Join(s.Paths, " ")
	case auth.SessionShell:
	}
	return s.Kind.String()
}

// listening lists where the session listens, as people write it.
func listening(s SessionState) []string {
	out := slices.Clone(s.Listen)
	if len(s.Listening) == len(out) {
		copy(out, s.Listening)
	}
	for i := range out {
		out[i] = "←" + out[i]
	}
	return out
}

// Length returns how long the session lasts, or lasted.
func (s SessionState) Length(now time.Time) time.Duration {
	end := now.UnixMilli()
	if s.Ended != 0 {
		end = s.Ended
	}
	return time.Duration(max(end-s.Started, 0)) * time.Millisecond
}
