package steps

import (
	"slices"
	"strings"

	"github.com/muster-fleet/muster/node/fleet"
)

// Status is what a step came to. The names are SSM's.
type Status string

// The statuses of a step.
const (
	InProgress      Status = "InProgress" // it was started, or waits for its next attempt
	Success         Status = "Success"
	Failed          Status = "Failed"
	TimedOut        Status = "TimedOut"
	Cancelled       Status = "Cancelled"
	Skipped         Status = "Skipped"         // it was not meant for this host, or the run ended before it
	InvalidPlatform Status = "InvalidPlatform" // this host cannot do it
	Unknown         Status = "Unknown"         // it was started, and nobody can say how it ended
)

// Limits of a plan.
const (
	MaxSteps    = 100
	MaxAttempts = 10
	// MaxReboots is how often one step may ask for a reboot and be run again.
	MaxReboots = 10
	// MaxName is the most bytes of a step's name, of its action and of its act.
	MaxName = 128
	// MaxWhy is the most bytes of a detail that are kept.
	MaxWhy = 200
)

// Exit codes with a meaning. The first three are SSM's and have it in plans with Codes.
const (
	ExitSuccess = 168 // the step is a success, and the rest is skipped
	ExitFailed  = 169 // the step has failed, and the rest is skipped
	ExitReboot  = 194 // restart the host, then run the same step again
	// ExitInvalidPlatform is how an act says that this host cannot do what was asked.
	ExitInvalidPlatform = 96
)

// Flow says what a step's end does to those after it.
type Flow string

// The flows, as documents spell them.
const (
	GoOn           Flow = ""
	Exit           Flow = "exit"           // skip the rest, but for a finally step
	SuccessAndExit Flow = "successAndExit" // the same, and a failure of this step does not make the run fail
)

// Plan is what one run does on this host, with nothing left to resolve.
type Plan struct {
	Steps []Step // 1 to MaxSteps
	Codes bool   // exit codes 194, 168 and 169 mean what they mean in a document; false: they are failures
}

// Step is one step of a plan: a process to run, or a verdict that is known without one.
type Step struct {
	Name   string
	Action string // as the document has it; empty: a plain command

	Argv        []string // one element: a shell line (sh -c); several: an argv. With Script: its arguments
	Script      []byte   // run by Interpreter, else by its #! line, else by sh
	Interpreter []string // words before the script's path; a host without its program is an InvalidPlatform
	ScriptName  string   // name of the script file; empty: any
	Act         string   // one of this binary's own actions instead of a program: "download", "package", …
	Inputs      []byte   // of Act: JSON, given on its standard input
	Env         []string // K=V, beside the run's own
	Secrets     []Filled // more of Env, with secrets in it
	Fill        []Part   // of Act: the pieces of Inputs, where secrets belong into them
	Dir         string   // empty: the run's; relative: below the run folder's downloads

	Timeout   int64  // milliseconds of each attempt; 0: what is left of the run's
	Attempts  uint32 // 0 and 1: one. A reboot is none
	OnFailure Flow
	OnSuccess Flow
	Finally   bool // of the last step: it is run also after an exit, not after a cancel or the run's timeout

	Verdict Status // not empty: no process is run, the step is this (Skipped, Failed, InvalidPlatform)
	Why     string // of Verdict
}

// Plain reports whether the plan is one process and nothing else: its start and its end say all that a journal would.
func (p Plan) Plain() bool {
	if len(p.Steps) != 1 || p.Codes {
		return false
	}
	s := p.Steps[0]
	return s.Verdict == "" && s.Act == "" && s.ScriptName == "" && s.attempts() == 1 && s.Timeout == 0 &&
		(s.Dir == "" || strings.HasPrefix(s.Dir, "/"))
}

// attempts returns how often the step may fail before it has failed.
func (s Step) attempts() uint32 { return min(max(s.Attempts, 1), MaxAttempts) }

// Check reports what is wrong with a plan, or nil.
func (p Plan) Check() error {
	if err := p.checkOutline(); err != nil {
		return err
	}
	for i, s := range p.Steps {
		if err := s.checkWork(); err != nil {
			return s.at(i, err)
		}
	}
	return nil
}

// checkOutline checks what an outline keeps.
func (p Plan) checkOutline() error {
	if len(p.Steps) == 0 || len(p.Steps) > MaxSteps {
		return fleet.Errorf(fleet.Invalid, "a run has 1 to %d steps, not %d", MaxSteps, len(p.Steps))
	}
	for i, s := range p.Steps {
		if err := s.checkFlow(i == len(p.Steps)-1); err != nil {
			return s.at(i, err)
		}
	}
	return nil
}

func (s Step) at(i int, err error) error {
	return fleet.Errorf(fleet.Invalid, "step %d (%q): %w", i+1, s.Name, err)
}

func (s Step) checkFlow(last bool) error {
	switch {
	case len(s.Name) > MaxName || len(s.Action) > MaxName || len(s.Act) > MaxName:
		return fleet.Errorf(fleet.Invalid, "names of steps and actions have at most %d bytes", MaxName)
	case s.Timeout < 0 || s.Attempts > MaxAttempts:
		return fleet.Errorf(fleet.Invalid, "a timeout below 0, or more than %d attempts", MaxAttempts)
	case !s.OnFailure.known() || !s.OnSuccess.known():
		return fleet.Errorf(fleet.Invalid, "a flow that is not understood by this version")
	case !slices.Contains([]Status{"", Skipped, Failed, InvalidPlatform}, s.Verdict):
		return fleet.Errorf(fleet.Invalid, "verdict %q cannot be known before a run", string(s.Verdict))
	case s.Finally && !last:
		return fleet.Errorf(fleet.Invalid, "the finally step is not the last")
	}
	return nil
}

func (s Step) checkWork() error {
	switch {
	case s.Verdict != "":
		return nil
	case s.Act != "" && (len(s.Argv) > 0 || len(s.Script) > 0):
		return fleet.Errorf(fleet.Invalid, "both an act and a program")
	case s.Act == "" && len(s.Argv) == 0 && len(s.Script) == 0:
		return fleet.Errorf(fleet.Invalid, "nothing to run")
	case s.Act == "" && len(s.Script) == 0 && s.Argv[0] == "":
		return fleet.Errorf(fleet.Invalid, "an empty program name")
	case strings.Contains(s.ScriptName, "/") || s.ScriptName == "." || s.ScriptName == "..":
		return fleet.Errorf(fleet.Invalid, "%q is no name of a file", s.ScriptName)
	}
	return nil
}

func (f Flow) known() bool { return f == GoOn || f == Exit || f == SuccessAndExit }

// Outline returns the plan without all that only its processes need: what decides about the order of its steps, and
// what reports say of them. It holds no secret.
func (p Plan) Outline() Plan {
	out := Plan{Steps: make([]Step, len(p.Steps)), Codes: p.Codes}
	for i, s := range p.Steps {
		out.Steps[i] = Step{Name: s.Name, Action: s.Action, Act: s.Act, Timeout: s.Timeout, Attempts: s.Attempts, OnFailure: s.OnFailure,
			OnSuccess: s.OnSuccess, Finally: s.Finally, Verdict: s.Verdict, Why: clip(s.Why)}
	}
	return out
}

// clip shortens s to MaxWhy bytes of valid text.
func clip(s string) string {
	return strings.ToValidUTF8(s[:min(len(s), MaxWhy)], "")
}
