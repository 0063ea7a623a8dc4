package gossip

import (
	"log"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/hashicorp/serf/serf"
)

// Preset is a set of timings. The zero Preset is LAN.
type Preset struct {
	probeEvery   time.Duration // every node probes one other this often, in a shuffled round
	probeTimeout time.Duration // then it asks others to probe too
	indirect     int           // how many others
	suspicion    int           // × log10(nodes) × probeEvery: the time to refute, once a second node agrees
	suspicionMax int           // × that: the time while no second node agrees
	gossipEvery  time.Duration // only while there is news: idle costs nothing
	gossipNodes  int
	pushPull     time.Duration // the backstop; differing digests bring it forward (see drift)
	stream       time.Duration // deadline of one push/pull
	reconnect    time.Duration // one lost member is called this often, by the whole fleet together
}

// LAN is for nodes within 100 ms of each other. The numbers are measured: see DESIGN.md.
func LAN() Preset {
	return Preset{
		probeEvery: 400 * time.Millisecond, probeTimeout: 150 * time.Millisecond, indirect: 8, suspicion: 3, suspicionMax: 3,
		gossipEvery: 100 * time.Millisecond, gossipNodes: 3, pushPull: 10 * time.Minute, stream: 10 * time.Second,
		reconnect: 10 * time.Second,
	}
}

// WAN is for nodes spread over continents or behind slow links.
func WAN() Preset {
	return Preset{
		probeEvery: 2 * time.Second, probeTimeout: 800 * time.Millisecond, indirect: 4, suspicion: 4, suspicionMax: 4,
		gossipEvery: 250 * time.Millisecond, gossipNodes: 4, pushPull: 15 * time.Minute, stream: 30 * time.Second,
		reconnect: 20 * time.Second,
	}
}

// Local is for tests on one host.
func Local() Preset {
	p := LAN()
	p.probeEvery, p.probeTimeout, p.gossipEvery = 200*time.Millisecond, 80*time.Millisecond, 50*time.Millisecond
	p.stream, p.reconnect = 3*time.Second, 2*time.Second
	return p
}

func (p Preset) orLAN() Preset {
	if p == (Preset{}) {
		return LAN()
	}
	return p
}

const (
	// everywhere is the address that all nodes have in memberlist's eyes: the dummy address of RFC 7600. memberlist
	// binds a name to its address and calls a change a conflict; ours is a constant, and names are turned into the
	// signed addresses when a packet leaves.
	everywhere     = "192.0.0.8"
	everywherePort = 9

	reconnectFor     = 30 * 24 * time.Hour // hosts may be off for weeks; the roster decides when one is gone
	broadcastTimeout = 3 * time.Second
	leaveLinger      = time.Second // answers probes while the news of its leave travels

	// compoundExtra is what memberlist forgets when it adds news to a ping: the length of the ping itself.
	compoundExtra = 2
)

func (p Preset) memberlist(name string, carry memberlist.Transport, payload int, logger *log.Logger) *memberlist.Config {
	return &memberlist.Config{
		Name: name, Transport: carry, Logger: logger,
		BindAddr: everywhere, BindPort: everywherePort, AdvertiseAddr: everywhere, AdvertisePort: everywherePort,
		ProtocolVersion: memberlist.ProtocolVersion2Compatible,
		TCPTimeout:      p.stream,
		IndirectChecks:  p.indirect, RetransmitMult: 4,
		SuspicionMult: p.suspicion, SuspicionMaxTimeoutMult: p.suspicionMax,
		PushPullInterval: p.pushPull,
		ProbeInterval:    p.probeEvery, ProbeTimeout: p.probeTimeout,
		DisableTcpPings:        true, // a stream shares the port and the fate of the packets
		AwarenessMaxMultiplier: 8,
		GossipInterval:         p.gossipEvery, GossipNodes: p.gossipNodes, GossipToTheDeadTime: 30 * time.Second,
		EnableCompression: false, // IDs and signatures do not compress, and unpacking is a way to be flooded
		HandoffQueueDepth: 1024, UDPBufferSize: payload - compoundExtra, RequireNodeNames: true,
		QueueCheckInterval: 30 * time.Second,
	}
}

func (p Preset) serf(name string, list *memberlist.Config, logger *log.Logger) *serf.Config {
	return &serf.Config{
		NodeName: name, MemberlistConfig: list, Logger: logger, ProtocolVersion: 4,
		BroadcastTimeout: broadcastTimeout, LeavePropagateDelay: leaveLinger,
		ReapInterval: 15 * time.Second, ReconnectInterval: p.reconnect, ReconnectTimeout: reconnectFor,
		TombstoneTimeout: time.Hour, FlapTimeout: time.Minute, RecentIntentTimeout: time.Minute,
		QueueCheckInterval: 30 * time.Second, QueueDepthWarning: 128, MaxQueueDepth: 1024,
		EventBuffer: 8, QueryBuffer: 8, // events and queries do not travel (see admit)
		QueryTimeoutMult: 16, QueryResponseSizeLimit: 1024, QuerySizeLimit: 1024, UserEventSizeLimit: 512,
		EnableNameConflictResolution: false, // a node that lost the vote would shut itself down
		DisableCoordinates:           true,  // 100 bytes an ack; probes measure round trips for nothing
		ValidateNodeNames:            true,
	}
}
