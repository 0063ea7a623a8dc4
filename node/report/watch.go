package report

import (
	"context"
	"sync"

	"go.etcd.io/bbolt"

	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

// watchChunk is how many reports a watch reads at once: at most 1.7 MB.
const watchChunk = 32

// watcher holds the nodes whose newest report a watch has not given out yet, in the order in which they came.
type watcher struct {
	mu    sync.Mutex
	queue []fleet.ID
	in    map[fleet.ID]bool // what is in queue
	ring  chan struct{}     // holds one: something is in queue
}

func (w *watcher) mark(nodes ...fleet.ID) {
	w.mu.Lock()
	for _, id := range nodes {
		if !w.in[id] {
			w.in[id] = true
			w.queue = append(w.queue, id)
		}
	}
	w.mu.Unlock()
	select {
	case w.ring <- struct{}{}:
	default:
	}
}

func (w *watcher) take() []fleet.ID {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := min(len(w.queue), watchChunk)
	out := append([]fleet.ID(nil), w.queue[:n]...)
	if w.queue = w.queue[n:]; len(w.queue) == 0 {
		w.queue = nil
	}
	for _, id := range out {
		delete(w.in, id)
	}
	return out
}

// Watch calls each with the reports of a command that are there, then with each new one, until ctx ends (its error is
// returned), each returns an error (that is), or the store is closed. each runs on the caller's goroutine and may take
// its time: of the reports that a node sent meanwhile it gets the newest. It may get a report twice.
func (s *Store) Watch(ctx context.Context, command fleet.UUID, each func(auth.Envelope) error) error {
	w := &watcher{in: map[fleet.ID]bool{}, ring: make(chan struct{}, 1)}
	s.join(command, w) // before looking, so that nothing falls between
	defer s.leave(command, w)
	there, err := s.nodes(command)
	if err != nil {
		return err
	}
	w.mark(there...)
	for {
		nodes := w.take()
		if len(nodes) == 0 {
			select {
			case <-w.ring:
				continue
			case <-ctx.Done():
				return context.Cause(ctx)
			case <-s.closed:
				return s.trouble(errClosed)
			}
		}
		envelopes, err := s.some(command, nodes)
		if err != nil {
			return err
		}
		for _, e := range envelopes {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if err := each(e); err != nil {
				return err
			}
		}
	}
}

func (s *Store) join(command fleet.UUID, w *watcher) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.watch[command] == nil {
		s.watch[command] = map[*watcher]struct{}{}
	}
	s.watch[command][w] = struct{}{}
}

func (s *Store) leave(command fleet.UUID, w *watcher) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if delete(s.watch[command], w); len(s.watch[command]) == 0 {
		delete(s.watch, command)
	}
}

// tell marks a node for all who watch the command.
func (s *Store) tell(command fleet.UUID, node fleet.ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for w := range s.watch[command] {
		w.mark(node)
	}
}

// nodes lists the nodes that reported on a command.
func (s *Store) nodes(command fleet.UUID) (out []fleet.ID, err error) {
	err = s.view(func(tx *bbolt.Tx) error {
		return eachKey(tx.Bucket(bucketReports).Bucket(command[:]), func(k, _ []byte) error {
			out = append(out, fleet.ID(k))
			return nil
		})
	})
	return out, err
}

// some returns the newest reports of some nodes, as far as they are there.
func (s *Store) some(command fleet.UUID, nodes []fleet.ID) (out []auth.Envelope, err error) {
	err = s.view(func(tx *bbolt.Tx) error {
		b := tx.Bucket(bucketReports).Bucket(command[:])
		if b == nil {
			return nil // pruned meanwhile
		}
		for _, id := range nodes {
			if e, ok := s.read(command[:], id[:], b.Get(id[:])); ok {
				out = append(out, e)
			}
		}
		return nil
	})
	return out, err
}
