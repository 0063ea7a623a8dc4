package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/muster-fleet/muster/testnet/delay"
)

// way is what lies between a person and a node.
type way struct {
	key  string
	name string
	far  bool // a cable; else the loopback interface of one namespace
	path delay.Path
}

// roundTrip is what people have between continents, or by a bad line within one.
const roundTrip = 50 * time.Millisecond

// sessionWays lists the ways over which sessions are measured. The same seed loses the same packets' places in the
// order of packets, whoever sends them.
func sessionWays() []way {
	far := func(key, name string, loss float64) way {
		return way{key, name, true, delay.Path{Delay: roundTrip / 2, Loss: loss, Seed: 1}}
	}
	return []way{
		{key: "loopback", name: "loopback"},
		far("far", "50 ms", 0),
		far("far1", "50 ms, 1 % lost", 0.01),
		far("far5", "50 ms, 5 % lost", 0.05),
	}
}

// act is one thing that is done over a way by muster and by ssh.
type act struct {
	key  string
	what string
	take func(ctx context.Context, c *couple) ([]figure, error)
}

func sessionActs() []act {
	return []act{
		{"open", "open and run true", sessionOpens},
		{"echo", "a key's way there and back", sessionEcho},
		{"stream", "one stream, and eight", sessionStreams},
		{"copy", "files", sessionCopies},
		{"memory", "idle sessions", sessionMemory},
	}
}

func wayKeys() (out []string) {
	for _, w := range sessionWays() {
		out = append(out, w.key)
	}
	return out
}

func actKeys() (out []string) {
	for _, a := range sessionActs() {
		out = append(out, a.key)
	}
	return out
}

// measureSessions has a person here and a node there, an sshd beside its agent, and measures both in turns over each way.
func measureSessions(ctx context.Context, p place) (out []figure, err error) {
	near, err := newGround(p, false)
	if err != nil {
		return nil, err
	}
	defer near.end()
	far, err := newGround(p, true) // before anything is started: a thread that makes a namespace ends
	if err != nil {
		return nil, err
	}
	defer far.end()
	for _, g := range []*ground{near, far} {
		figures, err := g.measure(ctx, p)
		out = append(out, figures...)
		if err != nil {
			return out, err
		}
	}
	return out, nil
}

// chosen reports whether a key is among those asked for.
func chosen(asked []string, key string) bool { return len(asked) == 0 || slices.Contains(asked, key) }

// measure goes over the ways of one ground.
func (g *ground) measure(ctx context.Context, p place) (out []figure, err error) {
	ways := slices.DeleteFunc(sessionWays(), func(w way) bool { return w.far != g.far || !chosen(p.ways, w.key) })
	if len(ways) == 0 {
		return nil, nil
	}
	c, err := newCouple(ctx, p, g)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.end()) }()
	for _, w := range ways {
		if err := c.over(ctx, w); err != nil {
			return out, fmt.Errorf("%s: %w", w.name, err)
		}
		for _, a := range sessionActs() {
			if !chosen(p.acts, a.key) || ctx.Err() != nil {
				continue
			}
			p.say("sessions: %s: %s", w.name, a.what)
			figures, err := a.take(ctx, c)
			if err != nil {
				return out, fmt.Errorf("%s: %s: %w", w.name, a.key, err)
			}
			out = append(out, figures...)
		}
	}
	return out, ctx.Err()
}

// figure makes a figure of this way.
func (c *couple) figure(key, name string, u unit, value float64) figure {
	return figure{key: "session_" + c.way.key + "_" + key, name: c.way.name + ": " + name, unit: u, value: value}
}

// atMost gives a figure an aim.
func (f figure) atMost(aim float64) figure {
	f.aim = aim
	return f
}

// atLeast gives a figure an aim from below.
func (f figure) atLeast(aim float64) figure {
	f.aim, f.least = aim, true
	return f
}

// noted adds what else is to be known.
func (f figure) noted(note string) figure {
	f.note = note
	return f
}
