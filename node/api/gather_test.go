package api

import (
	"bufio"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/muster-fleet/muster/node/fleet"
)

// laneTo returns a lane to what answers each ask, side by side. What hangs up breaks the lane.
func laneTo(t *testing.T, answer func(laneAsk) laneAnswer) (l *Lane, hangUp func()) {
	t.Helper()
	at, to := net.Pipe()
	l = &Lane{conn: at, out: frames{conn: at, to: bufio.NewWriter(at)}, asked: map[uint64]chan laneAnswer{}}
	var work sync.WaitGroup
	work.Go(func() { l.hear(bufio.NewReader(at)) })
	out := &frames{conn: to, to: bufio.NewWriter(to)}
	work.Go(func() {
		in := bufio.NewReader(to)
		for {
			var batch laneAsks
			if readFrame(in, laneFrame, &batch) != nil {
				return
			}
			for _, ask := range batch.Asks {
				work.Go(func() {
					got := answer(ask)
					got.ID = ask.ID
					_ = out.put(laneAnswers{[]laneAnswer{got}})
				})
			}
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		work.Wait()
	})
	return l, func() { _ = to.Close() }
}

func failed(kind fleet.Kind) laneAnswer {
	return laneAnswer{Fail: []laneFail{{Kind: kind.String(), What: "no", Hint: "ask"}}}
}

// gate lets asks through one after another.
type gate chan struct{}

func (g gate) wait() { <-g }

func (g gate) open() { close(g) }

// TestGather: every piece is brought once, in batches that are bounded and of which only so many are on their way.
func TestGather(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const batch, most, pieces = 4, 3, 1000
		var mu sync.Mutex
		brought, underway := []int{}, 0
		held := make(gate)
		g := gather[int]{batch: batch, most: most}
		g.bring = func(these []int) {
			mu.Lock()
			if underway++; underway > most || len(these) > batch || len(these) == 0 {
				t.Errorf("%d batches under way; one of %d", underway, len(these))
			}
			mu.Unlock()
			held.wait()
			mu.Lock()
			defer mu.Unlock()
			underway--
			if these[0]%7 == 0 && len(these) > 1 { // some go back
				brought = append(brought, these[0])
				g.back(slices.Clone(these[1:]))
				return
			}
			brought = append(brought, these...)
		}
		for i := range pieces {
			if err := g.put(i); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		if underway != most {
			t.Errorf("%d batches under way", underway)
		}
		g.withdraw(pieces - 1)
		g.withdraw(pieces) // was never there
		held.open()
		synctest.Wait()
		slices.Sort(brought)
		if len(brought) != pieces-1 || len(slices.Compact(brought)) != pieces-1 || g.underway != 0 || len(g.waiting) != 0 {
			t.Errorf("%d brought, %d under way, %d wait", len(brought), g.underway, len(g.waiting))
		}
		if err := g.put(1); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if brought = brought[pieces-1:]; !slices.Equal(brought, []int{1}) {
			t.Errorf("after a rest: %v", brought)
		}
	})
}

// TestGatherBound: only so many wait, and who gives up makes room.
func TestGatherBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		held := make(gate)
		g := gather[int]{batch: 1, most: 1, bring: func([]int) { held.wait() }}
		_ = g.put(-1)
		synctest.Wait() // it is on its way
		for i := range gatherWaiting {
			if err := g.put(i); err != nil {
				t.Fatal(i, err)
			}
		}
		if err := g.put(0); fleet.KindOf(err) != fleet.Exhausted {
			t.Errorf("one more: %v", err)
		}
		g.withdraw(5)
		if err := g.put(5); err != nil {
			t.Errorf("in the place of one that was given up: %v", err)
		}
		held.open()
	})
}
