package document

import (
	"time"

	"github.com/muster-fleet/muster/node/fleet"
)

// SessionPlan is what a session by a document is, with all values put in.
type SessionPlan struct {
	Type SessionType
	// Argv is what runs, of documents with commands: one element is a shell line (sh -c), several an argv. No value is a part
	// of it, but for a parameter that is itself a script.
	Argv    []string
	Env     []string // K=V: the values, and nothing else
	User    string   // account; empty: none is named
	AnyUser bool     // whoever opens the session names the account; else, without User, nobody does
	Idle    time.Duration
	Most    time.Duration
	Profile string        // lines that are typed into the shell, each with its end
	Place   *SessionPlace // of PortSession
}

// SessionPlace is where connections lead.
type SessionPlace struct {
	Host    string // as written: a name or an address
	Port    uint16
	Listens bool   // whoever opens the session listens on a port of their own; else it is for standard input and output
	Local   uint16 // that port; 0: a free one
}

// ParseArguments reads values as a person types them, NAME=VALUE, by the parameters' types.
func (d *Session) ParseArguments(words []string) ([]Argument, error) {
	return d.doc.ParseArguments(words)
}

// Complete checks values against the document, and adds the defaults of those that are not given.
func (d *Session) Complete(args []Argument) (Values, error) {
	if found, err := d.doc.StoreRefs(args); err == nil && len(found) > 0 {
		return Values{}, fleet.Errorf(fleet.Invalid, noStore)
	}
	return d.doc.Complete(args)
}

// noInput begins commands that are given none, whatever the operator's end sends.
const noInput = "exec </dev/null\n"

// Plan returns the session for values. The same document and values make the same plan everywhere.
func (d *Session) Plan(v Values) (SessionPlan, error) {
	out := SessionPlan{Type: d.kind, User: d.user, AnyUser: d.anyUser, Idle: d.idle, Most: d.most, Profile: d.profile}
	switch d.kind {
	case StandardStream:
		return out, nil
	case PortSession:
		place, err := d.port.place(resolver{d: d.doc, v: v})
		out.Place = &place
		return out, err
	case InteractiveCommands, NonInteractiveCommands:
	}
	plan, err := d.doc.Plan(v, Host{Platform: Linux}, nil)
	if err != nil {
		return out, err
	}
	for _, s := range plan.Steps { // there is one
		script := string(s.Script)
		if d.kind == NonInteractiveCommands {
			script = noInput + script
		}
		out.Argv, out.Env = []string{script}, s.Env
	}
	if len(d.runner) > 0 {
		out.Argv = append(append(d.runner[:len(d.runner):len(d.runner)], "-c"), out.Argv...)
	}
	return out, nil
}
