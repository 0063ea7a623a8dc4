package session

import (
	"os"
	"slices"
	"time"

	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/session/cast"
)

const (
	// MaxKept is how many ended sessions keep their folders, however young they are: one of them each is read by List.
	MaxKept = 2000
	// minKeep is how long one stays in any case: longer than its statement could be used again.
	minKeep = time.Hour
	// pruneEvery is how often old ones are looked for.
	pruneEvery = time.Hour
)

// outdated returns the ended sessions whose folders go: by age and bytes, and the oldest beyond a number.
func outdated(all []cast.Kept, keep cast.Keep, most int, now time.Time) []fleet.UUID {
	all = slices.Clone(all)
	slices.SortStableFunc(all, func(a, b cast.Kept) int { return b.Ended.Compare(a.Ended) })
	gone := map[fleet.UUID]bool{}
	for _, id := range keep.Outdated(all, now) {
		gone[id] = true
	}
	var out []fleet.UUID
	for i, k := range all {
		if (i >= most || gone[k.Session]) && now.Sub(k.Ended) >= minKeep {
			out = append(out, k.Session)
		}
	}
	return out
}

func (s *Sessions) prune() {
	var all []cast.Kept
	for _, id := range s.all() {
		dir := s.folder(id)
		if e, err := dir.end(); err == nil && !dir.alive() && dir.told() {
			all = append(all, cast.Kept{Session: id, Bytes: dir.size(), Ended: time.UnixMilli(e.Ended)})
		}
	}
	for _, id := range outdated(all, s.cfg.Keep, MaxKept, s.cfg.Now()) {
		if err := os.RemoveAll(string(s.folder(id))); err != nil {
			s.cfg.Log.Warn("the folder of an old session cannot be removed", "session", id.String(), "err", err)
			continue
		}
		s.forget(id)
	}
}

func (s *Sessions) pruneSometimes() {
	tick := time.NewTicker(pruneEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			s.prune()
		case <-s.ctx.Done():
			return
		}
	}
}
