package steps

import "fmt"

// Move is what has to happen next in a run.
//
//sumtype:decl
type Move interface{ move() }

// Start: begin an attempt of a step. Began is put into the journal first.
type Start struct {
	Step    int
	Attempt uint32
	Timeout int64 // milliseconds
}

// Reboot: the step waits until the host was restarted.
type Reboot struct{ Step int }

// Done: nothing more is to be started.
type Done struct{ Outcome Outcome }

// Doubt: an attempt of the step began and nobody saw its end; nothing more is ever started.
type Doubt struct{ Step int }

func (Start) move()  {}
func (Reboot) move() {}
func (Done) move()   {}
func (Doubt) move()  {}

// Outcome is what a run came to.
type Outcome struct {
	Status   Status
	ExitCode int // of the step that decided the status; -1: a signal ended it or nothing was started
	Signal   int
	Detail   string // which step decided, and why
}

// Next returns what has to happen now. boot is the host's boot ID. Whoever folded the journal after a crash is told
// Doubt of an attempt without an end; whoever runs that attempt does not ask before its end.
func (g Progress) Next(boot string) Move {
	switch {
	case g.open || g.doubt:
		return Doubt{g.at}
	case g.over():
		return Done{g.outcome()}
	case g.waits && boot == g.boot:
		return Reboot{g.at}
	}
	left := g.limit - g.used
	if t := g.plan.Steps[g.at].Timeout; t > 0 {
		left = min(left, t)
	}
	return Start{Step: g.at, Attempt: g.states[g.at].result.Attempts + 1, Timeout: left}
}

// Where says for people in which step the run is, as " in step 2 (name)" or "", and under which boot ID its newest
// attempt began.
func (g Progress) Where() (text, boot string) {
	if g.open || g.doubt {
		text = fmt.Sprintf(" in step %d (%s)", g.at+1, g.states[g.at].result.Name)
	}
	return text, g.boot
}

// ranks orders the statuses by which the worst step makes the run's: SSM's order, and ours behind it. Skipped counts as
// a success.
var ranks = map[Status]int{Unknown: 6, Failed: 5, TimedOut: 4, Cancelled: 3, InvalidPlatform: 2, Success: 1, Skipped: 1}

// outcome judges a run that is over by the worst of its steps.
func (g Progress) outcome() Outcome {
	out := Outcome{Status: Success}
	if s := g.stopped; s.Status != "" {
		out = Outcome{Status: s.Status, ExitCode: -1, Detail: s.Why}
	}
	decided := -1
	for i, s := range g.states {
		if s.forgiven || ranks[s.result.Status] < ranks[out.Status] || (decided >= 0 && ranks[s.result.Status] == ranks[out.Status]) {
			continue
		}
		if ranks[s.result.Status] == ranks[Success] {
			continue
		}
		decided, out.Status = i, s.result.Status
	}
	if decided < 0 {
		return out
	}
	r := g.states[decided].result
	out.ExitCode, out.Signal, out.Detail = r.ExitCode, r.Signal, r.Detail
	if len(g.states) > 1 {
		out.Detail = fmt.Sprintf("step %d (%s)", decided+1, r.Name)
		if r.Detail != "" {
			out.Detail += ": " + r.Detail
		}
	}
	return out
}
