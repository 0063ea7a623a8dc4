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
	Signed
	Nodes []fleet.ID `json:"nodes,omitempty"`
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
}

// OfCommand returns the shape of c.
func OfCommand(c node.CommandInfo) Command {
	run := Run(c.Body.Run)
	if run.Argv == nil {
		run.Argv = []string{}
	}
	return Command{
		ID: c.ID, Operator: c.Operator, Act: c.Act, Committed: At(c.Committed), Cancelled: At(c.Cancelled),
		Target: c.Body.Target, Count: c.Body.Count, Set: c.Body.Set, Run: run, Signed: ofHeader(c.Body.Header), Nodes: c.Nodes,
	}
}

// Command returns what OfCommand was given.
func (c Command) Command() node.CommandInfo {
	return node.CommandInfo{
		ID: c.ID, Operator: c.Operator, Act: c.Act, Committed: Milli(c.Committed), Cancelled: Milli(c.Cancelled), Nodes: c.Nodes,
		Body: exec.Command{Header: c.header(c.ID), Target: c.Target, Count: c.Count, Set: c.Set, Run: exec.Run(c.Run)},
	}
}
