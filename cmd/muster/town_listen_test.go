package main

import (
	"errors"
	"net"
	"os"
	"time"

	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/transport"
)

// listenFor opens the places where a session listens; it returns where.
func (g *guest) listenFor(places []string) (at []string, err error) {
	for _, place := range places {
		l, err := net.Listen("tcp", place)
		if err != nil {
			g.deafen()
			return nil, fleet.Errorf(fleet.Conflict, "something else listens at %s", place)
		}
		g.ears, at = append(g.ears, l.(*net.TCPListener)), append(at, l.Addr().String())
	}
	return at, nil
}

func (g *guest) deafen() {
	for _, l := range g.ears {
		l.Close()
	}
}

// accept gives a stream the next connection, as true nodes do, but looks now and then only whether it is still wanted.
func (d *door) accept(s *transport.Stream, body []byte) error {
	want, err := node.DecodeSession[node.SessionAccepting](body)
	if err != nil {
		return err
	}
	g, err := d.find(want.ID)
	if err == nil {
		err = g.state.MayAccept(want.N)
	}
	if err == nil {
		err = d.ended(g)
	}
	if err != nil {
		return err
	}
	for s.Context().Err() == nil {
		_ = g.ears[want.N].SetDeadline(time.Now().Add(10 * time.Millisecond))
		conn, err := g.ears[want.N].Accept()
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			continue
		case err != nil:
			if err := d.ended(g); err != nil {
				return err
			}
			return node.NoSession(want.ID)
		}
		if err := s.WriteFrame(node.SessionAccept, node.EncodeSession(node.SessionAccepted{From: conn.RemoteAddr().String()})); err != nil {
			conn.Close()
			return nil
		}
		_ = splice(conn.(half), s)
		return nil
	}
	return nil
}
