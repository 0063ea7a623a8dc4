package transport

import (
	"net/netip"

	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
)

// helloFormat changes when the hello or anything behind it can no longer be read by older nodes.
const helloFormat = 1

// hello is the first frame of a connection, from either side: u8 format, then this in msgpack.
type hello struct {
	Fleet    fleet.ID
	Instance [saltSize]byte // fresh per process: tells a restarted peer from itself
	Proof    []byte         // Gate.Prove
	Seen     string         // the address at which the sender sees the receiver
}

func (h hello) encode() []byte { return append([]byte{helloFormat}, wire.Marshal(h)...) }

func decodeHello(body []byte) (hello, error) {
	var h hello
	if len(body) == 0 {
		return h, fleet.Errorf(fleet.Invalid, "empty hello")
	}
	if body[0] != helloFormat {
		return h, fleet.Errorf(fleet.Invalid, "one side speaks transport format %d, the other %d: upgrade the older", body[0], helloFormat)
	}
	if err := wire.Unmarshal(body[1:], &h); err != nil {
		return h, err
	}
	if len(h.Proof) > MaxProof {
		return h, fleet.Errorf(fleet.Exhausted, "proof of %d bytes; at most %d", len(h.Proof), MaxProof)
	}
	return h, nil
}

// seenAt returns the address in the hello; false if it says none. It is only the peer's word.
func (h hello) seenAt() (netip.AddrPort, bool) {
	a, err := netip.ParseAddrPort(h.Seen)
	return unmapped(a), err == nil
}

func unmapped(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }
