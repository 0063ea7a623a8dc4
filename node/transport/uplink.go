package transport

import (
	"context"
	"net/netip"
	"time"

	"github.com/muster-fleet/muster/node/fleet"
)

// Uplink holds a connection to a member through which this node is reached by those who cannot dial it: pipes come in over
// it, and packets of SendPacketVia. It says something when nothing was heard for 15 s, so that whatever stands between
// remembers the way. It calls up once, when the member knows of it, and returns why it ended. When ctx ends, the member
// begins nothing new over it, and what it carries ends by itself.
func (e *Endpoint) Uplink(ctx context.Context, id fleet.ID, up func()) error {
	if e.dialOnly || id == e.id {
		return fleet.Errorf(fleet.Internal, "no uplink can lead to %s from here", id)
	}
	if err := e.gate.Allow(id, Relay); err != nil {
		return err
	}
	l := e.pool.dialled(id, Relay)
	if l == nil || !l.alive(ctx) {
		var err error
		if l, err = e.fly(ctx, destination{id: id, plane: Relay}, nil); err != nil {
			return err
		}
	}
	defer l.release()
	if err := l.hold(); err != nil {
		return err
	}
	up()
	ended := l.conn.Context()
	for {
		timer := time.NewTimer(max(uplinkKeepAlive-l.silent(), time.Second))
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-ended.Done():
			return broken(context.Cause(ended), l.who())
		case <-timer.C:
			if l.silent() >= uplinkKeepAlive {
				_ = l.say(controlPing) // a failure ends the connection
			}
		}
		timer.Stop()
	}
}

// CheckUplink asks now whether an uplink's other end is there: to be called on a suspicion. Without an answer within a second
// the connection is ended, and with it Uplink.
func (e *Endpoint) CheckUplink(ctx context.Context, id fleet.ID) error {
	l := e.pool.uplink(id, true)
	if l == nil {
		return fleet.Errorf(fleet.NotFound, "no uplink to node %s", id)
	}
	if l.answers(ctx) {
		return context.Cause(ctx)
	}
	l.close(closePipeBroke, "")
	return fleet.Errorf(fleet.Unavailable, "%s does not answer", l.who())
}

// SendPacketVia sends a packet to a node by way of a member to which it keeps an uplink; an invalid address stands for this
// node itself, and then it is NotFound when the other keeps none here. Else it fails as SendPacket does. Whoever gets the
// packet sees the sender's address as the relay sees it.
func (e *Endpoint) SendPacketVia(relay netip.AddrPort, to fleet.ID, kind Kind, payload []byte) error {
	if !kind.travels() {
		return fleet.Errorf(fleet.Internal, "packets of kind 0x%02x are not relayed", byte(kind))
	}
	if len(payload) > MaxRelayed {
		return fleet.Errorf(fleet.Exhausted, "packet of %d bytes; at most %d fit through a relay", len(payload), MaxRelayed)
	}
	if !relay.IsValid() {
		return e.pass(to, passed{kind: kind, payload: payload})
	}
	return e.SendPacket(relay, KindRelay, relayPayload(to, kind, payload))
}

// hold makes the connection an uplink of this node, and tells the other end; release gives it back, as often.
func (l *link) hold() error {
	l.mu.Lock()
	l.holders++
	if l.channels.packed == nil {
		l.channels.packed = make(chan []byte, maxPassed)
		go l.deliver() // no task: Close does not wait for handlers
	}
	l.uplink.Store(true)
	l.channels.wanted.Store(true)
	l.mu.Unlock()
	return l.sayUplink()
}

func (l *link) release() {
	l.mu.Lock()
	l.holders--
	l.uplink.Store(l.holders > 0)
	l.channels.wanted.Store(l.holders > 0)
	l.mu.Unlock()
	_ = l.sayUplink() // a failure ends the connection
}

// deliver takes the sealed packets that come over an uplink, until it ends.
func (l *link) deliver() {
	for {
		select {
		case body := <-l.channels.packed:
			p, ok := parsePassed(body)
			if !ok {
				continue
			}
			if !p.from.IsValid() { // the relay itself
				p.from = addrPort(l.conn.RemoteAddr())
			}
			l.e.deliver(p.kind, p.from, p.payload, time.Now())
		case <-l.conn.Context().Done():
			return
		}
	}
}
