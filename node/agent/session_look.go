package agent

import (
	"context"

	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/auth"
)

// serveLook shows a session that runs here to an operator, until it ends, he goes, or may not look on any more.
func (a *Agent) serveLook(s SessionStream, body []byte) error {
	signed, err := node.DecodeSessionStatement(node.SessionAsk, body)
	if err != nil {
		return err
	}
	var state node.SessionState
	var who string
	err = a.caughtUp(s.Context(), func(record auth.Record) (err error) {
		state, who, err = node.JudgeSessionWatch(signed, record, s.Peer(), a.sessionHost(), a.running, a.now())
		return err
	})
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancelCause(s.Context())
	defer stop(nil)
	shown, err := a.sessions.shell.Look(ctx, state.ID, who)
	if err != nil {
		return err
	}
	defer shown.Close()
	defer context.AfterFunc(ctx, func() { shown.Close() })() // before what would block
	a.note(state.ID, "watch", "%s looks on", who)
	defer a.note(state.ID, "watch", "%s looks on no more", who)
	if s.WriteFrame(node.SessionWatch, node.EncodeSession(node.SessionAnswer{Sessions: []node.SessionState{state}})) != nil {
		return nil
	}
	go a.watchLooker(ctx, stop, s, state)
	err = pour(s, shown, nil)
	if err != nil || ctx.Err() != nil { // so that nobody takes it for the session's end
		s.Abort()
		return nil
	}
	_ = s.CloseWrite()
	return nil
}

// watchLooker ends the looking on of somebody who is gone, or whose right is.
func (a *Agent) watchLooker(ctx context.Context, stop context.CancelCauseFunc, s SessionStream, state node.SessionState) {
	go func() {
		_, _ = s.Read(make([]byte, 1)) // nothing is to come
		stop(context.Canceled)
	}()
	for {
		grown := a.grown.wait()
		if err := node.WatchStands(state, s.Peer(), a.record(), a.sessionHost(), a.now()); err != nil {
			a.log.Info("somebody may not look on at a session any more", "session", state.ID, "key", s.Peer(), "why", err)
			stop(err)
		}
		select {
		case <-ctx.Done():
			return
		case <-grown:
		}
	}
}
