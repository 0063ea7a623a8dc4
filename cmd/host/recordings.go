package host

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/muster-fleet/muster/exec/outlet"
	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/agent"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/session/archive"
	"github.com/muster-fleet/muster/node/session/cast"
)

// pruneRecordings is how often a server looks for copies of recordings that go.
const pruneRecordings = time.Hour

// recordings is what becomes of them when their sessions have ended.
type recordings struct {
	leaving *outlet.Queue    // what leaves the fleet; nil: nothing does
	archive *archive.Archive // of other nodes' recordings; nil on a host that is no server
}

// makeRecordings opens what brings recordings elsewhere, and keeps those of others. A host can do without either.
func (h *Host) makeRecordings(shells *agent.Shells, server bool) {
	var err error
	h.leaving, err = outlet.OpenQueue(outlet.Config{
		Dir: filepath.Join(h.opts.Dir, leavingName), Node: h.Name, Options: outlet.Options{Getenv: os.Getenv}, Streams: outlet.StreamsOf,
		Open: h.openRecording, Told: h.Agent.RecordingTold, Delayed: h.Agent.RecordingTold, Log: h.opts.Log,
	})
	if err != nil {
		h.opts.Log.Warn("no recordings of sessions are copied from here", "err", err)
	}
	dir := filepath.Join(h.opts.Dir, archiveName)
	if _, err := os.Lstat(dir); err != nil && !server { // one that was a server still tells of what it has
		return
	}
	h.archive, err = archive.Open(archive.Config{
		Dir: dir, Log: h.opts.Log, Room: func() archive.Room {
			room := archive.DefaultRoom()
			room.Age = h.Agent.Record().Settings.SessionKeep()
			return room
		},
	})
	if err != nil {
		h.opts.Log.Warn("no recordings of other hosts' sessions are kept here", "err", err)
		return
	}
	shells.Archive = archived{h.archive}
}

// archived lets the agent use the archive.
type archived struct{ *archive.Archive }

// Take is the archive's.
func (a archived) Take(kept node.CopyKept) (agent.IncomingRecording, error) {
	in, err := a.Archive.Take(kept)
	if err != nil {
		return nil, err
	}
	return in, nil
}

// wantsCopies says how many servers are to have a copy of a session's recording.
func (h *Host) wantsCopies(s node.SessionState) int {
	return node.WantsCopies(s, h.Agent.Record().Settings)
}

// sessionEnded sends the recording of a session on its way out, as the fleet's setting has it.
func (h *Host) sessionEnded(s node.SessionState) {
	to := h.Agent.Record().Settings.SessionTo()
	if q := h.leaving; to != "" && q != nil && s.Recording.Bytes > 0 {
		if err := q.Expect(s.ID, to); err != nil {
			h.Agent.RecordingTold(s.ID, to, err)
		}
		q.Ready(s.ID)
	}
	h.Agent.SessionEnded(s)
}

// runRecordings works until ctx ends.
func (h *Host) runRecordings(ctx context.Context) {
	var all sync.WaitGroup
	defer all.Wait()
	if q := h.leaving; q != nil {
		all.Go(func() { q.Run(ctx) })
	}
	if h.archive == nil {
		return
	}
	tick := time.NewTicker(pruneRecordings)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			h.archive.Prune()
		}
	}
}

// openRecording reads what is copied of a session that has ended, and how much that is.
func (h *Host) openRecording(id fleet.UUID, stream string) (io.ReadCloser, int64, error) {
	if h.sessions == nil {
		return nil, 0, fleet.Errorf(fleet.Unavailable, "this host's sessions are not there yet")
	}
	state, err := h.sessions.Get(id)
	if err != nil {
		return nil, 0, err
	}
	if stream == outlet.StreamLines {
		return h.openLines(state)
	}
	recording, err := h.sessions.Recording(id)
	return recording, state.Recording.Bytes, err
}

// openLines gives a session in lines: who and what, and then what was entered, connected and copied. Nobody here can read what is
// sealed; then there is its digest.
func (h *Host) openLines(s node.SessionState) (io.ReadCloser, int64, error) {
	head := headLine(s)
	if s.Recording.Sealed {
		head += fmt.Sprintf("-\tmuster\tthe recording is sealed to auditors: %d bytes, SHA-256 %s\n", s.Recording.Bytes, s.Recording.Digest.Text())
		return io.NopCloser(strings.NewReader(head)), int64(len(head)), nil
	}
	var n counter
	if err := h.writeLines(&n, s.ID, head); err != nil {
		return nil, 0, err
	}
	r, w := io.Pipe()
	go func() { w.CloseWithError(h.writeLines(w, s.ID, head)) }()
	return r, int64(n), nil
}

func (h *Host) writeLines(w io.Writer, id fleet.UUID, head string) error {
	recording, err := h.sessions.Recording(id)
	if err != nil {
		return err
	}
	defer recording.Close()
	if _, err := io.WriteString(w, head); err != nil {
		return err
	}
	r, err := cast.Open(recording, nil)
	if err != nil {
		return err
	}
	return cast.Export(w, r, cast.FormatCommands)
}

func headLine(s node.SessionState) string {
	who := s.Operator + " from " + s.From
	if s.User != "" {
		who += " as " + s.User
	}
	line := fmt.Sprintf("%s\tsession\tby %s: %s; permitted by %s", time.UnixMilli(s.Started).UTC().Format("2006-01-02T15:04:05.000Z"), who, s.Text(), s.Rule)
	if s.Reason != "" {
		line += "; " + s.Reason
	}
	return strings.ReplaceAll(line, "\n", `\n`) + "\n"
}

// counter counts what is written.
type counter int64

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}
