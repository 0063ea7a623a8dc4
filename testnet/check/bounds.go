package check

import (
	"cmp"
	"slices"
	"time"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node/fleet"
)

// Paced is a command with limits, and what became of it by the truth of the hosts.
type Paced struct {
	Command fleet.UUID
	Pace    exec.Pace
	Parts   []Part
	Timeout time.Duration // of a run; 0: not told
	// Stopped is when it was agreed that nothing more starts; zero: never, or not told.
	Stopped time.Time
	// StartBy is how long after that a node may start that was given leave before; 0: not judged.
	StartBy time.Duration
	// Gates are what ran between the waves: Gates[i] behind wave i+1.
	Gates [][]Part
	// Untold says that nobody tells when nodes were given leave.
	Untold bool
}

// Part is one beginning of a paced command, by evidence that does not come from the fleet. A part without a beginning is a
// node that was granted and silent, or whose host was lost between the ledger's record and the process: nobody can know then
// that nothing runs, so it takes a place in its wave from that grant on, and nothing else.
type Part struct {
	Node    string
	Granted time.Time // when it was agreed that the node may start; zero: never
	Began   time.Time // zero: it has a place in its wave, and no process was there
	Gone    time.Time // when nothing of it was alive any more; zero: it goes on, or nobody can tell
	Bad     bool      // it counts as failed: its exit code, a timeout, a host that was lost with it
}

// Bounds finds paced commands that were at more nodes at a time than they may be, or that went on when too many had failed.
func Bounds(h History) []Violation {
	var out []Violation
	for _, o := range h.Orders {
		if o.Pace.Limited && h.taken(o) {
			out = append(out, h.paced(o).Violations()...)
		}
	}
	return out
}

// paced gathers what a history tells of one command. Nobody outside the fleet can tell when it knew of a failure.
func (h History) paced(o Order) Paced {
	p := Paced{Command: o.ID, Pace: o.Pace, Timeout: o.Timeout, Untold: true}
	cancelled := h.cancelled(o.ID)
	for _, r := range h.Runs {
		if r.Command != o.ID {
			continue
		}
		part := Part{Node: r.Node, Began: r.Began, Gone: r.Stopped, Bad: !cancelled}
		switch {
		case r.End == nil && r.Stopped.IsZero():
			part.Gone = h.diedAt(r)
		case r.End != nil:
			part.Gone, part.Bad = r.End.At, r.End.Exit != 0 && (!cancelled || r.Stopped.IsZero())
		}
		p.Parts = append(p.Parts, part)
	}
	return p
}

// diedAt returns when a run that never came to its end was killed at the earliest: with its host, by the next thing that
// happened there. It is zero when nothing did.
func (h History) diedAt(r Run) time.Time {
	var at time.Time
	for _, e := range h.Excuses {
		if e.Node == r.Node && !e.Starting && !e.From.Before(r.Began) && (at.IsZero() || e.From.Before(at)) {
			at = e.From
		}
	}
	return at
}

// Violations holds a paced command to its bounds at every instant.
func (p Paced) Violations() []Violation {
	v := violations{promise: PromiseBounds}
	parts, places := p.began()
	slices.SortStableFunc(parts, func(a, b Part) int { return a.Began.Compare(b.Began) })
	p.once(&v, parts)
	p.granted(&v, parts)
	p.counted(&v, append(parts, places...))
	return v.found
}

// began tells the parts of which a process was there from those that only have a place in a wave.
func (p Paced) began() (parts, places []Part) {
	for _, x := range p.Parts {
		if x.Began.IsZero() {
			places = append(places, x)
		} else {
			parts = append(parts, x)
		}
	}
	return parts, places
}

func (p Paced) once(v *violations, parts []Part) {
	first := map[string]time.Time{}
	for _, x := range parts {
		if began, twice := first[x.Node]; twice {
			v.add(p.Command, x.Node, "it began at %s and again at %s", clock(began), clock(x.Began))
			continue
		}
		first[x.Node] = x.Began
	}
}

func (p Paced) granted(v *violations, parts []Part) {
	for _, x := range parts {
		switch {
		case p.Untold:
		case x.Granted.IsZero():
			v.add(p.Command, x.Node, "it began at %s, and nobody gave it leave", clock(x.Began))
		case x.Began.Before(x.Granted):
			v.add(p.Command, x.Node, "it began at %s and was given leave at %s only", clock(x.Began), clock(x.Granted))
		}
		if p.Stopped.IsZero() {
			continue
		}
		switch {
		case x.Granted.After(p.Stopped):
			v.add(p.Command, x.Node, "it was given leave at %s, but the command had been stopped at %s", clock(x.Granted), clock(p.Stopped))
		case p.StartBy > 0 && x.Began.After(p.Stopped.Add(p.StartBy)):
			v.add(p.Command, x.Node, "it began at %s, but the command had been stopped at %s", clock(x.Began), clock(p.Stopped))
		}
	}
}

// change is one instant at which a count changes.
type change struct {
	at   time.Time
	part *Part
	over bool // it is gone; else it begins
}

// rank orders what happens at one instant: ends, beginnings, and the ends of what began then.
func (c change) rank() int {
	switch {
	case !c.over:
		return 1
	case c.part.Began.Equal(c.at):
		return 2
	}
	return 0
}

// changes lists beginnings and ends in the order of time; of one instant, ends come first.
func (p Paced) changes(parts []Part) []change {
	var out []change
	for i := range parts {
		x := &parts[i]
		if x.Began.IsZero() {
			out = append(out, change{at: x.Granted, part: x})
			continue
		}
		out = append(out, change{at: x.Began, part: x})
		if gone := p.goneAt(*x); !gone.IsZero() {
			out = append(out, change{at: gone, part: x, over: true})
		}
	}
	slices.SortStableFunc(out, func(a, b change) int { return cmp.Or(a.at.Compare(b.at), a.rank()-b.rank()) })
	return out
}

// goneAt returns from when on a part is no run any more. One of which nobody can tell was stopped when its time was over.
func (p Paced) goneAt(x Part) time.Time {
	if x.Gone.IsZero() && p.Timeout > 0 {
		return x.Began.Add(p.Timeout)
	}
	return x.Gone
}

// counted sweeps over time and counts. It tells of the first instant at which a bound is broken, once per bound.
func (p Paced) counted(v *violations, parts []Part) {
	var running, spent, begun int // spent: began and did not end well
	wave, had := 0, map[string]bool{}
	var wide, deep bool
	for _, c := range p.changes(parts) {
		if c.over {
			running--
			if !c.part.Bad {
				spent--
			}
			continue
		}
		if !had[c.part.Node] {
			had[c.part.Node] = true
			begun++
		}
		rested := running == 0
		if !c.part.Began.IsZero() {
			running, spent = running+1, spent+1
		}
		if most := int(p.Pace.Concurrency); most > 0 && running > most && !wide {
			wide = true
			v.add(p.Command, c.part.Node, "with it %d run at %s, and %d may at a time", running, clock(c.at), most)
		}
		if most := int(p.Pace.Errors) + 1; p.Pace.Strict && spent > most && !deep {
			deep = true
			v.add(p.Command, c.part.Node, "with it %d have failed or run at %s, and strictly %d may", spent, clock(c.at), most)
		}
		for wave < len(p.Pace.Waves) && begun > int(p.Pace.Waves[wave]) {
			if !rested {
				v.add(p.Command, c.part.Node, "it began at %s as number %d, and of wave %d some still ran", clock(c.at), begun, wave+1)
			}
			p.gated(v, wave, c)
			wave++
		}
	}
}

// gated finds out whether the gate behind a wave (from 0) let go on.
func (p Paced) gated(v *violations, wave int, c change) {
	if wave >= len(p.Gates) {
		return
	}
	for _, x := range p.Gates[wave] {
		switch {
		case x.Began.After(c.at):
		case x.Gone.IsZero() || x.Gone.After(c.at):
			v.add(p.Command, c.part.Node, "it began at %s, but the gate behind wave %d still ran on %s", clock(c.at), wave+1, x.Node)
		case x.Bad:
			v.add(p.Command, c.part.Node, "it began at %s, but the gate behind wave %d had failed on %s", clock(c.at), wave+1, x.Node)
		}
	}
}
