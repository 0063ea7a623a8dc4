package gossip

import (
	"context"
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-fleet/muster/node/fleet"
)

// fabric is a network in memory: buffered, lossy, and silent about what it loses, as UDP is.
type fabric struct {
	mu      sync.Mutex
	hosts   map[netip.AddrPort]*host
	loss    float64
	cut     func(a, b *host) bool // reports whether two hosts cannot reach each other; nil: all can
	trust   map[fleet.ID]ed25519.PublicKey
	packets int
	bytes   int // payload
	streams int // bytes in streams
}

const (
	latency  = time.Millisecond
	sealing  = 42 // what the transport adds to a payload
	headers  = 28 // IP and UDP
	fleetKey = "the fleet"
)

func newFabric() *fabric {
	return &fabric{hosts: make(map[netip.AddrPort]*host), trust: make(map[fleet.ID]ed25519.PublicKey)}
}

func (f *fabric) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

func (f *fabric) trusted(id fleet.ID) (ed25519.PublicKey, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	key, ok := f.trust[id]
	return key, ok
}

// host is one node on the fabric and its Carrier.
type host struct {
	f    *fabric
	n    int
	id   fleet.ID
	key  ed25519.PrivateKey
	addr netip.AddrPort
	dead bool // guarded by f.mu
	g    *Gossip

	hidden  bool              // nobody can send to it but through relays
	uplinks map[fleet.ID]bool // of hidden hosts to this one; guarded by f.mu
}

// uplink makes or cuts the connection by which a relay reaches h.
func (h *host) uplink(to *host, stands bool) {
	h.f.set(func() {
		if to.uplinks == nil {
			to.uplinks = map[fleet.ID]bool{}
		}
		to.uplinks[h.id] = stands
	})
}

func (h *host) byID(id fleet.ID) *host {
	for _, o := range h.f.hosts {
		if o.id == id {
			return o
		}
	}
	return nil
}

// SendVia goes two ways, each with its loss, or one from the relay itself.
func (h *host) SendVia(relay netip.AddrPort, to fleet.ID, payload []byte) error {
	f := h.f
	f.mu.Lock()
	defer f.mu.Unlock()
	by, hops := h, 1
	if relay.IsValid() {
		by, hops = f.reach(h, relay), 2
	} else if !h.uplinks[to] {
		return errors.New("no uplink")
	}
	f.packets += hops
	f.bytes += hops * len(payload)
	if by == nil || !by.uplinks[to] {
		return nil
	}
	target := h.byID(to)
	if target == nil || target.g == nil || target.dead || h.dead || f.cut != nil && f.cut(by, target) {
		return nil
	}
	for range hops {
		if rand.Float64() < f.loss {
			return nil
		}
	}
	from, copied := h.addr, append([]byte(nil), payload...)
	time.AfterFunc(time.Duration(hops)*latency, func() { target.take(from, copied) })
	return nil
}

func addrOf(n int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(n >> 8), byte(n)}), 7980)
}

// add makes and enrols a host without starting it.
func (f *fabric) add(n int) *host {
	var seed [ed25519.SeedSize]byte
	binary.BigEndian.PutUint64(seed[:], uint64(n)+1)
	key := ed25519.NewKeyFromSeed(seed[:])
	public := key.Public().(ed25519.PublicKey)
	h := &host{f: f, n: n, id: fleet.Sum(public), key: key, addr: addrOf(n)}
	f.set(func() {
		f.trust[h.id] = public
		f.hosts[h.addr] = h
	})
	return h
}

func (h *host) config() Config {
	return Config{Fleet: fleet.Sum([]byte(fleetKey)), Self: h.id, Key: h.key, Carrier: h, Trusted: h.f.trusted}
}

func (h *host) start(t testing.TB, change ...func(*Config)) {
	t.Helper()
	cfg := h.config()
	for _, c := range change {
		c(&cfg)
	}
	g, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	h.f.set(func() { h.g, h.dead = g, false })
}

// kill takes the host off the network at once.
func (h *host) kill() {
	h.f.set(func() { h.dead = true })
	_ = h.g.Close()
}

func (h *host) LocalAddr() netip.AddrPort { return h.addr }
func (h *host) MaxPayload() int           { return 1190 }

func (h *host) SendPacket(to netip.AddrPort, payload []byte) error {
	f := h.f
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(payload) > h.MaxPayload() {
		panic(fmt.Sprintf("a packet of %d bytes", len(payload)))
	}
	if h.dead {
		return nil
	}
	f.packets++
	f.bytes += len(payload)
	target := f.reach(h, to)
	if target == nil || rand.Float64() < f.loss {
		return nil
	}
	from, copied := h.addr, append([]byte(nil), payload...)
	time.AfterFunc(latency, func() { target.take(from, copied) })
	return nil
}

// take hands a packet to the life of h that is there when it arrives.
func (h *host) take(from netip.AddrPort, payload []byte) {
	var g *Gossip
	h.f.set(func() {
		if !h.dead {
			g = h.g
		}
	})
	if g != nil {
		g.Packet(from, payload, time.Now())
	}
}

// reach returns the host at an address if h can reach it. The caller holds f.mu.
func (f *fabric) reach(h *host, to netip.AddrPort) *host {
	target := f.hosts[to]
	if target == nil || target.g == nil || target.dead || target.hidden || h.dead || (f.cut != nil && f.cut(h, target)) {
		return nil
	}
	return target
}

func (h *host) Open(ctx context.Context, id fleet.ID, addr netip.AddrPort) (net.Conn, error) {
	h.f.mu.Lock()
	target := h.f.reach(h, addr)
	if !addr.IsValid() {
		target = h.relayed(id)
	}
	var g *Gossip
	if target != nil {
		g = target.g
	}
	h.f.mu.Unlock()
	if target == nil {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if target.id != id {
		return nil, errors.New("another node is there")
	}
	near, far := net.Pipe()
	g.Stream(far, h.id)
	return &countedConn{near, h.f}, nil
}

// relayed returns the host of that ID if some relay has its uplink. The caller holds f.mu.
func (h *host) relayed(id fleet.ID) *host {
	target := h.byID(id)
	if target == nil || target.g == nil || target.dead || h.dead {
		return nil
	}
	for _, r := range h.f.hosts {
		if r.uplinks[id] && !r.dead && r.g != nil && (h.f.cut == nil || !h.f.cut(h, r) && !h.f.cut(r, target)) {
			return target
		}
	}
	return nil
}

type countedConn struct {
	net.Conn
	f *fabric
}

func (c *countedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.f.set(func() { c.f.streams += n })
	return n, err
}

func (c *countedConn) Write(p []byte) (int, error) {
	c.f.set(func() { c.f.streams += len(p) })
	return c.Conn.Write(p)
}

// form starts n hosts that all know of each other.
func form(t testing.TB, f *fabric, n int, change ...func(*Config)) []*host {
	t.Helper()
	hosts := make([]*host, n)
	for i := range hosts {
		hosts[i] = f.add(i)
		hosts[i].start(t, change...)
		if i > 0 {
			hosts[i].join(t, hosts[rand.IntN(i)], hosts[0])
		}
	}
	until(t, time.Minute, func() bool { return allSee(hosts, fleet.Online, hosts...) })
	return hosts
}

func (h *host) join(t testing.TB, peers ...*host) {
	t.Helper()
	var list []Peer
	for _, p := range peers {
		list = append(list, Peer{p.id, p.addr})
	}
	if _, err := h.g.Join(t.Context(), list); err != nil {
		t.Fatal(err)
	}
}

// until waits in virtual time, and returns how long it took.
func until(t testing.TB, most time.Duration, done func() bool) time.Duration {
	t.Helper()
	start := time.Now()
	for !done() {
		if time.Since(start) > most {
			t.Fatalf("not within %v", most)
		}
		time.Sleep(50 * time.Millisecond)
	}
	return time.Since(start)
}

func (h *host) sees(of *host) (Member, bool) {
	for _, m := range h.g.Members() {
		if m.ID == of.id {
			return m, true
		}
	}
	return Member{}, false
}

func allSee(observers []*host, status fleet.Status, of ...*host) bool {
	for _, o := range observers {
		seen := make(map[fleet.ID]fleet.Status)
		for _, m := range o.g.Members() {
			seen[m.ID] = m.Status
		}
		for _, h := range of {
			if seen[h.id] != status {
				return false
			}
		}
	}
	return true
}

// bubble runs a test in virtual time; all goroutines must have ended when it is over.
func bubble(t *testing.T, run func(t *testing.T, f *fabric)) {
	synctest.Test(t, func(t *testing.T) {
		f := newFabric()
		run(t, f)
		for _, h := range f.hosts {
			if h.g != nil {
				if err := h.g.Close(); err != nil {
					t.Error(err)
				}
			}
		}
		time.Sleep(time.Minute) // memberlist's goroutines wait for their timers
	})
}
