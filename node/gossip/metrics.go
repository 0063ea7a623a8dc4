package gossip

import "time"

// Stats are how the detection of failures does.
type Stats struct {
	Health int       // of this node's own part: 0 is well, each missed answer counts (Lifeguard's local health)
	Heard  time.Time // when anything was last heard; zero: never
}

// Stats returns how gossip stands now.
func (g *Gossip) Stats() Stats {
	return Stats{Health: g.serf.Memberlist().GetHealthScore(), Heard: g.LastHeard()}
}
