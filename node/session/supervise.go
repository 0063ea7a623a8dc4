package session

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/muster-fleet/muster/exec/cage"
	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/session/cast"
	"github.com/muster-fleet/muster/node/session/flow"
	"github.com/muster-fleet/muster/node/session/line"
)

// Supervise is the main function of a supervisor: main calls it before anything else when it is re-executed as Config.Self
// says, and exits with what it returns. It runs in the session's folder, and is given the order, the end file and the socket
// as open files. The arguments only name the session for those who look at the process list.
func Supervise([]string) int {
	runtime.LockOSThread() // the child dies with the thread that forked it
	if err := supervise(); err != nil {
		fmt.Fprintln(os.Stderr, err) // into the session's folder; the agent quotes it
		return 1
	}
	return 0
}

// supervision is the one session of this process.
type supervision struct {
	o    order
	end  *os.File
	cage cage.Cage
	line *line.End
	tape *tape
	seen *gallery

	child  *child
	status *syscall.WaitStatus // of the program; nil: nobody has taken it yet

	exited  chan os.Signal // SIGCHLD
	leave   chan os.Signal // SIGTERM: the host is going down, or somebody on it means it
	asked   chan string    // why the session is to end
	changed chan struct{}  // who is attached, or what they have, is another
	began   chan struct{}  // closed when the program runs, or it is known that it cannot
	over    chan struct{}  // closed when the end is written
	failed  error          // why it cannot, once began is closed
	heard   chan struct{}  // closed when somebody was told of failed
	hearing sync.Once
	conns   sync.WaitGroup

	mu       sync.Mutex
	dead     bool         // the program's PID may become another's: nothing is sent to it
	rest     []flow.Frame // what the program wrote before it died and the line had no room for
	cut      bool         // some of that was more than is kept
	parting  []flow.Frame // what is told behind it
	attached int
	left     time.Duration // on the boot clock: since when nobody is attached

	active atomic.Int64 // on the boot clock
	in     atomic.Int64 // bytes
	out    atomic.Int64
}

func supervise() error {
	cage.KeepDescriptors(cage.OrderFD)
	s := &supervision{exited: make(chan os.Signal, 1), leave: make(chan os.Signal, 1), asked: make(chan string, 1), changed: make(chan struct{}, 1),
		began: make(chan struct{}), over: make(chan struct{}), heard: make(chan struct{}), end: os.NewFile(cage.EndFD, endName)}
	signal.Notify(s.exited, unix.SIGCHLD)
	signal.Notify(s.leave, unix.SIGTERM)
	// Who stops the agent or its terminal does not mean the session. (Ignoring them would pass on to the program.)
	signal.Notify(make(chan os.Signal, 1), unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGPIPE, unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU)
	unix.Umask(0o022) // the program's; every file of ours names its mode
	unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("cannot become a subreaper: %w", err)
	}
	if err := s.readOrder(); err != nil {
		return err
	}
	listener, err := net.FileListener(os.NewFile(cage.ListenerFD, socketName))
	if err != nil {
		return fmt.Errorf("no socket: %w", err)
	}
	now := cage.BootNow()
	s.left = now
	s.active.Store(int64(now))
	s.seen = newGallery(s.o.header(), func() time.Duration { return cage.BootNow() - now })
	s.line = line.New(flow.ToProgram, flow.Window(s.o.terminal()), s.urgent)
	s.conns.Go(func() { s.serve(listener) })
	err = s.run(now)
	s.line.Close()
	listener.Close()
	s.conns.Wait()
	s.cage.Remove()
	os.Remove(socketName)
	return err
}

func (s *supervision) readOrder() error {
	if err := cage.ReadOrder(maxOrder, &s.o); err != nil {
		return err
	}
	if s.o.Format != noteFormat {
		return fmt.Errorf("the order has format %d, this supervisor knows %d", s.o.Format, noteFormat)
	}
	return nil
}

// run does the work from the fork to the last word.
func (s *supervision) run(began time.Duration) error {
	if err := s.begin(); err != nil {
		code, why, ok := notStarted(err)
		if !ok {
			s.failed = err
			close(s.began)
			return s.awaitHeard()
		}
		close(s.began)
		s.notice(why) // as a shell would, and then its exit code: nobody ended this session
		return s.finish(flow.Exit{Code: code}, nil)
	}
	alive, dead := context.WithCancel(context.Background())
	defer dead()
	pumped := s.startPumps(alive)
	go s.feed(alive)
	close(s.began)
	why := s.watch(began)
	s.bury(pumped)
	dead()
	rest := s.drain(pumped)
	s.child.close()
	exit := flow.Exit{Why: why}
	exit.Code, exit.Signal = statusOf(s.status)
	return s.finish(exit, rest)
}

// awaitHeard leaves the agent time to hear why nothing was begun; it removes the folder.
func (s *supervision) awaitHeard() error {
	select {
	case <-s.heard:
		return nil
	case <-time.After(startPatience):
		return s.failed
	}
}

// begin starts recording and program. Where the recording may fail, the program need not wait for its disk; what it writes does.
func (s *supervision) begin() (err error) {
	taped := make(chan error, 1)
	open := func() {
		var err error
		s.tape, err = openTape(s.o, recordingName, s.notice, s.stop)
		taped <- err
	}
	if s.o.Session.Record != node.RecordDurable {
		go open()
	} else if open(); s.tape == nil {
		return <-taped
	}
	at := cage.Host()
	if s.o.Contain == cage.Any {
		cage.JoinSupervisors(at)
	}
	s.cage = cage.Make(at, s.o.Contain, s.o.Cgroup)
	s.child, err = startChild(s.o, s.cage)
	<-taped // if it cannot be had and need not, the human was told
	return err
}

// watch waits until the program has ended, or had to and had its mercy. It returns why it had to, or "".
func (s *supervision) watch(began time.Duration) (why string) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	stages := []unix.Signal{unix.SIGHUP, unix.SIGTERM}
	var mercy <-chan struct{}
	stop := func(because string) {
		if why == "" && !s.hasEnded() {
			why, mercy = because, closed()
		}
	}
	for {
		if s.reapOthers(); s.hasEnded() {
			return why
		}
		if why == "" {
			because, again := s.life(began).judge()
			if because != "" {
				stop(because)
			}
			timer.Reset(again)
		}
		select {
		case <-s.exited:
		case <-timer.C:
		case <-s.changed:
		case because := <-s.asked:
			stop(because)
		case <-s.leave:
			stop("this node goes down, or somebody on it ended the session")
		case <-mercy:
			if len(stages) == 0 {
				return why // to be buried
			}
			s.hurry(stages[0], why, len(stages) == 2)
			stages, mercy = stages[1:], cage.BootTimer(s.o.Timing.Mercy)
		}
	}
}

func closed() <-chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}

// hurry asks the program to end, and tells the human the first time.
func (s *supervision) hurry(with unix.Signal, why string, first bool) {
	if first {
		s.notice("this session ends: " + why)
		s.tape.mark("the session ends: " + why)
	}
	s.signal(with)
	s.signal(unix.SIGCONT) // what is stopped hears nothing
}

// signal reaches the program's group, and the group before its terminal.
func (s *supervision) signal(n unix.Signal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dead {
		return
	}
	s.signalForeground(n)
	unix.Kill(-s.child.pid, n) // nobody else can have this number: its exit has not been taken
}

// signalJob reaches what the operator sees: the group before the terminal, or the program's. Whoever hangs up means all.
func (s *supervision) signalJob(n unix.Signal) {
	if n == unix.SIGHUP {
		s.signal(n)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.dead && !s.signalForeground(n) {
		unix.Kill(-s.child.pid, n)
	}
}

// signalForeground reaches the group before the terminal, where that is another than the program's, and reports whether it
// did.
func (s *supervision) signalForeground(n unix.Signal) bool {
	if s.child.screen == nil {
		return false
	}
	group := s.child.screen.foreground()
	return group > 1 && group != s.child.pid && signalGroup(s.child.pid, group, n)
}

func (s *supervision) life(began time.Duration) life {
	o := s.o.Session
	s.mu.Lock()
	defer s.mu.Unlock()
	return life{now: cage.BootNow(), began: began, active: time.Duration(s.active.Load()), left: s.left, attached: s.attached > 0,
		idle: milliseconds(o.Idle), most: milliseconds(o.Most), grace: milliseconds(o.Grace)}
}

func milliseconds(n int64) time.Duration { return time.Duration(n) * time.Millisecond }

// bury kills what the program left, when its output had time to come: nothing of a session outlives it.
func (s *supervision) bury(pumped <-chan struct{}) {
	left := 0
	if s.hasEnded() {
		select {
		case <-pumped:
		case <-cage.BootTimer(s.o.Timing.Linger):
		}
		left = s.leftRunning()
	}
	if left > 0 {
		s.part(leftText(left))
	}
	s.mu.Lock()
	s.dead = true
	s.mu.Unlock()
	if !s.cage.KillAll(s.child.pid, s.reap, s.exited) {
		fmt.Fprintln(os.Stderr, "some of the session's processes cannot be killed")
	}
	s.child.unblock()
}

// leaving is how long what ends with the program may take to be gone.
const leaving = 50 * time.Millisecond

// leftRunning counts what the ended program left running.
func (s *supervision) leftRunning() (n int) {
	late := cage.BootTimer(leaving)
	for {
		s.reapOthers()
		if n = len(s.others()); n == 0 {
			return 0
		}
		select {
		case <-late:
			return n
		case <-s.exited:
		case <-time.After(leaving / 10): // what is in the cgroup need not be a child
		}
	}
}

// others lists the living processes of the session beside the program.
func (s *supervision) others() []int {
	pids := append(cage.Children(), s.cage.PIDs()...)
	slices.Sort(pids)
	return slices.DeleteFunc(slices.Compact(pids), func(pid int) bool { return pid == s.child.pid || pid == os.Getpid() })
}

func leftText(n int) string {
	if n == 1 {
		return "a process that was left running was ended with the session, and what it had still to write is lost"
	}
	return fmt.Sprintf("%d processes that were left running were ended with the session, and what they had still to write is lost", n)
}

// part tells the human something about the end, behind all output, and records it.
func (s *supervision) part(text string) {
	s.tape.mark(text)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.parting = append(s.parting, flow.Notice(text))
}

// drainTime bounds how long the dead program's output is read: somebody else may hold the other end, and never let go.
const drainTime = 2 * time.Second

// drain waits until all that the dead program wrote has been read, and returns what the line had no room for.
func (s *supervision) drain(pumped <-chan struct{}) []flow.Frame {
	select {
	case <-pumped:
	case <-cage.BootTimer(drainTime):
		for _, f := range s.child.output {
			_ = f.SetReadDeadline(time.Unix(1, 0)) // pipes and terminals have deadlines
		}
		<-pumped
		s.part("somebody outside the session has its output open; what comes of it from now on is lost")
	}
	if s.wasCut() {
		s.part("nobody read the output, and the last of it was more than is kept: its end is lost")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return append(s.rest, s.parting...)
}

func (s *supervision) wasCut() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cut
}

// finish records the end, says the last words, and waits until they were heard, or nobody is there to hear them.
func (s *supervision) finish(exit flow.Exit, rest []flow.Frame) error {
	ended := cage.BootNow()
	recording := s.tape.close(cast.End{Code: exit.Code, Signal: exit.Signal, Why: exit.Why})
	s.seen.end(cast.End{Code: exit.Code, Signal: exit.Signal, Why: exit.Why})
	recording.Sealed = recording.Bytes > 0 && len(s.o.Session.Auditors) > 0
	err := s.writeEnd(exit, recording)
	close(s.over)
	select {
	case <-s.asked: // before it had ended
	default:
	}
	heard := make(chan struct{})
	go func() {
		defer close(heard)
		for _, f := range append(rest, exit) {
			if s.line.Push(context.Background(), f) != nil {
				return // the line is closed, and with it the session
			}
		}
		_ = s.line.AwaitDrained(context.Background()) // likewise
	}()
	s.waitFor(ended, heard)
	return err
}

// waitFor waits until all was heard, as long as somebody may still want it.
func (s *supervision) waitFor(ended time.Duration, heard <-chan struct{}) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		s.mu.Lock()
		r := rest{now: cage.BootNow(), ended: ended, left: s.left, attached: s.attached > 0, stay: s.o.Timing.Stay, stall: s.o.Timing.Stall}
		s.mu.Unlock()
		over, again := r.over()
		if over {
			return
		}
		timer.Reset(again)
		select {
		case <-heard:
			return
		case <-timer.C:
		case <-s.changed:
		case <-s.asked: // whoever kills it does not want the rest
			return
		case <-s.leave:
			return
		}
	}
}

func (s *supervision) writeEnd(exit flow.Exit, recording node.SessionRecording) error {
	e := ending{Session: s.o.Session.ID, Ended: time.Now().UnixMilli(), Active: s.activeAt(), In: s.in.Load(), Out: s.out.Load(),
		Code: exit.Code, Signal: exit.Signal, Why: exit.Why, Recording: recording}
	if _, err := s.end.WriteAt(e.sealed(), 0); err != nil {
		return fmt.Errorf("the end cannot be written: %w", err)
	}
	return unix.Fdatasync(int(s.end.Fd()))
}

// activeAt turns the moment of the last input or output into Unix milliseconds.
func (s *supervision) activeAt() int64 {
	return time.Now().Add(time.Duration(s.active.Load()) - cage.BootNow()).UnixMilli()
}

// hasEnded reports whether the program has, and leaves its exit where it is: as long as nobody takes it, no other process
// and no other group can have its number.
func (s *supervision) hasEnded() bool {
	var info unix.Siginfo
	err := unix.Waitid(unix.P_PID, s.child.pid, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
	return err == nil && info.Signo != 0 || errors.Is(err, unix.ECHILD)
}

// reapOthers takes the exits of what the program left to us.
func (s *supervision) reapOthers() {
	for _, pid := range cage.Children() {
		if pid != s.child.pid {
			_, _ = syscall.Wait4(pid, nil, syscall.WNOHANG, nil) // it may live
		}
	}
}

// reap takes the exits of all children so far, and reports whether any are left.
func (s *supervision) reap() (left bool) {
	its, left := cage.Reap(s.child.pid)
	if its != nil {
		s.status = its
	}
	return left
}

// stop ends the session for a reason; the first one counts.
func (s *supervision) stop(why string) {
	select {
	case s.asked <- why:
	default:
	}
}

// notice tells the human, if there is room.
func (s *supervision) notice(text string) {
	s.line.TryPush(flow.Notice(text))
	s.seen.notice(text)
}

func (s *supervision) touch() { s.active.Store(int64(cage.BootNow())) }
