package agent

import (
	"fmt"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

// note keeps a decision about a session, which answers as a command's do: muster why NODE SESSION.
func (a *Agent) note(id fleet.UUID, what, format string, args ...any) {
	if a.decisions == nil {
		return
	}
	d := exec.Decision{At: a.now().UnixMilli(), What: what, Detail: fmt.Sprintf(format, args...)}
	a.decisions.Put(id, d.Bounded())
}

// logRefusal says in the agent's log why an operator may not have a session. It is not noted as a decision: under an ID that
// nobody was given, anybody could write into what was decided about something else.
func (a *Agent) logRefusal(peer fleet.ID, signed auth.Envelope, why error) {
	claimed, err := auth.Peek[auth.Session](signed)
	if err != nil || signed.Key != peer {
		return
	}
	a.log.Info("a session was refused", "session", claimed.Header.ID, "key", peer, "kind", claimed.Kind, "why", why)
}

// wordOf says in a few words what a session is.
func (a *Agent) wordOf(o node.SessionOrder) string {
	text := "a session of kind " + o.Kind.String()
	if o.User != "" {
		text += " as " + o.User
	}
	if what := o.State().Text(); what != o.Kind.String() {
		text += ": " + what
	}
	return text
}

// SessionEnded takes from the shell that a session has ended.
func (a *Agent) SessionEnded(s node.SessionState) {
	end := fmt.Sprintf("exit code %d", s.Code)
	if s.Signal != "" {
		end = "signal " + s.Signal
	}
	if s.Why != "" {
		end += ": " + s.Why
	}
	a.note(s.ID, exec.DecidedEnd, "%s; %d bytes in, %d out", end, s.In, s.Out)
	if r := s.Recording; !r.Digest.IsZero() {
		a.note(s.ID, "record", "%d bytes are recorded%s, SHA-256 %s", r.Bytes, leftText(r.Left), r.Digest.Text())
		a.sessions.wanting.add(s.ID)
	}
	a.log.Info("a session ended", "session", s.ID, "operator", s.Operator, "kind", s.Kind, "end", end)
}

func leftText(left int64) string {
	if left == 0 {
		return ""
	}
	return fmt.Sprintf(" (and %d left out)", left)
}

// RecordingTold notes what became of the copy of a recording that leaves the fleet; err is nil when it is complete.
func (a *Agent) RecordingTold(session fleet.UUID, to string, err error) {
	if err == nil {
		a.note(session, "copy", "the recording was copied to %s", to)
		return
	}
	a.note(session, "copy", "the recording could not be copied to %s: %v", to, err)
	a.log.Warn("the recording of a session could not be copied; it is still kept here", "session", session, "to", to, "err", err)
}
