package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/muster-fleet/muster/consensus"
	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/fleet"
)

// door is where a client asks: the agent of one host. Its methods may be called from several goroutines.
type door interface {
	name() string
	facts(ctx context.Context) (facts, error)
	propose(ctx context.Context, e consensus.PutParams) error
	read(ctx context.Context, ask node.ParamsAsk) (node.ParamsRead, error)
}

// How long a client waits for an answer. Some are in a hurry, so that there are changes whose end nobody knows.
const (
	answerWithin = 5 * time.Second
	inAHurry     = 600 * time.Millisecond
)

func (c *client) patience() time.Duration {
	if !c.patient && c.random.IntN(3) == 0 {
		return upTo(c.random, inAHurry) + 50*time.Millisecond
	}
	return answerWithin
}

// notes is what clients saw.
type notes struct {
	mu     sync.Mutex
	began  time.Time
	events []event
	counts counts
	errs   []error // what no client may be told
}

func (n *notes) now() int64 { return int64(time.Since(n.began)) }

func (n *notes) add(e event, count func(*counts)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.events = append(n.events, e)
	count(&n.counts)
}

func (n *notes) count(count func(*counts)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	count(&n.counts)
}

func (n *notes) fail(err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.errs = append(n.errs, err)
}

// client is one of them. It knows what it has seen last of each parameter, which may be old.
type client struct {
	number  int
	pen     pen
	random  *rand.Rand
	notes   *notes
	seen    map[string]answer
	serial  int
	patient bool // always
	lies    bool // asks any replica and takes what it says for the newest: a planted bug
}

// act does one thing to one parameter.
func (c *client) act(ctx context.Context, at door, key string) {
	switch n := c.random.IntN(100); {
	case n < 35:
		c.get(ctx, at, ask{op: opGet, key: key}, false)
	case n < 40:
		c.get(ctx, at, ask{op: opGet, key: key, version: 1 + c.random.Uint32N(4)}, false)
	case n < 48:
		c.get(ctx, at, ask{op: opGet, key: key, label: c.label()}, false)
	case n < 55:
		c.get(ctx, at, ask{op: opGet, key: key}, true)
	case n < 75: // put: as the command line does, by what is there now
		c.get(ctx, at, ask{op: opGet, key: key}, false)
		c.put(ctx, at, key)
	case n < 88: // compare and set, by what was seen some time ago
		c.put(ctx, at, key)
	case n < 91:
		if seen := c.seen[key]; seen.found {
			c.change(ctx, at, ask{op: opDelete, key: key, born: seen.born, version: seen.newest})
		}
	default:
		if seen := c.seen[key]; seen.found {
			c.change(ctx, at, ask{op: opLabel, key: key, born: seen.born, seq: seen.seq + 1, version: 1 + c.random.Uint32N(seen.newest), label: c.label()})
		}
	}
}

func (c *client) label() string { return []string{"current", "previous", "pending"}[c.random.IntN(3)] }

// put makes the version that follows the newest that was seen.
func (c *client) put(ctx context.Context, at door, key string) {
	c.serial++
	seen := c.seen[key]
	a := ask{op: opPut, key: key, born: seen.born, version: 1, value: fmt.Sprintf("%d.%d", c.number, c.serial)}
	if seen.found {
		a.version = seen.newest + 1
	}
	c.change(ctx, at, a)
}

func (c *client) change(ctx context.Context, at door, a ask) {
	ctx, stop := context.WithTimeout(ctx, c.patience())
	defer stop()
	f, err := at.facts(ctx)
	if err != nil {
		return // nothing was asked
	}
	entry := c.pen.change(f, c.random, &a)
	from := c.notes.now()
	err = at.propose(ctx, entry)
	e := event{client: c.number, ask: a, from: from, to: c.notes.now(), where: at.name()}
	switch kind := fleet.KindOf(err); {
	case err == nil:
		e.answer.verdict = taken
		c.notes.add(e, func(n *counts) { n.taken++ })
		c.learn(a)
	case kind == fleet.Conflict, kind == fleet.NotFound:
		e.answer.verdict = refused
		c.notes.add(e, func(n *counts) { n.refused++ })
	case kind == fleet.Unavailable, kind == fleet.Internal, errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		e.answer.verdict, e.to = unknown, forever
		c.notes.add(e, func(n *counts) { n.unknown++ })
	default:
		c.notes.fail(fmt.Errorf("%s of %s on %s: %w", a.op, a.key, at.name(), err))
	}
}

// learn notes what a change of this client left, as far as that goes.
func (c *client) learn(a ask) {
	seen := c.seen[a.key]
	switch a.op {
	case opPut:
		if seen.born != a.born {
			seen = answer{born: a.born}
		}
		seen.found, seen.newest = true, a.version
	case opLabel:
		seen.seq = a.seq
	case opDelete:
		seen = answer{}
	case opGet:
	}
	c.seen[a.key] = seen
}

// ageSlack is by how much an age may be too small: ages are whole milliseconds.
const ageSlack = 2 * time.Millisecond

// get reads. An answer that comes with an age may be old: it shows what was there at some time since so long before the question,
// for nobody knows when it was answered.
func (c *client) get(ctx context.Context, at door, a ask, stale bool) {
	ctx, stop := context.WithTimeout(ctx, c.patience())
	defer stop()
	f, err := at.facts(ctx)
	if err != nil {
		return
	}
	from := c.notes.now()
	read, err := at.read(ctx, c.pen.read(f, c.random, a, stale || c.lies))
	to := c.notes.now()
	if err != nil {
		if kind := fleet.KindOf(err); kind != fleet.Unavailable && kind != fleet.Internal && ctx.Err() == nil {
			c.notes.fail(fmt.Errorf("get of %s on %s: %w", a.key, at.name(), err))
		}
		c.notes.count(func(n *counts) { n.lost++ })
		return
	}
	got, err := readAnswer(read.Answer)
	if err != nil {
		c.notes.fail(err)
		return
	}
	count := func(n *counts) { n.gets++ }
	if read.Source != node.FromLeader && !c.lies {
		from -= int64(read.Age) + int64(ageSlack)
		count = func(n *counts) { n.stale++ }
	}
	c.notes.add(event{client: c.number, ask: a, answer: got, from: from, to: to, where: fmt.Sprintf("%s %s %s", at.name(), read.Source, read.Age)}, count)
	if a.version == 0 && a.label == "" {
		c.seen[a.key] = got
	}
}
