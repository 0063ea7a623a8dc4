package agent

import (
	"context"
	"sync"

	"github.com/muster-fleet/muster/node/fleet"
)

// turnstile lets so many of one peer pass at a time. The others wait; how many may wait is bounded elsewhere.
type turnstile struct {
	mu    sync.Mutex
	gates map[fleet.ID]*peerGate
}

type peerGate struct {
	places chan struct{}
	users  int // that wait or are inside
}

// enter waits for a place, which leave gives back; false when ctx ended before.
func (t *turnstile) enter(ctx context.Context, peer fleet.ID, most int) (leave func(), ok bool) {
	t.mu.Lock()
	g := t.gates[peer]
	if g == nil {
		if t.gates == nil {
			t.gates = map[fleet.ID]*peerGate{}
		}
		g = &peerGate{places: make(chan struct{}, most)}
		t.gates[peer] = g
	}
	g.users++
	t.mu.Unlock()
	select {
	case g.places <- struct{}{}:
		return func() { <-g.places; t.forget(peer, g) }, true
	case <-ctx.Done():
		t.forget(peer, g)
		return nil, false
	}
}

func (t *turnstile) forget(peer fleet.ID, g *peerGate) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if g.users--; g.users == 0 {
		delete(t.gates, peer)
	}
}
