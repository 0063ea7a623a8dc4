package node

import (
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
)

// BellKind says what there is to do.
type BellKind uint8

// The kinds of bells.
const (
	BellCommand BellKind = 1 // a command was committed
	BellCancel  BellKind = 2 // a command was cancelled
	BellRecord  BellKind = 3 // the record grew
	BellTurn    BellKind = 4 // of a paced command: ask now for leave to start
	BellSeed    BellKind = 5 // a keyring's seed is to be had
)

// MaxBell bounds a bell with what rides along: one sealed packet's payload. Without a rider a bell has about 150 bytes.
const MaxBell = 1190

// maxHolders is how many nodes a bell names that have what it tells of.
const maxHolders = 2

// Bell says that there is something to do, never what must be done. Everything in it is a hint until the statement
// behind it is verified.
type Bell struct {
	Kind      BellKind
	Statement fleet.UUID      // the command's ID; of BellSeed the keyring's life; zero for BellRecord
	Act       uint64          // of BellSeed the epoch's number
	Holders   []fleet.ID      // up to two nodes that have it
	Rider     []auth.Envelope // none or one: the signed statement, when it fits; of BellRecord, the beacon that tells of it
}

// Encode returns the wire form, without the rider when it would not fit a packet.
func (b Bell) Encode() []byte {
	out := wire.Marshal(b)
	if len(out) > MaxBell {
		b.Rider = nil
		out = wire.Marshal(b)
	}
	return out
}

// DecodeBell reads what Encode wrote.
func DecodeBell(data []byte) (Bell, error) {
	var b Bell
	if len(data) > MaxBell {
		return Bell{}, fleet.Errorf(fleet.Invalid, "bell of %d bytes; at most %d", len(data), MaxBell)
	}
	if err := wire.Unmarshal(data, &b); err != nil {
		return Bell{}, err
	}
	if len(b.Holders) > maxHolders || len(b.Rider) > 1 || b.Kind < BellCommand || b.Kind > BellSeed ||
		b.Statement.IsZero() != (b.Kind == BellRecord) {
		return Bell{}, fleet.Errorf(fleet.Invalid, "malformed bell")
	}
	return b, nil
}
