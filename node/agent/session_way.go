package agent

import (
	"github.com/muster-fleet/muster/node/fleet"
)

// Find returns the one node that text means and where it may be, the best address first. Its facts are not in it: nobody is
// asked for them.
func (a *Agent) Find(text string) (fleet.Member, error) {
	return fleet.NewView(a.nodes(a.picture.Load(), nil)).Find(text)
}

// whence says where an operator's end is: its address, or the node through which it comes, as then its address is none.
func (a *Agent) whence(s SessionStream) string {
	if r, ok := s.(interface{ Relay() (fleet.ID, bool) }); ok {
		if via, relayed := r.Relay(); relayed {
			return "through " + a.nameOf(via)
		}
	}
	return s.Addr().String()
}
