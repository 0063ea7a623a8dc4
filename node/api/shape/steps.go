package shape

import (
	"time"

	"github.com/muster-fleet/muster/exec"
)

// Step is what became of one step of a document. Its output is a range of the run's, in bytes.
type Step struct {
	Name     string      `json:"name"`
	Action   string      `json:"action"`
	Status   exec.Status `json:"status"`
	ExitCode int         `json:"exit_code"` // -1: none
	Attempts uint32      `json:"attempts"`
	Started  time.Time   `json:"started,omitzero"`
	Ended    time.Time   `json:"ended,omitzero"`
	Stdout   Span        `json:"stdout"`
	Stderr   Span        `json:"stderr"`
	Detail   string      `json:"detail,omitempty"`
}

// Span is a range of a stream: from a byte to the one behind the last.
type Span struct {
	From int64 `json:"from"`
	To   int64 `json:"to"`
}

// OfSteps returns the shape of a report's steps.
func OfSteps(steps []exec.StepReport) []Step {
	out := make([]Step, 0, len(steps))
	for _, s := range steps {
		out = append(out, Step{
			s.Name, s.Action, s.Status, s.ExitCode, s.Attempts, At(s.Started), At(s.Ended), Span(s.Stdout), Span(s.Stderr), s.Detail,
		})
	}
	return out
}

func stepsOf(steps []Step) []exec.StepReport {
	var out []exec.StepReport
	for _, s := range steps {
		out = append(out, exec.StepReport{
			Name: s.Name, Action: s.Action, Status: s.Status, ExitCode: s.ExitCode, Attempts: s.Attempts, Started: Milli(s.Started),
			Ended: Milli(s.Ended), Stdout: exec.Span(s.Stdout), Stderr: exec.Span(s.Stderr), Detail: s.Detail,
		})
	}
	return out
}
