package main

import (
	"context"
	"errors"
	"slices"

	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/session/copy"
)

// mostWays is how often a copy is begun because links lead from what was named to elsewhere.
const mostWays = 3

// carryOn copies in one session; or in another that is signed for more, where links on the node lead from what was named to where
// the first was not signed for: policy is asked about that as well.
func (h *haul) carryOn(ctx context.Context, c *courier, s auth.Session, put bool, order copy.Order) (copy.Total, error) {
	watch := order.Watch
	for try := 1; ; try++ {
		files, bytes := 0, int64(0)
		order.Watch.Entry = func(path string, size int64) { files++; watch.Entry(path, size) }
		order.Watch.Moved = func(n int64) { bytes += n; watch.Moved(n) }
		total, err := c.carry(ctx, s, put, order)
		to, leads := errors.AsType[*copy.Elsewhere](err)
		if !leads || try == mostWays || !leadOn(&s, to.Paths) {
			return total, err
		}
		h.undo(files, bytes)
	}
}

// leadOn adds paths to what a session is signed for, and reports whether that may help.
func leadOn(s *auth.Session, paths []string) bool {
	all := slices.Clone(s.Paths)
	for _, path := range paths {
		canonical, err := auth.CanonicalPath(path)
		if err != nil {
			return false
		}
		if !slices.Contains(all, canonical) {
			all = append(all, canonical)
		}
	}
	helps := len(all) > len(s.Paths)
	s.Paths = all
	return helps && len(all) <= auth.MaxPaths
}

// undo takes back what was counted of a copy that begins again.
func (h *haul) undo(files int, bytes int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.files -= files
	h.moved -= bytes
	h.name = ""
}
