package params

import (
	"bytes"
	"crypto/hkdf"
	"crypto/hpke"
	"crypto/sha256"

	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
)

// SeedBinding is the epoch whose seed is sealed. A seed is the epoch's private key: 32 random bytes.
type SeedBinding struct {
	Fleet   fleet.ID
	Keyring string
	Life    fleet.UUID
	Number  uint32
}

func (b SeedBinding) info(public []byte) []byte {
	return append([]byte("muster/keyring-seed/1\x00"), wire.Marshal(struct {
		Epoch SeedBinding
		To    fleet.ID
	}{b, fleet.Sum(public)})...)
}

// SealedSeedSize is the size of a sealed seed in bytes.
const SealedSeedSize = kemSize + PrivateSize + tagSize

// SealSeed encrypts an epoch's seed to a public key: for escrow, and to hand it over to a node. Errors are Invalid.
func SealSeed(b SeedBinding, seed, public []byte) ([]byte, error) {
	if len(seed) != PrivateSize {
		return nil, fleet.Errorf(fleet.Invalid, "keyring %s: a seed of %d bytes; it has %d", b.Keyring, len(seed), PrivateSize)
	}
	box, err := sealTo(public, b.info(public), seed)
	if err != nil {
		return nil, fleet.Errorf(fleet.Invalid, "keyring %s: a public key that is none: %w (InvalidKeyId)", b.Keyring, err)
	}
	return box, nil
}

// OpenSeed decrypts an epoch's seed. Whether it is the seed of the epoch's key is for CheckSeed. Errors are Denied.
func OpenSeed(b SeedBinding, box, private []byte) ([]byte, error) {
	kem, kdf, aead := suite()
	key, err := kem.NewPrivateKey(private)
	if err != nil {
		return nil, fleet.Errorf(fleet.Invalid, "a private key of %d bytes; it has %d", len(private), PrivateSize)
	}
	if len(box) != SealedSeedSize {
		return nil, fleet.Errorf(fleet.Invalid, "keyring %s: a sealed seed of %d bytes; it has %d", b.Keyring, len(box), SealedSeedSize)
	}
	seed, err := hpke.Open(key, kdf, aead, b.info(key.PublicKey().Bytes()), box)
	if err != nil || len(seed) != PrivateSize {
		return nil, fleet.Errorf(fleet.Denied, "the seed of keyring %s epoch %d does not open: it is sealed to another key, or for another epoch, or damaged", b.Keyring, b.Number)
	}
	return seed, nil
}

// CheckSeed reports why a seed is not that of a public key, or nil.
func CheckSeed(seed, public []byte) error {
	got, err := PublicOf(seed)
	if err != nil {
		return err
	}
	if !bytes.Equal(got, public) {
		return fleet.Errorf(fleet.Denied, "this seed is not that of key %s", fleet.Sum(public))
	}
	return nil
}

// CheckPublic reports why bytes are no public key that can be sealed to, or nil.
func CheckPublic(public []byte) error {
	kem, _, _ := suite()
	if _, err := kem.NewPublicKey(public); err != nil {
		return fleet.Errorf(fleet.Invalid, "a public key for secrets that is none: %w", err)
	}
	return nil
}

// PublicOf returns the public key of a private one (PrivateSize bytes: an operator's secrets key, a keyring's seed, what
// RecoveryPrivate and NodePrivate return). Errors are Invalid.
func PublicOf(private []byte) ([]byte, error) {
	kem, _, _ := suite()
	key, err := kem.NewPrivateKey(private)
	if err != nil {
		return nil, fleet.Errorf(fleet.Invalid, "a private key for secrets of %d bytes; it has %d", len(private), PrivateSize)
	}
	return key.PublicKey().Bytes(), nil
}

// RecoveryPrivate returns the private key that opens what is sealed for recovery. It follows from the seed of the recovery
// root, so that the one key that is printed and put away opens secrets, too.
func RecoveryPrivate(rootSeed []byte) ([]byte, error) {
	if len(rootSeed) != 32 {
		return nil, fleet.Errorf(fleet.Invalid, "a root's seed of %d bytes; it has 32", len(rootSeed))
	}
	return hkdf.Key(sha256.New, rootSeed, nil, "muster/recovery-secrets/1", PrivateSize)
}

// NodePrivate returns a node's private key for secrets from the seed that its data folder keeps.
func NodePrivate(hpkeSeed []byte) ([]byte, error) {
	kem, _, _ := suite()
	key, err := kem.DeriveKeyPair(hpkeSeed)
	if err != nil || len(hpkeSeed) != 32 {
		return nil, fleet.Errorf(fleet.Invalid, "a node's seed for secrets of %d bytes; it has 32", len(hpkeSeed))
	}
	return key.Bytes()
}
