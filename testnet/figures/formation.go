package main

import (
	"context"
	"fmt"
	"time"

	"github.com/muster-fleet/muster/node"
)

// formed is what forming the fleet took.
type formed struct {
	joined time.Duration // every agent is enrolled and answers
	seen   time.Duration // every node sees every node
	wall   time.Duration // the voters stand, too
	cpu    time.Duration
}

// form founds the fleet, lets all others join at once, and notes what that takes from the founder's answering on until
// every node sees every node and the voters stand.
func (b *bench) form(ctx context.Context) error {
	if err := b.lan.Found(ctx); err != nil {
		return err
	}
	before, err := b.cpu()
	if err != nil {
		return err
	}
	start := time.Now()
	if err := b.lan.Join(ctx, b.hosts[1:]...); err != nil {
		return err
	}
	b.formed.joined = time.Since(start)
	if err := b.all(ctx, "sees all nodes", func(s node.Status) bool { return s.Online == len(b.hosts) }); err != nil {
		return err
	}
	b.formed.seen = time.Since(start)
	if err := b.whole(ctx); err != nil {
		return err
	}
	b.formed.wall = time.Since(start)
	after, err := b.cpu()
	b.formed.cpu = after - before
	return err
}

// formation shows what form noted: a fleet forms once.
func formation(_ context.Context, b *bench) ([]figure, error) {
	return []figure{
		{key: "formation_seconds", name: "formation", unit: seconds, value: b.formed.wall.Seconds(),
			note: fmt.Sprintf("from the founder's answering until every node sees every node and %d or more vote; all others join at once", voters(len(b.hosts)))},
		{key: "formation_joined_seconds", name: "formation, until all are enrolled", unit: seconds, value: b.formed.joined.Seconds()},
		{key: "formation_seen_seconds", name: "formation, until all see all", unit: seconds, value: b.formed.seen.Seconds()},
		{key: "formation_cpu_seconds", name: "formation, CPU of all", unit: seconds, value: b.formed.cpu.Seconds()},
	}, nil
}
