package main

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// Shape is the fleet and the length of the storm that a plan is for.
type Shape struct {
	Servers int   `json:"servers"`
	Agents  int   `json:"agents"` // beside the servers
	StormMS int64 `json:"storm_ms"`
}

// hosts names the hosts, servers first.
func (s Shape) hosts() []string {
	var out []string
	for n := range s.Servers + s.Agents {
		out = append(out, fmt.Sprintf("n%d", n+1))
	}
	return out
}

func (s Shape) servers() []string { return s.hosts()[:s.Servers] }

// Step is one thing that happens in a round. Exactly one of Fault, Lift and Ask is set.
type Step struct {
	Round  int    `json:"round"`
	Number int    `json:"step"`  // unique among all rounds
	AtMS   int64  `json:"at_ms"` // from the beginning of the round
	Fault  *Fault `json:"fault,omitempty"`
	Lift   int    `json:"lift,omitempty"` // the step whose fault ends
	Ask    *Ask   `json:"ask,omitempty"`
}

// roundSteps is the room for numbers of steps in a round.
const roundSteps = 1000

// Plan returns the steps of one round, in the order of their times. The same seed, shape and round give the same steps.
func Plan(seed uint64, shape Shape, round int) []Step {
	p := &planner{
		shape: shape, round: round, rng: rand.New(rand.NewPCG(seed, uint64(round))),
		storm: shape.StormMS, busy: map[string]int64{},
	}
	p.faults(dealt(seed, round, faultsIn(shape)))
	p.asks()
	p.shelf()
	slices.SortStableFunc(p.steps, func(a, b Step) int { return cmp.Compare(a.AtMS, b.AtMS) })
	return p.steps
}

// planner makes one round.
type planner struct {
	shape Shape
	round int
	rng   *rand.Rand
	storm int64            // milliseconds
	busy  map[string]int64 // until when a host has a fault already
	away  []span           // of servers that a fault takes away
	steps []Step
	ops   int
}

type span struct{ from, to int64 }

func (p *planner) add(at int64, s Step) int {
	s.Round, s.Number, s.AtMS = p.round, p.round*roundSteps+len(p.steps)+1, at
	p.steps = append(p.steps, s)
	return s.Number
}

// within returns a number from low to high.
func (p *planner) within(low, high int64) int64 { return low + p.rng.Int64N(max(1, high-low+1)) }

func (p *planner) oneOf(names []string) string { return names[p.rng.IntN(len(names))] }

// some returns n of names.
func (p *planner) some(names []string, n int) []string {
	out := slices.Clone(names)
	p.rng.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out[:min(n, len(out))]
}

func without(names []string, but ...string) []string {
	return slices.DeleteFunc(slices.Clone(names), func(n string) bool { return slices.Contains(but, n) })
}

func ms(n int64) time.Duration { return time.Duration(n) * time.Millisecond }
