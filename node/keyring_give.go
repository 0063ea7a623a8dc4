package node

import (
	"time"

	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

// HandOver is a seed that an operator gives to a node: what members do among themselves while one of them lives. Purpose
// auth.ForHandOver.
type HandOver struct {
	Header  auth.Header
	To      fleet.ID // the node
	Keyring string
	Life    fleet.UUID
	Number  uint32
	Box     []byte // the seed, sealed to the node's HPKE key
}

// HandOverLife is how long after its issue a hand-over may be taken, at most.
const HandOverLife = 15 * time.Minute

// maxHandOver bounds a hand-over's body in bytes: the box has about 1,200.
const maxHandOver = 4 << 10

// OpenHandOver verifies a hand-over to self, and returns it with the keyring of which the seed is said to be.
func OpenHandOver(record auth.Record, e auth.Envelope, self fleet.ID, now time.Time) (HandOver, *auth.Keyring, error) {
	if record.Charter == nil {
		return HandOver{}, nil, fleet.Errorf(fleet.Unavailable, "this node has no charter yet")
	}
	if len(e.Body) > maxHandOver {
		return HandOver{}, nil, fleet.Errorf(fleet.Exhausted, "a hand-over of %d bytes; at most %d", len(e.Body), maxHandOver)
	}
	h, op, err := auth.OpenOrder(record.Charter, e, auth.ForHandOver, now, func(h HandOver) auth.Header { return h.Header })
	if err != nil {
		return h, nil, err
	}
	if life := h.Header.Expires - h.Header.Issued; h.Header.Expires == 0 || life > HandOverLife.Milliseconds() {
		return h, nil, fleet.Errorf(fleet.Invalid, "a hand-over is good for %s at most", HandOverLife)
	}
	if h.To != self {
		return h, nil, fleet.Errorf(fleet.Denied, "the hand-over was signed for another node")
	}
	_, err = record.Charter.Policy().Decide(auth.Ask{
		Principal: op.AsPrincipal(), Action: auth.ActPutKeyring, Resource: auth.KeyringResource(h.Keyring),
	})
	if err != nil {
		return h, nil, err
	}
	k, err := keyringOf(record, h.Keyring, h.Life)
	if err != nil {
		return h, nil, err
	}
	if !record.InKeyring(k.Name, self) {
		return h, nil, fleet.Errorf(fleet.Denied, "the node is not in keyring %s", k.Name).Hinted("muster keyring show %s", k.Name)
	}
	if _, ok := k.Epoch(h.Number); !ok {
		return h, nil, fleet.Errorf(fleet.Unavailable, "the node does not know epoch %d of keyring %s", h.Number, k.Name).
			Hinted("repeat it when the node has caught up with the fleet's record")
	}
	return h, k, nil
}

// MayCatchUp reports whether a hand-over that was refused may be taken by a newer record: its signer had seen more, or what
// it is about is not known here. What h says is verified, or nothing.
func MayCatchUp(record auth.Record, h HandOver, err error) bool {
	kind := fleet.KindOf(err)
	return kind == fleet.Unavailable || kind == fleet.NotFound || h.Header.Act > record.Act
}

// MayHaveSeeds reports why a peer gets no seeds of a keyring from this host, or nil. Whoever asks must be a member by the
// newest record here. A record that is behind gives nothing away that it must not: the epochs that it names were made while
// the peer was a member, and of later ones it knows nothing.
func MayHaveSeeds(record auth.Record, b auth.Beacon, peer fleet.ID, keyring string, life fleet.UUID) (*auth.Keyring, error) {
	entry, err := record.Roster.Enrolled(peer)
	if err != nil {
		return nil, err
	}
	if b.RecordLen > record.Length {
		return nil, fleet.Errorf(fleet.Unavailable, "this node knows that its record is behind, and gives no keys until it has caught up")
	}
	k, err := keyringOf(record, keyring, life)
	if err != nil {
		return nil, err
	}
	if !record.InKeyring(k.Name, peer) {
		return nil, fleet.Errorf(fleet.Denied, "%s is not in keyring %s", entry.Name, k.Name)
	}
	return k, nil
}

// keyringOf returns a keyring in that life.
func keyringOf(record auth.Record, name string, life fleet.UUID) (*auth.Keyring, error) {
	k, ok := record.Keyrings.Get(name)
	if !ok || k.Life != life {
		return nil, fleet.Errorf(fleet.NotFound, "no keyring %s is known here that is the one meant", name).Hinted("muster keyring list")
	}
	return k, nil
}
