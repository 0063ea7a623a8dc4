package auth

import (
	"bytes"
	"crypto/ed25519"
	"time"

	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
)

// Purpose separates what a signature was made for: the same bytes signed for one purpose verify for no other.
type Purpose string

// The purposes. The number is the version of the body's format.
const (
	ForCharter     Purpose = "muster/charter/1"
	ForToken       Purpose = "muster/token/1"
	ForTokenDelete Purpose = "muster/token-delete/1"
	ForEnrol       Purpose = "muster/enrol/1"
	ForCountersign Purpose = "muster/countersign/1"
	ForNodeTags    Purpose = "muster/node-tags/1"
	ForNodeRemove  Purpose = "muster/node-remove/1"
	ForCommand     Purpose = "muster/command/1"
	ForCancel      Purpose = "muster/cancel/1"
	ForBeacon      Purpose = "muster/beacon/1"
	ForReport      Purpose = "muster/report/1"
	ForRequest     Purpose = "muster/request/1"
	ForFacts       Purpose = "muster/facts/1"

	ForDocument       Purpose = "muster/document/1"
	ForDocumentChange Purpose = "muster/document-change/1"
	ForGroup          Purpose = "muster/group/1"
	ForSetting        Purpose = "muster/setting/1"

	ForParams         Purpose = "muster/params/1"
	ForKeyring        Purpose = "muster/keyring/1"
	ForKeyringEpoch   Purpose = "muster/keyring-epoch/1"
	ForKeyringHolding Purpose = "muster/keyring-holding/1"
	ForHandOver       Purpose = "muster/hand-over/1"

	ForSession     Purpose = "muster/session/1"
	ForSessionKill Purpose = "muster/session-kill/1"
	ForRecording   Purpose = "muster/recording/1"
)

// Mode says which path an order may take.
type Mode uint8

// The modes of an order.
const (
	ByQuorum Mode = 1 // ordered by the quorum
	Direct   Mode = 2 // gossip alone, while the quorum is lost
)

// Header begins the body of every statement.
type Header struct {
	ID      fleet.UUID // random; a derived act carries a hash
	Issued  int64      // Unix milliseconds by the signer's clock
	Expires int64      // Unix milliseconds; 0: does not expire
	Charter fleet.ID   // newest charter head that the signer had seen
	Act     uint64     // act index of the newest record entry that the signer had seen
	Mode    Mode
}

// Algorithm names a signature scheme on the wire.
type Algorithm uint8

// The algorithms. SSHSIG is reserved: verifying it needs no new format, only code.
const (
	Ed25519 Algorithm = 1
	SSHSIG  Algorithm = 2
)

// EnvelopeFormat is the version of the envelope's layout.
const EnvelopeFormat = 1

// Envelope is a signed statement. Body stays the bytes that were signed.
type Envelope struct {
	Format    uint8
	Algorithm Algorithm
	Key       fleet.ID // of the signer: SHA-256 of its public key
	Body      []byte
	Signature []byte
}

// Signer is a private key with the ID that statements name it by.
type Signer struct {
	key ed25519.PrivateKey
}

// NewSigner takes a private key.
func NewSigner(key ed25519.PrivateKey) Signer { return Signer{key} }

// Public returns the public key.
func (s Signer) Public() ed25519.PublicKey { return s.key.Public().(ed25519.PublicKey) }

// ID returns the SHA-256 of the public key.
func (s Signer) ID() fleet.ID { return fleet.Sum(s.Public()) }

// Sign encodes body and signs it for one purpose in one fleet.
func (s Signer) Sign(purpose Purpose, fleetID fleet.ID, body any) Envelope {
	raw := wire.Marshal(body)
	return Envelope{
		Format: EnvelopeFormat, Algorithm: Ed25519, Key: s.ID(), Body: raw,
		Signature: ed25519.Sign(s.key, signedBytes(purpose, fleetID, raw)),
	}
}

func signedBytes(purpose Purpose, fleetID fleet.ID, body []byte) []byte {
	out := make([]byte, 0, len(purpose)+1+len(fleetID)+len(body))
	out = append(out, purpose...)
	out = append(out, 0)
	out = append(out, fleetID[:]...)
	return append(out, body...)
}

// Digest names the statement: the hash of the signed bytes, so it does not change with the signature.
func (e Envelope) Digest(purpose Purpose, fleetID fleet.ID) fleet.ID {
	return fleet.Sum(signedBytes(purpose, fleetID, e.Body))
}

// same reports whether two envelopes are the same bytes.
func (e Envelope) same(o Envelope) bool {
	return e.Format == o.Format && e.Algorithm == o.Algorithm && e.Key == o.Key && bytes.Equal(e.Body, o.Body) && bytes.Equal(e.Signature, o.Signature)
}

// Verify reports why the signature does not hold under key, or nil.
func (e Envelope) Verify(purpose Purpose, fleetID fleet.ID, key ed25519.PublicKey) error {
	switch {
	case e.Format != EnvelopeFormat:
		return fleet.Errorf(fleet.Invalid, "statement format %d; this version reads %d", e.Format, EnvelopeFormat)
	case e.Algorithm != Ed25519:
		return fleet.Errorf(fleet.Invalid, "signature algorithm %d is not understood by this version", e.Algorithm)
	case len(key) != ed25519.PublicKeySize || fleet.Sum(key) != e.Key:
		return fleet.Errorf(fleet.Denied, "statement names key %s, not the one it is checked against", e.Key)
	case !ed25519.Verify(key, signedBytes(purpose, fleetID, e.Body), e.Signature):
		return fleet.Errorf(fleet.Denied, "signature of key %s does not hold", e.Key)
	}
	return nil
}

// Open verifies e under key and then decodes its body.
func Open[T any](e Envelope, purpose Purpose, fleetID fleet.ID, key ed25519.PublicKey) (T, error) {
	var body T
	if err := e.Verify(purpose, fleetID, key); err != nil {
		return body, err
	}
	err := wire.Unmarshal(e.Body, &body)
	return body, err
}

// Peek decodes a body that nobody has verified yet, to find out who should have signed it. Nothing may act on it.
func Peek[T any](e Envelope) (T, error) {
	var body T
	err := wire.Unmarshal(e.Body, &body)
	return body, err
}

// MaxSkew is how far clocks of a healthy fleet may be apart (decided; SSM's request signing allows the same).
const MaxSkew = 5 * time.Minute

// MaxTime is the last millisecond of the year 9999. Every time on the wire lies in [0, MaxTime], so that sums and
// differences of times, and their conversion to nanoseconds of a few decades, cannot overflow.
const MaxTime = 253_402_300_799_999

func isTime(ms int64) bool { return 0 <= ms && ms <= MaxTime }

// CheckTime judges a statement's validity at now: not from the future by more than MaxSkew, not expired.
func (h Header) CheckTime(now time.Time) error {
	if !isTime(h.Issued) || !isTime(h.Expires) {
		return fleet.Errorf(fleet.Invalid, "statement with a time that is none: issued %d, expires %d", h.Issued, h.Expires)
	}
	if issued := time.UnixMilli(h.Issued); issued.After(now.Add(MaxSkew)) {
		return fleet.Errorf(fleet.Denied, "issued %s in the future of this clock", issued.Sub(now).Round(time.Second)).
			Hinted("compare the clocks of both hosts: date -u")
	}
	if h.Expires != 0 && now.UnixMilli() >= h.Expires {
		return fleet.Errorf(fleet.Expired, "expired at %s", time.UnixMilli(h.Expires).UTC().Format(time.RFC3339))
	}
	return nil
}
