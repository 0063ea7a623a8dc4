package transport

import (
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/muster-fleet/muster/node/fleet"
)

// pipe is this node's end of a channel through a relay. To QUIC it is an address; it lives as long as the stream that opened
// it, and what is connected over it does not outlive it.
type pipe struct {
	in      *inner
	stream  *Stream // to the relay; on the Relay plane
	channel uint32
	lane    lane
	peer    fleet.ID // who is at the other end. The relay says so; TLS proves it
	via     fleet.ID
	addr    netip.AddrPort
	spare   time.Duration // how long it is kept without a connection

	mu    sync.Mutex
	conns int
	idle  *time.Timer
	// used gives back its place among those that carry nothing yet; it had one if it was offered here.
	used func()
}

// take brings a packet that came through the pipe to QUIC.
func (p *pipe) take(d []byte) {
	select {
	case p.in.net.arrivals <- arrival{p.addr, d[datagramHead:]}:
	default: // as a full socket
	}
}

// send waits until the connection to the relay has room, so that QUIC sees a path that is busy and not one that loses; but
// not for long, for closing waits for it. It fails when the pipe has ended.
func (p *pipe) send(packet []byte) error {
	d := make([]byte, datagramHead, datagramHead+len(packet))
	putHead(d, whole, p.channel)
	d = append(d, packet...)
	out := p.stream.link.channels.out
	result := out.push(&p.lane, d)
	if result == pushedFull {
		patience := time.NewTimer(pipePatience)
		defer patience.Stop()
		for result == pushedFull {
			select {
			case <-p.lane.space:
			case <-p.stream.Context().Done():
			case <-patience.C:
				return nil // lost, as packets are
			}
			result = out.push(&p.lane, d)
		}
	}
	if result == pushedClosed {
		return net.ErrClosed
	}
	return nil
}

// carry binds a connection to the pipe.
func (p *pipe) carry(conn *quic.Conn) {
	p.mu.Lock()
	p.conns++
	p.spare = pipeLinger // it was no spare one, or is none any more
	stop(p.idle)
	p.mu.Unlock()
	p.used()
	context.AfterFunc(p.stream.Context(), func() { _ = conn.CloseWithError(closePipeBroke, "") })
	context.AfterFunc(conn.Context(), func() {
		p.mu.Lock()
		p.conns--
		p.mu.Unlock()
		p.leave()
	})
}

// leave ends the pipe soon, unless it carries something: what was said last, which is why a peer was refused, is on its way.
func (p *pipe) leave() {
	p.mu.Lock()
	defer p.mu.Unlock()
	stop(p.idle)
	if p.conns == 0 {
		p.idle = time.AfterFunc(p.spare, p.closeIdle)
	}
}

func (p *pipe) closeIdle() {
	p.mu.Lock()
	used := p.conns > 0
	p.mu.Unlock()
	if !used {
		p.close()
	}
}

// close ends the pipe, for both ends.
func (p *pipe) close() { _ = p.stream.Close() }

// ended lets go of what the pipe holds.
func (p *pipe) ended() {
	p.close()
	p.stream.link.channels.remove(p.channel)
	p.stream.link.channels.out.drop(&p.lane)
	p.in.net.remove(p)
	p.used()
	p.mu.Lock()
	stop(p.idle)
	p.mu.Unlock()
}

type arrival struct {
	from netip.AddrPort
	data []byte
}

// pipeNet is the network that pipes are: a net.PacketConn on which each pipe is an address. They are of 100::/64, the prefix
// whose packets routers throw away: an address that leaks reaches nobody.
type pipeNet struct {
	arrivals chan arrival

	mu     sync.Mutex
	byAddr map[netip.AddrPort]*pipe
	unused places // those that were offered here and carry nothing yet
	serial uint32
	woken  chan struct{} // closed while reads are to return
	closed bool
}

var _ net.PacketConn = (*pipeNet)(nil)

func newPipeNet() *pipeNet {
	return &pipeNet{arrivals: make(chan arrival, maxArrivals), byAddr: map[netip.AddrPort]*pipe{}, unused: places{}, woken: make(chan struct{})}
}

// discard is RFC 6666's prefix, 100::.
func discard() netip.Addr { return netip.AddrFrom16([16]byte{0x01}) }

const pipePort = 7980 // any but zero, which is no port

// pipeAddr names a pipe: in its neighbourhood are the others of the same peer.
func pipeAddr(peer fleet.ID, serial uint32) netip.AddrPort {
	b := discard().As16()
	copy(b[8:12], peer[:4])
	binary.BigEndian.PutUint32(b[12:], serial)
	return netip.AddrPortFrom(netip.AddrFrom16(b), pipePort)
}

// add gives a pipe its address.
func (n *pipeNet) add(p *pipe) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed || len(n.byAddr) >= maxPipes {
		return fleet.Errorf(fleet.Exhausted, "%d pipes end here already", len(n.byAddr))
	}
	for p.addr = pipeAddr(p.peer, n.serial); n.byAddr[p.addr] != nil; p.addr = pipeAddr(p.peer, n.serial) {
		n.serial++
	}
	n.serial++
	n.byAddr[p.addr] = p
	return nil
}

func (n *pipeNet) remove(p *pipe) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.byAddr, p.addr)
}

// at returns the pipe that has an address, nil if there is none (any more).
func (n *pipeNet) at(addr netip.AddrPort) *pipe {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.byAddr[addr]
}

// ReadFrom waits for a packet out of any pipe.
func (n *pipeNet) ReadFrom(b []byte) (int, net.Addr, error) {
	n.mu.Lock()
	woken, closed := n.woken, n.closed
	n.mu.Unlock()
	if closed {
		return 0, nil, net.ErrClosed
	}
	select {
	case a := <-n.arrivals:
		return copy(b, a.data), net.UDPAddrFromAddrPort(a.from), nil
	case <-woken:
		return 0, nil, os.ErrDeadlineExceeded
	}
}

// WriteTo sends a packet through a pipe; see pipe.send.
func (n *pipeNet) WriteTo(b []byte, to net.Addr) (int, error) {
	p := n.at(addrPort(to))
	if p == nil {
		return 0, net.ErrClosed
	}
	if err := p.send(b); err != nil {
		return 0, err
	}
	return len(b), nil
}

// Close ends all reads.
func (n *pipeNet) Close() error {
	n.mu.Lock()
	n.closed = true
	n.mu.Unlock()
	return n.SetReadDeadline(time.Unix(1, 0))
}

// LocalAddr returns the prefix.
func (n *pipeNet) LocalAddr() net.Addr {
	return net.UDPAddrFromAddrPort(netip.AddrPortFrom(discard(), pipePort))
}

// SetReadDeadline ends reads at once, or lets them wait for ever: quic-go asks for no more.
func (n *pipeNet) SetReadDeadline(t time.Time) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	select {
	case <-n.woken:
		if t.IsZero() && !n.closed {
			n.woken = make(chan struct{})
		}
	default:
		if !t.IsZero() {
			close(n.woken)
		}
	}
	return nil
}

// SetDeadline is SetReadDeadline.
func (n *pipeNet) SetDeadline(t time.Time) error { return n.SetReadDeadline(t) }

// SetWriteDeadline does nothing: see pipe.send.
func (n *pipeNet) SetWriteDeadline(time.Time) error { return nil }

// SetReadBuffer does nothing. quic-go asks for it and logs a warning where it is missing.
func (n *pipeNet) SetReadBuffer(int) error { return nil }

// SetWriteBuffer does nothing; see SetReadBuffer.
func (n *pipeNet) SetWriteBuffer(int) error { return nil }

// inner is QUIC over pipes, as it is over the socket. It is made when the first pipe is.
type inner struct {
	net       *pipeNet
	transport *quic.Transport
	listener  *quic.Listener // nil: nobody connects to this node
}

func (e *Endpoint) pipes() (*inner, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.started || e.closing {
		return nil, fleet.Errorf(fleet.Unavailable, "the transport is not running")
	}
	if e.inner != nil {
		return e.inner, nil
	}
	in := &inner{net: newPipeNet()}
	in.transport = e.newTransport(in.net, e.enterPiped(in.net))
	if !e.dialOnly {
		cfg := e.serverQUIC()
		narrow(cfg)
		listener, err := in.transport.Listen(serverTLS(e.leaf, pipedALPNs()), cfg)
		if err != nil {
			return nil, &fleet.Error{Kind: fleet.Internal, What: "cannot serve pipes", Err: err}
		}
		in.listener = listener
		e.tasks.Go(func() { e.acceptAll(listener) })
	}
	e.inner = in
	return in, nil
}

// enterPiped has whoever comes by a pipe counted at the door for who offered it.
func (e *Endpoint) enterPiped(net *pipeNet) admission {
	return func(from netip.AddrPort) (func(), error) {
		p := net.at(from)
		if p == nil {
			return nil, errPipeEnded()
		}
		return e.door.enterPiped(p.via, p.peer)
	}
}

// shut takes no more connections.
func (in *inner) shut() {
	if in.listener != nil {
		_ = in.listener.Close()
	}
}

// close ends what is left.
func (in *inner) close() {
	_ = in.transport.Close()
	_ = in.net.Close()
}

// narrow fits a configuration to pipes: packets have QUIC's least size, which a datagram of the relay's path takes, and none
// carries another's pipe.
func narrow(cfg *quic.Config) {
	cfg.InitialPacketSize = pipedPacket
	cfg.DisablePathMTUDiscovery = true
	cfg.EnableDatagrams = false
}

// pipeOf returns the pipe that a connection came by; nil if it came by the socket.
func (e *Endpoint) pipeOf(conn *quic.Conn) (*pipe, error) {
	if addrPort(conn.LocalAddr()).Addr() != discard() {
		return nil, nil
	}
	e.mu.Lock()
	in := e.inner
	e.mu.Unlock()
	if in != nil {
		if p := in.net.at(addrPort(conn.RemoteAddr())); p != nil {
			return p, nil
		}
	}
	return nil, errPipeEnded()
}

func errPipeEnded() error { return fleet.Errorf(fleet.Unavailable, "the relay's pipe has ended") }

// offered makes a stream over which a relay offers a pipe this node's end of it.
func (e *Endpoint) offered(s *Stream, peer fleet.ID) (*pipe, error) {
	in, err := e.pipes()
	if err != nil {
		return nil, err
	}
	used, ok := in.net.unused.lend(&in.net.mu, []claim{{party{by: s.Peer()}, maxUnusedBy}, {party{s.Peer(), peer}, maxPipesFor}})
	if !ok {
		return nil, fleet.Errorf(fleet.Exhausted, "too many pipes of node %s to node %s carry nothing", s.Peer(), e.id)
	}
	p, err := e.newPipe(s, peer, s.Peer(), pipeSpare, used)
	if err != nil {
		used()
	}
	return p, err
}

// newPipe makes an accepted stream of the Relay plane this node's end of a pipe. used is called when it is first used, and
// when it ends.
func (e *Endpoint) newPipe(s *Stream, peer, via fleet.ID, spare time.Duration, used func()) (*pipe, error) {
	in, err := e.pipes()
	if err != nil {
		return nil, err
	}
	channel, err := channelOf(s)
	if err != nil {
		return nil, err
	}
	p := &pipe{in: in, stream: s, channel: channel, peer: peer, via: via, spare: spare, used: used, lane: lane{limit: pipeQueue, space: make(chan struct{}, 1)}}
	if err := in.net.add(p); err != nil {
		return nil, err
	}
	if !s.link.channels.add(channel, p) {
		in.net.remove(p)
		return nil, fleet.Errorf(fleet.Unavailable, "the connection to %s has ended", s.link.who())
	}
	context.AfterFunc(s.Context(), p.ended)
	return p, nil
}

// dialPipe connects through a relay: TLS proves who answers just as it does on the socket.
func (e *Endpoint) dialPipe(ctx context.Context, relay fleet.ID, to destination) (*quic.Conn, error) {
	s, err := e.askPipe(ctx, relay, to.id)
	if err != nil {
		return nil, err
	}
	p, err := e.newPipe(s, to.id, relay, pipeLinger, func() {})
	if err != nil {
		_ = s.Close()
		return nil, err
	}
	defer p.leave()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(s.Context(), func() { cancel(errPipeBroke(to.id, relay)) })()
	limits, _ := to.plane.limits()
	cfg := clientQUIC(to.plane, limits)
	narrow(cfg)
	conn, err := p.in.transport.Dial(ctx, net.UDPAddrFromAddrPort(p.addr), clientTLS(e.leaf, to.plane, to.id), cfg)
	if err != nil {
		return nil, err
	}
	p.carry(conn)
	return conn, nil
}

func errPipeBroke(to, relay fleet.ID) error {
	return fleet.Errorf(fleet.Unavailable, "node %s let go of the pipe to node %s", relay, to)
}
