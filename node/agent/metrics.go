package agent

import (
	"sync/atomic"
	"time"
)

// Stats are what the loop and its news come to, beside what Status says. They are taken from memory.
type Stats struct {
	Turns     uint64        // of the loop
	Queue     int           // events that wait for it
	BellsLost uint64        // that found no room
	Requests  uint64        // of peers, answered
	Refused   uint64        // of these, with an error
	Gone      bool          // peers refuse this node
	BeaconAge time.Duration // of the servers' newest word; negative: there was none
	KeyEpoch  uint32        // of the gossip key that the fleet sends with
}

// Stats returns how the agent stands now.
func (a *Agent) Stats() Stats {
	p := a.picture.Load()
	s := Stats{
		Turns: a.turns.Load(), Queue: len(a.queue), BellsLost: a.counted.bellsLost.Load(),
		Requests: a.counted.requests.Load(), Refused: a.counted.refused.Load(), KeyEpoch: p.record.Sending.Epoch, BeaconAge: -1,
	}
	if p.envelope.Format != 0 {
		s.BeaconAge = max(0, p.clock.Now(a.cfg.Clock()).Sub(time.UnixMilli(p.beacon.Time)))
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	s.Gone = a.gone != ""
	return s
}

// counted is for Stats.
type counted struct{ bellsLost, requests, refused atomic.Uint64 }

// answered counts a request of a peer.
func (c *counted) answered(err error) {
	c.requests.Add(1)
	if err != nil {
		c.refused.Add(1)
	}
}
