package runner

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node/fleet/wire"
)

// outputPace is how often at most the agent hears of new output.
const outputPace = 250 * time.Millisecond

// Supervise is the main function of a supervisor: main calls it before anything else when it is re-executed as
// Config.Self says, and exits with what it returns. It runs in the run folder, and is given the order, the end file and
// the socket as open files. The arguments only name the run for those who look at the process list.
func Supervise([]string) int {
	runtime.LockOSThread() // the child dies with the thread that forked it
	if err := supervise(); err != nil {
		fmt.Fprintln(os.Stderr, err) // into the run folder; the agent quotes it
		return 1
	}
	return 0
}

func supervise() error {
	keepDescriptors()
	s := &supervision{exited: make(chan os.Signal, 1), asked: make(chan struct{}), running: make(chan struct{}), over: make(chan struct{}),
		end: os.NewFile(endFD, endName)}
	signal.Notify(s.exited, unix.SIGCHLD)
	// Who stops the agent, its terminal or its session does not mean the run. (Ignoring them would pass on to the run.)
	signal.Notify(make(chan os.Signal, 1), unix.SIGHUP, unix.SIGINT, unix.SIGTERM, unix.SIGQUIT, unix.SIGPIPE)
	unix.Umask(0o077)
	unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0) // no core file: the order can hold secrets
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("cannot become a subreaper: %w", err)
	}
	if err := s.readOrder(); err != nil {
		return err
	}
	listener, err := net.FileListener(os.NewFile(listenerFD, socketName))
	if err != nil {
		return fmt.Errorf("no socket: %w", err)
	}
	go s.serve(listener)
	note, err := s.run()
	if err != nil {
		return err
	}
	if err := s.writeEnd(note); err != nil {
		return fmt.Errorf("the end cannot be written: %w", err)
	}
	s.hangUp(listener)
	s.cage.remove()
	os.Remove(scriptName)
	os.Remove(socketName)
	return nil
}

// keepDescriptors keeps the run from inheriting ours, and whatever the agent's own launcher left open.
func keepDescriptors() {
	if unix.CloseRange(orderFD, 1<<31-1, unix.CLOSE_RANGE_CLOEXEC) == nil {
		return
	}
	entries, _ := os.ReadDir("/proc/self/fd") // before Linux 5.11
	for _, e := range entries {
		if fd, err := strconv.Atoi(e.Name()); err == nil && fd >= orderFD {
			unix.CloseOnExec(fd)
		}
	}
}

// supervision is the one run of this process.
type supervision struct {
	o      order
	end    *os.File
	cage   container
	began  time.Time
	pid    int // of the child, once running is closed
	status *syscall.WaitStatus

	stdout, stderr *capture // once running is closed

	exited  chan os.Signal
	asked   chan struct{} // closed by the first cancel
	running chan struct{} // closed when the child runs
	over    chan struct{} // closed when the end is written

	once  sync.Once
	conns sync.WaitGroup
}

func (s *supervision) readOrder() error {
	f := os.NewFile(orderFD, "order")
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, 2*MaxSpec))
	if err != nil {
		return fmt.Errorf("the order cannot be read: %w", err)
	}
	if err := wire.Unmarshal(data, &s.o); err != nil {
		return fmt.Errorf("the order cannot be read: %w", err)
	}
	if s.o.Format != noteFormat {
		return fmt.Errorf("the order has format %d, this supervisor knows %d", s.o.Format, noteFormat)
	}
	return nil
}

// run does the work from the start mark to the child's end. An error means that nobody can say more than "unknown".
func (s *supervision) run() (endNote, error) {
	s.began = time.Now()
	at := hostCgroups()
	if s.o.Contain == containAny {
		joinSupervisors(at)
	}
	s.cage = makeContainer(at, s.o.Contain, s.o.Cgroup)
	err := s.writeStart()
	if errors.Is(err, os.ErrExist) {
		return endNote{}, fmt.Errorf("this run has a start mark already; it will not run twice")
	}
	if err != nil {
		os.Remove(startName)
		return s.notStarted(fmt.Errorf("not started, its start mark cannot be written: %w", bare(err))), nil
	}
	if err := s.startChild(); err != nil {
		return s.notStarted(err), nil
	}
	stopped := s.watch()
	var trouble []string
	if stopped != "" && !s.killAll() {
		trouble = append(trouble, "some of its processes cannot be killed")
	}
	s.stdout.finish()
	s.stderr.finish()
	note := outcome(stopped, s.status)
	note.Stdout, note.Stderr = s.stdout.sum(), s.stderr.sum()
	for _, why := range []string{s.stdout.why, s.stderr.why} {
		if why != "" {
			trouble = append(trouble, why)
		}
	}
	note.Detail = strings.Join(trouble, "; ")
	return s.seal(note), nil
}

// outcome judges a run by what stopped it ("" for its own end) and how its child exited (nil if that was never seen).
func outcome(stopped exec.Status, status *syscall.WaitStatus) endNote {
	n := endNote{Status: string(exec.Unknown), ExitCode: -1}
	switch {
	case status == nil:
	case status.Signaled():
		n.Status, n.Signal = string(exec.Failed), int(status.Signal())
	case status.ExitStatus() == 0:
		n.Status, n.ExitCode = string(exec.Success), 0
	default:
		n.Status, n.ExitCode = string(exec.Failed), status.ExitStatus()
	}
	if stopped != "" {
		n.Status = string(stopped)
	}
	return n
}

func (s *supervision) notStarted(err error) endNote {
	n := endNote{Status: string(exec.Failed), ExitCode: -1, Detail: err.Error()}
	if se, ok := errors.AsType[*startError](err); ok {
		n.ExitCode = se.code
	}
	return s.seal(n)
}

func (s *supervision) seal(n endNote) endNote {
	n.Format, n.Command, n.Started, n.Ended = noteFormat, s.o.Command, unixNano(s.began), unixNano(time.Now())
	n.Detail = strings.ToValidUTF8(n.Detail[:min(len(n.Detail), exec.MaxReason)], "")
	return n
}

// writeStart puts the start mark on the disk for good. Nothing of the run may exist before it.
func (s *supervision) writeStart() error {
	stat, err := readStat(os.Getpid())
	if err != nil {
		return err
	}
	f, err := os.OpenFile(startName, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Write(sealNote(startMark{Format: noteFormat, Command: s.o.Command, Digest: s.o.Digest, Issued: s.o.Issued, Expires: s.o.Expires,
		BootID: s.o.BootID, PID: os.Getpid(), StartTick: stat.start, Time: unixNano(s.began)})); err != nil {
		return err
	}
	return syncAll(f, ".", "..")
}

// writeEnd records how the run ended. Its block was written before the run, so a full disk does not matter.
func (s *supervision) writeEnd(n endNote) error {
	if _, err := s.end.WriteAt(sealNote(n), 0); err != nil {
		return err
	}
	return unix.Fdatasync(int(s.end.Fd()))
}

func syncAll(f *os.File, dirs ...string) error {
	if err := f.Sync(); err != nil {
		return err
	}
	for _, dir := range dirs {
		if err := syncDir(dir); err != nil {
			return err
		}
	}
	return nil
}

func (s *supervision) startChild() error {
	outR, outW, err := os.Pipe()
	if err != nil {
		return err
	}
	errR, errW, err := os.Pipe()
	if err != nil {
		return err
	}
	c, err := makeChild(s.o, outW, errW)
	if err != nil {
		return err
	}
	defer c.closeFiles()
	s.stdout, s.stderr = newCapture(outR, string(Stdout), s.o.MaxOutput), newCapture(errR, string(Stderr), s.o.MaxOutput)
	if s.pid, err = c.start(s.cage); err != nil {
		return err
	}
	go s.stdout.run()
	go s.stderr.run()
	close(s.running)
	return nil
}

// watch waits until the child has ended, or was stopped and had its grace; it returns what stopped it, or "".
func (s *supervision) watch() (stopped exec.Status) {
	due, asked := bootTimer(time.Duration(s.o.Timeout)), s.asked
	var mercy <-chan struct{}
	stop := func(why exec.Status) {
		if s.reap(); s.status != nil {
			return // it had ended before
		}
		stopped, due, asked = why, nil, nil
		unix.Kill(-s.pid, unix.SIGTERM)
		unix.Kill(-s.pid, unix.SIGCONT) // what is stopped cannot hear the SIGTERM
		mercy = bootTimer(time.Duration(s.o.Grace))
	}
	for {
		if s.reap(); s.status != nil && (stopped == "" || !s.groupAlive()) {
			return stopped
		}
		select {
		case <-s.exited:
		case <-due:
			stop(exec.TimedOut)
		case <-asked:
			stop(exec.Cancelled)
		case <-mercy:
			return stopped
		}
	}
}

// reap takes the exits of all children so far and reports whether any are left. It never blocks, and nothing else waits
// for children: a PID that was listed as a child cannot be another process before reap is called again.
func (s *supervision) reap() (left bool) {
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil:
			return false
		case pid == 0:
			return true
		case pid == s.pid:
			s.status = &status
		}
	}
}

func (s *supervision) groupAlive() bool {
	return !errors.Is(unix.Kill(-s.pid, 0), unix.ESRCH)
}

// killAll kills everything that the run started: the whole cgroup, and, cgroup or not, every child, where children of the
// dead become our own children, until none is left.
func (s *supervision) killAll() bool {
	unix.Kill(-s.pid, unix.SIGKILL)
	gone := s.cage.killAll()
	for range killRounds {
		if !s.reap() {
			return gone
		}
		for _, pid := range children() {
			unix.Kill(pid, unix.SIGKILL)
		}
		select {
		case <-s.exited:
		case <-time.After(killPause):
		}
	}
	return false
}

// bootTimer fires after d on the boot clock, which goes on while the host sleeps and which nobody can set.
func bootTimer(d time.Duration) <-chan struct{} {
	fired := make(chan struct{})
	fd, err := unix.TimerfdCreate(unix.CLOCK_BOOTTIME, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK)
	if err == nil {
		err = unix.TimerfdSettime(fd, 0, &unix.ItimerSpec{Value: unix.NsecToTimespec(max(1, int64(d)))}, nil)
	}
	if err != nil {
		time.AfterFunc(d, func() { close(fired) })
		return fired
	}
	f := os.NewFile(uintptr(fd), "timer")
	go func() {
		f.Read(make([]byte, 8))
		close(fired)
	}()
	return fired
}

// serve tells every agent that connects how the run goes, and hears its cancel.
func (s *supervision) serve(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		s.conns.Add(1)
		go s.hear(conn)
		go s.tell(conn)
	}
}

func (s *supervision) hear(conn net.Conn) {
	buf := make([]byte, 1)
	for {
		if _, err := conn.Read(buf); err != nil {
			return
		}
		if buf[0] == askCancel {
			s.once.Do(func() { close(s.asked) })
		}
	}
}

func (s *supervision) tell(conn net.Conn) {
	defer s.conns.Done()
	defer conn.Close()
	if !send(conn, frameHello, noteFormat, 0) {
		return
	}
	select {
	case <-s.running:
	case <-s.over:
		return
	}
	if !send(conn, frameStarted, uint64(s.pid), uint64(unixNano(s.began))) {
		return
	}
	pace := time.NewTicker(outputPace)
	defer pace.Stop()
	var told [2]int64
	for open := true; open; {
		select {
		case <-pace.C:
		case <-s.over:
			open = false
		}
		now := [2]int64{s.stdout.kept.Load(), s.stderr.kept.Load()}
		if now != told && !send(conn, frameOutput, uint64(now[0]), uint64(now[1])) {
			return
		}
		told = now
	}
}

func send(conn net.Conn, kind byte, a, b uint64) bool {
	conn.SetWriteDeadline(time.Now().Add(sendPatience))
	_, err := conn.Write(frame(kind, a, b))
	return err == nil
}

// hangUp ends the conversations; that is how agents hear of the end.
func (s *supervision) hangUp(l net.Listener) {
	l.Close()
	close(s.over)
	s.conns.Wait()
}
