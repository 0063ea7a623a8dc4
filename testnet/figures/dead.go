package main

import (
	"context"
	"time"

	"github.com/muster-fleet/muster/node/api"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/testnet/lan"
)

// deadNode measures how long it takes until every other node knows that an agent was killed. Nobody else may be called
// dead meanwhile.
func deadNode(ctx context.Context, b *bench) ([]figure, error) {
	var all, first []float64
	wrong := 0
	note := ""
	for range min(kills, b.runs) {
		h, what, err := b.pickVictim(ctx)
		if err != nil {
			return nil, err
		}
		note = "the killed one is " + what
		start := time.Now()
		if err := h.Kill(); err != nil {
			return nil, err
		}
		knew, others, err := b.knowsDead(ctx, h)
		if err != nil {
			return nil, err
		}
		first, all = append(first, knew[0].Sub(start).Seconds()), append(all, knew[len(knew)-1].Sub(start).Seconds())
		wrong += others
		if err := b.revive(ctx, h); err != nil {
			return nil, err
		}
	}
	return []figure{
		{key: "dead_node_all_p50_seconds", name: "killed node known to all, p50", unit: seconds, value: median(all), aim: 5, note: note},
		{key: "dead_node_all_max_seconds", name: "killed node known to all, largest", unit: seconds, value: largest(all)},
		{key: "dead_node_asker_p50_seconds", name: "killed node known to one, p50", unit: seconds, value: median(first)},
		{key: "dead_node_wrong_count", name: "others wrongly called lost", unit: count, value: float64(wrong)},
	}, nil
}

func (b *bench) pickVictim(ctx context.Context) (*lan.Host, string, error) {
	q, err := b.quorum(ctx, b.asker())
	if err != nil {
		return nil, "", err
	}
	var names []string
	for _, h := range b.hosts {
		names = append(names, h.Name())
	}
	name := victim(q, names, b.asker().Name())
	return b.lan.Host(name), [...]string{"no server", "a spare: every node is a server", "a voter: every node is one"}[weight(q, name)], nil
}

// knowsDead waits until each node but the dead one knows, one after the other: who knows does not forget, so that the last
// to be asked is asked when most know. It counts who is called lost beside the dead one.
func (b *bench) knowsDead(ctx context.Context, dead *lan.Host) (knew []time.Time, others int, err error) {
	for i := range b.hosts {
		h := b.hosts[len(b.hosts)-1-i] // the asker first
		if h == dead {
			continue
		}
		var nodes []api.Node
		if err := until(ctx, look, h.Name()+" calls "+dead.Name()+" lost", func() (bool, error) {
			var err error
			nodes, err = b.clients[h.Name()].Nodes(ctx)
			return err == nil && isLost(nodes, dead.Name()), nil
		}); err != nil {
			return nil, 0, err
		}
		knew = append(knew, time.Now())
		others += lostBeside(nodes, dead.Name())
	}
	return knew, others, nil
}

func isLost(nodes []api.Node, name string) bool {
	for _, n := range nodes {
		if n.Name == name {
			return n.Status != fleet.Online
		}
	}
	return false
}

func lostBeside(nodes []api.Node, name string) int {
	sum := 0
	for _, n := range nodes {
		if n.Name != name && n.Status != fleet.Online {
			sum++
		}
	}
	return sum
}
