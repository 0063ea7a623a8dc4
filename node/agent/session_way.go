package agent

import (
	"github.com/muster-fleet/muster/node/fleet"
)

// Find returns the one node that text means and where it may be, the best address first. Its facts are not in it: nobody is
// asked for them.
func (a *Agent) Find(text string) (fleet.Member, error) {
	return fleet.NewView(a.nodes(a.picture.Load(), nil)).Find(text)
}
