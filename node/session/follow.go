package session

import (
	"context"
	"net"
	"time"

	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

// followPause is the time between two attempts to reach a supervisor that lives.
const followPause = 100 * time.Millisecond

// listen stays with a supervisor until the session has ended, the supervisor is gone or Sessions closes.
func (s *Sessions) listen(conn net.Conn) {
	defer conn.Close()
	defer context.AfterFunc(s.ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })()
	var r reply
	_ = hear(conn, &r) // whatever it is, the folder says how it stands
}

// follow waits for the end of a session and tells of it.
func (s *Sessions) follow(id fleet.UUID, about about) {
	dir := s.folder(id)
	for s.ctx.Err() == nil {
		alive := dir.alive() // asked before the end is looked for: what dies writes its end first
		e, err := dir.end()
		switch {
		case err == nil:
			s.ended(id, e.put(about.State))
			return
		case !alive:
			s.ended(id, s.lost(id, about).put(about.State))
			return
		}
		if conn, _, err := s.ask(s.ctx, id, ask{Kind: askFollow}); err == nil {
			s.listen(conn)
			continue
		}
		select {
		case <-time.After(followPause):
		case <-s.ctx.Done():
		}
	}
}

// lost ends a session whose supervisor is gone without a word. What is left of it is killed: nobody would watch over it.
func (s *Sessions) lost(id fleet.UUID, about about) ending {
	dir := s.folder(id)
	e := ending{Session: id, Ended: s.cfg.Now().UnixMilli(), Active: about.State.Active, Code: -1, Why: "its supervisor died", Recording: dir.summed()}
	switch {
	case about.Opened != s.boot:
		e.Why = "the host restarted"
	case about.State.Kind == auth.SessionForward:
		e.Why = "its agent died"
	default:
		s.bury(id)
	}
	if words := dir.lastWords(); words != "" {
		e.Why += ": " + words
	}
	if err := dir.writeEnd(e); err != nil {
		s.cfg.Log.Error("the end of a session cannot be recorded", "session", id.String(), "err", err)
	}
	return e
}

// ended tells of an end, once.
func (s *Sessions) ended(id fleet.UUID, state node.SessionState) {
	dir := s.folder(id)
	if !dir.told() {
		s.want(id, state)
		if s.cfg.Ended != nil {
			s.cfg.Ended(state)
		}
		if err := dir.tell(); err != nil {
			s.cfg.Log.Warn("the end of a session may be told twice", "session", id.String(), "err", err)
		}
	}
	s.know(state)
	s.linger(id)
	select {
	case s.grown <- struct{}{}:
	default:
	}
}
