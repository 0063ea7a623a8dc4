package shape

import (
	"time"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/fleet"
)

// Command is a committed command.
type Command struct {
	ID        fleet.UUID `json:"id"`
	Operator  string     `json:"operator"`
	Act       uint64     `json:"act"`
	Committed time.Time  `json:"committed"`
	Cancelled time.Time  `json:"cancelled,omitzero"`
	Target    string     `json:"target"`
	Count     uint32     `json:"count"`
	Set       fleet.ID   `json:"set"` // digest of the frozen set
	Run       Run        `json:"run"`
	Documents []Document `json:"documents"`            // the first is run, it may run the others
	Params    []Pinned   `json:"parameters,omitempty"` // what it takes from the parameter store
	Pace      Pace       `json:"pace"`
	After     *After     `json:"after,omitempty"`
	Comment   string     `json:"comment,omitempty"`
	OutputTo  string     `json:"output_to,omitempty"`
	Rollout   *Rollout   `json:"rollout,omitempty"`         // of a command with limits
	Cancels   []fleet.ID `json:"cancelled_nodes,omitempty"` // one by one
	Signed
	Nodes     []fleet.ID `json:"nodes,omitempty"`
	Statement []byte     `json:"statement,omitempty"` // the command as its operator signed it, an auth.Envelope; of one that is asked for by its ID
}

// Run is what the nodes run. Bytes are base64.
type Run struct {
	Argv    []string `json:"argv"` // one: a shell line; several: an argv, no shell; with a script: its arguments
	Script  []byte   `json:"script,omitempty"`
	Env     []string `json:"env,omitempty"`
	Dir     string   `json:"cwd,omitempty"`
	User    string   `json:"user,omitempty"`
	Stdin   []byte   `json:"stdin,omitempty"`
	Timeout int64    `json:"timeout_ms"`
	Values  []Value  `json:"values,omitempty"`
}

// Value is a value for a document's parameter, as JSON text.
type Value struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

func ofRun(r exec.Run) Run {
	out := Run{Argv: r.Argv, Script: r.Script, Env: r.Env, Dir: r.Dir, User: r.User, Stdin: r.Stdin, Timeout: r.Timeout}
	if out.Argv == nil {
		out.Argv = []string{}
	}
	for _, v := range r.Values {
		out.Values = append(out.Values, Value(v))
	}
	return out
}

// Run returns what ofRun was given.
func (r Run) Run() exec.Run {
	out := exec.Run{Argv: r.Argv, Script: r.Script, Env: r.Env, Dir: r.Dir, User: r.User, Stdin: r.Stdin, Timeout: r.Timeout}
	for _, v := range r.Values {
		out.Values = append(out.Values, exec.Argument(v))
	}
	return out
}

// OfCommand returns the shape of c.
func OfCommand(c node.CommandInfo) Command {
	out := Command{
		ID: c.ID, Operator: c.Operator, Act: c.Act, Committed: At(c.Committed), Cancelled: At(c.Cancelled),
		Target: c.Body.Target, Count: c.Body.Count, Set: c.Body.Set, Run: ofRun(c.Body.Run), Documents: ofDocuments(c.Body.Documents),
		Pace: ofPace(c.Body.Pace), Comment: c.Body.Comment, OutputTo: c.Body.OutputTo, Signed: ofHeader(c.Body.Header), Nodes: c.Nodes,
	}
	if c.Body.Pace.Limited {
		rollout := OfRollout(c.Rollout)
		out.Rollout = &rollout
	}
	out.Params = ofParams(c.Body.Params)
	out.Cancels = c.Cancels
	out.Statement = ofSigned(c.Statement)
	if c.Body.After != (exec.After{}) {
		after := After(c.Body.After)
		out.After = &after
	}
	return out
}

// Command returns what OfCommand was given.
func (c Command) Command() node.CommandInfo {
	out := node.CommandInfo{
		ID: c.ID, Operator: c.Operator, Act: c.Act, Committed: Milli(c.Committed), Cancelled: Milli(c.Cancelled), Nodes: c.Nodes,
		Body: exec.Command{
			Header: c.header(c.ID), Target: c.Target, Count: c.Count, Set: c.Set, Run: c.Run.Run(), Documents: documentsOf(c.Documents),
			Pace: c.Pace.Pace(), Comment: c.Comment, OutputTo: c.OutputTo,
		},
	}
	out.Body.Params = paramsOf(c.Params)
	if c.Rollout != nil {
		out.Rollout = c.Rollout.Rollout()
	}
	if len(c.Cancels) > 0 {
		out.Cancels = c.Cancels
	}
	out.Statement, _ = signedOf(c.Statement) // what is no statement is none: whoever needs it misses it
	if c.After != nil {
		out.Body.After = exec.After(*c.After)
	}
	return out
}
