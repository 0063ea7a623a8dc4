package decisions

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node/fleet"
)

// Defaults and limits.
const (
	DefaultMaxBytes = 16 << 20
	leastBytes      = 256 << 10
	// maxWaiting bounds what waits for the disk, in bytes: about 2,000 decisions.
	maxWaiting = 256 << 10
)

// The files.
const (
	knownName = "known" // decisions about orders that an operator signed
	heardName = "heard" // what was decided before: any member can cause those
)

// Options of a log. Zero values mean the defaults.
type Options struct {
	MaxBytes int64            // of all files; 0: DefaultMaxBytes
	Now      func() time.Time // nil: time.Now
	Log      *slog.Logger     // nil: nothing is logged
}

// Log keeps decisions. All methods may be called at the same time.
type Log struct {
	o    Options
	wake chan struct{}
	done chan struct{}

	mu      sync.Mutex // never held while anything is read or written
	waiting []record
	size    int64 // of waiting
	dropped int   // since the last that was written
	closed  bool

	disk         sync.Mutex
	known, heard *book
	seq          uint64
	lost         int  // decisions that the disk did not take, not noted yet
	failing      bool // that was warned of
}

// Open opens the log in dir, or makes one. What a crash or a bad disk has damaged is warned of and passed over. An error is a
// *fleet.Error: the files cannot be made or read. The host can do without.
func Open(dir string, o Options) (*Log, error) {
	if o.MaxBytes == 0 {
		o.MaxBytes = DefaultMaxBytes
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	o.MaxBytes = max(o.MaxBytes, leastBytes)
	l := &Log{o: o, wake: make(chan struct{}, 1), done: make(chan struct{})}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, trouble(dir, err)
	}
	var seqs [2]uint64
	var bad [2]int64
	var err error
	if l.known, seqs[0], bad[0], err = openBook(filepath.Join(dir, knownName), o.MaxBytes/8*7); err != nil {
		return nil, trouble(dir, err)
	}
	if l.heard, seqs[1], bad[1], err = openBook(filepath.Join(dir, heardName), o.MaxBytes/8); err != nil {
		l.known.f.Close()
		return nil, trouble(dir, err)
	}
	l.seq = max(seqs[0], seqs[1])
	if n := bad[0] + bad[1]; n > 0 {
		o.Log.Warn("a part of the log of decisions is damaged; the rest of it is kept", "path", dir, "bytes", n)
	}
	go l.run()
	return l, nil
}

func trouble(dir string, err error) error {
	return fleet.Errorf(fleet.Unavailable, "the log of decisions in %s cannot be used: %w", dir, err).
		Hinted("ls -ld %s; commands run without it, but muster why knows nothing of them", dir)
}

// Put notes a decision about a command. It never waits: while the disk is slower than decisions come, some are dropped, and
// that is noted in their place.
func (l *Log) Put(command fleet.UUID, d exec.Decision) {
	if command.IsZero() {
		return
	}
	r := record{command: command, decision: d.Bounded()}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.closed:
		return
	case l.size+r.size() > min(maxWaiting, l.o.MaxBytes/32): // a batch must fit into the smaller file when that was rewritten
		l.dropped++
		return
	}
	l.waiting, l.size = append(l.waiting, r), l.size+r.size()
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// Of returns what was decided about a command, in order; nothing is known of a command that has none. Where some may be
// missing, one of exec.DecidedLost says so.
func (l *Log) Of(command fleet.UUID) ([]exec.Decision, error) {
	l.disk.Lock()
	defer l.disk.Unlock()
	if l.known == nil {
		return nil, fleet.Errorf(fleet.Unavailable, "the log of decisions is closed")
	}
	l.write()
	return of(command, l.known, l.heard), nil
}

// Close writes what waits, and ends the log.
func (l *Log) Close() error {
	l.mu.Lock()
	was := l.closed
	l.closed = true
	l.mu.Unlock()
	if was {
		return nil
	}
	close(l.wake)
	<-l.done
	l.disk.Lock()
	defer l.disk.Unlock()
	err := errors.Join(l.known.f.Close(), l.heard.f.Close())
	l.known, l.heard = nil, nil
	return err
}

// run writes what waits. While it writes, the next decisions gather.
func (l *Log) run() {
	defer close(l.done)
	for range l.wake {
		l.flush()
	}
	l.flush()
}

func (l *Log) flush() {
	l.disk.Lock()
	defer l.disk.Unlock()
	l.write()
}

// write writes all that waits; disk must be held.
func (l *Log) write() {
	l.mu.Lock()
	waiting, dropped := l.waiting, l.dropped
	l.waiting, l.size, l.dropped = nil, 0, 0
	l.mu.Unlock()
	decided := len(waiting)
	if l.lost > 0 {
		waiting = slices.Insert(waiting, 0, l.gap(l.lost, "the disk did not take them"))
	}
	if dropped > 0 { // they came after those that wait
		waiting = append(waiting, l.gap(dropped, "they came faster than the disk takes them"))
	}
	var known, heard []byte
	for _, r := range waiting {
		l.seq++
		r.seq = l.seq
		if r.decision.Hearsay() {
			heard = appendRecord(heard, r)
		} else {
			known = appendRecord(known, r)
		}
	}
	err := errors.Join(l.known.append(known), l.heard.append(heard))
	if err != nil {
		l.lost += decided + dropped
	} else {
		l.lost = 0
	}
	l.tell(err)
}

// gap is a record that says how many are missing.
func (l *Log) gap(n int, why string) record {
	return record{decision: exec.Decision{
		At: l.o.Now().UnixMilli(), What: exec.DecidedLost, Detail: fmt.Sprintf("%d decisions were not kept: %s", n, why),
	}}
}

// tell warns when the disk begins to fail, and when it is well again.
func (l *Log) tell(err error) {
	switch {
	case err != nil && !l.failing:
		l.o.Log.Warn("decisions cannot be kept; muster why will not know of them", "err", err)
	case err == nil && l.failing:
		l.o.Log.Warn("decisions are kept again")
	}
	l.failing = err != nil
}
