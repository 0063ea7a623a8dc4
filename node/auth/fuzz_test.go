package auth

import (
	"strings"
	"testing"

	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
)

// fuzzTown is a small fleet with an act of every kind behind it.
func fuzzTown(f *testing.F) *town {
	w := newTown(f)
	w.charter(CharterPutOperator, operator("bob", "web"))
	w.enrol("n2", "n3")
	w.must(ActNodeTags, w.tags("alice", "n2", 1, false, map[string]string{"role": "db"}))
	w.must(ActNodeRemove, w.removal("alice", "n3"))
	w.must(ActGossipEpoch, wire.Marshal(GossipEpoch{Epoch: 1, Hash: fleet.Sum([]byte("key"))}))
	w.must(ActKeyring, w.newKeyring("alice", "web", "n1,n2"))
	w.must(ActKeyring, w.retarget("alice", "web", "n1,n2", true))
	w.must(ActKeyringEpoch, w.epoch("n1", "web", 2, nil))
	return w
}

// Nothing that did not come from the key opens.
func FuzzEnvelope(f *testing.F) {
	id, signer := fleet.Sum([]byte("fleet")), key("a")
	good := signer.Sign(ForNodeTags, id, NodeTags{Header: Header{ID: uuid("x"), Issued: start}, Tags: map[string]string{"a": "b"}})
	bad := good
	bad.Body = append([]byte{}, good.Body[1:]...)
	f.Add(wire.Marshal(good))
	f.Add(wire.Marshal(bad))
	f.Add(wire.Marshal(signer.Sign(ForToken, id, Token{})))
	f.Add(wire.Marshal(Envelope{}))
	f.Add([]byte{0x95, 1, 1, 0xdd, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, data []byte) {
		var e Envelope
		if wire.Unmarshal(data, &e) != nil {
			return
		}
		_, _ = Peek[Token](e)
		_, _ = Peek[Beacon](e)
		got, err := Open[NodeTags](e, ForNodeTags, id, signer.Public())
		if err == nil && e.Digest(ForNodeTags, id) != good.Digest(ForNodeTags, id) {
			t.Fatalf("opened what was never signed: %+v", got)
		}
	})
}

// Nothing grows a charter but what a root signed; and reading never changes it.
func FuzzCharterEntry(f *testing.F) {
	c, roots := found(f, 1, 2)
	c = grow(f, c, CharterPutOperator, operator("alice", RootTeam), roots[0])
	next := []CharterEntry{
		SignCharter(c, issued(start), CharterPutOperator, operator("bob"), roots[0]),
		SignCharter(c, issued(start), CharterDeleteOperator, DeleteOperator{Name: "alice", Key: key("alice").ID()}, roots[1]),
		SignCharter(c, issued(start), CharterPutPolicy, PutPolicy{FirstPolicy}, roots[0]),
		SignCharter(c, issued(start), CharterPutRoots, PutRoots{Roots: publics(roots...), Threshold: 2}, roots...),
		SignCharter(c, issued(start), CharterEpoch, Epoch{Epoch: 1}, roots[0]),
	}
	signed := map[fleet.ID]bool{}
	for _, e := range next {
		f.Add(wire.Marshal(e))
		signed[fleet.Sum(e.Body)] = true
	}
	first := genesis(1, roots...)
	f.Add(wire.Marshal(first))
	f.Add([]byte{0x93, 1, 0xc4, 0, 0xdc, 0xff, 0xff})
	before := picture(Record{Charter: c, Roster: emptyRoster()})
	f.Fuzz(func(t *testing.T, data []byte) {
		var e CharterEntry
		if wire.Unmarshal(data, &e) != nil {
			return
		}
		if grown, err := c.Append(e); err == nil && (!signed[fleet.Sum(e.Body)] || grown.Len() != c.Len()+1 || grown.Knows(fleet.ID{})) {
			t.Fatalf("took an entry that no root signed: %x", e.Body)
		}
		if _, err := Found(e, c.Fleet()); err == nil && fleet.Sum(e.Body) != fleet.Sum(first.Body) {
			t.Fatal("another genesis founds the same fleet")
		}
		_, _ = Found(e, fleet.ID{})
		if picture(Record{Charter: c, Roster: emptyRoster()}) != before {
			t.Fatal("reading an entry changed the charter")
		}
	})
}

// whoIsWho is all of a record that only signatures change.
func whoIsWho(r Record) Record {
	return Record{Charter: r.Charter, Roster: r.Roster, Groups: r.Groups, Settings: r.Settings, Keyrings: r.Keyrings}
}

// Whatever act comes: the old record stays, a refusal changes nothing, and nobody but a signer changes who is who.
func FuzzRecordApply(f *testing.F) {
	w := fuzzTown(f)
	for _, act := range w.acts {
		f.Add(uint8(act.Kind), uint64(100), int64(start+hour), act.Data)
	}
	epoch := SignCharter(w.record.Charter, w.header(), CharterEpoch, Epoch{Epoch: 1}, w.roots[0])
	fresh := map[fleet.ID]bool{fleet.Sum(epoch.Body): true}
	for kind, data := range map[ActKind][]byte{
		ActEnrol:       w.enrolment("n4", "n4", w.token("second", nil)).Encode(),
		ActNodeTags:    w.tags("alice", "n2", 2, true, nil),
		ActNodeRemove:  w.removal("alice", "n2"),
		ActCharter:     wire.Marshal(epoch),
		ActGossipEpoch: wire.Marshal(GossipEpoch{Epoch: 2}),
		ActGroup:       w.group("alice", "web", "tag.role=web"),
		ActSetting:     w.setting("alice", SettingRecordsKeep, "10d"),
		ActKeyring:     w.newKeyring("alice", "db", "tag.role=db"),

		ActKeyringHolding: w.holding("n2", "web", nil),
	} {
		f.Add(uint8(kind), uint64(100), int64(start+hour/2), data)
		fresh[fleet.Sum(data)] = true
	}
	f.Add(uint8(ActEnrol), uint64(0), int64(-1), []byte{0x93, 0xc0, 0xc0, 0xc0})
	before, people := picture(w.record), picture(whoIsWho(w.record))
	f.Fuzz(func(t *testing.T, kind uint8, index uint64, ms int64, data []byte) {
		act := Act{Index: index, Time: ms, Kind: ActKind(kind), Data: data}
		next, err := w.record.Apply(act, fleet.ID{})
		if picture(w.record) != before {
			t.Fatal("Apply changed the old record")
		}
		if err != nil {
			if picture(next) != before {
				t.Fatalf("a refused act (%v) changed the record", err)
			}
			return
		}
		if next.Act != index || next.Time != ms || next.Length != w.record.Length+1 || next.Head == w.record.Head {
			t.Fatalf("the chain is broken: %+v", next)
		}
		var entry CharterEntry
		if act.Kind == ActCharter && wire.Unmarshal(data, &entry) == nil && fresh[fleet.Sum(entry.Body)] {
			return // the same entry, with its signatures in another number or order
		}
		changed := picture(whoIsWho(next)) != people
		if changed && !fresh[fleet.Sum(data)] {
			t.Fatalf("an act that nobody signed changed who is who: %+v", act)
		}
	})
}

// Whatever is read as a join string is written the same way: there is one text for each.
func FuzzJoinString(f *testing.F) {
	good := joinString("10.1.2.3:7980", "[fe80::1%eth0]:7980").String()
	f.Add(good)
	f.Add(good[:len(good)-3])
	f.Add(" " + good[:40] + "\r\n\t" + good[40:])
	f.Add(joinPrefix)
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		j, err := ParseJoinString(text)
		if err != nil {
			return
		}
		if j.String() != strings.Join(strings.Fields(text), "") {
			t.Fatalf("two texts for one join string: %q", text)
		}
		_ = j.Signer()
	})
}

// Whatever text compiles can be asked.
func FuzzPolicy(f *testing.F) {
	f.Add(FirstPolicy)
	f.Add(`forbid (principal, action, resource) when { resource.getTag("a") like "*b" };`)
	f.Add(`@id("x") permit (principal == Node::"n1", action in [Action::"run"], resource is Fleet) unless { context.shell };`)
	f.Fuzz(func(t *testing.T, text string) {
		p, err := CompilePolicy(text)
		if err != nil {
			return
		}
		a := ask(Principal{Type: "Node", Name: "n1", Teams: []string{"x"}}, ActRun, Resource{Type: "Node", Name: "n1", Tags: map[string]string{"a": "b"}})
		rule, err := p.Decide(a)
		if (err == nil) == (rule == "") {
			t.Fatalf("permitted by %q with %v", rule, err)
		}
	})
}
