// Package fabric is a packet network in memory, for tests of whatever speaks over one net.PacketConn.
//
// It owns the faults of a network: loss, latency, jitter, duplication, partition. It behaves as UDP does: a sender is
// never blocked and never told that its packet was lost, whatever the reason; a full queue drops. (A network that tells
// senders about dead peers hides what failure detectors have to find out.) It runs inside a testing/synctest bubble:
// latency is time.AfterFunc, it starts no goroutine that outlives a packet, and none is left after Close. The same seed
// draws the same faults for the same order of packets.
package fabric
