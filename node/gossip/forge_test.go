package gossip

import (
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/vmihailenco/msgpack/v5"

	"github.com/muster-fleet/muster/node/fleet"
)

// What a holder of the fleet's gossip key could write into packets.
type (
	forgedAlive struct {
		Incarnation uint32
		Node        string
		Addr        []byte
		Port        uint16
		Meta        []byte
		Vsn         []uint8
	}
	forgedDead struct {
		Incarnation uint32
		Node        string
		From        string
	}
	forgedLeave struct {
		LTime uint64
		Node  string
		Prune bool
	}
)

func meta(raw []byte) []byte {
	tags, _ := msgpack.Marshal(map[string]string{tagKey: string(raw)})
	return append([]byte{255}, tags...)
}

func alive(id fleet.ID, incarnation uint32, raw []byte) []byte {
	return encodeList(msgAlive, forgedAlive{
		incarnation, id.Text(), net.ParseIP(everywhere).To4(), everywherePort, meta(raw), []uint8{1, 5, 2, 2, 5, 4},
	})
}

func TestForgeries(t *testing.T) {
	bubble(t, func(t *testing.T, f *fabric) {
		hosts := form(t, f, 3)
		victim, attacker := hosts[1], hosts[2]
		fleetID := hosts[0].config().Fleet
		evil := []netip.AddrPort{addrOf(666)}
		send := func(packet []byte) {
			for _, h := range hosts {
				h.g.Packet(attacker.addr, packet, time.Now())
			}
			time.Sleep(3 * time.Second)
		}
		genuine, _ := hosts[0].sees(victim)
		far := genuine.Seq + uint64(time.Hour)
		unchanged := func(what string) {
			t.Helper()
			until(t, 15*time.Second, func() bool { return allSee(hosts, fleet.Online, hosts...) })
			m, ok := hosts[0].sees(victim)
			if !ok || m.Seq >= far || !slices.Equal(m.Addrs, genuine.Addrs) {
				t.Errorf("%s: the victim is now %+v", what, m)
			}
		}
		unseen := func(what string, h *host) {
			t.Helper()
			if m, ok := hosts[0].sees(h); ok {
				t.Errorf("%s: %+v is a member", what, m)
			}
		}

		ghost := f.add(40) // enrolled, never started
		send(alive(ghost.id, 1, tag{seq: 1, addrs: evil}.sign(fleetID, attacker.key)))
		unseen("signed by another", ghost)
		send(alive(ghost.id, 1, tag{seq: 1, addrs: evil}.sign(fleet.Sum([]byte("other fleet")), ghost.key)))
		unseen("signed in another fleet", ghost)
		send(alive(ghost.id, 1, nil))
		unseen("unsigned", ghost)
		stranger := f.add(41)
		f.set(func() { delete(f.trust, stranger.id) })
		send(alive(stranger.id, 1, tag{seq: 1, addrs: evil}.sign(fleetID, stranger.key)))
		unseen("not enrolled", stranger)
		elsewhere := forgedAlive{1, ghost.id.Text(), []byte{10, 6, 6, 6}, 7980, meta(tag{seq: 1, addrs: evil}.sign(fleetID, ghost.key)), []uint8{1, 5, 2, 2, 5, 4}}
		send(encodeList(msgAlive, elsewhere))
		unseen("with an address in memberlist's part", ghost)
		send(alive(ghost.id, 1, tag{seq: 1, addrs: evil}.sign(fleetID, ghost.key)))
		if _, ok := hosts[0].sees(ghost); !ok {
			t.Error("the forger's tools do not work: a genuine message is refused")
		}
		hosts[0].g.Evict(ghost.id)

		send(alive(victim.id, 1000, tag{seq: far, addrs: evil}.sign(fleetID, attacker.key)))
		unchanged("addresses signed by another")
		send(alive(victim.id, 2000, tag{seq: genuine.Seq - 1, addrs: evil}.sign(fleetID, victim.key)))
		unchanged("an older sequence replayed")
		send(alive(victim.id, 3000, tag{seq: genuine.Seq, addrs: evil}.sign(fleetID, victim.key)))
		unchanged("another tag of the same sequence")

		f.set(func() { f.loss = 1 }) // even while the victim cannot answer
		for _, seq := range []uint64{0, genuine.Seq - 1, genuine.Seq} {
			hosts[0].g.Packet(attacker.addr, alive(victim.id, 1<<20, tag{seq: seq, addrs: evil}.sign(fleetID, victim.key)), time.Now())
			time.Sleep(50 * time.Millisecond)
			if m, _ := hosts[0].sees(victim); !slices.Equal(m.Addrs, genuine.Addrs) {
				t.Errorf("an old tag sets the addresses to %v", m.Addrs)
			}
		}
		f.set(func() { f.loss = 0 })

		moved := forgedAlive{4000, victim.id.Text(), []byte{10, 6, 6, 6}, 7980, meta([]byte(hosts[0].g.book.byName[victim.id.Text()].raw)), []uint8{1, 5, 2, 2, 5, 4}}
		send(encodeList(msgAlive, moved))
		unchanged("another address in memberlist's part")

		leave, _ := msgpack.Marshal(forgedLeave{1 << 40, victim.id.Text(), true})
		send(append([]byte{8, 0}, leave...))
		if len(hosts[0].g.serf.Members()) < 3 {
			t.Error("a forged prune works")
		}
		unchanged("a forged prune")
		f.set(func() { f.loss = 1 }) // the victim cannot answer at once
		hosts[0].g.Packet(attacker.addr, encodeList(msgDead, forgedDead{1 << 20, victim.id.Text(), victim.id.Text()}), time.Now())
		time.Sleep(300 * time.Millisecond)
		if m, _ := hosts[0].sees(victim); m.Status == fleet.Left {
			t.Error("somebody else made a member leave")
		}
		f.set(func() { f.loss = 0 })
		unchanged("a forged goodbye")
	})
}

// TestStrangersStreamIsClosed: a push/pull needs an enrolled peer.
func TestStrangersStreamIsClosed(t *testing.T) {
	bubble(t, func(t *testing.T, f *fabric) {
		hosts := form(t, f, 2)
		stranger := f.add(9)
		f.set(func() { delete(f.trust, stranger.id) })
		near, far := net.Pipe()
		hosts[0].g.Stream(far, stranger.id)
		if _, err := near.Read(make([]byte, 1)); err == nil {
			t.Error("the stream is open")
		}
		// A flood of idle streams of an enrolled peer is bounded, and ends.
		var open []net.Conn
		for range 3 * maxStreams {
			near, far := net.Pipe()
			hosts[0].g.Stream(far, hosts[1].id)
			open = append(open, near)
		}
		if n := hosts[0].g.carry.open.Load(); n > maxStreams {
			t.Errorf("%d streams are open", n)
		}
		time.Sleep(time.Minute)
		if n := hosts[0].g.carry.open.Load(); n != 0 {
			t.Errorf("%d streams stay open", n)
		}
		for _, c := range open {
			_ = c.Close()
		}
	})
}

// TestFloodIsDropped: packets over the queue are dropped, and none blocks.
func TestFloodIsDropped(t *testing.T) {
	bubble(t, func(t *testing.T, f *fabric) {
		hosts := form(t, f, 3)
		ping := lengthenForTest(hosts[0].id, hosts[1].id)
		for range 20_000 {
			hosts[0].g.Packet(hosts[1].addr, ping, time.Now())
		}
		time.Sleep(10 * time.Second)
		if !allSee(hosts, fleet.Online, hosts...) {
			t.Error("the flood made members seem lost")
		}
	})
}

func lengthenForTest(to, from fleet.ID) []byte {
	return encodeList(msgPing, listPing{7, to.Text(), net.ParseIP(everywhere).To4(), everywherePort, from.Text()})
}

func TestTwoHostsWithOneKey(t *testing.T) {
	bubble(t, func(t *testing.T, f *fabric) {
		hosts := form(t, f, 3)
		clone := &host{f: f, n: 50, id: hosts[1].id, key: hosts[1].key, addr: addrOf(50)}
		f.set(func() { f.hosts[clone.addr] = clone })
		clone.start(t)
		_, _ = clone.g.Join(t.Context(), []Peer{{hosts[0].id, hosts[0].addr}})
		f.set(func() { f.packets = 0 })
		time.Sleep(5 * time.Minute)
		f.mu.Lock()
		rate := float64(f.packets) / 300
		f.mu.Unlock()
		if rate > 400 {
			t.Errorf("the dispute of two hosts makes %.0f packets a second", rate)
		}
		t.Logf("%.0f packets a second", rate)
	})
}
