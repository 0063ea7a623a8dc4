package transport

import (
	"net/netip"
	"sync"
	"time"

	"github.com/muster-fleet/muster/node/fleet"
)

// bucket lets rate events a second pass, and burst at once.
type bucket struct {
	tokens float64
	at     time.Time // zero: full
}

// take passes one event at now, if it may pass.
func (b *bucket) take(now time.Time, rate, burst float64) bool {
	b.fill(now, rate, burst)
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}

func (b *bucket) fill(now time.Time, rate, burst float64) {
	if b.at.IsZero() {
		b.tokens = burst
	} else if gone := now.Sub(b.at).Seconds(); gone > 0 {
		b.tokens = min(burst, b.tokens+gone*rate)
	}
	b.at = now
}

// door bounds what strangers can make this node hold: connections before hello, and the Join plane.
type door struct {
	mu        sync.Mutex
	halfOpen  int // by the socket
	perNet    map[netip.Prefix]int
	piped     places // those by pipes
	strangers bucket
	joins     int
	joining   bucket
	joiners   map[netip.Prefix]*bucket
}

func newDoor() *door {
	return &door{perNet: map[netip.Prefix]int{}, piped: places{}, joiners: map[netip.Prefix]*bucket{}}
}

// mustProve reports whether a stranger has to prove its address first (QUIC Retry).
func (d *door) mustProve(now time.Time) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return !d.strangers.take(now, retryRate, retryRate) || d.halfOpen >= retryHalfOpen
}

// enter takes a place for a connection that has not said hello; leave gives it back, however often it is called.
func (d *door) enter(from netip.Addr) (leave func(), err error) {
	net := neighbourhood(from, 24, 56)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.halfOpen >= maxHalfOpen || !from.IsLoopback() && d.perNet[net] >= maxHalfOpenPerNet {
		return nil, errHalfOpen()
	}
	d.halfOpen++
	d.perNet[net]++
	return sync.OnceFunc(func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.halfOpen--
		if d.perNet[net]--; d.perNet[net] == 0 {
			delete(d.perNet, net)
		}
	}), nil
}

// enterPiped is enter for a connection that comes by a pipe: it counts for the relay that offered the pipe, which is known,
// and within that for whom the relay named.
func (d *door) enterPiped(by, from fleet.ID) (leave func(), err error) {
	leave, ok := d.piped.lend(&d.mu, []claim{{party{}, maxHalfOpenPiped}, {party{by: by}, maxHalfOpenBy}, {party{by, from}, maxHalfOpenFor}})
	if !ok {
		return nil, errHalfOpen()
	}
	return leave, nil
}

func errHalfOpen() error {
	return fleet.Errorf(fleet.Exhausted, "too many connections are being set up")
}

// join takes a place on the Join plane; leave gives it back.
func (d *door) join(now time.Time, from netip.Addr) (leave func(), err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.joins >= maxJoins || !d.joinerMayPass(now, from) || !d.joining.take(now, joinRate, joinBurst) {
		return nil, fleet.Errorf(fleet.Unavailable, "too many hosts are joining here; try again in a second")
	}
	d.joins++
	return sync.OnceFunc(func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.joins--
	}), nil
}

// joinerMayPass holds one address to its own rate. Loopback is exempt: clusters on one host join from there.
func (d *door) joinerMayPass(now time.Time, from netip.Addr) bool {
	if from.IsLoopback() {
		return true
	}
	source := neighbourhood(from, 32, 64)
	b := d.joiners[source]
	if b == nil {
		if len(d.joiners) >= joinSources && !d.forgetJoiners(now) {
			return false
		}
		b = &bucket{}
		d.joiners[source] = b
	}
	return b.take(now, joinRatePerIP, joinBurstIP)
}

// forgetJoiners drops the addresses whose bucket is full again, and reports whether that made room.
func (d *door) forgetJoiners(now time.Time) bool {
	for source, b := range d.joiners {
		if b.fill(now, joinRatePerIP, joinBurstIP); b.tokens >= joinBurstIP {
			delete(d.joiners, source)
		}
	}
	return len(d.joiners) < joinSources
}

func neighbourhood(a netip.Addr, v4, v6 int) netip.Prefix {
	bits := v6
	if a = a.Unmap(); a.Is4() {
		bits = v4
	}
	p, err := a.WithZone("").Prefix(bits)
	if err != nil {
		return netip.Prefix{} // an invalid address: they share one place
	}
	return p
}
