package main

import (
	"math"
	"slices"
	"time"

	"github.com/muster-fleet/muster/consensus"
	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node/fleet"
)

// spread is how commands without limits went out to a whole fleet, and how what came of them came back. Times count from the
// moment at which the command was agreed.
type spread struct {
	Nodes    int           `json:"nodes"`
	Loss     float64       `json:"loss"`
	Commands int           `json:"commands"`
	Had      quantiles     `json:"had"`      // until nodes had the order, verified
	Told     quantiles     `json:"told"`     // until servers had the nodes' last reports: what a person sees folded
	Whole    time.Duration `json:"whole"`    // until the last node's, of the worst command
	Messages float64       `json:"messages"` // datagrams per node per command, without what a fleet at rest says
	Bytes    float64       `json:"bytes"`
	Rest     float64       `json:"rest"`      // datagrams per node per second at rest
	RestSize float64       `json:"rest_size"` // bytes
	// A command with a script of a kilobyte does not fit its bell, and is fetched with its set.
	Fetched     float64 `json:"fetched"`      // datagrams per node
	FetchedSize float64 `json:"fetched_size"` // bytes
	Trace       uint64  `json:"trace"`
	Steps       int     `json:"steps"`
	kinds       traffic
}

// quantiles are of all nodes and all commands.
type quantiles struct {
	Half time.Duration `json:"half"`
	P99  time.Duration `json:"p99"`
	P999 time.Duration `json:"p999"`
	All  time.Duration `json:"all"`
}

func quantilesOf(d []time.Duration) quantiles {
	slices.Sort(d)
	at := func(p float64) time.Duration { return d[max(int(math.Ceil(p*float64(len(d)))), 1)-1] }
	if len(d) == 0 {
		return quantiles{}
	}
	return quantiles{at(0.5), at(0.99), at(0.999), at(1)}
}

// How a spread is measured.
const (
	warmUp   = 30 * time.Second // until every host has a beacon and knows the time
	restFor  = 60 * time.Second
	nextAt   = 45 * time.Second // between commands
	giveUp   = 5 * time.Minute
	padding  = 1100 // bytes of a script that keep a command off its bell, so that it is fetched
	runsFor  = 10 * time.Millisecond
	spreadOf = "*"
)

// measureSpread sends commands to everybody, one after the other.
func measureSpread(s setting, commands int) spread {
	w := newWorld(s)
	w.run(warmUp, nil)
	before := w.traffic
	w.run(w.now+restFor, nil)
	rest := w.traffic.minus(before)
	nodes := len(w.hosts)
	out := spread{Nodes: nodes, Loss: s.loss, Commands: commands}
	perSecond := 1 / (restFor.Seconds() * float64(nodes))
	out.Rest, out.RestSize = float64(rest.total())*perSecond, float64(rest.size())*perSecond

	var had, told []time.Duration
	fetched := w.spreadOne(true).traffic
	fetched.messages[beacons], fetched.bytes[beacons] = 0, 0
	out.Fetched, out.FetchedSize = float64(fetched.total())/float64(nodes), float64(fetched.size())/float64(nodes)
	for range commands {
		one := w.spreadOne(false)
		had, told = append(had, one.had...), append(told, one.told...)
		out.Whole = max(out.Whole, one.whole)
		for k := range kinds {
			if k != beacons {
				out.kinds.messages[k] += one.traffic.messages[k]
				out.kinds.bytes[k] += one.traffic.bytes[k]
			}
		}
	}
	each := 1 / float64(commands*nodes)
	out.Had, out.Told = quantilesOf(had), quantilesOf(told)
	out.Messages, out.Bytes = float64(out.kinds.total())*each, float64(out.kinds.size())*each
	out.Trace, out.Steps = w.trace, w.steps
	return out
}

func (t traffic) total() (n uint64) {
	for _, m := range t.messages {
		n += m
	}
	return n
}

func (t traffic) size() (n uint64) {
	for _, b := range t.bytes {
		n += b
	}
	return n
}

// one is how one command went.
type one struct {
	had, told []time.Duration
	whole     time.Duration
	traffic   traffic
}

// spreadOne sends one command to everybody. One that is to be fetched does not fit its bell: ten thousand hosts that found out
// the set by themselves would each keep a copy, and so the first is one.
func (w *world) spreadOne(fetched bool) one {
	var out one
	var agreed time.Duration
	var id fleet.UUID
	got, reported := map[*host]bool{}, map[fleet.ID]bool{}
	w.took = func(h *host, command fleet.UUID) {
		if command == id && !got[h] {
			got[h] = true
			out.had = append(out.had, w.now-agreed)
		}
	}
	w.reported = func(_ *host, r exec.Report) {
		if r.Command == id && r.Status.Final() && !reported[r.Node] {
			reported[r.Node] = true
			out.told = append(out.told, w.now-agreed)
		}
	}
	defer func() { w.took, w.reported = nil, nil }()
	before, began := w.traffic, w.now
	o := w.order(w.hosts, spreadOf, func(c *exec.Command) {
		c.Run.Argv = []string{"true"}
		if fetched {
			c.Run.Argv, c.Run.Script = nil, slices.Repeat([]byte("#"), padding)
		}
	})
	id = o.id
	w.propose(w.hosts[len(w.hosts)-1], consensus.PutCommand{Statement: o.Statement, Nodes: o.Nodes}, func(consensus.Result) {})
	w.onAgreed = func(command fleet.UUID) {
		if command == id {
			agreed = w.now
		}
	}
	w.run(began+giveUp, func() bool { return len(reported) == len(w.hosts) })
	out.whole = w.now - agreed
	w.run(max(w.now+5*time.Second, began+nextAt), nil)
	out.traffic = w.traffic.minus(before)
	return out
}
