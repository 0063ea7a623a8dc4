package gossip

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/muster-fleet/muster/node/fleet"
)

func outbound(c *Config) { c.Outbound = true }

// hide starts a host that is reached through relays only.
func (h *host) hide(t testing.TB, relays ...*host) {
	t.Helper()
	h.hidden = true
	h.start(t, outbound)
	h.goVia(t, relays...)
	h.join(t, relays...)
}

// goVia gives a hidden host uplinks to these, and none to others.
func (h *host) goVia(t testing.TB, relays ...*host) {
	t.Helper()
	var via []fleet.ID
	for _, o := range h.f.hosts {
		h.uplink(o, slices.Contains(relays, o))
	}
	for _, r := range relays {
		via = append(via, r.id)
	}
	if err := h.g.SetVia(via); err != nil {
		t.Fatal(err)
	}
}

// TestOutbound: a node without addresses is a member like others; what it says of itself is where it can be reached.
func TestOutbound(t *testing.T) {
	bubble(t, func(t *testing.T, f *fabric) {
		hosts := form(t, f, 5)
		a, b := f.add(5), f.add(6)
		a.hide(t, hosts[0], hosts[1])
		b.hide(t, hosts[1], hosts[2])
		all := append(hosts, a, b)
		until(t, time.Minute, func() bool { return allSee(all, fleet.Online, all...) })
		if m, _ := hosts[4].sees(a); len(m.Addrs) != 0 || !slices.Equal(m.Via, []fleet.ID{hosts[0].id, hosts[1].id}) {
			t.Errorf("%+v", m)
		}
		if m, _ := b.sees(a); m.Status != fleet.Online {
			t.Errorf("one outbound node sees the other as %s", m.Status)
		}
		before := watchFailures(all)
		time.Sleep(10 * time.Minute)
		if n := before(); n != 0 {
			t.Errorf("%d times somebody who lives was seen as lost", n)
		}
		if heard := time.Since(a.g.LastHeard()); heard > 3*time.Second {
			t.Errorf("it last heard something %s ago", heard)
		}
	})
}

// watchFailures counts how often one of the hosts sees another one fail.
func watchFailures(hosts []*host) (read func() int32) {
	var n atomic.Int32
	for _, h := range hosts {
		go func() {
			for e := range h.g.Events() {
				if e.Change == Failed {
					n.Add(1)
				}
			}
		}()
	}
	return n.Load
}

// TestOutboundDies: its death is found as any other's, and its return.
func TestOutboundDies(t *testing.T) {
	bubble(t, func(t *testing.T, f *fabric) {
		hosts := form(t, f, 4)
		a := f.add(4)
		a.hide(t, hosts[0], hosts[1])
		until(t, time.Minute, func() bool { return allSee(hosts, fleet.Online, a) })
		a.kill()
		until(t, 10*time.Second, func() bool { return allSee(hosts, fleet.ConnectionLost, a) })
		time.Sleep(2 * time.Minute)
		a.hide(t, hosts[2], hosts[3])
		until(t, 10*time.Second, func() bool { return allSee(append(hosts, a), fleet.Online, append(hosts, a)...) })
	})
}

// TestUplinkDies: through the other uplink it stays online for everybody, whether the relay died or the uplink alone did
// and nobody knows.
func TestUplinkDies(t *testing.T) {
	for name, lose := range map[string]func(t *testing.T, a, relay *host){
		"the relay":  func(_ *testing.T, _, relay *host) { relay.kill() },
		"the uplink": func(_ *testing.T, a, relay *host) { a.uplink(relay, false) },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, f *fabric) {
				hosts := form(t, f, 6)
				a := f.add(6)
				a.hide(t, hosts[0], hosts[1])
				until(t, time.Minute, func() bool { return allSee(hosts, fleet.Online, a) && allSee([]*host{a}, fleet.Online, hosts...) })
				failed := failuresOf(hosts[1:], a)
				lose(t, a, hosts[0])
				time.Sleep(15 * time.Second) // as long as it takes an uplink's owner to notice, at most
				a.goVia(t, hosts[1], hosts[2])
				time.Sleep(time.Minute)
				if n := failed(); n != 0 {
					t.Errorf("%d members saw it as lost", n)
				}
				if !allSee(hosts[1:], fleet.Online, a) {
					t.Error("it is not online")
				}
			})
		})
	}
}

func failuresOf(observers []*host, of *host) func() int32 {
	var n atomic.Int32
	for _, h := range observers {
		go func() {
			for e := range h.g.Events() {
				if e.Change == Failed && e.Member.ID == of.id {
					n.Add(1)
				}
			}
		}()
	}
	return n.Load
}

// TestBothUplinksDie: it is seen as lost, sees the others as lost, and is back when it has new ones.
func TestBothUplinksDie(t *testing.T) {
	bubble(t, func(t *testing.T, f *fabric) {
		hosts := form(t, f, 5)
		a := f.add(5)
		a.hide(t, hosts[0], hosts[1])
		all := append(slices.Clone(hosts), a)
		until(t, time.Minute, func() bool { return allSee(all, fleet.Online, all...) })
		a.goVia(t)
		until(t, 15*time.Second, func() bool { return allSee(hosts, fleet.ConnectionLost, a) })
		if m, _ := hosts[0].sees(a); len(m.Via) != 2 {
			t.Errorf("a tag without relays was taken: %+v", m)
		}
		time.Sleep(5 * time.Minute)
		a.goVia(t, hosts[3], hosts[4])
		a.join(t, hosts[3], hosts[4])
		until(t, 15*time.Second, func() bool { return allSee(all, fleet.Online, all...) })
	})
}

// TestAllButOneOutbound: everything goes through the one.
func TestAllButOneOutbound(t *testing.T) {
	bubble(t, func(t *testing.T, f *fabric) {
		hosts := form(t, f, 1)
		for n := 1; n < 5; n++ {
			h := f.add(n)
			h.hide(t, hosts[0])
			hosts = append(hosts, h)
		}
		until(t, time.Minute, func() bool { return allSee(hosts, fleet.Online, hosts...) })
		failures := watchFailures(hosts)
		time.Sleep(10 * time.Minute)
		if n := failures(); n != 0 {
			t.Errorf("%d times somebody who lives was seen as lost", n)
		}
	})
}

// TestRelays is the order in which the ways to an outbound-only node are tried.
func TestRelays(t *testing.T) {
	b := newBook()
	ids := make([]fleet.ID, 5)
	for i := range ids {
		ids[i] = fleet.Sum([]byte{byte(i)})
		b.take(ids[i], "raw", tag{seq: 1, addrs: []netip.AddrPort{addrOf(i)}})
		b.turned(ids[i].Text(), i != 3) // 3 is lost
	}
	target, self := fleet.Sum([]byte("target")), fleet.Sum([]byte("self"))
	name := target.Text()
	via := func(seq uint64, relays ...fleet.ID) {
		b.take(target, string(rune(seq)), tag{seq: seq, via: relays})
	}
	ways := func(self fleet.ID) []way { return b.route(name, self, time.Now()) }
	via(1, ids[0], ids[1])
	first := map[netip.AddrPort]int{}
	for range 10 {
		got := ways(self)
		if len(got) != 2 || !got[0].relayed || !got[1].relayed || got[0] == got[1] {
			t.Fatalf("%+v", got)
		}
		first[got[0].addr]++
	}
	if first[addrOf(0)] != 5 || first[addrOf(1)] != 5 {
		t.Errorf("the relays do not take turns: %v", first)
	}
	if got := ways(ids[1]); len(got) != 2 || got[0] != (way{relayed: true}) || got[1].addr != addrOf(0) {
		t.Errorf("from a relay itself: %+v", got)
	}
	via(2, ids[3], ids[2])
	for range 4 {
		if got := ways(self); got[0].addr != addrOf(2) || got[1].addr != addrOf(3) {
			t.Errorf("a lost relay before one that is there: %+v", got)
		}
	}
	via(3, fleet.Sum([]byte("unknown")), target)
	if got := ways(self); len(got) != 0 {
		t.Errorf("by relays that nobody can send to: %+v", got)
	}
}

// TestMovesBetween: a node may go behind a firewall, and come out again.
func TestMovesBetween(t *testing.T) {
	bubble(t, func(t *testing.T, f *fabric) {
		hosts := form(t, f, 4)
		rest := hosts[:3]
		hosts[3].kill()
		until(t, 10*time.Second, func() bool { return allSee(rest, fleet.ConnectionLost, hosts[3]) })
		hosts[3].hide(t, hosts[rand.IntN(2)])
		until(t, 20*time.Second, func() bool { return allSee(hosts, fleet.Online, hosts...) })
		if m, _ := hosts[0].sees(hosts[3]); len(m.Addrs) != 0 || len(m.Via) != 1 {
			t.Errorf("%+v", m)
		}
		hosts[3].kill()
		until(t, 10*time.Second, func() bool { return allSee(rest, fleet.ConnectionLost, hosts[3]) })
		hosts[3].hidden = false
		hosts[3].start(t)
		hosts[3].join(t, hosts[0])
		until(t, 20*time.Second, func() bool { return allSee(hosts, fleet.Online, hosts...) })
		if m, _ := hosts[0].sees(hosts[3]); len(m.Addrs) != 1 || len(m.Via) != 0 {
			t.Errorf("%+v", m)
		}
	})
}

// TestMeasureOutbound prints the second table of DESIGN.md: MUSTER_MEASURE=10 go test -run MeasureOutbound -v ./node/gossip.
func TestMeasureOutbound(t *testing.T) {
	deaths, _ := strconv.Atoi(os.Getenv("MUSTER_MEASURE"))
	if deaths == 0 {
		t.Skip("set MUSTER_MEASURE to the number of deaths to watch")
	}
	for _, n := range []int{5, 50} {
		for _, loss := range []float64{0, 0.1} {
			bubble(t, func(t *testing.T, f *fabric) { measureOutbound(t, f, n, loss, deaths) })
		}
	}
}

// measureOutbound adds a fifth of outbound-only nodes to n others, and lets them die, and their relays, whose uplinks are
// replaced after 4 s, as agents do it.
func measureOutbound(t *testing.T, f *fabric, n int, loss float64, deaths int) {
	hosts := form(t, f, n)
	var hidden []*host
	for i := range n / 5 {
		h := f.add(n + i)
		h.hide(t, hosts[2*i], hosts[2*i+1])
		hidden = append(hidden, h)
	}
	all := slices.Concat(hosts, hidden)
	until(t, time.Minute, func() bool { return allSee(all, fleet.Online, all...) })
	var falsely atomic.Int32
	for _, h := range all {
		go func() {
			for e := range h.g.Events() {
				f.mu.Lock()
				if e.Change == Failed && !f.deadByID(e.Member.ID) && slices.ContainsFunc(hidden, func(o *host) bool { return o.id == e.Member.ID }) {
					falsely.Add(1)
				}
				f.mu.Unlock()
			}
		}()
	}
	const idle = 2 * time.Minute
	f.set(func() { f.loss, f.packets, f.bytes = loss, 0, 0 })
	time.Sleep(idle)
	f.mu.Lock()
	per := float64(len(all)) * idle.Seconds()
	packets := float64(f.packets) / per
	f.mu.Unlock()
	still := falsely.Load()
	var took []time.Duration
	for i := range deaths {
		h := hidden[i%len(hidden)]
		rest := slices.DeleteFunc(slices.Clone(all), func(o *host) bool { return o == h })
		h.kill()
		took = append(took, until(t, 2*time.Minute, func() bool { return allSee(rest, fleet.ConnectionLost, h) }))
		h.hide(t, hosts[2*(i%len(hidden))], hosts[2*(i%len(hidden))+1])
		until(t, 2*time.Minute, func() bool { return allSee(all, fleet.Online, h) })
		time.Sleep(20 * time.Second)
	}
	byDeath := falsely.Load()
	for i := range deaths {
		h, relay, other := hidden[i%len(hidden)], hosts[2*(i%len(hidden))], hosts[2*(i%len(hidden))+1]
		relay.kill()
		time.Sleep(4 * time.Second)
		h.goVia(t, other, hosts[n-1])
		time.Sleep(time.Minute)
		relay.start(t)
		relay.join(t, other, hosts[n-1])
		until(t, 2*time.Minute, func() bool { return allSee(all, fleet.Online, relay) })
		h.goVia(t, relay, other)
		time.Sleep(20 * time.Second)
	}
	slices.Sort(took)
	fmt.Printf("n=%d+%d loss=%.0f%%: idle %.1f packets/s; death of an outbound-only node known to all: median %.1f, 90%% %.1f, max %.1f s; "+
		"one seen as lost falsely: %d idle, %d while others died, %d in %d deaths of a relay\n", n, len(hidden), loss*100, packets,
		took[len(took)/2].Seconds(), took[len(took)*9/10].Seconds(), took[len(took)-1].Seconds(),
		still, byDeath-still, falsely.Load()-byDeath, deaths)
}
