// Package gossip tells which members of the fleet are there: it is the adapter to serf and memberlist, and the only
// package that knows them.
//
// It owns membership, failure detection and the addresses of the nodes. It never decides who belongs to the fleet
// (Config.Trusted does), never carries orders, tags or reports, and never opens a socket: packets and streams come and
// go through Carrier.
//
// Invariants:
//   - A member is listed only while Trusted knows it, and only with addresses that it signed itself; the sequence of
//     what it signed never goes back.
//   - Nothing that another node sends makes a member Left: that too is signed by the member. What others can do at
//     worst is to make a member seem lost until it answers (DESIGN.md says how).
//   - Memory is bounded by the roster, not by what peers send; Packet and Stream never block.
package gossip
