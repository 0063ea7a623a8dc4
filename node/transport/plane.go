package transport

// Plane is one purpose of a connection, and its ALPN. Planes have connections of their own so that bulk never delays a
// heartbeat or a keystroke: one congestion controller serves one connection.
type Plane string

// The planes.
const (
	Join     Plane = "muster-join/1"      // a host that is not yet a member; bounded tightly
	Gossip   Plane = "muster-gossip/1"    // push/pull of membership
	Raft     Plane = "muster-raft/1"      // replication, elections, forwarded writes
	RaftBulk Plane = "muster-raft-bulk/1" // snapshots
	Peer     Plane = "muster-peer/1"      // requests between members
	Bulk     Plane = "muster-bulk/1"      // outputs of runs
	Session  Plane = "muster-session/1"   // an operator's own command line, and nobody else, with a node
	Relay    Plane = "muster-relay/1"     // pipes to others, which the Endpoint serves itself; members and operators
)

func alpns() []string { return append(pipedALPNs(), string(Join), string(Relay)) }

// pipedALPNs are the planes that may come by a pipe. Relay is none, so that no pipe passes through another, and a host that
// is not yet a member has nobody who would carry it.
func pipedALPNs() []string {
	return []string{string(Gossip), string(Raft), string(RaftBulk), string(Peer), string(Bulk), string(Session)}
}
