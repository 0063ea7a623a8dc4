package main

import (
	"fmt"
	"strings"

	"github.com/muster-fleet/muster/exec"
)

// stuck says where a rollout hangs, for people.
func (w *world) stuck(r *rollout) string {
	c, ok := w.quorum.newest().Command(r.id)
	if !ok {
		return fmt.Sprintf("%s was never agreed", r.id)
	}
	x := c.Rollout
	var out strings.Builder
	fmt.Fprintf(&out, "%s: %+v; idle %d, running %d, granted %d, failed %d, wave %d, waits %t, stopped %q;", r.id, c.Body.Pace, x.Idle, x.Running,
		x.Granted, x.Failed, x.Wave, x.Waits, x.Stopped)
	shown := 0
	for i, id := range c.Order.Nodes {
		s := x.State(uint32(i))
		if (s != exec.NodeGranted && s != exec.NodeIdle && s != exec.NodeBarred) || shown == 4 {
			continue
		}
		shown++
		h := w.byID[id]
		known, _ := h.ledger.Get(r.id)
		said := ""
		for _, v := range w.quorum.voters {
			said += " " + string(v.replica.store[r.id][id].Status)
		}
		fmt.Fprintf(&out, " %s is %d, its ledger says %s, servers say%s;", h.key.Name, s, known.Status(), said)
	}
	return out.String()
}
