package main

import (
	"fmt"
	"hash/fnv"
	"sync"
	"time"
)

// report is all that was measured.
type report struct {
	Spreads  []spread `json:"spreads"`
	Rollouts []tally  `json:"rollouts"`
}

// tally sums up all seasons of one size.
type tally struct {
	Nodes      int            `json:"nodes"`
	Seasons    int            `json:"seasons"`
	Rollouts   int            `json:"rollouts"`  // that a person sent
	Followers  int            `json:"followers"` // gates, and what is run on a stop
	Strict     int            `json:"strict"`
	Runs       int            `json:"runs"`
	Stopped    int            `json:"stopped"`
	Cancelled  int            `json:"cancelled"`
	Refused    []string       `json:"refused"` // why the quorum did not take rollouts
	Terms      int            `json:"terms"`   // leaders that were elected
	Faults     map[string]int `json:"faults"`
	Answers    map[string]int `json:"answers"` // to questions for a grant
	Unknown    int            `json:"unknown"` // runs of which nobody knows the end
	Freed      int            `json:"freed"`   // places of silent nodes that a leader gave away
	Virtual    time.Duration  `json:"virtual"`
	Longest    time.Duration  `json:"longest"` // from healing until everything had ended
	Longer     uint64         `json:"longest_seed"`
	Messages   float64        `json:"messages"` // datagrams per run, without beacons
	Bytes      float64        `json:"bytes"`
	Violations []string       `json:"violations"` // each with the seed of its season
	Stuck      []string       `json:"stuck"`      // so too
	Lies       []string       `json:"lies"`       // so too
	Seeds      []uint64       `json:"seeds"`      // of seasons in which something was broken
	Trace      uint64         `json:"trace"`
	Steps      int            `json:"steps"`
	messages   uint64
	bytes      uint64
}

// perSeason is how many rollouts share a world: they overlap, and share its calm.
func perSeason(nodes int) int {
	if nodes > wholeView {
		return 4
	}
	return 20
}

// measure does what was asked for, until more says that its time is over.
func measure(o options, more func() bool, say func(string)) report {
	var r report
	for i, nodes := range o.nodes {
		for _, loss := range o.loss {
			if o.commands > 0 && more() {
				say(fmt.Sprintf("%d nodes, %.0f %% lost: %d commands", nodes, 100*loss, o.commands))
				r.Spreads = append(r.Spreads, measureSpread(setting{town: o.towns.of(nodes), seed: o.seed, loss: loss}, o.commands))
			}
		}
		if o.rollouts[i] > 0 {
			r.Rollouts = append(r.Rollouts, o.seasons(nodes, o.rollouts[i], more, say))
		}
	}
	return r
}

// seasons plays that many rollouts, several worlds at a time. What comes of it depends on the seed alone.
func (o options) seasons(nodes, rollouts int, more func() bool, say func(string)) tally {
	each := perSeason(nodes)
	count := (rollouts + each - 1) / each
	found := make([]season, count)
	var next, done int
	var mu sync.Mutex
	var all sync.WaitGroup
	town := o.towns.of(nodes)
	for range min(o.jobs, count) {
		all.Go(func() {
			for {
				mu.Lock()
				i := next
				next++
				mu.Unlock()
				if i >= count || !more() {
					return
				}
				s := setting{town: town, seed: o.seed + uint64(i), loss: o.loss[i%len(o.loss)], plant: o.plant, follow: o.follow, out: o.out}
				one := play(s, min(each, rollouts-i*each))
				mu.Lock()
				found[i] = one
				if done++; done%max(1, count/20) == 0 {
					say(fmt.Sprintf("%d nodes: %d of %d seasons", nodes, done, count))
				}
				mu.Unlock()
			}
		})
	}
	all.Wait()
	return sum(nodes, found)
}

func sum(nodes int, found []season) tally {
	t := tally{Nodes: nodes, Faults: map[string]int{}, Answers: map[string]int{}}
	trace := fnv.New64a()
	for _, s := range found {
		if s.Steps == 0 {
			continue // its turn did not come
		}
		t.add(s)
		fmt.Fprintln(trace, s.Trace)
	}
	t.Trace = trace.Sum64()
	if t.Runs > 0 {
		t.Messages, t.Bytes = float64(t.messages)/float64(t.Runs), float64(t.bytes)/float64(t.Runs)
	}
	return t
}

func (t *tally) add(s season) {
	t.Seasons++
	t.Rollouts += s.Rollouts
	t.Followers += s.Followers
	t.Strict += s.Strict
	t.Runs += s.Runs
	t.Stopped += s.Stopped
	t.Cancelled += s.Cancelled
	t.Unknown += s.Unknown
	t.Freed += s.Freed
	t.Terms += int(s.Terms) - 1
	t.Virtual += s.Virtual
	t.Steps += s.Steps
	t.messages += s.messages
	t.bytes += s.bytes
	if s.Longest > t.Longest {
		t.Longest, t.Longer = s.Longest, s.Seed
	}
	for name, n := range s.happened {
		t.Faults[name] += n
	}
	for answer, n := range s.answers {
		t.Answers[answer.String()] += n
	}
	if len(s.Violations)+len(s.Stuck)+len(s.Lies) > 0 {
		t.Seeds = append(t.Seeds, s.Seed)
	}
	for _, v := range s.Violations {
		t.Violations = append(t.Violations, fmt.Sprintf("seed %d: %s", s.Seed, v))
	}
	for _, text := range s.Lies {
		t.Lies = append(t.Lies, fmt.Sprintf("seed %d: %s", s.Seed, text))
	}
	for _, text := range s.Refused {
		t.Refused = append(t.Refused, fmt.Sprintf("seed %d: %s", s.Seed, text))
	}
	for _, text := range s.Stuck {
		t.Stuck = append(t.Stuck, fmt.Sprintf("seed %d: %s", s.Seed, text))
	}
}

func (r report) broken() bool {
	for _, t := range r.Rollouts {
		if len(t.Violations)+len(t.Stuck)+len(t.Lies) > 0 {
			return true
		}
	}
	return false
}
