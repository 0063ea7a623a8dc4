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
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	for b.Loop() {
		before := heap()
		r := NewRecord()
		for _, act := range acts {
			var err error
			if r, err = r.Apply(act, fleet.ID{}); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(heap()-before)/nodes, "heap-B/node")
		b.ReportMetric(float64(size)/nodes, "wire-B/node")
		if r.Roster.Len() != nodes {
			b.Fatal(r.Roster.Len())
		}
	}
}
