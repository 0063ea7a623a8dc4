package agent

import (
	"context"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"

	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
)

// noteWait is how long a peer has to answer a beacon that came in a packet, before it is asked over a stream.
const noteWait = time.Second

// beaconNote is a beacon in a sealed packet: two packets do what a connection needs two dozen for. Any holder of the
// gossip key can write one under any name, so what it brings is hearsay: it says nothing about how late it is now.
type beaconNote struct {
	From   fleet.ID
	Asks   bool   // the sender wants the receiver's beacon
	Serial uint64 // the asker's; the answer repeats it
	Act    uint64 // of the newest order that the sender has
	Beacon auth.Envelope
}

// notes are the exchanges by packet that wait for their answer.
type notes struct {
	mu      sync.Mutex
	waiting map[uint64]chan beaconNote
}

func newNotes() notes { return notes{waiting: map[uint64]chan beaconNote{}} }

func (n *notes) expect() (serial uint64, answer chan beaconNote) {
	serial, answer = rand.Uint64(), make(chan beaconNote, 1)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.waiting[serial] = answer
	return serial, answer
}

func (n *notes) forget(serial uint64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.waiting, serial)
}

func (n *notes) answered(note beaconNote) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if answer, ok := n.waiting[note.Serial]; ok {
		delete(n.waiting, note.Serial)
		answer <- note
	}
}

// exchange gives a peer the newest beacon here and takes its own: by packet, where the fleet's time is known here; over a
// stream where it is not, because only a stream proves that a beacon comes straight from its signer, and where the packet
// found no answer, because only a stream can be refused.
func (a *Agent) exchange(ctx context.Context, with fleet.ID) {
	p := a.picture.Load()
	knowing := p.envelope.Format != 0 && p.clock.Heard != 0
	if knowing && a.swapNotes(ctx, with, p.envelope) {
		return
	}
	mine, theirs := beaconBody{Act: a.newestOrder()}, beaconBody{}
	// Who has heard no server himself, and so cannot tell whether his clock is right, sends none: then a server answers
	// with its own.
	if knowing {
		mine.Beacon = []auth.Envelope{p.envelope}
	}
	if err := a.ask(ctx, with, askBeacon, mine, &theirs); err != nil {
		a.log.Debug("no beacon", "peer", with, "err", err)
		a.Post(node.PeerSilent{Peer: with})
		return
	}
	if len(theirs.Beacon) == 1 {
		a.Post(node.BeaconHeard{From: with, Envelope: theirs.Beacon[0], Act: theirs.Act})
	}
}

// swapNotes exchanges beacons by packet; false when no answer came.
func (a *Agent) swapNotes(ctx context.Context, with fleet.ID, mine auth.Envelope) bool {
	ways := a.ways(with)
	if len(ways) == 0 {
		return false
	}
	serial, answer := a.notes.expect()
	defer a.notes.forget(serial)
	a.peers.Note(ways[0], wire.Marshal(beaconNote{From: a.self, Asks: true, Serial: serial, Act: a.newestOrder(), Beacon: mine}))
	late := time.NewTimer(noteWait)
	defer late.Stop()
	select {
	case theirs := <-answer:
		a.Post(node.BeaconHeard{From: with, Envelope: theirs.Beacon, Hearsay: true, Act: theirs.Act})
		return true
	case <-late.C:
	case <-ctx.Done():
	}
	return false
}

// Note takes a beacon from the network. It never waits: one that finds no room is lost, as on the wire. An answer is no
// longer than what asked for it, give or take the names of some servers, so nobody can be flooded by it.
func (a *Agent) Note(from netip.AddrPort, data []byte) {
	var note beaconNote
	if wire.Unmarshal(data, &note) != nil {
		return
	}
	if !note.Asks {
		a.notes.answered(note)
		return
	}
	p := a.picture.Load()
	if _, enrolled := a.Trusted(note.From); !enrolled || p.envelope.Format == 0 {
		return // it asks again over a stream, and hears why
	}
	a.peers.Note(a.wayBack(note.From, from), wire.Marshal(beaconNote{From: a.self, Serial: note.Serial, Act: a.newestOrder(), Beacon: p.envelope}))
	select {
	case a.queue <- node.BeaconHeard{From: note.From, Envelope: note.Beacon, Hearsay: true, Act: note.Act}:
	default:
	}
}

// wayBack is how an answer gets to a member that asked from an address. Where a relay carried the question, for the one or
// for the other, that address is the one that the relay saw, and may be good for the relay only.
func (a *Agent) wayBack(to fleet.ID, from netip.AddrPort) node.Way {
	if a.Outbound() || a.isOutbound(to) {
		if ways := a.ways(to); len(ways) > 0 {
			return ways[0]
		}
	}
	return node.Way{To: to, Addr: from}
}

// newestOrder returns the act of the newest order here: who exchanges beacons with this host learns that it missed a bell
// before the servers' beacons have spread.
func (a *Agent) newestOrder() uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.orders.newest
}
