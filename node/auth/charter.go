package auth

import (
	"cmp"
	"crypto/ed25519"
	"iter"
	"slices"
	"time"

	iradix "github.com/hashicorp/go-immutable-radix/v2"

	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
)

// Limits of the charter, so that every node can keep all of it. Removals of operators are exempt from the limits of the
// whole: a right must be revocable in a charter that is full. They are bounded by the keys there are.
const (
	MaxCharterEntry   = 16 << 10 // bytes of one entry; a policy is the largest
	MaxCharterEntries = 10_000
	MaxCharterSize    = 16 << 20 // bytes of all entries
	MaxRoots          = 16
	MaxOperators      = 512   // standing at once
	MaxOperatorKeys   = 4_096 // ever, removed ones included
	MaxTeams          = 64    // of one operator
	MaxOperatorHPKE   = 2_048 // bytes; ML-KEM-768 with X25519 has 1,216
)

// RootTeam is the team that the built-in first policy lets do everything.
const RootTeam = "root"

// CharterKind says what an entry changes.
type CharterKind uint8

// The kinds of charter entries.
const (
	CharterGenesis        CharterKind = 1
	CharterPutOperator    CharterKind = 2
	CharterDeleteOperator CharterKind = 3
	CharterPutPolicy      CharterKind = 4
	CharterPutRoots       CharterKind = 5
	CharterEpoch          CharterKind = 6
)

// CharterBody is what roots sign. Header.Charter is the head it stands on.
type CharterBody struct {
	Header  Header
	Seq     uint64
	Kind    CharterKind
	Content []byte // the encoding of the kind's own type below
}

// CharterEntry is one signed link of the chain, with the signatures of k of n roots.
type CharterEntry struct {
	Format     uint8
	Body       []byte
	Signatures []RootSignature
}

// RootSignature is one root's signature of an entry.
type RootSignature struct {
	Algorithm Algorithm
	Key       fleet.ID
	Signature []byte
}

// Genesis founds a fleet. Its hash is the fleet's ID.
type Genesis struct {
	Name      string
	Nonce     fleet.ID
	Roots     [][]byte // Ed25519 public keys
	Threshold uint8    // signatures that a change needs; removing an operator needs one
	Policy    string   // Cedar; empty means FirstPolicy
	Recovery  []byte   // HPKE public key of the recovery recipient of secrets; empty: there is none
}

// genesis1 is a Genesis as it was before there were secrets. Old fleets keep it, and the policy that they began with.
type genesis1 struct {
	Name      string
	Nonce     fleet.ID
	Roots     [][]byte
	Threshold uint8
	Policy    string
}

func (g genesis1) now() Genesis {
	return Genesis{Name: g.Name, Nonce: g.Nonce, Roots: g.Roots, Threshold: g.Threshold, Policy: cmp.Or(g.Policy, firstPolicy1)}
}

// Operator is a person (or a machine of theirs) who may sign orders, as the charter has it.
type Operator struct {
	Name    string
	Key     []byte // Ed25519 public key
	HPKE    []byte // public key for secrets, ML-KEM-768 with X25519
	Teams   []string
	Expires int64 // Unix milliseconds; 0: never
}

// ID returns the ID by which statements name the operator's key.
func (o Operator) ID() fleet.ID { return fleet.Sum(o.Key) }

// DeleteOperator removes an operator. Compromised means that nothing the key ever signed counts any more.
type DeleteOperator struct {
	Name        string
	Key         fleet.ID
	Compromised bool
}

// PutPolicy replaces the fleet's Cedar policy.
type PutPolicy struct{ Policy string }

// PutRoots replaces the roots, and, where Recovery is given, the recovery recipient of secrets.
type PutRoots struct {
	Roots     [][]byte
	Threshold uint8
	Recovery  []byte // HPKE public key; empty: it stays
}

// putRoots1 is a PutRoots as it was before there were secrets.
type putRoots1 struct {
	Roots     [][]byte
	Threshold uint8
}

func (p putRoots1) now() PutRoots { return PutRoots{Roots: p.Roots, Threshold: p.Threshold} }

// decodeEither decodes a content in its form of now, or in that of before. The number of fields tells them apart.
func decodeEither[New any, Old interface{ now() New }](data []byte) (New, error) {
	var body New
	err := wire.Unmarshal(data, &body)
	if err == nil {
		return body, nil
	}
	var old Old
	if wire.Unmarshal(data, &old) == nil {
		return old.now(), nil
	}
	return body, err
}

// Epoch begins a new recovery epoch; it alone settles a fork.
type Epoch struct {
	Epoch  uint64
	Reason string
}

// known is a key that is or was an operator's. Values are shared and never changed.
type known struct {
	Operator    Operator
	Gone        bool
	Removed     int64 // Unix milliseconds, of the entry that removed it first
	Compromised bool
}

// Charter is the verified chain's meaning: an immutable value.
type Charter struct {
	fleetID   fleet.ID
	name      string
	head      fleet.ID
	seq       uint64 // entries taken
	roots     map[fleet.ID]ed25519.PublicKey
	threshold int
	operators *iradix.Tree[*known] // by key ID, removed ones included
	standing  int                  // of them, those not removed
	policy    *Policy
	recovery  []byte // HPKE public key; empty: none
	epoch     uint64
	heads     *iradix.Tree[uint64] // every head there was, with its length
	size      uint64               // bytes of all entries
}

// Fleet returns the fleet's ID, the hash of its genesis.
func (c *Charter) Fleet() fleet.ID { return c.fleetID }

// Name returns the fleet's name.
func (c *Charter) Name() string { return c.name }

// Head returns the hash of the newest entry.
func (c *Charter) Head() fleet.ID { return c.head }

// Len returns the number of entries.
func (c *Charter) Len() uint64 { return c.seq }

// Epoch returns the recovery epoch.
func (c *Charter) Epoch() uint64 { return c.epoch }

// Policy returns the compiled policy.
func (c *Charter) Policy() *Policy { return c.policy }

// Recovery returns the HPKE public key of the recovery recipient of secrets; empty: the fleet has none.
func (c *Charter) Recovery() []byte { return c.recovery }

// Threshold returns how many roots a change needs, and how many there are.
func (c *Charter) Threshold() (k, n int) { return c.threshold, len(c.roots) }

// HasRoot reports whether key is one of the roots.
func (c *Charter) HasRoot(key fleet.ID) bool { return c.roots[key] != nil }

// Knows reports whether head was ever this charter's head.
func (c *Charter) Knows(head fleet.ID) bool {
	_, ok := c.heads.Get(head[:])
	return ok
}

// Operators lists those who stand, by name.
func (c *Charter) Operators() []Operator {
	var out []Operator
	for k := range c.known() {
		if !k.Gone {
			out = append(out, k.Operator)
		}
	}
	slices.SortFunc(out, func(a, b Operator) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// removedHint is how a removed operator may come back.
const removedHint = "to be taken in again, ask with a new key: muster operator request --identity FILE"

// OperatorByName returns the standing operator of that name.
func (c *Charter) OperatorByName(name string) (Operator, bool) {
	for k := range c.known() {
		if !k.Gone && k.Operator.Name == name {
			return k.Operator, true
		}
	}
	return Operator{}, false
}

func (c *Charter) known() iter.Seq[*known] {
	return func(yield func(*known) bool) {
		it := c.operators.Root().Iterator()
		for _, k, ok := it.Next(); ok && yield(k); _, k, ok = it.Next() {
		}
	}
}

// Current returns the operator who holds key, if it may sign orders at now.
func (c *Charter) Current(key fleet.ID, now time.Time) (Operator, error) {
	if c == nil {
		return Operator{}, errNoCharter()
	}
	k, ok := c.operators.Get(key[:])
	switch {
	case !ok:
		return Operator{}, fleet.Errorf(fleet.Denied, "key %s is no operator of fleet %s", key, c.name).
			Hinted("on that host: muster operator request; then, with the root key: muster operator approve CODE")
	case k.Gone:
		return Operator{}, fleet.Errorf(fleet.Denied, "operator %s was removed from the charter", k.Operator.Name).Hinted(removedHint)
	case k.Operator.Expires != 0 && now.UnixMilli() >= k.Operator.Expires:
		return Operator{}, fleet.Errorf(fleet.Expired, "the key of operator %s expired at %s", k.Operator.Name,
			time.UnixMilli(k.Operator.Expires).UTC().Format(time.RFC3339))
	}
	return k.Operator, nil
}

// Standing returns the operator who held key when a standing statement was issued (Unix milliseconds, by the signer).
// Such statements outlive their signer, unless it was removed as compromised. The signer can back-date: whoever must
// rule that out removes the key as compromised.
func (c *Charter) Standing(key fleet.ID, issued int64) (Operator, error) {
	if c == nil {
		return Operator{}, errNoCharter()
	}
	k, ok := c.operators.Get(key[:])
	switch {
	case !ok:
		return Operator{}, fleet.Errorf(fleet.Denied, "key %s was never an operator of fleet %s", key, c.name)
	case k.Compromised:
		return Operator{}, fleet.Errorf(fleet.Denied, "operator %s was removed as compromised", k.Operator.Name).Hinted(removedHint)
	case k.Gone && issued > k.Removed:
		return Operator{}, fleet.Errorf(fleet.Denied, "operator %s was removed before this was signed", k.Operator.Name).Hinted(removedHint)
	case k.Operator.Expires != 0 && issued >= k.Operator.Expires:
		return Operator{}, fleet.Errorf(fleet.Denied, "the key of operator %s had expired when this was signed", k.Operator.Name)
	}
	return k.Operator, nil
}

func errNoCharter() error {
	return fleet.Errorf(fleet.Unavailable, "this node has no charter yet")
}

// SignCharter makes the next entry on top of c (nil for the genesis), signed by roots.
func SignCharter(c *Charter, header Header, kind CharterKind, content any, roots ...Signer) CharterEntry {
	if c == nil {
		return SignCharterAt(fleet.ID{}, fleet.ID{}, 0, header, kind, content, roots...)
	}
	return SignCharterAt(c.fleetID, c.head, c.seq, header, kind, content, roots...)
}

// SignCharterAt makes the entry that follows a head at which the charter has length entries.
func SignCharterAt(fleetID, head fleet.ID, length uint64, header Header, kind CharterKind, content any, roots ...Signer) CharterEntry {
	header.Charter = head
	raw := wire.Marshal(CharterBody{Header: header, Seq: length, Kind: kind, Content: wire.Marshal(content)})
	entry := CharterEntry{Format: EnvelopeFormat, Body: raw}
	for _, root := range roots {
		entry.Signatures = append(entry.Signatures, RootSignature{
			Algorithm: Ed25519, Key: root.ID(), Signature: ed25519.Sign(root.key, signedBytes(ForCharter, fleetID, raw)),
		})
	}
	return entry
}

// Found reads a genesis entry. fleetID is what the caller expects (from a join string); zero takes any, which is right
// only for the host that founds.
func Found(entry CharterEntry, fleetID fleet.ID) (*Charter, error) {
	id := fleet.Sum(signedBytes(ForCharter, fleet.ID{}, entry.Body))
	if !fleetID.IsZero() && id != fleetID {
		return nil, fleet.Errorf(fleet.Denied, "this is the charter of fleet %s, not of %s", id, fleetID)
	}
	body, err := decodeCharterBody(entry)
	if err != nil {
		return nil, err
	}
	if body.Kind != CharterGenesis || body.Seq != 0 {
		return nil, fleet.Errorf(fleet.Invalid, "a charter must begin with its genesis entry")
	}
	g, err := decodeEither[Genesis, genesis1](body.Content)
	if err != nil {
		return nil, err
	}
	if err := checkRecovery(g.Recovery); err != nil {
		return nil, err
	}
	if err := fleet.CheckName(g.Name); err != nil {
		return nil, err
	}
	roots, err := readRoots(g.Roots, g.Threshold)
	if err != nil {
		return nil, err
	}
	policy, err := CompilePolicy(cmp.Or(g.Policy, FirstPolicy))
	if err != nil {
		return nil, err
	}
	c := &Charter{
		fleetID: id, name: g.Name, head: id, seq: 1, roots: roots, threshold: int(g.Threshold),
		operators: iradix.New[*known](), policy: policy, recovery: g.Recovery, heads: iradix.New[uint64](), size: uint64(len(entry.Body)),
	}
	c.heads, _, _ = c.heads.Insert(id[:], c.seq)
	if err := c.checkSignatures(entry, fleet.ID{}, c.threshold); err != nil {
		return nil, err
	}
	return c, nil
}

// Append returns the charter with one entry more. An entry that is not on top of the head is refused: as a repetition,
// as one from the future, or as a fork.
func (c *Charter) Append(entry CharterEntry) (*Charter, error) { return c.appendAt(entry, MaxTime) }

// appendAt is Append of an entry that was accepted at a moment (Unix milliseconds). A removal counts from then at the
// latest: a root's clock that runs ahead must not leave the removed operator time to sign on.
func (c *Charter) appendAt(entry CharterEntry, accepted int64) (*Charter, error) {
	hash := fleet.Sum(signedBytes(ForCharter, c.fleetID, entry.Body))
	if at, ok := c.heads.Get(hash[:]); ok {
		return nil, fleet.Errorf(fleet.Conflict, "charter entry %d is already there", at-1)
	}
	body, err := decodeCharterBody(entry)
	if err != nil {
		return nil, err
	}
	switch {
	case body.Seq > c.seq:
		return nil, fleet.Errorf(fleet.Unavailable, "charter entry %d came before entry %d", body.Seq, c.seq)
	case body.Seq < c.seq || body.Header.Charter != c.head:
		return nil, fleet.Errorf(fleet.Conflict, "charter fork: entry %d stands on %s, but the head is %s", body.Seq, body.Header.Charter, c.head).
			Hinted("fetch the newest charter and sign again; if two roots signed apart, only an epoch statement settles it")
	case body.Kind == CharterDeleteOperator:
	case c.seq >= MaxCharterEntries:
		return nil, fleet.Errorf(fleet.Exhausted, "the charter has %d entries, its limit", MaxCharterEntries)
	case c.size+uint64(len(entry.Body)) > MaxCharterSize:
		return nil, fleet.Errorf(fleet.Exhausted, "the charter has %d bytes; with this entry it would pass its limit of %d", c.size, MaxCharterSize)
	}
	need := c.threshold
	if body.Kind == CharterDeleteOperator {
		need = 1 // taking a right away must not wait for a second root
	}
	if err := c.checkSignatures(entry, c.fleetID, need); err != nil {
		return nil, err
	}
	next := *c
	next.head, next.seq, next.size = hash, c.seq+1, c.size+uint64(len(entry.Body))
	next.heads, _, _ = c.heads.Insert(hash[:], next.seq)
	if err := next.take(body, accepted); err != nil {
		return nil, err
	}
	return &next, nil
}

func (c *Charter) take(body CharterBody, accepted int64) error {
	switch body.Kind {
	case CharterPutOperator:
		var op Operator
		if err := wire.Unmarshal(body.Content, &op); err != nil {
			return err
		}
		return c.putOperator(op)
	case CharterDeleteOperator:
		var del DeleteOperator
		if err := wire.Unmarshal(body.Content, &del); err != nil {
			return err
		}
		return c.deleteOperator(del, min(body.Header.Issued, accepted))
	case CharterPutPolicy:
		var put PutPolicy
		if err := wire.Unmarshal(body.Content, &put); err != nil {
			return err
		}
		policy, err := CompilePolicy(put.Policy)
		if err != nil {
			return err
		}
		c.policy = policy
	case CharterPutRoots:
		return c.putRoots(body.Content)
	case CharterEpoch:
		var e Epoch
		if err := wire.Unmarshal(body.Content, &e); err != nil {
			return err
		}
		if e.Epoch <= c.epoch {
			return fleet.Errorf(fleet.Conflict, "epoch %d is not newer than %d", e.Epoch, c.epoch)
		}
		c.epoch = e.Epoch
	default:
		return fleet.Newer("charter entry of kind %d is not understood by this version", body.Kind)
	}
	return nil
}

func (c *Charter) putRoots(content []byte) error {
	put, err := decodeEither[PutRoots, putRoots1](content)
	if err != nil {
		return err
	}
	roots, err := readRoots(put.Roots, put.Threshold)
	if err != nil {
		return err
	}
	if err := checkRecovery(put.Recovery); err != nil {
		return err
	}
	c.roots, c.threshold = roots, int(put.Threshold)
	if len(put.Recovery) > 0 {
		c.recovery = put.Recovery
	}
	return nil
}

// checkRecovery reports why key cannot be the recovery recipient's, or nil.
func checkRecovery(key []byte) error {
	if len(key) != 0 && len(key) != KeySize {
		return fleet.Errorf(fleet.Invalid, "the recovery key for secrets has %d bytes; it needs %d", len(key), KeySize)
	}
	return nil
}

func (c *Charter) putOperator(op Operator) error {
	if err := op.check(); err != nil {
		return err
	}
	id := op.ID()
	old, had := c.operators.Get(id[:])
	switch {
	case had && old.Gone:
		return fleet.Errorf(fleet.Conflict, "the key of operator %s was removed once; make a new one", op.Name)
	case !had && c.standing >= MaxOperators:
		return fleet.Errorf(fleet.Exhausted, "%d operators, the limit", MaxOperators)
	case !had && c.operators.Len() >= MaxOperatorKeys:
		return fleet.Errorf(fleet.Exhausted, "%d operator keys in the life of this fleet, the limit", MaxOperatorKeys)
	}
	if other, ok := c.OperatorByName(op.Name); ok && other.ID() != op.ID() {
		return fleet.Errorf(fleet.Conflict, "operator %s is there with another key", op.Name).
			Hinted("muster operator delete %s, or take another name", op.Name)
	}
	c.operators, _, _ = c.operators.Insert(id[:], &known{Operator: op})
	if !had {
		c.standing++
	}
	return nil
}

func (o Operator) check() error {
	if err := fleet.CheckName(o.Name); err != nil {
		return err
	}
	switch {
	case len(o.Key) != ed25519.PublicKeySize:
		return fleet.Errorf(fleet.Invalid, "the key of operator %s has %d bytes; it needs %d", o.Name, len(o.Key), ed25519.PublicKeySize)
	case len(o.HPKE) > MaxOperatorHPKE:
		return fleet.Errorf(fleet.Invalid, "the HPKE key of operator %s has %d bytes; at most %d", o.Name, len(o.HPKE), MaxOperatorHPKE)
	case len(o.Teams) > MaxTeams:
		return fleet.Errorf(fleet.Exhausted, "operator %s in %d teams; at most %d", o.Name, len(o.Teams), MaxTeams)
	case !isTime(o.Expires):
		return fleet.Errorf(fleet.Invalid, "operator %s expires at %d, which is no time", o.Name, o.Expires)
	}
	for _, team := range o.Teams {
		if err := fleet.CheckName(team); err != nil {
			return err
		}
	}
	return nil
}

// deleteOperator refuses what changes nothing: one root alone can sign removals, and must not fill the charter with them.
func (c *Charter) deleteOperator(del DeleteOperator, at int64) error {
	k, ok := c.operators.Get(del.Key[:])
	switch {
	case !ok || k.Operator.Name != del.Name:
		return fleet.Errorf(fleet.NotFound, "no operator %s with key %s", del.Name, del.Key)
	case k.Gone && (k.Compromised || !del.Compromised):
		return fleet.Errorf(fleet.Conflict, "operator %s was removed already", del.Name)
	}
	gone := *k
	gone.Gone, gone.Compromised = true, del.Compromised
	gone.Operator.HPKE = nil // nobody encrypts to it any more
	if !k.Gone {
		gone.Removed = at
		c.standing--
	}
	c.operators, _, _ = c.operators.Insert(del.Key[:], &gone)
	return nil
}

func (c *Charter) checkSignatures(entry CharterEntry, fleetID fleet.ID, need int) error {
	good := map[fleet.ID]bool{}
	for _, sig := range entry.Signatures {
		key := c.roots[sig.Key]
		if key == nil || sig.Algorithm != Ed25519 || !ed25519.Verify(key, signedBytes(ForCharter, fleetID, entry.Body), sig.Signature) {
			return fleet.Errorf(fleet.Denied, "charter entry has a signature of key %s that does not hold", sig.Key)
		}
		good[sig.Key] = true
	}
	if len(good) < need {
		return fleet.Errorf(fleet.Denied, "charter entry has the signatures of %d roots and needs %d", len(good), need)
	}
	return nil
}

func decodeCharterBody(entry CharterEntry) (CharterBody, error) {
	var body CharterBody
	switch {
	case entry.Format != EnvelopeFormat:
		return body, fleet.Errorf(fleet.Invalid, "charter format %d; this version reads %d", entry.Format, EnvelopeFormat)
	case len(entry.Body) > MaxCharterEntry:
		return body, fleet.Errorf(fleet.Exhausted, "charter entry of %d bytes; at most %d", len(entry.Body), MaxCharterEntry)
	case len(entry.Signatures) > MaxRoots:
		return body, fleet.Errorf(fleet.Exhausted, "charter entry with %d signatures; at most %d", len(entry.Signatures), MaxRoots)
	}
	err := wire.Unmarshal(entry.Body, &body)
	return body, err
}

func readRoots(keys [][]byte, threshold uint8) (map[fleet.ID]ed25519.PublicKey, error) {
	roots := map[fleet.ID]ed25519.PublicKey{}
	for _, key := range keys {
		if len(key) != ed25519.PublicKeySize {
			return nil, fleet.Errorf(fleet.Invalid, "a root key has %d bytes; it needs %d", len(key), ed25519.PublicKeySize)
		}
		roots[fleet.Sum(key)] = key
	}
	if len(roots) != len(keys) || len(roots) > MaxRoots {
		return nil, fleet.Errorf(fleet.Invalid, "roots must be at most %d different keys", MaxRoots)
	}
	if threshold == 0 || int(threshold) > len(roots) {
		return nil, fleet.Errorf(fleet.Invalid, "threshold %d of %d roots cannot be met", threshold, len(roots))
	}
	return roots, nil
}
