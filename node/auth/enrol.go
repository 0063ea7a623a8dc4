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
	if len(token.Body)+len(request.Body) > MaxEnrolment {
		return Admitted{}, fleet.Errorf(fleet.Exhausted, "enrolment of %d bytes; at most %d", len(token.Body)+len(request.Body), MaxEnrolment)
	}
	t, err := c.openToken(token)
	if err != nil {
		return Admitted{}, err
	}
	return c.judgeRequest(t, token.Key, request, now)
}

// openToken verifies that a token is of somebody who is or was an operator, and decodes it.
func (c *Charter) openToken(e Envelope) (Token, error) {
	op, err := c.Standing(e.Key, 0) // whose key it is; when it was signed shows only after it is verified
	if err != nil {
		return Token{}, err
	}
	return Open[Token](e, ForToken, c.fleetID, op.Key)
}

// judgeRequest judges a token whose signature holds, and then verifies and judges the request made with it.
func (c *Charter) judgeRequest(t Token, signer fleet.ID, request Envelope, now time.Time) (Admitted, error) {
	a := Admitted{Token: t}
	if err := c.judgeToken(t, signer, now); err != nil {
		return a, err
	}
	var err error
	if a.Request, err = Open[EnrolRequest](request, ForEnrol, c.fleetID, t.Join); err != nil {
		return a, err
	}
	if a.Request.Token != t.Header.ID || len(a.Request.Key) != ed25519.PublicKeySize {
		return a, fleet.Errorf(fleet.Denied, "the enrolment request is for another token")
	}
	if err := a.Request.Header.checkSpan(t, now); err != nil {
		return a, err
	}
	a.Key, a.ID = a.Request.Key, fleet.Sum(a.Request.Key)
	return a, t.Permits(a.Request.Name, now)
}

// judgeToken judges the token's scope, its signer at that time, and the signer's rights by the policy of now.
func (c *Charter) judgeToken(t Token, signer fleet.ID, now time.Time) error {
	if err := t.Check(); err != nil {
		return err
	}
	if err := t.Header.CheckTime(now); err != nil && fleet.KindOf(err) != fleet.Expired { // Permits says that better
		return err
	}
	op, err := c.Standing(signer, t.Header.Issued)
	if err != nil {
		return err
	}
	_, err = c.policy.Decide(t.Ask(op, c.name))
	return err
}

// checkSpan judges the times that joiner and server signed. Their clocks are their own, and may be unset (0); but
// neither can have signed in earnest what was over.
func (h Header) checkSpan(t Token, now time.Time) error {
	switch {
	case !isTime(h.Issued) || !isTime(h.Expires):
		return fleet.Errorf(fleet.Invalid, "enrolment with a time that is none: issued %d, expires %d", h.Issued, h.Expires)
	case h.Expires != 0 && now.UnixMilli() >= h.Expires:
		return fleet.Errorf(fleet.Expired, "the enrolment request expired at %s", time.UnixMilli(h.Expires).UTC().Format(time.RFC3339)).
			Hinted("repeat muster join")
	case h.Issued > t.Header.Expires+MaxSkew.Milliseconds():
		return fleet.Errorf(fleet.Expired, "the enrolment was signed after its join string had expired").
			Hinted("compare the clocks of both hosts: date -u")
	}
	return nil
}

// VerifyEnrolment checks all three signatures. serverKey answers with the public key of a node that is (or is being
// made by this very enrolment) eligible to countersign.
func (c *Charter) VerifyEnrolment(e Enrolment, now time.Time, serverKey func(fleet.ID, Admitted) (ed25519.PublicKey, error)) (Admitted, error) {
	a, err := c.VerifyRequest(e.Token, e.Request, now)
	if err != nil {
		return a, err
	}
	return a, c.judgeCountersign(a, e, now, serverKey)
}

func (c *Charter) judgeCountersign(a Admitted, e Enrolment, now time.Time, serverKey func(fleet.ID, Admitted) (ed25519.PublicKey, error)) error {
	key, err := serverKey(e.Countersign.Key, a)
	if err != nil {
		return err
	}
	counter, err := Open[Countersign](e.Countersign, ForCountersign, c.fleetID, key)
	if err != nil {
		return err
	}
	if counter.Request != e.Request.Digest(ForEnrol, c.fleetID) || counter.Node != a.ID {
		return fleet.Errorf(fleet.Denied, "the countersignature is for another enrolment")
	}
	return counter.Header.checkSpan(a.Token, now)
}

// Encode returns the wire form.
func (e Enrolment) Encode() []byte { return wire.Marshal(e) }
