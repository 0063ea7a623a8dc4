package api

import (
	"slices"
	"sync"

	"github.com/muster-fleet/muster/node/fleet"
)

// gather brings pieces in batches: what comes while a batch is on its way goes with the next, or with one beside it if it fills
// one. So batches grow with the load, and nobody waits for a timer.
type gather[T comparable] struct {
	bring func([]T)
	batch int // pieces in one, at most
	most  int // batches on their way

	mu       sync.Mutex
	waiting  []T
	underway int
}

// gatherWaiting bounds what waits: where an agent takes nothing, a program that goes on asking must not fill its memory.
const gatherWaiting = 16384

// put has a piece brought. Exhausted: too many wait.
func (g *gather[T]) put(piece T) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.waiting) >= gatherWaiting {
		return fleet.Errorf(fleet.Exhausted, "%d others wait for the agent already, the most", len(g.waiting)).Hinted("try again in a few seconds")
	}
	g.waiting = append(g.waiting, piece)
	if g.underway == 0 || g.underway < g.most && len(g.waiting) >= g.batch {
		g.underway++
		go g.run()
	}
	return nil
}

// withdraw takes back a piece that waits still.
func (g *gather[T]) withdraw(piece T) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if at := slices.Index(g.waiting, piece); at >= 0 {
		g.waiting = slices.Delete(g.waiting, at, at+1)
	}
}

// back has pieces of a batch brought after all, before what came later. Only bring may call it: its batch's goroutine looks again.
func (g *gather[T]) back(pieces []T) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.waiting = append(pieces, g.waiting...)
}

func (g *gather[T]) run() {
	for {
		g.mu.Lock()
		n := min(len(g.waiting), g.batch)
		if n == 0 {
			g.underway--
			g.mu.Unlock()
			return
		}
		batch := g.waiting[:n:n]
		if g.waiting = g.waiting[n:]; len(g.waiting) == 0 {
			g.waiting = nil
		}
		g.mu.Unlock()
		g.bring(batch)
	}
}
