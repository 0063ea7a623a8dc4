package gossip

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/muster-fleet/muster/node/fleet"
)

// TestMeasure prints the table of DESIGN.md: MUSTER_MEASURE=10 go test -run Measure -v ./node/gossip makes 10 deaths a row.
func TestMeasure(t *testing.T) {
	deaths, _ := strconv.Atoi(os.Getenv("MUSTER_MEASURE"))
	if deaths == 0 {
		t.Skip("set MUSTER_MEASURE to the number of deaths to watch")
	}
	for _, n := range []int{5, 50} {
		for _, loss := range []float64{0, 0.1, 0.25} {
			bubble(t, func(t *testing.T, f *fabric) { measure(t, f, n, loss, deaths) })
		}
	}
}

func measure(t *testing.T, f *fabric, n int, loss float64, deaths int) {
	hosts := form(t, f, n)
	var falsely atomic.Int32
	for _, h := range hosts {
		go func() {
			for e := range h.g.Events() {
				f.mu.Lock()
				if e.Change == Failed && f.trust[e.Member.ID] != nil && !f.deadByID(e.Member.ID) {
					falsely.Add(1)
				}
				f.mu.Unlock()
			}
		}()
	}
	time.Sleep(2 * time.Minute)
	const idle = 2 * time.Minute
	f.set(func() { f.loss, f.packets, f.bytes, f.streams = loss, 0, 0, 0 })
	time.Sleep(idle)
	f.mu.Lock()
	per := float64(n) * idle.Seconds()
	packets, payload, streams := float64(f.packets)/per, float64(f.bytes)/per, float64(f.streams)/per
	f.mu.Unlock()
	wrong := falsely.Load()
	var took []time.Duration
	for i := range deaths {
		victim := hosts[i%n]
		rest := slices.Delete(slices.Clone(hosts), i%n, i%n+1)
		victim.kill()
		took = append(took, until(t, 2*time.Minute, func() bool { return allSee(rest, fleet.ConnectionLost, victim) }))
		victim.start(t)
		victim.join(t, rest[0], rest[len(rest)-1], rest[len(rest)/2])
		until(t, 2*time.Minute, func() bool { return allSee(hosts, fleet.Online, victim) })
		time.Sleep(20 * time.Second)
	}
	slices.Sort(took)
	fmt.Printf("n=%d loss=%.0f%%: idle %.1f packets/s, %.0f B/s payload, %.0f sealed, %.0f with IP and UDP, streams %.0f B/s; "+
		"false %d in idle, %d in all; death known to all: median %.1f, 90%% %.1f, max %.1f s\n", n, loss*100, packets, payload,
		payload+packets*sealing, payload+packets*(sealing+headers), streams, wrong, falsely.Load(),
		took[len(took)/2].Seconds(), took[len(took)*9/10].Seconds(), took[len(took)-1].Seconds())
}

func (f *fabric) deadByID(id fleet.ID) bool {
	for _, h := range f.hosts {
		if h.id == id {
			return h.dead
		}
	}
	return true
}
