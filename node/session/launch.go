package session

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/muster-fleet/muster/exec/cage"
	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/fleet"
)

// startPatience is how long a supervisor may take to start its program, and an agent to ask how it went: much longer than
// either needs on a host that is overloaded.
const startPatience = 20 * time.Second

func itoa(n int32) string { return strconv.Itoa(int(n)) }

// launch makes the folder and starts the supervisor. It returns a connection that follows it once the program runs. With an
// error, nothing is left.
func (s *Sessions) launch(ctx context.Context, o order, note about) (_ net.Conn, err error) {
	id := o.Session.ID
	dir := s.folder(id)
	p, err := dir.prepare(note)
	if err != nil {
		return nil, s.notPrepared(id, err)
	}
	defer p.Close()
	defer func() {
		if err != nil {
			s.undo(id, p)
		}
	}()
	if err := s.startSupervisor(dir, p, o); err != nil {
		return nil, fleet.Errorf(fleet.Unavailable, "cannot launch the supervisor of session %s: %w", id, err)
	}
	p.Close() // from now on the lock is the supervisor's alone
	settled := s.settle(dir, id)
	if o.Session.Record == node.RecordDurable {
		<-settled
	}
	conn, _, err := s.ask(ctx, id, ask{Kind: askFollow})
	if err == nil {
		return conn, nil
	}
	if _, ok := errors.AsType[*fleet.Error](err); ok {
		return nil, err
	}
	if words := dir.lastWords(); words != "" {
		err = errors.New(words)
	}
	return nil, fleet.Errorf(fleet.Unavailable, "session %s could not be started: %w", id, err)
}

// settle brings the folder to the disk while the supervisor starts: a session that a power cut takes back is no loss that
// a person should wait for, unless policy wants its record to last.
func (s *Sessions) settle(dir folder, id fleet.UUID) <-chan struct{} {
	done := make(chan struct{})
	s.wg.Go(func() {
		defer close(done)
		if err := dir.settle(); err != nil && !errors.Is(err, fs.ErrNotExist) { // it was not opened after all
			s.cfg.Log.Warn("the folder of a session is not on the disk yet", "session", id.String(), "err", err)
		}
	})
	return done
}

// undo ends whatever was begun, and forgets the session: it was not opened.
func (s *Sessions) undo(id fleet.UUID, p *cage.Given) {
	p.Close()
	dir := s.folder(id)
	if conn, _, err := s.ask(s.ctx, id, ask{Kind: askKill, Text: "it was not wanted any more"}); err == nil {
		conn.Close()
	}
	gone := time.Now().Add(startPatience)
	for dir.alive() && time.Now().Before(gone) {
		time.Sleep(10 * time.Millisecond)
	}
	s.bury(id)
	if err := os.RemoveAll(string(dir)); err != nil {
		s.cfg.Log.Warn("the folder of a session that was not opened cannot be removed", "session", id.String(), "err", err)
	}
}

// bury kills what a session left whose supervisor is dead.
func (s *Sessions) bury(id fleet.UUID) {
	cage.KillLeftovers(cage.Name(string(s.folder(id))), MarkVar+"="+id.String(), s.cfg.Log)
}

func (s *Sessions) notPrepared(id fleet.UUID, err error) error {
	switch {
	case errors.Is(err, fs.ErrExist):
		return again(id)
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return fleet.Errorf(fleet.Exhausted, "no room on the disk for a session: %w", err).Hinted("free space on the disk of %s", s.cfg.Dir)
	}
	return fleet.Errorf(fleet.Internal, "cannot make the folder of a session: %w", err)
}

// startSupervisor starts it.
func (s *Sessions) startSupervisor(dir folder, p *cage.Given, o order) error {
	process, err := p.Start(append(slices.Clone(s.cfg.Self), o.Session.ID.String()), string(dir), o)
	if err != nil {
		return err
	}
	go reap(process) // it may outlive Sessions, so nobody waits for this goroutine
	return nil
}

// reap takes the exit of a supervisor. It waits for it as for a socket: Wait would hold a thread for as long as the session
// lasts.
func reap(process *os.Process) {
	if fd, err := unix.PidfdOpen(process.Pid, unix.PIDFD_NONBLOCK); err == nil { // Linux 5.10
		f := os.NewFile(uintptr(fd), "supervisor")
		defer f.Close()
		if raw, err := f.SyscallConn(); err == nil {
			_ = raw.Read(hasExited) // where it fails, Wait waits
		}
	}
	_, _ = process.Wait() // how it exited, its end file says better
}

// hasExited reports whether the process of a handle has.
func hasExited(fd uintptr) bool {
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
	return n > 0 || err != nil && !errors.Is(err, unix.EINTR)
}
