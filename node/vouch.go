package node

import (
	"fmt"

	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

// unvouched is acts that an ordinary member answered with. Each is signed, but their order and their being all is the
// quorum's word: a member could leave the removal of a node out. They count once a server's beacon names their head.
type unvouched struct {
	from  fleet.ID
	base  uint64 // length of the record that they follow
	acts  []auth.Act
	trail []auth.Record // the record after each
}

// waiting returns what waits for a beacon. What followed a record that has grown by another way is void.
func (n *Node) waiting() *unvouched {
	if n.acts.ahead.base != n.record.Length {
		n.acts.ahead = unvouched{}
	}
	return &n.acts.ahead
}

// end returns the position up to which there are acts, those from a peer that wait included.
func (n *Node) end(from fleet.ID) uint64 {
	if u := n.waiting(); u.from == from {
		return n.record.Length + uint64(len(u.acts))
	}
	return n.record.Length
}

// ahead returns the record with all that waits.
func (n *Node) ahead() auth.Record {
	u := n.waiting()
	if len(u.trail) == 0 {
		return n.record
	}
	return u.trail[len(u.trail)-1]
}

// takeUnvouched adds an ordinary member's answer to what waits, and takes what a beacon vouches for.
func (n *Node) takeUnvouched(at auth.Instant, ev ActsFetched) []Effect {
	u := n.waiting()
	if u.from != ev.From {
		*u = unvouched{from: ev.From, base: n.record.Length}
	}
	var out []Effect
	for _, act := range ev.Acts {
		base := n.ahead()
		if act.Index <= base.Act && base.Length > 0 {
			continue
		}
		next, err := base.Apply(act, n.fleetID())
		if err != nil {
			out = append(out, n.actRefused(act, ev.From, err))
			break
		}
		u.acts, u.trail = append(u.acts, act), append(u.trail, next)
	}
	if len(u.acts) == 0 {
		return out
	}
	out = append(out, n.vouch(at, n.beacon)...)
	out = append(out, n.openStrange(at)...)
	return out
}

// vouch takes the acts that a beacon covers, if it names their head. If it names another, who gave them lied.
func (n *Node) vouch(at auth.Instant, b auth.Beacon) []Effect {
	u := *n.waiting()
	if b.RecordLen <= n.record.Length || b.RecordLen > n.record.Length+uint64(len(u.acts)) {
		return nil
	}
	k := int(b.RecordLen - n.record.Length)
	if u.trail[k-1].Head != b.RecordHead {
		n.acts.ahead = unvouched{}
		n.acts.avoid(u.from, at.Boot)
		return []Effect{Warn{fmt.Sprintf("%s told another history of the fleet than its servers: its acts up to position %d are thrown away",
			n.name(u.from), b.RecordLen)}}
	}
	n.acts.ahead = unvouched{from: u.from, base: b.RecordLen, acts: u.acts[k:], trail: u.trail[k:]}
	return n.takeActs(at, u.acts[:k], u.from)
}

// openStrange tries a beacon that the record could not open with the acts that came since: they may be the ones that
// made its signer a server, which an operator signed.
func (n *Node) openStrange(at auth.Instant) []Effect {
	if len(n.acts.strange) == 0 {
		return nil
	}
	e := n.acts.strange[0]
	b, err := auth.OpenBeacon(n.ahead(), e)
	if err != nil {
		return nil
	}
	n.acts.strange = nil
	out := n.overhear(at, b.Time)
	return append(out, n.takeBeacon(at, b, e)...)
}

// askVoucher asks a server straight for its beacon if acts wait for one, so that they need not wait for the next
// exchange.
func (n *Node) askVoucher() []Effect {
	if len(n.waiting().acts) == 0 {
		return nil
	}
	if peer, ok := n.aServer(n.self); ok && peer != n.self {
		return []Effect{ExchangeBeacons{With: peer}}
	}
	return nil
}
