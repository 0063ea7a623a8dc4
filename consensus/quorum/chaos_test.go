package quorum

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// Cuts, restarts and changes of leader, while clients write and read: what was acknowledged is there, in the order of
// acknowledgement, at every read that began later, and the replicas end equal.
// -count=N makes N different runs.
func TestChaos(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	inBubble(t, func(t *testing.T, f *fabric) { chaos(t, f, rand.New(rand.NewPCG(seed, 7))) })
}

type acknowledged struct {
	mu    sync.Mutex
	items []string
}

func (a *acknowledged) add(item string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.items = append(a.items, item)
}

func (a *acknowledged) all() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.items[:len(a.items):len(a.items)]
}

func chaos(t *testing.T, f *fabric, random *rand.Rand) {
	nodes := f.grow(3, 1)
	ctx, stop := context.WithCancel(t.Context())
	var work sync.WaitGroup
	var acked acknowledged
	served := 0
	pick := func(n int) *Quorum {
		f.mu.Lock()
		defer f.mu.Unlock()
		return nodes[n].Quorum
	}
	for c := range 3 {
		work.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				item := fmt.Sprintf("%d-%d", c, i)
				for n := range nodes {
					q := pick(n)
					if q == nil {
						continue
					}
					try, cancel := context.WithTimeout(ctx, time.Second)
					if _, err := q.Propose(try, []byte(item)); err == nil {
						acked.add(item)
					}
					cancel()
				}
				time.Sleep(300 * time.Millisecond)
			}
		})
	}
	work.Go(func() {
		for ctx.Err() == nil {
			for _, x := range nodes {
				f.mu.Lock()
				q, tape := x.Quorum, x.tape
				f.mu.Unlock()
				if q == nil {
					continue
				}
				before := acked.all()
				try, cancel := context.WithTimeout(ctx, time.Second)
				err := q.Read(try)
				cancel()
				if err != nil {
					continue
				}
				served++
				contains(t, tape, before)
			}
			time.Sleep(50 * time.Millisecond)
		}
	})
	for range 10 {
		n := random.IntN(len(nodes))
		x := nodes[n]
		switch random.IntN(3) {
		case 0:
			f.isolate(x.id)
			time.Sleep(time.Duration(random.IntN(6000)) * time.Millisecond)
			f.heal(x.id)
		case 1:
			f.stop(x)
			time.Sleep(time.Duration(random.IntN(6000)) * time.Millisecond)
			f.start(n + 1)
		case 2:
			try, cancel := context.WithTimeout(ctx, 5*time.Second)
			_ = x.TransferLeadership(try)
			cancel()
		}
		time.Sleep(time.Duration(random.IntN(3000)) * time.Millisecond)
	}
	stop()
	work.Wait()
	leader := f.leader(nodes...)
	f.until("a read", func() bool { return leader.Read(t.Context()) == nil })
	contains(t, leader.tape, acked.all())
	f.same(nodes...)
	for _, x := range nodes {
		if why := x.Status().Restarted; why != "" {
			t.Errorf("a sound replica was given up: %s", why)
		}
	}
	if served == 0 || len(acked.all()) == 0 {
		t.Error("nothing was served")
	}
	t.Logf("%d writes acknowledged, %d reads served", len(acked.all()), served)
}

// contains checks that a tape holds items, those of each client in order.
func contains(t *testing.T, tape *tape, items []string) {
	t.Helper()
	at := map[string]int{}
	for i, item := range tape.all() {
		at[string(item)] = i + 1 // the last, where an unknown outcome was tried again
	}
	for _, item := range items {
		if at[item] == 0 {
			t.Fatalf("the acknowledged %s is gone", item)
		}
	}
}

// The files as they are after an acknowledgement, without any closing, hold what was acknowledged.
func TestCrashImage(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fabric) {
		x := f.grow(1, 0)[0]
		f.propose(x, "a", "b")
		image := filepath.Join(t.TempDir(), "image")
		if err := os.CopyFS(image, os.DirFS(x.dir)); err != nil {
			t.Fatal(err)
		}
		copied := &tape{}
		q, err := Open(f.config(x.id, image, copied))
		if err != nil {
			t.Fatal(err)
		}
		defer q.Close()
		f.until("it leads", func() bool { return q.Read(t.Context()) == nil })
		if q.Status().Restarted != "" || len(copied.all()) != 2 {
			t.Fatalf("%d items, %q", len(copied.all()), q.Status().Restarted)
		}
	})
}

// A disk that takes nothing makes the term wait; it does not end the process.
func TestTermWaitsForDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := newStore(t)
		if err := s.bolt.Close(); err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { done <- s.SetUint64([]byte("CurrentTerm"), 2) }()
		time.Sleep(time.Minute)
		select {
		case err := <-done:
			t.Fatalf("it gave up: %v", err)
		default:
		}
		s.release()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	})
}

// Two processes never work on one replica.
func TestSecondProcessIsRefused(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fabric) {
		x := f.grow(1, 0)[0]
		_, err := Open(f.config(x.id, x.dir, &tape{}))
		if err == nil {
			t.Fatal("a second replica was opened in the same folder")
		}
		f.propose(x, "still alive")
		if x.Status().Restarted != "" {
			t.Fatal("the second one took the files for damaged")
		}
	})
}
