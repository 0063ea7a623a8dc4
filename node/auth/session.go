package auth

import "github.com/muster-fleet/muster/node/fleet"

// Session is an operator's order to one node to let him in, now: purpose ForSession. It needs no quorum; the node judges it
// by the record that it has. A session is his whose key signed it, on connections that this same key opened.
type Session struct {
	Header Header // Mode: Direct. ID: the session's. Expires: the last moment at which it may be opened
	Node   fleet.ID
	Kind   SessionKind
	User   string // account on the node; empty: the node's default for sessions
	// Argv is what SessionExec runs: one element is a shell line (sh -c), several an argv, no shell. Empty for the others.
	Argv     []string
	Terminal []Terminal // none or one: what is run gets a terminal of that kind and size. SessionShell has one
	Env      []string   // K=V
	// Forward is what SessionForward may connect to from the node, each HOST:PORT.
	Forward []string
	Reason  string // for those who read the record of it
	Idle    int64  // milliseconds without input or output before it ends; 0: the node's own limit, which is never exceeded
	Most    int64  // milliseconds that it lasts at most; 0: the node's own limit, which is never exceeded
}

// Terminal is a terminal as a program sees it.
type Terminal struct {
	Name string // TERM
	Rows uint16
	Cols uint16
}

// SessionKind says what a session is for.
type SessionKind uint8

// The kinds of sessions.
const (
	SessionShell   SessionKind = 1 // the account's login shell
	SessionExec    SessionKind = 2 // one program
	SessionForward SessionKind = 3 // connections from the node to elsewhere
	SessionCopy    SessionKind = 4 // files of the node, as the account may read and write them
)
