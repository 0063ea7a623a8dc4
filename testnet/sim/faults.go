package main

import (
	"time"
)

// fault is one kind of trouble. It begins, and ends by itself or with the healing.
type fault struct {
	name  string
	begin func(w *world)
}

// faults are all kinds. A world draws some of them, so that rare ones are not drowned by the common.
var faults = []fault{
	{"agent killed", func(w *world) { w.killFor(w.anyHost(), time.Second, 20*time.Second) }},
	{"host lost", func(w *world) { w.crashFor(w.anyHost(), time.Second, 60*time.Second) }},
	{"agent stopped", func(w *world) { w.pauseFor(w.anyHost(), 100*time.Millisecond, 60*time.Second) }},
	{"leader killed", func(w *world) {
		if l := w.quorum.leader; l != nil {
			w.killFor(l, time.Second, 10*time.Second)
		}
	}},
	{"leader lost", func(w *world) {
		if l := w.quorum.leader; l != nil {
			w.crashFor(l, time.Second, 30*time.Second)
		}
	}},
	{"leader stopped", func(w *world) {
		if l := w.quorum.leader; l != nil {
			w.pauseFor(l, 500*time.Millisecond, 20*time.Second)
		}
	}},
	{"leader cut off", func(w *world) {
		if l := w.quorum.leader; l != nil {
			w.cutFor([]*host{l}, time.Second, 30*time.Second)
		}
	}},
	{"leader and some hosts cut off", func(w *world) {
		if l := w.quorum.leader; l != nil {
			w.cutFor(append(w.someHosts(w.rand.IntN(len(w.hosts)/2)+1, w.town.servers), l), time.Second, 40*time.Second)
		}
	}},
	{"hosts cut off", func(w *world) { w.cutFor(w.someHosts(1+w.rand.IntN(len(w.hosts)/4+1), 0), time.Second, 90*time.Second) }},
	{"one cut off", func(w *world) { w.cutFor([]*host{w.anyHost()}, time.Second, 120*time.Second) }},
	{"one is deaf or mute", func(w *world) {
		h := w.anyHost()
		h.deaf, h.mute = w.chance(0.5), w.chance(0.5)
		w.after(w.between(time.Second, 40*time.Second), func() { h.deaf, h.mute = false, false })
	}},
	{"clock stepped", func(w *world) {
		h := w.anyHost()
		h.wrong += pick(w, -3*time.Hour, -10*time.Minute, -time.Minute, -2*time.Second, 2*time.Second, time.Minute, 10*time.Minute, 24*time.Hour)
		w.after(w.between(time.Second, 60*time.Second), func() { h.wrong = 0 })
	}},
}

func (w *world) anyHost() *host { return w.hosts[w.rand.IntN(len(w.hosts))] }

// someHosts picks that many, not necessarily different, hosts from index from on.
func (w *world) someHosts(n, from int) []*host {
	var out []*host
	for range n {
		out = append(out, w.hosts[from+w.rand.IntN(len(w.hosts)-from)])
	}
	return out
}

// killFor kills the agent; its runs go on.
func (w *world) killFor(h *host, from, to time.Duration) {
	if !h.up {
		return
	}
	h.die()
	w.after(w.between(from, to), func() {
		if !h.up {
			h.come()
		}
	})
}

// crashFor takes the power from the machine.
func (w *world) crashFor(h *host, from, to time.Duration) {
	if !h.up {
		return
	}
	h.crash()
	w.after(w.between(from, to), func() {
		if !h.up {
			h.reset()
			h.come()
		}
	})
}

// pauseFor stops the agent's process; its runs go on, and so does time.
func (w *world) pauseFor(h *host, from, to time.Duration) {
	h.pausedTill = max(h.pausedTill, w.now+w.between(from, to))
}

// cutFor puts hosts on a side of their own.
func (w *world) cutFor(who []*host, from, to time.Duration) {
	w.sides++
	side := w.sides
	for _, h := range who {
		h.side = side
	}
	w.gossip()
	w.after(w.between(from, to), func() {
		for _, h := range who {
			if h.side == side {
				h.side = 0
			}
		}
		w.gossip()
	})
}

// hit does something to a host at the moment at which it was given leave to start, or a little later: while the answer is
// on its way, the ledger is written, the process begins or runs.
func (w *world) hit(h *host) {
	w.happened["just granted"]++
	w.after(pick(w, 0, w.between(0, 50*time.Millisecond), w.between(0, time.Second)), func() {
		switch w.rand.IntN(6) {
		case 0:
			w.killFor(h, time.Second, 20*time.Second)
		case 1: // up to longer than its place is kept
			w.crashFor(h, time.Second, 120*time.Second)
		case 2, 3:
			w.pauseFor(h, time.Second, 120*time.Second)
		case 4, 5:
			w.cutFor([]*host{h}, time.Second, 120*time.Second)
		}
	})
}

// trouble lets faults happen until a moment, then heals everything.
func (w *world) trouble(until time.Duration) {
	var drawn []fault
	for _, f := range faults {
		if w.chance(0.5) {
			drawn = append(drawn, f)
		}
	}
	mean := w.between(time.Second, 12*time.Second)
	w.cruel = pick(w, 0, 0.01, 0.03, 0.1, 0.3)
	if len(w.hosts) > wholeView { // of ten thousand, a few hundred; else nothing but recovering goes on
		w.cruel /= 10
	}
	var next func()
	next = func() {
		if w.now >= until {
			w.heal()
			return
		}
		if len(drawn) > 0 {
			f := drawn[w.rand.IntN(len(drawn))]
			w.happened[f.name]++
			f.begin(w)
		}
		w.after(w.between(0, 2*mean), next)
	}
	w.after(w.between(0, 2*mean), next)
}

func (w *world) heal() {
	rested := w.now
	w.cruel = 0
	for _, h := range w.hosts {
		h.side, h.deaf, h.mute = 0, false, false
		rested = max(rested, h.pausedTill) // who is stopped goes on by itself
		if h.wrong > 5*time.Minute || h.wrong < -5*time.Minute {
			h.wrong = 0
		}
		if !h.up {
			h.reset()
			h.come()
		}
	}
	w.healed = rested
	w.gossip()
}
