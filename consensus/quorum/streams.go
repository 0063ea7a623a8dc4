package quorum

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"github.com/muster-fleet/muster/node/fleet"
)

// plumbing is all streams of a replica. Raft's transports open theirs through its two layers and take all incoming ones
// from one queue, whichever plane they came on.
type plumbing struct {
	self     Replica
	open     Streams
	incoming chan net.Conn
	closed   chan struct{}

	mu    sync.Mutex
	conns map[*stream]struct{}
	peers map[fleet.ID]*guest // who has incoming streams
}

func newPlumbing(self Replica, open Streams) *plumbing {
	return &plumbing{
		self: self, open: open,
		incoming: make(chan net.Conn),
		closed:   make(chan struct{}),
		conns:    map[*stream]struct{}{},
		peers:    map[fleet.ID]*guest{},
	}
}

func (p *plumbing) isClosed() bool {
	select {
	case <-p.closed:
		return true
	default:
		return false
	}
}

// guest is a peer with incoming streams.
type guest struct {
	streams int
	unheard atomic.Int64 // bytes of requests that it has sent on all of them and that were not answered
}

// stream is one connection, known to the plumbing until it is closed.
type stream struct {
	net.Conn
	plumbing *plumbing
	peer     fleet.ID
	accepted bool
	budget   int64        // bytes the peer may send between two messages of ours
	unheard  atomic.Int64 // bytes it has sent since the last
	guest    *guest       // of an incoming stream
	counted  atomic.Int64 // bytes counted against the guest
	closed   atomic.Bool
	requests requests    // what it has sent, where it asks
	greeted  bool        // it has said what it wants: requests follow
	answered atomic.Bool // we have said something
	once     sync.Once
}

// Read counts what the peer sends.
func (s *stream) Read(p []byte) (int, error) {
	if s.requests.bulk && s.answered.Load() {
		return 0, io.EOF // it brought its snapshot: raft takes a stream for each
	}
	n, err := s.Conn.Read(p)
	if bad := s.count(p[:n]); bad != nil {
		return 0, errors.Join(bad, s.Close())
	}
	if err != nil && s.plumbing.isClosed() {
		err = io.EOF // it ended because we wanted it; raft logs other errors
	}
	return n, err
}

// count refuses what would cost too much memory. A snapshot's bytes cost none: they go to the disk.
func (s *stream) count(data []byte) error {
	n := int64(len(data))
	if s.unheard.Add(n) > s.budget {
		return fleet.Errorf(fleet.Exhausted, "a message on a raft stream has more than %d bytes", s.budget)
	}
	if !s.greeted || s.requests.raw {
		return nil
	}
	s.counted.Add(n)
	all := s.guest.unheard.Add(n)
	if s.closed.Load() {
		s.settle()
	}
	if all > requestBytes {
		return fleet.Errorf(fleet.Exhausted, "%s has sent more than %d bytes of requests at once", s.peer, requestBytes)
	}
	return s.requests.take(data)
}

// settle forgets what the peer has sent: it was answered, or its stream is closed.
func (s *stream) settle() {
	s.unheard.Store(0)
	if n := s.counted.Swap(0); n != 0 {
		s.guest.unheard.Add(-n)
	}
}

// Write sends a request or an answer.
func (s *stream) Write(p []byte) (int, error) {
	s.answered.Store(true)
	s.settle()
	return s.Conn.Write(p)
}

// Close closes the connection and forgets it.
func (s *stream) Close() error {
	s.once.Do(func() {
		s.closed.Store(true)
		s.settle()
		s.plumbing.drop(s)
	})
	return s.Conn.Close()
}

// RemoteAddr returns the peer's ID.
func (s *stream) RemoteAddr() net.Addr { return address(s.peer.String()) }

type address string

func (a address) Network() string { return "muster-raft" }
func (a address) String() string  { return string(a) }

func (p *plumbing) keep(s *stream) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.isClosed() {
		return net.ErrClosed
	}
	if s.accepted {
		s.guest = p.peers[s.peer]
		if s.guest == nil {
			s.guest = &guest{}
			p.peers[s.peer] = s.guest
		}
		if s.guest.streams >= streamsPerPeer {
			return fleet.Errorf(fleet.Exhausted, "%s has %d raft streams open here", s.peer, streamsPerPeer)
		}
		s.guest.streams++
	}
	p.conns[s] = struct{}{}
	return nil
}

func (p *plumbing) drop(s *stream) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, found := p.conns[s]; !found {
		return
	}
	delete(p.conns, s)
	if !s.accepted {
		return
	}
	if s.guest.streams--; s.guest.streams == 0 {
		delete(p.peers, s.peer)
	}
}

// hangUp closes the streams that which names.
func (p *plumbing) hangUp(which func(*stream) bool) {
	p.mu.Lock()
	var chosen []*stream
	for s := range p.conns {
		if which(s) {
			chosen = append(chosen, s)
		}
	}
	p.mu.Unlock()
	for _, s := range chosen {
		_ = s.Close()
	}
}

func (p *plumbing) close() {
	p.mu.Lock()
	if !p.isClosed() {
		close(p.closed)
	}
	p.mu.Unlock()
	p.hangUp(func(*stream) bool { return true })
}

// accept takes a stream that a permitted peer opened, once it has said that this incarnation is meant.
func (p *plumbing) accept(conn net.Conn, peer fleet.ID, bulk bool) error {
	s := &stream{Conn: conn, plumbing: p, peer: peer, accepted: true, budget: requestBytes}
	if bulk {
		s.budget, s.requests.bulk = snapshotBytes, true
	}
	if err := p.keep(s); err != nil {
		return errors.Join(err, conn.Close())
	}
	if err := p.greet(s); err != nil {
		return errors.Join(err, s.Close())
	}
	select {
	case p.incoming <- s:
		return nil
	case <-p.closed:
		return errors.Join(net.ErrClosed, s.Close())
	}
}

func (p *plumbing) greet(s *stream) error {
	if err := s.SetReadDeadline(time.Now().Add(helloTimeout)); err != nil {
		return err
	}
	var first [helloSize]byte
	if _, err := io.ReadFull(s, first[:]); err != nil {
		return err
	}
	said, err := decodeHello(first[:])
	if err != nil {
		return err
	}
	if said.to != p.self.Incarnation {
		return fleet.Errorf(fleet.Conflict, "%s means incarnation %d of this node; this is %d", s.peer, said.to, p.self.Incarnation)
	}
	s.greeted = true
	return s.SetReadDeadline(time.Time{})
}

// dial opens a stream to the replica that a raft address names.
func (p *plumbing) dial(target raft.ServerAddress, timeout time.Duration, bulk bool) (net.Conn, error) {
	replica, err := parseReplica(string(target))
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	conn, err := p.open.Open(ctx, replica.ID, bulk)
	if err != nil {
		return nil, err
	}
	s := &stream{Conn: conn, plumbing: p, peer: replica.ID, budget: answerBytes}
	if err := p.keep(s); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	if err := s.SetWriteDeadline(time.Now().Add(timeout)); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	if _, err := s.Write(hello{to: replica.Incarnation, from: p.self.Incarnation}.encode()); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, s.SetWriteDeadline(time.Time{})
}

// layer is one plane as raft.StreamLayer. Only the raft plane's accepts; the bulk plane's incoming streams join its
// queue, as raft has one place that answers requests.
type layer struct {
	*plumbing
	bulk bool
	down chan struct{}
	once *sync.Once
}

func newLayer(p *plumbing, bulk bool) *layer {
	return &layer{plumbing: p, bulk: bulk, down: make(chan struct{}), once: new(sync.Once)}
}

// Accept waits for an incoming stream.
func (l *layer) Accept() (net.Conn, error) {
	incoming := l.incoming
	if l.bulk {
		incoming = nil
	}
	select {
	case conn := <-incoming:
		return conn, nil
	case <-l.down:
		return nil, net.ErrClosed
	}
}

// Close closes all streams of both planes.
func (l *layer) Close() error {
	l.once.Do(func() { close(l.down) })
	l.plumbing.close()
	return nil
}

// Addr returns this replica's address inside raft.
func (l *layer) Addr() net.Addr { return address(l.self.text()) }

// Dial opens a stream to a replica.
func (l *layer) Dial(target raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	return l.dial(target, timeout, l.bulk)
}
