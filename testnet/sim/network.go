package main

import (
	"time"

	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

// kind is what a message is about.
type kind int

const (
	bells   kind = iota
	beacons      // beacons exchanged: what a fleet at rest says
	acts         // the record
	orders       // orders, their documents, and their cancels
	grants
	reports
	kinds
)

// traffic is what went over the wire: datagrams, and bytes with all headers.
type traffic struct {
	messages, bytes [kinds]uint64
	connections     uint64
}

func (t traffic) minus(o traffic) traffic {
	for k := range kinds {
		t.messages[k] -= o.messages[k]
		t.bytes[k] -= o.bytes[k]
	}
	t.connections -= o.connections
	return t
}

// What a message costs beside its payload, in bytes.
const (
	headers   = 28      // IPv4 and UDP
	sealed    = 21 + 16 // header and tag of a sealed packet
	quic      = 30      // short header, frame, tag
	datagram  = 1200    // payload of a bigger one
	handshake = 24      // datagrams of a new connection: TLS, hello, what proves the peer
	helloSize = 7000    // bytes of them
	linkIdle  = 30 * time.Second
)

func (t *traffic) packet(k kind, size int) {
	t.messages[k]++
	t.bytes[k] += uint64(size + headers + sealed)
}

func (t *traffic) stream(k kind, size int) {
	n := max(1, (size+datagram-1)/datagram)
	t.messages[k] += uint64(n)
	t.bytes[k] += uint64(size + n*(headers+quic))
}

// link is a connection between two hosts.
type link [2]int

// connect counts a new connection where there is none.
func (w *world) connect(k kind, a, b *host) (fresh bool) {
	l := link{min(a.index, b.index), max(a.index, b.index)}
	last, ok := w.links[l]
	w.links[l] = w.now
	if ok && w.now-last < linkIdle {
		return false
	}
	w.traffic.connections++
	w.traffic.messages[k] += handshake
	w.traffic.bytes[k] += helloSize
	return true
}

// reaches reports whether a packet from a arrives at b now, if it is not lost.
func reaches(a, b *host) bool {
	return a.up && b.up && a.side == b.side && !a.mute && !b.deaf
}

// hop is how long a packet takes.
func (w *world) hop() time.Duration { return w.between(500*time.Microsecond, 20*time.Millisecond) }

// send sends one sealed packet: it may be lost, come twice, or come late and out of order.
func (w *world) send(from, to *host, k kind, size int, arrive func()) {
	w.traffic.packet(k, size)
	copies := 1
	if w.chance(0.01) {
		copies = 2
	}
	for range copies {
		if w.chance(w.loss) || !reaches(from, to) {
			continue
		}
		d := w.hop()
		if w.chance(0.01) {
			d += w.between(0, 2*time.Second)
		}
		life := to.life
		w.after(d, func() { to.alive(life, arrive) })
	}
}

// trip is how long a message over a connection takes: what is lost is sent again. False: it did not arrive at all.
func (w *world) trip() (time.Duration, bool) {
	d, again := w.hop(), 60*time.Millisecond
	for w.chance(w.loss) {
		if again > 4*time.Second {
			return 0, false
		}
		d += again
		again *= 2
	}
	return d, !w.chance(w.loss / 50) // a path that breaks for good meanwhile
}

// request makes a request of a peer. serve runs there and may reply once, at any time. done hears the answer, or nil: after
// patience at the latest. Whatever went wrong, serve may have run.
func (h *host) request(to *host, k kind, size int, patience time.Duration, serve func(reply func(answer any, size int)), done func(any)) {
	w, life, settled := h.w, h.life, false
	settle := func(answer any) {
		if settled {
			return
		}
		settled = true
		h.alive(life, func() { done(answer) })
	}
	w.after(patience, func() { settle(nil) })
	if to == h {
		w.after(0, func() { serve(func(answer any, _ int) { settle(answer) }) })
		return
	}
	w.traffic.stream(k, size)
	there, ok := w.trip()
	if w.connect(k, h, to) {
		there += 2 * w.hop()
	}
	if !ok || !reaches(h, to) || !reaches(to, h) { // a stream needs both ways
		return
	}
	peerLife := to.life
	w.after(there, func() {
		to.alive(peerLife, func() {
			serve(func(answer any, size int) {
				w.traffic.stream(k, size)
				back, ok := w.trip()
				if !ok || !reaches(to, h) || !reaches(h, to) {
					return
				}
				w.after(back, func() { settle(answer) })
			})
		})
	})
}

// How long requests wait, as in the agent.
const (
	askTimeout   = 5 * time.Second
	writeTimeout = 15 * time.Second
	retryLeader  = 100 * time.Millisecond
	firstTry     = time.Second
	noteWait     = time.Second
)

// notLeads is the answer of a server that does not lead, and who it thinks does.
type notLeads struct{ leader *host }

// atLeader brings a request to the leader, through elections and lost peers, until its time is over. It may be carried out
// twice. done hears the answer, or nil.
func (h *host) atLeader(k kind, size int, patience time.Duration, serve func(leader *host, reply func(any, int)), done func(any)) {
	h.tryLeader(0, h.w.now+patience, k, size, serve, done)
}

func (h *host) tryLeader(try int, until time.Duration, k kind, size int, serve func(*host, func(any, int)), done func(any)) {
	w := h.w
	if w.now >= until {
		done(nil)
		return
	}
	again := func() {
		life := h.life
		w.after(retryLeader, func() { h.alive(life, func() { h.tryLeader(try+1, until, k, size, serve, done) }) })
	}
	to := h.leaderToTry(try)
	if to == nil {
		again()
		return
	}
	patience := min(firstTry<<min(try, 3), until-w.now, askTimeout)
	h.request(to, k, size, patience, func(reply func(any, int)) { serve(to, reply) }, func(answer any) {
		switch answer := answer.(type) {
		case nil:
			h.leader = nil
			again()
		case notLeads:
			h.leader = answer.leader
			again()
		default:
			h.leader = to
			done(answer)
		}
	})
}

func (h *host) leaderToTry(try int) *host {
	if h.server() {
		if l := h.w.quorum.seenBy(h); l != nil {
			return l
		}
	}
	switch {
	case h.leader != nil:
		return h.leader
	case try == 0 && !h.beacon.Leader.IsZero():
		return h.w.byID[h.beacon.Leader]
	}
	servers := h.w.quorum.voters
	return servers[try%len(servers)]
}

// exchange gives a peer the newest beacon here and takes its own: by packet where the fleet's time is known here, over a
// stream where it is not, or where the packet found no answer.
func (h *host) exchange(with *host) {
	if !h.knows() {
		h.exchangeByStream(with)
		return
	}
	w, mine, answered, life := h.w, node.BeaconHeard{From: h.id, Envelope: h.envelope, Hearsay: true, Act: h.newest}, false, h.life
	w.send(h, with, beacons, beaconSize(mine.Envelope), func() {
		if with.envelope.Format == 0 {
			return
		}
		theirs := node.BeaconHeard{From: with.id, Envelope: with.envelope, Hearsay: true, Act: with.newest}
		w.send(with, h, beacons, beaconSize(theirs.Envelope), func() {
			if !answered && h.life == life {
				answered = true
				w.step(h, theirs)
			}
		})
		w.step(with, mine)
	})
	w.after(noteWait, func() {
		if !answered && h.up && h.life == life {
			answered = true
			h.exchangeByStream(with)
		}
	})
}

func beaconSize(e auth.Envelope) int { return 120 + len(e.Body) + len(e.Signature) }

func (h *host) exchangeByStream(with *host) {
	mine, knows := node.BeaconHeard{From: h.id, Envelope: h.envelope, Act: h.newest}, h.knows()
	h.request(with, beacons, beaconSize(mine.Envelope), askTimeout, func(reply func(any, int)) {
		theirs := node.BeaconHeard{From: with.id, Envelope: with.envelope, Act: with.newest}
		if knows {
			h.w.step(with, mine)
		} else if with.own.Format != 0 {
			theirs.Envelope = with.own
		}
		reply(theirs, beaconSize(theirs.Envelope))
	}, func(answer any) {
		theirs, ok := answer.(node.BeaconHeard)
		switch {
		case !ok:
			h.w.step(h, node.PeerSilent{Peer: with.id})
		case theirs.Envelope.Format != 0:
			h.w.step(h, theirs)
		}
	})
}

func (h *host) ring(e node.Ring) {
	data := e.Bell.Encode()
	bell, err := node.DecodeBell(data)
	if err != nil {
		panic("sim: a bell does not survive its wire form: " + err.Error())
	}
	for _, id := range e.To {
		h.ringOne(id, len(data), bell)
	}
}

func (h *host) ringOne(id fleet.ID, size int, bell node.Bell) {
	if to := h.w.byID[id]; to != nil {
		h.w.send(h, to, bells, size, func() { h.w.step(to, node.BellHeard{Bell: bell}) })
	}
}
