package node

import (
	"maps"
	"slices"
	"time"

	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

// keyWatch knows the hashes of the gossip keys that this host has, by epoch. A key that a leader made and could not
// commit has the epoch of the one that came instead, and another hash.
type keyWatch struct {
	have    map[uint32]fleet.ID
	retryAt time.Duration
}

func newKeyWatch(keys map[uint32]fleet.ID) keyWatch {
	k := keyWatch{have: map[uint32]fleet.ID{}}
	maps.Copy(k.have, keys)
	return k
}

// missing returns the first gossip key that the record names and this host lacks: what others send with now, then what
// they will send with.
func (k *keyWatch) missing(r auth.Record) (auth.GossipEpoch, bool) {
	for _, g := range []auth.GossipEpoch{r.Sending, r.Gossip} {
		if g.Epoch != 0 && k.have[g.Epoch] != g.Hash {
			return g, true
		}
	}
	return auth.GossipEpoch{}, false
}

// KeyKept is the event that a gossip key arrived and is on disk.
type KeyKept struct {
	Epoch uint32
	Hash  fleet.ID
}

func (KeyKept) event() {}

func (n *Node) dueKeys(at auth.Instant) []Effect {
	if at.Boot < n.keys.retryAt {
		return nil
	}
	epoch, lacks := n.keys.missing(n.record)
	if !lacks {
		return nil
	}
	peer, ok := n.askable(n.self)
	if !ok {
		return nil
	}
	n.keys.retryAt = at.Boot + retryAfter
	return []Effect{FetchGossipKey{From: peer, Epoch: epoch}}
}

// GossipRotation is what the leader does about the gossip key.
type GossipRotation uint8

// The steps of a rotation: accept, then send, then drop. Dropping needs no step of its own: a node drops what is older
// than the epoch that is sent with.
const (
	KeepGossipKey GossipRotation = iota
	MakeGossipKey                // a node was removed since the key was made: accept a new one
	SendGossipKey                // the new key had time to reach everybody: send with it
)

// acceptFor is how long a new gossip key is accepted before it is sent with: two digest rounds, so that whoever missed
// the bell has met somebody who knows.
const acceptFor = 2 * digestEvery

// NextRotation decides what the leader does about the gossip key at now (Unix milliseconds). have says whether this
// server has the newest key.
func NextRotation(r auth.Record, now int64, have bool) GossipRotation {
	switch {
	case r.Gossip.Epoch == 0: // the fleet is being founded: its founder has made the first
		return KeepGossipKey
	case r.Sending.Epoch != r.Gossip.Epoch && !have && now-r.KeyedAt > acceptFor.Milliseconds():
		return MakeGossipKey // whoever made it is gone with it
	case r.Sending.Epoch != r.Gossip.Epoch && now-r.KeyedAt > acceptFor.Milliseconds():
		return SendGossipKey
	case r.Sending.Epoch == r.Gossip.Epoch && r.Removal > r.KeyedAt:
		return MakeGossipKey
	}
	return KeepGossipKey
}

// AcceptedKeys lists the gossip keys by which this host opens packets.
func AcceptedKeys(r auth.Record) []auth.GossipEpoch {
	return slices.CompactFunc([]auth.GossipEpoch{r.Sending, r.Gossip}, func(a, b auth.GossipEpoch) bool { return a.Epoch == b.Epoch })
}
