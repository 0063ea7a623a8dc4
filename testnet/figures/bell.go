package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/fleet"
)

// bell measures how long an order is on its way: from the leader's stamp, put on before the entry is written and agreed, to
// the moment at which the last node has the order, by its report. All hosts have the machine's one clock; both times are
// whole milliseconds.
func bell(ctx context.Context, b *bench) ([]figure, error) {
	p, err := b.takePen()
	if err != nil {
		return nil, err
	}
	if _, err := b.runAll(ctx, "true"); err != nil {
		return nil, err
	}
	var first, half, last []float64
	for range b.runs {
		r, err := b.runAll(ctx, "true")
		if err != nil {
			return nil, err
		}
		c, err := b.news(ctx, p, r.said.ID)
		if err != nil {
			return nil, err
		}
		had := inSeconds(c.had())
		first, half, last = append(first, percentile(had, 0)), append(half, median(had)), append(last, largest(had))
	}
	return []figure{
		{key: "bell_all_p50_seconds", name: "bell to all, p50", unit: seconds, value: median(last), aim: 0.05,
			note: "from the leader's stamp on the entry, before it is written, until the last node has the order"},
		{key: "bell_all_max_seconds", name: "bell to all, largest", unit: seconds, value: largest(last)},
		{key: "bell_half_p50_seconds", name: "bell to half of the nodes, p50", unit: seconds, value: median(half)},
		{key: "bell_first_p50_seconds", name: "bell to the first node, p50", unit: seconds, value: median(first),
			note: "mostly what it takes to write and agree"},
	}, nil
}

// course is a command with when its nodes had it.
type course struct {
	committed int64   // Unix milliseconds
	received  []int64 // the same
}

// had is how long after the leader's stamp each node had the order. One that is earlier by rounding is at once.
func (c course) had() []time.Duration {
	var out []time.Duration
	for _, at := range c.received {
		out = append(out, time.Duration(max(0, at-c.committed))*time.Millisecond)
	}
	return out
}

// errAll ends a watch that has heard of every node.
var errAll = errors.New("heard of all")

// news asks for the reports on a command that has ended everywhere.
func (b *bench) news(ctx context.Context, p pen, id fleet.UUID) (course, error) {
	ctx, stop := context.WithTimeout(ctx, patience)
	defer stop()
	client := b.clients[b.asker().Name()]
	request, err := p.request(ctx, client, id)
	if err != nil {
		return course{}, err
	}
	var c course
	received := map[fleet.ID]int64{}
	err = client.Watch(ctx, request, func(u node.Update) error {
		if u.Info != nil {
			c.committed = u.Info.Committed
		}
		if u.Report != nil && u.Report.Received != 0 {
			received[u.Report.Node] = u.Report.Received
		}
		if c.committed != 0 && len(received) == len(b.hosts) {
			return errAll
		}
		return nil
	})
	if !errors.Is(err, errAll) {
		return c, fmt.Errorf("command %s: %d of %d nodes say when they had it: %w", id, len(received), len(b.hosts), err)
	}
	for _, at := range received {
		c.received = append(c.received, at)
	}
	return c, nil
}
