package gossip

import (
	"context"
	"crypto/ed25519"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/muster-fleet/muster/node/fleet"
)

func TestFiveForm(t *testing.T) {
	bubble(t, func(t *testing.T, f *fabric) {
		hosts := form(t, f, 5)
		m, ok := hosts[0].sees(hosts[4])
		if !ok || len(m.Addrs) != 1 || m.Addrs[0] != hosts[4].addr || m.Seq == 0 {
			t.Errorf("%+v", m)
		}
		time.Sleep(time.Minute)
		if m, _ := hosts[0].sees(hosts[4]); m.RTT < 2*latency || m.RTT > 4*latency {
			t.Errorf("a round trip takes %v", m.RTT)
		}
	})
}

func TestFiftyForm(t *testing.T) {
	if testing.Short() {
		t.Skip("50 nodes")
	}
	bubble(t, func(t *testing.T, f *fabric) {
		hosts := form(t, f, 50)
		f.set(func() { f.loss = 0.1 })
		hosts[7].kill()
		rest := slices.Delete(slices.Clone(hosts), 7, 8)
		took := until(t, 15*time.Second, func() bool { return allSee(rest, fleet.ConnectionLost, hosts[7]) })
		t.Logf("known to all after %v", took)
		if !allSee(rest, fleet.Online, rest...) {
			t.Error("somebody who lives is seen as lost")
		}
	})
}

func TestKilledIsFailedAndReturns(t *testing.T) {
	bubble(t, func(t *testing.T, f *fabric) {
		hosts := form(t, f, 5)
		drainEvents(hosts[0])
		hosts[3].kill()
		rest := slices.Delete(slices.Clone(hosts), 3, 4)
		until(t, 10*time.Second, func() bool { return allSee(rest, fleet.ConnectionLost, hosts[3]) })
		if e := nextEvent(t, hosts[0]); e.Change != Failed || e.Member.ID != hosts[3].id {
			t.Errorf("%v of %v", e.Change, e.Member)
		}
		time.Sleep(5 * time.Minute) // long after memberlist has forgotten it
		if !allSee(rest, fleet.ConnectionLost, hosts[3]) {
			t.Error("an enrolled node that is off is no longer known")
		}
		hosts[3].start(t)
		hosts[3].join(t, hosts[1])
		until(t, 10*time.Second, func() bool { return allSee(hosts, fleet.Online, hosts...) })
		if e := nextEvent(t, hosts[0]); e.Change != Joined || e.Member.ID != hosts[3].id {
			t.Errorf("%v of %v", e.Change, e.Member)
		}
	})
}

// TestPartitionHeals: hosts that were cut off, not restarted, are found again without a new Join.
func TestPartitionHeals(t *testing.T) {
	bubble(t, func(t *testing.T, f *fabric) {
		hosts := form(t, f, 6)
		f.set(func() { f.cut = func(a, b *host) bool { return (a.n < 3) != (b.n < 3) } })
		until(t, time.Minute, func() bool {
			return allSee(hosts[:3], fleet.ConnectionLost, hosts[3:]...) && allSee(hosts[3:], fleet.ConnectionLost, hosts[:3]...)
		})
		time.Sleep(3 * time.Minute)
		f.set(func() { f.cut = nil })
		until(t, time.Minute, func() bool { return allSee(hosts, fleet.Online, hosts...) })
	})
}

func TestLeaveIsSaid(t *testing.T) {
	bubble(t, func(t *testing.T, f *fabric) {
		hosts := form(t, f, 4)
		drainEvents(hosts[0])
		if err := hosts[2].g.Leave(t.Context()); err != nil {
			t.Fatal(err)
		}
		hosts[2].kill()
		rest := slices.Delete(slices.Clone(hosts), 2, 3)
		until(t, 5*time.Second, func() bool { return allSee(rest, fleet.Left, hosts[2]) })
		if e := nextEvent(t, hosts[0]); e.Change != Left {
			t.Errorf("%v", e.Change)
		}
		time.Sleep(2 * time.Minute)
		hosts[2].start(t)
		hosts[2].join(t, hosts[0])
		until(t, 10*time.Second, func() bool { return allSee(hosts, fleet.Online, hosts...) })
	})
}

// TestLeaveAndCloseTogether: an impatient end must not panic or hang.
func TestLeaveAndCloseTogether(t *testing.T) {
	bubble(t, func(t *testing.T, f *fabric) {
		hosts := form(t, f, 3)
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		if err := hosts[0].g.Leave(ctx); err == nil {
			t.Error("left within 50 ms")
		}
		hosts[0].kill()
		if err := hosts[0].g.SetAddrs([]netip.AddrPort{addrOf(9)}); err == nil {
			t.Error("a closed node announces itself")
		}
		if _, err := hosts[0].g.Join(t.Context(), []Peer{{hosts[1].id, hosts[1].addr}}); err == nil {
			t.Error("a closed node joins")
		}
		if _, open := <-hosts[0].g.Events(); open {
			drainEvents(hosts[0])
		}
	})
}

func TestAddressChangeSpreads(t *testing.T) {
	bubble(t, func(t *testing.T, f *fabric) {
		hosts := form(t, f, 5)
		drainEvents(hosts[0])
		moved := hosts[1]
		f.set(func() {
			delete(f.hosts, moved.addr)
			moved.addr = addrOf(500)
			f.hosts[moved.addr] = moved
		})
		if err := moved.g.SetAddrs([]netip.AddrPort{moved.addr, addrOf(501)}); err != nil {
			t.Fatal(err)
		}
		until(t, 5*time.Second, func() bool {
			for _, h := range hosts {
				if m, _ := h.sees(moved); len(m.Addrs) != 2 || m.Addrs[0] != moved.addr {
					return false
				}
			}
			return true
		})
		if e := nextEvent(t, hosts[0]); e.Change != Updated || e.Member.Addrs[0] != moved.addr {
			t.Errorf("%v of %v", e.Change, e.Member)
		}
		time.Sleep(time.Minute)
		if !allSee(hosts, fleet.Online, hosts...) {
			t.Error("the node was lost after it moved")
		}
	})
}

// TestDeadAddressIsAvoided: of several addresses, those that work are used.
func TestDeadAddressIsAvoided(t *testing.T) {
	bubble(t, func(t *testing.T, f *fabric) {
		hosts := form(t, f, 4)
		h := f.add(10)
		h.start(t, func(c *Config) { c.Addrs = []netip.AddrPort{addrOf(900), h.addr} })
		hosts = append(hosts, h)
		h.join(t, hosts[0])
		until(t, 20*time.Second, func() bool { return allSee(hosts, fleet.Online, hosts...) })
		drainEvents(hosts[0])
		time.Sleep(2 * time.Minute)
		select {
		case e := <-hosts[0].g.Events():
			t.Errorf("%v of %v", e.Change, e.Member)
		default:
		}
	})
}

func TestRemovedNodeIsOut(t *testing.T) {
	bubble(t, func(t *testing.T, f *fabric) {
		hosts := form(t, f, 4)
		out := hosts[3]
		f.set(func() { delete(f.trust, out.id) })
		for _, h := range hosts[:3] {
			h.g.Evict(out.id)
			drainEvents(h)
		}
		for range 120 {
			time.Sleep(time.Second)
			for _, h := range hosts[:3] {
				if m, ok := h.sees(out); ok {
					t.Fatalf("the removed node is back: %v", m)
				}
			}
		}
		if !allSee(hosts[:3], fleet.Online, hosts[:3]...) {
			t.Error("the others are disturbed")
		}
		before := len(hosts[0].g.serf.Members())
		if before != 3 {
			t.Errorf("serf still holds %d members", before)
		}
		if n, err := out.g.Join(t.Context(), []Peer{{hosts[0].id, hosts[0].addr}}); err == nil {
			t.Errorf("the removed node joined %d", n)
		}
	})
}

// TestClockWentBack: a node whose sequence begins below what others hold learns so from them and goes beyond it.
func TestClockWentBack(t *testing.T) {
	bubble(t, func(t *testing.T, f *fabric) {
		hosts := form(t, f, 4)
		before, _ := hosts[0].sees(hosts[2])
		hosts[2].kill()
		hosts[2].start(t, func(c *Config) {
			c.Seq = func(least uint64) (uint64, error) { return max(5, least), nil }
			c.Addrs = []netip.AddrPort{hosts[2].addr, addrOf(77)}
		})
		_, _ = hosts[2].g.Join(t.Context(), []Peer{{hosts[0].id, hosts[0].addr}})
		until(t, 30*time.Second, func() bool {
			m, _ := hosts[1].sees(hosts[2])
			return m.Seq > before.Seq && len(m.Addrs) == 2 && allSee(hosts, fleet.Online, hosts...)
		})
	})
}

// TestMissedNewsIsFetched: who refused a join, because it heard of the enrolment later, gets it by the digests, long
// before the next full exchange.
func TestMissedNewsIsFetched(t *testing.T) {
	bubble(t, func(t *testing.T, f *fabric) {
		late, first := f.add(20), f.add(0)
		var enrolled atomic.Bool
		hosts := form(t, f, 5, func(c *Config) {
			everybody := c.Trusted
			c.Trusted = func(id fleet.ID) (ed25519.PublicKey, bool) {
				if id == late.id && c.Self != first.id && !enrolled.Load() {
					return nil, false
				}
				return everybody(id)
			}
		})
		late.start(t)
		late.join(t, hosts[0])
		time.Sleep(10 * time.Second)
		if _, ok := hosts[1].sees(late); ok {
			t.Error("the scene is wrong: there is no news to miss")
		}
		enrolled.Store(true)
		took := until(t, 2*time.Minute, func() bool { return allSee(hosts, fleet.Online, late) })
		t.Logf("fetched after %v", took)
	})
}

func TestJoinFails(t *testing.T) {
	bubble(t, func(t *testing.T, f *fabric) {
		h := f.add(0)
		h.start(t)
		if _, err := h.g.Join(t.Context(), nil); err == nil {
			t.Error("joined nobody")
		}
		nobody := f.add(1)
		_, err := h.g.Join(t.Context(), []Peer{{nobody.id, nobody.addr}})
		if fleet.KindOf(err) != fleet.Unavailable {
			t.Errorf("%v", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := h.g.Join(ctx, []Peer{{nobody.id, nobody.addr}}); err == nil {
			t.Error("joined nobody")
		}
	})
}

func TestConfigIsChecked(t *testing.T) {
	f := newFabric()
	h := f.add(0)
	for name, spoil := range map[string]func(*Config){
		"no carrier":   func(c *Config) { c.Carrier = nil },
		"no trust":     func(c *Config) { c.Trusted = nil },
		"no key":       func(c *Config) { c.Key = nil },
		"no self":      func(c *Config) { c.Self = fleet.ID{} },
		"bad address":  func(c *Config) { c.Addrs = []netip.AddrPort{netip.MustParseAddrPort("0.0.0.0:7980")} },
		"zero address": func(c *Config) { c.Addrs = []netip.AddrPort{{}} },
	} {
		cfg := h.config()
		spoil(&cfg)
		if g, err := New(cfg); err == nil {
			_ = g.Close()
			t.Errorf("%s is accepted", name)
		}
	}
}

func drainEvents(h *host) {
	for {
		select {
		case _, open := <-h.g.Events():
			if !open {
				return
			}
			continue
		case <-time.After(time.Second):
		}
		return
	}
}

func nextEvent(t *testing.T, h *host) Event {
	t.Helper()
	select {
	case e := <-h.g.Events():
		return e
	case <-time.After(time.Minute):
		t.Fatal("no event")
		return Event{}
	}
}
