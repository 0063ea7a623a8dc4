package auth

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"net/netip"
	"strings"
	"time"

	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
)

// Limits of tokens.
const (
	MaxTokenUses     = 10_000
	MaxTokenLife     = 30 * 24 * time.Hour // as long as SSM's hybrid activations
	MaxTokens        = 1_000               // standing at once
	MaxJoinAddresses = 16
)

// Token lets nodes enrol. An operator signs it; its secret half never leaves the join string.
type Token struct {
	Header  Header // Expires is the token's end
	Join    []byte // Ed25519 public key of the join secret
	Uses    uint32
	Tags    map[string]string // every node that enrols with it gets these
	Pattern string            // names it may give, with * and ?; empty: any
	Server  bool              // nodes are eligible to hold replicated state
	Replace string            // name of the node whose name and tags pass to the joiner; empty: none
}

// DeleteToken takes a token back. Nodes enrolled with it stay.
type DeleteToken struct {
	Header Header
	Token  fleet.UUID
}

// Check reports what is wrong with a token's scope, or nil.
func (t Token) Check() error {
	life := t.Header.Expires - t.Header.Issued // in milliseconds: as a Duration, five centuries wrap to an instant
	switch {
	case !isTime(t.Header.Issued) || !isTime(t.Header.Expires):
		return fleet.Errorf(fleet.Invalid, "token with a time that is none: issued %d, expires %d", t.Header.Issued, t.Header.Expires)
	case len(t.Join) != ed25519.PublicKeySize:
		return fleet.Errorf(fleet.Invalid, "token with a join key of %d bytes", len(t.Join))
	case t.Uses == 0 || t.Uses > MaxTokenUses:
		return fleet.Errorf(fleet.Invalid, "a token is for 1 to %d uses, not %d", MaxTokenUses, t.Uses)
	case life <= 0 || life > MaxTokenLife.Milliseconds():
		return fleet.Errorf(fleet.Invalid, "a token lives up to %s, not %d s", MaxTokenLife, life/1000)
	case len(t.Pattern) > 63 || strings.Trim(t.Pattern, patternChars) != "":
		return fleet.Errorf(fleet.Invalid, "%q is not a name pattern: up to 63 of a-z, 0-9, dot, hyphen, * and ?", t.Pattern)
	case t.Replace != "" && t.Uses != 1:
		return fleet.Errorf(fleet.Invalid, "a token that replaces node %q is for one use, not %d", t.Replace, t.Uses)
	}
	if t.Replace != "" {
		if err := fleet.CheckName(t.Replace); err != nil {
			return err
		}
	}
	return fleet.CheckTags(t.Tags)
}

const patternChars = "abcdefghijklmnopqrstuvwxyz0123456789.-*?"

// Ask is the question to policy whether op may put t in fleet name: on acceptance by the quorum, and by every node
// before it takes in an enrolment. The resource carries the tags that the token gives away.
func (t Token) Ask(op Operator, name string) Ask {
	return Ask{
		Principal: op.AsPrincipal(), Action: ActPutToken, Server: t.Server,
		Resource: Resource{Type: "Fleet", Name: name, Tags: t.Tags},
	}
}

// Permits reports why a node called name may not enrol with t at now, or nil. Uses are counted by the quorum.
func (t Token) Permits(name string, now time.Time) error {
	if err := fleet.CheckName(name); err != nil {
		return err
	}
	if now.UnixMilli() >= t.Header.Expires {
		return fleet.Errorf(fleet.Expired, "the join string expired at %s", time.UnixMilli(t.Header.Expires).UTC().Format(time.RFC3339)).
			Hinted("on a host of the fleet: muster token create")
	}
	if t.Pattern != "" && !fleet.MatchGlob(t.Pattern, name) {
		return fleet.Errorf(fleet.Denied, "the join string is for names like %s, not %s", t.Pattern, name).
			Hinted("muster join … --name NAME")
	}
	if t.Replace != "" && name != t.Replace {
		return fleet.Errorf(fleet.Denied, "the join string is for the node that replaces %s, not for %s", t.Replace, name).
			Hinted("muster join … --name %s", t.Replace)
	}
	return nil
}

// JoinString is what a joiner needs to know, and all of it.
type JoinString struct {
	Seed  []byte // Ed25519 seed of the join secret
	Token fleet.UUID
	Fleet fleet.ID
	Head  fleet.ID // charter head as a floor: a server that has not got it is refused
	Addrs []string
}

const (
	joinPrefix = "muster-join-1."
	joinCheck  = 4       // bytes of checksum, to tell a cut string from a wrong one
	joinLength = 4 << 10 // bytes of text; 16 addresses take 1.2 KB
)

// String returns the text an operator passes on. It is a secret.
func (j JoinString) String() string {
	raw := wire.Marshal(j)
	sum := sha256.Sum256(raw)
	return joinPrefix + base64.RawURLEncoding.EncodeToString(append(raw, sum[:joinCheck]...))
}

// ParseJoinString reads what String wrote; white space around and inside (line breaks of a mail) is ignored.
func ParseJoinString(text string) (JoinString, error) {
	var j JoinString
	if len(text) > joinLength {
		return j, fleet.Errorf(fleet.Invalid, "that is no join string: it has %d bytes, a join string at most %d", len(text), joinLength)
	}
	text = strings.Join(strings.Fields(text), "")
	hint := "copy the whole line that muster token create printed; it begins with " + joinPrefix
	encoded, ok := strings.CutPrefix(text, joinPrefix)
	if !ok {
		return j, fleet.Errorf(fleet.Invalid, "that is no join string").Hinted("%s", hint)
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(encoded)
	if err != nil || len(raw) < joinCheck {
		return j, fleet.Errorf(fleet.Invalid, "the join string is damaged or cut").Hinted("%s", hint)
	}
	body, check := raw[:len(raw)-joinCheck], raw[len(raw)-joinCheck:]
	if sum := sha256.Sum256(body); !bytes.Equal(check, sum[:joinCheck]) {
		return j, fleet.Errorf(fleet.Invalid, "the join string is damaged or cut: its checksum differs").Hinted("%s", hint)
	}
	if err := wire.Unmarshal(body, &j); err != nil {
		return j, err
	}
	if len(j.Seed) != ed25519.SeedSize || len(j.Addrs) > MaxJoinAddresses {
		return j, fleet.Errorf(fleet.Invalid, "the join string is damaged")
	}
	for _, addr := range j.Addrs {
		if _, err := netip.ParseAddrPort(addr); err != nil {
			return j, fleet.Errorf(fleet.Invalid, "the join string names %q, which is no address", addr)
		}
	}
	return j, nil
}

// Signer returns the key that signs an enrolment request.
func (j JoinString) Signer() Signer { return NewSigner(ed25519.NewKeyFromSeed(j.Seed)) }
