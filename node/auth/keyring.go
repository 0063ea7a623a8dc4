package auth

import (
	"github.com/muster-fleet/muster/node/fleet"
)

// KeyringChange makes, changes or deletes a keyring: the nodes of a target, and a key that they alone share. Purpose
// ForKeyring.
type KeyringChange struct {
	Header Header
	Name   string
	Target string     // canonical, over roster tags and names alone; empty: the keyring is deleted
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
	MaxKeyrings = 256
	MaxEscrow   = 8
	// EpochPatience is how long a new epoch may wait for members to hold it before another may take its place, in
	// milliseconds: its maker may have died with the only copy.
	EpochPatience = 30_000
)
