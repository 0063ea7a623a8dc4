package runner

import (
	"sync"
	"time"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node/fleet"
)

// Event is something that happened to a run.
//
//sumtype:decl
type Event interface{ event() }

// Started says that the command's process runs. It may come again after the agent was restarted.
type Started struct {
	Command fleet.UUID
	At      time.Time
	PID     int
}

// Output says how much the run has written so far, and how far its steps are. Older news give way to newer; at most about
// four come a second.
type Output struct {
	Command                fleet.UUID
	StdoutSize, StderrSize int64             // bytes on disk, which Output, Head and Tail can read
	Steps                  []exec.StepReport // empty for a plain run
}

// Ended says how the run ended. After Unknown one more may come, with the truth.
type Ended struct {
	Command fleet.UUID
	Result  Result
}

func (Started) event() {}
func (Output) event()  {}
func (Ended) event()   {}

// Result is the outcome of a run.
type Result struct {
	Status         exec.Status
	ExitCode       int // -1 when a signal ended it or nobody knows
	Signal         int // 0 when no signal ended it
	Started, Ended time.Time
	Stdout, Stderr exec.OutputSum
	Detail         string // for people: why it could not be started, why output was cut, why nobody knows
	Steps          []exec.StepReport
}

// eventQueue hands events to a reader who may be slow: it keeps all starts and ends, and of each run's output only the
// newest news, so it holds at most three events of each run.
type eventQueue struct {
	mu      sync.Mutex
	pending []Event
	wake    chan struct{}
	out     chan Event
	stop    chan struct{}
	stopped chan struct{}
}

func newEventQueue() *eventQueue {
	q := &eventQueue{wake: make(chan struct{}, 1), out: make(chan Event), stop: make(chan struct{}), stopped: make(chan struct{})}
	go q.run()
	return q
}

func (q *eventQueue) put(e Event) {
	q.mu.Lock()
	q.pending = coalesce(q.pending, e)
	q.mu.Unlock()
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// coalesce appends e, or lets it take the place of older news of the same output.
func coalesce(pending []Event, e Event) []Event {
	if news, ok := e.(Output); ok {
		for i := len(pending) - 1; i >= 0; i-- {
			if old, ok := pending[i].(Output); ok && old.Command == news.Command {
				pending[i] = news
				return pending
			}
		}
	}
	return append(pending, e)
}

func (q *eventQueue) take() (Event, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.pending) == 0 {
		return nil, false
	}
	e := q.pending[0]
	q.pending = q.pending[1:]
	return e, true
}

func (q *eventQueue) run() {
	defer close(q.stopped)
	defer close(q.out)
	for {
		e, ok := q.take()
		if !ok {
			select {
			case <-q.wake:
			case <-q.stop:
				return
			}
			continue
		}
		select {
		case q.out <- e:
		case <-q.stop:
			return
		}
	}
}

func (q *eventQueue) close() {
	close(q.stop)
	<-q.stopped
}
