package auth

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
)

// escrowFor seals a seed for keepers; the boxes are none.
func escrowFor(keepers ...Keeper) []Escrow {
	var out []Escrow
	for _, k := range keepers {
		out = append(out, Escrow{Operator: k.Operator, Key: fleet.Sum(k.Key), Box: []byte("box")})
	}
	return out
}

func keeper(op string) Keeper { return Keeper{op, hpkeKey(op)} }

// firstEpoch is what operators bring with a new keyring.
func (w *town) firstEpoch(keepers ...string) EpochKey {
	w.count++
	k := EpochKey{Key: hpkeKey(fmt.Sprint("epoch ", w.count))}
	for _, op := range keepers {
		k.Escrow = append(k.Escrow, escrowFor(keeper(op))...)
	}
	if recovery := w.record.Charter.recovery; len(recovery) > 0 {
		k.Escrow = append(k.Escrow, escrowFor(Keeper{Key: recovery})...)
	}
	return k
}

func (w *town) keyringChange(op string, change func(*KeyringChange)) []byte {
	c := KeyringChange{Header: w.header(), Name: "web", Target: "tag.role=web"}
	change(&c)
	return wire.Marshal(key(op).Sign(ForKeyring, w.fleetID(), c))
}

// byID writes a list of names as a keyring needs it; other targets stay.
func byID(target string) string {
	if !strings.HasPrefix(target, "n") || strings.HasPrefix(target, "not ") || strings.HasPrefix(target, "tag.none=x") {
		return target
	}
	var ids []string
	for name := range strings.SplitSeq(target, ",") {
		ids = append(ids, key(name).ID().Text())
	}
	slices.Sort(ids)
	parsed, err := fleet.ParseTarget("id in (" + strings.Join(ids, ", ") + ")")
	if err != nil {
		panic(err)
	}
	return parsed.String()
}

func (w *town) newKeyring(op, name, target string) []byte {
	target = byID(target)
	return w.keyringChange(op, func(c *KeyringChange) { c.Name, c.Target, c.First = name, target, []EpochKey{w.firstEpoch(op)} })
}

func (w *town) retarget(op, name, target string, rotate bool) []byte {
	target = byID(target)
	return w.keyringChange(op, func(c *KeyringChange) { c.Name, c.Target, c.Rotate = name, target, rotate })
}

func (w *town) epoch(maker, name string, need uint8, change func(*KeyringEpoch)) []byte {
	w.count++
	s := KeyringEpoch{
		Header: w.header(), Keyring: name, Need: need,
		Epoch: EpochKey{Key: hpkeKey(fmt.Sprint("epoch ", w.count)), Escrow: escrowFor(w.record.EscrowFor(name, w.now+1000)...)},
	}
	if k, ok := w.record.Keyrings.Get(name); ok {
		s.Life, s.Number = k.Life, k.Newest().Number+1
	}
	if change != nil {
		change(&s)
	}
	return wire.Marshal(key(maker).Sign(ForKeyringEpoch, w.fleetID(), s))
}

func (w *town) holding(holder, name string, change func(*KeyringHolding)) []byte {
	s := KeyringHolding{Header: w.header(), Keyring: name}
	if k, ok := w.record.Keyrings.Get(name); ok {
		s.Life, s.Number = k.Life, k.Newest().Number
	}
	if change != nil {
		change(&s)
	}
	return wire.Marshal(key(holder).Sign(ForKeyringHolding, w.fleetID(), s))
}

func (w *town) keyring(name string) *Keyring {
	w.t.Helper()
	k, ok := w.record.Keyrings.Get(name)
	if !ok {
		w.t.Fatalf("no keyring %s", name)
	}
	return k
}

// members lists a keyring's members by name, after checking that all ways to ask agree.
func (w *town) members(name string) string {
	w.t.Helper()
	var out []string
	for n := range w.record.KeyringMembers(name) {
		out = append(out, n.Name)
	}
	for n := range w.record.Roster.All() {
		in := slices.Contains(out, n.Name)
		of := slices.ContainsFunc(w.record.KeyringsOf(n.ID), func(k *Keyring) bool { return k.Name == name })
		if w.record.InKeyring(name, n.ID) != in || of != in {
			w.t.Fatalf("node %s is in keyring %s or not", n.Name, name)
		}
	}
	return strings.Join(out, " ")
}

// formers lists who could read, as name:last.
func (w *town) formers(name string) string {
	var out []string
	for _, f := range w.record.Could(name) {
		out = append(out, fmt.Sprintf("%s:%d", f.Name, f.Last))
	}
	return strings.Join(out, " ")
}

// seals checks which epoch new secrets are sealed to; 0: none, with the reason in says.
func (w *town) seals(name string, number uint32, says string) {
	w.t.Helper()
	_, e, err := w.record.Sealable(name)
	why, due := w.record.KeyringDue(name, w.now)
	switch {
	case number == 0 && (err == nil || fleet.KindOf(err) != fleet.Unavailable || !strings.Contains(err.Error(), says)):
		w.t.Fatalf("keyring %s can be sealed to, or not because %v; it should not because %q", name, err, says)
	case number == 0 && w.keyring(name).Newest().Used != 0 && (!due || !strings.Contains(err.Error(), why)):
		w.t.Fatalf("keyring %s is closed (%v), and due is %v %q", name, err, due, why)
	case number != 0 && (err != nil || e.Number != number):
		w.t.Fatalf("keyring %s is sealed to %+v, %v; not to epoch %d", name, e, err, number)
	}
}

// recoveryTown is a town with a recovery recipient, n1 to n3 of role web, and operator bob, who may do everything, too.
func recoveryTown(t failer) *town {
	w := newTown(t)
	w.charter(CharterPutRoots, PutRoots{Roots: publics(w.roots...), Threshold: 1, Recovery: hpkeKey("recovery")})
	w.charter(CharterPutOperator, operator("bob", RootTeam))
	w.enrol("n2", "n3")
	return w
}

func web() map[string]string { return map[string]string{"role": "web"} }
func db() map[string]string  { return map[string]string{"role": "db"} }

func TestKeyringIsMadeAndUsed(t *testing.T) {
	w := recoveryTown(t)
	before := w.record
	w.must(ActKeyring, w.newKeyring("alice", "web", "tag.role=web"))
	k := w.keyring("web")
	if k.By != "alice" || k.Made != w.now || k.Changed != w.now || k.Act != w.record.Act || k.Target.String() != "tag.role=web" || k.Life == (fleet.UUID{}) {
		t.Errorf("%+v", k)
	}
	if e := k.Newest(); e != k.Current() || e.Number != 1 || e.Used != w.now || e.Made != w.now || e.By != "alice" || len(e.Escrow) != 2 || e.KeyID() != fleet.Sum(e.Key) {
		t.Errorf("%+v", e)
	}
	w.seals("web", 1, "")
	if _, due := w.record.KeyringDue("web", w.now+hour); due {
		t.Error("a new keyring is due")
	}
	if got := w.members("web"); got != "n1 n2 n3" {
		t.Errorf("members %s", got)
	}
	if before.Keyrings.Len() != 0 || w.record.Keyrings.Len() != 1 || len(w.record.Keyrings.All()) != 1 {
		t.Error("an old record changed, or the new one did not")
	}
	_, _, err := w.record.Sealable("db")
	refused(t, err, fleet.NotFound, "no keyring db")
	if why, due := w.record.KeyringDue("db", w.now); due || w.record.Could("db") != nil || w.record.EscrowFor("db", w.now) != nil || w.members("db") != "" {
		t.Errorf("a keyring that is not there is due: %s", why)
	}
	if _, ok := k.Epoch(1); !ok {
		t.Error("no epoch 1")
	}
	if _, ok := k.Epoch(2); ok {
		t.Error("an epoch 2")
	}
}

func TestKeyringRefusals(t *testing.T) {
	w := recoveryTown(t)
	w.charter(CharterPutOperator, operator("carol", "web"))
	w.charter(CharterPutOperator, Operator{Name: "old", Key: key("old").Public(), HPKE: []byte("short"), Teams: []string{RootTeam}})
	with := func(change func(*KeyringChange)) []byte {
		return w.keyringChange("alice", func(c *KeyringChange) {
			c.First = []EpochKey{w.firstEpoch("alice")}
			change(c)
		})
	}
	for name, c := range map[string]struct {
		data []byte
		kind fleet.Kind
		says string
	}{
		"not permitted":    {w.newKeyring("carol", "web", "*"), fleet.Denied, "may not keyring.put on web"},
		"no operator":      {w.newKeyring("n1", "web", "*"), fleet.Denied, "no operator"},
		"another purpose":  {w.group("alice", "web", "*"), fleet.Denied, "does not hold"},
		"no name":          {with(func(c *KeyringChange) { c.Name = "We b" }), fleet.Invalid, "not a name"},
		"no target":        {with(func(c *KeyringChange) { c.Target = "((" }), fleet.Invalid, ""},
		"not canonical":    {with(func(c *KeyringChange) { c.Target = "tag.role = web" }), fleet.Invalid, "canonical"},
		"a group":          {with(func(c *KeyringChange) { c.Target = "web01 or @canary" }), fleet.Invalid, "uses group @canary"},
		"facts":            {with(func(c *KeyringChange) { c.Target = "tag.role=web and os.name=debian" }), fleet.Invalid, "not what nodes say"},
		"roles":            {with(func(c *KeyringChange) { c.Target = "not role=voter" }), fleet.Invalid, "roles of servers"},
		"no first epoch":   {with(func(c *KeyringChange) { c.First = nil }), fleet.NotFound, "no keyring web"},
		"two first epochs": {with(func(c *KeyringChange) { c.First = append(c.First, c.First[0]) }), fleet.Invalid, "not with 2"},
		"made and rotated": {with(func(c *KeyringChange) { c.Rotate = true }), fleet.Invalid, "makes it and"},
		"made and deleted": {with(func(c *KeyringChange) { c.Target = "" }), fleet.Invalid, "makes it and"},
		"deleted, rotated": {with(func(c *KeyringChange) { c.Target, c.First, c.Rotate = "", nil, true }), fleet.Invalid, "deletes and rotates"},
		"deletes nothing":  {with(func(c *KeyringChange) { c.Target, c.First = "", nil }), fleet.NotFound, "no keyring web"},
		"no ID":            {with(func(c *KeyringChange) { c.Header.ID = fleet.UUID{} }), fleet.Invalid, "without an ID"},
		"from the future":  {with(func(c *KeyringChange) { c.Header.Act = w.record.Act + 1 }), fleet.Conflict, "signed at act"},
		"expired":          {with(func(c *KeyringChange) { c.Header.Expires = w.now }), fleet.Expired, "expired"},
		"short key":        {with(func(c *KeyringChange) { c.First[0].Key = c.First[0].Key[1:] }), fleet.Invalid, "has 1215 bytes"},
		"no box":           {with(func(c *KeyringChange) { c.First[0].Escrow[0].Box = nil }), fleet.Invalid, "of 0 bytes"},
		"huge box":         {with(func(c *KeyringChange) { c.First[0].Escrow[0].Box = make([]byte, MaxEscrowBox+1) }), fleet.Invalid, "of 1281 bytes"},
		"many boxes": {with(func(c *KeyringChange) {
			c.First[0].Escrow = append(c.First[0].Escrow, make([]Escrow, MaxEscrow)...)
		}), fleet.Exhausted, "for 10 readers"},
		"twice for one": {with(func(c *KeyringChange) { c.First[0].Escrow = append(c.First[0].Escrow, c.First[0].Escrow[0]) }), fleet.Invalid, "twice for operator alice"},
		"no recovery":   {with(func(c *KeyringChange) { c.First[0].Escrow = c.First[0].Escrow[:1] }), fleet.Invalid, "must be sealed for recovery"},
		"not its maker": {with(func(c *KeyringChange) { c.First[0].Escrow[0] = escrowFor(keeper("bob"))[0] }), fleet.Invalid, "for operator alice, who makes it"},
		"nobody":        {with(func(c *KeyringChange) { c.First[0].Escrow[0].Operator = "nobody" }), fleet.NotFound, "no operator nobody"},
		"no key for secrets": {with(func(c *KeyringChange) {
			c.First[0].Escrow = append(c.First[0].Escrow, Escrow{"old", fleet.Sum([]byte("short")), []byte("box")})
		}), fleet.Invalid, "old has no key for secrets"},
		"another's key":    {with(func(c *KeyringChange) { c.First[0].Escrow[0].Key = fleet.Sum(hpkeKey("bob")) }), fleet.Conflict, "another key"},
		"another recovery": {with(func(c *KeyringChange) { c.First[0].Escrow[1].Key = fleet.Sum(hpkeKey("x")) }), fleet.Conflict, "recovery key"},
		"nothing":          {nil, fleet.Invalid, "malformed"},
	} {
		err := w.apply(ActKeyring, c.data)
		if err == nil || fleet.KindOf(err) != c.kind || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %s: %v", name, fleet.KindOf(err), err)
		}
	}
	w.must(ActKeyring, w.newKeyring("alice", "web", "tag.role=web"))
	refused(t, w.apply(ActKeyring, w.newKeyring("alice", "web", "*")), fleet.Conflict, "there already")
	refused(t, w.apply(ActKeyring, with(func(c *KeyringChange) { c.Name, c.Header.ID = "other", w.keyring("web").Life })), fleet.Conflict, "has or had the ID")
	refused(t, w.apply(ActKeyring, with(func(c *KeyringChange) { c.Name, c.First[0].Key = "thief", w.keyring("web").Epochs[0].Key })), fleet.Conflict, "a key of keyring web")
}

func TestKeyringTargets(t *testing.T) {
	for text, ok := range map[string]bool{
		"*": true, "web01": false, "web[01-20]": false, "name=web01": false, "not web01": false, "id=abcdefgh": false, "id=" + strings.Repeat("a", 26): true, "tag.role=web": true, "not tag.role=web": true, "tag.role in (voter, web)": true, "tag.kind=role": true,
		`tag.a="x role=y"`: true, `tag.a="\" role=\\"`: true, "tag.a in (role, web)": true, "tag.a in (web, role)": true, "tag.role!=x": true,
		`tag.a="\\" and role=voter`: false, `tag.a="\"" and role=voter`: false,
		"role=voter": false, "role!=voter": false, "role in (voter, leader)": false, "role not in (voter, leader)": false, "not (web01 or role=voter)": false,
		"(role=voter or web01) and db01": false, "web01 and (role in (voter, leader) or db01)": false,
		"arch=amd64": false, "web01 and not version=1": false, "@web": false, "": false,
	} {
		target, err := CheckKeyringTarget(text)
		if (err == nil) != ok || ok && target.String() != text {
			t.Errorf("%s: %v", text, err)
		}
		if err != nil && strings.Contains(err.Error(), "canonical") {
			t.Errorf("%s is not canonical, so it tests nothing: %v", text, err)
		}
	}
}

// Who may read by a target is what it says of names and tags, for every act that touches nodes.
func TestKeyringFollowsNodes(t *testing.T) {
	w := recoveryTown(t)
	w.must(ActKeyring, w.newKeyring("alice", "web", "tag.role=web"))
	w.must(ActKeyring, w.newKeyring("alice", "named", "n2,n4"))
	w.must(ActKeyring, w.newKeyring("alice", "all", "*"))

	w.enrol("n4") // comes in by its token's tags
	if got := w.members("web") + "; " + w.members("named"); got != "n1 n2 n3 n4; n2 n4" {
		t.Errorf("members %s", got)
	}
	w.seals("web", 1, "")
	w.must(ActNodeTags, w.tags("alice", "n3", 1, false, map[string]string{"role": "web", "rack": "7"})) // stays
	w.seals("web", 1, "")

	w.must(ActNodeTags, w.tags("alice", "n3", 2, false, db()))
	w.seals("web", 0, "node n3 left it")
	w.seals("named", 1, "")
	w.seals("all", 1, "")
	if got := w.members("web") + "; " + w.formers("web"); got != "n1 n2 n4; n3:1" {
		t.Errorf("members and formers %s", got)
	}
	w.must(ActNodeTags, w.tags("alice", "n3", 3, false, web())) // comes back: it may read on, but it had been away
	w.seals("web", 0, "node n3 left it")
	if got := w.members("web") + "; " + w.formers("web"); got != "n1 n2 n3 n4; " {
		t.Errorf("members and formers %s", got)
	}
	w.next("n3", "n1")
	w.seals("web", 2, "")

	w.must(ActNodeRemove, w.removal("alice", "n2"))
	for _, name := range []string{"web", "named", "all"} {
		w.seals(name, 0, "node n2 left it")
	}
	if got := w.formers("web") + "; " + w.formers("named") + "; " + w.formers("all"); got != "n2:2; n2:1; n2:1" {
		t.Errorf("formers %s", got)
	}
	if f := w.record.Could("web"); f[0].Node != key("n2").ID() || f[0].Left != w.now {
		t.Errorf("%+v", f)
	}
	w.must(ActKeyringEpoch, w.epoch("n4", "named", 1, nil))
	w.seals("named", 2, "")
	w.seals("all", 0, "node n2 left it")
}

// A node that replaces another has its name and tags, and is a member; the one that went is none.
func TestKeyringFollowsReplacement(t *testing.T) {
	w := recoveryTown(t)
	w.must(ActKeyring, w.newKeyring("alice", "web", "tag.role=web"))
	replace := w.token("replace", func(tk *Token) { tk.Replace, tk.Uses, tk.Tags = "n2", 1, nil })
	w.must(ActEnrol, w.enrolment("n2b", "n2", replace).Encode())
	if f := w.record.Could("web"); len(f) != 1 || f[0].Node != key("n2").ID() || f[0].Last != 1 {
		t.Errorf("formers %+v", f)
	}
	w.seals("web", 0, "node n2 left it")
	refused(t, w.apply(ActKeyringEpoch, w.epoch("n2", "web", 1, nil)), fleet.Denied, "was removed")
	w.next("n2b", "n1")
	w.seals("web", 2, "")
}

func TestKeyringRetarget(t *testing.T) {
	w := recoveryTown(t)
	w.must(ActKeyring, w.newKeyring("alice", "web", "n1"))
	w.must(ActKeyring, w.retarget("bob", "web", "n1,n2", false)) // nobody leaves
	w.seals("web", 1, "")
	if k := w.keyring("web"); k.By != "bob" || k.Changed != w.now || k.Act != w.record.Act || k.Made == w.now {
		t.Errorf("%+v", k)
	}
	w.must(ActKeyring, w.retarget("alice", "web", "n2,n3", false))
	w.seals("web", 0, "node n1 left it")
	if got := w.members("web") + "; " + w.formers("web"); got != "n2 n3; n1:1" {
		t.Errorf("members and formers %s", got)
	}
	w.must(ActKeyring, w.retarget("alice", "web", "n1,n3", false)) // n1 comes back, n2 goes
	if got := w.members("web") + "; " + w.formers("web"); got != "n1 n3; n2:1" {
		t.Errorf("members and formers %s", got)
	}
	w.next("n1", "n3")
	w.must(ActKeyring, w.retarget("alice", "web", "tag.none=x", false))
	if got := w.members("web") + "; " + w.formers("web"); got != "; n1:2 n2:1 n3:2" {
		t.Errorf("members and formers %s", got)
	}
	w.must(ActKeyring, w.retarget("alice", "web", "n2", false)) // who comes back after all had left reads on
	w.must(ActKeyringEpoch, w.epoch("n2", "web", 1, nil))
	w.seals("web", 3, "")
}

func TestKeyringRotation(t *testing.T) {
	w := recoveryTown(t)
	w.must(ActKeyring, w.newKeyring("alice", "web", "tag.role=web"))
	refused(t, w.apply(ActKeyringEpoch, w.epoch("n1", "web", 1, nil)), fleet.Conflict, "needs no new epoch")
	w.must(ActKeyring, w.retarget("alice", "web", "tag.role=web", true))
	w.seals("web", 1, "") // nobody left: what is written meanwhile is as safe as before
	if why, due := w.record.KeyringDue("web", w.now); !due || why != "an operator asked for it" {
		t.Errorf("%v %s", due, why)
	}
	w.must(ActKeyringEpoch, w.epoch("n1", "web", 3, nil))
	if e := w.keyring("web").Newest(); e.Used != 0 || e.Number != 2 || e.ByNode != key("n1").ID() || e.Need != 3 || len(e.Holders) != 1 || e.Made != w.now {
		t.Errorf("%+v", e)
	}
	w.seals("web", 1, "")
	refused(t, w.apply(ActKeyringHolding, w.holding("n1", "web", nil)), fleet.Conflict, "holds epoch 2 of keyring web already")
	held := w.holding("n2", "web", nil)
	w.must(ActKeyringHolding, held)
	w.seals("web", 1, "")
	refused(t, w.apply(ActKeyringHolding, held), fleet.Conflict, "already")
	w.must(ActKeyringHolding, w.holding("n3", "web", nil))
	w.seals("web", 2, "")
	if e := w.keyring("web").Current(); e.Used != w.now || len(e.Holders) != 3 {
		t.Errorf("%+v", e)
	}
	refused(t, w.apply(ActKeyringHolding, w.holding("n3", "web", nil)), fleet.Conflict, "is used already")

	// One more rotation, asked for while an epoch waits: that one does not count.
	w.must(ActKeyring, w.retarget("alice", "web", "tag.role=web", true))
	w.must(ActKeyringEpoch, w.epoch("n1", "web", 2, nil))
	w.must(ActKeyring, w.retarget("alice", "web", "tag.role=web", true))
	w.next("n2", "n1")
	w.seals("web", 4, "")
	if k := w.keyring("web"); len(k.Epochs) != 3 {
		t.Errorf("an epoch that was given up is kept: %+v", k.Epochs)
	}
	if _, ok := w.keyring("web").Epoch(3); ok {
		t.Error("epoch 3 was given up")
	}
	if e, ok := w.keyring("web").Epoch(4); !ok || e.Number != 4 {
		t.Error("no epoch 4")
	}
}

func TestEpochRefusals(t *testing.T) {
	w := recoveryTown(t)
	w.must(ActKeyring, w.newKeyring("alice", "web", "n1,n2"))
	w.must(ActKeyring, w.retarget("alice", "web", "n1,n2", true))
	w.must(ActKeyring, w.newKeyring("alice", "high", "n3"))
	first := w.keyring("web").Epochs[0].Key
	refused(t, w.apply(ActKeyringHolding, w.holding("n2", "web", nil)), fleet.Conflict, "is used already")
	for name, c := range map[string]struct {
		data []byte
		kind fleet.Kind
		says string
	}{
		"no member":        {w.epoch("n3", "web", 1, nil), fleet.Denied, "node n3 is not in keyring web"},
		"an operator":      {w.epoch("alice", "web", 1, nil), fleet.Denied, "not enrolled"},
		"nobody":           {w.epoch("n9", "web", 1, nil), fleet.Denied, "not enrolled"},
		"no keyring":       {w.epoch("n1", "db", 1, nil), fleet.NotFound, "no keyring db"},
		"a holding":        {w.holding("n1", "web", nil), fleet.Denied, "does not hold"},
		"another life":     {w.epoch("n1", "web", 1, func(s *KeyringEpoch) { s.Life = uuid("x") }), fleet.Conflict, "made again"},
		"the same number":  {w.epoch("n1", "web", 1, func(s *KeyringEpoch) { s.Number-- }), fleet.Conflict, "does not follow epoch 1"},
		"the number after": {w.epoch("n1", "web", 1, func(s *KeyringEpoch) { s.Number++ }), fleet.Conflict, "does not follow epoch 1"},
		"no need":          {w.epoch("n1", "web", 0, nil), fleet.Invalid, "0 members"},
		"one alone":        {w.epoch("n1", "web", 1, nil), fleet.Invalid, "at least 2 must"},
		"much need":        {w.epoch("n1", "web", 4, nil), fleet.Invalid, "4 members"},
		"the old key":      {w.epoch("n1", "web", 1, func(s *KeyringEpoch) { s.Epoch.Key = first }), fleet.Conflict, "a key that keyring web has already"},
		"another's key":    {w.epoch("n1", "web", 1, func(s *KeyringEpoch) { s.Epoch.Key = w.keyring("high").Epochs[0].Key }), fleet.Conflict, "a key that keyring high has already"},
		"a short key":      {w.epoch("n1", "web", 1, func(s *KeyringEpoch) { s.Epoch.Key = first[1:] }), fleet.Invalid, "1215 bytes"},
		"no escrow":        {w.epoch("n1", "web", 1, func(s *KeyringEpoch) { s.Epoch.Escrow = nil }), fleet.Conflict, "for 0 readers"},
		"for bob":          {w.epoch("n1", "web", 1, func(s *KeyringEpoch) { s.Epoch.Escrow[1] = escrowFor(keeper("bob"))[0] }), fleet.Conflict, "operator bob, who does not keep it"},
		"for bob, too":     {w.epoch("n1", "web", 1, func(s *KeyringEpoch) { s.Epoch.Escrow = append(s.Epoch.Escrow, escrowFor(keeper("bob"))...) }), fleet.Conflict, "for 3 readers"},
		"with bob's key":   {w.epoch("n1", "web", 1, func(s *KeyringEpoch) { s.Epoch.Escrow[1].Key = fleet.Sum(hpkeKey("bob")) }), fleet.Conflict, "operator alice, who does not keep it with that key"},
		"from the future":  {w.epoch("n1", "web", 1, func(s *KeyringEpoch) { s.Header.Act = w.record.Act + 1 }), fleet.Conflict, "signed at act"},
		"an odd clock":     {w.epoch("n1", "web", 1, func(s *KeyringEpoch) { s.Header.Issued = w.now + hour }), fleet.Denied, "in the future"},
		"nothing":          {nil, fleet.Invalid, "malformed"},
	} {
		err := w.apply(ActKeyringEpoch, c.data)
		if err == nil || fleet.KindOf(err) != c.kind || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %s: %v", name, fleet.KindOf(err), err)
		}
	}
	w.must(ActKeyringEpoch, w.epoch("n1", "web", 2, nil))
	refused(t, w.apply(ActKeyringHolding, w.holding("n3", "web", nil)), fleet.Denied, "not in keyring")
	refused(t, w.apply(ActKeyringHolding, w.holding("n2", "db", nil)), fleet.NotFound, "no keyring")
	refused(t, w.apply(ActKeyringHolding, w.holding("n2", "web", func(s *KeyringHolding) { s.Number-- })), fleet.Conflict, "not the newest")
	refused(t, w.apply(ActKeyringHolding, w.holding("n2", "web", func(s *KeyringHolding) { s.Life = uuid("x") })), fleet.Conflict, "made again")
	refused(t, w.apply(ActKeyringHolding, w.removal("n2", "n1")), fleet.Denied, "does not hold")
	refused(t, w.apply(ActKeyringHolding, nil), fleet.Invalid, "malformed")
}

// An epoch that waits may be known to who leaves meanwhile: it is never used.
func TestPendingEpochClosesWithItsMembers(t *testing.T) {
	w := recoveryTown(t)
	w.must(ActKeyring, w.newKeyring("alice", "web", "tag.role=web"))
	w.must(ActKeyring, w.retarget("alice", "web", "tag.role=web", true))
	w.must(ActKeyringEpoch, w.epoch("n1", "web", 2, nil))
	early := w.epoch("n2", "web", 1, func(s *KeyringEpoch) { s.Number = 3 }) // before n3 goes, and perhaps with it
	w.must(ActNodeRemove, w.removal("alice", "n3"))
	w.seals("web", 0, "node n3 left it")
	if got := w.formers("web"); got != "n3:2" {
		t.Errorf("formers %s", got)
	}
	refused(t, w.apply(ActKeyringHolding, w.holding("n2", "web", nil)), fleet.Conflict, "will never be used: node n3 left it")
	refused(t, w.apply(ActKeyringEpoch, early), fleet.Conflict, "was made before node n3 left")
	w.next("n2", "n1")
	w.seals("web", 3, "")
}

// next has a member make the keyring's next epoch, and another hold it.
func (w *town) next(maker, holder string) {
	w.must(ActKeyringEpoch, w.epoch(maker, "web", 2, nil))
	w.must(ActKeyringHolding, w.holding(holder, "web", nil))
}

// An epoch that nobody comes to hold gives way, later each time.
func TestEpochPatience(t *testing.T) {
	w := recoveryTown(t)
	w.must(ActKeyring, w.newKeyring("alice", "web", "tag.role=web"))
	w.must(ActKeyring, w.retarget("alice", "web", "tag.role=web", true))
	w.must(ActKeyringEpoch, w.epoch("n1", "web", 2, nil))
	patience := int64(EpochPatience)
	for i := range 20 {
		made := w.keyring("web").Newest().Made
		w.now = made + patience - 1001 // apply adds a second
		if _, due := w.record.KeyringDue("web", made+patience-1); due {
			t.Fatalf("try %d: due before %d ms", i, patience)
		}
		refused(t, w.apply(ActKeyringEpoch, w.epoch("n2", "web", 2, nil)), fleet.Conflict, "needs no new epoch")
		w.now = made + patience - 1000
		if why, due := w.record.KeyringDue("web", w.now+1000); !due || why != "too few members came to hold the newest key" {
			t.Fatalf("try %d: not due after %d ms: %q", i, patience, why)
		}
		w.must(ActKeyringEpoch, w.epoch("n2", "web", 2, nil))
		if k := w.keyring("web"); len(k.Epochs) != 2 || k.Newest().Number != uint32(i+3) {
			t.Fatalf("try %d: %+v", i, k.Epochs)
		}
		patience = min(patience*2, EpochPatience<<maxDoublings)
	}
	w.must(ActKeyringHolding, w.holding("n1", "web", nil)) // late is not too late
	w.seals("web", 22, "")
	w.must(ActNodeRemove, w.removal("alice", "n3"))
	w.must(ActKeyringEpoch, w.epoch("n2", "web", 2, nil))
	if _, due := w.record.KeyringDue("web", w.now+EpochPatience); !due {
		t.Error("patience does not begin anew")
	}
}

// Whoever keeps a seed and is not to read any more closes the epoch, as a node that leaves does.
func TestKeepersGo(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*town)
		says   string
		keep   string // who keeps the next one
	}{
		"removed":  {func(w *town) { w.charter(CharterDeleteOperator, DeleteOperator{Name: "bob", Key: key("bob").ID()}) }, "operator bob, who could read it, was removed", "recovery alice"},
		"new key":  {func(w *town) { w.charter(CharterPutOperator, rekeyed("bob")) }, "operator bob has another key", "recovery alice bob"},
		"recovery": {func(w *town) { w.charter(CharterPutRoots, PutRoots{publics(w.roots...), 1, hpkeKey("new")}) }, "recovery key was replaced", "recovery alice bob"},
		"expired": {func(w *town) {
			w.charter(CharterPutOperator, expiring("bob", w.now+5000))
			w.now += 10_000
			w.enrol("n4")
		}, "operator bob, who could read it, expired", "recovery alice"},
		"came again": {func(w *town) {
			w.charter(CharterDeleteOperator, DeleteOperator{Name: "bob", Key: key("bob").ID()})
			w.charter(CharterPutOperator, again("bob"))
		}, "was removed", "recovery alice"},
	} {
		t.Run(name, func(t *testing.T) {
			w := recoveryTown(t)
			w.must(ActKeyring, w.keyringChange("alice", func(c *KeyringChange) { c.First = []EpochKey{w.firstEpoch("alice", "bob")} }))
			w.seals("web", 1, "")
			c.change(w)
			w.seals("web", 0, c.says)
			w.next("n1", "n2")
			w.seals("web", 2, "")
			var keep []string
			for _, e := range w.keyring("web").Newest().Escrow {
				keep = append(keep, map[bool]string{true: "recovery", false: e.Operator}[e.Operator == ""])
			}
			if got := strings.Join(keep, " "); got != c.keep {
				t.Errorf("kept by %s, not by %s", got, c.keep)
			}
		})
	}
}

func rekeyed(name string) Operator {
	op := operator(name, RootTeam)
	op.HPKE = hpkeKey(name + " new")
	return op
}

func expiring(name string, at int64) Operator {
	op := operator(name, RootTeam)
	op.Expires = at
	return op
}

func again(name string) Operator {
	op := operator(name, RootTeam)
	op.Key = key(name + " again").Public()
	return op
}

// A pending epoch whose keeper goes is not used either.
func TestKeeperOfAPendingEpochGoes(t *testing.T) {
	w := recoveryTown(t)
	w.must(ActKeyring, w.newKeyring("bob", "web", "tag.role=web"))
	w.must(ActKeyring, w.retarget("alice", "web", "tag.role=web", true))
	w.must(ActKeyringEpoch, w.epoch("n1", "web", 2, nil))
	w.charter(CharterDeleteOperator, DeleteOperator{Name: "bob", Key: key("bob").ID()})
	refused(t, w.apply(ActKeyringHolding, w.holding("n2", "web", nil)), fleet.Conflict, "never be used: operator bob")
	w.next("n1", "n2")
	w.seals("web", 3, "")
}

// Who changes a keyring keeps its next epoch, as far as there is room; recovery has room always.
func TestEscrowFor(t *testing.T) {
	w := newTown(t) // no recovery yet
	keepers := []string{"alice"}
	for i := range MaxEscrow - 1 {
		name := fmt.Sprint("op", i)
		w.charter(CharterPutOperator, operator(name, RootTeam))
		keepers = append(keepers, name)
	}
	w.charter(CharterPutOperator, operator("bob", RootTeam))
	w.charter(CharterPutOperator, Operator{Name: "old", Key: key("old").Public(), HPKE: []byte("short"), Teams: []string{RootTeam}})
	w.must(ActKeyring, w.keyringChange("alice", func(c *KeyringChange) { c.First = []EpochKey{w.firstEpoch(keepers...)} }))
	names := func() string {
		var out []string
		for _, k := range w.record.EscrowFor("web", w.now) {
			if len(k.Key) != KeySize {
				t.Errorf("a key of %d bytes", len(k.Key))
			}
			out = append(out, "["+k.Operator+"]")
		}
		return strings.Join(out, "")
	}
	if got := names(); got != "[alice][op0][op1][op2][op3][op4][op5][op6]" {
		t.Error(got)
	}
	w.must(ActKeyring, w.retarget("bob", "web", "tag.role=web", false))
	if got := names(); got != "[bob][alice][op0][op1][op2][op3][op4][op5]" {
		t.Error(got)
	}
	w.charter(CharterPutRoots, PutRoots{Roots: publics(w.roots...), Threshold: 1, Recovery: hpkeKey("recovery")})
	if why, due := w.record.KeyringDue("web", w.now); !due || why != "the fleet has a recovery key now" {
		t.Errorf("%v %q", due, why)
	}
	w.seals("web", 1, "")
	if got := names(); got != "[][bob][alice][op0][op1][op2][op3][op4]" {
		t.Error(got)
	}
	w.must(ActKeyringEpoch, w.epoch("n1", "web", 1, nil))
	w.must(ActKeyring, w.retarget("old", "web", "tag.role=web", true)) // has no key that could keep a seed
	if got := names(); got != "[][bob][alice][op0][op1][op2][op3][op4]" {
		t.Error(got)
	}
}

// What operators and members signed once cannot be put again, however long ago it was.
func TestOldKeyringsDoNotComeBack(t *testing.T) {
	w := recoveryTown(t)
	made := w.newKeyring("alice", "web", "tag.role=web")
	w.must(ActKeyring, made)
	refused(t, w.apply(ActKeyring, made), fleet.Conflict, "was changed at act")
	rotate, stale := w.retarget("alice", "web", "tag.role=web", true), w.retarget("bob", "web", "*", false)
	w.must(ActKeyring, rotate)
	refused(t, w.apply(ActKeyring, rotate), fleet.Conflict, "was changed at act")
	refused(t, w.apply(ActKeyring, stale), fleet.Conflict, "was changed at act")
	epoch := w.epoch("n1", "web", 2, nil)
	w.must(ActKeyringEpoch, epoch)
	refused(t, w.apply(ActKeyringEpoch, epoch), fleet.Conflict, "does not follow")
	holding := w.holding("n2", "web", nil)
	w.must(ActKeyringHolding, holding)
	w.must(ActNodeTags, w.tags("alice", "n3", 1, false, nil)) // there is somebody to forget, too

	w.must(ActKeyring, w.keyringChange("alice", func(c *KeyringChange) { c.Target = "" }))
	if _, _, err := w.record.Sealable("web"); fleet.KindOf(err) != fleet.NotFound {
		t.Errorf("a deleted keyring: %v", err)
	}
	life := fleet.UUID{}
	for _, data := range [][]byte{made, rotate, stale} {
		refused(t, w.apply(ActKeyring, data), fleet.Conflict, "was changed at act")
	}
	var e Envelope
	if err := wire.Unmarshal(made, &e); err != nil {
		t.Fatal(err)
	}
	body, _ := Peek[KeyringChange](e)
	life = body.Header.ID
	refused(t, w.apply(ActKeyring, w.keyringChange("alice", func(c *KeyringChange) {
		c.First, c.Header.ID = []EpochKey{w.firstEpoch("alice")}, life
	})), fleet.Conflict, "has or had the ID")
	w.must(ActKeyring, w.newKeyring("alice", "web", "tag.role=web")) // another one of that name
	refused(t, w.apply(ActKeyringEpoch, epoch), fleet.Conflict, "made again")
	refused(t, w.apply(ActKeyringHolding, holding), fleet.Conflict, "made again")
	if w.formers("web") != "" || len(w.keyring("web").Epochs) != 1 || w.record.Keyrings.tree().Len() != 0 {
		t.Error("the new keyring has the old one's past")
	}

	w.must(ActKeyring, w.keyringChange("alice", func(c *KeyringChange) { c.Target = "" }))
	for i := range MaxKeyrings { // until that is forgotten
		k := &Keyring{Name: fmt.Sprint("k", i), Life: uuid(fmt.Sprint(i))}
		w.record.Keyrings = w.record.Keyrings.with(k).without(k, w.record.Act+1+uint64(i))
	}
	if len(w.record.Keyrings.deleted) != MaxKeyrings || slices.ContainsFunc(w.record.Keyrings.deleted, func(d deletedKeyring) bool { return d.name == "web" }) {
		t.Fatal("the deletion is still remembered by name")
	}
	refused(t, w.apply(ActKeyring, made), fleet.Conflict, "was changed at act")
}

func TestKeyringsAreBounded(t *testing.T) {
	w := recoveryTown(t)
	for i := range MaxKeyrings {
		w.record.Keyrings = w.record.Keyrings.with(&Keyring{Name: fmt.Sprint("k", i), Target: fleet.All(), Epochs: []KeyEpoch{{Number: 1, Used: 1}}, serial: uint32(i + 1)})
	}
	w.record.Keyrings.made = MaxKeyrings
	refused(t, w.apply(ActKeyring, w.newKeyring("alice", "more", "*")), fleet.Exhausted, "256 keyrings, the limit")
	w.must(ActKeyring, w.keyringChange("alice", func(c *KeyringChange) { c.Name, c.Target = "k7", "" }))
	w.must(ActKeyring, w.newKeyring("alice", "more", "*"))
	w.must(ActNodeRemove, w.removal("alice", "n2")) // out of all of them at once
	if got := w.formers("k8") + w.formers("more") + w.formers("k7"); got != "n2:1n2:1" {
		t.Errorf("formers %s", got)
	}
	if k := w.keyring("k8"); k.Closed != 1 {
		t.Errorf("%+v", k)
	}
}

// The largest change and epoch that can be signed fit an act.
func TestLargestKeyringFits(t *testing.T) {
	w := newTown(t)
	long := func(i int) string { return fmt.Sprintf("%063d", i) }
	var first EpochKey
	first.Key = hpkeKey("first")
	for i := range MaxEscrow {
		w.charter(CharterPutOperator, operator(long(i), RootTeam))
		e := escrowFor(keeper(long(i)))[0]
		e.Box = make([]byte, MaxEscrowBox)
		first.Escrow = append(first.Escrow, e)
	}
	target := "tag.a in (" + strings.Repeat("x", 57)
	for len(target)+66 < fleet.MaxTarget {
		target += ", " + strings.Repeat("x", 57) + fmt.Sprintf("%06d", len(target))
	}
	target = must(fleet.ParseTarget(target + ")")).String()
	name := strings.Repeat("n", 63)
	w.must(ActKeyring, w.keyringChange(long(0), func(c *KeyringChange) { c.Name, c.Target, c.First = name, target, []EpochKey{first} }))
	w.must(ActKeyring, w.retarget(long(0), name, "n1", true))
	w.must(ActKeyringEpoch, w.epoch("n1", name, 3, func(s *KeyringEpoch) {
		for i := range s.Epoch.Escrow {
			s.Epoch.Escrow[i].Box = make([]byte, MaxEscrowBox)
		}
	}))
}

// A record that is full makes no epochs any more. Its keyrings close all the same when a node is removed.
func TestFullRecordClosesKeyrings(t *testing.T) {
	w := recoveryTown(t)
	w.must(ActKeyring, w.newKeyring("alice", "web", "tag.role=web"))
	w.record.Size = MaxRecord
	refused(t, w.apply(ActKeyring, w.newKeyring("alice", "db", "*")), fleet.Exhausted, "limit")
	w.must(ActNodeRemove, w.removal("alice", "n3"))
	w.seals("web", 0, "node n3 left it")
	refused(t, w.apply(ActKeyringEpoch, w.epoch("n1", "web", 1, nil)), fleet.Exhausted, "limit")
}

func TestRecoveryRecipient(t *testing.T) {
	w := newTown(t)
	if w.record.Charter.Recovery() != nil {
		t.Error("a fleet without a recovery key has one")
	}
	put := func(recovery []byte) error {
		entry := SignCharter(w.record.Charter, w.header(), CharterPutRoots, PutRoots{publics(w.roots...), 1, recovery}, w.roots...)
		return w.apply(ActCharter, wire.Marshal(entry))
	}
	refused(t, put([]byte("short")), fleet.Invalid, "has 5 bytes")
	if err := put(hpkeKey("recovery")); err != nil || string(w.record.Charter.Recovery()) != string(hpkeKey("recovery")) {
		t.Error(err)
	}
	if err := put(nil); err != nil || len(w.record.Charter.Recovery()) != KeySize {
		t.Errorf("other roots take the recovery key away: %v", err)
	}
	good := Genesis{Name: "lab", Roots: publics(w.roots...), Threshold: 1, Recovery: hpkeKey("recovery")}
	c, err := Found(SignCharter(nil, w.header(), CharterGenesis, good, w.roots...), fleet.ID{})
	if err != nil || string(c.Recovery()) != string(good.Recovery) || c.Policy().Text() != FirstPolicy {
		t.Errorf("%v", err)
	}
	good.Recovery = good.Recovery[1:]
	_, err = Found(SignCharter(nil, w.header(), CharterGenesis, good, w.roots...), fleet.ID{})
	refused(t, err, fleet.Invalid, "1215 bytes")
}

// Fleets founded before there were secrets go on: with the ID, the policy and the roots that they had.
func TestOldCharterKeepsItsMeaning(t *testing.T) {
	roots := manyKeys(2)
	old := genesis1{Name: "lab", Nonce: fleet.Sum([]byte("n")), Roots: publics(roots...), Threshold: 1}
	entry := SignCharter(nil, issued(start), CharterGenesis, old, roots...)
	c, err := Found(entry, fleet.Sum(signedBytes(ForCharter, fleet.ID{}, entry.Body)))
	if err != nil || c.Name() != "lab" || c.Recovery() != nil {
		t.Fatal(err)
	}
	if c.Policy().Text() != firstPolicy1 || strings.Contains(c.Policy().Text(), "param") {
		t.Error("an old fleet has another policy than it began with")
	}
	n, ok := c.Threshold()
	if n != 1 || ok != 2 {
		t.Error("other roots")
	}
	next, err := c.Append(SignCharter(c, issued(start), CharterPutRoots, putRoots1{publics(manyKeys(3)...), 2}, roots[0]))
	if err != nil {
		t.Fatal(err)
	}
	if k, n := next.Threshold(); k != 2 || n != 3 || next.Recovery() != nil {
		t.Error("other roots than were put")
	}
	for _, content := range []any{Genesis{Name: "lab"}, struct{ Roots [][]byte }{}, struct{ A, B, C, D string }{}} {
		if _, err := c.Append(SignCharter(c, issued(start), CharterPutRoots, content, roots...)); err == nil {
			t.Errorf("%+v are roots", content)
		}
	}
}
