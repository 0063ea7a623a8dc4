package auth

import (
	"bytes"
	"cmp"
	"slices"
	"time"

	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
)

// Keeper is somebody beside the members for whom an epoch's seed is sealed.
type Keeper struct {
	Operator string // empty: recovery
	Key      []byte // HPKE public key
}

// Sealable returns the epoch that new secrets are sealed to. It is refused (Unavailable) while the members must make a new
// one first: somebody who may have this one's seed is not to read any more.
func (r Record) Sealable(name string) (*Keyring, *KeyEpoch, error) {
	k, err := r.keyring(name)
	if err != nil {
		return nil, nil, err
	}
	e := k.Current()
	if why := r.closed(k, e, r.Time); why != "" {
		return nil, nil, fleet.Errorf(fleet.Unavailable, "keyring %s takes no new secrets until its members have made a new key: %s", name, why).
			Hinted("a member that is up makes it by itself within seconds; muster keyring show %s says who waits", name)
	}
	return k, e, nil
}

// KeyringDue reports whether the members of a keyring must make a new epoch, and why. now is in Unix milliseconds.
func (r Record) KeyringDue(name string, now int64) (why string, due bool) {
	k, ok := r.Keyrings.Get(name)
	if !ok {
		return "", false
	}
	why = cmp.Or(r.outdated(k, now), k.lapsed(now))
	return why, why != ""
}

// outdated says why a keyring's newest epoch must have a successor, or "".
func (r Record) outdated(k *Keyring, now int64) string {
	e := k.Newest()
	if why := r.closed(k, e, now); why != "" {
		return why
	}
	switch {
	case e.Number <= k.Asked:
		return "an operator asked for it"
	case len(r.Charter.recovery) > 0 && !slices.ContainsFunc(e.Escrow, func(e Escrow) bool { return e.Operator == "" }):
		return "the fleet has a recovery key now"
	}
	return ""
}

// lapsed says that the newest epoch has waited too long for members to hold it, or "".
func (k *Keyring) lapsed(now int64) string {
	if e := k.Newest(); e.Used == 0 && now-e.Made >= k.patience() {
		return "too few members came to hold the newest key"
	}
	return ""
}

// closed says why nothing may be sealed to an epoch, or "": somebody may have its seed who is not to read any more.
func (r Record) closed(k *Keyring, e *KeyEpoch, now int64) string {
	if e.Number <= k.Closed {
		return "node " + k.closedBy + " left it"
	}
	for i, kept := range e.Escrow {
		if why := r.Charter.keeps(kept, e.keepers[i], now); why != "" {
			return why
		}
	}
	return ""
}

// keeps says why the reader of an escrow is none any more, or "".
func (c *Charter) keeps(e Escrow, key fleet.ID, now int64) string {
	if e.Operator == "" {
		if len(c.recovery) == 0 || fleet.Sum(c.recovery) != e.Key {
			return "the fleet's recovery key was replaced"
		}
		return ""
	}
	known, ok := c.operators.Get(key[:])
	switch {
	case !ok || known.Gone:
		return "operator " + e.Operator + ", who could read it, was removed"
	case known.Operator.Expires != 0 && now >= known.Operator.Expires:
		return "the key of operator " + e.Operator + ", who could read it, expired"
	case fleet.Sum(known.Operator.HPKE) != e.Key:
		return "operator " + e.Operator + " has another key for secrets now"
	}
	return ""
}

// EscrowFor lists for whom the seed of a keyring's next epoch is to be sealed, beside its members: recovery, the operator
// who changed the keyring last, and those who keep the newest epoch. Apply takes an epoch with just these. now is in Unix
// milliseconds.
func (r Record) EscrowFor(name string, now int64) []Keeper {
	k, ok := r.Keyrings.Get(name)
	if !ok {
		return nil
	}
	var out []Keeper
	if len(r.Charter.recovery) > 0 {
		out = append(out, Keeper{Key: r.Charter.recovery})
	}
	taken := map[fleet.ID]bool{{}: true}
	for _, id := range append([]fleet.ID{k.changer}, k.Newest().keepers...) {
		known, ok := r.Charter.operators.Get(id[:])
		if taken[id] || !ok || !known.reads(now) || len(out) == MaxEscrow {
			continue
		}
		taken[id] = true
		out = append(out, Keeper{known.Operator.Name, known.Operator.HPKE})
	}
	return out
}

// reads reports whether secrets may be sealed to an operator.
func (k *known) reads(now int64) bool {
	return !k.Gone && len(k.Operator.HPKE) == KeySize && (k.Operator.Expires == 0 || now < k.Operator.Expires)
}

// LeastNeed returns how many members must hold a keyring's next epoch before it is used, at the least: two, where there are
// two, so that a member which tells nobody its seed does not make what is sealed from then on its own. Where the epoch before
// came to be held by too few in time, one is enough: the others may be down. now is in Unix milliseconds.
func (r Record) LeastNeed(name string, now int64) int {
	k, ok := r.Keyrings.Get(name)
	if !ok || k.lapsed(now) != "" {
		return 1
	}
	members := 0
	for range r.KeyringMembers(name) {
		if members++; members == 2 {
			break
		}
	}
	return max(1, members)
}

func (r Record) keyring(name string) (*Keyring, error) {
	k, ok := r.Keyrings.Get(name)
	if !ok {
		return nil, fleet.Errorf(fleet.NotFound, "no keyring %s", shorten(name)).Hinted("muster keyring list")
	}
	return k, nil
}

func (r *Record) takeKeyring(act Act) error {
	c, op, err := openChange(r, act, ForKeyring, func(KeyringChange) Action { return ActPutKeyring }, func(c KeyringChange) Header { return c.Header },
		func(c KeyringChange) (Resource, error) { return KeyringResource(c.Name), c.Check() })
	if err != nil {
		return err
	}
	ks := r.Keyrings
	if last := ks.changed(c.Name); c.Header.Act < last {
		return fleet.Errorf(fleet.Conflict, "keyring %s was changed at act %d; this was signed at act %d", c.Name, last, c.Header.Act).
			Hinted("look at muster keyring show %s, and repeat", c.Name)
	}
	k, there := ks.Get(c.Name)
	switch {
	case len(c.First) == 1 && there:
		return fleet.Errorf(fleet.Conflict, "keyring %s is there already", c.Name).Hinted("muster keyring show %s", c.Name)
	case len(c.First) == 1:
		return r.makeKeyring(c, op, act)
	case !there:
		_, err := r.keyring(c.Name)
		return err
	case c.Target == "":
		r.Keyrings = ks.without(k, act.Index)
		return nil
	}
	target, err := CheckKeyringTarget(c.Target)
	if err != nil {
		return err
	}
	next := ks.retarget(k, target, r.Roster, act)
	next.Changed, next.By, next.Act, next.changer, next.givenUp = act.Time, op.Name, act.Index, op.ID(), 0
	if c.Rotate {
		next.Asked = k.Newest().Number
	}
	r.Keyrings = ks.with(next)
	return nil
}

// keyOf returns the keyring of which an epoch has a key, or "". No two may share one: a public key is no secret, and who
// could name another keyring's as that of his own might be taken for somebody who may have its seed.
func (ks Keyrings) keyOf(key []byte) string {
	for _, k := range ks.sorted {
		if slices.ContainsFunc(k.Epochs, func(e KeyEpoch) bool { return bytes.Equal(e.Key, key) }) {
			return k.Name
		}
	}
	return ""
}

func (r *Record) makeKeyring(c KeyringChange, op Operator, act Act) error {
	target, err := CheckKeyringTarget(c.Target)
	if err != nil {
		return err
	}
	ks := r.Keyrings
	switch {
	case ks.Len() >= MaxKeyrings:
		return fleet.Errorf(fleet.Exhausted, "%d keyrings, the limit", MaxKeyrings).Hinted("muster keyring list; muster keyring delete NAME")
	case ks.lived(c.Header.ID):
		return fleet.Errorf(fleet.Conflict, "another keyring has or had the ID %s", c.Header.ID)
	case ks.keyOf(c.First[0].Key) != "":
		return fleet.Errorf(fleet.Conflict, "keyring %s would have a key of keyring %s", c.Name, ks.keyOf(c.First[0].Key))
	}
	first := KeyEpoch{Number: 1, Key: c.First[0].Key, Made: act.Time, By: op.Name, Escrow: c.First[0].Escrow, Used: max(act.Time, 1)}
	if first.keepers, err = r.Charter.firstKeepers(first.Escrow, op, act.Time); err != nil {
		return err
	}
	ks.made++
	r.Keyrings = ks.with(&Keyring{
		Name: c.Name, Life: c.Header.ID, Target: target, Made: act.Time, Changed: act.Time, By: op.Name, Act: act.Index,
		Epochs: []KeyEpoch{first}, changer: op.ID(), serial: ks.made,
	})
	return nil
}

// firstKeepers returns the keys of those for whom an operator sealed a new keyring's seed. He made the seed, and is one of
// them, so that it is known whom it must be closed to when he is removed; recovery is another, so that nothing is lost.
func (c *Charter) firstKeepers(escrow []Escrow, maker Operator, now int64) ([]fleet.ID, error) {
	keepers := make([]fleet.ID, len(escrow))
	for i, e := range escrow {
		if e.Operator != "" {
			op, ok := c.OperatorByName(e.Operator)
			if !ok {
				return nil, fleet.Errorf(fleet.NotFound, "no operator %s", shorten(e.Operator)).Hinted("muster operator list")
			}
			if len(op.HPKE) != KeySize {
				return nil, fleet.Errorf(fleet.Invalid, "operator %s has no key for secrets", op.Name).
					Hinted("on that host: muster operator request; then, with the root key: muster operator approve CODE")
			}
			keepers[i] = op.ID()
		}
		if why := c.keeps(e, keepers[i], now); why != "" {
			return nil, fleet.Errorf(fleet.Conflict, "a key of %s: %s", e.reader(), why)
		}
	}
	switch {
	case !slices.Contains(keepers, maker.ID()):
		return nil, fleet.Errorf(fleet.Invalid, "a keyring's first key must be sealed for operator %s, who makes it", maker.Name)
	case len(c.recovery) > 0 && !slices.Contains(keepers, fleet.ID{}):
		return nil, fleet.Errorf(fleet.Invalid, "a keyring's first key must be sealed for recovery")
	}
	return keepers, nil
}

func (r *Record) takeKeyringEpoch(act Act) error {
	s, maker, err := openNodes(r, act, ForKeyringEpoch, func(s KeyringEpoch) Header { return s.Header })
	if err != nil {
		return err
	}
	k, err := r.asMemberOf(s.Keyring, s.Life, maker)
	if err != nil {
		return err
	}
	if err := s.Epoch.check(); err != nil {
		return err
	}
	outdated, lapsed := r.outdated(k, act.Time), k.lapsed(act.Time)
	switch {
	case s.Need < 1 || s.Need > MaxNeed:
		return fleet.Errorf(fleet.Invalid, "an epoch that %d members must hold; 1 to %d", s.Need, MaxNeed)
	case s.Number != k.Newest().Number+1:
		return fleet.Errorf(fleet.Conflict, "epoch %d of keyring %s does not follow epoch %d", s.Number, k.Name, k.Newest().Number)
	case outdated == "" && lapsed == "":
		return fleet.Errorf(fleet.Conflict, "keyring %s needs no new epoch", k.Name)
	case s.Header.Act < k.closedAct: // who left since may have been given it
		return fleet.Errorf(fleet.Conflict, "epoch %d of keyring %s was made before node %s left", s.Number, k.Name, k.closedBy)
	case r.Keyrings.keyOf(s.Epoch.Key) != "":
		return fleet.Errorf(fleet.Conflict, "epoch %d of keyring %s has a key that keyring %s has already", s.Number, k.Name, r.Keyrings.keyOf(s.Epoch.Key))
	}
	e := KeyEpoch{Number: s.Number, Key: s.Epoch.Key, Made: act.Time, ByNode: maker.ID, Need: int(s.Need), Escrow: s.Epoch.Escrow}
	if e.keepers, err = r.nextKeepers(k, e.Escrow, act.Time); err != nil {
		return err
	}
	if least := r.LeastNeed(k.Name, act.Time); int(s.Need) < least {
		return fleet.Errorf(fleet.Invalid, "an epoch of keyring %s that %d member must hold; at least %d must, as there are as many", k.Name, s.Need, least)
	}
	e.hold(maker.ID, act.Time)
	r.Keyrings = r.Keyrings.with(k.withEpoch(e, outdated == ""))
	return nil
}

// nextKeepers returns the keys of those for whom a member sealed the next epoch's seed: just those of EscrowFor.
func (r *Record) nextKeepers(k *Keyring, escrow []Escrow, now int64) ([]fleet.ID, error) {
	wanted := r.EscrowFor(k.Name, now)
	if len(escrow) != len(wanted) {
		return nil, fleet.Errorf(fleet.Conflict, "an epoch of keyring %s for %d readers beside its members, where %d keep it", k.Name, len(escrow), len(wanted))
	}
	keepers := make([]fleet.ID, len(escrow))
	for i, e := range escrow {
		at := slices.IndexFunc(wanted, func(w Keeper) bool { return w.Operator == e.Operator })
		if at < 0 || fleet.Sum(wanted[at].Key) != e.Key {
			return nil, fleet.Errorf(fleet.Conflict, "an epoch of keyring %s is sealed for %s, who does not keep it with that key", k.Name, e.reader())
		}
		if e.Operator != "" {
			op, _ := r.Charter.OperatorByName(e.Operator)
			keepers[i] = op.ID()
		}
	}
	return keepers, nil
}

func (r *Record) takeKeyringHolding(act Act) error {
	s, holder, err := openNodes(r, act, ForKeyringHolding, func(s KeyringHolding) Header { return s.Header })
	if err != nil {
		return err
	}
	k, err := r.asMemberOf(s.Keyring, s.Life, holder)
	if err != nil {
		return err
	}
	e := k.Newest()
	why := r.closed(k, e, act.Time)
	switch {
	case s.Number != e.Number:
		return fleet.Errorf(fleet.Conflict, "epoch %d of keyring %s is not the newest, which is %d", s.Number, k.Name, e.Number)
	case e.Used != 0:
		return fleet.Errorf(fleet.Conflict, "epoch %d of keyring %s is used already", e.Number, k.Name)
	case slices.Contains(e.Holders, holder.ID):
		return fleet.Errorf(fleet.Conflict, "node %s holds epoch %d of keyring %s already", holder.Name, e.Number, k.Name)
	case why != "":
		return fleet.Errorf(fleet.Conflict, "epoch %d of keyring %s will never be used: %s", e.Number, k.Name, why)
	}
	r.Keyrings = r.Keyrings.with(k.withHolder(holder.ID, act.Time))
	return nil
}

// openNodes verifies a statement that a node signs, at the moment of its acceptance: the node is enrolled.
func openNodes[T any](r *Record, act Act, purpose Purpose, header func(T) Header) (T, *Node, error) {
	var e Envelope
	var body T
	if err := wire.Unmarshal(act.Data, &e); err != nil {
		return body, nil, err
	}
	n, err := r.Roster.Enrolled(e.Key)
	if err != nil {
		return body, nil, err
	}
	if body, err = Open[T](e, purpose, r.Charter.fleetID, n.Key); err != nil {
		return body, n, err
	}
	if err := r.checkSeen(header(body)); err != nil {
		return body, n, err
	}
	return body, n, header(body).CheckTime(time.UnixMilli(act.Time))
}

// asMemberOf returns the keyring of a name and life, of which a node is a member.
func (r *Record) asMemberOf(name string, life fleet.UUID, n *Node) (*Keyring, error) {
	k, err := r.keyring(name)
	switch {
	case err != nil:
		return nil, err
	case k.Life != life:
		return nil, fleet.Errorf(fleet.Conflict, "keyring %s was deleted and made again", name)
	case !k.has(n.asMember()):
		return nil, fleet.Errorf(fleet.Denied, "node %s is not in keyring %s", n.Name, name)
	}
	return k, nil
}
