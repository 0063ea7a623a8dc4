package agent

import (
	"context"
	"errors"
	"io"
	"iter"
	"sync"
	"time"

	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
)

// A recording goes to servers on the bulk plane, when its session has ended: askKeepRecording there, with the node's note; back
// how much of it the server has; then the rest, and recordingEnd; back recordingKept, when it is on the server's disk.
const (
	askKeepRecording byte = 32   // node.SessionCopy → recordingHave
	recordingHave    byte = 0x45 // recordingHaveBody
	recordingData    byte = 0x46 // bytes
	recordingEnd     byte = 0x47 // nothing → recordingKept
	recordingKept    byte = 0x48 // nothing
)

type recordingHaveBody struct {
	Bytes int64
	Kept  bool // all of it, on the disk
}

const (
	// recordingPiece is how much of a recording one frame has, in bytes.
	recordingPiece = 64 << 10
	// recordingSilence is how long either side of a copy may be silent; recordingSettles is how long a server may take to look
	// through all of it and to sync it.
	recordingSilence = 30 * time.Second
	recordingSettles = 2 * time.Minute
	// copyAgain is how often it is looked whether copies are missing that can be made, and copyBackoff how long a server is left
	// alone that did not take one, doubled each time up to copyBackoffMost.
	copyAgain       = time.Minute
	copyBackoff     = time.Minute
	copyBackoffMost = time.Hour
)

// Archive keeps copies of other nodes' recordings on a server.
type Archive interface {
	// Take begins to keep a recording whose note was verified.
	Take(kept node.CopyKept) (IncomingRecording, error)
	// List returns what is kept of a session, or of all (the zero ID), the newest first; each is read when it is its turn.
	List(session fleet.UUID) iter.Seq[node.CopyKept]
	// Read opens a recording that is kept.
	Read(id fleet.ID, session fleet.UUID) (io.ReadCloser, error)
}

// IncomingRecording is a recording that comes. Close it in any case; what came stays for the next time.
type IncomingRecording interface {
	io.Writer
	// Have returns how many bytes are here, and whether that is all, and on the disk.
	Have() (n int64, kept bool)
	// Commit returns nil when the recording is on the disk, as its node signed it.
	Commit() error
	Close()
}

// wanting is the sessions whose recordings are still to be copied.
type wanting struct {
	mu   sync.Mutex
	ids  map[fleet.UUID]bool
	wake chan struct{}
}

func newWanting() wanting {
	return wanting{ids: map[fleet.UUID]bool{}, wake: make(chan struct{}, 1)}
}

func (w *wanting) add(ids ...fleet.UUID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, id := range ids {
		w.ids[id] = true
	}
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

func (w *wanting) done(id fleet.UUID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.ids, id)
}

func (w *wanting) all() (out []fleet.UUID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for id := range w.ids {
		out = append(out, id)
	}
	return out
}

// backoff is the servers that are left alone for a while, by what they said last.
type backoff map[fleet.ID]backedOff

type backedOff struct {
	until time.Duration // by boot time
	wait  time.Duration
}

func (b backoff) failed(id fleet.ID, now time.Duration) {
	wait := min(max(2*b[id].wait, copyBackoff), copyBackoffMost)
	b[id] = backedOff{now + wait, wait}
}

func (b backoff) may(id fleet.ID, now time.Duration) bool { return b[id].until <= now }

// copyRecordings brings recordings to servers, one at a time, until ctx ends.
func (a *Agent) copyRecordings(ctx context.Context) {
	w := &a.sessions.wanting
	w.add(a.sessions.shell.Wanting()...)
	tick := time.NewTicker(copyAgain)
	defer tick.Stop()
	tried := backoff{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.wake:
		case <-tick.C:
		}
		for _, id := range w.all() {
			for a.copyRecording(ctx, id, tried) {
			}
		}
	}
}

// copyRecording tries to make one more copy of a recording, and reports whether there was a server to try.
func (a *Agent) copyRecording(ctx context.Context, id fleet.UUID, tried backoff) bool {
	c := a.sessions.shell.CopiesOf(id)
	state, err := a.sessions.shell.Get(id)
	if err != nil || state.Ended == 0 || c.Want == 0 { // it is not there any more
		a.sessions.wanting.done(id)
		return false
	}
	now := a.cfg.Clock().Boot
	to, ok := node.NextCopy(id, c, a.otherServers(), a.stands, func(id fleet.ID) bool { return a.alive(id) && tried.may(id, now) })
	if !ok || ctx.Err() != nil {
		if node.CopiesMade(c, a.stands) {
			a.sessions.wanting.done(id)
		}
		return false
	}
	if err := a.sendRecordingCopy(ctx, to, state); err != nil {
		tried.failed(to, now)
		a.log.Debug("a recording was not taken", "session", id, "server", to, "err", err)
		switch fleet.KindOf(err) {
		case fleet.NotFound: // it is not kept here any more
		case fleet.Invalid: // it is not what was recorded: somebody changed it
			a.note(id, "copy", "%s does not take the recording: %v", a.nameOf(to), err)
			a.log.Warn("a server does not take the recording of a session", "session", id, "server", to, "err", err)
		default:
			return true
		}
		a.sessions.wanting.done(id)
		return false
	}
	delete(tried, to)
	c.At = append(c.At, to)
	a.complain("note the copy of a recording", a.sessions.shell.PutCopies(id, c))
	a.note(id, "copy", "the recording was copied to %s", a.nameOf(to))
	return true
}

func (a *Agent) otherServers() (out []fleet.ID) {
	for _, id := range a.servers() {
		if id != a.self {
			out = append(out, id)
		}
	}
	return out
}

// stands reports whether a node is one of the fleet.
func (a *Agent) stands(id fleet.ID) bool {
	_, err := a.record().Roster.Enrolled(id)
	return err == nil
}

// sendRecordingCopy returns when a server has a recording on its disk. NotFound: there is none here.
func (a *Agent) sendRecordingCopy(ctx context.Context, to fleet.ID, state node.SessionState) error {
	recording, err := a.sessions.shell.Recording(state.ID)
	if err != nil {
		return err
	}
	defer recording.Close()
	dial, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	s, err := a.peers.OpenBulk(dial, to)
	if err != nil {
		return fleet.Errorf(fleet.Unavailable, "no stream for a recording: %w", err)
	}
	defer s.Close()
	defer context.AfterFunc(ctx, func() { s.Close() })()
	silent := time.AfterFunc(recordingSilence, func() { s.Close() })
	defer silent.Stop()
	note := a.signer.Sign(auth.ForRecording, a.cfg.Fleet, node.NoteOf(state, a.self))
	if err := s.WriteFrame(askKeepRecording, wire.Marshal(node.SessionCopy{Key: a.signer.Public(), Note: note})); err != nil {
		return saidInstead(s, err)
	}
	var have recordingHaveBody
	if err := hearFrame(s, recordingHave, &have); err != nil || have.Kept {
		return err
	}
	if have.Bytes < 0 || have.Bytes > state.Recording.Bytes {
		return fleet.Errorf(fleet.Invalid, "%s says that it has %d of %d bytes", to, have.Bytes, state.Recording.Bytes)
	}
	if _, err := io.CopyN(io.Discard, recording, have.Bytes); err != nil {
		return fleet.Errorf(fleet.NotFound, "the recording is shorter than it was: %w", err)
	}
	if err := giveRecording(s, io.LimitReader(recording, state.Recording.Bytes-have.Bytes), silent); err != nil {
		return saidInstead(s, err)
	}
	silent.Reset(recordingSettles)
	return hearFrame(s, recordingKept, nil)
}

func giveRecording(s Stream, from io.Reader, silent *time.Timer) error {
	buf := make([]byte, recordingPiece)
	for {
		n, err := io.ReadFull(from, buf)
		if n > 0 {
			if err := s.WriteFrame(recordingData, buf[:n]); err != nil {
				return err
			}
			silent.Reset(recordingSilence)
		}
		switch {
		case err == io.EOF || errors.Is(err, io.ErrUnexpectedEOF):
			return s.WriteFrame(recordingEnd, nil)
		case err != nil:
			return err
		}
	}
}

// saidInstead is what the peer said while it took nothing more, or err.
func saidInstead(s Stream, err error) error {
	if _, _, said := s.ReadFrame(); said != nil && fleet.KindOf(said) != fleet.Internal && !errors.Is(said, io.EOF) {
		return said
	}
	return err
}

// hearFrame reads a frame of a kind into body, which may be nil.
func hearFrame(s Stream, kind byte, body any) error {
	got, data, err := s.ReadFrame()
	switch {
	case errors.Is(err, io.EOF):
		return fleet.Errorf(fleet.Unavailable, "the stream ended too soon")
	case err != nil:
		return err
	case got != kind:
		return fleet.Errorf(fleet.Invalid, "frame of kind %d in place of one of kind %d", got, kind)
	case body == nil:
		return nil
	}
	return wire.Unmarshal(data, body)
}

// keepRecording takes a recording of the peer's own.
func (a *Agent) keepRecording(s Stream, body []byte) error {
	kept, err := a.judgeRecording(s.Peer(), body)
	if err != nil {
		return err
	}
	in, err := a.sessions.archive.Take(kept)
	if err != nil {
		return err
	}
	defer in.Close()
	have, all := in.Have()
	if err := s.WriteFrame(recordingHave, wire.Marshal(recordingHaveBody{have, all})); err != nil || all {
		return err
	}
	silent := time.AfterFunc(recordingSilence, func() { s.Close() })
	defer silent.Stop()
	for {
		kind, data, err := s.ReadFrame()
		if err != nil {
			return err
		}
		switch kind {
		case recordingData:
			if _, err := in.Write(data); err != nil {
				return err
			}
			silent.Reset(recordingSilence)
		case recordingEnd:
			silent.Stop()
			if err := in.Commit(); err != nil {
				return err
			}
			return s.WriteFrame(recordingKept, nil)
		default:
			return fleet.Errorf(fleet.Invalid, "frame of kind %d within a recording", kind)
		}
	}
}

// judgeRecording verifies what a peer wants to be kept: a recording of its own, as the fleet's setting has it.
func (a *Agent) judgeRecording(peer fleet.ID, body []byte) (kept node.CopyKept, err error) {
	if a.sessions.archive == nil {
		return kept, fleet.Errorf(fleet.Unavailable, "%s keeps no recordings of others", a.cfg.Name)
	}
	if err := wire.Unmarshal(body, &kept.Copy); err != nil {
		return kept, err
	}
	if kept.Note, err = node.OpenSessionCopy(kept.Copy, a.cfg.Fleet); err != nil {
		return kept, err
	}
	if _, err := a.record().Roster.Enrolled(peer); err != nil { // one that only showed its enrolment comes again
		return kept, err
	}
	switch {
	case kept.Note.Node != peer:
		return kept, fleet.Errorf(fleet.Denied, "a node gives recordings of its own")
	case node.WantsCopies(kept.Note.Session, a.record().Settings) == 0:
		return kept, fleet.Errorf(fleet.Denied, "no copies of such recordings are to be kept (session.copies)")
	}
	return kept, nil
}

// askCopies tells an operator of the copies of other nodes' recordings that are kept here, or gives him one.
func (a *Agent) askCopies(s SessionStream, read node.Read, reader node.SessionReader) error {
	if a.sessions.archive == nil {
		return s.WriteFrame(node.SessionAsk, node.EncodeSession(node.SessionCopies{}))
	}
	answer, err := node.AnswerCopies(read, reader, a.record(), a.sessions.archive.List(read.Arg))
	if err != nil {
		return err
	}
	if read.What == node.ReadCopies {
		return s.WriteFrame(node.SessionAsk, node.EncodeSession(answer))
	}
	recording, err := a.sessions.archive.Read(answer.Copies[0].Note.Key, read.Arg)
	if err != nil {
		return err
	}
	return a.pourRecording(s, node.EncodeSession(answer), recording, read.Arg)
}
