package quorum

import (
	"encoding/binary"
	"time"

	"github.com/muster-fleet/muster/node/fleet"
)

// A stream between replicas begins with 17 bytes from its opener: u8 format 1, u64 incarnation that is meant, u64
// incarnation of the opener. Raft's own messages do not say whom they are for: without this, a new copy would answer
// for the lost one and vote a second time.
const (
	helloFormat = 1
	helloSize   = 17
)

type hello struct{ to, from uint64 }

func (h hello) encode() []byte {
	out := []byte{helloFormat}
	out = binary.BigEndian.AppendUint64(out, h.to)
	return binary.BigEndian.AppendUint64(out, h.from)
}

func decodeHello(data []byte) (hello, error) {
	if len(data) != helloSize || data[0] != helloFormat {
		return hello{}, fleet.Errorf(fleet.Invalid, "a stream begins with no hello")
	}
	return hello{to: binary.BigEndian.Uint64(data[1:]), from: binary.BigEndian.Uint64(data[9:])}, nil
}

// listens decides whether a replica takes streams from a peer: always from servers of its newest configuration; from
// other eligible nodes while it has no configuration, and after strangerAfter without a leader, because every server
// it knows may have been replaced while it was away.
func listens(configured, member, eligible bool, silent time.Duration) bool {
	if member {
		return true
	}
	return eligible && (!configured || silent >= strangerAfter)
}
