package agent

import (
	"cmp"
	"io"
	"slices"

	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

// Sessions lists the sessions of this host, running and ended, the newest first.
func (a *Agent) Sessions() []node.SessionState {
	out := a.sessions.tunnels.list()
	if a.sessions.shell != nil {
		out = append(out, a.sessions.shell.List()...)
	}
	slices.SortFunc(out, func(a, b node.SessionState) int {
		return cmp.Or(cmp.Compare(b.Started, a.Started), slices.Compare(a.ID[:], b.ID[:]))
	})
	return out
}

// session returns one of them.
func (a *Agent) session(id fleet.UUID) (node.SessionState, bool) {
	if s, ok := a.sessions.tunnels.find(id); ok || a.sessions.shell == nil {
		return s, ok
	}
	s, err := a.sessions.shell.Get(id)
	return s, err == nil
}

// knownSessions lists them all from memory, with what judging them takes.
func (a *Agent) knownSessions() []node.SessionState {
	out := a.sessions.tunnels.list()
	if a.sessions.shell != nil {
		out = append(out, a.sessions.shell.Known()...)
	}
	return out
}

// running returns one of them that has not ended.
func (a *Agent) running(id fleet.UUID) (node.SessionState, bool) {
	s, ok := a.session(id)
	return s, ok && s.Ended == 0
}

// askSession tells an operator of sessions, or gives him the recording of one.
func (a *Agent) askSession(s SessionStream, body []byte) error {
	signed, err := node.DecodeSessionStatement(node.SessionAsk, body)
	if err != nil {
		return err
	}
	var read node.Read
	var reader node.SessionReader
	err = a.caughtUp(s.Context(), func(record auth.Record) (err error) {
		read, reader, err = node.JudgeSessionRead(signed, record, s.Peer(), a.sessionHost(), a.now())
		return err
	})
	if err != nil {
		return err
	}
	if read.What == node.ReadCopies || read.What == node.ReadCopy {
		return a.askCopies(s, read, reader)
	}
	answer, err := node.AnswerSessions(read, reader, a.withCopies(a.Sessions()))
	if err != nil {
		return err
	}
	if read.What == node.ReadRecording {
		return a.sendRecording(s, read.Arg, answer)
	}
	return s.WriteFrame(node.SessionAsk, node.EncodeSession(answer))
}

// sendRecording writes a recording behind the answer. A stream that is reset says that it is not whole.
func (a *Agent) sendRecording(s SessionStream, id fleet.UUID, answer node.SessionAnswer) error {
	if a.sessions.shell == nil {
		return node.NoSession(id)
	}
	recording, err := a.sessions.shell.Recording(id)
	if err != nil {
		return err
	}
	return a.pourRecording(s, node.EncodeSession(answer), recording, id)
}

// withCopies adds who has copies of the recordings.
func (a *Agent) withCopies(all []node.SessionState) []node.SessionState {
	for i, s := range all {
		if s.Ended != 0 && s.Recording.Bytes > 0 && a.sessions.shell != nil {
			all[i].Copies = a.sessions.shell.CopiesOf(s.ID).At
		}
	}
	return all
}

// pourRecording writes an answer and a recording behind it.
func (a *Agent) pourRecording(s SessionStream, answer []byte, recording io.ReadCloser, id fleet.UUID) error {
	defer recording.Close()
	if s.WriteFrame(node.SessionAsk, answer) != nil {
		return nil
	}
	if err := pour(s, recording, nil); err != nil {
		a.log.Debug("a recording was not sent to its end", "session", id, "err", err)
		s.Abort()
		return nil
	}
	_ = s.CloseWrite()
	return nil
}

// killSession ends a session by an operator's signed order.
func (a *Agent) killSession(s SessionStream, body []byte) error {
	signed, err := node.DecodeSessionStatement(node.SessionKill, body)
	if err != nil {
		return err
	}
	var state node.SessionState
	var by string
	err = a.caughtUp(s.Context(), func(record auth.Record) (err error) {
		state, by, err = node.JudgeSessionKill(signed, record, a.sessionHost(), a.running, a.now())
		return err
	})
	if err == nil {
		err = a.endSession(state, by)
	}
	if err != nil {
		return err
	}
	if now, ok := a.session(state.ID); ok {
		state = now
	}
	return s.WriteFrame(node.SessionKill, node.EncodeSession(node.SessionAnswer{Sessions: []node.SessionState{state}}))
}

// endSession ends a session that runs, for a reason that its operator is told.
func (a *Agent) endSession(s node.SessionState, why string) error {
	a.note(s.ID, "kill", "%s", why)
	if s.Kind == auth.SessionForward {
		a.sessions.tunnels.finish(s.ID, why, a.now())
		return nil
	}
	return a.sessions.shell.Kill(s.ID, why)
}
