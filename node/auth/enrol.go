package auth

import (
	"crypto/ed25519"
	"time"

	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
)

// EnrolRequest is what a joiner signs with the join secret. It binds the node's own key, so that whoever relays it
// cannot put another key in its place.
type EnrolRequest struct {
	Header Header
	Token  fleet.UUID
	Key    []byte   // the node's Ed25519 public key; its hash is the node's ID
	HPKE   fleet.ID // hash of the node's HPKE public key (1.2 KB, fetched from the node by those who need it)
	Name   string
}

// Countersign is a server's word that the quorum counted the use.
type Countersign struct {
	Header  Header
	Request fleet.ID // digest of the enrolment request
	Node    fleet.ID
}

// Enrolment is the three signatures that together make a node: an operator's token, the joiner's request, a server's
// countersignature. Everybody can verify it offline; no server can make it alone.
type Enrolment struct {
	Token       Envelope
	Request     Envelope
	Countersign Envelope
}

// MaxEnrolment bounds the encoding of an Enrolment in bytes (50 tags of full length and some room).
const MaxEnrolment = 24 << 10

// Admitted is what a verified enrolment says.
type Admitted struct {
	ID      fleet.ID
	Key     ed25519.PublicKey
	Request EnrolRequest
	Token   Token
}

// VerifyRequest checks token and request, without the countersignature: what a server does before it proposes. now is
// the moment of judgement.
func (c *Charter) VerifyRequest(token, request Envelope, now time.Time) (Admitted, error) {
	var a Admitted
	if len(token.Body)+len(request.Body) > MaxEnrolment {
		return a, fleet.Errorf(fleet.Exhausted, "enrolment of %d bytes; at most %d", len(token.Body)+len(request.Body), MaxEnrolment)
	}
	peeked, err := Peek[Token](token)
	if err != nil {
		return a, err
	}
	op, err := c.Standing(token.Key, peeked.Header.Issued)
	if err != nil {
		return a, err
	}
	if a.Token, err = Open[Token](token, ForToken, c.fleetID, op.Key); err != nil {
		return a, err
	}
	if err := a.Token.Check(); err != nil {
		return a, err
	}
	if a.Request, err = Open[EnrolRequest](request, ForEnrol, c.fleetID, a.Token.Join); err != nil {
		return a, err
	}
	if a.Request.Token != a.Token.Header.ID || len(a.Request.Key) != ed25519.PublicKeySize {
		return a, fleet.Errorf(fleet.Denied, "the enrolment request is for another token")
	}
	a.Key, a.ID = a.Request.Key, fleet.Sum(a.Request.Key)
	return a, a.Token.Permits(a.Request.Name, now)
}

// VerifyEnrolment checks all three signatures. serverKey answers with the public key of a node that is (or is being
// made by this very enrolment) eligible to countersign.
func (c *Charter) VerifyEnrolment(e Enrolment, now time.Time, serverKey func(fleet.ID, Admitted) (ed25519.PublicKey, error)) (Admitted, error) {
	a, err := c.VerifyRequest(e.Token, e.Request, now)
	if err != nil {
		return a, err
	}
	key, err := serverKey(e.Countersign.Key, a)
	if err != nil {
		return a, err
	}
	counter, err := Open[Countersign](e.Countersign, ForCountersign, c.fleetID, key)
	if err != nil {
		return a, err
	}
	if counter.Request != e.Request.Digest(ForEnrol, c.fleetID) || counter.Node != a.ID {
		return a, fleet.Errorf(fleet.Denied, "the countersignature is for another enrolment")
	}
	return a, nil
}

// Encode returns the wire form.
func (e Enrolment) Encode() []byte { return wire.Marshal(e) }
