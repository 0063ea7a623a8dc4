package transport

import (
	"testing"

	"github.com/muster-fleet/muster/testnet/golden"
)

// Hosts of other versions read what hosts of this one write.
func TestFormatsAreKept(t *testing.T) {
	formats := golden.Types(
		errorBody{}, hello{},
	)
	for name, kind := range map[string]byte{
		"KindError": KindError, "controlHello": controlHello, "controlPing": controlPing, "controlPong": controlPong, "controlLeave": controlLeave,
		"controlUplink": controlUplink, "relayAsk": relayAsk, "relayOffer": relayOffer, "relayAccept": relayAccept, "relayAskFor": relayAskFor,
	} {
		formats["kind/"+name] = []byte{kind}
	}
	for name, plane := range map[string]Plane{
		"Join": Join, "Gossip": Gossip, "Raft": Raft, "RaftBulk": RaftBulk, "Peer": Peer, "Bulk": Bulk, "Session": Session, "Relay": Relay,
	} {
		formats["plane/"+name] = []byte(plane)
	}
	golden.Check(t, formats)
}
