package auth

import (
	"crypto/ed25519"
	"math"
	"slices"
	"testing"

	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
)

func (w *town) tryEnrol(e Enrolment) error {
	w.t.Helper()
	return w.apply(ActEnrol, e.Encode())
}

func TestEnrolment(t *testing.T) {
	w := newTown(t)
	if err := w.tryEnrol(w.enrolment("n2", "web02", w.token("second", nil))); err != nil {
		t.Fatal(err)
	}
	n, err := w.record.Roster.Enrolled(key("n2").ID())
	if err != nil || n.Name != "web02" || n.Tags["role"] != "web" || !n.Server || n.Seq != 0 || n.Enrolled != w.now ||
		n.HPKE != fleet.Sum([]byte("hpke n2")) || !slices.Equal(n.Key, key("n2").Public()) {
		t.Errorf("enrolled as %+v (%v)", n, err)
	}
}

// No server can make an enrolment alone: each of the three signatures missing, of another key, for another purpose or
// of another body fails.
func TestEveryOneOfTheThreeSignaturesIsNeeded(t *testing.T) {
	w := newTown(t)
	w.enrol("n2")
	w.charter(CharterPutOperator, operator("bob"))
	token := w.token("second", nil)
	other := w.token("third", nil)
	id := w.fleetID()
	good := func() Enrolment { return w.enrolment("n3", "n3", token) }
	request := func(change func(*EnrolRequest)) EnrolRequest {
		r, _ := Peek[EnrolRequest](good().Request)
		change(&r)
		return r
	}
	edit := func(change func(*Enrolment)) Enrolment {
		e := good()
		change(&e)
		return e
	}
	// with puts another request in place and countersigns that, as a server would who relays a joiner's request.
	with := func(signer string, r EnrolRequest, purpose Purpose) Enrolment {
		return edit(func(e *Enrolment) {
			e.Request = key(signer).Sign(purpose, id, r)
			e.Countersign = key("n1").Sign(ForCountersign, id, Countersign{
				Header: w.header(), Request: e.Request.Digest(ForEnrol, id), Node: fleet.Sum(r.Key),
			})
		})
	}
	for name, tc := range map[string]struct {
		e    Enrolment
		says string
	}{
		"no token":                         {edit(func(e *Enrolment) { e.Token = Envelope{} }), "never an operator"},
		"token unsigned":                   {edit(func(e *Enrolment) { e.Token.Signature = nil }), "does not hold"},
		"token by a server":                {w.enrolBy("n1", "join second", "n3", "n3", "n1", token), "never an operator"},
		"token by a root":                  {w.enrolBy("root1", "join second", "n3", "n3", "n1", token), "never an operator"},
		"token by the joiner":              {w.enrolBy("join second", "join second", "n3", "n3", "n1", token), "never an operator"},
		"token under alice's name":         {edit(func(e *Enrolment) { e.Token = key("n1").Sign(ForToken, id, token); e.Token.Key = key("alice").ID() }), "does not hold"},
		"token edited":                     {edit(func(e *Enrolment) { e.Token.Body = wire.Marshal(other) }), "does not hold"},
		"token for another purpose":        {edit(func(e *Enrolment) { e.Token = key("alice").Sign(ForTokenDelete, id, token) }), "does not hold"},
		"token of another fleet":           {edit(func(e *Enrolment) { e.Token = key("alice").Sign(ForToken, fleet.Sum(nil), token) }), "does not hold"},
		"token by who may not":             {w.enrolBy("bob", "join second", "n3", "n3", "n1", token), "may not token.put"},
		"no request":                       {edit(func(e *Enrolment) { e.Request = Envelope{} }), "format 0"},
		"request by the server":            {w.enrolBy("alice", "n1", "n3", "n3", "n1", token), "names key"},
		"request by the operator":          {w.enrolBy("alice", "alice", "n3", "n3", "n1", token), "names key"},
		"request by the node's own key":    {w.enrolBy("alice", "n3", "n3", "n3", "n1", token), "names key"},
		"request with another join secret": {w.enrolBy("alice", "join third", "n3", "n3", "n1", token), "names key"},
		"request relayed with other key": {edit(func(e *Enrolment) {
			e.Request.Body = wire.Marshal(request(func(r *EnrolRequest) { r.Key = key("mallory").Public() }))
			e.Countersign = key("n1").Sign(ForCountersign, id, Countersign{Request: e.Request.Digest(ForEnrol, id), Node: key("mallory").ID()})
		}), "does not hold"},
		"request relayed with other name": {edit(func(e *Enrolment) {
			e.Request.Body = wire.Marshal(request(func(r *EnrolRequest) { r.Name = "db01" }))
			e.Countersign = key("n1").Sign(ForCountersign, id, Countersign{Request: e.Request.Digest(ForEnrol, id), Node: key("n3").ID()})
		}), "does not hold"},
		"request for another token":      {with("join second", request(func(r *EnrolRequest) { r.Token = other.Header.ID }), ForEnrol), "another token"},
		"request for another purpose":    {with("join second", request(func(*EnrolRequest) {}), ForToken), "does not hold"},
		"request with half a key":        {with("join second", request(func(r *EnrolRequest) { r.Key = r.Key[:16] }), ForEnrol), "another token"},
		"request with a bad name":        {with("join second", request(func(r *EnrolRequest) { r.Name = "N3\x1b[2J" }), ForEnrol), "not a name"},
		"request expired":                {with("join second", request(func(r *EnrolRequest) { r.Header.Expires = start }), ForEnrol), "request expired"},
		"request signed after the token": {with("join second", request(func(r *EnrolRequest) { r.Header.Issued = start + 2*hour }), ForEnrol), "after its join string"},
		"request at no time":             {with("join second", request(func(r *EnrolRequest) { r.Header.Issued = math.MaxInt64 }), ForEnrol), "none"},
		"no countersignature":            {edit(func(e *Enrolment) { e.Countersign = Envelope{} }), "not enrolled"},
		"countersigned by the joiner":    {w.enrolBy("alice", "join second", "n3", "n3", "n3", token), "not enrolled"},
		"countersigned by the join key":  {w.enrolBy("alice", "join second", "n3", "n3", "join second", token), "not enrolled"},
		"countersigned by the operator":  {w.enrolBy("alice", "join second", "n3", "n3", "alice", token), "not enrolled"},
		"countersigned under n1's name":  {edit(func(e *Enrolment) { e.Countersign.Signature[0] ^= 1 }), "does not hold"},
		"countersignature of another":    {edit(func(e *Enrolment) { e.Countersign = w.enrolment("n4", "n4", token).Countersign }), "for another enrolment"},
		"countersignature of a repeat":   {edit(func(e *Enrolment) { e.Countersign = good().Countersign }), "for another enrolment"},
		"countersigned for another node": {edit(func(e *Enrolment) {
			e.Countersign = key("n1").Sign(ForCountersign, id, Countersign{Request: e.Request.Digest(ForEnrol, id), Node: key("n4").ID()})
		}), "for another enrolment"},
		"countersigned by digest of body": {edit(func(e *Enrolment) {
			e.Countersign = key("n1").Sign(ForCountersign, id, Countersign{Request: fleet.Sum(e.Request.Body), Node: key("n3").ID()})
		}), "for another enrolment"},
		"countersigned after the token": {edit(func(e *Enrolment) {
			e.Countersign = key("n1").Sign(ForCountersign, id, Countersign{Header: Header{Issued: start + 2*hour}, Request: e.Request.Digest(ForEnrol, id), Node: key("n3").ID()})
		}), "after its join string"},
		"three in a ring": {edit(func(e *Enrolment) { e.Token, e.Request, e.Countersign = e.Request, e.Countersign, e.Token }), "never an operator"},
	} {
		err := w.tryEnrol(tc.e)
		if err == nil {
			t.Errorf("%s: accepted", name)
			continue
		}
		t.Run(name, func(t *testing.T) { refused(t, err, fleet.KindOf(err), tc.says) })
	}
	if err := w.tryEnrol(good()); err != nil {
		t.Errorf("the one that is whole: %v", err)
	}
}

func TestCountersignerMustBeAServerThatStands(t *testing.T) {
	w := newTown(t)
	w.enrol("n2")
	plain := w.token("third", func(tk *Token) { tk.Server = false })
	if err := w.tryEnrol(w.enrolment("n3", "n3", plain)); err != nil {
		t.Fatal(err)
	}
	token := w.token("second", nil)
	refused(t, w.tryEnrol(w.enrolBy("alice", "join second", "n4", "n4", "n3", token)), fleet.Denied, "no operator made it a server")
	if err := w.tryEnrol(w.enrolBy("alice", "join second", "n4", "n4", "n2", token)); err != nil {
		t.Errorf("countersigned by n2, a server: %v", err)
	}
	w.must(ActNodeTags, w.tags("alice", "n2", 1, false, nil))
	refused(t, w.tryEnrol(w.enrolBy("alice", "join second", "n5", "n5", "n2", token)), fleet.Denied, "no operator made it a server")
	w.must(ActNodeRemove, w.removal("alice", "n1"))
	refused(t, w.tryEnrol(w.enrolBy("alice", "join second", "n5", "n5", "n1", token)), fleet.Denied, "removed from the fleet")
}

// Only the fleet's very first node vouches for itself, and only by a token that makes servers.
func TestFirstNodeRule(t *testing.T) {
	found := func() *town {
		w := &town{t: t, record: NewRecord(), now: start, roots: []Signer{key("root1")}}
		w.must(ActCharter, wire.Marshal(genesis(1, key("root1"))))
		w.charter(CharterPutOperator, operator("alice", RootTeam))
		return w
	}
	w := found()
	refused(t, w.tryEnrol(w.enrolment("n1", "n1", w.token("first", func(tk *Token) { tk.Server = false }))), fleet.Denied, "not enrolled")
	refused(t, w.tryEnrol(w.enrolBy("alice", "join first", "n1", "n1", "n2", w.token("first", nil))), fleet.Denied, "not enrolled")
	if err := w.tryEnrol(w.enrolment("n1", "n1", w.token("first", nil))); err != nil {
		t.Fatal(err)
	}
	token := w.token("first", nil)
	refused(t, w.tryEnrol(w.enrolBy("alice", "join first", "n2", "n2", "n2", token)), fleet.Denied, "not enrolled")
	w.must(ActNodeRemove, w.removal("alice", "n1"))
	if w.record.Roster.Len() != 0 {
		t.Fatal("n1 is still there")
	}
	refused(t, w.tryEnrol(w.enrolBy("alice", "join first", "n2", "n2", "n2", token)), fleet.Denied, "not enrolled")
}

func TestTokenScope(t *testing.T) {
	w := newTown(t)
	tag := func(k, v string) map[string]string { return map[string]string{k: v} }
	for name, tc := range map[string]struct {
		change func(*Token)
		node   string
		kind   fleet.Kind
		says   string
	}{
		"pattern":              {func(tk *Token) { tk.Pattern = "web*" }, "db01", fleet.Denied, "names like web*"},
		"pattern of one":       {func(tk *Token) { tk.Pattern = "web0?" }, "web01x", fleet.Denied, "names like"},
		"pattern with escapes": {func(tk *Token) { tk.Pattern = "\x1b[2J*" }, "n2", fleet.Invalid, "not a name pattern"},
		"pattern too long":     {func(tk *Token) { tk.Pattern = string(make([]byte, 64)) }, "n2", fleet.Invalid, "not a name pattern"},
		"expired":              {func(tk *Token) { tk.Header.Issued = start - hour; tk.Header.Expires = start }, "n2", fleet.Expired, "join string expired"},
		"no end":               {func(tk *Token) { tk.Header.Expires = 0 }, "n2", fleet.Invalid, "lives up to"},
		"31 days":              {func(tk *Token) { tk.Header.Expires = tk.Header.Issued + 31*24*hour }, "n2", fleet.Invalid, "lives up to"},
		"five centuries":       {func(tk *Token) { tk.Header.Issued = start; tk.Header.Expires = start + 18446744073710 }, "n2", fleet.Invalid, "lives up to"},
		"from the past":        {func(tk *Token) { tk.Header.Issued = math.MinInt64; tk.Header.Expires = start + hour }, "n2", fleet.Invalid, "none"},
		"until the end":        {func(tk *Token) { tk.Header.Expires = math.MaxInt64 }, "n2", fleet.Invalid, "none"},
		"ends before it began": {func(tk *Token) { tk.Header.Issued = start + hour; tk.Header.Expires = start + hour - 1 }, "n2", fleet.Invalid, "lives up to"},
		"post-dated":           {func(tk *Token) { tk.Header.Issued = start + 24*hour; tk.Header.Expires = start + 25*hour }, "n2", fleet.Denied, "future"},
		"no uses":              {func(tk *Token) { tk.Uses = 0 }, "n2", fleet.Invalid, "uses"},
		"too many uses":        {func(tk *Token) { tk.Uses = MaxTokenUses + 1 }, "n2", fleet.Invalid, "uses"},
		"join key":             {func(tk *Token) { tk.Join = tk.Join[:31] }, "n2", fleet.Invalid, "31 bytes"},
		"tags":                 {func(tk *Token) { tk.Tags = tag("a b", "x") }, "n2", fleet.Invalid, "tag"},
		"replaces by 2 uses":   {func(tk *Token) { tk.Replace, tk.Uses = "n1", 2 }, "n1", fleet.Invalid, "one use"},
		"replaces no name":     {func(tk *Token) { tk.Replace, tk.Uses = "N 1", 1 }, "n1", fleet.Invalid, "not a name"},
		"replaces another":     {func(tk *Token) { tk.Replace, tk.Uses = "n1", 1 }, "n2", fleet.Denied, "replaces n1"},
	} {
		tk := w.token("second", tc.change)
		e := w.enrolBy("alice", "join second", "n2", tc.node, "n1", tk)
		t.Run(name, func(t *testing.T) { refused(t, w.tryEnrol(e), tc.kind, tc.says) })
	}
	long := w.token("second", func(tk *Token) { tk.Header.Expires = tk.Header.Issued + MaxTokenLife.Milliseconds() })
	if err := w.tryEnrol(w.enrolment("n2", "n2", long)); err != nil {
		t.Errorf("30 days: %v", err)
	}
	narrow := w.token("third", func(tk *Token) { tk.Pattern = "web-*.lab" })
	if err := w.tryEnrol(w.enrolment("n3", "web-3.lab", narrow)); err != nil {
		t.Errorf("a name in the pattern: %v", err)
	}
}

// The record counts uses on every node: a server cannot let in more than the operator signed for.
func TestUsesAreCountedByTheRecord(t *testing.T) {
	w := newTown(t)
	two := w.token("second", func(tk *Token) { tk.Uses = 2 })
	for _, name := range []string{"n2", "n3"} {
		if err := w.tryEnrol(w.enrolment(name, name, two)); err != nil {
			t.Fatal(err)
		}
	}
	refused(t, w.tryEnrol(w.enrolment("n4", "n4", two)), fleet.Exhausted, "2 of 2")
	w.must(ActNodeRemove, w.removal("alice", "n2")) // a use stays used
	refused(t, w.tryEnrol(w.enrolment("n4", "n4", two)), fleet.Exhausted, "2 of 2")
	other := two
	other.Header = w.header()
	other.Header.Expires = two.Header.Expires
	if err := w.tryEnrol(w.enrolment("n4", "n4", other)); err != nil {
		t.Errorf("another token with the same join secret: %v", err)
	}
	w.enrol("n5")
	refused(t, w.tryEnrol(w.enrolment("n6", "n5", w.token("second", func(tk *Token) { tk.Uses = 1 }))), fleet.Conflict, "enrolled already")
}

// A token outlives its signer's plain removal, unless it was signed after it or the key was compromised.
func TestTokenOfARemovedOperator(t *testing.T) {
	w := newTown(t)
	w.charter(CharterPutOperator, operator("bob", RootTeam))
	join := func(node string, tk Token) error {
		return w.tryEnrol(w.enrolBy("bob", "join second", node, node, "n1", tk))
	}
	before := w.token("second", nil)
	w.charter(CharterDeleteOperator, DeleteOperator{Name: "bob", Key: key("bob").ID()})
	if err := join("n2", before); err != nil {
		t.Errorf("signed before the removal: %v", err)
	}
	refused(t, join("n3", w.token("second", nil)), fleet.Denied, "removed before this was signed")
	w.charter(CharterDeleteOperator, DeleteOperator{Name: "bob", Key: key("bob").ID(), Compromised: true})
	refused(t, join("n3", before), fleet.Denied, "compromised")
	if _, err := w.record.Roster.Enrolled(key("n2").ID()); err != nil {
		t.Errorf("who is enrolled stays: %v", err)
	}
}

// A token that the operator's key signed when it had already expired is void, however valid the token itself is.
func TestTokenSignedAfterTheOperatorsExpiry(t *testing.T) {
	w := newTown(t)
	bob := operator("bob", RootTeam)
	bob.Expires = start + hour/2
	w.charter(CharterPutOperator, bob)
	before, after := w.token("second", nil), w.token("second", nil)
	after.Header.Issued, after.Header.Expires = bob.Expires, bob.Expires+hour
	w.now = bob.Expires + 1
	if err := w.tryEnrol(w.enrolBy("bob", "join second", "n2", "n2", "n1", before)); err != nil {
		t.Errorf("signed in time: %v", err)
	}
	refused(t, w.tryEnrol(w.enrolBy("bob", "join second", "n3", "n3", "n1", after)), fleet.Denied, "had expired")
}

// Nodes ask policy themselves: an operator without the right and a server that looks away do not make a node.
func TestPolicyOfTokensIsAskedByNodes(t *testing.T) {
	w := newTown(t)
	w.charter(CharterPutOperator, operator("bob", "dev"))
	w.charter(CharterPutPolicy, PutPolicy{FirstPolicy + `
		@id("dev-enrols") permit (principal in Team::"dev", action == Action::"token.put", resource)
		when { !context.server && resource.hasTag("env") && resource.getTag("env") == "dev" };`})
	try := func(node string, server bool, tags map[string]string) error {
		tk := w.token("second", func(tk *Token) { tk.Server, tk.Tags = server, tags })
		return w.tryEnrol(w.enrolBy("bob", "join second", node, node, "n1", tk))
	}
	dev, prod := map[string]string{"env": "dev"}, map[string]string{"env": "prod"}
	refused(t, try("n2", true, dev), fleet.Denied, "may not token.put")
	refused(t, try("n2", false, prod), fleet.Denied, "may not token.put")
	refused(t, try("n2", false, nil), fleet.Denied, "may not token.put")
	if err := try("n2", false, dev); err != nil {
		t.Error(err)
	}
}

func TestReplace(t *testing.T) {
	w := newTown(t)
	w.enrol("web07")
	w.must(ActNodeTags, w.tags("alice", "web07", 1, false, map[string]string{"role": "db"}))
	by := func(op, node string) error {
		tk := w.token("replace", func(tk *Token) { tk.Replace, tk.Uses, tk.Tags = "web07", 1, nil })
		return w.tryEnrol(w.enrolBy(op, "join replace", node, "web07", "n1", tk))
	}
	refused(t, w.tryEnrol(w.enrolment("new", "web07", w.token("second", nil))), fleet.Conflict, "enrolled already")
	if err := by("alice", "new"); err != nil {
		t.Fatal(err)
	}
	n, ok := w.record.Roster.ByName("web07")
	if !ok || n.ID != key("new").ID() || n.Tags["role"] != "db" || n.Server || w.record.Roster.Len() != 2 {
		t.Errorf("after the replacement: %+v", n)
	}
	_, err := w.record.Roster.Enrolled(key("web07").ID())
	refused(t, err, fleet.Denied, "removed")
	refused(t, by("alice", "web07"), fleet.Denied, "removed") // the old key never comes back
	if _, ok := w.record.Roster.ByName("web07"); !ok {
		t.Error("a refused replacement took the name away")
	}
}

// Replacing takes a node out and gives its tags and its place among the servers away: who may not do that with a node
// may not replace it either.
func TestReplaceAsksPolicyAboutTheOldNode(t *testing.T) {
	w := newTown(t)
	w.charter(CharterPutOperator, operator("bob", "dev"))
	rule := func(extra string) {
		w.charter(CharterPutPolicy, PutPolicy{FirstPolicy + `permit (principal in Team::"dev", action == Action::"token.put", resource);` + extra})
	}
	by := func() error {
		tk := w.token("replace", func(tk *Token) { tk.Replace, tk.Uses, tk.Server = "n1", 1, false })
		return w.tryEnrol(w.enrolBy("bob", "join replace", "new", "n1", "n1", tk))
	}
	rule("")
	refused(t, by(), fleet.Denied, "may not node.remove on n1")
	rule(`permit (principal in Team::"dev", action == Action::"node.remove", resource);`)
	refused(t, by(), fleet.Denied, "may not node.tag on n1")
	rule(`permit (principal in Team::"dev", action in [Action::"node.remove", Action::"node.tag"], resource) unless { context.server };`)
	refused(t, by(), fleet.Denied, "may not node.remove on n1") // n1 is a server
	rule(`permit (principal in Team::"dev", action in [Action::"node.remove", Action::"node.tag"], resource);`)
	if err := by(); err != nil {
		t.Error(err)
	}
}

func TestOversizedEnrolmentIsNotDecoded(t *testing.T) {
	w := newTown(t)
	refused(t, w.apply(ActEnrol, make([]byte, MaxEnrolment+2<<10)), fleet.Exhausted, "at most")
	big := w.token("second", nil)
	e := w.enrolment("n2", "n2", big)
	e.Token.Body = make([]byte, MaxEnrolment)
	_, err := w.record.Charter.VerifyRequest(e.Token, e.Request, at(w.now))
	refused(t, err, fleet.Exhausted, "at most")

	full := w.token("second", func(tk *Token) { // the largest token that there is fits
		tk.Tags = map[string]string{}
		for i := range fleet.MaxTags {
			k, v := slices.Repeat([]byte{'k'}, 128), slices.Repeat([]byte{'v'}, fleet.MaxTagValue)
			k[0], k[1] = byte('a'+i/26), byte('a'+i%26)
			tk.Tags[string(k)] = string(v)
		}
	})
	if err := w.tryEnrol(w.enrolment("n2", "n2", full)); err != nil {
		t.Errorf("50 tags of full size: %v", err)
	}
	if err := w.apply(ActNodeTags, w.tags("alice", "n2", 1, true, full.Tags)); err != nil {
		t.Errorf("a tag statement of full size: %v", err)
	}
}

// VerifyEnrolment serves whoever has another source of keys, such as a joiner who meets its first server.
func TestVerifyEnrolmentAsksForTheServersKey(t *testing.T) {
	w := newTown(t)
	e := w.enrolment("n2", "n2", w.token("second", nil))
	var asked fleet.ID
	a, err := w.record.Charter.VerifyEnrolment(e, at(w.now), func(id fleet.ID, a Admitted) (ed25519.PublicKey, error) {
		asked = id
		return key("n1").Public(), nil
	})
	if err != nil || asked != key("n1").ID() || a.ID != key("n2").ID() || a.Request.Name != "n2" {
		t.Errorf("%v: %+v", err, a)
	}
	if _, err := (*Charter)(nil).VerifyRequest(e.Token, e.Request, at(w.now)); err == nil {
		t.Error("verified without a charter")
	}
}

// The token's signature is not checked again for the same bytes; other bytes that claim to be the same token are.
func TestAKnownTokenWithAnotherSignature(t *testing.T) {
	w := newTown(t)
	w.charter(CharterPutOperator, operator("bob", RootTeam))
	token := w.token("second", nil)
	w.must(ActEnrol, w.enrolment("n2", "n2", token).Encode())
	for name, change := range map[string]func(*Envelope){
		"damaged":   func(e *Envelope) { e.Signature = slices.Clone(e.Signature); e.Signature[9] ^= 1 },
		"none":      func(e *Envelope) { e.Signature = nil },
		"by bob":    func(e *Envelope) { e.Key = key("bob").ID() },
		"by n1":     func(e *Envelope) { e.Key = key("n1").ID() },
		"format":    func(e *Envelope) { e.Format = 2 },
		"algorithm": func(e *Envelope) { e.Algorithm = 2 },
	} {
		e := w.enrolment("n3", "n3", token)
		change(&e.Token)
		if err := w.tryEnrol(e); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	byBob := w.enrolBy("bob", "join second", "n3", "n3", "n1", token)
	if err := w.tryEnrol(byBob); err != nil {
		t.Errorf("the same token, signed by another operator: %v", err)
	}
	// What is remembered of a token does not shield its signer.
	w.charter(CharterDeleteOperator, DeleteOperator{Name: "bob", Key: key("bob").ID(), Compromised: true})
	refused(t, w.tryEnrol(w.enrolBy("bob", "join second", "n4", "n4", "n1", token)), fleet.Denied, "compromised")
	w.charter(CharterPutPolicy, PutPolicy{""})
	refused(t, w.tryEnrol(w.enrolment("n4", "n4", token)), fleet.Denied, "may not token.put")
}

// Nodes that enrolled with one token share its bytes and its tags: a node costs its own signatures, not the token's.
func TestNodesShareTheirToken(t *testing.T) {
	w := newTown(t)
	token := w.token("second", func(tk *Token) { tk.Uses = 2 })
	for _, name := range []string{"n2", "n3"} {
		w.must(ActEnrol, w.enrolment(name, name, token).Encode())
	}
	a, _ := w.record.Roster.ByName("n2")
	b, _ := w.record.Roster.ByName("n3")
	if &a.Enrolment.Token.Body[0] != &b.Enrolment.Token.Body[0] {
		t.Error("two copies of one token")
	}
	digest := a.Enrolment.Token.Digest(ForToken, w.fleetID())
	if used, ok := w.record.Roster.tokens.Get(digest[:]); !ok || used.statement.Body != nil || used.uses != 2 {
		t.Errorf("a token that is used up should be a number: %+v", used)
	}
}

// The counts of tokens that expired are let go, and no others.
func TestCountsOfExpiredTokensAreDropped(t *testing.T) {
	r := emptyRoster()
	count := func(label string, expires, at int64, uses uint32) {
		tk := Token{Header: Header{Expires: expires}, Uses: 5}
		r = r.spend(fleet.Sum([]byte(label)), spent{token: tk, uses: uses}, at)
	}
	for i := range MaxTokens {
		count(string(rune(i)), start+int64(i%2)*hour, start-1, 1+uint32(i%5))
	}
	before := r
	count("one more", start+hour, start, 1)
	if got := r.tokens.Len(); got != MaxTokens/2+1 || before.tokens.Len() != MaxTokens {
		t.Errorf("%d tokens are counted; the old roster has %d", got, before.tokens.Len())
	}
	last := fleet.Sum([]byte(string(rune(9)))) // used up, not expired
	if used, ok := r.tokens.Get(last[:]); !ok || used.uses != 5 {
		t.Errorf("a used-up token that is still valid was forgotten: %+v", used)
	}
}

// A peer that is newer than our record shows its enrolment.
func TestRecordVerifyEnrolment(t *testing.T) {
	w := newTown(t)
	token := w.token("second", func(tk *Token) { tk.Uses = 1 })
	e := w.enrolment("n2", "n2", token)
	if a, err := w.record.VerifyEnrolment(e); err != nil || a.ID != key("n2").ID() {
		t.Errorf("a good one: %v", err)
	}
	w.now += 1000 * hour // the peer shows it long after
	if _, err := w.record.VerifyEnrolment(e); err != nil {
		t.Errorf("long after: %v", err)
	}
	w.now -= 1000 * hour
	bad := func(e Enrolment) error { _, err := w.record.VerifyEnrolment(e); return err }
	refused(t, bad(w.enrolBy("mallory", "join second", "n2", "n2", "n1", token)), fleet.Denied, "never an operator")
	refused(t, bad(w.enrolBy("alice", "mallory", "n2", "n2", "n1", token)), fleet.Denied, "names key")
	refused(t, bad(w.enrolBy("alice", "join second", "n2", "n2", "n2", token)), fleet.Denied, "not enrolled")
	big := e
	big.Token.Body = make([]byte, MaxEnrolment)
	refused(t, bad(big), fleet.Exhausted, "at most")
	w.must(ActEnrol, e.Encode())
	refused(t, bad(w.enrolment("n3", "n3", token)), fleet.Denied, "beyond the 1 uses")
	if _, err := NewRecord().VerifyEnrolment(e); err == nil {
		t.Error("verified without a charter")
	}
}
