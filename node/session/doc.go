// Package session runs what an operator's session runs on this host: a login shell, a program, or the far end of a copy, with a
// terminal or with three pipes, as an account.
//
// It owns the supervisors (one small process per session, which outlives the agent and does not care who is attached), the
// folders of sessions, and their retention. It never decides who may have a session and within which limits: whoever
// calls Open has judged the statement. It copies no byte between operator and program but through node/session/line, and
// reads no recording: node/session/cast does.
//
// Invariants:
//   - A session is opened once: its folder is made before anything of it exists, and one that exists refuses another.
//   - What is shown was recorded before; where the recording is durable, it was synced before.
//   - When a session has ended, nothing that it started is alive, whatever called setsid, forked twice or cleared its
//     environment; also when its supervisor died.
//   - A session ends by itself: nobody attached, nothing said, or too long, and within a minute no supervisor is left.
//   - Memory is bounded by the windows of node/session/flow; a program that nobody reads waits.
package session
