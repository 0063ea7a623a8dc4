package auth

import (
	"crypto/ed25519"
	"slices"
	"time"

	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
)

// ActKind says what a committed act is.
type ActKind uint8

// The kinds of acts that every node keeps: together they are the record.
const (
	ActCharter     ActKind = 1 // CharterEntry
	ActEnrol       ActKind = 2 // Enrolment
	ActNodeTags    ActKind = 3 // Envelope of NodeTags
	ActNodeRemove  ActKind = 4 // Envelope of NodeRemove
	ActGossipEpoch ActKind = 5 // GossipEpoch
	ActGroup       ActKind = 6 // Envelope of GroupChange
	ActSetting     ActKind = 7 // Envelope of SettingChange

	ActKeyring        ActKind = 8  // Envelope of KeyringChange
	ActKeyringEpoch   ActKind = 9  // Envelope of KeyringEpoch
	ActKeyringHolding ActKind = 10 // Envelope of KeyringHolding
)

// Act is one committed entry of the record. Index and Time are the quorum's; Data is what was signed.
type Act struct {
	Index uint64 // act index, one count over everything committed
	Time  int64  // Unix milliseconds, the leader's stamp, never going back
	Kind  ActKind
	Data  []byte
}

// GossipEpoch moves the fleet to another gossip key. The key itself stays out of the log; peers hand it to each other.
// It carries no operator's signature: a key that nobody hands out cuts nobody off from QUIC.
type GossipEpoch struct {
	Epoch uint32
	Hash  fleet.ID // SHA-256 of the key
	Send  bool     // false: accept it; true: send with it, and drop what is older
}

// Record is what every node keeps of the fleet: charter, roster, groups, settings and keyrings, with the chain they came by.
// It is an immutable value; Apply is the only way to a newer one, in the quorum as on every node.
type Record struct {
	Charter  *Charter
	Roster   Roster
	Groups   Groups
	Settings Settings
	Keyrings Keyrings
	Gossip   GossipEpoch // newest
	Sending  GossipEpoch // newest with Send
	Length   uint64      // acts taken
	Head     fleet.ID    // hash chain over all acts
	Act      uint64      // act index of the newest act
	Removal  int64       // time of the newest removal or replacement of a node, after KeyedAt if it came after; 0: none
	KeyedAt  int64       // time when the newest gossip epoch was first accepted
	Time     int64       // its time
	Size     uint64      // bytes of all acts
}

// NewRecord returns the empty record.
func NewRecord() Record { return Record{Roster: emptyRoster()} }

// NextHead returns the chain's head after one act more.
func NextHead(head fleet.ID, act Act) fleet.ID {
	return fleet.Sum(append(head[:], wire.Marshal(act)...))
}

// MaxRecord bounds the acts of a record in bytes, so that every node can keep it. The charter has a limit of its own
// (MaxCharterSize), and removals of nodes are exempt: both must go through in a record that is full, and there is at most
// one removal for each enrolment.
const MaxRecord = 64 << 20

// maxData bounds an act's data in bytes before anything of it is decoded.
var maxData = [...]int{
	ActCharter:     MaxCharterEntry + MaxRoots*128, // entry and signatures
	ActEnrol:       MaxEnrolment + 1<<10,           // two bodies, a countersignature, three signatures
	ActNodeTags:    MaxEnrolment,                   // tags of full size, as a token has
	ActNodeRemove:  1 << 10,
	ActGossipEpoch: 64,
	ActGroup:       fleet.MaxTarget + 1<<10,
	ActSetting:     MaxOutputTo + 1<<10,

	ActKeyring:        fleet.MaxTarget + maxEpochKey + 1<<10,
	ActKeyringEpoch:   maxEpochKey + 1<<10,
	ActKeyringHolding: 1 << 10,
}

// maxEpochKey bounds the encoding of an EpochKey in bytes.
const maxEpochKey = KeySize + 16 + MaxEscrow*(MaxEscrowBox+128)

// Apply returns the record with one act more. Everything signed is verified here, against what the record said when
// the act was accepted. want is the fleet that the caller joined; zero for the host that founds one.
func (r Record) Apply(act Act, want fleet.ID) (Record, error) {
	if r.Charter == nil && act.Kind != ActCharter {
		return r, fleet.Errorf(fleet.Invalid, "a record begins with the charter's genesis, not with an act of kind %d", act.Kind)
	}
	if r.Length > 0 && (act.Index <= r.Act || act.Time < r.Time) {
		return r, fleet.Errorf(fleet.Conflict, "act %d does not follow act %d", act.Index, r.Act)
	}
	if err := r.checkSize(act); err != nil {
		return r, err
	}
	next := r
	if err := next.take(act, want); err != nil {
		return r, err
	}
	raw := wire.Marshal(act)
	next.Length++
	next.Size += uint64(len(raw))
	next.Head = NextHead(r.Head, act)
	next.Act, next.Time = act.Index, act.Time
	return next, nil
}

func (r Record) checkSize(act Act) error {
	switch {
	case int(act.Kind) >= len(maxData) || maxData[act.Kind] == 0:
		return fleet.Newer("act of kind %d is not understood by this version", act.Kind)
	case len(act.Data) > maxData[act.Kind]:
		return fleet.Errorf(fleet.Exhausted, "act of kind %d with %d bytes; at most %d", act.Kind, len(act.Data), maxData[act.Kind])
	case !isTime(act.Time):
		return fleet.Errorf(fleet.Invalid, "act %d with a time that is none: %d", act.Index, act.Time)
	case act.Kind == ActCharter || act.Kind == ActNodeRemove:
	case r.Size+uint64(len(act.Data)) > MaxRecord:
		return fleet.Errorf(fleet.Exhausted, "the fleet's record has %d bytes; with this act it would pass its limit of %d", r.Size, MaxRecord)
	}
	return nil
}

func (r *Record) take(act Act, want fleet.ID) (err error) {
	switch act.Kind {
	case ActCharter:
		return r.takeCharter(act, want)
	case ActEnrol:
		return r.takeEnrolment(act)
	case ActNodeTags:
		return r.takeTags(act)
	case ActNodeRemove:
		return r.takeRemoval(act)
	case ActGossipEpoch:
		return r.takeGossip(act)
	case ActGroup:
		return r.takeGroup(act)
	case ActSetting:
		return r.takeSetting(act)
	case ActKeyring:
		return r.takeKeyring(act)
	case ActKeyringEpoch:
		return r.takeKeyringEpoch(act)
	case ActKeyringHolding:
		return r.takeKeyringHolding(act)
	}
	return fleet.Newer("act of kind %d is not understood by this version", act.Kind)
}

func (r *Record) takeCharter(act Act, want fleet.ID) error {
	var entry CharterEntry
	err := wire.Unmarshal(act.Data, &entry)
	switch {
	case err != nil:
	case r.Charter == nil:
		r.Charter, err = Found(entry, want)
	default:
		var c *Charter
		if c, err = r.Charter.appendAt(entry, act.Time); err == nil {
			r.Charter = c
		}
	}
	return err
}

func (r *Record) takeEnrolment(act Act) error {
	var e Enrolment
	if err := wire.Unmarshal(act.Data, &e); err != nil {
		return err
	}
	now := time.UnixMilli(act.Time)
	digest := e.Token.Digest(ForToken, r.Charter.fleetID)
	used, err := r.openToken(digest, e.Token)
	if err != nil {
		return err
	}
	e.Token = used.statement // one copy for all nodes that enrol with it
	a, err := r.Charter.judgeRequest(used.token, e.Token.Key, e.Request, now)
	if err != nil {
		return err
	}
	if err := r.Charter.judgeCountersign(a, e, now, r.countersigner); err != nil {
		return err
	}
	if err := r.mayReplace(a, e.Token.Key); err != nil {
		return err
	}
	before := r.Roster
	if r.Roster, err = r.Roster.enrol(a, e, digest, act.Time); err != nil {
		return err
	}
	if old, ok := before.ByName(a.Request.Name); ok { // it replaced that one
		r.removedAt(act.Time)
		r.follow(before, act, old.ID)
	}
	return nil
}

// openToken returns a token of which the signature holds. Many nodes enrol with the same: the very bytes that were
// verified once need not be again. Who signed them, and what the signer may do, is judged anew each time.
func (r *Record) openToken(digest fleet.ID, e Envelope) (spent, error) {
	if known, ok := r.Roster.tokens.Get(digest[:]); ok && known.statement.same(e) {
		return *known, nil
	}
	t, err := r.Charter.openToken(e)
	return spent{statement: e, token: t}, err
}

// removedAt notes that a node was removed. Whoever compares with KeyedAt must see a removal in the same millisecond as
// a later one: the node that went had the key.
func (r *Record) removedAt(at int64) { r.Removal = max(at, r.KeyedAt+1) }

// mayReplace asks policy about the node whose name and tags the token passes on: to replace is to remove one node and
// to give its tags, and its place among the servers, to another.
func (r *Record) mayReplace(a Admitted, signer fleet.ID) error {
	old, ok := r.Roster.ByName(a.Token.Replace)
	if !ok {
		return nil
	}
	op, err := r.Charter.Standing(signer, a.Token.Header.Issued)
	if err != nil {
		return err
	}
	for _, action := range []Action{ActRemoveNode, ActTagNode} {
		if err := r.mayTouch(op, action, old, old.Tags, old.Server); err != nil {
			return err
		}
	}
	return nil
}

// mayTouch asks policy about an act on a node.
func (r *Record) mayTouch(op Operator, action Action, n *Node, tags map[string]string, server bool) error {
	_, err := r.Charter.policy.Decide(Ask{
		Principal: op.AsPrincipal(), Action: action, Resource: Resource{Type: "Node", Name: n.Name, Tags: tags}, Server: server,
	})
	return err
}

// countersigner returns the key of the server that countersigned: an enrolled, eligible one, or, for the fleet's very
// first node, that node itself. Once there was a node, no other can vouch for itself, even if all were removed.
func (r *Record) countersigner(id fleet.ID, a Admitted) (ed25519.PublicKey, error) {
	if r.Roster.nodes.Len() == 0 && id == a.ID && a.Token.Server {
		return a.Key, nil
	}
	n, err := r.Roster.Enrolled(id)
	if err != nil {
		return nil, err
	}
	if !n.Server {
		return nil, fleet.Errorf(fleet.Denied, "node %s countersigned, but no operator made it a server", n.Name)
	}
	return n.Key, nil
}

// VerifyEnrolment checks an enrolment that this record has not got yet, as its bearer shows it.
func (r Record) VerifyEnrolment(e Enrolment) (Admitted, error) {
	if size := len(e.Token.Body) + len(e.Request.Body); size > MaxEnrolment {
		return Admitted{}, fleet.Errorf(fleet.Exhausted, "enrolment of %d bytes; at most %d", size, MaxEnrolment)
	}
	t, err := r.Charter.openToken(e.Token)
	if err != nil {
		return Admitted{}, err
	}
	// The quorum judged the token's time when it counted the use; here only the signatures are judged.
	now := time.UnixMilli(t.Header.Issued)
	a, err := r.Charter.judgeRequest(t, e.Token.Key, e.Request, now)
	if err != nil {
		return a, err
	}
	digest := e.Token.Digest(ForToken, r.Charter.fleetID)
	if used, ok := r.Roster.tokens.Get(digest[:]); ok && used.uses >= t.Uses {
		return a, fleet.Errorf(fleet.Denied, "node %s shows an enrolment beyond the %d uses of its token", a.ID, t.Uses)
	}
	return a, r.Charter.judgeCountersign(a, e, now, r.countersigner)
}

func (r *Record) takeTags(act Act) error {
	var e Envelope
	if err := wire.Unmarshal(act.Data, &e); err != nil {
		return err
	}
	s, op, err := openStanding[NodeTags](r.Charter, e, ForNodeTags, act.Time, func(s NodeTags) Header { return s.Header })
	if err != nil {
		return err
	}
	n, err := r.Roster.Enrolled(s.Node)
	if err != nil {
		return err
	}
	for _, tags := range []map[string]string{n.Tags, s.Tags} {
		if err := r.mayTouch(op, ActTagNode, n, tags, n.Server || s.Server); err != nil {
			return err
		}
	}
	before := r.Roster
	if r.Roster, err = r.Roster.setTags(s); err == nil {
		r.follow(before, act, s.Node)
	}
	return err
}

func (r *Record) takeRemoval(act Act) error {
	var e Envelope
	if err := wire.Unmarshal(act.Data, &e); err != nil {
		return err
	}
	s, op, err := openStanding[NodeRemove](r.Charter, e, ForNodeRemove, act.Time, func(s NodeRemove) Header { return s.Header })
	if err != nil {
		return err
	}
	n, err := r.Roster.Enrolled(s.Node)
	if err != nil {
		return err
	}
	if err := r.mayTouch(op, ActRemoveNode, n, n.Tags, n.Server); err != nil {
		return err
	}
	before := r.Roster
	if r.Roster, err = r.Roster.remove(s, act.Time); err == nil {
		r.removedAt(act.Time)
		r.follow(before, act, s.Node)
	}
	return err
}

func (r *Record) takeGossip(act Act) error {
	var g GossipEpoch
	if err := wire.Unmarshal(act.Data, &g); err != nil {
		return err
	}
	switch {
	case !g.Send && g.Epoch != r.Gossip.Epoch+1:
		return fleet.Errorf(fleet.Conflict, "gossip epoch %d does not follow %d", g.Epoch, r.Gossip.Epoch)
	case g.Send && (g.Epoch != r.Gossip.Epoch || g.Hash != r.Gossip.Hash || r.Sending.Epoch == g.Epoch):
		return fleet.Errorf(fleet.Conflict, "gossip epoch %d cannot be sent with: the newest is %d", g.Epoch, r.Gossip.Epoch)
	}
	if g.Epoch != r.Gossip.Epoch {
		r.KeyedAt = act.Time
	}
	r.Gossip = g
	if g.Send || r.Sending.Epoch == 0 {
		r.Sending = g
	}
	return nil
}

func (r *Record) takeGroup(act Act) error {
	c, op, err := openChange[GroupChange](r, act, ForGroup, func(GroupChange) Action { return ActPutGroup }, func(c GroupChange) Header { return c.Header }, nil)
	if err == nil {
		err = c.Check()
	}
	if err != nil {
		return err
	}
	r.Groups, err = r.Groups.put(c, Group{Name: c.Name, Target: c.Target, Changed: act.Time, By: op.Name, Act: act.Index})
	return err
}

func (r *Record) takeSetting(act Act) error {
	c, op, err := openChange[SettingChange](r, act, ForSetting, func(c SettingChange) Action { return ActionOfSetting(c.Name) }, func(c SettingChange) Header { return c.Header }, nil)
	if err == nil && !slices.Contains(SettingNames, c.Name) { // operators, and servers, who took it, may know more
		return fleet.Newer("setting %q is not understood by this version", shorten(c.Name))
	}
	if err == nil {
		err = CheckSetting(c.Name, c.Value)
	}
	if err != nil {
		return err
	}
	r.Settings, err = r.Settings.put(c, Setting{Name: c.Name, Value: c.Value, Changed: act.Time, By: op.Name, Act: act.Index})
	return err
}

// openChange verifies a statement that changes something of the whole fleet, and asks policy for the action that it is:
// about what on returns, which judges the body, too; nil: about the fleet.
func openChange[T any](r *Record, act Act, purpose Purpose, action func(T) Action, header func(T) Header, on func(T) (Resource, error)) (T, Operator, error) {
	var e Envelope
	if err := wire.Unmarshal(act.Data, &e); err != nil {
		var none T
		return none, Operator{}, err
	}
	body, op, err := openStanding(r.Charter, e, purpose, act.Time, header)
	if err != nil {
		return body, op, err
	}
	if err := r.checkSeen(header(body)); err != nil {
		return body, op, err
	}
	resource := Resource{Type: "Fleet", Name: r.Charter.name}
	if on != nil {
		if resource, err = on(body); err != nil {
			return body, op, err
		}
	}
	_, err = r.Charter.policy.Decide(Ask{Principal: op.AsPrincipal(), Action: action(body), Resource: resource})
	return body, op, err
}

// checkSeen refuses a statement whose signer claims to have seen what is not there yet: it could be put again after any
// other change.
func (r *Record) checkSeen(h Header) error {
	if h.Act <= r.Act {
		return nil
	}
	return fleet.Errorf(fleet.Conflict, "it was signed at act %d, but the fleet's record ends at act %d", h.Act, r.Act).
		Hinted("repeat it; if the fleet was restored from a backup, on a host that has caught up")
}

// openStanding verifies a standing statement at the moment of its acceptance: its signer may act now, and it is valid.
func openStanding[T any](c *Charter, e Envelope, purpose Purpose, at int64, header func(T) Header) (T, Operator, error) {
	now := time.UnixMilli(at)
	var body T
	op, err := c.Current(e.Key, now)
	if err != nil {
		return body, op, err
	}
	if body, err = Open[T](e, purpose, c.fleetID, op.Key); err != nil {
		return body, op, err
	}
	return body, op, header(body).CheckTime(now)
}

// OpenOrder verifies a statement by a current operator: signature, time, and that its signer saw a charter we know.
func OpenOrder[T any](c *Charter, e Envelope, purpose Purpose, now time.Time, header func(T) Header) (T, Operator, error) {
	body, op, err := openStanding(c, e, purpose, now.UnixMilli(), header)
	if err == nil && !c.Knows(header(body).Charter) {
		err = fleet.Errorf(fleet.Unavailable, "it was signed under charter %s, which this node has not got", header(body).Charter)
	}
	return body, op, err
}
