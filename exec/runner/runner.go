package runner

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node/fleet"

	"github.com/muster-fleet/muster/exec/cage"
)

// Defaults of Config.
const (
	DefaultMaxRunning = 32
	DefaultMaxQueued  = 256
	DefaultKeep       = 7 * 24 * time.Hour
	// DefaultKeepBytes is how much the folders of all runs may take on the disk.
	DefaultKeepBytes = 4 << 30
	// MaxKept is how many ended runs keep their folders, however young they are.
	MaxKept = 1000
	// pruneEvery is how often old run folders are looked for.
	pruneEvery = time.Hour
)

// Config says where and how to run commands.
type Config struct {
	Dir        string // the data folder; ledger and run folders lie in it
	Log        *slog.Logger
	Self       []string         // what re-executes this binary as a supervisor, for example {"/proc/self/exe", "supervise"}
	Now        func() time.Time // nil is time.Now
	MaxRunning int              // runs at a time; 0 is DefaultMaxRunning
	MaxQueued  int              // calls of Start that may wait for their turn; 0 is DefaultMaxQueued
	Keep       time.Duration    // how long an ended run's folder stays; 0 is DefaultKeep
	KeepBytes  int64            // how much the folders of all runs may take before the oldest ended go; 0 is DefaultKeepBytes
	Act        []string         // argv before the name of an act, for example {"/proc/self/exe", "act"}; empty: plans with acts are refused
	// Reboot restarts the host, or says why it cannot; it may return before the host is down. nil: this agent may not, and
	// a step that asks for a reboot fails. RebootHost is what agents use.
	Reboot func(ctx context.Context) error
	// Secret opens what Spec.Secrets names. An Unavailable error says that it may be opened later; any other is the last word.
	// nil: this agent opens none.
	Secret func(ctx context.Context, ref []byte) ([]byte, error)
	// Idle says why this host does nothing any more: no step of any run begins, whatever goes on ends as it ends. Empty: it works.
	Idle string

	// What follows is for this package's tests.
	wrap           func(file) file
	ledgerSize     int64
	grace          time.Duration
	contain        string
	afterBarrier   func()
	boot           string        // the host's boot ID
	patience       time.Duration // see rebootPatience
	again          time.Duration // see rebootAgain
	secretStart    time.Duration
	secretPatience time.Duration
	secretPause    time.Duration
}

func (c Config) withDefaults() Config {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.MaxRunning == 0 {
		c.MaxRunning = DefaultMaxRunning
	}
	if c.MaxQueued == 0 {
		c.MaxQueued = DefaultMaxQueued
	}
	if c.Keep == 0 {
		c.Keep = DefaultKeep
	}
	if c.KeepBytes == 0 {
		c.KeepBytes = DefaultKeepBytes
	}
	if c.patience == 0 {
		c.patience = rebootPatience
	}
	if c.again == 0 {
		c.again = rebootAgain
	}
	if c.secretStart == 0 {
		c.secretStart = secretStart
	}
	if c.secretPatience == 0 {
		c.secretPatience = secretPatience
	}
	if c.secretPause == 0 {
		c.secretPause = secretPause
	}
	if c.wrap == nil {
		c.wrap = func(f file) file { return f }
	}
	if c.ledgerSize == 0 {
		c.ledgerSize = ledgerStep
	}
	if c.grace == 0 {
		c.grace = Grace
	}
	return c
}

// Runner runs commands and keeps the ledger. Its methods may be called from any goroutine.
type Runner struct {
	cfg     Config
	boot    string
	runs    *os.File // the folder of run folders, locked against a second agent
	journal *journal
	id      fleet.ID // of the ledger
	events  *eventQueue
	slots   chan struct{} // holds one token per run
	queued  atomic.Int64

	ctx  context.Context // ends with Close
	stop context.CancelFunc
	wg   sync.WaitGroup // the goroutines of runs

	mu      sync.Mutex
	closed  bool
	ledger  *exec.Ledger
	running map[fleet.UUID]*run
	counted counted
	// starting holds a channel for each command between Start and its barrier.
	starting map[fleet.UUID]chan struct{}
	wait     wait

	bound atomic.Int64  // bytes that run folders may take, see KeepBytes
	kept  atomic.Int64  // bytes in run folders, by the last count and by what ended since
	crowd chan struct{} // wakes the pruning
}

// run is a run in progress.
type run struct {
	command   fleet.UUID
	cancelled bool          // guarded by Runner.mu
	conn      net.Conn      // to its supervisor, or nil; guarded by Runner.mu
	slot      bool          // it holds a token of slots
	by        time.Duration // see Spec
	called    chan struct{} // closed when it is cancelled while somebody follows it
	stepwise  bool          // it has a journal of steps; of the goroutine that follows it
	tries     int           // supervisors in a row that went on with it and wrote nothing; likewise
	entries   int           // of its journal, when the last one was launched; likewise
}

func newRun(command fleet.UUID) *run { return &run{command: command, called: make(chan struct{})} }

// Open reads the ledger in cfg.Dir and takes up the runs it left: those whose supervisor lives are followed again, those
// that ended meanwhile are read, and those of which nothing is left become Unknown. A damaged ledger is an error, and
// nothing is changed.
func Open(cfg Config) (*Runner, error) {
	cfg = cfg.withDefaults()
	boot, err := bootID()
	if err != nil {
		return nil, fleet.Errorf(fleet.Internal, "cannot read the host's boot ID: %w", err).Hinted("mount /proc")
	}
	boot = cmp.Or(cfg.boot, boot)
	runs, found, err := openRuns(filepath.Join(cfg.Dir, runsName))
	if err != nil {
		return nil, err
	}
	r := &Runner{cfg: cfg, boot: boot, runs: runs, slots: make(chan struct{}, cfg.MaxRunning), running: map[fleet.UUID]*run{}, starting: map[fleet.UUID]chan struct{}{}, crowd: make(chan struct{}, 1)}
	if err := r.openLedger(len(found) == 0); err != nil {
		runs.Close()
		return nil, err
	}
	r.bound.Store(cfg.KeepBytes)
	r.ctx, r.stop = context.WithCancel(context.Background())
	r.events = newEventQueue()
	go r.journal.run()
	r.recover(found)
	r.wg.Go(r.pruneSometimes)
	return r, nil
}

// openRuns makes, locks and lists the folder of run folders.
func openRuns(path string) (*os.File, []fleet.UUID, error) {
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, nil, fleet.Errorf(fleet.Internal, "cannot make the folder of runs: %w", err)
	}
	dir, err := os.Open(path)
	if err != nil {
		return nil, nil, fleet.Errorf(fleet.Internal, "cannot open the folder of runs: %w", err)
	}
	if !lock(dir) {
		dir.Close()
		return nil, nil, fleet.Errorf(fleet.Conflict, "another agent uses %s", path).Hinted("stop it first, or use another data folder")
	}
	names, err := dir.Readdirnames(-1)
	if err != nil {
		dir.Close()
		return nil, nil, fleet.Errorf(fleet.Internal, "cannot list the folder of runs: %w", err)
	}
	var found []fleet.UUID
	for _, name := range names {
		if command, err := fleet.ParseUUID(name); err == nil {
			found = append(found, command)
		}
	}
	return dir, found, nil
}

// lock takes the folder for this process. An agent that died a moment ago may have left it to a supervisor that is about
// to give it up, so it is worth a second try.
func lock(dir *os.File) bool {
	for range 50 {
		if unix.Flock(int(dir.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
			return true
		}
		time.Sleep(20 * time.Millisecond)
	}
	return false
}

func (r *Runner) openLedger(fresh bool) error {
	var newID fleet.ID
	rand.Read(newID[:]) // never fails
	now := r.cfg.Now()
	j, records, err := openLedger(r.cfg.Dir, r.cfg.ledgerSize, r.cfg.wrap, fresh, header{ID: newID, Created: now})
	if err != nil {
		return err
	}
	r.ledger = exec.NewLedger(j.header.Created, j.header.Horizon)
	for i, record := range records {
		if err := r.ledger.Fold(record); err != nil {
			j.f.Close()
			return ledgerTrouble(filepath.Join(r.cfg.Dir, ledgerName), damaged(pageSize, "record %d of %d contradicts those before it: %v",
				i+1, len(records), err))
		}
	}
	j.book, r.journal, r.id = (*ledgerBook)(r), j, j.header.ID
	if j.spareTrouble != nil {
		r.cfg.Log.Warn("no spare ledger: compaction may fail when the disk is full", "err", j.spareTrouble)
	}
	return nil
}

// Close stops following the runs and leaves them going. Events is closed.
func (r *Runner) Close() {
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return
	}
	r.closed = true
	for _, run := range r.running {
		if run.conn != nil {
			run.conn.Close()
		}
	}
	r.mu.Unlock()
	r.stop()
	r.wg.Wait()
	r.journal.close()
	r.events.close()
	_ = unix.Flock(int(r.runs.Fd()), unix.LOCK_UN) // a process that is just being forked may have it open as well
	r.runs.Close()
}

// enter lets a caller use the journal and start goroutines until it calls r.wg.Done. After Close it fails.
func (r *Runner) enter() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return fleet.Errorf(fleet.Unavailable, "the runner is closed")
	}
	r.wg.Add(1)
	return nil
}

// Events tells what happens to the runs. There is one channel; whoever reads it may be slow.
func (r *Runner) Events() <-chan Event { return r.events.out }

// ledgerBook is the Runner as the journal sees it.
type ledgerBook Runner

func (b *ledgerBook) check(record exec.Record) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, start := record.(exec.StartedRecord); start {
		if run := b.running[record.CommandID()]; run != nil && run.by != 0 && cage.BootNow() > run.by {
			return errLate
		}
	}
	return b.ledger.Check(record)
}

func (b *ledgerBook) fold(records []exec.Record) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, record := range records {
		if err := b.ledger.Fold(record); err != nil {
			panic("runner: a record was written that cannot follow: " + err.Error()) // check let it pass a moment ago
		}
		b.counted.take(record)
	}
}

func (b *ledgerBook) live() ([]exec.Record, time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ledger.Prune(b.cfg.Now())
	return b.ledger.Records(), b.ledger.Horizon()
}

// Ledger gives read access to what this node ran.
func (r *Runner) Ledger() Ledger { return Ledger{r} }

// Ledger is a view of the ledger; it always shows the newest state.
type Ledger struct{ r *Runner }

// ID names the ledger: a new one has another.
func (l Ledger) ID() fleet.ID { return l.r.id }

// Created returns when the ledger was made; orders issued earlier are refused.
func (l Ledger) Created() time.Time { return l.r.ledger.Created() }

// Get returns what is known of a command.
func (l Ledger) Get(command fleet.UUID) (exec.State, bool) {
	l.r.mu.Lock()
	defer l.r.mu.Unlock()
	return l.r.ledger.Get(command)
}

// Since lists the commands to which something happened at or after t, oldest change first: what to report again.
func (l Ledger) Since(t time.Time) []exec.State {
	l.r.mu.Lock()
	defer l.r.mu.Unlock()
	return l.r.ledger.Since(t)
}

// Running returns how many runs are going.
func (l Ledger) Running() int {
	l.r.mu.Lock()
	defer l.r.mu.Unlock()
	return len(l.r.running)
}

// ResultOf returns the result of a command that has ended, without its steps: see Runner.Steps.
func ResultOf(s exec.State) (Result, bool) {
	if s.Ended == nil || s.Started == nil {
		return Result{}, false
	}
	e := s.Ended
	return Result{Status: e.Status, ExitCode: e.ExitCode, Signal: e.Signal, Started: s.Started.Time, Ended: e.Time,
		Stdout: e.Stdout, Stderr: e.Stderr, Detail: e.Detail}, true
}
