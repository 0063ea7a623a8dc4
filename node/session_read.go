package node

import (
	"cmp"
	"slices"
	"time"

	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
)

// SessionReader is an operator who asks about a node's sessions. His own he may always see.
type SessionReader struct {
	key    fleet.ID
	others error // why not those of others; nil: he may see them
	op     auth.Operator
	node   *auth.Node
	policy *auth.Policy
}

// JudgeSessionRead verifies a signed request to read sessions (those of the plane of sessions) that came on a
// connection of the key by. Which of them its signer may see, the reader says. A host whose clock is off judges no time
// where by is the signer.
func JudgeSessionRead(e auth.Envelope, record auth.Record, by fleet.ID, host SessionHost, now time.Time) (Read, SessionReader, error) {
	var reader SessionReader
	timed := !host.ClockOff || by != e.Key
	read, op, err := openHere(e, auth.ForRequest, record, timed, now, func(r Read) auth.Header {
		r.Header.Act = 0 // a node that is a little behind may still tell what it has
		return r.Header
	})
	if err != nil {
		return read, reader, err
	}
	if err := read.checkLife(); err != nil {
		return read, reader, err
	}
	switch {
	case !read.What.ofSessions():
		return read, reader, fleet.Errorf(fleet.Invalid, "the request to read %q is none for sessions", printableWhat(read.What))
	case read.Node != host.Self:
		return read, reader, fleet.Errorf(fleet.Denied, "the request to read was signed for another node")
	}
	reader, err = readerOf(e.Key, op, record, host.Self)
	return read, reader, err
}

func readerOf(key fleet.ID, op auth.Operator, record auth.Record, self fleet.ID) (reader SessionReader, err error) {
	reader = SessionReader{key: key, op: op, policy: record.Charter.Policy()}
	if reader.node, err = record.Roster.Enrolled(self); err != nil {
		return reader, err
	}
	reader.others = mayRead(record, op)
	return reader, nil
}

// printableWhat bounds what an unknown request is called.
func printableWhat(w ReadWhat) ReadWhat { return w[:min(len(w), 32)] }

// Sees reports whether the reader may know of a session.
func (r SessionReader) Sees(s SessionState) bool { return s.By == r.key || r.others == nil }

// MayReplay reports why the reader may not have the recording of a session, or nil. What others did takes a rule for
// session.replay.
func (r SessionReader) MayReplay(s SessionState) error { return r.may(auth.ActReplaySession, s) }

// AnswerSessions answers a request that JudgeSessionRead verified from the sessions of the node, in whatever order.
func AnswerSessions(read Read, reader SessionReader, have []SessionState) (SessionAnswer, error) {
	if read.What == ReadSessions {
		return listSessions(reader, have), nil
	}
	i := slices.IndexFunc(have, func(s SessionState) bool { return s.ID == read.Arg })
	if i < 0 || !reader.Sees(have[i]) {
		return SessionAnswer{}, NoSession(read.Arg)
	}
	if read.What == ReadRecording {
		if err := reader.MayReplay(have[i]); err != nil {
			return SessionAnswer{}, err
		}
		if have[i].Recording == (SessionRecording{}) {
			return SessionAnswer{}, fleet.Errorf(fleet.NotFound, "session %s has no recording", read.Arg)
		}
	}
	return SessionAnswer{Sessions: have[i : i+1]}, nil
}

// listSessions lists those that a reader may see, what runs first, each half the newest first, as far as there is room.
func listSessions(reader SessionReader, have []SessionState) (a SessionAnswer) {
	seen := slices.DeleteFunc(slices.Clone(have), func(s SessionState) bool { return !reader.Sees(s) })
	slices.SortFunc(seen, func(a, b SessionState) int {
		return cmp.Or(running(b)-running(a), cmp.Compare(b.Started, a.Started), slices.Compare(a.ID[:], b.ID[:]))
	})
	size := 0
	for _, s := range seen {
		s = s.line()
		size += len(wire.Marshal(s))
		if size > maxSessionAnswer || len(a.Sessions) == MaxSessionsListed {
			a.More = true
			return a
		}
		a.Sessions = append(a.Sessions, s)
	}
	return a
}

func running(s SessionState) int {
	if s.Ended == 0 {
		return 1
	}
	return 0
}

// line returns the session as a list has it: what is long of its words is cut, and says so.
func (s SessionState) line() SessionState {
	room, cut := maxListed, false
	var argv []string
	for _, arg := range s.Argv {
		if len(arg) > room {
			arg, cut = arg[:room], true
		}
		room -= len(arg) + 1 // an empty one takes its byte, too
		if argv = append(argv, arg); room <= 0 {
			break
		}
	}
	if cut || len(argv) < len(s.Argv) {
		argv = append(argv, "…")
	}
	s.Argv, s.Paths = argv, linePaths(s.Paths)
	s.Recent = s.Recent[max(len(s.Recent)-1, 0):]
	s.Document = lineOf(s.Document)
	return s
}

// linePaths keeps as many paths as a list has room for.
func linePaths(paths []string) []string {
	room := maxListed
	for i, path := range paths {
		if room -= len(path) + 1; room < 0 {
			return append(slices.Clone(paths[:i]), "…")
		}
	}
	return paths
}

// JudgeSessionKill verifies an order to end a session, on whatever connection it came. find returns a session that runs
// here. Whoever opened it may end it; others need a rule for session.kill. It returns the session, and what it is to say
// of its end. A host whose clock is off judges no time: a session ends once.
func JudgeSessionKill(e auth.Envelope, record auth.Record, host SessionHost, find func(fleet.UUID) (SessionState, bool), now time.Time) (s SessionState, by string, err error) {
	kill, op, err := openHere(e, auth.ForSessionKill, record, !host.ClockOff, now, func(k auth.SessionKill) auth.Header { return k.Header })
	if err != nil {
		return s, "", err
	}
	if err := kill.Check(); err != nil {
		return s, "", err
	}
	if kill.Node != host.Self {
		return s, "", fleet.Errorf(fleet.Denied, "the end of the session was signed for another node")
	}
	n, err := record.Roster.Enrolled(host.Self)
	if err != nil {
		return s, "", err
	}
	s, ok := find(kill.Session)
	if !ok || s.By != e.Key {
		if _, err := record.Charter.Policy().Decide(auth.Ask{
			Principal: op.AsPrincipal(), Action: auth.ActKillSession, Resource: auth.Resource{Type: "Node", Name: n.Name, Tags: n.Tags},
		}); err != nil {
			return SessionState{}, "", err // also where there is no such session: whoever may not end it learns nothing of it
		}
	}
	if !ok {
		return s, "", NoSession(kill.Session)
	}
	return s, killedBy(op, kill.Reason), nil
}

func killedBy(op auth.Operator, reason string) string {
	if reason == "" {
		return "ended by " + op.Name
	}
	return "ended by " + op.Name + ": " + reason
}
