package node

import (
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
)

// What is said on the plane of sessions, between an operator's end and the node. Each stream begins with one frame of the
// operator's, which the node answers with one of the same kind, or with an error.

// The kinds of frames.
const (
	SessionOpen   byte = 1 // auth.Envelope of auth.Session → SessionOpened; then flow both ways, but of a SessionForward: the stream ends
	SessionAttach byte = 2 // SessionAttaching → SessionAttached; then flow both ways
	SessionDial   byte = 3 // SessionDialling → SessionDialled; then bytes both ways
	SessionAsk    byte = 4 // auth.Envelope of Read (ReadSessions, ReadSession, ReadRecording) → SessionAnswer, or (ReadCopies, ReadCopy) → SessionCopies; of ReadRecording and ReadCopy, bytes follow to the stream's end
	SessionKill   byte = 5 // auth.Envelope of auth.SessionKill → SessionAnswer with that one session
	SessionWatch  byte = 7 // auth.Envelope of Read (ReadWatch) → SessionAnswer with that one session; then what it shows, as node/session/cast has it
	SessionAPI    byte = 6 // nothing → nothing; then HTTP of node/api both ways, which may begin before the answer
	SessionAccept byte = 8 // SessionAccepting → SessionAccepted, when somebody has connected; then bytes both ways
)

// SessionOpened answers SessionOpen: the session runs, and the stream is attached to it. Whoever never read this may
// attach, from nothing: NotFound says that it was not opened.
type SessionOpened struct {
	ID        fleet.UUID
	Node      string // its name, by its own record
	User      string // the account, where the operator named none
	Idle      int64  // as granted; see SessionOrder
	Most      int64
	Grace     int64
	Recorded  bool
	Input     bool     // what is typed is recorded, too
	Listening []string // in the order of the statement's Listen: where the node listens, with the ports that it got
}

// SessionAttaching asks for a session that runs, or ended a moment ago, to go on. Only the key that opened it may.
type SessionAttaching struct {
	ID   fleet.UUID
	Have uint64 // frames of the node's flow that were taken, in order
}

// SessionAttached answers SessionAttaching.
type SessionAttached struct {
	Have uint64 // frames of the operator's flow that were taken, in order
}

// SessionDialling asks for a connection from the node, in a session of kind SessionForward.
type SessionDialling struct {
	ID fleet.UUID
	To string // one of the session's Forward, as it stands there
}

// SessionDialled answers SessionDialling: the connection stands.
type SessionDialled struct {
	Addr string // that was connected to
}

// SessionAccepting waits for the next connection that comes in where the node listens for a session of kind SessionForward.
// So many are taken as are waited for; more wait in the host's own queue.
type SessionAccepting struct {
	ID fleet.UUID
	N  uint16 // the place of one of the session's Listen, from 0 on
}

// SessionAccepted answers SessionAccepting: somebody has connected.
type SessionAccepted struct {
	From string // who, as the node sees it
}

// SessionAnswer answers SessionAsk and SessionKill.
type SessionAnswer struct {
	Sessions []SessionState // the newest first
	More     bool           // there are older ones that are left out
}

// Bounds of what is sent on the plane of sessions, in bytes.
const (
	maxSessionAsk = 4 << 10 // signed requests: they carry a few IDs and one line
	// maxSessionAnswer leaves room for everything beside the sessions in a frame of 512 KiB.
	maxSessionAnswer = 448 << 10
)

// EncodeSession returns the wire form of a frame's body: an auth.Envelope or one of the types of this file.
func EncodeSession[T auth.Envelope | SessionOpened | SessionAttaching | SessionAttached | SessionDialling | SessionDialled | SessionAccepting | SessionAccepted | SessionAnswer | SessionCopies](body T) []byte {
	return wire.Marshal(body)
}

// DecodeSession reads a body other than a statement.
func DecodeSession[T SessionOpened | SessionAttaching | SessionAttached | SessionDialling | SessionDialled | SessionAccepting | SessionAccepted | SessionAnswer | SessionCopies](data []byte) (T, error) {
	var body T
	err := wire.Unmarshal(data, &body)
	return body, err
}

// DecodeSessionStatement reads the statement of a frame of that kind (SessionOpen, SessionAsk, SessionKill). Nobody has
// verified it yet.
func DecodeSessionStatement(kind byte, data []byte) (auth.Envelope, error) {
	most := maxSessionAsk
	if kind == SessionOpen {
		most = auth.MaxSession + maxSessionAsk
	}
	if len(data) > most {
		return auth.Envelope{}, fleet.Errorf(fleet.Exhausted, "signed request of %d bytes; at most %d", len(data), most)
	}
	var e auth.Envelope
	err := wire.Unmarshal(data, &e)
	return e, err
}
