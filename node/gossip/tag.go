package gossip

import (
	"crypto/ed25519"
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
)

// purpose binds the signature to this use and version.
const purpose = "muster/gossip-tag/1"

// Limits of a tag: with 8 IPv6 addresses it takes 250 bytes, half of what memberlist carries.
const (
	maxAddrs = 8
	maxVia   = 2
	maxTag   = 320
)

// tag is what a node says of itself in gossip.
type tag struct {
	seq     uint64 // grows with every change
	leaving bool   // it is about to go on purpose
	addrs   []netip.AddrPort
	// via are the members through which an outbound-only node is reached, in place of addresses; the node itself has a tag
	// with neither while no uplink of it stands, which it shows to nobody.
	via []fleet.ID
}

// tagBody and tagWire are the form on the wire: {body, signature}, the body {sequence, leaving, addresses}, an address
// being 4 or 16 bytes and the port, big-endian.
type tagBody struct {
	Seq     uint64
	Leaving bool
	Addrs   [][]byte
}

// viaBody is the body of an outbound-only node's tag. It is a form of its own, so that tags with addresses stay as they
// were: members of different versions understand each other's.
type viaBody struct {
	Seq     uint64
	Leaving bool
	Addrs   [][]byte // none
	Via     [][]byte // IDs
}

type tagWire struct {
	Body      []byte
	Signature []byte
}

func (t tag) sign(fleetID fleet.ID, key ed25519.PrivateKey) []byte {
	raw := t.body()
	return wire.Marshal(tagWire{raw, ed25519.Sign(key, signedBytes(fleetID, raw))})
}

func (t tag) body() []byte {
	if len(t.addrs) == 0 {
		body := viaBody{Seq: t.seq, Leaving: t.leaving, Addrs: [][]byte{}, Via: make([][]byte, len(t.via))}
		for i, id := range t.via {
			body.Via[i] = id[:]
		}
		return wire.Marshal(body)
	}
	body := tagBody{Seq: t.seq, Leaving: t.leaving, Addrs: make([][]byte, len(t.addrs))}
	for i, a := range t.addrs {
		body.Addrs[i] = binary.BigEndian.AppendUint16(a.Addr().AsSlice(), a.Port())
	}
	return wire.Marshal(body)
}

func signedBytes(fleetID fleet.ID, body []byte) []byte {
	out := append([]byte(purpose), 0)
	out = append(out, fleetID[:]...)
	return append(out, body...)
}

// openTag verifies, then decodes.
func openTag(fleetID fleet.ID, key ed25519.PublicKey, raw []byte) (tag, error) {
	if len(raw) > maxTag {
		return tag{}, fleet.Errorf(fleet.Exhausted, "gossip tag of %d bytes", len(raw))
	}
	var w tagWire
	if err := wire.Unmarshal(raw, &w); err != nil {
		return tag{}, err
	}
	if len(key) != ed25519.PublicKeySize || !ed25519.Verify(key, signedBytes(fleetID, w.Body), w.Signature) {
		return tag{}, fleet.Errorf(fleet.Denied, "gossip tag: the signature does not hold")
	}
	return decodeTag(w.Body)
}

// fourFields begins the body of four fields, as msgpack has it.
const fourFields = 0x94

func decodeTag(body []byte) (tag, error) {
	if len(body) > 0 && body[0] == fourFields {
		return decodeViaTag(body)
	}
	var b tagBody
	if err := wire.Unmarshal(body, &b); err != nil {
		return tag{}, err
	}
	t := tag{seq: b.Seq, leaving: b.Leaving}
	for _, raw := range b.Addrs {
		if len(raw) < 2 {
			return tag{}, errAddr
		}
		ip, ok := netip.AddrFromSlice(raw[:len(raw)-2])
		if !ok {
			return tag{}, errAddr
		}
		t.addrs = append(t.addrs, netip.AddrPortFrom(ip, binary.BigEndian.Uint16(raw[len(raw)-2:])))
	}
	return t, checkAddrs(t.addrs)
}

func decodeViaTag(body []byte) (tag, error) {
	var b viaBody
	if err := wire.Unmarshal(body, &b); err != nil {
		return tag{}, err
	}
	if len(b.Addrs) > 0 {
		return tag{}, fleet.Errorf(fleet.Invalid, "gossip tag: both addresses and relays")
	}
	t := tag{seq: b.Seq, leaving: b.Leaving}
	for _, raw := range b.Via {
		if len(raw) != len(fleet.ID{}) {
			return tag{}, fleet.Errorf(fleet.Invalid, "gossip tag: malformed relay")
		}
		t.via = append(t.via, fleet.ID(raw))
	}
	if len(t.via) == 0 {
		return tag{}, fleet.Errorf(fleet.Invalid, "gossip tag: neither addresses nor relays")
	}
	return t, checkVia(t.via)
}

// checkVia reports why via cannot be an outbound-only node's relays, or nil.
func checkVia(via []fleet.ID) error {
	if len(via) > maxVia {
		return fleet.Errorf(fleet.Invalid, "%d relays; an outbound-only node has at most %d", len(via), maxVia)
	}
	for i, id := range via {
		if id.IsZero() || slices.Contains(via[:i], id) {
			return fleet.Errorf(fleet.Invalid, "gossip tag: no relay, or the same twice")
		}
	}
	return nil
}

var errAddr = fleet.Errorf(fleet.Invalid, "gossip tag: malformed address")

// checkAddrs reports why addrs cannot be a node's addresses, or nil.
func checkAddrs(addrs []netip.AddrPort) error {
	if len(addrs) == 0 || len(addrs) > maxAddrs {
		return fleet.Errorf(fleet.Invalid, "%d addresses; a node has 1 to %d", len(addrs), maxAddrs)
	}
	for _, a := range addrs {
		ip := a.Addr()
		if !ip.IsValid() || ip.Is4In6() || ip.Zone() != "" || ip.IsUnspecified() || ip.IsMulticast() || a.Port() == 0 {
			return fleet.Errorf(fleet.Invalid, "%s is no address that others can send to", a)
		}
	}
	return nil
}

// cleanAddrs brings addresses of this host into the form that travels.
func cleanAddrs(addrs []netip.AddrPort) []netip.AddrPort {
	out := make([]netip.AddrPort, 0, len(addrs))
	seen := make(map[netip.AddrPort]bool)
	for _, a := range addrs {
		a = netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port())
		if !seen[a] {
			seen[a] = true
			out = append(out, a)
		}
	}
	return out[:min(len(out), maxAddrs)]
}

// verdict is what to do with a tag that verified.
type verdict uint8

const (
	stale verdict = iota // older than what we hold, or another of the same sequence: refuse
	same                 // the one we hold
	newer                // take it
)

// judge compares sequences. Two tags of one sequence cannot both be right; the first one stands.
func judge(heldSeq uint64, heldRaw string, seq uint64, raw string) verdict {
	switch {
	case raw == heldRaw:
		return same
	case seq > heldSeq:
		return newer
	default:
		return stale
	}
}
