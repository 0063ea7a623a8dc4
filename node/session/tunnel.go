package session

import (
	"os"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/session/cast"
)

// tunnel is what the disk has of a session of kind SessionForward. Nothing runs in one, so it has no supervisor: this process
// holds the lock of its end file, and if it dies, the tunnel has ended.
type tunnel struct {
	about  about
	end    *os.File // locked
	sealed bool
	over   bool // with Sessions.mu

	begun chan struct{} // closed when it is known whether there is a tape
	tape  *cast.Writer  // once begun; nil: none

	mu     sync.Mutex
	dials  int64
	recent []node.SessionConnection
}

// OpenTunnel keeps a session of kind SessionForward, which the caller serves: until EndTunnel, List and Known leave it out.
// Errors are Conflict for a session that was opened before, Exhausted for a full disk.
func (s *Sessions) OpenTunnel(o node.SessionOrder) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.wg.Done()
	x := &tunnel{about: about{Format: noteFormat, State: o.State(), Opened: s.boot}, sealed: len(o.Auditors) > 0, begun: make(chan struct{})}
	if err := s.register(o); err != nil {
		return err
	}
	var err error
	if x.end, err = s.folder(o.ID).prepareTunnel(x.about); err != nil {
		s.forget(o.ID)
		return s.notPrepared(o.ID, err)
	}
	s.mu.Lock()
	s.tunnels[o.ID] = x
	s.mu.Unlock()
	s.settle(s.folder(o.ID), o.ID)
	s.wg.Go(func() { s.beginTape(x, o) })
	return nil
}

// beginTape begins the recording behind the opening: it waits for the disk.
func (s *Sessions) beginTape(x *tunnel, o node.SessionOrder) {
	defer close(x.begun)
	if o.Unrecorded != "" { // nobody could read it who should, and others must not
		s.cfg.Log.Warn("a tunnel is not recorded", "session", o.ID.String(), "why", o.Unrecorded)
		return
	}
	header := order{Session: o, Node: s.cfg.Node, NodeName: s.cfg.NodeName()}.header()
	tape, err := cast.Create(s.folder(o.ID).path(recordingName), header, cast.Options{Auditors: o.Auditors})
	if err != nil {
		s.cfg.Log.Warn("a tunnel is not recorded", "session", o.ID.String(), "err", err)
		return
	}
	x.tape = tape
}

// TunnelConnection records a connection of a tunnel that has ended.
func (s *Sessions) TunnelConnection(id fleet.UUID, c node.SessionConnection) {
	s.mu.Lock()
	x := s.tunnels[id]
	if x == nil || x.over {
		s.mu.Unlock()
		return
	}
	s.mu.Unlock()
	x.mu.Lock()
	x.dials++
	x.recent = append(x.recent, inEnd(c))
	x.recent = x.recent[max(len(x.recent)-maxEndRecent, 0):]
	x.mu.Unlock()
	<-x.begun
	if x.tape == nil {
		return
	}
	_ = x.tape.Mark(cast.MarkConnection, c.Text()) // Flush says what is wrong, too
	if err := x.tape.Flush(); err != nil {
		s.cfg.Log.Warn("a connection of a tunnel is not recorded", "session", id.String(), "err", err)
	}
}

// maxEndRecent is how many connections stand in an end, so that it fits into its block; maxEndText bounds their texts, in bytes.
const (
	maxEndRecent = 8
	maxEndText   = 120
)

// inEnd returns a connection as an end has it.
func inEnd(c node.SessionConnection) node.SessionConnection {
	for _, text := range []*string{&c.To, &c.From, &c.Why} {
		*text = strings.ToValidUTF8((*text)[:min(len(*text), maxEndText)], "")
	}
	return c
}

// EndTunnel writes down that a tunnel has ended, as state has it, and tells of it as of every end.
func (s *Sessions) EndTunnel(state node.SessionState) {
	s.mu.Lock()
	x := s.tunnels[state.ID]
	if x == nil || x.over {
		s.mu.Unlock()
		return
	}
	x.over = true
	s.mu.Unlock()
	defer func() { // until then it is its server's: here it would be one that runs
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.tunnels, state.ID)
	}()
	defer x.end.Close()
	<-x.begun
	e := ending{Session: state.ID, Ended: state.Ended, Active: state.Active, In: state.In, Out: state.Out, Code: state.Code, Why: state.Why,
		Dials: x.dials, Recent: x.recent}
	if x.tape != nil {
		sum, err := x.tape.Close(cast.End{Code: state.Code, Why: state.Why})
		if err != nil {
			s.cfg.Log.Warn("the recording of a tunnel is not whole", "session", state.ID.String(), "err", err)
		}
		e.Recording = node.SessionRecording{Bytes: sum.Bytes, Digest: sum.Digest, Sealed: x.sealed, Left: sum.Missing + sum.Omitted}
	}
	_, err := x.end.WriteAt(e.sealed(), 0)
	if err == nil {
		err = unix.Fdatasync(int(x.end.Fd()))
	}
	if err != nil {
		s.cfg.Log.Error("the end of a tunnel cannot be recorded", "session", state.ID.String(), "err", err)
	}
	s.ended(state.ID, e.put(x.about.State))
}
