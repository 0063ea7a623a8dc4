// Package release is what a release of muster is, whose word makes it one, and how its chunks spread from host to host.
//
// It owns the manifest and the signatures on it (Signed, Verify), the release file (Header), the words that hosts say to each
// other about chunks (Hello, Ask, Chunk, None), and the choices: which host is asked for what next (Swarm), and what a host gives
// to whom (Giver). It never reads a clock, a disk or a connection: node/release/store keeps chunks, node/agent carries them.
//
// Invariants:
//   - Nothing of a manifest is decoded before as many signatures as the fleet asks for hold on its bytes.
//   - Every chunk is judged by the manifest's digest of it, whoever gave it; one that lied is asked for nothing more.
//   - A holder gives each chunk Copies times of its own accord. More than that it gives only to who insists, and to one host
//     never a chunk more than GivesPerPeer times.
//   - What a peer sends costs memory bounded by this package's constants, never by a number that it sent.
//
// DESIGN.md beside it says why.
package release
