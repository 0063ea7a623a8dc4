package session

import (
	"bytes"
	"crypto/sha256"
	"io"
	"os"

	"github.com/muster-fleet/muster/exec/cage"
	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/session/cast"
)

// copiesName is the file that says which servers are to have copies of a session's recording, and which have.
const copiesName = "copies"

// PutCopies keeps what is known of the copies of an ended session's recording; it is on the disk when it returns nil.
func (s *Sessions) PutCopies(id fleet.UUID, c node.RecordingCopies) error {
	dir := s.folder(id)
	temp := dir.path(copiesName + ".new")
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err == nil {
		_, err = f.Write(cage.SealNote(c))
		if err == nil {
			err = f.Sync()
		}
		f.Close()
	}
	if err == nil {
		err = os.Rename(temp, dir.path(copiesName))
	}
	if err == nil {
		err = cage.SyncDir(string(dir))
	}
	if err != nil {
		return fleet.Errorf(fleet.Unavailable, "the copies of the recording of session %s cannot be noted: %w", id, err)
	}
	return nil
}

// CopiesOf returns what PutCopies kept; the zero value: nothing.
func (s *Sessions) CopiesOf(id fleet.UUID) (c node.RecordingCopies) {
	data, err := os.ReadFile(s.folder(id).path(copiesName))
	if err != nil || cage.OpenNote(data, &c) != nil {
		return node.RecordingCopies{}
	}
	return c
}

// Wanting lists the sessions whose recordings are to have more copies than they have.
func (s *Sessions) Wanting() (out []fleet.UUID) {
	for _, id := range s.all() {
		if c := s.CopiesOf(id); c.Want > len(c.At) {
			out = append(out, id)
		}
	}
	return out
}

// want notes that the recording of a session that has ended is to be copied.
func (s *Sessions) want(id fleet.UUID, state node.SessionState) {
	if s.cfg.Wants == nil {
		return
	}
	n := s.cfg.Wants(state)
	if n == 0 {
		return
	}
	c := s.CopiesOf(id) // there may be some already: the end may be told twice
	c.Want = n
	if err := s.PutCopies(id, c); err != nil {
		s.cfg.Log.Warn("the recording of a session will not be copied", "session", id.String(), "err", err)
	}
}

// summed says what there is of a recording that nobody closed: its writer died. From now on it is to be that, and no other.
func (f folder) summed() (r node.SessionRecording) {
	file, err := os.Open(f.path(recordingName))
	if err != nil {
		return r
	}
	defer file.Close()
	var first bytes.Buffer
	sum := sha256.New()
	r.Bytes, err = io.Copy(sum, io.TeeReader(io.LimitReader(file, int64(cast.SealedHead)), &first))
	if err == nil {
		var rest int64
		rest, err = io.Copy(sum, file)
		r.Bytes += rest
	}
	if r.Sealed = cast.IsSealed(first.Bytes()); err == nil {
		r.Digest = fleet.ID(sum.Sum(nil))
	}
	return r
}
