package node

import (
	"time"

	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

// How bells spread. Up to directRing nodes are rung by the one who knows first. A larger set is rung epidemically: each
// node of the set that hears a bell for the first time rings firstWave random others of the set at once and secondWave
// after waveGap. Ten rings reach 99.99 % without loss and 99.9 % at 25 % loss: 1-s = exp(-f·s·(1-loss)).
const (
	directRing = 200
	firstWave  = 6
	secondWave = 4
	waveGap    = 100 * time.Millisecond
)

type laterRing struct {
	at   time.Duration // boot time
	to   []fleet.ID
	bell Bell
}

// ring tells a whole set, as its first teller.
func (n *Node) ring(at auth.Instant, b Bell, set []fleet.ID) []Effect {
	others := n.present(set)
	if len(others) == 0 {
		return nil
	}
	if len(others) > directRing {
		return n.spreadBell(at, b, others)
	}
	// A second ring costs little and halves what a lossy path misses before the next digest.
	n.rings = append(n.rings, laterRing{at: at.Boot + waveGap, to: others, bell: b})
	return []Effect{Ring{To: others, Bell: b}}
}

// spread passes a bell on, as a member of a large set that heard it for the first time.
func (n *Node) spread(at auth.Instant, x *order) []Effect {
	if len(x.order.Nodes) <= directRing {
		return nil
	}
	holders := []fleet.ID{n.self}
	if len(x.holders) > 0 && x.holders[0] != n.self {
		holders = append(holders, x.holders[0])
	}
	b := Bell{Kind: BellCommand, Statement: x.id, Act: x.act, Holders: holders, Rider: []auth.Envelope{x.order.Statement}}
	return n.spreadBell(at, b, n.present(x.order.Nodes))
}

func (n *Node) spreadBell(at auth.Instant, b Bell, others []fleet.ID) []Effect {
	picked := n.pick(others, firstWave+secondWave)
	cut := min(firstWave, len(picked))
	if cut == 0 {
		return nil
	}
	if len(picked) > cut {
		n.rings = append(n.rings, laterRing{at: at.Boot + waveGap, to: picked[cut:], bell: b})
	}
	return []Effect{Ring{To: picked[:cut], Bell: b}}
}

// present lists those of a set that gossip knows at all; the others have no address to ring.
func (n *Node) present(set []fleet.ID) []fleet.ID {
	var out []fleet.ID
	for _, id := range set {
		if s, ok := n.seen[id]; ok && id != n.self && s.Status != fleet.Left {
			out = append(out, id)
		}
	}
	return out
}

// pick chooses k different IDs at random.
func (n *Node) pick(ids []fleet.ID, k int) []fleet.ID {
	k = min(k, len(ids))
	out := make([]fleet.ID, len(ids))
	copy(out, ids)
	for i := range k {
		j := i + n.random.IntN(len(out)-i)
		out[i], out[j] = out[j], out[i]
	}
	return out[:k]
}

// tellGap collects acts of the record into one bell: a join storm rings once, not once a node.
const tellGap = 50 * time.Millisecond

// recordCommitted takes an act that this replica applied; the leader tells everybody that there is one.
func (n *Node) recordCommitted(at auth.Instant, act auth.Act) []Effect {
	out := n.takeActs(at, []auth.Act{act}, n.self)
	if n.beacon.Leader == n.self && n.tellAt == 0 {
		n.tellAt = at.Boot + tellGap
	}
	return out
}

func (n *Node) dueRings(at auth.Instant) []Effect {
	var out []Effect
	if n.tellAt != 0 && at.Boot >= n.tellAt {
		n.tellAt = 0
		out = n.ring(at, Bell{Kind: BellRecord, Act: n.record.Act, Holders: []fleet.ID{n.self}}, n.online)
	}
	var later []laterRing
	for _, r := range n.rings {
		if at.Boot < r.at {
			later = append(later, r)
			continue
		}
		out = append(out, Ring{To: r.to, Bell: r.bell})
	}
	n.rings = later
	return out
}
