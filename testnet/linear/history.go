package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// town is a fleet under judgement. Faults begin and end one at a time.
type town interface {
	doors() []door // of the hosts whose agents run
	pen() pen
	kinds() []fault                 // that it knows
	leader(ctx context.Context) int // -1: nobody says
	begin(ctx context.Context, t trouble) error
	end(ctx context.Context, t trouble) error
	whole(ctx context.Context) error // waits until all hosts are up and see a leader
}

// runHistory runs one history of a seed on a town, and leaves the town whole.
func runHistory(ctx context.Context, w town, seed uint64, number int, lies bool) (*notes, error) {
	random := seedOf(seed, number)
	plan := planOf(random, w.kinds())
	n := &notes{began: time.Now()}
	var names []string
	for k := range keys {
		names = append(names, fmt.Sprintf("/linear/%d/%d/k%d", seed, number, k))
	}
	running, stop := context.WithCancel(ctx)
	var work sync.WaitGroup
	for c := range clients {
		one := &client{number: c, pen: w.pen(), random: rand.New(rand.NewPCG(random.Uint64(), 1)), notes: n, seen: map[string]answer{}, lies: lies}
		work.Go(func() { one.run(running, ctx, w, names) })
	}
	err := n.suffer(ctx, w, plan)
	pauseUntil(ctx, n.began.Add(span))
	stop()
	work.Wait()
	if err != nil {
		return n, err
	}
	if err := w.whole(ctx); err != nil {
		return n, err
	}
	return n, n.lastLook(ctx, w, names, random)
}

// run acts until running ends; what was begun is ended.
func (c *client) run(running, ctx context.Context, w town, names []string) {
	for running.Err() == nil {
		doors := w.doors()
		if len(doors) > 0 {
			at := doors[c.random.IntN(len(doors))]
			if home := c.number % hosts; home < len(doors) && c.random.IntN(4) > 0 {
				at = doors[home]
			}
			c.act(ctx, at, names[c.random.IntN(len(names))])
		}
		pauseUntil(running, time.Now().Add(time.Duration(c.random.ExpFloat64()*float64(thinking))))
	}
}

// suffer carries the plan out.
func (n *notes) suffer(ctx context.Context, w town, plan []trouble) error {
	for _, t := range plan {
		pauseUntil(ctx, n.began.Add(t.from))
		if lead := w.leader(ctx); t.first && lead >= 0 && !slices.Contains(t.hosts, lead) {
			t.hosts[0] = lead
		}
		if err := w.begin(ctx, t); err != nil {
			return fmt.Errorf("%s of %v: %w", t.fault, t.hosts, err)
		}
		n.count(func(c *counts) { c.faults++ })
		pauseUntil(ctx, n.began.Add(t.to))
		if err := w.end(ctx, t); err != nil {
			return fmt.Errorf("end of %s of %v: %w", t.fault, t.hosts, err)
		}
	}
	return nil
}

// lastTries is how often each of the last reads is tried: the lead may just change hands.
const lastTries = 10

// lastLook reads everything on every host.
func (n *notes) lastLook(ctx context.Context, w town, names []string, random *rand.Rand) error {
	last := &client{patient: true, number: clients, pen: w.pen(), random: random, notes: n, seen: map[string]answer{}}
	for _, at := range w.doors() {
		for _, name := range names {
			before := n.counts.gets
			for try := 0; n.counts.gets == before; try++ {
				if try == lastTries {
					return fmt.Errorf("the last read of %s on %s was not answered by the leader", name, at.name())
				}
				if try > 0 {
					pauseUntil(ctx, time.Now().Add(time.Second))
				}
				last.get(ctx, at, ask{op: opGet, key: name}, false)
			}
		}
	}
	return nil
}

func pauseUntil(ctx context.Context, at time.Time) {
	timer := time.NewTimer(time.Until(at))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// wrong lists what is wrong with a history that has run.
func (n *notes) wrong() (out []string) {
	for _, err := range n.errs {
		out = append(out, err.Error())
	}
	if why := n.counts.idle(); why != "" {
		out = append(out, why)
	}
	return append(out, judge(n.events)...)
}
