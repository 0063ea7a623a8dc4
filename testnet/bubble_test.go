package testnet

import (
	"testing"
	"time"

	"github.com/muster-fleet/muster/node/fleet"
)

// TestTownWorks: five hosts, three of them voters and two spares; a command from each runs once on all.
func TestTownWorks(t *testing.T) {
	inTown(t, 5, func(w *town) {
		q := w.hosts[0].status().Quorum
		if len(q.Voters) != 3 || len(q.Spares) != 2 {
			w.Fatalf("%d voters and %d spares", len(q.Voters), len(q.Spares))
		}
		var sent []fleet.UUID
		for _, h := range w.hosts {
			sent = append(sent, h.send())
		}
		for _, id := range sent {
			w.awaitRun(id, 10*time.Second, w.hosts...)
		}
		w.converged()
	})
}
