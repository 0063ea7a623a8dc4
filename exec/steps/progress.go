package steps

import (
	"slices"

	"github.com/muster-fleet/muster/node/fleet"
)

// Progress is how far a run has come: the fold of its journal. It is a value; Add returns another.
type Progress struct {
	plan    Plan
	limit   int64
	used    int64 // milliseconds of execution so far
	states  []state
	at      int  // the step that is next, or goes on; len(states) when none is
	open    bool // an attempt of it began and has not ended
	waits   bool // it asked for a reboot
	boot    string
	exited  bool    // the rest is skipped, but for a finally step
	stopped Stopped // Status "" while the run was not stopped
	stdout  Written
	stderr  Written
	doubt   bool // a step's exit was not seen
}

// state is one step's.
type state struct {
	result   Result
	failures uint32
	reboots  uint32
	forgiven bool // its failure does not make the run fail
}

// Result is what became of one step so far.
type Result struct {
	Name, Action   string
	Status         Status // "" when it was not reached
	ExitCode       int    // of the last attempt; -1: none
	Signal         int
	Attempts       uint32 // reboots count
	Started, Ended int64  // of the first and the last attempt; 0: not
	Stdout, Stderr Span
	Detail         string
}

// Span is a range of the bytes that are kept of a stream.
type Span struct{ From, To int64 }

// Open begins the progress of a run that has no other entry yet.
func Open(e Opened) (Progress, error) {
	if err := e.Plan.checkOutline(); err != nil {
		return Progress{}, err
	}
	g := Progress{plan: e.Plan, limit: e.Limit, states: make([]state, len(e.Plan.Steps))}
	for i, s := range e.Plan.Steps {
		g.states[i].result = Result{Name: s.Name, Action: s.Action, ExitCode: -1}
	}
	g.advance()
	return g, nil
}

// Fold reads a journal's entries. Its error says that they are not the journal of a run.
func Fold(entries []Entry) (Progress, error) {
	if len(entries) == 0 {
		return Progress{}, fleet.Errorf(fleet.Invalid, "the journal is empty")
	}
	first, ok := entries[0].(Opened)
	if !ok {
		return Progress{}, fleet.Errorf(fleet.Invalid, "the journal does not begin with its plan")
	}
	g, err := Open(first)
	for i, e := range entries[1:] {
		if err != nil {
			break
		}
		if g, err = g.Add(e); err != nil {
			err = fleet.Errorf(fleet.Invalid, "entry %d: %w", i+2, err)
		}
	}
	return g, err
}

// Add returns the progress behind one more entry. An entry that cannot follow is an error.
func (g Progress) Add(e Entry) (Progress, error) {
	if err := g.check(e); err != nil {
		return g, err
	}
	g.states = slices.Clone(g.states)
	switch e := e.(type) {
	case Began:
		g.begin(e)
	case Ended:
		g.end(e)
	case Stopped:
		g.stop(e)
	case Opened:
	}
	g.advance()
	return g, nil
}

// check reports why an entry cannot follow, or nil.
func (g Progress) check(e Entry) error {
	switch e := e.(type) {
	case Began:
		if g.over() || g.open || e.Step != g.at || e.Attempt != g.states[g.at].result.Attempts+1 || (g.waits && e.Boot == g.boot) {
			return fleet.Errorf(fleet.Conflict, "attempt %d of step %d cannot begin", e.Attempt, e.Step+1)
		}
	case Ended:
		if !g.open || e.Step != g.at || e.Attempt != g.states[g.at].result.Attempts || !slices.Contains(ends, e.Status) || e.Ran < 0 {
			return fleet.Errorf(fleet.Conflict, "attempt %d of step %d cannot end", e.Attempt, e.Step+1)
		}
	case Stopped:
		if g.over() || g.open || (e.Status != Cancelled && e.Status != Failed) {
			return fleet.Errorf(fleet.Conflict, "the run cannot be stopped")
		}
	case Opened:
		return fleet.Errorf(fleet.Conflict, "the run was opened before")
	}
	return nil
}

// ends are the statuses that an attempt can end as.
var ends = []Status{Success, Failed, TimedOut, Cancelled, InvalidPlatform, Unknown}

func (g *Progress) begin(e Began) {
	r := &g.states[g.at].result
	if r.Attempts == 0 {
		r.Started = e.At
		r.Stdout, r.Stderr = Span{e.Stdout.Kept, e.Stdout.Kept}, Span{e.Stderr.Kept, e.Stderr.Kept}
	}
	r.Attempts, r.Status, r.Detail = e.Attempt, InProgress, ""
	g.stdout, g.stderr = e.Stdout, e.Stderr
	g.open, g.waits, g.boot = true, false, e.Boot
}

func (g *Progress) end(e Ended) {
	s := &g.states[g.at]
	r := &s.result
	r.ExitCode, r.Signal, r.Ended, r.Detail = e.ExitCode, e.Signal, e.At, e.Detail
	r.Stdout.To, r.Stderr.To = max(r.Stdout.From, e.Stdout.Kept), max(r.Stderr.From, e.Stderr.Kept)
	g.stdout, g.stderr = e.Stdout, e.Stderr
	g.open = false
	g.used += e.Ran
	switch to := g.plan.Steps[g.at].judge(e, g.plan.Codes); {
	case to.status == Unknown:
		r.Status, g.doubt = Unknown, true
	case to.status == Cancelled:
		r.Status = Cancelled
		g.at++
		g.stopped = Stopped{Status: Cancelled, Why: "the run was cancelled", At: e.At}
	case to.reboot && !g.timeLeft():
		g.outOfTime()
	case to.reboot:
		g.awaitReboot(s)
	case to.fails && !to.final && s.failures+1 < g.plan.Steps[g.at].attempts() && g.timeLeft():
		s.failures++
	default:
		g.settle(to)
	}
}

func (g *Progress) timeLeft() bool { return g.used < g.limit }

// awaitReboot lets a step wait for the host's restart, unless it has had all that it may have.
func (g *Progress) awaitReboot(s *state) {
	if s.reboots++; s.reboots > MaxReboots {
		s.result.Detail = "it asked for a reboot again and again"
		g.settle(outcome{status: Failed, fails: true})
		return
	}
	g.waits, s.result.Detail = true, "it waits for the host's restart"
}

// settle gives the step its final status and lets its flow decide about those after it.
func (g *Progress) settle(to outcome) {
	s, step := &g.states[g.at], g.plan.Steps[g.at]
	s.result.Status = to.status
	s.forgiven = to.fails && !to.final && step.OnFailure == SuccessAndExit
	switch {
	case to.final:
		g.exited = true
	case to.fails:
		g.exited = g.exited || step.OnFailure != GoOn
	case to.status == Success:
		g.exited = g.exited || step.OnSuccess != GoOn
	}
	g.at++
}

func (g *Progress) stop(e Stopped) {
	g.stopped, g.waits = e, false
	if s := &g.states[g.at]; s.result.Attempts > 0 { // it waited for a reboot or for another attempt
		s.result.Status, s.result.Detail = e.Status, e.Why
		g.at++
	}
}

// advance passes the steps that need no process.
func (g *Progress) advance() {
	if g.open || g.waits || g.doubt {
		return
	}
	for ; g.stopped.Status == "" && g.at < len(g.states); g.pass() {
		step := g.plan.Steps[g.at]
		skipped := g.exited && !step.Finally
		if !skipped && step.Verdict == "" {
			if g.timeLeft() {
				return
			}
			g.outOfTime()
			break
		}
	}
	if g.stopped.Status != "" {
		for ; g.at < len(g.states); g.at++ {
			g.skip(g.stopped.Why)
		}
	}
}

// pass settles the step that is next without a process.
func (g *Progress) pass() {
	step := g.plan.Steps[g.at]
	if g.exited && !step.Finally {
		g.skip("an earlier step ended the run")
		g.at++
		return
	}
	r := &g.states[g.at].result
	r.Detail = clip(step.Why)
	g.settle(outcome{status: step.Verdict, fails: step.Verdict != Skipped})
}

func (g *Progress) skip(why string) {
	r := &g.states[g.at].result
	r.Status, r.Detail = Skipped, clip(why)
}

func (g *Progress) outOfTime() {
	g.stopped = Stopped{Status: TimedOut, Why: "the run's time was over"}
	if s := &g.states[g.at]; s.result.Attempts > 0 { // another attempt was due
		s.result.Status = TimedOut
		g.at++
	}
}

// outcome is what an attempt's end means.
type outcome struct {
	status Status
	fails  bool
	final  bool // by its exit code: not tried again, and the rest is skipped
	reboot bool
}

// judge reads the end of an attempt: exit codes have a meaning in documents and of acts only.
func (s Step) judge(e Ended, codes bool) outcome {
	exited := e.Status == Failed && e.Signal == 0
	switch {
	case exited && codes && e.ExitCode == ExitReboot:
		return outcome{reboot: true}
	case exited && codes && e.ExitCode == ExitSuccess:
		return outcome{status: Success, final: true}
	case exited && codes && e.ExitCode == ExitFailed:
		return outcome{status: Failed, fails: true, final: true}
	case exited && s.Act != "" && e.ExitCode == ExitInvalidPlatform:
		return outcome{status: InvalidPlatform, fails: true}
	}
	return outcome{status: e.Status, fails: e.Status != Success}
}

// over reports whether the run has come to its end.
func (g Progress) over() bool { return g.doubt || g.stopped.Status != "" || g.at == len(g.states) }

// Begun reports whether an attempt of any step was begun.
func (g Progress) Begun() bool {
	return slices.ContainsFunc(g.states, func(s state) bool { return s.result.Attempts > 0 })
}

// Written says how far the streams had come at the newest entry.
func (g Progress) Written() (stdout, stderr Written) { return g.stdout, g.stderr }

// Results lists what became of the steps that were reached so far. now says how far the streams have come, for a step
// that runs.
func (g Progress) Results(stdout, stderr int64) []Result {
	var out []Result
	for i, s := range g.states {
		if s.result.Status == "" {
			continue
		}
		if g.open && i == g.at {
			s.result.Stdout.To, s.result.Stderr.To = max(s.result.Stdout.To, stdout), max(s.result.Stderr.To, stderr)
		}
		out = append(out, s.result)
	}
	return out
}
