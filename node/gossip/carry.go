package gossip

import (
	"context"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/muster-fleet/muster/node/fleet"
)

// Carrier is the transport as gossip needs it.
type Carrier interface {
	// SendPacket sends one sealed packet of at most MaxPayload bytes; it may drop it silently, and must not keep payload.
	SendPacket(to netip.AddrPort, payload []byte) error
	// SendVia is SendPacket to a node that is reached through a relay at an address; the invalid one: through its uplink
	// to this node. It is an error where it is known at once that nothing left.
	SendVia(relay netip.AddrPort, to fleet.ID, payload []byte) error
	// Open opens a stream to the node, whose identity the transport verifies. With the invalid address it goes through the
	// node's relays.
	Open(ctx context.Context, id fleet.ID, addr netip.AddrPort) (net.Conn, error)
	// MaxPayload is how many bytes fit one packet, also through a relay (about 1,100).
	MaxPayload() int
	// LocalAddr is where the socket listens.
	LocalAddr() netip.AddrPort
}

const (
	packetQueue = 256 // packets that wait for memberlist; more are dropped, as a network would
	streamQueue = 16
	maxStreams  = 16 // push/pulls that others have open with us at one time
)

// carry is memberlist's transport over a Carrier: names become the addresses that the nodes signed.
type carry struct {
	ctx     context.Context //nolint:containedctx // memberlist's interface has none; this one ends with Close
	self    fleet.ID
	origin  net.IP
	carrier Carrier
	book    *book
	packets chan *memberlist.Packet
	streams chan net.Conn
	open    atomic.Int32
	heard   atomic.Int64 // when the last packet was taken, in Unix nanoseconds; 0: none was
}

var _ memberlist.NodeAwareTransport = (*carry)(nil)

func newCarry(ctx context.Context, self fleet.ID, carrier Carrier, b *book) *carry {
	return &carry{
		ctx: ctx, self: self, origin: net.ParseIP(everywhere).To4(), carrier: carrier, book: b,
		packets: make(chan *memberlist.Packet, packetQueue), streams: make(chan net.Conn, streamQueue),
	}
}

// FinalAdvertiseAddr gives every node the same address; see everywhere.
func (c *carry) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	return c.origin, everywherePort, nil
}

// WriteToAddress sends a packet. It never fails: memberlist would not suspect a node to whom sending failed.
func (c *carry) WriteToAddress(b []byte, to memberlist.Address) (time.Time, error) {
	msg, some := admit(b)
	if !some || c.ctx.Err() != nil {
		return time.Now(), nil
	}
	msg = shorten(msg)
	for _, w := range c.book.route(to.Name, c.self, time.Now()) {
		if c.send(to.Name, w, msg) == nil && !news(msg) {
			break // lost is lost
		}
	}
	return time.Now(), nil
}

// news reports whether a packet is more than a probe or its answer, of which there is always another. It goes by both relays
// of an outbound-only node, for one may have lost it, and who does not hear that it is suspected cannot say that it lives.
func news(msg []byte) bool { return msg[0] != shortPing && msg[0] != shortAck }

func (c *carry) send(name string, w way, msg []byte) error {
	if !w.relayed {
		_ = c.carrier.SendPacket(w.addr, msg)
		return nil
	}
	id, err := fleet.ParseID(name)
	if err != nil {
		return err
	}
	return c.carrier.SendVia(w.addr, id, msg)
}

func (c *carry) lastHeard() time.Time {
	at := c.heard.Load()
	if at == 0 {
		return time.Time{}
	}
	return time.Unix(0, at)
}

// DialAddressTimeout opens a stream for a push/pull, at the first of the node's addresses that answers.
func (c *carry) DialAddressTimeout(to memberlist.Address, timeout time.Duration) (net.Conn, error) {
	id, err := fleet.ParseID(to.Name)
	if err != nil {
		return nil, dialFault(err)
	}
	ctx, cancel := context.WithTimeout(c.ctx, timeout)
	defer cancel()
	routes := c.book.routes(to.Name, time.Now())
	err = fleet.Errorf(fleet.NotFound, "no address of node %s", id)
	for i, addr := range routes {
		var conn net.Conn
		if conn, err = c.openWithin(ctx, timeout/time.Duration(len(routes)-i), id, addr); err == nil {
			return c.watch(conn, false), nil
		}
	}
	return nil, dialFault(err)
}

func (c *carry) openWithin(ctx context.Context, d time.Duration, id fleet.ID, addr netip.AddrPort) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	return c.carrier.Open(ctx, id, addr)
}

// dialFault has the type that memberlist takes for the other end's failure.
func dialFault(err error) error { return &net.OpError{Op: "dial", Net: "udp", Err: err} }

// watch guards a stream and closes it when gossip ends.
func (c *carry) watch(conn net.Conn, incoming bool) net.Conn {
	stop := context.AfterFunc(c.ctx, func() { _ = conn.Close() })
	return guard(conn, incoming, func() {
		stop()
		if incoming {
			c.open.Add(-1)
		}
	})
}

// packet takes one packet in, or drops it.
func (c *carry) packet(from netip.AddrPort, payload []byte, at time.Time) {
	if c.ctx.Err() != nil {
		return
	}
	long, ok := lengthen(payload, c.self, c.origin)
	if !ok {
		return
	}
	msg, ok := admit(long)
	if !ok {
		return
	}
	from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
	c.book.heardFrom(from, at)
	c.heard.Store(at.UnixNano())
	// memberlist queues parts of the packet, so they must be ours.
	packet := &memberlist.Packet{Buf: append([]byte(nil), msg...), From: net.UDPAddrFromAddrPort(from), Timestamp: at}
	select {
	case c.packets <- packet:
	default:
	}
}

// stream takes one stream in, or closes it.
func (c *carry) stream(conn net.Conn) {
	if c.ctx.Err() != nil {
		_ = conn.Close()
		return
	}
	if c.open.Add(1) > maxStreams {
		c.open.Add(-1)
		_ = conn.Close()
		return
	}
	guarded := c.watch(conn, true)
	select {
	case c.streams <- guarded:
	default:
		_ = guarded.Close()
	}
}

// PacketCh gives memberlist its packets.
func (c *carry) PacketCh() <-chan *memberlist.Packet { return c.packets }

// StreamCh gives memberlist its streams.
func (c *carry) StreamCh() <-chan net.Conn { return c.streams }

// Shutdown has nothing to do: the context ends what is open.
func (c *carry) Shutdown() error { return nil }

// WriteTo is never used: names are required.
func (c *carry) WriteTo([]byte, string) (time.Time, error) { return time.Now(), nil }

// DialTimeout is never used: names are required.
func (c *carry) DialTimeout(string, time.Duration) (net.Conn, error) {
	return nil, dialFault(fleet.Errorf(fleet.Internal, "a stream to no name"))
}
