package params

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/hpke"
	"crypto/sha256"
	"encoding/binary"
	"slices"

	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
)

// The suite that everything here is sealed with (decided). RFC 9180; the KEM is that of draft-ietf-hpke-pq.
func suite() (hpke.KEM, hpke.KDF, hpke.AEAD) {
	return hpke.MLKEM768X25519(), hpke.HKDFSHA256(), hpke.AES256GCM()
}

// Sizes of keys, in bytes.
const (
	PublicSize  = 1184 + 32 // ML-KEM-768 and X25519
	PrivateSize = 32        // both are derived from it
	kemSize     = 1088 + 32 // what HPKE puts before its box
	tagSize     = 16        // of AES-GCM
)

// Binding is the place that a secret is sealed for: nowhere else does it open.
type Binding struct {
	Fleet   fleet.ID
	Name    string
	Born    int64
	Version uint32
}

// Recipient is a reader with the public key that is sealed to. Reader.Key may be zero; Seal fills it in.
type Recipient struct {
	Reader Reader
	Public []byte
}

// A box is
//
//	format (1) ‖ sum (32) ‖ place (32) ‖ proof (32) ‖ nonce (12) ‖ AES-256-GCM of the padded value
//
// where the key of AES, proof and the key of the nonce are derived from the version's key and the binding. The proof ties the box to
// one key: without it, who writes could make a box that opens to one value for some readers and to another for others. The
// nonce is a MAC of the padded value, so that not even a caller who used a key twice would repeat it for two values. The
// sum over everything before encryption is checked tells damage from what was moved; whoever recomputes it still meets the
// proof and AES-GCM.
const (
	boxFormat   = 1
	nonceSize   = 12
	headSize    = 1 + 3*sha256.Size + nonceSize
	lengthSize  = 4 // before the value, within the padding
	boxOverhead = headSize + lengthSize + tagSize
	wrapSize    = kemSize + sha256.Size + tagSize
)

// smallestSealed is the smallest size that a secret is padded to, in bytes.
const smallestSealed = 64

// SealedSize returns to how many bytes a secret of n bytes is padded: the next power of two, at least 64. So a sealed
// value tells no more than one of eleven sizes.
func SealedSize(n int) int {
	size := smallestSealed
	for size < n {
		size *= 2
	}
	return size
}

// Seal encrypts a value for readers, at one place. key is 32 random bytes of the caller's, used for this alone. It returns the
// readers in the order of the wraps, each with its key's hash: they belong into Put.Readers. Errors are Invalid.
func Seal(b Binding, value []byte, key [32]byte, to []Recipient) (Sealed, []Reader, error) {
	if len(value) == 0 || len(value) > MaxAdvanced {
		return Sealed{}, nil, fleet.Errorf(fleet.Invalid, "a secret of %d bytes; it has 1 to %d (ValidationException)", len(value), MaxAdvanced)
	}
	if len(to) == 0 || len(to) > MaxReaders {
		return Sealed{}, nil, fleet.Errorf(fleet.Invalid, "a secret has 1 to %d readers, not %d (InvalidKeyId)", MaxReaders, len(to))
	}
	var s Sealed
	var readers []Reader
	for _, r := range to {
		reader, wrap, err := b.wrap(r, key)
		if err != nil {
			return Sealed{}, nil, err
		}
		s.Wraps, readers = append(s.Wraps, wrap), append(readers, reader)
	}
	s.Box = b.box(value, key)
	sum := s.sum()
	copy(s.Box[1:], sum[:])
	return s, readers, nil
}

func (b Binding) wrap(r Recipient, key [32]byte) (Reader, []byte, error) {
	reader := r.Reader
	if id := fleet.Sum(r.Public); reader.Key.IsZero() {
		reader.Key = id
	} else if reader.Key != id {
		return reader, nil, fleet.Errorf(fleet.Invalid, "%s: this is not the public key that it has now (InvalidKeyId)", reader)
	}
	if err := reader.check(); err != nil {
		return reader, nil, err
	}
	wrap, err := sealTo(r.Public, b.info(reader), key[:])
	if err != nil {
		return reader, nil, fleet.Errorf(fleet.Invalid, "%s: its public key is none: %w (InvalidKeyId)", reader, err)
	}
	return reader, wrap, nil
}

func sealTo(public, info, secret []byte) ([]byte, error) {
	kem, kdf, aead := suite()
	pk, err := kem.NewPublicKey(public)
	if err != nil {
		return nil, err
	}
	return hpke.Seal(pk, kdf, aead, info, secret)
}

// info is what a wrap is bound to.
func (b Binding) info(r Reader) []byte {
	return append([]byte("muster/param-wrap/1\x00"), wire.Marshal(struct {
		Place  Binding
		Reader Reader
	}{b, r})...)
}

func (b Binding) encode() []byte {
	return append([]byte("muster/param-box/1\x00"), wire.Marshal(b)...)
}

func (b Binding) box(value []byte, key [32]byte) []byte {
	padded := make([]byte, lengthSize+SealedSize(len(value)))
	binary.BigEndian.PutUint32(padded, uint32(len(value)))
	copy(padded[lengthSize:], value)
	k := b.derive(key[:])
	out := make([]byte, headSize, headSize+len(padded)+tagSize)
	out[0] = boxFormat
	place := sha256.Sum256(b.encode())
	copy(out[1+sha256.Size:], place[:])
	copy(out[1+2*sha256.Size:], k.proof)
	mac := hmac.New(sha256.New, k.nonce)
	mac.Write(padded)
	copy(out[1+3*sha256.Size:], mac.Sum(nil)[:nonceSize])
	return k.aead().Seal(out, out[headSize-nonceSize:headSize], padded, b.encode())
}

// keys are what is derived from a version's key.
type keys struct{ box, nonce, proof []byte }

func (b Binding) derive(key []byte) keys {
	all, err := hkdf.Key(sha256.New, key, nil, string(b.encode()), 3*32)
	if err != nil {
		panic("params: " + err.Error()) // only for lengths that HKDF has not got
	}
	return keys{all[:32], all[32:64], all[64:]}
}

func (k keys) aead() cipher.AEAD {
	block, err := aes.NewCipher(k.box)
	if err != nil {
		panic("params: " + err.Error()) // only for another length of the key
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic("params: " + err.Error()) // only for another block size
	}
	return aead
}

// sum is over all of it but the sum itself.
func (s Sealed) sum() fleet.ID {
	h := sha256.New()
	h.Write(s.Box[:1])
	h.Write(s.Box[1+sha256.Size:])
	for _, wrap := range s.Wraps {
		h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(wrap))))
		h.Write(wrap)
	}
	return fleet.ID(h.Sum(nil))
}

// ReaderWith returns the place of the reader whose key has that hash. The error names who can read, and is Denied.
func ReaderWith(readers []Reader, key fleet.ID) (int, error) {
	i := slices.IndexFunc(readers, func(r Reader) bool { return r.Key == key })
	if i < 0 {
		return -1, fleet.Errorf(fleet.Denied, "this is no reader of the secret; its readers are %s", ReaderNames(readers))
	}
	return i, nil
}

// ReaderNames lists readers as people name them.
func ReaderNames(readers []Reader) string {
	out := ""
	for i, r := range readers {
		if i > 0 {
			out += ", "
		}
		out += r.String()
	}
	return out
}

// Open decrypts a secret as the reader at a place of Put.Readers, whose private key is given. The errors tell apart: no such
// reader (Denied), not the key that was sealed to (Denied), damaged or tampered with (Invalid), sealed for another
// place (Denied).
func (s Sealed) Open(b Binding, readers []Reader, at int, private []byte) ([]byte, error) {
	if at < 0 || at >= len(readers) || len(readers) != len(s.Wraps) {
		return nil, fleet.Errorf(fleet.Denied, "version %d of parameter %s is not sealed for this reader; its readers are %s", b.Version, b.Name, ReaderNames(readers))
	}
	reader := readers[at]
	kem, kdf, aead := suite()
	key, err := kem.NewPrivateKey(private)
	if err != nil || fleet.Sum(key.PublicKey().Bytes()) != reader.Key {
		return nil, fleet.Errorf(fleet.Denied, "the key at hand is not that of %s which version %d of parameter %s is sealed to", epochOf(reader), b.Version, b.Name)
	}
	if err := s.checkHead(b); err != nil {
		return nil, err
	}
	secret, err := hpke.Open(key, kdf, aead, b.info(reader), s.Wraps[at])
	if err != nil || len(secret) != 32 {
		return nil, b.errTampered("the key in it does not open for %s", epochOf(reader))
	}
	return s.open(b, secret)
}

func epochOf(r Reader) string {
	if r.Kind != ByKeyring {
		return r.String()
	}
	return r.String() + " epoch " + itoa(r.Epoch)
}

func itoa(n uint32) string { return Selector{Version: n}.Suffix()[1:] }

func (b Binding) errTampered(format string, args ...any) error {
	return fleet.Errorf(fleet.Invalid, "version %d of parameter %s was tampered with or damaged: "+format, append([]any{b.Version, b.Name}, args...)...)
}

func (s Sealed) checkHead(b Binding) error {
	switch {
	case len(s.Box) < boxOverhead+smallestSealed || len(s.Box) > boxOverhead+MaxAdvanced:
		return b.errTampered("a box of %d bytes", len(s.Box))
	case s.Box[0] != boxFormat:
		return fleet.Errorf(fleet.Invalid, "version %d of parameter %s is sealed in format %d; this version reads %d", b.Version, b.Name, s.Box[0], boxFormat)
	}
	if sum := s.sum(); !slices.Equal(sum[:], s.Box[1:1+sha256.Size]) {
		return b.errTampered("its sum is another")
	}
	if place := sha256.Sum256(b.encode()); !slices.Equal(place[:], s.Box[1+sha256.Size:1+2*sha256.Size]) {
		return fleet.Errorf(fleet.Denied, "what stands as version %d of parameter %s was sealed for another parameter, version or fleet, and moved here", b.Version, b.Name)
	}
	return nil
}

func (s Sealed) open(b Binding, secret []byte) ([]byte, error) {
	k := b.derive(secret)
	if !hmac.Equal(k.proof, s.Box[1+2*sha256.Size:1+3*sha256.Size]) {
		return nil, b.errTampered("the box belongs to another key")
	}
	padded, err := k.aead().Open(nil, s.Box[headSize-nonceSize:headSize], s.Box[headSize:], b.encode())
	if err != nil {
		return nil, b.errTampered("the box does not open")
	}
	n := int64(binary.BigEndian.Uint32(padded))
	if n == 0 || n > int64(len(padded)-lengthSize) || SealedSize(int(n)) != len(padded)-lengthSize {
		return nil, b.errTampered("its padding is none")
	}
	return padded[lengthSize : lengthSize+n : lengthSize+n], nil
}
