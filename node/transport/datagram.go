package transport

import (
	"encoding/binary"
	"net/netip"

	"github.com/muster-fleet/muster/node/fleet"
)

// A datagram of a Relay connection is
//
//	shape u2 | channel u30 | body                    a packet
//	shape u2 | channel u30 | serial u16 | half       half of one that does not fit
//
// all big endian. A channel's number is the QUIC ID of the stream that opened it; channel 0, the control stream's, carries
// sealed packets that were opened by the relay. QUIC packets may not be below 1,200 bytes while a connection begins, and
// 1,195 fit into a datagram until quic-go has found out that the path takes more than MaxPacket: hence the halves.
const (
	datagramHead = 4
	halfHead     = datagramHead + 2
	maxChannel   = 1<<30 - 1
	packetsLane  = 0 // the channel of sealed packets
)

type shape byte

const (
	whole shape = iota
	firstHalf
	secondHalf
	maxShape = secondHalf
)

func putHead(d []byte, s shape, channel uint32) {
	binary.BigEndian.PutUint32(d, uint32(s)<<30|channel)
}

// parseDatagram reads the head; false when there is none, or an unknown shape.
func parseDatagram(d []byte) (s shape, channel uint32, ok bool) {
	if len(d) < datagramHead {
		return 0, 0, false
	}
	head := binary.BigEndian.Uint32(d)
	s, channel = shape(head>>30), head&maxChannel
	return s, channel, s <= maxShape && (s == whole || len(d) >= halfHead)
}

// split makes two datagrams of one that does not fit into size bytes; nil when two are not enough.
func split(d []byte, size int, serial uint16) [][]byte {
	_, channel, _ := parseDatagram(d)
	body, room := d[datagramHead:], size-halfHead
	if room <= 0 || len(body) > 2*room {
		return nil
	}
	at := min(room, len(body))
	return [][]byte{half(firstHalf, channel, serial, body[:at]), half(secondHalf, channel, serial, body[at:])}
}

func half(s shape, channel uint32, serial uint16, body []byte) []byte {
	d := make([]byte, halfHead, halfHead+len(body))
	putHead(d, s, channel)
	binary.BigEndian.PutUint16(d[datagramHead:], serial)
	return append(d, body...)
}

// halves are the last few that wait for their other half. The other half of many never comes: the oldest makes room.
type halves struct {
	waiting [maxHalves][]byte
	next    int
}

// join returns the whole datagram once both halves are there, else nil.
func (h *halves) join(d []byte) []byte {
	for i, other := range h.waiting {
		if other == nil || !belong(other, d) {
			continue
		}
		h.waiting[i] = nil
		first, second := other, d
		if s, _, _ := parseDatagram(d); s == firstHalf {
			first, second = d, other
		}
		_, channel, _ := parseDatagram(d)
		joined := make([]byte, datagramHead, datagramHead+len(first)+len(second)-2*halfHead)
		putHead(joined, whole, channel)
		joined = append(append(joined, first[halfHead:]...), second[halfHead:]...)
		if len(joined) > maxDatagram {
			return nil
		}
		return joined
	}
	h.waiting[h.next] = d
	h.next = (h.next + 1) % len(h.waiting)
	return nil
}

// belong reports whether two halves make one: the same channel and serial, and one of each shape.
func belong(a, b []byte) bool {
	sa, ca, _ := parseDatagram(a)
	sb, cb, _ := parseDatagram(b)
	return ca == cb && sa != sb && [2]byte(a[datagramHead:]) == [2]byte(b[datagramHead:])
}

// passed is the body of a datagram of channel 0: a sealed packet that a relay has opened for the one it is for. The sender
// is named as the relay saw it, or not at all if the relay itself is the sender.
type passed struct {
	from    netip.AddrPort
	kind    Kind
	payload []byte
}

const passedHead = 16 + 2 + 1

// datagram is the whole datagram.
func (p passed) datagram() []byte {
	d := make([]byte, datagramHead, datagramHead+passedHead+len(p.payload))
	putHead(d, whole, packetsLane)
	var ip [16]byte
	if p.from.IsValid() {
		ip = p.from.Addr().As16()
	}
	d = append(d, ip[:]...)
	d = binary.BigEndian.AppendUint16(d, p.from.Port())
	d = append(d, byte(p.kind))
	return append(d, p.payload...)
}

// parsePassed reads the body of such a datagram; its payload is a part of body.
func parsePassed(body []byte) (passed, bool) {
	if len(body) < passedHead || len(body) > passedHead+MaxRelayed {
		return passed{}, false
	}
	p := passed{kind: Kind(body[18]), payload: body[passedHead:]}
	if ip := netip.AddrFrom16([16]byte(body)); !ip.IsUnspecified() {
		p.from = unmapped(netip.AddrPortFrom(ip, binary.BigEndian.Uint16(body[16:])))
	}
	return p, p.kind.travels()
}

// travels reports whether packets of a kind go through a relay: all but those that ask for it, so that none goes twice.
func (k Kind) travels() bool { return k != 0 && k <= maxKind && k != KindRelay }

// The payload of a KindRelay packet is the ID of whom it is for, the kind, and the payload.
const relayHead = len(fleet.ID{}) + 1

func relayPayload(to fleet.ID, kind Kind, payload []byte) []byte {
	b := make([]byte, 0, relayHead+len(payload))
	b = append(b, to[:]...)
	b = append(b, byte(kind))
	return append(b, payload...)
}

func parseRelayPayload(b []byte) (to fleet.ID, kind Kind, payload []byte, ok bool) {
	if len(b) < relayHead || len(b) > relayHead+MaxRelayed {
		return to, 0, nil, false
	}
	kind = Kind(b[len(to)])
	return fleet.ID(b[:len(to)]), kind, b[relayHead:], kind.travels()
}
