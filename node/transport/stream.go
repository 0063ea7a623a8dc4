package transport

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/muster-fleet/muster/node/fleet"
)

// Stream is one two-way byte stream with a peer. It is a net.Conn. Whoever has it must Close it, or the peer runs out
// of streams. The peer learns of a stream only when the first bytes are written to it.
type Stream struct {
	quic *quic.Stream
	link *link

	incoming bool // opened by the peer

	writing sync.Mutex // quic-go forbids Close beside Write
	once    sync.Once
}

var _ net.Conn = (*Stream)(nil)

// Peer returns the ID of the node at the other end, as its key proved it.
func (s *Stream) Peer() fleet.ID { return s.link.peer }

// Plane returns the plane the stream belongs to.
func (s *Stream) Plane() Plane { return s.link.plane }

// Addr returns where the peer is now; it changes when the peer's network does. For a stream through a relay it is a number
// within 100::/64, where nobody is.
func (s *Stream) Addr() netip.AddrPort { return addrPort(s.link.conn.RemoteAddr()) }

// Relay returns the node that carries the stream as a blind pipe, if one does.
func (s *Stream) Relay() (fleet.ID, bool) {
	if s.link.pipe == nil {
		return fleet.ID{}, false
	}
	return s.link.pipe.via, true
}

// LocalAddr returns the address of the socket.
func (s *Stream) LocalAddr() net.Addr { return s.link.conn.LocalAddr() }

// RemoteAddr returns Addr as a *net.UDPAddr.
func (s *Stream) RemoteAddr() net.Addr { return s.link.conn.RemoteAddr() }

// Context ends when nothing more can be written: the stream or connection is closed, or the peer reads no more. Work
// for an answer can stop then.
func (s *Stream) Context() context.Context { return s.quic.Context() }

// Read reads what the peer wrote. It returns io.EOF after the peer's CloseWrite or Close; other ends are *fleet.Error.
func (s *Stream) Read(p []byte) (int, error) {
	n, err := s.quic.Read(p)
	if n > 0 {
		s.link.heard()
	}
	return n, broken(err, s.link.who())
}

// Write writes all of p, or returns why not.
func (s *Stream) Write(p []byte) (int, error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	defer s.link.writing()()
	n, err := s.quic.Write(p)
	return n, broken(err, s.link.who())
}

// CloseWrite tells the peer that nothing more comes; reading goes on.
func (s *Stream) CloseWrite() error {
	s.writing.Lock()
	defer s.writing.Unlock()
	return s.quic.Close()
}

// Close ends both directions. What was written before arrives; a Write under way is cut off.
func (s *Stream) Close() error {
	s.once.Do(func() {
		// Without CancelRead the stream would count against the peer's limit until the peer closed too, and leak.
		s.quic.CancelRead(streamDone)
		if s.writing.TryLock() {
			_ = s.quic.Close() // fails only after a cancelled write
			s.writing.Unlock()
		} else {
			s.quic.CancelWrite(streamCancelled)
		}
		s.link.streamClosed(s.incoming)
	})
	return nil
}

// Abort ends both directions at once, for whoever reads or writes now, so that the peer cannot take it for an orderly end.
// Close is due all the same.
func (s *Stream) Abort() { reset(s.quic, streamCancelled) }

// SetDeadline sets both deadlines.
func (s *Stream) SetDeadline(t time.Time) error { return s.quic.SetDeadline(t) }

// SetReadDeadline ends a Read at t with an error that is os.ErrDeadlineExceeded; zero means never.
func (s *Stream) SetReadDeadline(t time.Time) error { return s.quic.SetReadDeadline(t) }

// SetWriteDeadline ends a Write at t with an error that is os.ErrDeadlineExceeded; zero means never.
func (s *Stream) SetWriteDeadline(t time.Time) error { return s.quic.SetWriteDeadline(t) }

func reset(s *quic.Stream, code quic.StreamErrorCode) {
	s.CancelRead(code)
	s.CancelWrite(code)
}

func addrPort(a net.Addr) netip.AddrPort {
	if udp, ok := a.(*net.UDPAddr); ok {
		return unmapped(udp.AddrPort())
	}
	return netip.AddrPort{}
}
