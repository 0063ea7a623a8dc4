package report

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

// seen folds what a watcher got.
type seen struct {
	mu    sync.Mutex
	calls int
	by    map[fleet.ID]exec.Report
}

func (s *seen) add(e auth.Envelope) error {
	r, err := auth.Peek[exec.Report](e)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls++
	if s.by == nil {
		s.by = map[fleet.ID]exec.Report{}
	}
	s.by[r.Node] = r
	return err
}

func TestWatchersSeeTheNewestOfEveryNode(t *testing.T) {
	const nodes, watchers = 40, 8
	synctest.Test(t, func(t *testing.T) {
		s := open(t, t.TempDir(), Options{})
		ctx, stop := context.WithCancel(t.Context())
		var group, puts sync.WaitGroup
		all := make([]seen, watchers)
		watch := func(w *seen) {
			group.Go(func() {
				if err := s.Watch(ctx, command(1), w.add); !errors.Is(err, context.Canceled) {
					t.Errorf("watch ended with %v", err)
				}
			})
		}
		for n := range nodes {
			puts.Go(func() {
				put(t, s, rep(command(1), n, 1, exec.InProgress), rep(command(2), n, 1, exec.Failed),
					rep(command(1), n, 3, exec.Success), rep(command(1), n, 2, exec.InProgress))
			})
			if n%(nodes/watchers) == 0 { // some before, some in the midst
				watch(&all[n/(nodes/watchers)])
			}
		}
		puts.Wait()
		synctest.Wait()
		for i := range all {
			if len(all[i].by) != nodes {
				t.Errorf("watcher %d saw %d of %d nodes", i, len(all[i].by), nodes)
			}
			for _, r := range all[i].by {
				if r.Status != exec.Success || r.Command != command(1) {
					t.Errorf("watcher %d is left with %+v", i, r)
				}
			}
		}
		stop()
		group.Wait()
		if len(s.watch) != 0 {
			t.Error("ended watches are still held")
		}
	})
}

func TestSlowWatcherDelaysNobodyAndGetsTheNewest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, t.TempDir(), Options{})
		put(t, s, rep(command(1), 1, 1, exec.InProgress))
		resume, got := make(chan struct{}), seen{}
		go s.Watch(t.Context(), command(1), func(e auth.Envelope) error {
			<-resume
			return got.add(e)
		})
		synctest.Wait() // it is busy with the first report
		for seq := uint32(2); seq <= 50; seq++ {
			put(t, s, rep(command(1), 1, seq, exec.InProgress), rep(command(1), 2, seq, exec.InProgress))
		}
		close(resume)
		synctest.Wait()
		if got.calls != 3 || got.by[signer(1).ID()].Seq != 50 || got.by[signer(2).ID()].Seq != 50 {
			t.Fatalf("%d calls, left with %+v", got.calls, got.by)
		}
	})
}

func TestWatchEnds(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	put(t, s, rep(command(1), 1, 1, exec.Success), rep(command(1), 2, 1, exec.Success))
	enough := errors.New("enough")
	if err := s.Watch(t.Context(), command(1), func(auth.Envelope) error { return enough }); err != enough {
		t.Errorf("the consumer's error became %v", err)
	}
	ctx, stop := context.WithCancel(t.Context())
	calls := 0
	err := s.Watch(ctx, command(1), func(auth.Envelope) error {
		calls++
		stop()
		return nil
	})
	if !errors.Is(err, context.Canceled) || calls != 1 {
		t.Errorf("%d calls after the end, %v", calls-1, err)
	}
}
