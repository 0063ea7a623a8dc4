package node

import (
	"strconv"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

// note says what was decided about an order, once: what is decided again in the same words is not said again.
func (n *Node) note(at auth.Instant, x *order, what, detail string) []Effect {
	said := what + " " + detail
	if x.noted == said {
		return nil
	}
	x.noted = said
	return n.decided(at, x.id, what, detail)
}

func (n *Node) decided(at auth.Instant, command fleet.UUID, what, detail string) []Effect {
	return []Effect{Decided{Command: command, Decision: exec.Decision{At: n.Now(at).UnixMilli(), What: what, Detail: clip(detail, exec.MaxDecisionDetail)}}}
}

// noteSteps says how far a document's run has come.
func (n *Node) noteSteps(at auth.Instant, x *order, steps []exec.StepReport) []Effect {
	if len(steps) == 0 {
		return nil
	}
	last := steps[len(steps)-1]
	return n.note(at, x, exec.DecidedStep, strconv.Itoa(len(steps))+" "+last.Name+": "+string(last.Status))
}

func endText(ev RunEnded) string {
	text := string(ev.Status)
	if ev.Started != 0 && ev.Signal == "" {
		text += ", exit code " + strconv.Itoa(ev.ExitCode)
	}
	if ev.Signal != "" {
		text += ", signal " + ev.Signal
	}
	if ev.Detail != "" {
		text += ": " + ev.Detail
	}
	return text
}
