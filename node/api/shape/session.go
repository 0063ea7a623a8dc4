package shape

import (
	"time"

	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/fleet"
)

// Session is a session of one node.
type Session struct {
	ID       fleet.UUID       `json:"id"`
	Kind     string           `json:"kind"` // shell, exec, forward, copy
	Operator string           `json:"operator"`
	Key      fleet.ID         `json:"key"` // the operator's
	From     string           `json:"from"`
	Rule     string           `json:"rule"` // the policy that permitted
	User     string           `json:"user"` // account; empty for a forward
	Argv     []string         `json:"argv"`
	Terminal bool             `json:"terminal"`
	Forward  []string         `json:"forward"`
	Reason   string           `json:"reason"`
	Started  time.Time        `json:"started"`
	Active   time.Time        `json:"active"`
	Ended    time.Time        `json:"ended,omitzero"` // missing: it runs
	Attached bool             `json:"attached"`
	In       int64            `json:"bytes_in"`
	Out      int64            `json:"bytes_out"`
	ExitCode int32            `json:"exit_code"`
	Signal   string           `json:"signal"`
	Why      string           `json:"why"`
	Recorded int64            `json:"recorded_bytes"`
	Digest   *fleet.ID        `json:"recording_digest,omitempty"` // SHA-256 of the whole of an ended one
	Sealed   bool             `json:"recording_sealed"`           // only auditors can read it
	Left     int64            `json:"recording_left_out"`         // bytes of the session that are not in it
	Copies   []fleet.ID       `json:"recording_copies,omitempty"` // servers that have it, too
	Document *SessionDocument `json:"document,omitempty"`         // by which it was opened
	// Listening is where the node listens for it: with the ports that it got, as long as it runs.
	Listening   []string            `json:"listening,omitempty"`
	Paths       []string            `json:"paths,omitempty"`              // of a copy
	Put         bool                `json:"put,omitempty"`                // of a copy: the node writes
	Connections int64               `json:"connections,omitempty"`        // of a tunnel, so far
	Recent      []SessionConnection `json:"recent_connections,omitempty"` // the last that ended, the oldest first
}

// SessionConnection is a connection of a tunnel that has ended.
type SessionConnection struct {
	To    string    `json:"to"`             // that was connected to; of one that came in, where the node listens
	From  string    `json:"from,omitempty"` // of one that came in
	Began time.Time `json:"began"`
	Ended time.Time `json:"ended"`
	In    int64     `json:"bytes_in"`
	Out   int64     `json:"bytes_out"`
	Why   string    `json:"why,omitempty"` // why it broke, or came to nothing
}

// SessionDocument is the document of a session, with values for its parameters.
type SessionDocument struct {
	Name    string            `json:"name"`
	Version uint32            `json:"version,omitempty"` // as its operator was told; missing: nobody could say
	SHA256  fleet.ID          `json:"sha256"`            // of its text
	Values  map[string]string `json:"values"`            // each in JSON
}

// OfSession returns the shape of a session.
func OfSession(s node.SessionState) Session {
	out := Session{
		ID: s.ID, Kind: s.Kind.String(), Operator: s.Operator, Key: s.By, From: s.From, Rule: s.Rule, User: s.User, Argv: filled(s.Argv),
		Ended: At(s.Ended), Terminal: s.Terminal, Forward: filled(s.Forward), Reason: s.Reason, Started: At(s.Started), Active: At(s.Active),
		Attached: s.Attached, In: s.In, Out: s.Out, ExitCode: s.Code, Signal: s.Signal, Why: s.Why,
		Recorded: s.Recording.Bytes, Sealed: s.Recording.Sealed, Left: s.Recording.Left, Copies: s.Copies,
	}
	out.Listening, out.Paths, out.Put, out.Connections = s.Listening, s.Paths, s.Put, s.Dials
	if len(s.Listening) == 0 {
		out.Listening = s.Listen
	}
	for _, c := range s.Recent {
		out.Recent = append(out.Recent, SessionConnection{c.To, c.From, At(c.Began), At(c.Ended), c.In, c.Out, c.Why})
	}
	for _, d := range s.Document {
		values := map[string]string{}
		for _, v := range d.Values {
			values[v.Name] = v.Value
		}
		out.Document = &SessionDocument{d.Name, d.Version, d.Digest, values}
	}
	if !s.Recording.Digest.IsZero() {
		out.Digest = &s.Recording.Digest
	}
	return out
}

// OfSessions returns the shapes of sessions, none as an empty list.
func OfSessions(all []node.SessionState) []Session {
	out := make([]Session, 0, len(all))
	for _, s := range all {
		out = append(out, OfSession(s))
	}
	return out
}

func filled(texts []string) []string {
	if texts == nil {
		return []string{}
	}
	return texts
}
