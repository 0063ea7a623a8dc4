package fabric

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// DefaultQueue is how many packets wait at a Conn for its reader when Options.Queue is zero.
const DefaultQueue = 1024

// Options are the network's faults. The zero value is a perfect network without delay.
type Options struct {
	Latency   time.Duration                                   // every packet waits this long
	Jitter    time.Duration                                   // and up to this much more, evenly spread; it reorders
	Loss      float64                                         // probability that a packet vanishes, 0 to 1
	Duplicate float64                                         // probability that a packet comes twice, 0 to 1
	Partition func(from, to netip.AddrPort) bool              // true: nothing passes that way; nil: all passes
	Lose      func(from, to netip.AddrPort, data []byte) bool // true: this packet vanishes; it must not keep data; nil: none does
	Queue     int                                             // packets that wait at one Conn; further ones are dropped
	Tap       func(from, to netip.AddrPort, data []byte)      // sees every packet that is sent; it must not keep data; nil: nobody
}

// Counts tell what became of packets since New.
type Counts struct {
	Sent      uint64 // given to WriteTo
	Delivered uint64 // put in a reader's queue
	Dropped   uint64 // lost, partitioned away, sent to nobody, or met a full queue
}

// Fabric is one network. All methods may be called at any time from any goroutine.
type Fabric struct {
	mu     sync.Mutex
	opts   Options
	rng    *rand.Rand
	conns  map[netip.AddrPort]*Conn
	counts Counts
	closed bool
}

// New makes a network whose faults are drawn from seed.
func New(seed uint64, opts Options) *Fabric {
	return &Fabric{opts: opts, rng: rand.New(rand.NewPCG(seed, seed)), conns: map[netip.AddrPort]*Conn{}}
}

// Change alters the network's faults for packets sent from now on.
func (f *Fabric) Change(edit func(*Options)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	edit(&f.opts)
}

// Counts returns what became of packets so far.
func (f *Fabric) Counts() Counts {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.counts
}

// Conn binds addr. It panics if the address is taken: that is a mistake in a test. Close frees the address.
func (f *Fabric) Conn(addr netip.AddrPort) net.PacketConn {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.conns[addr] != nil {
		panic(fmt.Sprintf("fabric: %s is taken", addr))
	}
	c := newConn(f, addr)
	f.conns[addr] = c
	return c
}

// Close closes every Conn; packets under way are dropped.
func (f *Fabric) Close() {
	f.mu.Lock()
	f.closed = true
	conns := make([]*Conn, 0, len(f.conns))
	for _, c := range f.conns {
		conns = append(conns, c)
	}
	f.mu.Unlock()
	for _, c := range conns {
		_ = c.Close()
	}
}

type packet struct {
	from netip.AddrPort
	data []byte
}

// send decides the packet's fate and starts its copies on their way.
func (f *Fabric) send(from, to netip.AddrPort, data []byte) {
	delays := f.fate(from, to, data)
	if len(delays) == 0 {
		return
	}
	p := packet{from: from, data: slices.Clone(data)}
	for _, d := range delays {
		if d == 0 {
			f.deliver(to, p)
			continue
		}
		time.AfterFunc(d, func() { f.deliver(to, p) })
	}
}

// fate returns the delay of each copy that will arrive; none when the packet is lost.
func (f *Fabric) fate(from, to netip.AddrPort, data []byte) []time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.counts.Sent++
	o := f.opts
	if o.Tap != nil {
		o.Tap(from, to, data)
	}
	if f.closed || o.Partition != nil && o.Partition(from, to) || o.Lose != nil && o.Lose(from, to, data) || f.chance(o.Loss) {
		f.counts.Dropped++
		return nil
	}
	copies := 1
	if f.chance(o.Duplicate) {
		copies = 2
	}
	delays := make([]time.Duration, copies)
	for i := range delays {
		delays[i] = o.Latency
		if o.Jitter > 0 {
			delays[i] += time.Duration(f.rng.Int64N(int64(o.Jitter)))
		}
	}
	return delays
}

// chance draws only where something can happen, so that switching one fault off leaves the others' draws alone.
func (f *Fabric) chance(p float64) bool { return p > 0 && f.rng.Float64() < p }

func (f *Fabric) deliver(to netip.AddrPort, p packet) {
	f.mu.Lock()
	defer f.mu.Unlock()
	limit := f.opts.Queue
	if limit == 0 {
		limit = DefaultQueue
	}
	if c := f.conns[to]; c != nil && !f.closed && c.take(p, limit) {
		f.counts.Delivered++
		return
	}
	f.counts.Dropped++
}

func (f *Fabric) free(c *Conn) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.conns[c.addr] == c {
		delete(f.conns, c.addr)
	}
}
