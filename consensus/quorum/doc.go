// Package quorum keeps a Machine (the replicated state) equal on a few servers, over hashicorp/raft.
//
// It owns the replica's files (log, votes, snapshots), the streams between replicas, batching of what is proposed,
// linearizable reads, and the decision which servers vote. It never looks into an item or into the machine, never
// decides who is eligible (operators sign that) and never dials an address (Streams does).
//
// Invariants:
//   - A replica that may have forgotten something it promised never speaks under its old name: what is damaged, wiped or
//     rolled back is put aside, and the node returns as a new incarnation with an empty replica.
//   - A quorum whose only voter is damaged is never restarted empty in silence.
//   - Nothing is acknowledged before it is synced on a majority of voters, the leader among them if it votes, and applied here.
//   - A read sees every write that was acknowledged before it began; answers of spares never count.
//   - What a peer sends costs bounded memory.
package quorum
