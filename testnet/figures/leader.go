package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/muster-fleet/muster/testnet/lan"
)

// deadLeader measures how long after the leader was killed the next command has succeeded on all others. Whoever types it
// tries until it does.
func deadLeader(ctx context.Context, b *bench) ([]figure, error) {
	var took []float64
	var tries []float64
	for range min(kills, b.runs) {
		h, err := b.leader(ctx)
		if err != nil {
			return nil, err
		}
		from := b.notThis(h)
		start := time.Now()
		if err := h.Kill(); err != nil {
			return nil, err
		}
		n, err := b.tryWithout(ctx, from, h)
		if err != nil {
			return nil, err
		}
		took, tries = append(took, time.Since(start).Seconds()), append(tries, float64(n))
		if err := b.revive(ctx, h); err != nil {
			return nil, err
		}
	}
	return []figure{
		{key: "dead_leader_next_command_p50_seconds", name: "killed leader to the next command, p50", unit: seconds, value: median(took), aim: 6,
			note: "from the kill until true has succeeded on all others, from another node"},
		{key: "dead_leader_next_command_max_seconds", name: "killed leader to the next command, largest", unit: seconds, value: largest(took)},
		{key: "dead_leader_tries_max_count", name: "killed leader, tries it took, most", unit: count, value: largest(tries)},
	}, nil
}

func (b *bench) notThis(h *lan.Host) *lan.Host {
	if h != b.asker() {
		return b.asker()
	}
	return b.hosts[0]
}

// tryWithout runs true on all hosts but one until that succeeds, and counts the tries.
func (b *bench) tryWithout(ctx context.Context, from, without *lan.Host) (tries int, err error) {
	target := []string{"--target", "not " + without.Name()}
	for deadline := time.Now().Add(patience); ; {
		tries++
		_, err := b.run(ctx, from, target, len(b.hosts)-1, "true")
		switch {
		case err == nil:
			return tries, nil
		case ctx.Err() != nil:
			return tries, ctx.Err()
		case time.Now().After(deadline):
			return tries, errors.Join(fmt.Errorf("no command has succeeded within %s of the leader's death", patience), err)
		}
		if err := pause(ctx, look); err != nil {
			return tries, err
		}
	}
}
