package main

import (
	"context"
	"fmt"
	"time"

	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/params"
)

// watchFanOut measures how long a change is on its way to those who watch: a watcher on every node, one change at a time,
// from when its writer asks until the last watcher has heard of it, and from the acknowledgement on.
func watchFanOut(ctx context.Context, b *bench) ([]figure, error) {
	key, err := b.takePen()
	if err != nil {
		return nil, err
	}
	client := b.clients[b.asker().Name()]
	s, err := client.Status(ctx)
	if err != nil {
		return nil, err
	}
	p := newParamPen(key, s)
	scope := fmt.Sprintf("/watch/%d/", time.Now().UnixNano())
	ctx, stop := context.WithTimeout(ctx, patience)
	defer stop()
	heard, failed := make(chan time.Time, len(b.hosts)), make(chan error, len(b.hosts))
	stands := make(chan struct{}, len(b.hosts))
	for _, h := range b.hosts {
		watch := node.ParamsWatch{Signed: []auth.Envelope{p.mayRead()}, Scope: scope}
		go func() {
			first := true
			failed <- b.clients[h.Name()].WatchParams(ctx, watch, func(news node.ParamsNews) error {
				if first {
					first = false
					stands <- struct{}{}
				}
				for range news.Events {
					heard <- time.Now()
				}
				return nil
			})
		}()
	}
	if _, err := gathered(ctx, stands, failed, len(b.hosts)); err != nil {
		return nil, err
	}
	var last, half, beyond []float64
	for n := range b.runs {
		began := time.Now()
		if _, err := client.Propose(ctx, p.put(params.Standard, []byte("x"), &written{name: fmt.Sprintf("%sp%d", scope, n)})); err != nil {
			return nil, err
		}
		acknowledged := time.Now()
		at, err := gathered(ctx, heard, failed, len(b.hosts))
		if err != nil {
			return nil, err
		}
		var took []float64
		for _, when := range at {
			took = append(took, when.Sub(began).Seconds())
		}
		last, half = append(last, largest(took)), append(half, median(took))
		beyond = append(beyond, largest(took)-acknowledged.Sub(began).Seconds())
	}
	return []figure{
		{key: "watch_all_p50_seconds", name: "a change to all watchers, p50", unit: seconds, value: median(last), note: "from when its writer asks"},
		{key: "watch_all_max_seconds", name: "a change to all watchers, largest", unit: seconds, value: largest(last)},
		{key: "watch_half_p50_seconds", name: "a change to half of the watchers, p50", unit: seconds, value: median(half)},
		{key: "watch_behind_p50_seconds", name: "the last watcher behind the acknowledgement, p50", unit: seconds, value: max(0, median(beyond))},
	}, nil
}

// gathered takes so many from a channel, unless something fails.
func gathered[T any](ctx context.Context, from <-chan T, failed <-chan error, n int) (out []T, err error) {
	for len(out) < n {
		select {
		case one := <-from:
			out = append(out, one)
		case err := <-failed:
			return out, fmt.Errorf("a watch ended: %w", err)
		case <-ctx.Done():
			return out, fmt.Errorf("%d of %d watchers: %w", len(out), n, context.Cause(ctx))
		}
	}
	return out, nil
}
