package session

import (
	"errors"
	"net"
	"os"
	"time"

	"github.com/muster-fleet/muster/exec/cage"
)

// patience is how long the other end of the socket may take for one message: neither side waits for the other.
const patience = 2 * time.Second

const acceptPause = 50 * time.Millisecond

// serve answers agents, one after the other or several at once.
func (s *supervision) serve(l net.Listener) {
	for {
		conn, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // no descriptor is free, for now
			time.Sleep(acceptPause)
			continue
		}
		s.conns.Go(func() { s.answer(conn) })
	}
}

func (s *supervision) answer(conn net.Conn) {
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	var a ask
	if hear(conn, &a) != nil {
		return
	}
	conn.SetDeadline(time.Time{})
	switch a.Kind {
	case askFollow:
		s.tell(conn)
	case askAttach:
		s.attach(conn, a.Have)
	case askState:
		_ = s.say(conn, s.signs()) // if it is gone it asks again
	case askLook:
		s.look(conn, a.Text)
	case askKill:
		s.stop(a.Text)
		_ = s.say(conn, s.signs()) // likewise
	}
}

func (s *supervision) say(conn net.Conn, r reply) error {
	conn.SetWriteDeadline(time.Now().Add(patience))
	return say(conn, r)
}

// tell says when the program runs, and when it has ended.
func (s *supervision) tell(conn net.Conn) {
	<-s.began
	r := s.signs()
	if s.failed != nil {
		r.Failed = []failure{failureOf(s.failed)}
	}
	if s.say(conn, r) != nil {
		return
	}
	if s.failed != nil {
		s.hearing.Do(func() { close(s.heard) })
		return
	}
	gone := make(chan struct{})
	go func() { // an agent that is gone needs no goroutine for the rest of the session
		defer close(gone)
		conn.Read(make([]byte, 1))
	}()
	select {
	case <-s.over:
		_ = s.say(conn, s.signs()) // the end file says all
	case <-gone:
	}
}

// attach serves the connection until it ends or another one comes.
func (s *supervision) attach(conn net.Conn, have uint64) {
	<-s.began
	if s.failed != nil {
		_ = s.say(conn, reply{Failed: []failure{failureOf(s.failed)}})
		return
	}
	turn := s.line.Turn()
	s.present(1)
	defer s.present(-1)
	r := s.signs()
	r.Have = turn.Taken()
	if s.say(conn, r) != nil {
		return
	}
	conn.SetWriteDeadline(time.Time{})
	_ = turn.Serve(conn, have) // why it ended is the client's business
}

func (s *supervision) present(n int) {
	s.mu.Lock()
	if s.attached += n; s.attached == 0 {
		s.left = cage.BootNow()
	}
	s.mu.Unlock()
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

func (s *supervision) signs() reply {
	s.mu.Lock()
	attached := s.attached > 0
	s.mu.Unlock()
	r := reply{Active: s.activeAt(), Attached: attached, In: s.in.Load(), Out: s.out.Load(), Sealed: len(s.o.Session.Auditors) > 0}
	if info, err := os.Stat(recordingName); err == nil {
		r.Recorded = info.Size()
	}
	return r
}
