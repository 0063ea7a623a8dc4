package exec

import (
	"cmp"
	"slices"

	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
)

// Group is the nodes on which a command came to the same.
type Group struct {
	Status    Status
	ExitCode  int
	Signal    string
	Detail    string
	Reachable bool   // gossip sees them, or they have ended and it does not matter
	Stdout    Stream // the same on all; Kept is the least of them
	Stderr    Stream
	Steps     []StepReport // of a document, as on one of the nodes; without times, which differ
	Names     []string     // sorted
}

// Fold groups outcomes that read the same, so that a thousand equal answers are shown once. Successes come first, then
// failures, then the rest (refused, unknown, not ended); each biggest group first. name gives a node's name.
func Fold(outcomes []Outcome, name func(fleet.ID) string) []Group {
	byLook := map[string]*Group{}
	var groups []*Group
	for _, o := range outcomes {
		look := lookOf(o)
		g := byLook[look]
		if g == nil {
			g = newGroup(o)
			byLook[look] = g
			groups = append(groups, g)
		}
		g.Names = append(g.Names, name(o.Node))
		g.Stdout.Kept = min(g.Stdout.Kept, o.Report.Stdout.Kept)
		g.Stderr.Kept = min(g.Stderr.Kept, o.Report.Stderr.Kept)
	}
	out := make([]Group, 0, len(groups))
	for _, g := range groups {
		slices.Sort(g.Names)
		out = append(out, *g)
	}
	slices.SortFunc(out, func(a, b Group) int {
		return cmp.Or(cmp.Compare(rank(a.Status), rank(b.Status)), cmp.Compare(len(b.Names), len(a.Names)), slices.Compare(a.Names, b.Names))
	})
	return out
}

func newGroup(o Outcome) *Group {
	return &Group{
		Status: o.Status, ExitCode: o.Report.ExitCode, Signal: o.Report.Signal, Detail: o.Report.Detail,
		Reachable: o.Status.Final() || o.Reachable, Stdout: o.Report.Stdout, Stderr: o.Report.Stderr,
		Steps: timeless(o.Report.Steps),
	}
}

func timeless(steps []StepReport) []StepReport {
	out := slices.Clone(steps)
	for i := range out {
		out[i].Started, out[i].Ended = 0, 0
	}
	return out
}

// stepLook is all that tells two nodes' steps apart. Where in the output a step's part begins follows from the rest.
type stepLook struct {
	Name, Action string
	Status       Status
	ExitCode     int
	Attempts     uint32
	Detail       string
}

func stepLooks(steps []StepReport) []stepLook {
	out := make([]stepLook, 0, len(steps)) // nil and empty are the same
	for _, s := range steps {
		out = append(out, stepLook{s.Name, s.Action, s.Status, s.ExitCode, s.Attempts, s.Detail})
	}
	return out
}

// lookOf returns all that tells two outcomes apart for a reader. It is an encoding, in which no two looks run together.
func lookOf(o Outcome) string {
	type text struct {
		Size       int64
		Digest     fleet.ID
		Head, Tail string // nil and empty are the same
	}
	textOf := func(s Stream) text { return text{s.Size, s.Digest, string(s.Head), string(s.Tail)} }
	return string(wire.Marshal(struct {
		Status         Status
		ExitCode       int
		Signal, Detail string
		Away           bool
		Stdout, Stderr text
		Steps          []stepLook
	}{
		o.Status, o.Report.ExitCode, o.Report.Signal, o.Report.Detail, !o.Status.Final() && !o.Reachable,
		textOf(o.Report.Stdout), textOf(o.Report.Stderr), stepLooks(o.Report.Steps),
	}))
}

func rank(s Status) int {
	switch s {
	case Success:
		return 0
	case Failed, TimedOut, Cancelled: // what a reader looks for
		return 1
	case Terminated, Refused, InvalidPlatform, Undeliverable, DeliveryTimedOut, Unknown, InProgress, Pending, Skipped:
		return 2
	}
	return 2
}
