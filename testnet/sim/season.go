package main

import (
	"fmt"
	"time"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/testnet/check"
)

// season is some rollouts in one world: launched one after another, overlapping, in trouble; then everything heals, and all
// must end.
type season struct {
	Seed       uint64            `json:"seed"`
	Rollouts   int               `json:"rollouts"`
	Followers  int               `json:"followers"`
	Strict     int               `json:"strict"`
	Unknown    int               `json:"unknown"`
	Freed      int               `json:"freed"` // places of silent nodes that a leader gave away
	Runs       int               `json:"runs"`
	Stopped    int               `json:"stopped"`
	Cancelled  int               `json:"cancelled"`
	Longest    time.Duration     `json:"longest"` // from healing to the end of the last
	Violations []check.Violation `json:"violations"`
	Stuck      []string          `json:"stuck"`
	Refused    []string          `json:"refused"` // why the quorum did not take rollouts
	Lies       []string          `json:"lies"`    // what was agreed of a node, and is not so
	Trace      uint64            `json:"trace"`
	Steps      int               `json:"steps"`
	Terms      uint64            `json:"terms"`
	Virtual    time.Duration     `json:"virtual"`
	happened   map[string]int
	answers    map[node.GrantAnswer]int
	messages   uint64
	bytes      uint64
}

// How a season goes.
const (
	settleFor = 12 * time.Second // until every host has a beacon
	launchGap = 4 * time.Second  // between launches, on average
	// patience is how long after healing everything must have ended: above what a rollout of one node at a time takes,
	// each as long as it may, a lost one's place among them; below what commands are valid for.
	patience = 50 * time.Minute
)

// play plays a season of that many rollouts.
func play(s setting, rollouts int) season {
	w := newWorld(s)
	w.run(settleFor, nil)
	gap := launchGap
	if len(w.hosts) > wholeView {
		gap = 60 * time.Second
	}
	launched := 0
	at := w.now
	for range rollouts {
		at += w.between(0, 2*gap)
		w.at(at, func() {
			r := w.launch()
			launched++
			if w.chance(0.08) {
				w.after(w.between(0, 60*time.Second), func() { w.cancel(r) })
			}
		})
	}
	w.trouble(at + w.between(0, 60*time.Second))
	looked := time.Duration(0)
	w.run(at+2*time.Hour, func() bool {
		if w.now < looked+time.Second {
			return false
		}
		looked = w.now
		return w.healed != never && launched == rollouts && (w.over() || w.now > w.healed+patience)
	})
	return w.judge()
}

// over reports whether every rollout has ended.
func (w *world) over() bool {
	for _, r := range w.listed {
		if !r.over() {
			return false
		}
	}
	return true
}

// unknown counts the runs of which no host knows the end.
func (w *world) unknown(r *rollout) int {
	count := 0
	for _, x := range r.parts {
		if known, ok := x.h.ledger.Get(r.id); ok && known.Status() == exec.Unknown {
			count++
		}
	}
	return count
}

// lies compares what was agreed of each node with what happened there.
func (w *world) lies(r *rollout) []string {
	c, ok := w.quorum.newest().Command(r.id)
	if !ok {
		return nil
	}
	began := map[fleet.ID]part{}
	for _, x := range r.parts {
		began[x.h.id] = x
	}
	var out []string
	for i, id := range c.Order.Nodes {
		x, ran := began[id]
		lie := ""
		switch s := c.Rollout.State(uint32(i)); s {
		case exec.NodeOK:
			if !ran || x.bad || x.gone == never {
				lie = "ended well"
			}
		case exec.NodeDeclined, exec.NodeIdle, exec.NodeBarred:
			if ran {
				lie = "took no part"
			}
		case exec.NodeFailed, exec.NodeAside, exec.NodeGranted, exec.NodeFreed:
		}
		if lie != "" {
			out = append(out, fmt.Sprintf("%s on %s: it is agreed that it %s; it began: %t, failed: %t", r.id, w.byID[id].key.Name, lie, ran, x.bad))
		}
	}
	return out
}

// judge holds what happened to the bounds.
func (w *world) judge() season {
	out := season{
		Freed: w.freed,
		Seed:  w.seed, Trace: w.trace, Steps: w.steps, Terms: w.quorum.term, Virtual: w.now, happened: w.happened, answers: w.answers,
	}
	out.messages, out.bytes = w.traffic.total()-w.traffic.messages[beacons], w.traffic.size()-w.traffic.bytes[beacons]
	for _, r := range w.listed {
		out.Violations = append(out.Violations, w.paced(r).Violations()...)
		out.Lies = append(out.Lies, w.lies(r)...)
		out.Runs += len(r.parts)
		out.Unknown += w.unknown(r)
		if r.main != nil {
			out.Followers++
		} else {
			out.Rollouts++
		}
		if r.body.Pace.Strict {
			out.Strict++
		}
		if r.stopped != never {
			out.Stopped++
		}
		if r.refused != "" {
			out.Refused = append(out.Refused, r.refused)
		}
		if r.wanted {
			out.Cancelled++
		}
		if !r.over() {
			out.Stuck = append(out.Stuck, w.stuck(r))
		}
		out.Longest = max(out.Longest, r.ended-w.healed)
	}
	return out
}
