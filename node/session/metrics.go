package session

// Stats are what this host's sessions come to, from memory.
type Stats struct {
	Running, Attached int
	Kept              int // all of which something is kept, running ones among them
}

// Stats returns how sessions stand now. A tunnel counts as attached: the agent ends it with its last connection.
func (s *Sessions) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := Stats{Kept: len(s.known)}
	for id, state := range s.known {
		if state.Ended != 0 {
			continue
		}
		out.Running++
		if state.Attached || s.tunnels[id] != nil {
			out.Attached++
		}
	}
	return out
}
