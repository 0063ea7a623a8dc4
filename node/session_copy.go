package node

import (
	"bytes"
	"crypto/sha256"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
)

// Recordings lie on the node of their session. When it has ended, servers get copies of them, by policy, so that they can be
// read when the node is gone. What makes a copy worth anything is the node's own signed note about it, with the digest: whoever
// reads verifies both, and trusts no server.

// SessionServers is how many servers get a copy of a recording.
const SessionServers = 2

// MaxRecording is how large a recording is of which servers keep copies, in bytes.
const MaxRecording = 4 << 30

// maxRecordingNote bounds the body of a note, in bytes. Servers keep many, so one has no more of what is long than NoteOf leaves.
const maxRecordingNote = 16 << 10

// RecordingNote is what a node says of a recording of its own: purpose ForRecording. How the node is called it does not say: the
// roster does.
type RecordingNote struct {
	Header  auth.Header // its ID is the session's: a node says it once
	Node    fleet.ID
	Session SessionState // ended
}

// SessionCopy is a note with the key that verifies it; the node is that key's hash. Whether such a node was ever one of the fleet
// is for the roster to say.
type SessionCopy struct {
	Key  []byte // Ed25519
	Note auth.Envelope
}

// SessionCopies answers a SessionAsk of ReadCopies and ReadCopy.
type SessionCopies struct {
	Copies []SessionCopy
	More   bool // there are older ones that are left out
}

// RecordingCopies is what a node remembers of a recording's copies.
type RecordingCopies struct {
	Want int        // servers that are to have one
	At   []fleet.ID // that said that they do
}

// NoteOf makes the note about a session that has ended: of what is long, as much as a list has. The recording has all of it.
func NoteOf(s SessionState, id fleet.ID) RecordingNote {
	s = s.line()
	s.Copies = nil
	s.Forward, s.Listen, s.Listening = linePaths(s.Forward), linePaths(s.Listen), linePaths(s.Listening)
	s.From, s.Rule, s.Reason, s.Why = lineText(s.From), lineText(s.Rule), lineText(s.Reason), lineText(s.Why)
	s.Recent = slices.Clone(s.Recent)
	for i, c := range s.Recent {
		s.Recent[i].To, s.Recent[i].From, s.Recent[i].Why = lineText(c.To), lineText(c.From), lineText(c.Why)
	}
	return RecordingNote{Header: auth.Header{ID: s.ID, Issued: s.Ended, Mode: auth.Direct}, Node: id, Session: s}
}

// lineText cuts a text that a list has no room for.
func lineText(text string) string {
	if len(text) <= maxListed {
		return text
	}
	return strings.ToValidUTF8(text[:maxListed], "") + "…"
}

// OpenSessionCopy verifies the note of a copy.
func OpenSessionCopy(c SessionCopy, fleetID fleet.ID) (RecordingNote, error) {
	if len(c.Note.Body) > maxRecordingNote {
		return RecordingNote{}, fleet.Errorf(fleet.Exhausted, "note of %d bytes; at most %d", len(c.Note.Body), maxRecordingNote)
	}
	n, err := auth.Open[RecordingNote](c.Note, auth.ForRecording, fleetID, c.Key)
	switch s := n.Session; {
	case err != nil:
		return n, err
	case n.Node != c.Note.Key:
		return n, fleet.Errorf(fleet.Denied, "node %s speaks of the recording of another node", c.Note.Key)
	case s.ID.IsZero() || s.Ended == 0 || s.Recording.Digest.IsZero() || s.Recording.Bytes <= 0:
		return n, fleet.Errorf(fleet.Invalid, "the note is about no recording")
	case s.Recording.Bytes > MaxRecording:
		return n, fleet.Errorf(fleet.Exhausted, "a recording of %d bytes; copies have at most %d", s.Recording.Bytes, int64(MaxRecording))
	}
	return n, nil
}

// WantsCopies returns how many servers are to have a copy of the recording of a session that has ended.
func WantsCopies(s SessionState, settings auth.Settings) int {
	r := s.Recording
	if s.Ended == 0 || r.Digest.IsZero() || r.Bytes <= 0 || r.Bytes > MaxRecording || !settings.SessionCopies(r.Sealed) {
		return 0
	}
	return SessionServers
}

// NextCopy returns the server that is to get the next copy of a session's recording; false: none, now. Sessions are spread over
// the servers, each by its own order of them. Copies at nodes that were removed do not count.
func NextCopy(session fleet.UUID, c RecordingCopies, servers []fleet.ID, standing, online func(fleet.ID) bool) (fleet.ID, bool) {
	if CopiesMade(c, standing) {
		return fleet.ID{}, false
	}
	order := slices.Clone(servers)
	slices.SortFunc(order, func(a, b fleet.ID) int { return bytes.Compare(weight(session, a), weight(session, b)) })
	for _, id := range order {
		if !slices.Contains(c.At, id) && online(id) {
			return id, true
		}
	}
	return fleet.ID{}, false
}

// CopiesMade reports whether there are as many copies as there are to be.
func CopiesMade(c RecordingCopies, standing func(fleet.ID) bool) bool {
	return standingCopies(c, standing) >= c.Want
}

func standingCopies(c RecordingCopies, standing func(fleet.ID) bool) (n int) {
	for _, id := range c.At {
		if standing(id) {
			n++
		}
	}
	return n
}

func weight(session fleet.UUID, server fleet.ID) []byte {
	sum := sha256.Sum256(append(session[:len(session):len(session)], server[:]...))
	return sum[:]
}

// ofSessions reports whether a request to read is one of the plane of sessions.
func (w ReadWhat) ofSessions() bool {
	switch w {
	case ReadSessions, ReadSession, ReadRecording, ReadWatch, ReadCopies, ReadCopy:
		return true
	}
	return false
}

// at returns the reader as one who asks about sessions of another node.
func (r SessionReader) at(id fleet.ID, record auth.Record) SessionReader {
	r.node = &auth.Node{ID: id, Name: id.String()}
	if n, ok := record.Roster.Node(id); ok { // also one that was removed
		r.node = n
	}
	return r
}

// MayWatch reports why the reader may not look on at a session, or nil. At those of others takes a rule for session.watch.
func (r SessionReader) MayWatch(s SessionState) error { return r.may(auth.ActWatchSession, s) }

// may asks policy about doing something with a session; one's own is one's own.
func (r SessionReader) may(action auth.Action, s SessionState) error {
	if s.By == r.key {
		return nil
	}
	if !r.Sees(s) {
		return NoSession(s.ID)
	}
	_, err := r.policy.Decide(auth.Ask{
		Principal: r.op.AsPrincipal(), Action: action, Resource: auth.Resource{Type: "Node", Name: r.node.Name, Tags: r.node.Tags},
		Kind: s.Kind.String(), User: s.User, Shell: s.Shell, Terminal: s.Terminal, Document: auth.NameOfDocument(s.Document),
	})
	return err
}

// JudgeSessionWatch verifies a signed request to look on at a session that runs here, which came on a connection of the key by, and
// returns the session and the name of who looks on. find returns a session that runs.
func JudgeSessionWatch(e auth.Envelope, record auth.Record, by fleet.ID, host SessionHost, find func(fleet.UUID) (SessionState, bool), now time.Time) (s SessionState, who string, err error) {
	read, reader, err := JudgeSessionRead(e, record, by, host, now)
	if err != nil {
		return s, "", err
	}
	s, ok := find(read.Arg)
	switch {
	case read.What != ReadWatch:
		return s, "", fleet.Errorf(fleet.Invalid, "the request to read %q is none to look on", read.What)
	case !ok:
		return s, "", NoSession(read.Arg)
	}
	if err := reader.MayWatch(s); err != nil {
		return s, "", err
	}
	if s.Kind != auth.SessionShell && s.Kind != auth.SessionExec {
		return s, "", fleet.Errorf(fleet.Invalid, "session %s is for %s: there is nothing to look at", s.ID, s.Kind).Hinted("muster session show %s", s.ID)
	}
	return s, reader.op.Name, nil
}

// WatchStands reports why whoever has key by may not go on looking on at a session here, or nil: ask whenever the record grew.
func WatchStands(s SessionState, by fleet.ID, record auth.Record, host SessionHost, now time.Time) error {
	op, err := record.Charter.Current(by, now)
	if err != nil {
		return err
	}
	reader, err := readerOf(by, op, record, host.Self)
	if err != nil {
		return err
	}
	return reader.MayWatch(s)
}

// CopyKept is a copy with what it says.
type CopyKept struct {
	Copy SessionCopy
	Note RecordingNote
}

// AnswerCopies answers a request that JudgeSessionRead verified from the copies that this host keeps of other nodes' recordings,
// the newest first. No more of them are taken from have, or held, than the answer has room for.
func AnswerCopies(read Read, reader SessionReader, record auth.Record, have iter.Seq[CopyKept]) (out SessionCopies, err error) {
	if read.What == ReadCopy {
		return answerCopy(read, reader, record, have)
	}
	size := 0
	for k := range have {
		if !read.Arg.IsZero() && read.Arg != k.Note.Session.ID || !reader.at(k.Note.Node, record).Sees(k.Note.Session) {
			continue
		}
		size += len(wire.Marshal(k.Copy))
		if size > maxSessionAnswer || len(out.Copies) == MaxSessionsListed {
			out.More = true
			break
		}
		out.Copies = append(out.Copies, k.Copy)
	}
	return out, nil
}

// answerCopy answers about the one whose bytes are asked for: the session Arg of the node Name.
func answerCopy(read Read, reader SessionReader, record auth.Record, have iter.Seq[CopyKept]) (SessionCopies, error) {
	for k := range have {
		if k.Note.Session.ID != read.Arg || k.Note.Node.Text() != read.Name {
			continue
		}
		if at := reader.at(k.Note.Node, record); at.Sees(k.Note.Session) {
			return SessionCopies{Copies: []SessionCopy{k.Copy}}, at.may(auth.ActReplaySession, k.Note.Session)
		}
	}
	return SessionCopies{}, fleet.Errorf(fleet.NotFound, "no copy of the recording of session %s here", read.Arg)
}
