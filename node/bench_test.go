package node

import (
	"fmt"
	"runtime"
	"sync"
	"testing"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

// bigTown is a fleet of 10,000 nodes; it takes a few seconds to found, so only benchmarks have it.
var bigTown = sync.OnceValue(func() *town { return newTown(10_000, 5) })

func BenchmarkBellHeard(b *testing.B) {
	w := bigTown()
	all := w.ids(0, len(w.Nodes))
	run := func(name string, bells func(i int) BellHeard, prepare func(*host)) {
		b.Run(name, func(b *testing.B) {
			h := w.settled(b, 7)
			if prepare != nil {
				prepare(h)
			}
			b.ReportAllocs()
			events := make([]BellHeard, b.N)
			for i := range events {
				events[i] = bells(i)
			}
			b.ResetTimer()
			for i := range b.N {
				h.node.Step(h.at, events[i])
				b.StopTimer()
				h.node.outbox = newOutbox()
				b.StartTimer()
			}
		})
	}
	order := w.command("*", all, nil)
	first := bell(order, 1, true, all[0])
	run("echo", func(int) BellHeard { return first }, func(h *host) { h.node.Step(h.at, first) })
	run("made up", func(i int) BellHeard {
		return BellHeard{Bell{Kind: BellCommand, Statement: uuid(i), Act: 1, Holders: all[:1]}}
	}, nil)
	forgedOrder := exec.Order{Statement: alterSignature(order.Statement)}
	run("forged rider", func(i int) BellHeard {
		x := bell(forgedOrder, uint64(i), true, all[0])
		return x
	}, nil)
	many := make([]BellHeard, 64)
	for i := range many {
		many[i] = bell(w.command("*", all, nil), 1, true, all[0])
	}
	run("first, of a set that is known", func(i int) BellHeard { return many[i%len(many)] }, func(h *host) { h.node.Step(h.at, first) })
	b.Run("first, of a new set", func(b *testing.B) {
		b.ReportAllocs()
		h := w.settled(b, 7)
		for i := range b.N {
			h.node.orders, h.node.sets, h.node.rings = newOrders(), frozenSets{}, nil
			h.node.Step(h.at, many[i%len(many)])
		}
	})
}

func BenchmarkBeaconHeard(b *testing.B) {
	w := bigTown()
	for name, change := range map[string]func(int) func(*auth.Beacon){
		"the same": func(int) func(*auth.Beacon) { return nil },
		"newer":    func(i int) func(*auth.Beacon) { return func(x *auth.Beacon) { x.Time += int64(i) } },
	} {
		b.Run(name, func(b *testing.B) {
			h := w.settled(b, 7)
			events := make([]BeaconHeard, min(b.N, 5000))
			for i := range events {
				events[i] = BeaconHeard{From: w.Nodes[0].ID, Envelope: w.beacon(0, change(i))}
			}
			b.ReportAllocs()
			b.ResetTimer()
			for i := range b.N {
				h.node.Step(h.at, events[i%len(events)])
			}
		})
	}
}

func BenchmarkJoinStorm(b *testing.B) {
	w := bigTown()
	h := w.settled(b, 0)
	acts := make([]auth.Act, 0, b.N)
	for i := range b.N {
		acts = append(acts, w.take(w.TagNode(w.Nodes[100+i%9000].ID, map[string]string{"n": fmt.Sprint(i)}, false)))
	}
	b.ReportAllocs()
	b.ResetTimer()
	for _, a := range acts {
		h.node.Step(h.at, RecordCommitted{a})
	}
}

// BenchmarkMemory says what a Node keeps beside the record, which others share.
func BenchmarkMemory(b *testing.B) {
	w := bigTown()
	all := w.ids(0, len(w.Nodes))
	for range b.N {
		runtime.GC()
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		h := w.host(b, 7)
		h.step(Gossiped{w.sightings(fleet.Online)})
		h.step(BeaconHeard{From: w.Nodes[0].ID, Envelope: w.beacon(0, nil)})
		h.node.members()
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/(1<<20), "MiB-members")
		for i := range 50 {
			h.step(bell(w.command("*", all, nil), uint64(i), true, all[0]))
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/(1<<20), "MiB-with-50-runs")
		runtime.KeepAlive(h)
	}
}
