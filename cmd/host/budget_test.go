package host

import (
	"context"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/agent"
	"github.com/muster-fleet/muster/node/budget"
	"github.com/muster-fleet/muster/node/fleet"
)

// kept is a keeper in a bubble, of a process whose memory a test sets.
type kept struct {
	*keeper
	mu      sync.Mutex // of memory and budget
	memory  int64
	budget  budget.Budget
	noted   []budget.Do
	restart []string
	full    bool // the disk
}

func newKept(t *testing.T) *kept {
	began := time.Now()
	k := &kept{budget: budget.Budget{MemoryBytes: 100 << 20}}
	k.keeper = &keeper{
		budget: func() budget.Budget {
			k.mu.Lock()
			defer k.mu.Unlock()
			return k.budget
		},
		measure: func() budget.Sample {
			k.mu.Lock()
			defer k.mu.Unlock()
			return budget.Sample{Boot: time.Since(began), Memory: k.memory}
		},
		restart: func(why string) error { k.restart = append(k.restart, why); return nil },
		remember: func() error {
			k.mu.Lock()
			defer k.mu.Unlock()
			if k.full {
				return syscall.ENOSPC
			}
			return nil
		},
		note: func(a budget.Act) { k.noted = append(k.noted, a.Do) },
		log:  slog.New(slog.DiscardHandler),
	}
	ctx, stop := context.WithCancel(t.Context())
	var runs sync.WaitGroup
	runs.Go(func() { k.run(ctx, -1) })
	t.Cleanup(func() { stop(); runs.Wait() })
	return k
}

func (k *kept) takes(mib int64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.memory = mib << 20
}

// fills fills the disk, or makes room on it.
func (k *kept) fills(full bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.full = full
}

// TestKeeper: what takes too much gives memory back, then takes no sessions and nothing large, says so, and is itself again when it
// takes less; what goes on to grow is started anew.
func TestKeeper(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKept(t)
		k.takes(110)
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if err := k.refuse("web1"); fleet.KindOf(err) != fleet.Exhausted || !slices.Contains(k.noted, budget.Return) {
			t.Errorf("%v after %v", err, k.noted)
		}
		if tally := k.tally; tally.Refused != 1 || tally.Returned == 0 || tally.Refusing == "" {
			t.Errorf("%+v", tally)
		}
		k.takes(50)
		time.Sleep(30 * time.Second)
		synctest.Wait()
		if err := k.refuse("web1"); err != nil {
			t.Error(err)
		}
		k.takes(200)
		time.Sleep(4 * time.Minute)
		synctest.Wait()
		if len(k.restart) != 1 {
			t.Errorf("restarted for %q", k.restart)
		}
		if n := len(k.acts); n != actsKept || k.acts[n-1].Why == "" {
			t.Errorf("%+v", k.acts)
		}
	})
}

// TestKeeperDoesNotRestartBlindly: where the next process could not know of a restart, there is none, also not later in the hour.
func TestKeeperDoesNotRestartBlindly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKept(t)
		k.fills(true)
		k.takes(200)
		time.Sleep(30 * time.Minute)
		synctest.Wait()
		if len(k.restart) != 0 || slices.Contains(k.noted, budget.Restart) || k.tally.Restarts != 0 {
			t.Errorf("restarted for %q, %+v", k.restart, k.tally)
		}
		k.fills(false)
		time.Sleep(budget.RestartEvery)
		synctest.Wait()
		if len(k.restart) != 1 {
			t.Errorf("with room on the disk it is restarted for %q", k.restart)
		}
	})
}

// TestKeeperTakesAnotherBudget: a budget that was changed in the configuration counts from then on.
func TestKeeperTakesAnotherBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKept(t)
		k.takes(150)
		time.Sleep(2 * time.Minute)
		k.mu.Lock()
		k.budget = budget.Budget{}
		k.mu.Unlock()
		time.Sleep(30 * time.Second)
		synctest.Wait()
		if err := k.refuse("web1"); err != nil {
			t.Error("without a budget:", err)
		}
	})
}

// boundStub counts sessions that were opened.
type boundStub struct {
	agent.Sessions
	opened int
}

func (s *boundStub) Open(context.Context, node.SessionOrder) error { s.opened++; return nil }

func TestNoSessionsOverBudget(t *testing.T) {
	t.Parallel()
	stub, k := &boundStub{}, &keeper{}
	s := boundSessions{stub, func() error { return k.refuse("web1") }}
	if err := s.Open(t.Context(), node.SessionOrder{}); err != nil {
		t.Error(err)
	}
	k.tally.Refusing = "110 MiB"
	if err := s.Open(t.Context(), node.SessionOrder{}); fleet.KindOf(err) != fleet.Exhausted || stub.opened != 1 {
		t.Error(err, stub.opened)
	}
}

// TestRestartIsRemembered: within one boot, and by whoever comes after.
func TestRestartIsRemembered(t *testing.T) {
	t.Parallel()
	h := &Host{opts: Options{Dir: t.TempDir()}}
	if at := h.lastRestart(); at >= 0 {
		t.Error(at)
	}
	if err := h.putRestarted(42 * time.Second); err != nil {
		t.Fatal(err)
	}
	if at := h.lastRestart(); at != 42*time.Second {
		t.Error(at)
	}
	h.opts.Dir = filepath.Join(h.opts.Dir, "gone")
	if err := h.putRestarted(43 * time.Second); err == nil {
		t.Error("what could not be written is said to be kept")
	}
}

// TestMeasure: what is measured of this process can be.
func TestMeasure(t *testing.T) {
	t.Parallel()
	s := budgetSample(time.Hour)
	if s.Boot != time.Hour || s.Memory < 1<<20 || s.Memory > 8<<30 || s.CPU <= 0 {
		t.Errorf("%+v", s)
	}
}
