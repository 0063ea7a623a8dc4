package line

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/muster-fleet/muster/node/session/flow"
)

// ErrClosed is returned by whatever waited for an End that was closed.
var ErrClosed = errors.New("the session's line is closed")

// End is one end of a line. Its methods may be called from any goroutine. Use New, and Close it.
type End struct {
	urgent func(flow.Frame) bool

	mu      sync.Mutex
	room    sync.Cond // with mu, as are all: out may have room, or be drained
	news    sync.Cond // queue has something
	work    sync.Cond // there may be something to write
	written sync.Cond // nothing is left to be written
	out     *flow.Sender
	in      *flow.Receiver
	queue   []item   // taken, for Next
	lent    []item   // long ones that Next returned and that are not done
	spare   [][]byte // memory of such that are done
	turn    *Turn    // the newest
	asking  bool     // an Ask is to be sent
	closed  bool

	waiting time.Time // when the first frame was written that nothing was heard since; zero: none
}

// item is a frame that waits for whoever consumes it.
type item struct {
	number uint64
	frame  flow.Frame
}

// New returns an End without a connection, which takes what goes in a direction, within a window each way. urgent is called
// for each frame, in order, as soon as it is taken; it must not wait, nor keep a frame's bytes. If it returns true, the frame is
// consumed, else Next returns it. It may be nil.
func New(takes flow.Direction, window int, urgent func(flow.Frame) bool) *End {
	if urgent == nil {
		urgent = func(flow.Frame) bool { return false }
	}
	e := &End{urgent: urgent, out: flow.NewSender(window), in: flow.NewReceiver(takes, window)}
	for _, c := range e.conds() {
		c.L = &e.mu
	}
	return e
}

// conds are apart because waking a goroutine is what a key's way costs most.
func (e *End) conds() [4]*sync.Cond { return [4]*sync.Cond{&e.room, &e.news, &e.work, &e.written} }

// allChanged wakes whatever waits.
func (e *End) allChanged() {
	for _, c := range e.conds() {
		c.Broadcast()
	}
}

// Push sends a copy of f, now or over the next connection. It waits while the window is full; its errors are ctx's cause and
// ErrClosed. It panics where flow.Sender.Push does.
func (e *End) Push(ctx context.Context, f flow.Frame) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.wait(ctx, &e.room, func() bool { return !e.closed && e.out.Push(f) }); err != nil {
		return err
	}
	e.work.Broadcast()
	return nil
}

// TryPush is Push that does not wait: false if the window is full or the End closed.
func (e *End) TryPush(f flow.Frame) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed || !e.out.Push(f) {
		return false
	}
	e.work.Broadcast()
	return true
}

// Next returns the next frame that was not urgent, with its number for Done; its bytes are void when it is done. It is for one
// goroutine. What was taken is returned first, also after the connection or the End was closed, or ctx ended; then its errors are ctx's cause and ErrClosed.
func (e *End) Next(ctx context.Context) (number uint64, f flow.Frame, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.wait(ctx, &e.news, func() bool { return len(e.queue) > 0 }); err != nil {
		return 0, nil, err
	}
	next := e.queue[0]
	e.queue[0] = item{}
	e.queue = e.queue[1:]
	if len(e.queue) == 0 {
		e.queue = nil
	}
	e.lend(next)
	return next.number, next.frame, nil
}

// Done says that what Next returned under this number is consumed, which makes room for more at the other end.
func (e *End) Done(number uint64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.in.Done(number)
	e.takeBack(number)
	if e.in.Due() {
		e.work.Broadcast()
	}
}

// Ask sends the other end a question that it answers at once, if there is a connection: see Waiting.
func (e *End) Ask() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.asking = true
	e.work.Broadcast()
}

// Waiting returns for how long something has been under way to the other end without anything having been heard since; 0 if
// nothing is.
func (e *End) Waiting() time.Duration {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.waiting.IsZero() {
		return 0
	}
	return time.Since(e.waiting)
}

// Ended reports whether the last frame that the other end can say was taken: the program's Exit, or the end of its input. No
// further connection is needed to hear more of it.
func (e *End) Ended() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.in.Closed()
}

// Drained reports whether the other end has consumed all that was pushed.
func (e *End) Drained() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.out.Drained()
}

// AwaitDrained returns when the other end has consumed all that was pushed; its errors are ctx's cause and ErrClosed.
func (e *End) AwaitDrained(ctx context.Context) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.wait(ctx, &e.room, e.out.Drained)
}

// Flush returns when all that is to be said has been written to the connection; its errors are ctx's cause and ErrClosed.
// Without a connection it waits for one.
func (e *End) Flush(ctx context.Context) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.wait(ctx, &e.written, func() bool { return e.turn != nil && e.turn.conn != nil && !e.turn.writing && !e.turn.hasWork() })
}

// Close ends the connection and whatever waits.
func (e *End) Close() {
	e.mu.Lock()
	e.closed = true
	e.allChanged()
	t := e.turn
	e.mu.Unlock()
	if t != nil {
		t.stop(ErrClosed)
	}
}

// wait returns nil when ok returns true, which is asked whenever on is told; else ErrClosed or ctx's cause. It is called with the
// lock.
func (e *End) wait(ctx context.Context, on *sync.Cond, ok func() bool) error {
	if ok() {
		return nil
	}
	defer context.AfterFunc(ctx, func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		on.Broadcast()
	})()
	for {
		switch {
		case ok():
			return nil
		case e.closed:
			return ErrClosed
		case ctx.Err() != nil:
			return context.Cause(ctx)
		}
		on.Wait()
	}
}

// take hands over one numbered frame of the turn's connection.
func (e *End) take(t *Turn, f flow.Frame) error {
	number, err := e.receive(t, f)
	if err != nil {
		return err
	}
	if e.urgent(f) {
		e.Done(number)
		return nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.queue = append(e.queue, item{number, e.kept(f)})
	e.news.Broadcast()
	return nil
}

func (e *End) receive(t *Turn, f flow.Frame) (uint64, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.turn != t {
		return 0, errSuperseded // the newer connection has been told what was taken: this frame comes again
	}
	number, err := e.in.Take(f)
	if err != nil {
		return 0, &Broken{err}
	}
	return number, nil
}

// hear takes a frame about the line itself, with the lock.
func (e *End) hear(f flow.Frame) error {
	switch f := f.(type) {
	case flow.Ack:
		if err := e.out.Ack(f); err != nil {
			return &Broken{err}
		}
		e.room.Broadcast()
	case flow.Ask:
		e.in.Asked()
		e.work.Broadcast()
	case flow.Have:
		return &Broken{errHave}
	case flow.Input, flow.EndOfInput, flow.Resize, flow.Signal, flow.Output, flow.ErrorOutput, flow.Notice, flow.Exit: // take
	}
	return nil
}
