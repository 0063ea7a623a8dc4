package report

import "os"

// Stats are what the store comes to. Only the size of its file is asked of the disk.
type Stats struct {
	Bytes, Bound int64  // of the file, and in use before the oldest commands give way
	Kept         uint64 // reports that were written, since Open
	Watchers     int
}

// Stats returns how the store stands now.
func (s *Store) Stats() Stats {
	out := Stats{Bound: s.o.MaxBytes, Kept: s.kept.Load()}
	if info, err := os.Stat(s.path); err == nil {
		out.Bytes = info.Size()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, watchers := range s.watch {
		out.Watchers += len(watchers)
	}
	return out
}
