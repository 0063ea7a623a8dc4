package auth

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
)

func TestRecordBeginsWithItsGenesis(t *testing.T) {
	entry := genesis(1, key("root1"))
	data := wire.Marshal(entry)
	c, err := Found(entry, fleet.ID{})
	if err != nil {
		t.Fatal(err)
	}
	apply := func(kind ActKind, want fleet.ID) error {
		_, err := NewRecord().Apply(Act{Index: 1, Time: start, Kind: kind, Data: data}, want)
		return err
	}
	if err := apply(ActCharter, c.Fleet()); err != nil {
		t.Error(err)
	}
	refused(t, apply(ActCharter, fleet.Sum([]byte("other"))), fleet.Denied, "not of")
	for _, kind := range []ActKind{ActEnrol, ActNodeTags, ActNodeRemove, ActGossipEpoch, ActGroup, ActSetting, ActKeyring, ActKeyringEpoch, ActKeyringHolding, 0, 99} {
		refused(t, apply(kind, fleet.ID{}), fleet.Invalid, "genesis")
	}
}

func TestActsFollowEachOther(t *testing.T) {
	w := newTown(t)
	data := w.removal("alice", "n1")
	try := func(change func(*Act)) error {
		act := Act{Index: w.record.Act + 1, Time: w.now, Kind: ActNodeRemove, Data: data}
		change(&act)
		_, err := w.record.Apply(act, fleet.ID{})
		return err
	}
	refused(t, try(func(a *Act) { a.Index = w.record.Act }), fleet.Conflict, "does not follow")
	refused(t, try(func(a *Act) { a.Index = 0 }), fleet.Conflict, "does not follow")
	refused(t, try(func(a *Act) { a.Time = w.record.Time - 1 }), fleet.Conflict, "does not follow")
	refused(t, try(func(a *Act) { a.Time = math.MinInt64 }), fleet.Conflict, "does not follow")
	refused(t, try(func(a *Act) { a.Time = math.MaxInt64 }), fleet.Invalid, "none")
	refused(t, try(func(a *Act) { a.Time = MaxTime + 1 }), fleet.Invalid, "none")
	refused(t, try(func(a *Act) { a.Kind = 0 }), fleet.Invalid, "not understood")
	refused(t, try(func(a *Act) { a.Kind = 11 }), fleet.Invalid, "not understood")
	refused(t, try(func(a *Act) { a.Kind = 255 }), fleet.Invalid, "not understood")
	refused(t, try(func(a *Act) { a.Data = nil }), fleet.Invalid, "malformed")
	refused(t, try(func(a *Act) { a.Data = slices.Concat(data, []byte{0}) }), fleet.Invalid, "malformed")
	refused(t, try(func(a *Act) { a.Kind = ActNodeTags }), fleet.Denied, "does not hold")
	for name, good := range map[string]func(*Act){
		"next": func(*Act) {}, "gap": func(a *Act) { a.Index += 1000 }, "same time": func(a *Act) { a.Time = w.record.Time },
	} {
		if err := try(good); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The head commits to every act, its place and its stamps: nothing can be changed, moved or left out unseen.
func TestHeadCommitsToEveryAct(t *testing.T) {
	w := newTown(t)
	w.enrol("n2", "n3")
	play := func(acts []Act) (Record, error) {
		r := NewRecord()
		for _, act := range acts {
			var err error
			if r, err = r.Apply(act, fleet.ID{}); err != nil {
				return r, err
			}
		}
		return r, nil
	}
	same, err := play(w.acts)
	if err != nil || picture(same) != picture(w.record) {
		t.Fatalf("a replay gave another record: %v", err)
	}
	for name, change := range map[string]func([]Act) []Act{
		"left out":     func(a []Act) []Act { return slices.Delete(a, len(a)-2, len(a)-1) },
		"other stamp":  func(a []Act) []Act { a[len(a)-1].Time++; return a },
		"other index":  func(a []Act) []Act { a[len(a)-1].Index++; return a },
		"swapped data": func(a []Act) []Act { n := len(a); a[n-1].Data, a[n-2].Data = a[n-2].Data, a[n-1].Data; return a },
	} {
		r, err := play(change(slices.Clone(w.acts)))
		if err == nil && r.Head == w.record.Head {
			t.Errorf("%s: the same head", name)
		}
		beacon := Beacon{RecordLen: w.record.Length, RecordHead: w.record.Head}
		if got := beacon.Contradicts(r); got != (r.Length == w.record.Length) {
			t.Errorf("%s: contradicts %v", name, got)
		}
	}
}

func TestTagsAndRemovalNeedSignatureAndPolicy(t *testing.T) {
	w := newTown(t)
	w.charter(CharterPutOperator, operator("bob", "web"))
	w.charter(CharterPutPolicy, PutPolicy{FirstPolicy + `
		@id("web-tags") permit (principal in Team::"web", action in [Action::"node.tag", Action::"node.remove"], resource is Node)
		when { !context.server && resource.hasTag("role") && resource.getTag("role") == "web" };`})
	w.must(ActEnrol, w.enrolment("n2", "n2", w.token("second", func(tk *Token) { tk.Server = false })).Encode())
	web, db := map[string]string{"role": "web"}, map[string]string{"role": "db"}

	w.must(ActNodeTags, w.tags("bob", "n2", 1, false, map[string]string{"role": "web", "rack": "7"}))
	refused(t, w.apply(ActNodeTags, w.tags("bob", "n2", 2, false, db)), fleet.Denied, "may not node.tag")  // new tags
	refused(t, w.apply(ActNodeTags, w.tags("bob", "n2", 2, true, web)), fleet.Denied, "may not node.tag")  // a server anew
	refused(t, w.apply(ActNodeTags, w.tags("bob", "n1", 1, false, web)), fleet.Denied, "may not node.tag") // a server no more
	refused(t, w.apply(ActNodeRemove, w.removal("bob", "n1")), fleet.Denied, "may not node.remove")        // a server
	w.must(ActNodeTags, w.tags("alice", "n2", 2, false, db))
	refused(t, w.apply(ActNodeTags, w.tags("bob", "n2", 3, false, web)), fleet.Denied, "may not node.tag") // old tags
	refused(t, w.apply(ActNodeRemove, w.removal("bob", "n2")), fleet.Denied, "may not node.remove")

	for _, stranger := range []string{"n1", "n2", "root1", "mallory"} {
		refused(t, w.apply(ActNodeTags, w.tags(stranger, "n2", 3, false, web)), fleet.Denied, "no operator")
		refused(t, w.apply(ActNodeRemove, w.removal(stranger, "n2")), fleet.Denied, "no operator")
	}
	refused(t, w.apply(ActNodeTags, w.removal("alice", "n2")), fleet.Denied, "does not hold")
	refused(t, w.apply(ActNodeRemove, w.tags("alice", "n2", 3, false, web)), fleet.Denied, "does not hold")
	refused(t, w.apply(ActNodeTags, w.tags("alice", "n9", 1, false, web)), fleet.Denied, "not enrolled")
	refused(t, w.apply(ActNodeRemove, w.removal("alice", "n9")), fleet.Denied, "not enrolled")

	held := w.tags("bob", "n2", 3, false, web) // signed while bob stood, brought when he was gone
	w.must(ActNodeTags, w.tags("alice", "n2", 3, false, web))
	w.charter(CharterDeleteOperator, DeleteOperator{Name: "bob", Key: key("bob").ID()})
	refused(t, w.apply(ActNodeTags, held), fleet.Denied, "removed")
}

// A statement with an end cannot be held back beyond it.
func TestStatementsHeldBackExpire(t *testing.T) {
	w := newTown(t)
	h := w.header()
	h.Expires = w.now + hour
	data := wire.Marshal(key("alice").Sign(ForNodeTags, w.fleetID(), NodeTags{Header: h, Node: key("n1").ID(), Seq: 1}))
	w.now += hour
	refused(t, w.apply(ActNodeTags, data), fleet.Expired, "expired")
}

func TestGossipEpochs(t *testing.T) {
	w := newTown(t)
	epoch := func(n uint32, send bool, hash string) error {
		return w.apply(ActGossipEpoch, wire.Marshal(GossipEpoch{Epoch: n, Hash: fleet.Sum([]byte(hash)), Send: send}))
	}
	sends := func(gossip, sending uint32) {
		t.Helper()
		if w.record.Gossip.Epoch != gossip || w.record.Sending.Epoch != sending {
			t.Errorf("newest %d, sending %d; want %d and %d", w.record.Gossip.Epoch, w.record.Sending.Epoch, gossip, sending)
		}
	}
	refused(t, epoch(2, false, "a"), fleet.Conflict, "does not follow")
	refused(t, epoch(0, true, "a"), fleet.Conflict, "cannot be sent with")
	refused(t, epoch(1, true, "a"), fleet.Conflict, "cannot be sent with")
	for _, step := range []struct {
		n       uint32
		send    bool
		hash    string
		says    string
		sending uint32
	}{
		{1, false, "a", "", 1}, // the first is sent with at once: there is no older one
		{1, false, "a", "does not follow", 1},
		{1, true, "a", "cannot be sent with", 1},
		{3, false, "c", "does not follow", 1},
		{2, false, "b", "", 1},
		{2, true, "x", "cannot be sent with", 1},
		{3, true, "b", "cannot be sent with", 1},
		{2, true, "b", "", 2},
		{2, true, "b", "cannot be sent with", 2},
		{1, false, "a", "does not follow", 2},
	} {
		err := epoch(step.n, step.send, step.hash)
		if step.says != "" {
			refused(t, err, fleet.Conflict, step.says)
		} else if err != nil {
			t.Errorf("%+v: %v", step, err)
		}
		sends(max(w.record.Gossip.Epoch, step.sending), step.sending)
	}
}

// A record that is full takes no nodes, tags and keys any more, but rights can still be taken away and policy changed.
func TestFullRecordStillRemoves(t *testing.T) {
	w := newTown(t)
	w.charter(CharterPutOperator, operator("bob"))
	w.enrol("n2")
	w.record.Size = MaxRecord
	refused(t, w.apply(ActEnrol, w.enrolment("n3", "n3", w.token("second", nil)).Encode()), fleet.Exhausted, "limit")
	refused(t, w.apply(ActNodeTags, w.tags("alice", "n2", 1, true, nil)), fleet.Exhausted, "limit")
	refused(t, w.apply(ActGossipEpoch, wire.Marshal(GossipEpoch{Epoch: 1})), fleet.Exhausted, "limit")
	w.must(ActNodeRemove, w.removal("alice", "n2"))
	w.charter(CharterDeleteOperator, DeleteOperator{Name: "bob", Key: key("bob").ID()})
	w.charter(CharterPutPolicy, PutPolicy{FirstPolicy})
}

// Data beyond the size of its kind is refused before anything is decoded.
func TestDataIsBoundedByKind(t *testing.T) {
	w := newTown(t)
	for kind := ActCharter; kind <= ActGossipEpoch; kind++ {
		data := make([]byte, 8<<20)
		if got := allocatedBy(func() {
			_, err := w.record.Apply(Act{Index: w.record.Act + 1, Time: w.now, Kind: kind, Data: data}, fleet.ID{})
			refused(t, err, fleet.Exhausted, "at most")
		}); got > 64<<10 {
			t.Errorf("refusing 8 MiB of kind %d allocated %d bytes", kind, got)
		}
	}
	for kind := range maxData {
		if kind > 0 && maxData[kind] == 0 {
			t.Errorf("kind %d has no bound", kind)
		}
	}
}

// model is what the record should say, kept in plain maps.
type model struct {
	names map[string]string            // of enrolled nodes by key label
	tags  map[string]map[string]string // by key label
	seq   map[string]uint64
	gone  map[string]bool
	ops   map[string]bool // operators that stand, by key label
	was   map[string]bool // keys removed
}

// Whatever comes in, in whatever order, the record says what a plain model says; and no old record ever changes (apply
// checks that at each step).
func TestRecordAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newTown(t)
		m := model{
			names: map[string]string{"n1": "n1"}, tags: map[string]map[string]string{"n1": {"role": "web"}}, seq: map[string]uint64{},
			gone: map[string]bool{}, ops: map[string]bool{"alice": true}, was: map[string]bool{},
		}
		nodes := rapid.SampledFrom([]string{"n1", "n2", "n3", "n4"})
		names := rapid.SampledFrom([]string{"n1", "web", "db"})
		people := rapid.SampledFrom([]string{"alice", "bob", "carol"})
		taken := func(name string) bool {
			return slices.Contains(slices.Collect(maps.Values(m.names)), name)
		}
		expect := func(t *rapid.T, err error, ok bool, what string) {
			if (err == nil) != ok {
				t.Fatalf("%s: %v; the model says %v", what, err, ok)
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"enrol": func(t *rapid.T) {
				node, name, op := nodes.Draw(t, "node"), names.Draw(t, "name"), people.Draw(t, "operator")
				server := rapid.SampledFrom(append(slices.Sorted(maps.Keys(m.names)), "mallory")).Draw(t, "server")
				err := w.tryEnrol(w.enrolBy(op, "join second", node, name, server, w.token("second", nil)))
				_, there := m.names[node]
				_, live := m.names[server]
				ok := m.ops[op] && !m.gone[node] && !there && live && !taken(name)
				expect(t, err, ok, "enrol")
				if ok {
					m.names[node], m.tags[node], m.seq[node] = name, map[string]string{"role": "web"}, 0
				}
			},
			"tag": func(t *rapid.T) {
				node, op := nodes.Draw(t, "node"), people.Draw(t, "operator")
				seq := m.seq[node] + rapid.SampledFrom([]uint64{1, 1, 1, 0, 2, math.MaxUint64}).Draw(t, "step")
				tags := map[string]string{"n": fmt.Sprint(seq)}
				err := w.apply(ActNodeTags, w.tags(op, node, seq, true, tags))
				_, live := m.names[node]
				ok := m.ops[op] && live && seq == m.seq[node]+1
				expect(t, err, ok, "tag")
				if ok {
					m.tags[node], m.seq[node] = tags, seq
				}
			},
			"remove": func(t *rapid.T) {
				node, op := nodes.Draw(t, "node"), people.Draw(t, "operator")
				_, live := m.names[node]
				if live && len(m.names) == 1 {
					t.Skip("the last node")
				}
				expect(t, w.apply(ActNodeRemove, w.removal(op, node)), m.ops[op] && live, "remove")
				if m.ops[op] && live {
					delete(m.names, node)
					m.gone[node] = true
				}
			},
			"operator": func(t *rapid.T) {
				op := people.Draw(t, "operator")
				err := w.apply(ActCharter, wire.Marshal(SignCharter(w.record.Charter, w.header(), CharterPutOperator, operator(op, RootTeam), w.roots[1])))
				expect(t, err, !m.was[op], "put operator")
				m.ops[op] = !m.was[op]
			},
			"drop": func(t *rapid.T) {
				op := people.Draw(t, "operator")
				if op == "alice" {
					t.Skip("somebody must be there")
				}
				err := w.apply(ActCharter, wire.Marshal(SignCharter(w.record.Charter, w.header(), CharterDeleteOperator, DeleteOperator{Name: op, Key: key(op).ID(), Compromised: true}, w.roots[0])))
				expect(t, err, m.ops[op], "delete operator")
				if m.ops[op] {
					m.ops[op], m.was[op] = false, true
				}
			},
			"replay": func(t *rapid.T) {
				act := rapid.SampledFrom(w.acts).Draw(t, "old act")
				if act.Kind == ActGossipEpoch {
					t.Skip("unsigned")
				}
				expect(t, w.apply(act.Kind, act.Data), false, "replay")
			},
			"damage": func(t *rapid.T) {
				act := rapid.SampledFrom(w.acts).Draw(t, "act")
				data := slices.Clone(act.Data)
				data[rapid.IntRange(0, len(data)-1).Draw(t, "where")] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
				expect(t, w.apply(act.Kind, data), false, "damaged act")
			},
			"": func(t *rapid.T) { m.check(t, w.record) },
		})
	})
}

func (m model) check(t *rapid.T, r Record) {
	if r.Roster.Len() != len(m.names) {
		t.Fatalf("%d nodes, the model has %d", r.Roster.Len(), len(m.names))
	}
	var listed []string
	for n := range r.Roster.All() {
		listed = append(listed, n.Name)
	}
	if want := slices.Sorted(maps.Values(m.names)); !slices.Equal(listed, want) {
		t.Fatalf("listed %v, the model has %v", listed, want)
	}
	for label, name := range m.names {
		n, ok := r.Roster.ByName(name)
		if !ok || n.ID != key(label).ID() || n.Seq != m.seq[label] || !maps.Equal(n.Tags, m.tags[label]) {
			t.Fatalf("%s: %+v, the model has %v at %d", name, n, m.tags[label], m.seq[label])
		}
	}
	for label := range m.gone {
		if n, ok := r.Roster.Node(key(label).ID()); !ok || n.Removed == 0 {
			t.Fatalf("%s was removed and is %+v", label, n)
		}
	}
	for op, stands := range m.ops {
		if _, err := r.Charter.Current(key(op).ID(), at(r.Time)); (err == nil) != stands {
			t.Fatalf("operator %s: %v, the model says %v", op, err, stands)
		}
	}
}

// The gossip key is renewed after a removal; a replacement is one, and so is one in the very millisecond of a new key.
func TestRemovalIsAfterTheKeyThatTheNodeHad(t *testing.T) {
	w := newTown(t)
	w.enrol("n2", "n3", "n4")
	if w.record.Removal != 0 || w.record.KeyedAt != 0 {
		t.Fatalf("removal %d, keyed %d", w.record.Removal, w.record.KeyedAt)
	}
	key := func(n uint32) {
		t.Helper()
		w.must(ActGossipEpoch, wire.Marshal(GossipEpoch{Epoch: n}))
		if w.record.KeyedAt != w.now || w.record.Removal > w.record.KeyedAt {
			t.Errorf("after key %d: removal %d, keyed %d at %d", n, w.record.Removal, w.record.KeyedAt, w.now)
		}
	}
	due := func(what string) {
		t.Helper()
		if w.record.Removal <= w.record.KeyedAt {
			t.Errorf("%s: removal %d, keyed %d: no new key is due", what, w.record.Removal, w.record.KeyedAt)
		}
	}
	key(1)
	w.now -= 1000 // apply adds a second: the same millisecond
	w.must(ActNodeRemove, w.removal("alice", "n2"))
	due("removed in the same millisecond")
	w.now++
	key(2)
	replace := w.token("replace", func(tk *Token) { tk.Replace, tk.Uses = "n3", 1 })
	w.must(ActEnrol, w.enrolment("new", "n3", replace).Encode())
	due("replaced")
	key(3)
	w.enrol("n5")
	if w.record.Removal > w.record.KeyedAt {
		t.Error("an enrolment made a new key due")
	}
	sent := w.record.KeyedAt
	w.must(ActGossipEpoch, wire.Marshal(GossipEpoch{Epoch: 3, Send: true}))
	if w.record.KeyedAt != sent {
		t.Error("sending with a key changed when it was made")
	}
}
