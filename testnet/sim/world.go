package main

import (
	"hash/fnv"
	"io"
	"math/rand/v2"
	"reflect"
	"time"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/auth/authtest"
	"github.com/muster-fleet/muster/node/fleet"
)

// setting is what a world is made of.
type setting struct {
	town  *town
	seed  uint64
	loss  float64 // of packets, 0 to 1
	plant plant   // a bug that the checkers must find
	// follow is the beginning of a command's ID: what hosts decide about it is written to out.
	follow string
	out    io.Writer
}

// world is a fleet in virtual time.
type world struct {
	setting
	fleet  *authtest.Fleet // signs for the operator
	start  time.Time       // the true wall time at now 0
	rand   *rand.Rand
	now    time.Duration
	queue  queue
	hosts  []*host
	byID   map[fleet.ID]*host
	quorum *quorum

	traffic traffic
	links   map[link]time.Duration // connections, by when they were last used
	names   map[reflect.Type]uint64
	trace   uint64
	steps   int
	stale   bool // gossip has news on its way
	// pictures are what gossip tells those who see all of one side; they share it until somebody comes or goes.
	pictures map[int][]node.Sighting

	rollouts map[fleet.UUID]*rollout
	listed   []*rollout      // in the order in which they were signed
	fetched  map[string]bool // targets of which a command was fetched with its set
	sides    int             // of partitions, so far
	cruel    float64         // chance that a host is hit just when it is granted something
	healed   time.Duration
	happened map[string]int           // faults
	freed    int                      // endings with silent nodes among them
	answers  map[node.GrantAnswer]int // that nodes heard

	took     func(*host, fleet.UUID)  // a host has an order, verified
	onAgreed func(fleet.UUID)         // a command is agreed
	reported func(*host, exec.Report) // a server keeps a report
}

// newWorld makes a fleet that is at rest: everybody online, nothing to do.
func newWorld(s setting) *world {
	t := s.town
	f := t.Fleet.Clone()
	w := &world{
		setting: s, fleet: f, start: t.Now.Add(time.Hour), rand: rand.New(rand.NewPCG(s.seed, 0x73696d)),
		byID: make(map[fleet.ID]*host, len(t.Nodes)), links: map[link]time.Duration{}, pictures: map[int][]node.Sighting{}, names: map[reflect.Type]uint64{},
		rollouts: map[fleet.UUID]*rollout{}, fetched: map[string]bool{}, healed: never, happened: map[string]int{}, answers: map[node.GrantAnswer]int{},
	}
	for i, n := range t.Nodes {
		h := newHost(w, i, n)
		w.hosts = append(w.hosts, h)
		w.byID[n.ID] = h
	}
	for _, h := range w.hosts {
		h.view = w.viewOf(h)
	}
	w.quorum = newQuorum(w, w.hosts[:t.servers], t.state)
	for _, h := range w.hosts {
		h.come()
	}
	for _, h := range w.hosts {
		h.look()
	}
	w.quorum.watch()
	return w
}

func (w *world) at(when time.Duration, then func()) { w.queue.push(max(when, w.now), then) }

func (w *world) after(d time.Duration, then func()) { w.queue.push(w.now+d, then) }

// run lets happen what happens until a moment, or until done says so.
func (w *world) run(until time.Duration, done func() bool) {
	for !w.queue.empty() && w.queue.heap[0].at <= until {
		x := w.queue.pop()
		w.now = x.at
		x.then()
		if done != nil && done() {
			return
		}
	}
	w.now = max(w.now, until)
}

// wall returns the true time.
func (w *world) wall() time.Time { return w.start.Add(w.now) }

func (w *world) between(from, to time.Duration) time.Duration {
	return from + time.Duration(w.rand.Int64N(int64(to-from)+1))
}

func (w *world) chance(p float64) bool { return p > 0 && w.rand.Float64() < p }

// instant is a moment as a host sees it.
func (w *world) instant(h *host) auth.Instant {
	return auth.Instant{Wall: w.start.Add(w.now + h.wrong), Boot: h.uptime + w.now - h.bootAt}
}

// mix adds to the trace.
func (w *world) mix(x uint64) {
	w.trace = (w.trace ^ x) * 0x9e3779b97f4a7c15
	w.trace ^= w.trace >> 29
}

// nameOf returns a hash of a value's type that is the same in every process.
func (w *world) nameOf(v any) uint64 {
	t := reflect.TypeOf(v)
	if sum, ok := w.names[t]; ok {
		return sum
	}
	sum := fnv.New64a()
	sum.Write([]byte(t.Name()))
	w.names[t] = sum.Sum64()
	return w.names[t]
}

// step gives a host an event and does what it decides.
func (w *world) step(h *host, ev node.Event) {
	at := w.instant(h)
	effects := h.node.Step(at, ev)
	w.steps++
	if w.follow != "" {
		w.tell(h, ev, effects)
	}
	w.mix(uint64(w.now))
	w.mix(uint64(h.index))
	w.mix(w.nameOf(ev))
	for _, e := range effects {
		w.mix(w.nameOf(e))
		h.perform(e)
	}
	h.wind()
}

// wholeView is up to how many members a host sees all of them. In a bigger world a host that is no server sees a random few:
// ten thousand pictures of ten thousand members would take 25 GB, and whoever picks ten of few at random picks them about as
// one who picks them of all.
const (
	wholeView = 400
	partView  = 256
)

// viewOf picks the members that a host's gossip tells of.
func (w *world) viewOf(h *host) []*host {
	if len(w.hosts) <= wholeView || h.index < w.town.servers {
		return w.hosts
	}
	view := append(make([]*host, 0, partView+w.town.servers), w.hosts[:w.town.servers]...)
	for len(view) < cap(view) {
		view = append(view, w.hosts[w.town.servers+w.rand.IntN(len(w.hosts)-w.town.servers)])
	}
	return view
}

// gossip tells everybody, each in its own time, who is there. News that come meanwhile go along.
func (w *world) gossip() {
	clear(w.pictures)
	if w.stale {
		return
	}
	w.stale = true
	w.after(w.between(500*time.Millisecond, 2*time.Second), func() {
		w.stale = false
		for _, h := range w.hosts {
			if h.up && !h.looking && h.news() {
				h.lookSoon()
			}
		}
	})
}
