package gossip

import (
	"encoding/binary"

	"github.com/vmihailenco/msgpack/v5"

	"github.com/muster-fleet/muster/node/fleet"
)

// The message types of memberlist's wire protocol (net.go) that we know, and two of our own.
const (
	msgPing     = 0
	msgIndirect = 1
	msgAck      = 2
	msgSuspect  = 3
	msgAlive    = 4
	msgDead     = 5
	msgPushPull = 6
	msgCompound = 7
	msgNack     = 11
	msgCRC      = 12
	msgError    = 13

	shortPing = 0x20 // sequence[4], target ID[8], source ID[32]
	shortAck  = 0x21 // sequence[4], payload
)

const (
	targetPrefix = 8 // bytes of the target's ID in a short ping: enough to notice that an address has a new owner
	shortPingLen = 1 + 4 + targetPrefix + 32
	maxAckData   = 16
)

// admit returns what of a memberlist packet may travel, and whether anything is left. It serves both ways: what we do
// not take, we do not send. Refused are user messages (serf's intents, events, queries and relays, which anybody with
// the fleet key could forge for others or make us send), compression, encryption, and nesting. The checksum is taken
// off: packets are sealed.
func admit(packet []byte) ([]byte, bool) {
	if len(packet) > 5 && packet[0] == msgCRC {
		packet = packet[5:]
	}
	if len(packet) < 2 {
		return nil, false
	}
	if packet[0] != msgCompound {
		if !plainMessage(packet) {
			return nil, false
		}
		return packet, true
	}
	parts, ok := splitCompound(packet)
	if !ok {
		return nil, false
	}
	kept := parts[:0:0]
	for _, part := range parts {
		if plainMessage(part) {
			kept = append(kept, part)
		}
	}
	switch len(kept) {
	case 0:
		return nil, false
	case 1:
		return kept[0], true
	case len(parts):
		return packet, true
	}
	return joinCompound(kept), true
}

func plainMessage(msg []byte) bool {
	if len(msg) < 2 {
		return false
	}
	switch msg[0] {
	case msgPing, msgIndirect, msgAck, msgSuspect, msgAlive, msgDead, msgNack:
		return true
	}
	return false
}

// splitCompound takes {7, count, count × u16 length, parts} apart and refuses what does not add up.
func splitCompound(packet []byte) ([][]byte, bool) {
	count := int(packet[1])
	rest := packet[2:]
	if len(rest) < 2*count {
		return nil, false
	}
	lengths, rest := rest[:2*count], rest[2*count:]
	parts := make([][]byte, 0, count)
	for i := range count {
		n := int(binary.BigEndian.Uint16(lengths[2*i:]))
		if n > len(rest) {
			return nil, false
		}
		parts = append(parts, rest[:n])
		rest = rest[n:]
	}
	return parts, len(rest) == 0
}

func joinCompound(parts [][]byte) []byte {
	out := []byte{msgCompound, byte(len(parts))}
	for _, p := range parts {
		out = binary.BigEndian.AppendUint16(out, uint16(len(p)))
	}
	for _, p := range parts {
		out = append(out, p...)
	}
	return out
}

// listPing and listAck are memberlist's own forms.
type listPing struct {
	SeqNo      uint32
	Node       string
	SourceAddr []byte
	SourcePort uint16
	SourceNode string
}

type listAck struct {
	SeqNo   uint32
	Payload []byte
}

// shorten writes a ping or an ack, nearly all of what an idle fleet sends, in 45 and 13 bytes instead of 170 and 30.
// Other messages stay as they are.
func shorten(msg []byte) []byte {
	switch msg[0] {
	case msgPing:
		var p listPing
		if msgpack.Unmarshal(msg[1:], &p) != nil {
			return msg
		}
		target, err := fleet.ParseID(p.Node)
		source, err2 := fleet.ParseID(p.SourceNode)
		if err != nil || err2 != nil {
			return msg
		}
		out := binary.BigEndian.AppendUint32([]byte{shortPing}, p.SeqNo)
		out = append(out, target[:targetPrefix]...)
		return append(out, source[:]...)
	case msgAck:
		var a listAck
		if msgpack.Unmarshal(msg[1:], &a) != nil || len(a.Payload) > maxAckData {
			return msg
		}
		return append(binary.BigEndian.AppendUint32([]byte{shortAck}, a.SeqNo), a.Payload...)
	}
	return msg
}

// lengthen gives memberlist its own form back. A ping for another node is dropped: the address has a new owner.
func lengthen(msg []byte, self fleet.ID, origin []byte) ([]byte, bool) {
	if len(msg) < 5 {
		return msg, len(msg) > 0
	}
	seq := binary.BigEndian.Uint32(msg[1:])
	switch msg[0] {
	case shortPing:
		if len(msg) != shortPingLen || string(msg[5:5+targetPrefix]) != string(self[:targetPrefix]) {
			return nil, false
		}
		source := fleet.ID(msg[5+targetPrefix:])
		return encodeList(msgPing, listPing{seq, self.Text(), origin, everywherePort, source.Text()}), true
	case shortAck:
		if len(msg) > 5+maxAckData {
			return nil, false
		}
		return encodeList(msgAck, listAck{seq, msg[5:]}), true
	}
	return msg, true
}

func encodeList(kind byte, v any) []byte {
	raw, err := msgpack.Marshal(v)
	if err != nil {
		panic("gossip: cannot encode: " + err.Error()) // plain structs always encode
	}
	return append([]byte{kind}, raw...)
}
