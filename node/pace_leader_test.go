package node

import (
	"slices"
	"testing"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/exec/document"
	"github.com/muster-fleet/muster/node/fleet"
)

// TestLeaderLast: an upgrade takes the leader when all others that are there have had their turn, whoever asks first.
func TestLeaderLast(t *testing.T) {
	for _, upgrades := range []bool{true, false} {
		w := newTown(4, 1)
		o := newOffice(t, w, exec.Pace{Concurrency: 1, Waves: []uint32{1, 4}}, func(c *exec.Command) {
			if upgrades {
				c.Run, c.Documents = exec.Run{}, []exec.DocumentRef{{Name: document.UpgradeName, Version: 1}}
			}
		})
		self, _ := Place(o.c.Order, o.node.self)
		var places []uint32
		for i := range o.c.Order.Nodes {
			places = append(places, uint32(i))
		}
		p := o.node.pacing.byID[o.c.ID()]
		if got := o.node.leaderLast(p, places); slices.Contains(got, self) == upgrades {
			t.Errorf("upgrades %v: it may take %d of %v", upgrades, self, got)
		}
		for id := range o.node.seen { // nobody else is there
			seen := o.node.seen[id]
			seen.Status = fleet.ConnectionLost
			o.node.seen[id] = seen
		}
		if got := o.node.leaderLast(p, places); !slices.Contains(got, self) {
			t.Errorf("upgrades %v: alone it may take %v", upgrades, got)
		}
	}
}
