// Package flow is the protocol between whoever sits before a session and the supervisor of its program: numbered frames that
// survive the connection that carries them.
//
// It is pure. It owns the frames, their form as bytes, what each end keeps until the other has consumed it, and what is sent
// again over the next connection. It never reads, writes or waits (node/session/line does), and does not know what a
// terminal, a process or a peer is.
//
// Invariants:
//   - What is taken from the other end is what was pushed there: in order, nothing lost, nothing twice, whatever connections
//     end in between and wherever in a frame.
//   - Each end holds at most its window and Reserve for each direction, whatever the other end sends.
//   - A frame has one form as bytes; all others are refused.
package flow
