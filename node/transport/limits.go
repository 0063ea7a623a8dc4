package transport

import "time"

// Sealed packets.
const (
	// MaxPacket is the size of the largest sealed packet on the wire, in bytes: IPv6's least MTU of 1,280 less 48 of
	// headers. The socket never fragments (quic-go sets DF), so bigger packets would vanish on tunnels.
	MaxPacket = 1232
	// MaxPayload is what fits into one after header and tag, in bytes.
	MaxPayload = MaxPacket - headerSize - tagSize
	// MaxRelayed is the size of the largest payload of SendPacketVia, in bytes.
	MaxRelayed = MaxPayload - relayHead

	// packetReaders is how many goroutines wait for packets. quic-go queues 32 packets beside QUIC and drops the rest
	// silently; a waiting reader takes its packet by direct hand-off, so a burst of packetReaders+32 is not lost. Each
	// costs about 4 KiB of stack and buffer (8 once it has opened a packet): 64 are half a megabyte at most, where 256
	// would be a tenth of an idle agent's memory.
	packetReaders = 64
	// rememberedSenders bounds the keys and replay windows kept, about 1.3 KiB each. A sender beyond it costs one HKDF
	// (3 µs) per packet and can be replayed until it is heard again.
	rememberedSenders = 1024
	// replayWindow is how many counter values a packet may be late by; a power of two times 64. Counters run over all
	// of a sender's packets, to whomever: 1,024 are 20 ms at 50,000 packets a second.
	replayWindow = 1024
)

// Connections.
const (
	// MaxProof bounds what Gate.Prove returns, in bytes.
	MaxProof = 16 << 10
	maxHello = MaxProof + 512
	// maxReason bounds what a refused peer is told, in bytes: it must fit into one CONNECTION_CLOSE.
	maxReason = 512

	handshakeTimeout = 3 * time.Second
	idleTimeout      = 30 * time.Second
	// gossipIdle is shorter: push/pull meets a random member every half minute or more and will not need it again.
	gossipIdle = 10 * time.Second
	// keepAlive is the silence after which a side with open streams says something.
	keepAlive = 10 * time.Second
	// sessionKeepAlive is the same on the Session plane: whoever only looks on has moved to another network until the
	// node hears from there, and what a program writes meanwhile goes to where he was.
	sessionKeepAlive = 3 * time.Second

	nextAddrAfter   = 150 * time.Millisecond // before the next address of a peer is tried beside the last
	maxDialAddrs    = 16
	freshFor        = time.Second     // a connection heard of so recently is used without asking
	pongWait        = time.Second     // how long an older one may take to answer before a new one is dialled
	supersededAfter = 5 * time.Second // before an idle twin of a better connection is closed

	// maxHalfOpen bounds connections that have not said hello; with firstWindow it bounds the memory of strangers to
	// 64 MiB, for they may open two streams only: see early.
	maxHalfOpen       = 512
	maxHalfOpenPerNet = 64 // per IPv4 /24 or IPv6 /56; not for loopback
	// The same of those that come by pipes, which take no place from the socket's: 32 MiB more.
	maxHalfOpenPiped = 256
	maxHalfOpenBy    = 128 // by the pipes of one relay
	maxHalfOpenFor   = 32  // and, of these, for one asker
	firstWindow      = 64 << 10
	maxStreamWindow  = 4 << 20
	// connWindow is what all streams of a connection begin with: what nobody reads of some takes nothing from the others.
	// Nothing is allocated for it.
	connWindow = maxStreams * firstWindow
	// maxSessionWindow is what the streams of an operator's connection may grow to here: a stream that was fast, and that
	// nobody reads any more, holds up to maxStreamWindow of it. All such growth shares growthBudget.
	maxSessionWindow = 64 << 20
	growthBudget     = 256 << 20
	// retryHalfOpen and retryRate say when strangers must prove their address first (QUIC Retry, one round trip more).
	retryHalfOpen = 256
	retryRate     = 100 // per second
	// maxWords bounds what is said behind a hello (words), in bytes: it must fit into the window of a stream that nobody
	// reads yet.
	maxWords = firstWindow / 2

	maxLinksPerPeer = 4 // per plane; the oldest makes room
	maxStreams      = 128

	// maxSessionLinks bounds connections of one operator: every command line of theirs has one, and another for each
	// maxStreams streams. One over it is refused, for each of the others is somebody's shell.
	maxSessionLinks = 64
	// slowWrite is after how long a write that does not end tells that its connection is not the one for a new stream: what
	// is in its way, a reader that reads nothing or a line that is slow, would be in the way of that one, too.
	slowWrite = 250 * time.Millisecond
	// maxSlowLinks is with how many connections to a node that no longer counts.
	maxSlowLinks = 8
	// maxSessionStreams bounds the streams of one operator over all of them.
	maxSessionStreams = 1024

	maxJoins      = 128 // connections of the Join plane at a time: anybody can open one
	joinLifetime  = time.Minute
	joinRate      = 10 // per second
	joinBurst     = 32
	joinRatePerIP = 1 // per second; per IPv4 address or IPv6 /64; not for loopback
	joinBurstIP   = 3
	joinSources   = 4096 // addresses whose rate is remembered

	maxSeenAddrs = 8  // kept by Observed
	maxSeers     = 64 // peers whose word for it is kept
)

// Relays.
const (
	// pipedPacket is the size of QUIC's packets in a pipe: its least.
	pipedPacket = 1200
	// maxDatagram bounds one that was put together from halves: what quic-go's buffers hold.
	maxDatagram = 1452
	// maxHalves bounds those of a connection that wait for another: the packets by which a network may disorder a burst.
	maxHalves = 32

	relayFirst = time.Second // before a relay joins the race of direct addresses, and the next relay that of the last
	maxRelays  = 4           // that are tried
	maxOnward  = 2           // that a relay tries for others

	// A connection with pipes says something after 3 s of silence, and again after one more, and is given up after the fifth:
	// there may be another relay.
	relayKeepAlive = 3 * time.Second
	relayAgain     = time.Second
	relayPings     = 2
	// uplinkKeepAlive is shorter than the 30 s for which the shortest-lived NATs remember a UDP flow.
	uplinkKeepAlive = 15 * time.Second

	maxPipes    = 4096 // that end here, and that pass through here
	maxPipesFor = 64   // that pass through here for one peer
	// A relay that asks for others has maxPipesFor for each, maxPipesBy for all. Whom it names it may have made up, so that
	// a name that many relays give is bound loosely: maxPipesNamed.
	maxPipesBy    = 1024
	maxPipesNamed = 256
	// maxUnusedBy bounds the pipes that one relay offers here and that carry nothing yet, maxPipesFor those of them that it
	// offers for one asker.
	maxUnusedBy = 256
	// carryQueue is how many packets of a pipe wait in a relay, each way, for a connection that is slower than the other;
	// and the next three of one asker's pipes, one relay's, and of all: 5 MiB, 20 MiB, 40 MiB.
	carryQueue    = 256
	maxCarriedFor = 4096
	maxCarriedBy  = 16384 // for all for whom one relay asks
	maxCarried    = 32768
	// maxOffers is how many streams a relay may open over an uplink: it has one for each pipe, of however many askers.
	maxOffers = 1024
	maxPassed = 64 // sealed packets that wait for an uplink, or come by one
	// pipeQueue is how many packets of a pipe wait at its own end; whoever sends more waits, at most pipePatience.
	pipeQueue    = 64
	pipePatience = 100 * time.Millisecond
	maxArrivals  = 512 // packets out of all pipes that QUIC has not read

	pipeLinger = time.Second      // a pipe that was asked for here is kept after its connection, for the last words
	pipeSpare  = 10 * time.Second // one that was offered is kept without a connection
)

// planeLimits are what differs between planes.
type planeLimits struct {
	frame     int           // body of a frame, bytes
	streams   int           // open at a time per connection, of the peer's
	offers    int           // the same at the side that dialled; zero: as many
	idle      time.Duration // silence after which a connection is let go
	keepAlive time.Duration // zero: only while streams are open
	ping      time.Duration // silence after which a side with open streams says something
	pings     int32         // so many, relayAgain apart, without an answer end the connection; zero: idle alone does
	links     int           // connections of one peer
	window    uint64        // most bytes of a connection that are unread at the side that dialled
	// crowd is set where one key speaks from many processes at a time, each with connections of its own: then another
	// instance is no restart, a connection that is full is helped by one more, and crowd bounds all of the peer's streams.
	crowd int
	// eager is set where the dialling side needs nothing of the peer but its key: an operator's statement is for whoever has
	// the key that it names.
	eager bool
}

// incoming returns how many streams of the peer may be open at the side that dialled, or at the other.
func (l planeLimits) incoming(dialled bool) int {
	if dialled && l.offers != 0 {
		return l.offers
	}
	return l.streams
}

// limits returns a plane's limits, and whether there is such a plane.
//
// Raft's few connections stay up, so that an election needs no handshake. All others are let go when idle: a handshake
// costs 3 ms, a kept connection 60 KB at both ends.
func (p Plane) limits() (planeLimits, bool) {
	l := planeLimits{streams: maxStreams, idle: idleTimeout, ping: keepAlive, links: maxLinksPerPeer, window: connWindow}
	switch p {
	case Join:
		l.frame, l.streams = 16<<10, 4
	case Gossip:
		l.frame, l.idle = 64<<10, gossipIdle
	case Raft:
		l.frame, l.keepAlive = 1<<20, keepAlive
	case RaftBulk:
		l.frame = 1 << 20
	case Peer, Bulk:
		l.frame = 512 << 10
	case Session:
		l.frame, l.ping, l.links, l.crowd = 512<<10, sessionKeepAlive, maxSessionLinks, maxSessionStreams
		l.eager = true
		l.window = maxStreams * maxStreamWindow // an operator's own memory, as far as their own programs do not read
	case Relay:
		// Nodes and operators' command lines: their frames are an ID or an error. A relay that is gone is noticed in
		// seconds, because there may be another.
		l.frame, l.links, l.crowd = 4<<10, maxSessionLinks, maxSessionStreams
		l.ping, l.pings, l.offers = relayKeepAlive, relayPings, maxOffers
	default:
		return planeLimits{}, false
	}
	return l, true
}
