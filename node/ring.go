package node

import (
	"time"

	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

// How bells spread. Up to directRing nodes are rung by the one who knows first. A larger set is rung epidemically: each
// node of the set that hears a bell for the first time rings firstWave random others of the set at once and secondWave
// after waveGap. Ten rings reach 99.99 % without loss and 99.9 % at 25 % loss: 1-s = exp(-f·s·(1-loss)). A bell is passed
// on only when what it tells is verified, so that nobody's lie spreads.
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

// passOn passes a bell on, as a member of a large set that heard it for the first time and knows it to be true.
func (n *Node) passOn(at auth.Instant, x *order, kind BellKind, rider auth.Envelope, set []fleet.ID) []Effect {
	if len(set) <= directRing {
		return nil
	}
	holders := []fleet.ID{n.self}
	if len(x.holders) > 0 {
		holders = append(holders, x.holders[0])
	}
	b := Bell{Kind: kind, Statement: x.id, Act: x.act, Holders: holders, Rider: []auth.Envelope{rider}}
	return n.spreadBell(at, b, n.present(set))
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
	out := make([]fleet.ID, 0, len(set))
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
	moved := make(map[int]int, k) // a shuffle of which only the first k places are looked at
	at := func(i int) int {
		if j, ok := moved[i]; ok {
			return j
		}
		return i
	}
	out := make([]fleet.ID, k)
	for i := range k {
		j := i + n.random.IntN(len(ids)-i)
		out[i] = ids[at(j)]
		moved[j] = at(i)
	}
	return out
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

// recordBell tells of the record as it is here, with the beacon that vouches for it when that is not behind.
func (n *Node) recordBell() Bell {
	b := Bell{Kind: BellRecord, Act: n.record.Act, Holders: []fleet.ID{n.self}}
	if n.beacon.RecordLen == n.record.Length && n.envelope.Format != 0 {
		b.Rider = []auth.Envelope{n.envelope}
	}
	return b
}

// recordRung hears that the record grew. It costs one question at most, whatever the bell claims.
func (n *Node) recordRung(at auth.Instant, b Bell) []Effect {
	if b.Act <= n.record.Act || len(b.Holders) == 0 {
		return nil
	}
	var out []Effect
	if len(b.Rider) == 1 { // by way of others, however it came
		out = n.hearBeacon(at, b.Holders[0], b.Rider[0], false)
	}
	n.acts.rung = true
	return append(out, n.hintedActs(at, b.Holders[0])...)
}

// passRecordOn rings others when the record grew here because a bell told of it. In a fleet that the leader rings
// itself, nothing more is needed.
func (n *Node) passRecordOn(at auth.Instant) []Effect {
	if !n.acts.rung {
		return nil
	}
	n.acts.rung = false
	if len(n.members()) <= directRing {
		return nil
	}
	b := n.recordBell()
	n.orders.first(b)
	return n.spreadBell(at, b, n.members())
}

func (n *Node) dueRings(at auth.Instant) []Effect {
	var out []Effect
	if n.tellAt != 0 && at.Boot >= n.tellAt {
		n.tellAt = 0
		out = n.ring(at, n.recordBell(), n.members())
	}
	later := n.rings[:0]
	for _, r := range n.rings {
		if at.Boot < r.at {
			later = append(later, r)
			continue
		}
		out = append(out, Ring{To: r.to, Bell: r.bell})
	}
	clear(n.rings[len(later):])
	n.rings = later
	return out
}
