package auth

import (
	"slices"
	"strings"

	"github.com/muster-fleet/muster/node/fleet"
)

// KeyringChange makes, changes or deletes a keyring: the nodes of a target, and a key that they alone share. Purpose
// ForKeyring.
type KeyringChange struct {
	Header Header
	Name   string
	Target string     // canonical, over roster tags and whole IDs alone; empty: the keyring is deleted
	First  []EpochKey // of a new keyring: exactly one; else none
	Rotate bool       // its members shall make a new epoch
}

// EpochKey is the public side of one epoch of a keyring's key.
type EpochKey struct {
	Key    []byte   // HPKE public key, ML-KEM-768 with X25519
	Escrow []Escrow // the epoch's seed, sealed for operators and for recovery
}

// Escrow is an epoch's seed, sealed for an operator, or for recovery (Operator is empty).
type Escrow struct {
	Operator string
	Key      fleet.ID // SHA-256 of the public key that it is sealed to
	Box      []byte   // HPKE ciphertext
}

// KeyringEpoch is the next epoch of a keyring, made and signed by one of its members. Purpose ForKeyringEpoch.
type KeyringEpoch struct {
	Header  Header
	Keyring string
	Life    fleet.UUID // Header.ID of the change that made the keyring
	Number  uint32
	Epoch   EpochKey
	Need    uint8 // members that must hold it before it is used, its maker included: 1 to 3
}

// KeyringHolding says that a member holds an epoch's seed, on its disk. Purpose ForKeyringHolding.
type KeyringHolding struct {
	Header  Header
	Keyring string
	Life    fleet.UUID
	Number  uint32
}

// Bounds of keyrings.
const (
	MaxKeyrings = 256 // standing; as many deleted ones are remembered by name
	MaxEscrow   = 8   // readers of an epoch's seed beside its members: recovery and operators
	// MaxEscrowBox bounds an Escrow's Box in bytes: a seed of 32 takes 1,168.
	MaxEscrowBox = 1_280
	// MaxNeed is how many members at most must hold an epoch before it is used.
	MaxNeed = 3
	// EpochPatience is how long a new epoch may wait for members to hold it before another may take its place, in
	// milliseconds: its maker may have died with the only copy.
	EpochPatience = 30_000
	// maxDoublings bounds how often the patience doubles, once for each epoch in a row that nobody came to hold: a member
	// that makes one after the other must not fill the record. It ends at 17 hours; what an operator does begins anew.
	maxDoublings = 11
)

// KeySize is the size of an HPKE public key of ML-KEM-768 with X25519, in bytes.
const KeySize = 1_216

// Check reports what is wrong with a change on the face of it, or nil.
func (c KeyringChange) Check() error {
	if err := fleet.CheckName(c.Name); err != nil {
		return err
	}
	switch {
	case len(c.First) > 1:
		return fleet.Errorf(fleet.Invalid, "a keyring begins with one epoch, not with %d", len(c.First))
	case len(c.First) == 1 && (c.Target == "" || c.Rotate):
		return fleet.Errorf(fleet.Invalid, "a change of keyring %s that makes it and deletes or rotates it", c.Name)
	case c.Target == "" && c.Rotate:
		return fleet.Errorf(fleet.Invalid, "a change of keyring %s that deletes and rotates it", c.Name)
	case c.Header.ID == fleet.UUID{}:
		return fleet.Errorf(fleet.Invalid, "a change of keyring %s without an ID", c.Name)
	case c.Target == "":
		return nil
	}
	if _, err := CheckKeyringTarget(c.Target); err != nil {
		return err
	}
	for _, first := range c.First {
		return first.check()
	}
	return nil
}

// CheckKeyringTarget returns the target that a keyring may follow, or says why it cannot: it must be in canonical form, and
// use what operators signed or nodes prove alone: tags, and whole IDs. So everybody knows the same members, and nobody becomes
// one by taking a name.
func CheckKeyringTarget(text string) (fleet.Target, error) {
	target, err := fleet.ParseTarget(text)
	switch {
	case err != nil:
		return target, err
	case target.String() != text:
		return target, fleet.Errorf(fleet.Invalid, "the target of a keyring is not in canonical form: %s", target)
	case len(target.Groups()) > 0:
		return target, fleet.Errorf(fleet.Invalid, "the target of a keyring uses group @%s; it must be written out", target.Groups()[0]).
			Hinted("write out what muster group show %s says", target.Groups()[0])
	}
	for _, key := range target.Keys() {
		switch {
		case strings.HasPrefix(key, "tag."), key == "id":
		case key == "name":
			return target, fleet.Errorf(fleet.Invalid, "a keyring follows tags and whole IDs, which are signed or proved; a name is what a host calls itself when it joins").
				Hinted("tag the nodes: muster node tag NODE KEY=VALUE; or id=ID")
		case key == "role":
			return target, fleet.Errorf(fleet.Invalid, "a keyring cannot follow the roles of servers, which change by themselves").
				Hinted("tag the nodes: muster node tag NODE KEY=VALUE")
		default:
			return target, fleet.Errorf(fleet.Invalid, "a keyring follows what operators signed, not what nodes say of themselves (%s)", key).
				Hinted("tag the nodes: muster node tag NODE KEY=VALUE")
		}
	}
	return target, nil
}

func (k EpochKey) check() error {
	if len(k.Key) != KeySize {
		return fleet.Errorf(fleet.Invalid, "the key of an epoch has %d bytes; it needs %d", len(k.Key), KeySize)
	}
	if len(k.Escrow) > MaxEscrow {
		return fleet.Errorf(fleet.Exhausted, "an epoch's seed for %d readers; at most %d", len(k.Escrow), MaxEscrow)
	}
	for i, e := range k.Escrow {
		if len(e.Box) == 0 || len(e.Box) > MaxEscrowBox {
			return fleet.Errorf(fleet.Invalid, "a sealed seed of %d bytes; 1 to %d", len(e.Box), MaxEscrowBox)
		}
		if slices.ContainsFunc(k.Escrow[:i], func(o Escrow) bool { return o.Operator == e.Operator }) {
			return fleet.Errorf(fleet.Invalid, "an epoch's seed is sealed twice for %s", e.reader())
		}
	}
	return nil
}

// reader names who an Escrow is for.
func (e Escrow) reader() string {
	if e.Operator == "" {
		return "recovery"
	}
	return "operator " + shorten(e.Operator)
}
