package shape

import (
	"time"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/fleet"
)

// Update is one line of a watch.
type Update struct {
	Info    *Command `json:"command,omitempty"`
	Report  *Report  `json:"report,omitempty"`
	Servers int      `json:"servers"`
	Synced  bool     `json:"synced,omitempty"`
	Signed  []byte   `json:"signed,omitempty"` // the report as the node signed it, an auth.Envelope; where it was asked for
}

// WatchAsk asks for a command's news.
type WatchAsk struct {
	Statement []byte `json:"statement"`        // an auth.Envelope
	Signed    bool   `json:"signed,omitempty"` // reports are told as their nodes signed them, too
}

// Report is what a node says of its run.
type Report struct {
	Command  fleet.UUID  `json:"command"`
	Node     fleet.ID    `json:"node"`
	Seq      uint32      `json:"sequence"`
	Status   exec.Status `json:"status"`
	ExitCode int         `json:"exit_code"`
	Signal   string      `json:"signal,omitempty"`
	Received time.Time   `json:"received,omitzero"`
	Started  time.Time   `json:"started,omitzero"`
	Ended    time.Time   `json:"ended,omitzero"`
	Stdout   Stream      `json:"stdout"`
	Stderr   Stream      `json:"stderr"`
	Detail   string      `json:"detail,omitempty"`
	Charter  fleet.ID    `json:"charter"`
	Act      uint64      `json:"act"`
	Rule     string      `json:"rule,omitempty"`
	Steps    []Step      `json:"steps,omitempty"`
}

// Stream is one output stream: its first and last bytes, in base64.
type Stream struct {
	Size   int64    `json:"size"`
	Kept   int64    `json:"kept"`
	Digest fleet.ID `json:"digest"`
	Head   []byte   `json:"head,omitempty"`
	Tail   []byte   `json:"tail,omitempty"`
}

// OfUpdate returns the shape of u.
func OfUpdate(u node.Update) Update {
	out := Update{Servers: u.Servers, Synced: u.Synced}
	if u.Info != nil {
		info := OfCommand(*u.Info)
		out.Info = &info
	}
	if u.Report != nil {
		report := OfReport(*u.Report)
		out.Report = &report
	}
	return out
}

// Update returns what OfUpdate was given.
func (u Update) Update() node.Update {
	out := node.Update{Servers: u.Servers, Synced: u.Synced}
	if u.Info != nil {
		info := u.Info.Command()
		out.Info = &info
	}
	if u.Report != nil {
		report := u.Report.Report()
		out.Report = &report
	}
	return out
}

// OfReport returns the shape of r.
func OfReport(r exec.Report) Report {
	return Report{
		Command: r.Command, Node: r.Node, Seq: r.Seq, Status: r.Status, ExitCode: r.ExitCode, Signal: r.Signal,
		Received: At(r.Received), Started: At(r.Started), Ended: At(r.Ended), Stdout: Stream(r.Stdout), Stderr: Stream(r.Stderr),
		Detail: r.Detail, Charter: r.Charter, Act: r.Act, Rule: r.Rule, Steps: OfSteps(r.Steps),
	}
}

// Report returns what OfReport was given.
func (r Report) Report() exec.Report {
	return exec.Report{
		Command: r.Command, Node: r.Node, Seq: r.Seq, Status: r.Status, ExitCode: r.ExitCode, Signal: r.Signal,
		Received: Milli(r.Received), Started: Milli(r.Started), Ended: Milli(r.Ended), Stdout: exec.Stream(r.Stdout),
		Stderr: exec.Stream(r.Stderr), Detail: r.Detail, Charter: r.Charter, Act: r.Act, Rule: r.Rule, Steps: stepsOf(r.Steps),
	}
}
