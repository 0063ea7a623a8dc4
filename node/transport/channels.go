package transport

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"github.com/quic-go/quic-go"

	"github.com/muster-fleet/muster/node/fleet"
)

// taker takes what comes in on a channel, at once. The datagram is its own, and the head of it is free for another.
type taker interface{ take(d []byte) }

// channels are the datagrams of one Relay connection: what comes in goes to whom its channel belongs, what goes out takes
// turns.
type channels struct {
	out *outbox

	mu     sync.RWMutex
	takers map[uint32]taker // nil: the connection has ended

	halves halves      // of the goroutine that reads
	packed chan []byte // what comes on channel 0 of an uplink; set before wanted is
	wanted atomic.Bool // this node keeps the uplink
	sealed lane        // what goes out on channel 0
	serial uint16      // of the goroutine that writes
}

func newChannels(all *tally) *channels {
	return &channels{
		out: newOutbox(), takers: map[uint32]taker{}, sealed: lane{limit: maxPassed, tally: all},
	}
}

// channelOf returns the channel that a stream opens: its own number.
func channelOf(s *Stream) (uint32, error) {
	id := s.quic.StreamID()
	if id <= packetsLane || id > maxChannel {
		return 0, fleet.Errorf(fleet.Exhausted, "the connection to %s is used up", s.link.who())
	}
	return uint32(id), nil
}

// add gives a channel to whom its packets go; false when the connection has ended.
func (c *channels) add(channel uint32, t taker) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.takers == nil {
		return false
	}
	c.takers[channel] = t
	return true
}

func (c *channels) remove(channel uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.takers, channel)
}

func (c *channels) taker(channel uint32) taker {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.takers[channel]
}

func (c *channels) close() {
	c.mu.Lock()
	c.takers = nil
	c.mu.Unlock()
	c.out.close()
}

// arrived brings a datagram to whom it is for.
func (c *channels) arrived(d []byte) {
	s, channel, ok := parseDatagram(d)
	if !ok {
		return
	}
	if channel == packetsLane {
		if s == whole && c.wanted.Load() { // they always fit
			select {
			case c.packed <- d[datagramHead:]:
			default:
			}
		}
		return
	}
	t := c.taker(channel)
	if t == nil {
		return
	}
	if s != whole {
		if d = c.halves.join(d); d == nil {
			return
		}
	}
	t.take(d)
}

// read takes datagrams until the connection ends.
func (l *link) readDatagrams() {
	for {
		d, err := l.conn.ReceiveDatagram(l.conn.Context())
		if err != nil {
			return
		}
		l.heard()
		l.channels.arrived(d)
	}
}

// writeDatagrams sends what waits until the connection ends. Only this goroutine is held up by a peer that is slow.
func (l *link) writeDatagrams() {
	for {
		select {
		case <-l.channels.out.wake:
		case <-l.conn.Context().Done():
			return
		}
		for d := l.channels.out.pop(); d != nil; d = l.channels.out.pop() {
			if err := l.channels.send(l.conn, d); err != nil {
				return // the connection has ended
			}
		}
	}
}

// datagrams is what is needed of a connection to send them.
type datagrams interface{ SendDatagram(d []byte) error }

var _ datagrams = (*quic.Conn)(nil)

func (c *channels) send(conn datagrams, d []byte) error {
	err := conn.SendDatagram(d)
	big, ok := errors.AsType[*quic.DatagramTooLargeError](err)
	if !ok {
		return err
	}
	c.serial++
	for _, h := range split(d, int(big.MaxDatagramPayloadSize), c.serial) {
		if err := conn.SendDatagram(h); err != nil && !isA[*quic.DatagramTooLargeError](err) {
			return err
		}
	}
	return nil
}

// watchDatagrams ends a connection that sends one before the hello: a stranger could fill the queues of all.
func (e *Endpoint) watchDatagrams(ctx context.Context, conn *quic.Conn) (stop context.CancelFunc) {
	ctx, stop = context.WithCancel(ctx)
	e.tasks.Go(func() { // under the task that welcomes
		if _, err := conn.ReceiveDatagram(ctx); err == nil {
			_ = conn.CloseWithError(closeRefused+quic.ApplicationErrorCode(fleet.Invalid), "a datagram before the hello")
		}
	})
	return stop
}
