package runner

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/exec/steps"

	"github.com/muster-fleet/muster/exec/cage"
)

// outputPace is how often at most the agent hears of new output.
const outputPace = 250 * time.Millisecond

// Supervise is the main function of a supervisor: main calls it before anything else when it is re-executed as
// Config.Self says, and exits with what it returns. It runs in the run folder, and is given the order, the end file and
// the socket as open files. The arguments only name the run for those who look at the process list.
func Supervise([]string) int {
	runtime.LockOSThread() // the child dies with the thread that forked it
	if err := supervise(); err != nil {
		fmt.Fprintln(os.Stderr, err) // into the run folder; the agent quotes it, so it is masked
		return 1
	}
	return 0
}

func supervise() (err error) {
	cage.KeepDescriptors(cage.OrderFD)
	s := &supervision{exited: make(chan os.Signal, 1), asked: make(chan struct{}), running: make(chan struct{}), over: make(chan struct{}),
		leave: make(chan os.Signal, 1), end: os.NewFile(cage.EndFD, endName)}
	signal.Notify(s.exited, unix.SIGCHLD)
	// Who stops the agent, its terminal or its session does not mean the run. (Ignoring them would pass on to the run.)
	signal.Notify(make(chan os.Signal, 1), unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGPIPE)
	signal.Notify(s.leave, unix.SIGTERM)
	unix.Umask(0o077)
	unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0) // no core file: the order can hold secrets
	if err := subreaper(true); err != nil {
		return fmt.Errorf("cannot become a subreaper: %w", err)
	}
	if err := s.readOrder(); err != nil {
		return err
	}
	if err := s.takeSecrets(); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.New(s.mask.text(err.Error()))
		}
	}()
	listener, err := net.FileListener(os.NewFile(cage.ListenerFD, socketName))
	if err != nil {
		return fmt.Errorf("no socket: %w", err)
	}
	go s.serve(listener)
	note, ended, err := s.run()
	if err != nil {
		return err
	}
	if ended {
		if err := s.writeEnd(note); err != nil {
			return fmt.Errorf("the end cannot be written: %w", err)
		}
	}
	s.hangUp(listener)
	s.cage.Remove()
	if ended {
		s.clearAway()
	}
	os.Remove(socketName)
	return nil
}

// supervision is the one run of this process.
type supervision struct {
	o       order
	end     *os.File
	cage    cage.Cage
	began   time.Time
	pid     int // of the child
	status  *syscall.WaitStatus
	late    bool         // nothing of it was started, and nothing may be any more
	fresh   bool         // with Resume: nothing of it had begun
	secrets [][]byte     // of the order, by number
	mask    *masker      // of the secrets; nil: there are none
	journal *stepJournal // nil for a plain run; once running is closed

	stdout, stderr *capture // once running is closed

	exited  chan os.Signal
	leave   chan os.Signal // SIGTERM: the host is going down, or somebody wants another supervisor. The step that runs is not touched
	asked   chan struct{}  // closed by the first cancel
	halted  atomic.Bool    // no further step begins
	family  family         // whose orphans are adopted
	running chan struct{}  // closed when the first child runs
	first   int            // PID of the first child, once running is closed
	over    chan struct{}  // closed when the end is written

	once  sync.Once
	conns sync.WaitGroup
}

func (s *supervision) readOrder() error {
	if err := cage.ReadOrder(2*MaxSpec, &s.o); err != nil {
		return err
	}
	if s.o.Format != orderFormat {
		return fmt.Errorf("the order has format %d, this supervisor knows %d", s.o.Format, orderFormat)
	}
	return nil
}

// run does the work from the start mark to the last step's end. It has not ended when it waits for the host's restart.
// An error means that nobody can say more than "unknown".
func (s *supervision) run() (note endNote, ended bool, err error) {
	s.began = time.Now()
	at := cage.Host()
	if s.o.Contain == cage.Any {
		cage.JoinSupervisors(at)
	}
	s.cage = cage.Make(at, s.o.Contain, s.o.Cgroup)
	s.cage.Worn = s.o.Resume
	if s.o.Plan.Plain() {
		note, err = s.runPlain()
		return note, true, err
	}
	return s.runPlan()
}

// runPlain runs one process: the start mark and the end block say all that there is to say.
func (s *supervision) runPlain() (endNote, error) {
	if err := s.writeStart(); err != nil {
		return s.notMarked(err)
	}
	e := s.attempt(0, time.Duration(s.o.Timeout))
	if s.late {
		return s.terminated(), nil
	}
	return s.note(steps.Outcome{Status: e.Status, ExitCode: e.ExitCode, Signal: e.Signal, Detail: e.Detail}), nil
}

// notMarked ends a run whose start mark cannot be written.
func (s *supervision) notMarked(err error) (endNote, error) {
	if errors.Is(err, os.ErrExist) {
		return endNote{}, fmt.Errorf("this run has a start mark already; it will not run twice")
	}
	os.Remove(startName)
	return s.note(failed("not started, its start mark cannot be written: " + bare(err).Error())), nil
}

func failed(detail string) steps.Outcome {
	return steps.Outcome{Status: steps.Failed, ExitCode: -1, Detail: detail}
}

// terminated is the end of a run that was not begun in time.
func (s *supervision) terminated() endNote {
	n := s.note(failed(tooLate))
	n.Status = string(exec.Terminated)
	return n
}

const tooLate = "its start came too late for its grant"

// isLate is asked right before the first process of the run: whoever recorded the start, or launched us, may have stood
// still since. A run that another supervisor takes up before anything began is late without looking at the clock, which may
// be another boot's.
func (s *supervision) isLate() bool {
	if s.o.By == 0 || s.first != 0 {
		return false
	}
	if s.o.Resume {
		return s.fresh
	}
	return cage.BootNow() > time.Duration(s.o.By)+lateStart
}

// note closes the outputs and describes the end of the run.
func (s *supervision) note(o steps.Outcome) endNote {
	n := endNote{Status: string(o.Status), ExitCode: o.ExitCode, Signal: o.Signal}
	why := []string{o.Detail}
	if s.stdout != nil {
		s.stdout.close()
		s.stderr.close()
		n.Stdout, n.Stderr = s.stdout.sum(), s.stderr.sum()
		why = append(why, s.stdout.why, s.stderr.why)
	}
	n.Detail = strings.Join(slices.DeleteFunc(why, func(s string) bool { return s == "" }), "; ")
	return s.seal(n)
}

// attempt runs a step's process to its end, and no longer than limit.
func (s *supervision) attempt(step int, limit time.Duration) steps.Ended {
	e := steps.Ended{Step: step, Status: steps.Failed, ExitCode: -1}
	from := cage.BootNow()
	s.pid, s.status = 0, nil
	if err := s.startChild(step); err != nil {
		if se, ok := errors.AsType[*startError](err); ok {
			e.ExitCode = se.code
			if se.foreign {
				e.Status = steps.InvalidPlatform
			}
		}
		e.Detail = err.Error()
	} else {
		stopped := s.watch(limit)
		if stopped != "" && !s.killAll() {
			e.Detail = "some of its processes cannot be killed"
		}
		s.stdout.detach()
		s.stderr.detach()
		e.Status, e.ExitCode, e.Signal = outcome(stopped, s.status)
	}
	if s.stdout != nil {
		e.Stdout, e.Stderr = s.stdout.written(), s.stderr.written()
	}
	e.Detail = s.mask.text(e.Detail)
	e.At, e.Ran = time.Now().UnixMilli(), milliseconds(cage.BootNow()-from)
	return e
}

// outcome judges an attempt by what stopped it ("" for its own end) and how its child exited (nil if that was never seen).
func outcome(stopped steps.Status, status *syscall.WaitStatus) (as steps.Status, code, signal int) {
	as, code = steps.Unknown, -1
	switch {
	case status == nil:
	case status.Signaled():
		as, signal = steps.Failed, int(status.Signal())
	case status.ExitStatus() == 0:
		as, code = steps.Success, 0
	default:
		as, code = steps.Failed, status.ExitStatus()
	}
	if stopped != "" {
		as = stopped
	}
	return as, code, signal
}

func (s *supervision) seal(n endNote) endNote {
	n.Format, n.Command, n.Started, n.Ended = noteFormat, s.o.Command, unixNano(s.began), unixNano(time.Now())
	n.Detail = s.mask.text(n.Detail)
	n.Detail = strings.ToValidUTF8(n.Detail[:min(len(n.Detail), exec.MaxReason)], "")
	return n
}

// writeStart puts the start mark on the disk for good. Nothing of the run may exist before it.
func (s *supervision) writeStart() error {
	stat, err := cage.ReadStat(os.Getpid())
	if err != nil {
		return err
	}
	f, err := os.OpenFile(startName, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Write(cage.SealNote(startMark{Format: noteFormat, Command: s.o.Command, Digest: s.o.Digest, Issued: s.o.Issued, Expires: s.o.Expires,
		BootID: s.o.BootID, PID: os.Getpid(), StartTick: stat.Start, Time: unixNano(s.began)})); err != nil {
		return err
	}
	return syncAll(f, ".", "..")
}

// writeEnd records how the run ended. Its block was written before the run, so a full disk does not matter.
func (s *supervision) writeEnd(n endNote) error {
	if _, err := s.end.WriteAt(cage.SealNote(n), 0); err != nil {
		return err
	}
	return unix.Fdatasync(int(s.end.Fd()))
}

func syncAll(f *os.File, dirs ...string) error {
	if err := f.Sync(); err != nil {
		return err
	}
	for _, dir := range dirs {
		if err := cage.SyncDir(dir); err != nil {
			return err
		}
	}
	return nil
}

func (s *supervision) startChild(step int) error {
	outR, outW, err := os.Pipe()
	if err != nil {
		return err
	}
	errR, errW, err := os.Pipe()
	if err != nil {
		return errors.Join(err, outR.Close(), outW.Close())
	}
	o, err := s.o.opened(step, s.secrets)
	if err == nil && o.Drop { // else the account could not open its own /dev/stderr
		err = errors.Join(outW.Chown(o.UID, o.GID), errW.Chown(o.UID, o.GID))
	}
	if err != nil {
		return errors.Join(err, outR.Close(), errR.Close(), outW.Close(), errW.Close())
	}
	c, err := makeChild(o, step, outW, errW)
	if err != nil {
		return errors.Join(err, outR.Close(), errR.Close(), outW.Close(), errW.Close())
	}
	defer c.closeFiles()
	if s.stdout == nil {
		s.stdout, s.stderr = newCapture(string(Stdout), s.o.MaxOutput, s.mask), newCapture(string(Stderr), s.o.MaxOutput, s.mask)
	}
	if s.late = s.isLate(); s.late {
		return errors.Join(&startError{detail: tooLate, code: -1}, outR.Close(), errR.Close())
	}
	s.family.adopt(s.o.Plan.Steps[step].Act != "")
	if s.pid, err = c.start(s.cage); err != nil {
		return errors.Join(err, outR.Close(), errR.Close())
	}
	s.stdout.attach(outR)
	s.stderr.attach(errR)
	if s.first == 0 {
		s.first = s.pid
		close(s.running)
	}
	return nil
}

// watch waits until the child has ended, or was stopped and had its grace; it returns what stopped it, or "".
func (s *supervision) watch(limit time.Duration) (stopped steps.Status) {
	due, asked := cage.BootTimer(limit), s.asked
	var mercy <-chan struct{}
	stop := func(why steps.Status) {
		if s.reap(); s.status != nil {
			return // it had ended before
		}
		stopped, due, asked = why, nil, nil
		unix.Kill(-s.pid, unix.SIGTERM)
		unix.Kill(-s.pid, unix.SIGCONT) // what is stopped cannot hear the SIGTERM
		mercy = cage.BootTimer(time.Duration(s.o.Grace))
	}
	for {
		if s.reap(); s.status != nil && (stopped == "" || !s.groupAlive()) {
			return stopped
		}
		select {
		case <-s.exited:
		case <-due:
			stop(steps.TimedOut)
		case <-asked:
			stop(steps.Cancelled)
		case <-mercy:
			return stopped
		}
	}
}

// reap takes the exits of all children so far, and reports whether any are left.
func (s *supervision) reap() (left bool) {
	its, left := cage.Reap(s.pid)
	if its != nil {
		s.status = its
		s.family.adopt(false)
	}
	return left
}

func (s *supervision) groupAlive() bool {
	return !errors.Is(unix.Kill(-s.pid, 0), unix.ESRCH)
}

// killAll kills everything that the run started.
func (s *supervision) killAll() bool { return s.cage.KillAll(s.pid, s.reap, s.exited) }

// milliseconds rounds up: an attempt that was stopped for its time has used all of it.
func milliseconds(d time.Duration) int64 {
	return max(0, int64((d+time.Millisecond-1)/time.Millisecond))
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
		switch buf[0] {
		case askCancel:
			s.once.Do(func() { close(s.asked) })
		case askHalt:
			s.halted.Store(true)
		case askLetGo:
			var so uint64
			if s.family.letGo() {
				so = 1
			}
			send(conn, frameLetGo, so, 0)
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
	if !send(conn, frameStarted, uint64(s.first), uint64(unixNano(s.began))) {
		return
	}
	pace := time.NewTicker(outputPace)
	defer pace.Stop()
	var told [2]int64
	var entries int64
	for open := true; open; {
		select {
		case <-pace.C:
		case <-s.over:
			open = false
		}
		if s.journal != nil {
			if n := s.journal.entries.Load(); n != entries {
				if entries = n; !send(conn, frameStep, uint64(n), 0) {
					return
				}
			}
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
