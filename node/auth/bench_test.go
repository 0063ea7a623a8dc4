package auth

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
)

func BenchmarkVerifyStatement(b *testing.B) {
	id, signer := fleet.Sum([]byte("fleet")), key("a")
	e := signer.Sign(ForNodeTags, id, NodeTags{Tags: map[string]string{"role": "web"}})
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Open[NodeTags](e, ForNodeTags, id, signer.Public()); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecide(b *testing.B) {
	p, err := CompilePolicy(FirstPolicy)
	if err != nil {
		b.Fatal(err)
	}
	a := ask(operator("alice", RootTeam).AsPrincipal(), ActRun, Resource{Type: "Node", Name: "n1", Tags: map[string]string{"role": "web", "env": "prod"}})
	b.ReportAllocs()
	for b.Loop() {
		if _, err := p.Decide(a); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkApplyEnrolment(b *testing.B) {
	w := newTown(b)
	token := w.token("second", nil)
	act := Act{Index: w.record.Act + 1, Time: w.now, Kind: ActEnrol, Data: w.enrolment("n2", "n2", token).Encode()}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := w.record.Apply(act, fleet.ID{}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkReplay takes in a record of 10,000 nodes that enrolled with tokens of 100 uses each, as a node does that
// starts anew, and measures what the record holds in memory.
func BenchmarkReplay(b *testing.B) {
	const nodes = 10_000
	w := newTown(b)
	acts := w.acts
	var token Token
	for i := range nodes - 1 {
		if i%100 == 0 {
			token = w.token("second", nil)
		}
		name := fmt.Sprintf("node%05d", i)
		w.now += 10
		acts = append(acts, Act{Index: uint64(len(acts) + 1), Time: w.now, Kind: ActEnrol, Data: w.enrolment(name, name, token).Encode()})
	}
	size := 0
	for _, act := range acts {
		size += len(wire.Marshal(act))
	}
	for b.Loop() {
		before := heapAlloc()
		r := NewRecord()
		for _, act := range acts {
			var err error
			if r, err = r.Apply(act, fleet.ID{}); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(heapAlloc()-before)/nodes, "heap-B/node")
		b.ReportMetric(float64(size)/nodes, "wire-B/node")
		if r.Roster.Len() != nodes {
			b.Fatal(r.Roster.Len())
		}
	}
}

// BenchmarkKeyrings measures what an act on a node costs beside 256 keyrings with targets of some length, and what 10,000
// nodes cost that had been in all of them.
func BenchmarkKeyrings(b *testing.B) {
	w := newTown(b)
	w.enrol("n2")
	for i := range MaxKeyrings {
		target := must(fleet.ParseTarget(fmt.Sprintf("tag.role in (web, db) and tag.env!=env%d and not (web[01-20] or db*)", i)))
		w.record.Keyrings = w.record.Keyrings.with(&Keyring{Name: fmt.Sprint("k", i), Target: target, Epochs: []KeyEpoch{{Number: 1, Used: 1}}, serial: uint32(i + 1)})
	}
	act := func(tags map[string]string) Act {
		return Act{Index: w.record.Act + 1, Time: w.now, Kind: ActNodeTags, Data: w.tags("alice", "n2", 1, false, tags)}
	}
	for name, a := range map[string]Act{
		"stays": act(map[string]string{"role": "web", "env": "prod", "rack": "7"}), "leaves": act(map[string]string{"role": "mail", "env": "prod"}),
	} {
		w.record.Roster = w.record.Roster.put(&Node{ID: key("n2").ID(), Name: "n2", Key: key("n2").Public(), Tags: map[string]string{"role": "web", "env": "prod"}})
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := w.record.Apply(a, fleet.ID{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("10000 gone", func(b *testing.B) {
		for b.Loop() {
			ks, before := w.record.Keyrings, heapAlloc()
			for i := range 10_000 {
				n := &Node{ID: fleet.Sum(fmt.Append(nil, i)), Name: fmt.Sprint("n", i), Tags: map[string]string{"role": "web", "env": "prod"}}
				ks.follow(n.ID, n.asMember(), nil, Act{Index: uint64(i), Time: start})
			}
			b.ReportMetric(float64(heapAlloc()-before)/10_000, "heap-B/node")
			if n := ks.tree().Len(); n != 10_000 {
				b.Fatal(n)
			}
		}
	})
}

// BenchmarkRetarget takes in another target of a keyring in a fleet of 10,000 nodes, all of which leave it.
func BenchmarkRetarget(b *testing.B) {
	w := newTown(b)
	for i := range 10_000 {
		w.record.Roster = w.record.Roster.put(&Node{ID: fleet.Sum(fmt.Append(nil, i)), Name: fmt.Sprint("node", i), Tags: map[string]string{"role": "web"}})
	}
	w.must(ActKeyring, w.newKeyring("alice", "web", "tag.role=web"))
	a := Act{Index: w.record.Act + 1, Time: w.now, Kind: ActKeyring, Data: w.retarget("alice", "web", "tag.role=db", false)}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := w.record.Apply(a, fleet.ID{}); err != nil {
			b.Fatal(err)
		}
	}
}

func heapAlloc() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
