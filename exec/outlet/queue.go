package outlet

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/muster-fleet/muster/node/fleet"
)

// Bounds of the queue.
const (
	// MaxWaiting is how many copies may wait.
	MaxWaiting = 10_000
	// Patience is how long a copy is tried before it is given up.
	Patience = 7 * 24 * time.Hour
	// Longest is how long a run is expected to end: no order lives longer. What was expected before that is forgotten.
	Longest = 31 * 24 * time.Hour
	// firstRetry is the wait after the first failure, doubled for each later one up to longestRetry, half of it by chance.
	firstRetry   = 5 * time.Second
	longestRetry = time.Hour
	// fewest is how often a copy is tried at least, whatever the clock says: it may have jumped.
	fewest  = 3
	workers = 4
	// copyTime and slowest bound one copy: so long, and a second more for so many bytes.
	copyTime = 10 * time.Minute
	slowest  = 64 << 10
)

// Config is what a queue works with.
type Config struct {
	Dir     string // of its files, made if missing; 0700
	Node    string // this node's name
	Options Options
	// Streams lists what is copied to a destination; nil: both outputs of a run.
	Streams func(to string) []string
	// Open gives a stream of a run that has ended, and how many bytes of it are kept. fleet.NotFound and fleet.Expired say
	// that there is none to copy, ever.
	Open func(command fleet.UUID, stream string) (io.ReadCloser, int64, error)
	// Told hears of every copy that was made (nil) or given up. It may be called twice for one copy, around a crash.
	Told func(command fleet.UUID, to string, err error)
	// Delayed hears, once since the agent started, of a copy whose first attempt failed and which is tried again; nil: nobody.
	Delayed func(command fleet.UUID, to string, err error)
	Log     *slog.Logger
}

// Queue makes copies, now or when it can. Its files survive restarts.
type Queue struct {
	cfg  Config
	wake chan struct{}

	mu   sync.Mutex
	jobs map[fleet.UUID]*job
}

// job is the copy of one run's output.
type job struct {
	to    string
	since time.Time // when it was expected
	ready time.Time // when the run had ended; zero: it has not
	tries int       // since the agent started
	due   time.Time
	busy  bool
}

// OpenQueue reads what is left from before.
func OpenQueue(cfg Config) (*Queue, error) {
	cfg.Options = cfg.Options.filled()
	if cfg.Streams == nil {
		cfg.Streams = streamsOfRun
	}
	jobs, err := readJobs(cfg.Dir, cfg.Log)
	if err != nil {
		return nil, err
	}
	q := &Queue{cfg: cfg, wake: make(chan struct{}, 1), jobs: jobs}
	q.sweep()
	return q, nil
}

// sweep forgets runs that will not end any more.
func (q *Queue) sweep() {
	for command, j := range q.jobs {
		if j.ready.IsZero() && q.cfg.Options.Now().Sub(j.since) > Longest {
			q.cfg.Log.Warn("the run whose output was to be copied never ended", "command", command.String(), "to", shown(j.to))
			if err := removeJob(q.cfg.Dir, command); err != nil {
				q.cfg.Log.Warn("the queue of copies cannot be written", "command", command.String(), "err", err)
			}
			delete(q.jobs, command)
		}
	}
}

// Expect remembers, for good, that a run's output is to be copied once the run has ended. Saying it again changes nothing.
func (q *Queue) Expect(command fleet.UUID, to string) error {
	if err := Check(to); err != nil {
		return err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.jobs[command] != nil {
		return nil
	}
	if len(q.jobs) >= MaxWaiting {
		q.sweep()
	}
	if len(q.jobs) >= MaxWaiting {
		return fleet.Errorf(fleet.Exhausted, "%d copies of outputs wait already; that of command %s is not queued", len(q.jobs), command)
	}
	j := &job{to: to, since: q.cfg.Options.Now()}
	if err := writeJob(q.cfg.Dir, command, j); err != nil {
		return err
	}
	q.jobs[command] = j
	return nil
}

// Ready says that an expected run has ended: its output is copied as soon as that works. Of a run that nobody expected it
// does nothing. It does not wait for the copy.
func (q *Queue) Ready(command fleet.UUID) {
	q.mu.Lock()
	defer q.mu.Unlock()
	j := q.jobs[command]
	if j == nil || !j.ready.IsZero() {
		return
	}
	j.ready = q.cfg.Options.Now()
	// Should this be lost in a crash, Expected names the command again.
	if err := writeJob(q.cfg.Dir, command, j); err != nil {
		q.cfg.Log.Warn("the queue of copies cannot be written", "command", command.String(), "err", err)
	}
	q.rouse()
}

// Expected lists the commands whose run has not ended as far as the queue knows, sorted.
func (q *Queue) Expected() []fleet.UUID {
	q.mu.Lock()
	defer q.mu.Unlock()
	var out []fleet.UUID
	for command, j := range q.jobs {
		if j.ready.IsZero() {
			out = append(out, command)
		}
	}
	slices.SortFunc(out, func(a, b fleet.UUID) int { return slices.Compare(a[:], b[:]) })
	return out
}

// Waiting returns how many copies are to be made, those of runs that go on included.
func (q *Queue) Waiting() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.jobs)
}

// Run makes copies until the context ends, and returns when none is being made.
func (q *Queue) Run(ctx context.Context) {
	var busy sync.WaitGroup
	defer busy.Wait()
	free := make(chan struct{}, workers)
	for {
		command, j, wait := q.next()
		if j == nil {
			if !q.sleep(ctx, wait) {
				return
			}
			continue
		}
		select {
		case free <- struct{}{}:
		case <-ctx.Done():
			return
		}
		busy.Go(func() {
			defer func() { <-free }()
			q.work(ctx, command, *j)
		})
	}
}

// next takes the job that has been due longest, or says how long none will be.
func (q *Queue) next() (fleet.UUID, *job, time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := q.cfg.Options.Now()
	var first fleet.UUID
	var found *job
	for command, j := range q.jobs {
		if !j.busy && !j.ready.IsZero() && (found == nil || j.due.Before(found.due)) {
			first, found = command, j
		}
	}
	if found == nil {
		return first, nil, longestRetry
	}
	if wait := found.due.Sub(now); wait > 0 {
		return first, nil, min(wait, longestRetry)
	}
	found.busy = true
	return first, found, 0
}

// sleep reports whether there is something to do again.
func (q *Queue) sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
	case <-q.wake:
	}
	return true
}

// work tries one copy and settles what becomes of it.
func (q *Queue) work(ctx context.Context, command fleet.UUID, j job) {
	err := q.copy(ctx, command, j.to)
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	q.mu.Lock()
	mine := q.jobs[command]
	mine.tries++
	over := err == nil || (ctx.Err() == nil && (hopeless(err) || (mine.tries >= fewest && q.cfg.Options.Now().Sub(mine.ready) > Patience)))
	mine.due = q.cfg.Options.Now().Add(retry(mine.tries, rand.Float64()))
	mine.busy = over // who settles it still has it
	first := mine.tries == 1
	q.mu.Unlock()
	switch {
	case over:
		q.settle(command, j.to, err)
	case ctx.Err() == nil:
		q.cfg.Log.Warn("output not copied yet", "command", command.String(), "to", shown(j.to), "err", err)
		if first && q.cfg.Delayed != nil {
			until := j.ready.Add(Patience).UTC().Format("2006-01-02 15:04Z")
			q.cfg.Delayed(command, j.to, fleet.Errorf(fleet.KindOf(err), "not yet, it is tried again until %s: %w", until, err))
		}
	}
	q.rouse()
}

// rouse has Run look again.
func (q *Queue) rouse() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// settle ends a job: somebody is told before it is forgotten.
func (q *Queue) settle(command fleet.UUID, to string, err error) {
	if err != nil {
		err = fleet.Errorf(fleet.KindOf(err), "given up: %w", err)
		q.cfg.Log.Error("output not copied, given up", "command", command.String(), "to", shown(to), "err", err)
	}
	if q.cfg.Told != nil {
		q.cfg.Told(command, to, err)
	}
	if err := removeJob(q.cfg.Dir, command); err != nil {
		q.cfg.Log.Warn("the queue of copies cannot be written", "command", command.String(), "err", err)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.jobs, command)
}

// hopeless reports whether there is nothing to copy, and never will be.
func hopeless(err error) bool { _, ok := errors.AsType[*lostError](err); return ok }

// lostError says that the source is gone.
type lostError struct{ why error }

func (l *lostError) Error() string { return l.why.Error() }

func (l *lostError) Unwrap() error { return l.why }

// retry returns the wait after so many failures; chance is from 0 to 1.
func retry(tries int, chance float64) time.Duration {
	d := longestRetry
	if tries < 20 {
		d = min(firstRetry<<max(tries-1, 0), longestRetry)
	}
	return d/2 + time.Duration(chance*float64(d/2))
}

// copy copies all streams.
func (q *Queue) copy(ctx context.Context, command fleet.UUID, to string) error {
	out, err := Open(to, q.cfg.Options)
	if err != nil {
		return err
	}
	for _, stream := range q.cfg.Streams(to) {
		if err := q.copyStream(ctx, out, command, stream); err != nil {
			return err
		}
	}
	return nil
}

func (q *Queue) copyStream(ctx context.Context, out Outlet, command fleet.UUID, stream string) error {
	r, size, err := q.open(command, stream)
	if err != nil {
		return err
	}
	first := r // what was opened for its size is the first to be read
	defer func() {
		if first != nil {
			first.Close()
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, copyTime+time.Duration(size/slowest)*time.Second)
	defer cancel()
	return out.Copy(ctx, Source{Command: command, Node: q.cfg.Node, Stream: stream, Size: size, Open: func() (io.ReadCloser, error) {
		if r := first; r != nil {
			first = nil
			return r, nil
		}
		r, _, err := q.open(command, stream)
		return r, err
	}})
}

func (q *Queue) open(command fleet.UUID, stream string) (io.ReadCloser, int64, error) {
	r, size, err := q.cfg.Open(command, stream)
	if k := fleet.KindOf(err); err != nil && (k == fleet.NotFound || k == fleet.Expired) {
		return nil, 0, &lostError{err}
	}
	return r, size, err
}

// shown keeps what stands behind a "?" out of logs.
func shown(to string) string {
	for i := range len(to) {
		if to[i] == '?' {
			return to[:i]
		}
	}
	return to
}
