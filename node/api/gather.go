package api

import "sync"

// gather brings pieces in batches: what comes while a batch is on its way goes with the next, or with one beside it if it fills
// one. So batches grow with the load, and nobody waits for a timer.
type gather[T any] struct {
	bring func([]T)
	batch int // pieces in one, at most
	most  int // batches on their way

	mu       sync.Mutex
	waiting  []T
	underway int
}

// put has a piece brought.
func (g *gather[T]) put(piece T) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.waiting = append(g.waiting, piece)
	if g.underway == 0 || g.underway < g.most && len(g.waiting) >= g.batch {
		g.underway++
		go g.run()
	}
}

// back has pieces of a batch brought after all, before what came later.
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
