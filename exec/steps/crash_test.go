package steps

import (
	"bytes"
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"github.com/muster-fleet/muster/node/fleet"
)

func drawPlan(t *rapid.T) Plan {
	flow := rapid.SampledFrom([]Flow{GoOn, GoOn, Exit, SuccessAndExit})
	p := Plan{Codes: rapid.Bool().Draw(t, "codes")}
	for i := range rapid.IntRange(1, 5).Draw(t, "steps") {
		s := Step{Name: fmt.Sprint(i), Argv: []string{"true"}, Attempts: rapid.Uint32Range(0, 3).Draw(t, "attempts"), OnFailure: flow.Draw(t, "fail"),
			OnSuccess: flow.Draw(t, "succeed"), Timeout: rapid.Int64Range(0, 50).Draw(t, "timeout")}
		switch rapid.IntRange(0, 9).Draw(t, "what") {
		case 0:
			s.Verdict = rapid.SampledFrom([]Status{Skipped, Failed, InvalidPlatform}).Draw(t, "verdict")
		case 1:
			s.Act, s.Argv = "act", nil
		}
		p.Steps = append(p.Steps, s)
	}
	p.Steps[len(p.Steps)-1].Finally = rapid.Bool().Draw(t, "finally")
	return p
}

// host is a disk, and what was started on it. Whoever writes to the disk may lose what was not synced.
type host struct {
	t       *rapid.T
	command fleet.UUID
	plan    Plan
	disk    []byte   // what a power cut leaves
	dirty   [][]byte // entries behind it, not synced
	chain   fleet.ID
	g       Progress
	boot    int
	started map[string]int // attempts whose process was started
	starts  []int          // by step
	last    int            // step that was started last
}

func newHost(t *rapid.T, p Plan, limit int64) *host {
	h := &host{t: t, command: fleet.UUID{1}, plan: p, started: map[string]int{}, starts: make([]int, len(p.Steps))}
	h.disk, h.chain = Append(nil, First(h.command), Opened{Plan: p.Outline(), Limit: limit})
	var err error
	if h.g, err = Open(Opened{Plan: p.Outline(), Limit: limit}); err != nil {
		t.Fatal(err)
	}
	return h
}

func (h *host) bootID() string { return fmt.Sprint("boot", h.boot) }

func (h *host) add(e Entry) {
	var err error
	if h.g, err = h.g.Add(e); err != nil {
		h.t.Fatal(err)
	}
	data, chain := Append(nil, h.chain, e)
	h.dirty, h.chain = append(h.dirty, data), chain
}

func (h *host) sync() {
	h.disk = append(h.disk, bytes.Join(h.dirty, nil)...)
	h.dirty = nil
}

// crash ends the supervisor, or the power. It reports whether this is the moment.
func (h *host) crash() bool {
	switch rapid.IntRange(0, 19).Draw(h.t, "crash") {
	case 0: // kill -9: what was written is there
		h.sync()
	case 1: // power: some of what was not synced has got to the disk, and the last of it is torn
		n := rapid.IntRange(0, len(h.dirty)).Draw(h.t, "survive")
		for _, d := range h.dirty[:n] {
			h.disk = append(h.disk, d...)
		}
		if n < len(h.dirty) {
			h.disk = append(h.disk, h.dirty[n][:rapid.IntRange(0, len(h.dirty[n])-1).Draw(h.t, "torn")]...)
		}
		h.boot++
	default:
		return false
	}
	h.dirty = nil
	return true
}

// run goes on from where the journal ends. It reports false when it crashed.
func (h *host) run() (Move, bool) {
	for {
		m, start := h.g.Next(h.bootID()).(Start)
		if !start {
			h.sync()
			return h.g.Next(h.bootID()), true
		}
		if rapid.IntRange(0, 29).Draw(h.t, "cancel") == 0 {
			h.add(Stopped{Status: Cancelled, Why: "test"})
			continue
		}
		if h.crash() {
			return nil, false
		}
		h.add(Began{Step: m.Step, Attempt: m.Attempt, Boot: h.bootID()})
		if h.crash() {
			return nil, false
		}
		h.sync()
		if h.crash() {
			return nil, false
		}
		h.start(m)
		if h.crash() {
			return nil, false
		}
		h.add(h.drawEnd(m))
		if h.crash() {
			return nil, false
		}
	}
}

// start notes that a process of the attempt was started.
func (h *host) start(m Start) {
	key := fmt.Sprintf("%d/%d", m.Step, m.Attempt)
	h.started[key]++
	h.starts[m.Step]++
	step := h.plan.Steps[m.Step]
	switch {
	case h.started[key] > 1:
		h.t.Fatalf("attempt %s was started twice", key)
	case h.starts[m.Step] > int(step.attempts())+MaxReboots:
		h.t.Fatalf("step %d was started %d times", m.Step, h.starts[m.Step])
	case m.Step < h.last:
		h.t.Fatalf("step %d was started after step %d", m.Step, h.last)
	case step.Verdict != "":
		h.t.Fatalf("step %d was started against its verdict", m.Step)
	case m.Timeout <= 0 || (step.Timeout > 0 && m.Timeout > step.Timeout):
		h.t.Fatalf("step %d gets %d ms", m.Step, m.Timeout)
	}
	h.last = m.Step
}

func (h *host) drawEnd(m Start) Ended {
	e := Ended{Step: m.Step, Attempt: m.Attempt, Ran: rapid.Int64Range(0, 20).Draw(h.t, "ran")}
	switch rapid.IntRange(0, 9).Draw(h.t, "end") {
	case 0:
		e.Status, e.ExitCode, e.Ran = TimedOut, -1, m.Timeout
	case 1:
		e.Status, e.ExitCode = Cancelled, -1
	case 2, 3, 4, 5:
		e.Status = Success
	default:
		e.Status, e.ExitCode = Failed, rapid.SampledFrom([]int{1, ExitSuccess, ExitFailed, ExitReboot, ExitReboot, ExitInvalidPlatform, -1}).Draw(h.t, "code")
	}
	return e
}

// recover reads what the crash left. It reports false when the run is unknown.
func (h *host) recover() bool {
	r := Decode(h.command, append(bytes.Clone(h.disk), make([]byte, 100)...))
	g, err := Fold(r.Entries)
	if err != nil {
		h.t.Fatalf("the journal cannot be read: %v", err)
	}
	_, doubt := g.Next(h.bootID()).(Doubt)
	if !r.Clean || doubt {
		return false
	}
	if b, ok := r.Entries[len(r.Entries)-1].(Began); ok {
		h.t.Fatalf("goes on behind %+v", b)
	}
	h.g, h.chain, h.disk = g, r.Chain, h.disk[:r.End]
	return true
}

// Whatever the plan and wherever it crashes, a run goes on or is unknown, it comes to an end, and no attempt is started
// twice.
func TestAnyPlanAnyCrash(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := drawPlan(t)
		h := newHost(t, p, rapid.Int64Range(1, 400).Draw(t, "limit"))
		for range 1000 {
			move, ok := h.run()
			if !ok {
				if !h.recover() {
					return // Unknown
				}
				continue
			}
			switch m := move.(type) {
			case Done:
				h.checkDone(m.Outcome)
				return
			case Reboot:
				if !h.recover() {
					t.Fatal("a run that waits for a reboot is unknown")
				}
				if rapid.Bool().Draw(t, "restarts") {
					h.boot++
				}
			case Doubt, Start:
				t.Fatalf("ran into %+v", m)
			}
		}
		t.Fatal("the run does not end")
	})
}

// checkDone holds a run that has ended against what was started.
func (h *host) checkDone(o Outcome) {
	results := h.g.Results(0, 0)
	if len(results) != len(h.plan.Steps) {
		h.t.Fatalf("%d results of %d steps", len(results), len(h.plan.Steps))
	}
	bad := false
	for i, r := range results {
		step := h.plan.Steps[i]
		switch {
		case r.Status == InProgress || r.Status == Unknown || r.Status == "":
			h.t.Fatalf("step %d is %q at the end", i, r.Status)
		case r.Status == Skipped && h.starts[i] > 0:
			h.t.Fatalf("step %d was skipped, but started", i)
		case r.Status != Skipped && step.Verdict == "" && h.starts[i] == 0:
			h.t.Fatalf("step %d is %s, but was never started", i, r.Status)
		}
		ok := r.Status == Success || r.Status == Skipped || (step.OnFailure == SuccessAndExit && (r.ExitCode != ExitFailed || !h.plan.Codes))
		bad = bad || !ok
	}
	if bad && o.Status == Success {
		h.t.Fatalf("a success of %+v", results)
	}
	if !bad && o.Status != Success && h.g.stopped.Status == "" {
		h.t.Fatalf("%s of %+v", o.Status, results)
	}
}
