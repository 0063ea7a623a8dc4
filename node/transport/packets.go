package transport

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"runtime/debug"
	"time"
)

// SendPacket seals payload and sends it to an address. Too long a payload, a kind outside 0x01 to 0x3f, and a missing
// key are *fleet.Error. After Close it is a *net.OpError. Anything else that stops a packet is as silent as the network:
// failure detection counts answers, and an error would tell it that this node is at fault.
func (e *Endpoint) SendPacket(to netip.AddrPort, kind Kind, payload []byte) error {
	packet, err := e.sealer.seal(kind, payload)
	if err != nil {
		return err
	}
	if !e.running() {
		return &net.OpError{Op: "write", Net: "udp", Addr: net.UDPAddrFromAddrPort(to), Err: net.ErrClosed}
	}
	_, err = e.transport.WriteTo(packet, net.UDPAddrFromAddrPort(to))
	if errors.Is(err, net.ErrClosed) {
		return &net.OpError{Op: "write", Net: "udp", Addr: net.UDPAddrFromAddrPort(to), Err: net.ErrClosed}
	}
	if err != nil {
		e.log.Debug("packet not sent", "to", to, "err", err)
	}
	return nil
}

func (e *Endpoint) running() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.started && !e.closing
}

// openQueue has quic-go make its queue of packets. It does so in the first read, without a lock: that read must be over
// before others begin, and before the first packet comes.
func (e *Endpoint) openQueue() {
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	_, _, _ = e.transport.ReadNonQUICPacket(ended, nil)
}

// readPackets starts the goroutines that wait for packets.
func (e *Endpoint) readPackets() {
	for range packetReaders {
		e.tasks.Go(func() {
			buf := make([]byte, MaxPacket+1) // one more, so that longer packets are seen to be
			for e.readPacket(e.ctx, buf) {
			}
		})
	}
}

// readPacket takes one packet; false when there will be no more.
func (e *Endpoint) readPacket(ctx context.Context, buf []byte) bool {
	n, from, err := e.transport.ReadNonQUICPacket(ctx, buf)
	if err != nil {
		return false
	}
	at := time.Now()
	kind, payload, ok := e.opener.open(buf[:n])
	if !ok {
		e.counted.strange.Add(1)
		return true
	}
	e.counted.genuine.Add(1)
	if kind == KindRelay {
		e.passOn(addrPort(from), payload, at)
		return true
	}
	e.deliver(kind, addrPort(from), payload, at)
	return true
}

// deliver gives a packet to who takes its kind.
func (e *Endpoint) deliver(kind Kind, from netip.AddrPort, payload []byte, at time.Time) {
	if take := e.packetHandler(kind); take != nil {
		e.guard(kind, func() { take(from, payload, at) })
	}
}

func (e *Endpoint) packetHandler(kind Kind) PacketFunc {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.packets[kind]
}

func (e *Endpoint) guard(kind Kind, f func()) {
	defer func() {
		if cause := recover(); cause != nil {
			e.log.Error("a packet handler failed", "kind", int(kind), slog.Any("err", cause), "stack", string(debug.Stack()))
		}
	}()
	f()
}
