package fabric

import (
	"net"
	"net/netip"
	"os"
	"sync"
	"time"
)

// Conn is one bound address. It is a net.PacketConn whose peers are *net.UDPAddr.
type Conn struct {
	fabric *Fabric
	addr   netip.AddrPort

	mu       sync.Mutex
	wake     *sync.Cond
	queue    []packet
	deadline time.Time
	alarm    *time.Timer
	closed   bool
}

var _ net.PacketConn = (*Conn)(nil)

func newConn(f *Fabric, addr netip.AddrPort) *Conn {
	c := &Conn{fabric: f, addr: addr}
	c.wake = sync.NewCond(&c.mu)
	return c
}

// ReadFrom waits for a packet. As with UDP, what does not fit into p is cut off.
func (c *Conn) ReadFrom(p []byte) (int, net.Addr, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		switch {
		case c.closed:
			return 0, nil, c.failed("read", net.ErrClosed)
		case len(c.queue) > 0:
			got := c.queue[0]
			c.queue[0] = packet{}
			c.queue = c.queue[1:]
			return copy(p, got.data), net.UDPAddrFromAddrPort(got.from), nil
		case !c.deadline.IsZero() && !time.Now().Before(c.deadline):
			return 0, nil, c.failed("read", os.ErrDeadlineExceeded)
		}
		c.wake.Wait()
	}
}

// WriteTo sends p and never blocks. It fails only when this Conn is closed or to is no UDP address.
func (c *Conn) WriteTo(p []byte, to net.Addr) (int, error) {
	c.mu.Lock()
	closed := c.closed
	c.mu.Unlock()
	if closed {
		return 0, c.failed("write", net.ErrClosed)
	}
	udp, ok := to.(*net.UDPAddr)
	if !ok {
		return 0, c.failed("write", &net.AddrError{Err: "not a UDP address", Addr: to.String()})
	}
	ap := udp.AddrPort()
	c.fabric.send(c.addr, netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port()), p)
	return len(p), nil
}

// Close frees the address and wakes the reader.
func (c *Conn) Close() error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return c.failed("close", net.ErrClosed)
	}
	c.closed, c.queue = true, nil
	if c.alarm != nil {
		c.alarm.Stop()
	}
	c.wake.Broadcast()
	c.mu.Unlock()
	c.fabric.free(c)
	return nil
}

// LocalAddr returns the bound address as a *net.UDPAddr.
func (c *Conn) LocalAddr() net.Addr { return net.UDPAddrFromAddrPort(c.addr) }

// SetDeadline sets the reader's deadline; writes never wait.
func (c *Conn) SetDeadline(t time.Time) error { return c.SetReadDeadline(t) }

// SetReadDeadline ends waiting reads at t; zero means never.
func (c *Conn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.alarm != nil {
		c.alarm.Stop()
		c.alarm = nil
	}
	c.deadline = t
	if wait := time.Until(t); !t.IsZero() && wait > 0 && !c.closed {
		c.alarm = time.AfterFunc(wait, c.alert)
	}
	c.wake.Broadcast()
	return nil
}

// SetWriteDeadline does nothing, for writes never wait.
func (c *Conn) SetWriteDeadline(time.Time) error { return nil }

// SetReadBuffer does nothing. quic-go asks for it and logs a warning where it is missing.
func (c *Conn) SetReadBuffer(int) error { return nil }

// SetWriteBuffer does nothing; see SetReadBuffer.
func (c *Conn) SetWriteBuffer(int) error { return nil }

func (c *Conn) alert() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wake.Broadcast()
}

// take queues p unless limit packets wait already or nobody will read any more.
func (c *Conn) take(p packet, limit int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || len(c.queue) >= limit {
		return false
	}
	c.queue = append(c.queue, p)
	c.wake.Signal()
	return true
}

func (c *Conn) failed(op string, err error) error {
	return &net.OpError{Op: op, Net: "udp", Source: c.LocalAddr(), Err: err}
}
