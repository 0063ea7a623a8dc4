// Package attach is the client's end of a session: it joins a person's input and output to the program at the other end, and
// goes on over another connection when one is lost.
//
// It owns the reconnecting, and what is said of a silent line. How a connection is opened, and what a terminal is, its caller
// knows; what is sent again, node/session/line. It never ends a session because of a connection.
//
// Invariants:
//   - Output is written in the order in which the node had it, each byte once, whatever connections end in between.
//   - Run returns an Exit only when all that the program wrote has been written here, or nobody reads it here any more.
//   - Nothing waits for a slow Stdout but the program: silence is seen and the line is mended meanwhile.
package attach
