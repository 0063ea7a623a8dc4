package node

import (
	"slices"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/exec/document"
)

// restartsAgents reports whether a command has every node's agent start anew.
func restartsAgents(c exec.Command) bool {
	return slices.ContainsFunc(c.Documents, func(d exec.DocumentRef) bool { return d.Name == document.UpgradeName })
}

// leaderLast takes this host, which leads, out of those that may be granted next, as long as another that is there has its turn to
// come: where agents start anew, the lead is handed over once, at the end, and not to one that is next.
func (n *Node) leaderLast(p *paced, places []uint32) []uint32 {
	self, ok := Place(p.c.Order, n.self)
	if !ok || !restartsAgents(p.c.Body) || !slices.Contains(places, self) {
		return places
	}
	for k, id := range p.c.Order.Nodes {
		if i := uint32(k); i != self && p.mayBeGranted(i) && n.isThere(id) && !isCancelled(p.c, id) {
			return slices.DeleteFunc(slices.Clone(places), func(i uint32) bool { return i == self })
		}
	}
	return places
}
