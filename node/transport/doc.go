// Package transport owns muster's one UDP socket: QUIC connections, one kind per Plane, and sealed packets beside them; and pipes
// through peers to those who cannot be dialled.
//
// It knows who the other end is (a node ID is the hash of the key that TLS proves), asks a Gate whether that peer may
// speak, and carries bytes. It never decides who is a member, never reads what it carries, and never sends a request a
// second time.
//
// Invariants:
//   - No byte of a stream reaches a StreamFunc before the peer's key was proved, both sides said hello, Gate.Admit agreed
//     for the connection and Gate.Allow for the stream.
//   - Whatever a peer sends costs bounded memory; the bounds stand in limits.go.
//   - A packet reaches a PacketFunc only if a fleet key sealed it, whole, and (while its sender is remembered) once.
//   - An idle node sends nothing: connections without open streams are let go, except on the Raft planes and for uplinks.
//   - What goes through a relay is judged, bounded and proved as what comes by the socket; the relay sees who talks with whom,
//     and never what. A pipe has two relays at most, and none runs in another.
package transport
