package cast

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hpke"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"

	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
)

// A sealed recording is
//
//	magic ‖ u32 length ‖ head ‖ chunks, each u32 length ‖ AES-256-GCM of a piece of the plain recording
//
// The head names the session and holds the file's key once per auditor, wrapped by HPKE. Chunks are bound to the head and to
// their place; the last one is marked, in its length and its nonce, so that an end that is missing is seen. Every number is
// big-endian.
const (
	magic     = "\x00muster-cast/1\n" // no asciicast begins so
	maxHead   = 64 << 10
	maxChunk  = 64 << 10 // of plain bytes
	lastChunk = 1 << 31  // in a chunk's length
	gcmTag    = 16
	keySize   = 32
)

// SealedHead is how many bytes of a file IsSealed wants.
const SealedHead = len(magic)

// IsSealed reports whether a file that begins so is a sealed recording.
func IsSealed(first []byte) bool { return string(first) == magic }

// MaxAuditors is how many keys one recording is sealed to at most.
const MaxAuditors = 32

// sealHead is what stands in the clear.
type sealHead struct {
	Session fleet.UUID
	Start   int64 // Unix milliseconds
	Keys    []sealedKey
}

// sealedKey is the file's key for one auditor.
type sealedKey struct {
	Auditor fleet.ID // hash of the public key
	Wrap    []byte
}

// The suite is the house's for HPKE: ML-KEM-768 with X25519.
func suite() (hpke.KEM, hpke.KDF, hpke.AEAD) {
	return hpke.MLKEM768X25519(), hpke.HKDFSHA256(), hpke.AES256GCM()
}

// sealInfo binds a wrap to its session, so that it opens no other's recording.
func sealInfo(session fleet.UUID, start int64, auditor fleet.ID) []byte {
	return append([]byte("muster/cast-key/1\x00"), wire.Marshal(struct {
		Session fleet.UUID
		Start   int64
		Auditor fleet.ID
	}{session, start, auditor})...)
}

// sealer encrypts a recording on its way to the file. Its key is nowhere else.
type sealer struct {
	box  box
	next uint64
}

// newSealer returns what encrypts for the auditors, and the bytes that the file begins with. Errors are Invalid.
func newSealer(h Header, auditors [][]byte) (*sealer, []byte, error) {
	if len(auditors) > MaxAuditors {
		return nil, nil, fleet.Errorf(fleet.Invalid, "a recording for %d auditors; there may be %d", len(auditors), MaxAuditors)
	}
	key := make([]byte, keySize)
	rand.Read(key)
	head := sealHead{Session: h.Session, Start: h.Start.UnixMilli()}
	kem, kdf, aead := suite()
	for _, public := range auditors {
		id := fleet.Sum(public)
		pk, err := kem.NewPublicKey(public)
		if err != nil {
			return nil, nil, fleet.Errorf(fleet.Invalid, "an auditor's public key is none (hash %s): %w", id, err)
		}
		wrap, err := hpke.Seal(pk, kdf, aead, sealInfo(head.Session, head.Start, id), key)
		if err != nil {
			return nil, nil, fleet.Errorf(fleet.Internal, "cannot seal a recording: %w", err)
		}
		head.Keys = append(head.Keys, sealedKey{id, wrap})
	}
	body := wire.Marshal(head)
	first := append([]byte(magic), binary.BigEndian.AppendUint32(nil, uint32(len(body)))...)
	return &sealer{box: newBox(key, body)}, append(first, body...), nil
}

// seal appends a chunk with p, at most maxChunk bytes.
func (s *sealer) seal(dst, p []byte, last bool) []byte {
	length := uint32(len(p) + gcmTag)
	if last {
		length |= lastChunk
	}
	dst = binary.BigEndian.AppendUint32(dst, length)
	dst = s.box.aead.Seal(dst, nonce(s.next, last), p, s.box.bound[:])
	s.next++
	return dst
}

// box is a file's key, bound to its head.
type box struct {
	aead  cipher.AEAD
	bound [sha256.Size]byte
}

func newBox(key, head []byte) box {
	block, err := aes.NewCipher(key)
	if err != nil {
		panic("cast: " + err.Error()) // only for another length of the key
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic("cast: " + err.Error()) // only for another block size
	}
	return box{aead, sha256.Sum256(head)}
}

func nonce(n uint64, last bool) []byte {
	out := make([]byte, 12)
	if last {
		out[0] = 1
	}
	binary.BigEndian.PutUint64(out[4:], n)
	return out
}
