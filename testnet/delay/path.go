package delay

import (
	"math"
	"math/rand/v2"
	"time"

	"github.com/muster-fleet/muster/node/fleet"
)

// Path says what happens to packets, in either direction. The zero value passes them on at once.
type Path struct {
	Delay time.Duration // of every packet, one way
	Loss  float64       // probability that a packet is lost, each by itself
	Rate  int64         // bytes a second that it carries each way; 0: whatever comes
	Queue int           // bytes that wait for the rate; more are lost, as in a router; 0: 100 ms of the rate, at least 64 KiB
	Seed  uint64        // of what is drawn
}

// MaxDelay bounds how long a packet is on its way.
const MaxDelay = 10 * time.Second

// Check returns why there is no such path, or nil.
func (p Path) Check() error {
	switch {
	case p.Delay < 0 || p.Delay > MaxDelay:
		return fleet.Errorf(fleet.Invalid, "a packet is on its way from 0 to %s, not %s", MaxDelay, p.Delay)
	case math.IsNaN(p.Loss) || p.Loss < 0 || p.Loss > 1:
		return fleet.Errorf(fleet.Invalid, "a packet is lost with a probability from 0 to 1, not %g", p.Loss)
	case p.Rate < 0 || p.Queue < 0:
		return fleet.Errorf(fleet.Invalid, "a path carries no %d bytes a second, and %d do not wait", p.Rate, p.Queue)
	}
	return nil
}

// leastQueue lets the bursts pass that senders make on purpose: some forty packets.
const leastQueue = 64 << 10

func (p Path) queue() int64 {
	if p.Queue > 0 {
		return int64(p.Queue)
	}
	return max(p.Rate/10, leastQueue)
}

// lane decides what becomes of the packets of one direction. It has no clock: it is told.
type lane struct {
	path Path
	draw *rand.Rand
	free time.Duration // when the cable is done with all packets so far
}

// newLane returns a lane; both directions of one path draw apart.
func newLane(p Path, direction uint64) *lane {
	return &lane{path: p, draw: rand.New(rand.NewPCG(p.Seed, direction))}
}

// fate is what becomes of a packet.
type fate uint8

const (
	passes    fate = iota
	lost           // by luck
	overflows      // too many wait
)

// next decides about a packet of so many bytes that comes at now, and says when it arrives. Times count from any one moment.
// Packets keep their order.
func (l *lane) next(now time.Duration, size int) (time.Duration, fate) {
	if l.draw.Float64() < l.path.Loss { // drawn for each, so that neither rate nor queue changes whose luck it is
		return 0, lost
	}
	begins := max(l.free, now)
	if l.path.Rate == 0 {
		l.free = begins
		return begins + l.path.Delay, passes
	}
	if l.bytesIn(begins-now)+int64(size) > l.path.queue() {
		return 0, overflows
	}
	l.free = begins + time.Duration(float64(size)/float64(l.path.Rate)*float64(time.Second))
	return l.free + l.path.Delay, passes
}

// bytesIn is what the cable carries in a time.
func (l *lane) bytesIn(d time.Duration) int64 { return int64(d.Seconds() * float64(l.path.Rate)) }
