package report

import (
	"errors"
	"slices"

	"go.etcd.io/bbolt"

	"github.com/muster-fleet/muster/node/fleet"
)

// maxBatch bounds how many writes share a transaction, and with it the memory that one takes.
const maxBatch = 256

// write is one change that waits to be committed.
type write struct {
	change  func(*bbolt.Tx) error
	changed bool   // set by change
	after   func() // runs after the commit when something changed; may be nil
	grows   bool   // needs room; pruning does not
	done    chan struct{}
	err     error
}

// commit returns once w is on the disk. Whoever gets the turn commits for all that wait; what comes while it syncs waits
// for the next turn. So one put alone waits for nothing, and many at once share syncs.
func (s *Store) commit(w *write) error {
	w.done = make(chan struct{})
	s.mu.Lock()
	s.waiting = append(s.waiting, w)
	s.mu.Unlock()
	select {
	case <-w.done:
		return w.err
	case s.turn <- struct{}{}:
	}
	defer func() { <-s.turn }()
	for {
		select {
		case <-w.done:
			return w.err
		default:
			s.commitBatch(s.take())
		}
	}
}

// take removes the writes that came first from those that wait.
func (s *Store) take() []*write {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := min(len(s.waiting), maxBatch)
	batch := s.waiting[:n:n]
	if s.waiting = s.waiting[n:]; len(s.waiting) == 0 {
		s.waiting = nil // the array goes with the batch
	}
	return batch
}

// errUnchanged rolls back a batch that changed nothing: what it found was synced by an earlier turn.
var errUnchanged = errors.New("nothing to write")

func (s *Store) commitBatch(batch []*write) {
	var full error
	if slices.ContainsFunc(batch, func(w *write) bool { return w.grows }) {
		full = s.makeRoom()
	}
	err := s.update(func(tx *bbolt.Tx) error {
		changed := false
		for _, w := range batch {
			if w.grows && full != nil {
				w.err = full
				continue
			}
			if err := w.change(tx); err != nil {
				return err
			}
			changed = changed || w.changed
		}
		if !changed {
			return errUnchanged
		}
		return nil
	})
	if errors.Is(err, errUnchanged) {
		err = nil
	}
	err = s.trouble(err)
	for _, w := range batch {
		if w.err == nil {
			w.err = err
		}
		if w.err == nil && w.changed && w.after != nil {
			w.after()
		}
		close(w.done)
	}
}

// makeRoom lets the oldest commands go when the store is over its size, and returns an error when that is not enough.
// The turn must be held.
func (s *Store) makeRoom() error {
	if s.excess() == 0 {
		return nil
	}
	removed, err := s.shrink(func(change func(*bbolt.Tx) error) error { return s.trouble(s.update(change)) })
	if removed > 0 {
		s.o.Log.Warn("the report store is full: reports of the oldest commands were removed", "file", s.path, "reports", removed)
	}
	if err == nil && s.excess() > 0 {
		err = fleet.Errorf(fleet.Exhausted, "the report store %s is full (%d bytes) with one command", s.path, s.o.MaxBytes).
			Hinted("raise the store's size on this server")
	}
	return err
}
