package auth

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
)

// found makes a charter of threshold k and n roots.
func found(t failer, k uint8, n int) (*Charter, []Signer) {
	t.Helper()
	var roots []Signer
	for i := range n {
		roots = append(roots, key(fmt.Sprint("root", i)))
	}
	c, err := Found(genesis(k, roots...), fleet.ID{})
	if err != nil {
		t.Fatalf("found: %v", err)
	}
	return c, roots
}

func issued(ms int64) Header { return Header{ID: uuid(fmt.Sprint(ms)), Issued: ms} }

func grow(t failer, c *Charter, kind CharterKind, content any, roots ...Signer) *Charter {
	t.Helper()
	next, err := c.Append(SignCharter(c, issued(start+int64(c.Len())), kind, content, roots...))
	if err != nil {
		t.Fatalf("append: %v", err)
	}
	return next
}

func TestGenesisIsTheFleet(t *testing.T) {
	entry := genesis(1, key("root1"), key("root2"))
	c, err := Found(entry, fleet.ID{})
	if err != nil {
		t.Fatal(err)
	}
	if k, n := c.Threshold(); c.Fleet() != c.Head() || c.Len() != 1 || c.Name() != "lab" || k != 1 || n != 2 || c.Epoch() != 0 {
		t.Errorf("charter after genesis: %+v", c)
	}
	if !c.HasRoot(key("root2").ID()) || c.HasRoot(key("alice").ID()) || !c.Knows(c.Head()) || c.Knows(fleet.ID{}) {
		t.Error("roots or heads are wrong")
	}
	if _, err := Found(entry, c.Fleet()); err != nil {
		t.Errorf("the fleet's own genesis: %v", err)
	}
	_, err = Found(entry, fleet.Sum([]byte("other")))
	refused(t, err, fleet.Denied, "not of")

	other := SignCharter(nil, Header{}, CharterGenesis, Genesis{Name: "lab", Nonce: fleet.Sum([]byte("2")), Roots: publics(key("root1")), Threshold: 1}, key("root1"))
	c2, err := Found(other, fleet.ID{})
	if err != nil || c2.Fleet() == c.Fleet() {
		t.Errorf("another nonce, the same fleet ID (%v)", err)
	}
}

func TestGenesisRefusals(t *testing.T) {
	r1, r2 := key("root1"), key("root2")
	sign := func(g Genesis, roots ...Signer) CharterEntry {
		return SignCharter(nil, Header{}, CharterGenesis, g, roots...)
	}
	for name, tc := range map[string]struct {
		entry CharterEntry
		kind  fleet.Kind
		says  string
	}{
		"unsigned":           {sign(Genesis{Name: "lab", Roots: publics(r1), Threshold: 1}), fleet.Denied, "of 0 roots and needs 1"},
		"foreign root":       {sign(Genesis{Name: "lab", Roots: publics(r1), Threshold: 1}, r2), fleet.Denied, "does not hold"},
		"below threshold":    {sign(Genesis{Name: "lab", Roots: publics(r1, r2), Threshold: 2}, r1), fleet.Denied, "of 1 roots and needs 2"},
		"one root twice":     {sign(Genesis{Name: "lab", Roots: publics(r1, r2), Threshold: 2}, r1, r1), fleet.Denied, "of 1 roots and needs 2"},
		"the same root key":  {sign(Genesis{Name: "lab", Roots: publics(r1, r1), Threshold: 2}, r1), fleet.Invalid, "different keys"},
		"no roots":           {sign(Genesis{Name: "lab", Threshold: 1}, r1), fleet.Invalid, "cannot be met"},
		"threshold 0":        {sign(Genesis{Name: "lab", Roots: publics(r1)}, r1), fleet.Invalid, "cannot be met"},
		"threshold too high": {sign(Genesis{Name: "lab", Roots: publics(r1), Threshold: 2}, r1), fleet.Invalid, "cannot be met"},
		"short key":          {sign(Genesis{Name: "lab", Roots: [][]byte{{1}}, Threshold: 1}, r1), fleet.Invalid, "1 bytes"},
		"name":               {sign(Genesis{Name: "La\x1bb", Roots: publics(r1), Threshold: 1}, r1), fleet.Invalid, "not a name"},
		"policy":             {sign(Genesis{Name: "lab", Roots: publics(r1), Threshold: 1, Policy: "permit"}, r1), fleet.Invalid, "policy"},
		"kind":               {SignCharter(nil, Header{}, CharterEpoch, Genesis{Name: "lab", Roots: publics(r1), Threshold: 1}, r1), fleet.Invalid, "genesis"},
		"format":             {CharterEntry{Format: 9}, fleet.Invalid, "format 9"},
		"no body":            {CharterEntry{Format: 1}, fleet.Invalid, "malformed"},
	} {
		_, err := Found(tc.entry, fleet.ID{})
		t.Run(name, func(t *testing.T) { refused(t, err, tc.kind, tc.says) })
	}
}

func TestGenesisPolicy(t *testing.T) {
	c, _ := found(t, 1, 1)
	if c.Policy().Text() != FirstPolicy {
		t.Error("a genesis without a policy should take the first one")
	}
}

func TestChainRefusesForkRepetitionFutureAndRollback(t *testing.T) {
	c0, roots := found(t, 1, 2)
	next := func(c *Charter, name string) CharterEntry {
		return SignCharter(c, issued(start), CharterPutOperator, operator(name), roots[0])
	}
	e1 := next(c0, "alice")
	c1, err := c0.Append(e1)
	if err != nil {
		t.Fatal(err)
	}
	e2 := next(c1, "bob")
	c2, err := c1.Append(e2)
	if err != nil {
		t.Fatal(err)
	}
	other, _ := found(t, 1, 1)

	try := func(c *Charter, e CharterEntry) error { _, err := c.Append(e); return err }
	refused(t, try(c2, e2), fleet.Conflict, "already there")
	refused(t, try(c2, e1), fleet.Conflict, "already there")
	refused(t, try(c2, genesis(1, roots...)), fleet.Conflict, "fork") // its bytes hash to another entry in this fleet
	refused(t, try(c0, e2), fleet.Unavailable, "came before")
	refused(t, try(c1, next(c0, "carol")), fleet.Conflict, "fork")
	refused(t, try(c2, next(c1, "carol")), fleet.Conflict, "fork")
	refused(t, try(other, e1), fleet.Conflict, "fork")

	// An entry at the right place, but on another head or of another fleet.
	lie := *c1
	lie.head = c0.head
	refused(t, try(c1, next(&lie, "carol")), fleet.Conflict, "fork")
	lie = *c1
	lie.fleetID = other.fleetID
	refused(t, try(c1, next(&lie, "carol")), fleet.Denied, "does not hold")
	if !c2.Knows(c0.Head()) || !c2.Knows(c1.Head()) || c1.Knows(c2.Head()) {
		t.Error("heads that were should be known, heads to come not")
	}
}

func TestKindsAndContentsAreChecked(t *testing.T) {
	c, roots := found(t, 1, 1)
	c = grow(t, c, CharterPutOperator, operator("alice"), roots[0])
	long := func(n int) string { return "permit (principal, action, resource); //" + strings.Repeat("x", n) }
	with := func(change func(*Operator)) Operator { o := operator("bob"); change(&o); return o }
	for name, tc := range map[string]struct {
		kind    CharterKind
		content any
		want    fleet.Kind
		says    string
	}{
		"unknown kind":      {9, Epoch{}, fleet.Invalid, "kind 9"},
		"second genesis":    {CharterGenesis, Genesis{}, fleet.Invalid, "kind 1"},
		"wrong content":     {CharterPutOperator, Epoch{}, fleet.Invalid, "malformed"},
		"operator name":     {CharterPutOperator, with(func(o *Operator) { o.Name = "B ob" }), fleet.Invalid, "not a name"},
		"operator key":      {CharterPutOperator, with(func(o *Operator) { o.Key = o.Key[:31] }), fleet.Invalid, "31 bytes"},
		"operator HPKE":     {CharterPutOperator, with(func(o *Operator) { o.HPKE = make([]byte, MaxOperatorHPKE+1) }), fleet.Invalid, "2049 bytes"},
		"operator team":     {CharterPutOperator, with(func(o *Operator) { o.Teams = []string{"\x00"} }), fleet.Invalid, "not a name"},
		"operator teams":    {CharterPutOperator, with(func(o *Operator) { o.Teams = slices.Repeat([]string{"a"}, MaxTeams+1) }), fleet.Exhausted, "65 teams"},
		"operator expiry":   {CharterPutOperator, with(func(o *Operator) { o.Expires = math.MaxInt64 }), fleet.Invalid, "no time"},
		"name taken":        {CharterPutOperator, with(func(o *Operator) { o.Name = "alice" }), fleet.Conflict, "another key"},
		"nobody to delete":  {CharterDeleteOperator, DeleteOperator{Name: "bob", Key: key("bob").ID()}, fleet.NotFound, "no operator bob"},
		"delete wrong name": {CharterDeleteOperator, DeleteOperator{Name: "bob", Key: key("alice").ID()}, fleet.NotFound, "no operator bob"},
		"policy text":       {CharterPutPolicy, PutPolicy{"permit (principal"}, fleet.Invalid, "policy"},
		"policy size":       {CharterPutPolicy, PutPolicy{long(MaxPolicy)}, fleet.Exhausted, "at most"},
		"entry size":        {CharterPutPolicy, PutPolicy{long(MaxCharterEntry)}, fleet.Exhausted, "at most"},
		"roots":             {CharterPutRoots, PutRoots{Roots: publics(key("a")), Threshold: 2}, fleet.Invalid, "cannot be met"},
		"too many roots":    {CharterPutRoots, PutRoots{Roots: publics(manyKeys(MaxRoots + 1)...), Threshold: 1}, fleet.Invalid, "at most 16"},
		"epoch 0":           {CharterEpoch, Epoch{Epoch: 0}, fleet.Conflict, "not newer"},
	} {
		_, err := c.Append(SignCharter(c, issued(start), tc.kind, tc.content, roots[0]))
		t.Run(name, func(t *testing.T) { refused(t, err, tc.want, tc.says) })
	}
	grow(t, c, CharterPutRoots, PutRoots{Roots: publics(manyKeys(MaxRoots)...), Threshold: MaxRoots}, roots[0])
	fits := long(MaxPolicy - 40)
	if got := grow(t, c, CharterPutPolicy, PutPolicy{fits}, roots[0]).Policy().Text(); got != fits {
		t.Error("a policy of full size was not taken")
	}
	if e := grow(t, c, CharterEpoch, Epoch{Epoch: 3}, roots[0]); e.Epoch() != 3 {
		t.Errorf("epoch %d", e.Epoch())
	}
}

func manyKeys(n int) (out []Signer) {
	for i := range n {
		out = append(out, key(fmt.Sprint("many", i)))
	}
	return out
}

// Whatever the threshold, an entry counts exactly if so many different roots signed it; removing an operator takes one.
func TestThreshold(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 5).Draw(t, "roots")
		k := rapid.IntRange(1, n).Draw(t, "threshold")
		c, roots := found(t, uint8(k), n)
		c = grow(t, c, CharterPutOperator, operator("alice"), roots...)
		signed := rapid.SliceOfN(rapid.IntRange(0, n-1), 0, 8).Draw(t, "signers")
		var by []Signer
		different := map[int]bool{}
		for _, i := range signed {
			by, different[i] = append(by, roots[i]), true
		}
		_, err := c.Append(SignCharter(c, issued(start), CharterPutOperator, operator("bob"), by...))
		if (err == nil) != (len(different) >= k) {
			t.Fatalf("%d of %d roots, %v signed: %v", k, n, signed, err)
		}
		removal := SignCharter(c, issued(start), CharterDeleteOperator, DeleteOperator{Name: "alice", Key: key("alice").ID()}, by...)
		if _, err = c.Append(removal); (err == nil) != (len(different) >= 1) {
			t.Fatalf("removal with %v of %d signatures: %v", signed, n, err)
		}
	})
}

func TestSignaturesOfOthersDoNotCount(t *testing.T) {
	c, roots := found(t, 2, 3)
	sign := func(by ...Signer) CharterEntry {
		return SignCharter(c, issued(start), CharterPutOperator, operator("alice"), by...)
	}
	entry := func(change func(*CharterEntry)) CharterEntry {
		e := sign(roots[0], roots[1])
		change(&e)
		return e
	}
	for name, e := range map[string]CharterEntry{
		"a stranger beside two roots": sign(roots[0], roots[1], key("mallory")),
		"a stranger for a root":       sign(roots[0], key("mallory")),
		"an operator":                 sign(key("alice"), key("alice")),
		"another root's signature":    entry(func(e *CharterEntry) { e.Signatures[1].Signature = e.Signatures[0].Signature }),
		"signature under two names":   entry(func(e *CharterEntry) { e.Signatures[1] = e.Signatures[0]; e.Signatures[1].Key = roots[1].ID() }),
		"unknown algorithm":           entry(func(e *CharterEntry) { e.Signatures[1].Algorithm = 2 }),
		"17 signatures":               entry(func(e *CharterEntry) { e.Signatures = slices.Repeat(e.Signatures, 9) }),
	} {
		if _, err := c.Append(e); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := c.Append(sign(roots[2], roots[0])); err != nil {
		t.Errorf("two of three: %v", err)
	}
}

func TestRootsAreReplaced(t *testing.T) {
	c, roots := found(t, 1, 1)
	c = grow(t, c, CharterPutRoots, PutRoots{Roots: publics(key("x"), key("y"), key("z")), Threshold: 2}, roots[0])
	_, err := c.Append(SignCharter(c, issued(start), CharterEpoch, Epoch{Epoch: 1}, roots[0]))
	refused(t, err, fleet.Denied, "does not hold")
	_, err = c.Append(SignCharter(c, issued(start), CharterEpoch, Epoch{Epoch: 1}, key("x")))
	refused(t, err, fleet.Denied, "needs 2")
	grow(t, c, CharterEpoch, Epoch{Epoch: 1}, key("z"), key("y"))
}

func TestOperatorLife(t *testing.T) {
	c, roots := found(t, 2, 2)
	alice := operator("alice", RootTeam)
	c = grow(t, c, CharterPutOperator, alice, roots...)
	alice.Teams, alice.Expires = []string{"web"}, start+hour
	c = grow(t, c, CharterPutOperator, alice, roots...) // the same key again: a change
	if got, ok := c.OperatorByName("alice"); !ok || got.Teams[0] != "web" || len(c.Operators()) != 1 {
		t.Errorf("after a change: %v", c.Operators())
	}
	if _, err := c.Current(alice.ID(), at(start)); err != nil {
		t.Error(err)
	}
	_, err := c.Current(alice.ID(), at(start+hour))
	refused(t, err, fleet.Expired, "expired")
	_, err = c.Standing(alice.ID(), start+hour) // signed when the key had no right any more
	refused(t, err, fleet.Denied, "had expired")
	_, err = c.Standing(key("mallory").ID(), start)
	refused(t, err, fleet.Denied, "never an operator")

	gone := grow(t, c, CharterDeleteOperator, DeleteOperator{Name: "alice", Key: alice.ID()}, roots[1])
	_, err = gone.Current(alice.ID(), at(start))
	refused(t, err, fleet.Denied, "removed")
	_, err = gone.Append(SignCharter(gone, issued(start), CharterPutOperator, alice, roots...))
	refused(t, err, fleet.Conflict, "removed once")
	if _, ok := gone.OperatorByName("alice"); ok || len(gone.Operators()) != 0 {
		t.Error("a removed operator is still listed")
	}
	again := operator("alice")
	again.Key = key("alice's second").Public()
	gone = grow(t, gone, CharterPutOperator, again, roots...) // the name is free, with a new key
	_, err = gone.Current(alice.ID(), at(start))
	refused(t, err, fleet.Denied, "removed")
}

// Standing statements outlive a plain removal if they were signed before it, and never a compromise.
func TestStandingAfterRemoval(t *testing.T) {
	c, roots := found(t, 1, 2)
	c = grow(t, c, CharterPutOperator, operator("alice"), roots[0])
	id := key("alice").ID()
	remove := func(c *Charter, when int64, compromised bool) *Charter {
		t.Helper()
		next, err := c.Append(SignCharter(c, issued(when), CharterDeleteOperator, DeleteOperator{"alice", id, compromised}, roots[1]))
		if err != nil {
			t.Fatal(err)
		}
		return next
	}
	plain := remove(c, start+1000, false)
	if op, err := plain.Standing(id, start+1000); err != nil || op.Name != "alice" {
		t.Errorf("signed before the removal: %v", err)
	}
	_, err := plain.Standing(id, start+1001)
	refused(t, err, fleet.Denied, "before this was signed")

	for name, bad := range map[string]*Charter{
		"at once": remove(c, start+1000, true),
		"later":   remove(plain, start+9000, true), // plain first, then found out
	} {
		if _, err := bad.Standing(id, start); err == nil || !strings.Contains(err.Error(), "compromised") {
			t.Errorf("%s: a compromised key's statement stands: %v", name, err)
		}
	}
	later := remove(plain, start+9000, true)
	_, err = later.Append(SignCharter(later, issued(start), CharterDeleteOperator, DeleteOperator{"alice", id, false}, roots[1]))
	refused(t, err, fleet.Conflict, "removed already") // compromised is not taken back
}

// A removal is one whatever its time says: zero, negative, or ahead of everybody's clock.
func TestRemovalWithAnOddClock(t *testing.T) {
	for _, when := range []int64{0, -1, math.MinInt64, math.MaxInt64, start + 1000*hour} {
		w := newTown(t)
		w.charter(CharterPutOperator, operator("bob", RootTeam))
		before := w.token("second", nil)
		h := w.header()
		h.Issued = when
		w.must(ActCharter, wire.Marshal(SignCharter(w.record.Charter, h, CharterDeleteOperator, DeleteOperator{Name: "bob", Key: key("bob").ID()}, w.roots[0])))
		accepted := w.now
		if _, err := w.record.Charter.Current(key("bob").ID(), at(w.now)); err == nil {
			t.Errorf("removal issued at %d: the operator still stands", when)
		}
		if _, err := w.record.Charter.Standing(key("bob").ID(), accepted+1); err == nil {
			t.Errorf("removal issued at %d: what was signed after it stands", when)
		}
		if _, err := w.record.Charter.Standing(key("bob").ID(), before.Header.Issued); err != nil && when > start {
			t.Errorf("removal issued at %d: what was signed before it fell: %v", when, err)
		}
	}
}

// One root can sign removals alone, but not fill the charter with them.
func TestRemovalThatChangesNothingIsRefused(t *testing.T) {
	c, roots := found(t, 2, 2)
	c = grow(t, c, CharterPutOperator, operator("alice"), roots...)
	del := DeleteOperator{Name: "alice", Key: key("alice").ID()}
	c = grow(t, c, CharterDeleteOperator, del, roots[0])
	_, err := c.Append(SignCharter(c, issued(start+5), CharterDeleteOperator, del, roots[0]))
	refused(t, err, fleet.Conflict, "removed already")
	del.Compromised = true
	c = grow(t, c, CharterDeleteOperator, del, roots[0])
	_, err = c.Append(SignCharter(c, issued(start+6), CharterDeleteOperator, del, roots[0]))
	refused(t, err, fleet.Conflict, "removed already")
}

// The limits of the whole charter stop growth, and never a removal.
func TestFullCharterStillRemoves(t *testing.T) {
	base, roots := found(t, 1, 1)
	base = grow(t, base, CharterPutOperator, operator("alice"), roots[0])
	for name, fill := range map[string]func(*Charter){
		"entries": func(c *Charter) { c.seq = MaxCharterEntries },
		"bytes":   func(c *Charter) { c.size = MaxCharterSize },
	} {
		c := *base
		fill(&c)
		_, err := c.Append(SignCharter(&c, issued(start), CharterPutPolicy, PutPolicy{FirstPolicy}, roots[0]))
		t.Run(name, func(t *testing.T) { refused(t, err, fleet.Exhausted, "limit") })
		grow(t, &c, CharterDeleteOperator, DeleteOperator{Name: "alice", Key: key("alice").ID()}, roots[0])
	}
	c := grow(t, base, CharterPutPolicy, PutPolicy{FirstPolicy}, roots[0])
	if c.size < base.size+uint64(len(FirstPolicy)) {
		t.Errorf("a policy of %d bytes counted %d", len(FirstPolicy), c.size-base.size)
	}
}

func TestOperatorLimits(t *testing.T) {
	c, roots := found(t, 1, 1)
	for i := range MaxOperators {
		c = grow(t, c, CharterPutOperator, operator(fmt.Sprint("op", i)), roots[0])
	}
	_, err := c.Append(SignCharter(c, issued(start), CharterPutOperator, operator("more"), roots[0]))
	refused(t, err, fleet.Exhausted, "limit")
	c = grow(t, c, CharterPutOperator, operator("op7", "web"), roots[0]) // changing one who is there is no growth
	c = grow(t, c, CharterDeleteOperator, DeleteOperator{Name: "op7", Key: key("op7").ID()}, roots[0])
	c = grow(t, c, CharterPutOperator, operator("more"), roots[0])
	if len(c.Operators()) != MaxOperators || c.standing != MaxOperators {
		t.Errorf("%d operators, %d counted", len(c.Operators()), c.standing)
	}
	removed, _ := c.operators.Get(id32(key("op7").ID()))
	if removed.Operator.HPKE != nil {
		t.Error("a removed operator's HPKE key is kept in memory")
	}
}

func id32(id fleet.ID) []byte { return id[:] }

// Append costs the same on a long charter as on a short one: ten thousand entries must not take ten thousand squared.
func TestAppendDoesNotCopyTheHeads(t *testing.T) {
	allocated := func(c *Charter, root Signer) uint64 {
		entry := SignCharter(c, issued(start), CharterEpoch, Epoch{Epoch: c.Epoch() + 1}, root)
		return allocatedBy(func() { _, _ = c.Append(entry) })
	}
	c, roots := found(t, 1, 1)
	short := allocated(c, roots[0])
	long := *c
	for i := range MaxCharterEntries - 10 {
		id := fleet.Sum([]byte(fmt.Sprint(i)))
		long.heads, _, _ = long.heads.Insert(id[:], uint64(i))
	}
	if got := allocated(&long, roots[0]); got > short+32<<10 {
		t.Errorf("%d bytes on a long charter, %d on a short one", got, short)
	}
}

// Keys that were removed are remembered, so that they never come back; that memory is bounded too.
func TestOperatorKeysAreBounded(t *testing.T) {
	c, roots := found(t, 1, 1)
	for i := range MaxOperatorKeys {
		c.operators, _, _ = c.operators.Insert([]byte(fmt.Sprint(i)), &known{Operator: Operator{Name: "gone"}, Gone: true})
	}
	_, err := c.Append(SignCharter(c, issued(start), CharterPutOperator, operator("more"), roots[0]))
	refused(t, err, fleet.Exhausted, "in the life of this fleet")
}
