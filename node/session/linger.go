package session

import (
	"slices"

	"github.com/muster-fleet/muster/node/fleet"
)

// maxLingering is how many supervisors of ended sessions may wait for their clients. At 3 MB for each, what a client that opens
// and leaves could pile up is bounded.
const maxLingering = 64

// linger notes a session that has ended, and sends the supervisors home that have waited longest, where too many do. Those of
// which nobody is attached go first.
func (s *Sessions) linger(id fleet.UUID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lingering = append(s.lingering, id)
	if s.thinning {
		return // whoever does looks again
	}
	s.thinning = true
	for len(s.lingering) > maxLingering {
		all := slices.Clone(s.lingering)
		s.mu.Unlock()
		still := s.thin(all)
		s.mu.Lock()
		s.lingering = slices.Concat(still, s.lingering[len(all):])
	}
	s.thinning = false
}

// thin returns those of which the supervisors still wait, and are to.
func (s *Sessions) thin(all []fleet.UUID) (still []fleet.UUID) {
	for _, id := range all {
		if s.folder(id).alive() {
			still = append(still, id)
		}
	}
	for len(still) > maxLingering {
		i := s.loneliest(still)
		if conn, _, err := s.ask(s.ctx, still[i], ask{Kind: askKill}); err == nil { // else it is gone
			conn.Close()
		}
		still = slices.Delete(still, i, i+1)
	}
	return still
}

// stillHere lists the ended sessions whose supervisors wait for their clients.
func (s *Sessions) stillHere() []fleet.UUID {
	s.mu.Lock()
	all := slices.Clone(s.lingering)
	s.mu.Unlock()
	return slices.DeleteFunc(all, func(id fleet.UUID) bool { return !s.folder(id).alive() })
}

// loneliest is the place of the first to which nobody is attached, or of the first.
func (s *Sessions) loneliest(all []fleet.UUID) int {
	for i, id := range all {
		conn, r, err := s.ask(s.ctx, id, ask{Kind: askState})
		if err != nil {
			return i
		}
		conn.Close()
		if !r.Attached {
			return i
		}
	}
	return 0
}
