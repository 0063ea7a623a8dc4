package main

import (
	"slices"
	"time"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/auth/authtest"
	"github.com/muster-fleet/muster/node/fleet"
)

// host is one machine: its core, the model of its shells, and what is on its disk.
type host struct {
	w     *world
	index int
	id    fleet.ID
	key   authtest.Node
	view  []*host // whom its gossip tells of

	// The machine.
	up         bool
	side       int // of a partition
	mute, deaf bool
	wrong      time.Duration // of its wall clock
	uptime     time.Duration // boot time at bootAt
	bootAt     time.Duration
	pausedTill time.Duration

	// The process. It is gone with every kill.
	life     int // what was meant for an earlier one is lost
	cameAt   time.Duration
	node     *node.Node
	tickAt   time.Duration // when the next Tick is queued; 0: none
	leader   *host         // who answered last
	beacon   auth.Beacon
	envelope auth.Envelope
	clock    auth.Clock
	own      auth.Envelope // a server's own beacon
	held     map[fleet.UUID]exec.Order
	age      []fleet.UUID // of held
	newest   uint64       // act of the newest order
	seen     []node.Sighting
	looking  bool // gossip's news are on their way to the core

	// The disk.
	record auth.Record
	floor  int64
	ledger *exec.Ledger
	runs   map[fleet.UUID]*run // that go on: each has a supervisor that outlives the agent

	replica *replica // of a server
}

func newHost(w *world, index int, n authtest.Node) *host {
	h := &host{
		w: w, index: index, id: n.ID, key: n, uptime: time.Hour + w.between(0, 1000*time.Hour), record: w.town.Record,
		ledger: exec.NewLedger(w.start.Add(-time.Minute), time.Time{}), runs: map[fleet.UUID]*run{},
		floor: w.town.Now.UnixMilli(),
	}
	if index >= w.town.servers {
		h.wrong = w.between(-2*time.Minute, 2*time.Minute)
	}
	return h
}

func (h *host) server() bool { return h.replica != nil }

// knows reports whether the fleet's time is known here.
func (h *host) knows() bool { return h.envelope.Format != 0 && h.clock.Heard != 0 }

// come starts the agent.
func (h *host) come() {
	w := h.w
	h.up, h.life, h.cameAt = true, h.life+1, w.now
	h.tickAt, h.pausedTill, h.leader, h.beacon, h.envelope, h.own = 0, 0, nil, auth.Beacon{}, auth.Envelope{}, auth.Envelope{}
	h.clock, h.held, h.age, h.newest, h.seen, h.looking = auth.Clock{Floor: h.floor}, nil, nil, 0, nil, false
	h.node = node.New(node.Config{
		Self: h.id, Facts: fleet.Facts{OS: "debian"}, Seed: w.seed<<24 ^ uint64(h.index)<<8 ^ uint64(h.life), Record: h.record, Clock: h.clock,
	})
	h.post(0, node.Tick{})
	if w.plant == forgets {
		h.ledger = exec.NewLedger(h.ledger.Created(), time.Time{})
	}
	for _, known := range h.ledger.Since(time.Time{}) {
		h.recall(known)
	}
	if h.server() {
		h.replica.come()
	}
	w.gossip()
}

// die ends the agent. What it runs goes on.
func (h *host) die() {
	h.up, h.node = false, nil
	h.life++
	if h.server() {
		h.replica.die()
	}
	h.w.gossip()
}

// crash takes the power from the machine: its runs are gone too.
func (h *host) crash() {
	h.die()
	for _, id := range sortedIDs(h.runs) {
		h.lose(h.runs[id])
	}
	h.reset()
}

// reset lets the machine boot anew.
func (h *host) reset() { h.bootAt, h.uptime = h.w.now, time.Second }

func sortedIDs[T any](m map[fleet.UUID]T) []fleet.UUID {
	out := make([]fleet.UUID, 0, len(m))
	for id := range m {
		out = append(out, id)
	}
	slices.SortFunc(out, func(a, b fleet.UUID) int { return slices.Compare(a[:], b[:]) })
	return out
}

// alive does something on this host, unless it has died since life. A process that is stopped does it when it goes on.
func (h *host) alive(life int, then func()) {
	switch {
	case !h.up || h.life != life:
	case h.pausedTill > h.w.now:
		h.w.at(h.pausedTill, func() { h.alive(life, then) })
	default:
		then()
	}
}

// post brings an event to the core, unless the host dies before.
func (h *host) post(d time.Duration, ev node.Event) {
	life := h.life
	h.w.after(d, func() { h.alive(life, func() { h.w.step(h, ev) }) })
}

// wind queues the Tick that the core wants.
func (h *host) wind() {
	at := h.w.instant(h)
	due := h.w.now + max(h.node.Deadline(at)-at.Boot, time.Millisecond)
	if h.tickAt != 0 && h.tickAt <= due {
		return // that one looks again
	}
	h.tickAt = due
	life := h.life
	h.w.at(due, func() { h.alive(life, func() { h.tick(due) }) })
}

func (h *host) tick(due time.Duration) {
	if h.tickAt != due {
		return // an earlier one came instead
	}
	h.tickAt = 0
	if at := h.w.instant(h); h.node.Deadline(at) > at.Boot {
		h.wind()
		return
	}
	h.w.step(h, node.Tick{})
}

// news reports whether the host's picture of who is there is old.
func (h *host) news() bool {
	if len(h.seen) != len(h.view) {
		return true
	}
	for i, m := range h.view {
		if h.seen[i].Status != h.statusOf(m) {
			return true
		}
	}
	return false
}

func (h *host) statusOf(m *host) fleet.Status {
	if m.up && m.side == h.side {
		return fleet.Online
	}
	return fleet.ConnectionLost
}

// lookSoon brings gossip's picture to the core in a while, as it is then.
func (h *host) lookSoon() {
	h.looking = true
	life, slowest := h.life, 3*time.Second
	if len(h.view) < len(h.w.hosts) { // and it costs as much as all else
		slowest = 15 * time.Second
	}
	h.w.after(h.w.between(time.Millisecond, slowest), func() { h.alive(life, h.look) })
}

func (h *host) look() {
	h.looking = false
	if len(h.view) == len(h.w.hosts) && h.w.pictures[h.side] != nil {
		h.seen = h.w.pictures[h.side]
	} else {
		h.seen = make([]node.Sighting, len(h.view))
		for i, m := range h.view {
			h.seen[i] = node.Sighting{ID: m.id, Status: h.statusOf(m)}
		}
		if len(h.view) == len(h.w.hosts) {
			h.w.pictures[h.side] = h.seen
		}
	}
	h.w.step(h, node.Gossiped{Members: h.seen})
}

// hold keeps an order for peers who ask, a bounded number of them as the agent does.
func (h *host) hold(e node.HoldOrder) {
	const most = 128
	h.newest = max(h.newest, e.Act)
	if _, ok := h.held[e.Command]; ok {
		return
	}
	if h.held == nil {
		h.held = map[fleet.UUID]exec.Order{}
	}
	if len(h.age) == most {
		delete(h.held, h.age[0])
		h.age = slices.Delete(h.age, 0, 1)
	}
	h.held[e.Command] = e.Order
	h.age = append(h.age, e.Command)
	if h.w.took != nil {
		h.w.took(h, e.Command)
	}
}
