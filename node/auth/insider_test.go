package auth

import (
	"bytes"
	"crypto/ed25519"
	"testing"

	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
	"github.com/muster-fleet/muster/testnet/hostile"
)

// These targets sign what the fuzzer makes up, with keys that count: behind a good signature, too, a body means one thing
// or nothing, and the record's own rules hold whatever an operator, a root or a server signs.

// signRaw signs bytes as they are.
func signRaw(s Signer, purpose Purpose, fleetID fleet.ID, body []byte) Envelope {
	return Envelope{
		Format: EnvelopeFormat, Algorithm: Ed25519, Key: s.ID(), Body: body, Signature: ed25519.Sign(s.key, signedBytes(purpose, fleetID, body)),
	}
}

// opensAs opens a signed body as T. What opens is what T encodes to; one bit more or less, and it does not.
func opensAs[T any](t *testing.T, purpose Purpose, body []byte, flip uint32) {
	t.Helper()
	id, signer := fleet.Sum([]byte("fleet")), key("a")
	e := signRaw(signer, purpose, id, body)
	got, err := Open[T](e, purpose, id, signer.Public())
	if peeked, peek := Peek[T](e); (peek == nil) != (err == nil) || !bytes.Equal(wire.Marshal(peeked), wire.Marshal(got)) && err == nil {
		t.Fatalf("Peek says %v, Open %v", peek, err)
	}
	if err != nil {
		return
	}
	if !bytes.Equal(wire.Marshal(got), body) {
		t.Fatalf("%T means what it does not say: %x", got, body)
	}
	raw := wire.Marshal(e)
	raw[flip/8%uint32(len(raw))] ^= 1 << (flip % 8)
	var bent Envelope
	if wire.Unmarshal(raw, &bent) != nil {
		return
	}
	if _, err := Open[T](bent, purpose, id, signer.Public()); err == nil {
		t.Fatalf("bit %d of %x may change", flip, wire.Marshal(e))
	}
	if _, err := Open[T](e, purpose+"x", id, signer.Public()); err == nil {
		t.Fatal("it opens for another purpose")
	}
	if _, err := Open[T](e, purpose, fleet.ID{}, signer.Public()); err == nil {
		t.Fatal("it opens in another fleet")
	}
}

func FuzzStatement(f *testing.F) {
	w := fuzzTown(f)
	head := w.header()
	for i, body := range []any{
		CharterBody{Header: head, Seq: 1, Kind: CharterEpoch, Content: []byte{1}}, w.token("second", nil), DeleteToken{Header: head, Token: uuid("t")},
		EnrolRequest{Header: head, Token: uuid("t"), Key: key("n9").Public(), Name: "n9"}, Countersign{Header: head, Node: key("n9").ID()},
		NodeTags{Header: head, Node: key("n2").ID(), Seq: 2, Tags: map[string]string{"role": "web", "a": ""}}, NodeRemove{Header: head, Node: key("n2").ID(), Seq: 2},
		Beacon{Time: start, Voters: []fleet.ID{key("n1").ID()}, Spares: []fleet.ID{{}}}, Enrolment{}, GossipEpoch{Epoch: 1},
		GroupChange{Header: head, Name: "web", Target: "tag.role=web"}, SettingChange{Header: head, Name: SettingOutputTo, Value: "syslog"},
		KeyringChange{Header: head, Name: "web", Target: "n1,n2", First: []EpochKey{w.firstEpoch("alice")}}, KeyringEpoch{Header: head, Keyring: "web", Number: 2, Need: 1},
		KeyringHolding{Header: head, Keyring: "web", Number: 2}, PutRoots{Roots: publics(w.roots...), Threshold: 1, Recovery: hpkeKey("recovery")},
	} {
		f.Add(uint8(i), wire.Marshal(body), uint32(i*100))
	}
	f.Fuzz(func(t *testing.T, which uint8, body []byte, flip uint32) {
		switch which % 16 {
		case 0:
			opensAs[CharterBody](t, ForCharter, body, flip)
		case 1:
			opensAs[Token](t, ForToken, body, flip)
		case 2:
			opensAs[DeleteToken](t, ForTokenDelete, body, flip)
		case 3:
			opensAs[EnrolRequest](t, ForEnrol, body, flip)
		case 4:
			opensAs[Countersign](t, ForCountersign, body, flip)
		case 5:
			opensAs[NodeTags](t, ForNodeTags, body, flip)
		case 6:
			opensAs[NodeRemove](t, ForNodeRemove, body, flip)
		case 7:
			opensAs[Beacon](t, ForBeacon, body, flip)
		case 8:
			opensAs[Enrolment](t, ForReport, body, flip)
		case 9:
			opensAs[GossipEpoch](t, ForRequest, body, flip)
		case 10:
			opensAs[GroupChange](t, ForGroup, body, flip)
		case 11:
			opensAs[SettingChange](t, ForSetting, body, flip)
		case 12:
			opensAs[KeyringChange](t, ForKeyring, body, flip)
		case 13:
			opensAs[KeyringEpoch](t, ForKeyringEpoch, body, flip)
		case 14:
			opensAs[KeyringHolding](t, ForKeyringHolding, body, flip)
		case 15:
			opensAs[PutRoots](t, ForCharter, body, flip)
		}
	})
}

// rawCharter is an entry on top of c, signed by roots, with content as it is.
func rawCharter(c *Charter, body CharterBody, roots ...Signer) CharterEntry {
	entry := CharterEntry{Format: EnvelopeFormat, Body: wire.Marshal(body)}
	for _, root := range roots {
		e := signRaw(root, ForCharter, c.fleetID, entry.Body)
		entry.Signatures = append(entry.Signatures, RootSignature{Algorithm: Ed25519, Key: e.Key, Signature: e.Signature})
	}
	return entry
}

// Whatever roots sign, a charter keeps to its limits, and can be grown on.
func FuzzCharterContent(f *testing.F) {
	c, roots := found(f, 1, 2)
	c = grow(f, c, CharterPutOperator, operator("alice", RootTeam), roots[0])
	c = grow(f, c, CharterPutOperator, operator("bob", "web"), roots[0])
	for kind, content := range map[CharterKind]any{
		CharterPutOperator: operator("carol", "web", "db"), CharterDeleteOperator: DeleteOperator{Name: "bob", Key: key("bob").ID(), Compromised: true},
		CharterPutPolicy: PutPolicy{FirstPolicy}, CharterPutRoots: PutRoots{Roots: publics(key("r1"), key("r2"), key("r3")), Threshold: 2},
		CharterEpoch: Epoch{Epoch: 7, Reason: "lost"}, 0: putRoots1{publics(roots...), 2}, CharterGenesis: Genesis{Name: "x", Roots: publics(roots...), Threshold: 1},
	} {
		if kind == 0 { // another form of the same
			kind = CharterPutRoots
		}
		f.Add(uint8(kind), wire.Marshal(content), start)
	}
	f.Add(uint8(CharterPutRoots), wire.Marshal(PutRoots{publics(roots...), 1, hpkeKey("recovery")}), start)
	f.Add(uint8(CharterPutOperator), wire.Marshal(operator("alice", "other")), int64(-1))
	before := picture(Record{Charter: c, Roster: emptyRoster()})
	f.Fuzz(func(t *testing.T, kind uint8, content []byte, ms int64) {
		entry := rawCharter(c, CharterBody{Header: Header{Issued: ms, Charter: c.head}, Seq: c.seq, Kind: CharterKind(kind), Content: content}, roots...)
		next, err := c.Append(entry)
		if picture(Record{Charter: c, Roster: emptyRoster()}) != before {
			t.Fatal("an entry changed the charter it was put on")
		}
		if err != nil {
			return
		}
		k, n := next.Threshold()
		if size := len(next.Recovery()); size != 0 && size != KeySize {
			t.Fatalf("a recovery key of %d bytes", size)
		}
		if k < 1 || k > n || n > MaxRoots || len(next.policy.text) > MaxPolicy || next.Len() != c.Len()+1 || !next.Knows(next.Head()) {
			t.Fatalf("threshold %d of %d, policy of %d bytes, length %d", k, n, len(next.policy.text), next.Len())
		}
		operators := next.Operators()
		if len(operators) != next.standing || len(operators) > MaxOperators {
			t.Fatalf("%d operators, counted as %d", len(operators), next.standing)
		}
		for i, op := range operators {
			if op.check() != nil || i > 0 && operators[i-1].Name == op.Name {
				t.Fatalf("operator %+v", op)
			}
		}
		if _, err := next.Append(entry); err == nil {
			t.Fatal("an entry was taken twice")
		}
	})
}

// Whatever an operator, a joiner or a server signs: roster entries are sound, and nobody is made a server but by an
// operator's word.
func FuzzRosterEntry(f *testing.F) {
	w := fuzzTown(f)
	token := w.token("second", func(t *Token) { t.Server = false })
	request := EnrolRequest{Header: w.header(), Token: token.Header.ID, Key: key("n4").Public(), HPKE: fleet.Sum([]byte("h")), Name: "n4"}
	replace := w.token("second", func(t *Token) { t.Replace, t.Uses = "n2", 1 })
	forReplace := request
	forReplace.Token, forReplace.Name = replace.Header.ID, "n2"
	ask := func(kind uint8, first, second any) { f.Add(kind, wire.Marshal(first), wire.Marshal(second)) }
	ask(0, token, request)
	ask(0, replace, forReplace)
	ask(0, w.token("second", func(t *Token) { t.Pattern = "n*" }), request)
	ask(1, NodeTags{Header: w.header(), Node: key("n2").ID(), Seq: 2, Tags: map[string]string{"role": "web", "zone": "a"}, Server: true}, "")
	ask(2, NodeRemove{Header: w.header(), Node: key("n2").ID(), Seq: 2}, "")
	ask(3, GossipEpoch{Epoch: 2, Hash: fleet.Sum([]byte("key"))}, "")
	ask(3, GossipEpoch{Epoch: 1, Hash: fleet.Sum([]byte("key")), Send: true}, "")
	id, before := w.fleetID(), picture(w.record)
	f.Fuzz(func(t *testing.T, kind uint8, first, second []byte) {
		act := Act{Index: w.record.Act + 1, Time: w.now + 1000}
		server := false
		switch kind % 4 {
		case 0:
			e := Enrolment{Token: signRaw(key("alice"), ForToken, id, first), Request: signRaw(key("join second"), ForEnrol, id, second)}
			peeked, _ := Peek[EnrolRequest](e.Request)
			e.Countersign = key("n1").Sign(ForCountersign, id, Countersign{Request: e.Request.Digest(ForEnrol, id), Node: fleet.Sum(peeked.Key)})
			act.Kind, act.Data = ActEnrol, e.Encode()
			if granted, err := Peek[Token](e.Token); err == nil {
				server = granted.Server || granted.Replace != ""
			}
		case 1:
			act.Kind, act.Data = ActNodeTags, wire.Marshal(signRaw(key("alice"), ForNodeTags, id, first))
			if set, err := Peek[NodeTags](Envelope{Body: first}); err == nil {
				server = set.Server
			}
		case 2:
			act.Kind, act.Data = ActNodeRemove, wire.Marshal(signRaw(key("alice"), ForNodeRemove, id, first))
		case 3:
			act.Kind, act.Data = ActGossipEpoch, first
		}
		next, err := w.record.Apply(act, fleet.ID{})
		if picture(w.record) != before || err != nil && picture(next) != before {
			t.Fatalf("an act changed what it must not: %v", err)
		}
		if err != nil {
			return
		}
		count := 0
		for n := range next.Roster.All() {
			count++
			old, had := w.record.Roster.Node(n.ID)
			named, _ := next.Roster.ByName(n.Name)
			byID, _ := next.Roster.Node(n.ID)
			if fleet.CheckName(n.Name) != nil || fleet.CheckTags(n.Tags) != nil || n.Removed != 0 || named != n || byID != n || fleet.Sum(n.Key) != n.ID {
				t.Fatalf("entry %+v", n)
			}
			if n.Server && !server && (!had || !old.Server) {
				t.Fatalf("%s became a server by nobody's word", n.Name)
			}
		}
		if count != next.Roster.Len() || count > MaxNodes {
			t.Fatalf("%d nodes, counted as %d", count, next.Roster.Len())
		}
		act.Index, act.Time = act.Index+1, act.Time+1
		if _, err := next.Apply(act, fleet.ID{}); err == nil && act.Kind != ActEnrol && act.Kind != ActNodeTags {
			t.Fatalf("an act of kind %d was taken twice", act.Kind)
		} else if err == nil {
			t.Fatal("a node was enrolled or tagged twice by one statement")
		}
	})
}

// Whatever an operator or a member signs: keyrings are sound, nothing is sealed to an epoch that nobody made, and only who is
// in a keyring makes and holds its epochs.
func FuzzKeyring(f *testing.F) {
	w := fuzzTown(f)
	w.enrol("n4")
	k := w.keyring("web")
	change := KeyringChange{Header: w.header(), Name: "web", Target: "n2"}
	f.Add(uint8(0), uint8(0), wire.Marshal(change))
	change.Target, change.Rotate = "tag.role=web or n1", true
	f.Add(uint8(0), uint8(0), wire.Marshal(change))
	change.Target, change.Rotate = "", false
	f.Add(uint8(0), uint8(0), wire.Marshal(change))
	change = KeyringChange{Header: w.header(), Name: "all", Target: "*", First: []EpochKey{w.firstEpoch("alice")}}
	f.Add(uint8(0), uint8(0), wire.Marshal(change))
	next := KeyringEpoch{Header: w.header(), Keyring: "web", Life: k.Life, Number: 3, Need: 1, Epoch: EpochKey{Key: hpkeKey("x"), Escrow: escrowFor(keeper("alice"))}}
	f.Add(uint8(1), uint8(1), wire.Marshal(next))
	f.Add(uint8(2), uint8(2), wire.Marshal(KeyringHolding{Header: w.header(), Keyring: "web", Life: k.Life, Number: 2}))
	before, signers := picture(w.record), []string{"alice", "n1", "n2", "n4", "bob"}
	f.Fuzz(func(t *testing.T, kind, by uint8, body []byte) {
		signer, purpose := signers[int(by)%len(signers)], []Purpose{ForKeyring, ForKeyringEpoch, ForKeyringHolding}[kind%3]
		act := Act{
			Index: w.record.Act + 1, Time: w.now + 2*EpochPatience, Kind: ActKeyring + ActKind(kind%3),
			Data: wire.Marshal(signRaw(key(signer), purpose, w.fleetID(), body)),
		}
		next, err := w.record.Apply(act, fleet.ID{})
		if picture(w.record) != before || err != nil && picture(next) != before {
			t.Fatalf("an act changed what it must not: %v", err)
		}
		if err != nil {
			return
		}
		switch {
		case act.Kind == ActKeyring && signer != "alice":
			t.Fatalf("%s changed a keyring", signer)
		case act.Kind != ActKeyring && signer != "n1" && signer != "n2":
			t.Fatalf("%s made or holds an epoch", signer)
		}
		if _, err := next.Apply(Act{Index: act.Index + 1, Time: act.Time, Kind: act.Kind, Data: act.Data}, fleet.ID{}); err == nil {
			t.Fatal("an act was taken twice")
		}
		for _, k := range next.Keyrings.All() {
			sound(t, next, k)
		}
	})
}

func sound(t *testing.T, r Record, k *Keyring) {
	t.Helper()
	if got, ok := r.Keyrings.Get(k.Name); !ok || got != k || fleet.CheckName(k.Name) != nil || k.Life == (fleet.UUID{}) {
		t.Fatalf("keyring %+v", k)
	}
	if target, err := CheckKeyringTarget(k.Target.String()); err != nil || !target.Equal(k.Target) {
		t.Fatalf("keyring %s follows %s: %v", k.Name, k.Target, err)
	}
	for i, e := range k.Epochs {
		if len(e.Key) != KeySize || len(e.Escrow) > MaxEscrow || len(e.keepers) != len(e.Escrow) || i > 0 && e.Number <= k.Epochs[i-1].Number || e.Used == 0 && i < len(k.Epochs)-1 {
			t.Fatalf("epoch %+v", e)
		}
	}
	_, e, err := r.Sealable(k.Name)
	if err == nil && (e.Used == 0 || e.Number <= k.Closed) {
		t.Fatalf("keyring %s is sealed to %+v", k.Name, e)
	}
	for n := range r.KeyringMembers(k.Name) {
		for _, f := range r.Could(k.Name) {
			if f.Node == n.ID {
				t.Fatalf("%s is in keyring %s and had been", n.Name, k.Name)
			}
		}
	}
}

// Whatever a server signs, a beacon is bounded; what others sign is none.
func FuzzBeacon(f *testing.F) {
	w := fuzzTown(f)
	full := Beacon{Time: start, Epoch: 1, CharterHead: w.record.Charter.Head(), CharterLen: 2, RecordHead: w.record.Head, RecordLen: w.record.Length, Act: 9, Term: 3,
		Leader: key("n1").ID(), Voters: make([]fleet.ID, MaxVoters), Spares: make([]fleet.ID, MaxSpares), FleetVersion: 1}
	f.Add(wire.Marshal(full))
	f.Add(wire.Marshal(Beacon{}))
	f.Add(wire.Marshal(Beacon{Time: -1, Voters: make([]fleet.ID, MaxVoters+1)}))
	f.Fuzz(func(t *testing.T, body []byte) {
		b, err := OpenBeacon(w.record, signRaw(key("n1"), ForBeacon, w.fleetID(), body))
		if err == nil && (!bytes.Equal(wire.Marshal(b), body) || len(b.Voters) > MaxVoters || len(b.Spares) > MaxSpares || !isTime(b.Time)) {
			t.Fatalf("beacon %+v", b)
		}
		for _, other := range []string{"n2", "n3", "alice", "stranger"} { // no server, removed, no node, nobody
			if _, err := OpenBeacon(w.record, signRaw(key(other), ForBeacon, w.fleetID(), body)); err == nil {
				t.Fatalf("a beacon by %s was taken", other)
			}
		}
		if err != nil {
			return
		}
		for _, old := range []Beacon{full, {}} {
			if b.Newer(old) && old.Newer(b) {
				t.Fatal("two beacons are each newer than the other")
			}
		}
		at := instant(start, 1000)
		c := Clock{Floor: start}.Hear(b.Time, at).Overhear(b.Time, at)
		if c.Floor < start || c.Now(at).UnixMilli() < start {
			t.Fatalf("time goes back to %d", c.Floor)
		}
	})
}

// TestMemory: what is refused costs no more than its bytes, and what is accepted what its kind may.
func TestMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("counts every byte of thousands of inputs")
	}
	w := newTown(t)
	w.enrol("n2")
	w.must(ActKeyring, w.newKeyring("alice", "web", "tag.role=web"))
	w.must(ActKeyring, w.retarget("alice", "web", "tag.role=web", true))
	decode := func(data []byte) {
		var e Envelope
		if wire.Unmarshal(data, &e) == nil {
			_, _ = Peek[Token](e)
			_, _ = Peek[Beacon](e)
			_, _ = OpenBeacon(w.record, e)
		}
		var shown Enrolment
		if wire.Unmarshal(data, &shown) == nil {
			_, _ = w.record.VerifyEnrolment(shown)
		}
	}
	enrolment := w.enrolment("n4", "n4", w.token("second", nil))
	hostile.Check(t, hostile.Bound{Base: 64 << 10, PerByte: 64}, decode, hostile.Join(
		hostile.Some(3, hostile.Inputs(32<<10, wire.Marshal(enrolment.Token), enrolment.Encode(), wire.Marshal(key("n1").Sign(ForBeacon, w.fleetID(), Beacon{Voters: make([]fleet.ID, 2)})))),
		hostile.Corpus(t, "FuzzEnvelope"), hostile.Corpus(t, "FuzzStatement"), hostile.Corpus(t, "FuzzBeacon")))

	for kind, sample := range map[ActKind][]byte{
		ActCharter: wire.Marshal(SignCharter(w.record.Charter, w.header(), CharterPutOperator, operator("bob", "a", "b"), w.roots...)), ActEnrol: enrolment.Encode(),
		ActNodeTags: w.tags("alice", "n2", 1, false, map[string]string{"role": "db"}), ActNodeRemove: w.removal("alice", "n2"),
		ActGossipEpoch: wire.Marshal(GossipEpoch{Epoch: 1}), ActGroup: w.group("alice", "web", "tag.role=web"),
		ActSetting: w.setting("alice", SettingOutputTo, "syslog"), ActKeyring: w.newKeyring("alice", "db", "tag.role=db"),
		ActKeyringEpoch: w.epoch("n1", "web", 2, nil), ActKeyringHolding: w.holding("n2", "web", nil),
	} {
		apply := func(data []byte) {
			_, _ = w.record.Apply(Act{Index: w.record.Act + 1, Time: w.now, Kind: kind, Data: data}, fleet.ID{})
		}
		hostile.Check(t, hostile.Bound{Base: 128 << 10, PerByte: 64}, apply, hostile.Join(
			hostile.Some(3, hostile.Inputs(2*maxData[kind], sample)), hostile.Corpus(t, "FuzzRecordApply"), hostile.Corpus(t, "FuzzCharterEntry")))
	}

	// Behind a good signature.
	for _, c := range []struct {
		sample []byte
		as     func(body []byte) []byte
		kind   ActKind
	}{
		{wire.Marshal(w.token("second", nil)), func(body []byte) []byte {
			return Enrolment{Token: signRaw(key("alice"), ForToken, w.fleetID(), body), Request: enrolment.Request, Countersign: enrolment.Countersign}.Encode()
		}, ActEnrol},
		{wire.Marshal(NodeTags{Header: w.header(), Node: key("n2").ID(), Seq: 1, Tags: map[string]string{"a": "b"}}), func(body []byte) []byte {
			return wire.Marshal(signRaw(key("alice"), ForNodeTags, w.fleetID(), body))
		}, ActNodeTags},
		{wire.Marshal(GroupChange{Header: w.header(), Name: "web", Target: "tag.role=web and not (web-1 or os.name in (debian, ubuntu))"}), func(body []byte) []byte {
			return wire.Marshal(signRaw(key("alice"), ForGroup, w.fleetID(), body))
		}, ActGroup},
		{wire.Marshal(KeyringChange{Header: w.header(), Name: "db", Target: "tag.role=db and not (web-1 or n1)", First: []EpochKey{w.firstEpoch("alice")}}), func(body []byte) []byte {
			return wire.Marshal(signRaw(key("alice"), ForKeyring, w.fleetID(), body))
		}, ActKeyring},
		{wire.Marshal(KeyringEpoch{Header: w.header(), Keyring: "web", Life: w.keyring("web").Life, Number: 2, Need: 1, Epoch: w.firstEpoch("alice")}), func(body []byte) []byte {
			return wire.Marshal(signRaw(key("n1"), ForKeyringEpoch, w.fleetID(), body))
		}, ActKeyringEpoch},
		{wire.Marshal(PutRoots{Roots: publics(w.roots...), Threshold: 1}), func(body []byte) []byte {
			c := w.record.Charter
			return wire.Marshal(rawCharter(c, CharterBody{Header: Header{Issued: start, Charter: c.head}, Seq: c.seq, Kind: CharterPutRoots, Content: body}, w.roots...))
		}, ActCharter},
		{wire.Marshal(operator("bob", "a", "b")), func(body []byte) []byte {
			c := w.record.Charter
			return wire.Marshal(rawCharter(c, CharterBody{Header: Header{Issued: start, Charter: c.head}, Seq: c.seq, Kind: CharterPutOperator, Content: body}, w.roots...))
		}, ActCharter},
	} {
		signed := func(yield func(string, []byte) bool) {
			for name, in := range hostile.Inputs(maxData[c.kind]-2048, c.sample) {
				if len(in)%7 == 0 || len(in) > 1000 { // signing takes its time
					if !yield(name, c.as(in)) {
						return
					}
				}
			}
		}
		hostile.Check(t, hostile.Bound{Base: 256 << 10, PerByte: 128}, func(data []byte) {
			_, _ = w.record.Apply(Act{Index: w.record.Act + 1, Time: w.now, Kind: c.kind, Data: data}, fleet.ID{})
		}, signed)
	}
	hostile.Check(t, hostile.Bound{Base: 64 << 10, PerByte: 32}, func(in []byte) { _, _ = ParseJoinString(string(in)) },
		hostile.Join(hostile.Inputs(2*joinLength, []byte(joinString("10.1.2.3:7980").String())), hostile.Corpus(t, "FuzzJoinString")))
}
