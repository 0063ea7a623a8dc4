// Command sim puts a fleet of up to ten thousand hosts into one queue of events and lets everything happen to it that can
// happen to a fleet: lost, doubled and overtaking packets, partitions, hosts that are killed, paused or set to another time,
// leaders that are lost or that do not know that they are none any more. It measures how commands spread, and it holds paced
// commands to their bounds.
//
// What decides is the shipped code: node.Node of every host, consensus.State of the servers, exec.Ledger. What does is a
// model: the wire, the quorum, the runner, the disk. The model is the hostile end of what the real ones promise: what they may
// do, it does.
//
// Its invariants: one goroutine, no clock, no file; every choice follows from the seed, so that the same seed gives the same
// trace; what the checkers are told is the truth of the hosts, never what the fleet says of them. See DESIGN.md.
package main
