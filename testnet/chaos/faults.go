package main

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
)

// FaultKind is a way to break something.
type FaultKind string

// The faults.
const (
	Kill     FaultKind = "kill"      // SIGKILL to the agent; lifted: it is started
	Pause    FaultKind = "pause"     // SIGSTOP to the agent; lifted: SIGCONT
	Restart  FaultKind = "restart"   // SIGTERM to the agent; lifted: it is started
	PowerCut FaultKind = "power cut" // every process of the host at once; lifted: switched on, agent started
	Split    FaultKind = "split"     // Hosts are cut off from all others
	OneWay   FaultKind = "one way"   // nothing gets from Hosts to To
	Ring     FaultKind = "ring"      // every host sees its neighbours only
	Loss     FaultKind = "loss"      // Amount percent of Hosts' packets
	Slow     FaultKind = "slow"      // what Hosts send comes Amount milliseconds late, out of order, twice
	Narrow   FaultKind = "narrow"    // Amount bits in a second
	Full     FaultKind = "full disk"
	ReadOnly FaultKind = "read-only disk"
	Clock    FaultKind = "clock" // Hosts' clocks are off by Amount seconds
	Move     FaultKind = "move"  // Hosts get another address; lifted: their old one
	Files    FaultKind = "files" // the agent is started anew with Amount file descriptors; lifted: without a limit
)

// Leader stands for the host that leads when the fault begins.
const Leader = "leader"

// Fault is one thing that is broken.
type Fault struct {
	Kind   FaultKind `json:"kind"`
	Hosts  []string  `json:"hosts,omitempty"`
	To     []string  `json:"to,omitempty"`
	Amount int64     `json:"amount,omitempty"`
	Flap   bool      `json:"flap,omitempty"` // one of a series that comes and goes
}

// String says the fault for people.
func (f Fault) String() string {
	out := string(f.Kind)
	if f.Flap {
		out = "flapping " + out
	}
	if len(f.Hosts) > 0 {
		out += " " + strings.Join(f.Hosts, " ")
	}
	if len(f.To) > 0 {
		out += " to " + strings.Join(f.To, " ")
	}
	if f.Amount != 0 {
		out += fmt.Sprintf(" (%d)", f.Amount)
	}
	return out
}

// deck is what is dealt: a kind that comes twice is dealt twice as often. "flap" is a Split that comes and goes.
var deck = []string{
	string(Kill), string(Kill), string(Pause), string(Restart), string(PowerCut), string(PowerCut), string(Split), string(OneWay),
	string(Ring), "flap", string(Loss), string(Slow), string(Narrow), string(Full), string(ReadOnly), string(Clock), string(Move),
	string(Files),
}

// faultsIn returns how many faults a storm of that length has room for.
func faultsIn(shape Shape) int { return max(2, int(shape.StormMS/2700)) }

// dealt returns the faults of a round: rounds go through the deck, shuffled anew each time, so that every kind comes up in
// a few rounds.
func dealt(seed uint64, round, count int) []string {
	var out []string
	for i := (round - 1) * count; i < round*count; i++ {
		cards := slices.Clone(deck)
		rand.New(rand.NewPCG(seed, ^uint64(i/len(deck)))).Shuffle(len(cards), func(a, b int) { cards[a], cards[b] = cards[b], cards[a] })
		out = append(out, cards[i%len(deck)])
	}
	return out
}

// faults lays the faults into the storm, one after another, overlapping.
func (p *planner) faults(cards []string) {
	gap := p.storm / int64(len(cards)+1)
	for i, card := range cards {
		at := 300 + int64(i)*gap + p.within(0, gap/2)
		p.deal(card, at)
	}
}

func (p *planner) deal(card string, at int64) {
	to := min(at+p.within(2500, 8000), p.storm)
	switch kind := FaultKind(card); kind {
	case "flap":
		p.flap(at)
	case Kill, Pause, Restart:
		p.strike(kind, at, to, 1+p.rng.IntN(3), 0)
	case PowerCut:
		count := 1 + p.rng.IntN(2)
		if p.rng.IntN(5) == 0 { // now and then everybody's
			count = p.shape.Servers + p.shape.Agents
		}
		p.strike(kind, at, to, count, 0)
	case Full, ReadOnly, Move:
		p.strike(kind, at, to, 1+p.rng.IntN(2), 0)
	case Files:
		p.strike(kind, at, to, 1, p.within(24, 64))
	case Clock:
		offs := []int64{-7200, -180, 120, 240, 3600, 10 * 365 * 86400, -40 * 365 * 86400}
		p.strike(kind, at, to, 1+p.rng.IntN(2), offs[p.rng.IntN(len(offs))])
	case Split:
		p.split(at, to, false)
	case OneWay:
		from := p.victims(1 + p.rng.IntN(3))
		p.fault(at, to, Fault{Kind: OneWay, Hosts: from, To: p.some(without(p.shape.hosts(), from...), 3+p.rng.IntN(5))})
	case Ring:
		p.fault(at, to, Fault{Kind: Ring})
	case Loss:
		p.fault(at, to, Fault{Kind: Loss, Hosts: p.victims(2 + p.rng.IntN(6)), Amount: p.within(5, 30)})
	case Slow:
		p.fault(at, to, Fault{Kind: Slow, Hosts: p.victims(1 + p.rng.IntN(3)), Amount: p.within(20, 400)})
	case Narrow:
		p.fault(at, to, Fault{Kind: Narrow, Hosts: p.victims(1 + p.rng.IntN(3)), Amount: p.within(64, 512) * 1000})
	}
}

func (p *planner) fault(at, to int64, f Fault) {
	begun := p.add(at, Step{Fault: &f})
	p.add(to, Step{Lift: begun})
}

// strike breaks something on hosts that are whole. Where that would take the majority away from the servers, it takes
// fewer of them, unless everybody is meant.
func (p *planner) strike(kind FaultKind, at, to int64, count int, amount int64) {
	all := count >= p.shape.Servers+p.shape.Agents
	if !all && p.rng.IntN(5) == 0 && kind != Move && p.mayTake(at, to, 1) {
		p.away = append(p.away, span{at, to})
		p.fault(at, to, Fault{Kind: kind, Hosts: []string{Leader}, Amount: amount})
		return
	}
	var hosts []string
	for _, h := range p.some(p.shape.hosts(), len(p.shape.hosts())) {
		server := slices.Contains(p.shape.servers(), h)
		switch {
		case len(hosts) == count:
		case p.busy[h] > at && !all:
		case server && !all && takesAway(kind) && !p.mayTake(at, to, 1):
		default:
			hosts = append(hosts, h)
			p.busy[h] = to + 500
			if server && takesAway(kind) {
				p.away = append(p.away, span{at, to})
			}
		}
	}
	if len(hosts) > 0 {
		slices.SortFunc(hosts, byNumber)
		p.fault(at, to, Fault{Kind: kind, Hosts: hosts, Amount: amount})
	}
}

// takesAway reports whether a server with that fault is no server while it lasts.
func takesAway(kind FaultKind) bool {
	switch kind {
	case Kill, Pause, Restart, PowerCut, Full, ReadOnly:
		return true
	case Split, OneWay, Ring, Loss, Slow, Narrow, Clock, Move, Files:
		return false
	}
	return false
}

// mayTake reports whether n more servers may be away from at to to, so that most of them are there.
func (p *planner) mayTake(at, to int64, n int) bool {
	for _, s := range p.away {
		if s.from < to && at < s.to {
			n++
		}
	}
	return n <= (p.shape.Servers-1)/2
}

func (p *planner) victims(n int) []string {
	out := p.some(p.shape.hosts(), n)
	slices.SortFunc(out, byNumber)
	return out
}

func (p *planner) split(at, to int64, flap bool) {
	p.fault(at, to, Fault{Kind: Split, Hosts: p.victims(1 + p.rng.IntN(max(1, len(p.shape.hosts())/2))), Flap: flap})
}

// flap is a split that comes and goes, the same one or another.
func (p *planner) flap(at int64) {
	off := p.victims(1 + p.rng.IntN(max(1, len(p.shape.hosts())/2)))
	for range 3 + p.rng.IntN(3) {
		to := at + p.within(300, 1500)
		if to > p.storm {
			return
		}
		p.fault(at, to, Fault{Kind: Split, Hosts: off, Flap: true})
		at = to + p.within(300, 1500)
	}
}

// byNumber orders n2 before n10.
func byNumber(a, b string) int {
	if len(a) != len(b) {
		return len(a) - len(b)
	}
	return strings.Compare(a, b)
}
