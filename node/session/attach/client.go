package attach

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/muster-fleet/muster/node/session/flow"
	"github.com/muster-fleet/muster/node/session/line"
)

// Client is what a session is attached to. Its fields do not change once Run is called.
type Client struct {
	// Open opens a connection to the session: the first call may begin the session, later ones resume it. have is how many frames
	// the client has, theirs how many the node has; both are 0 in a session that begins. It has 15 s. Close of what it returns
	// must end a Read and a Write under way, and let arrive what was written before.
	Open func(ctx context.Context, have uint64) (conn io.ReadWriteCloser, theirs uint64, err error)

	Terminal bool      // the program has a terminal
	Stdin    io.Reader // nil: no input, and no end of it
	Stdout   io.Writer
	Stderr   io.Writer // of a program without a terminal

	Resizes <-chan flow.Resize // nil: none
	Signals <-chan flow.Signal // nil: none

	// Notice is given the supervisor's lines for the person, in order with the output; they are what the other end sent, and may hold
	// anything. Line is told when nothing has been heard for 2 s though something should have been, and when that is over.
	// Both may be nil, and are not called at the same time as themselves.
	Notice func(text string)
	Line   func(State)
}

// State is what can be said of the way to the session.
type State struct {
	Silent bool  // nothing is heard
	Why    error // why the last attempt to connect failed or the connection ended; nil if it stands and is merely silent
}

// attachment is one Run.
type attachment struct {
	*Client
	end    *line.End
	unread bool // nobody reads the output here any more, and the program was told

	mu     sync.Mutex
	lost   time.Time // when the connection ended; zero while one is served
	why    error     // of lost
	failed error     // why the session cannot go on
}

// Run opens the session and carries input and output until the program has ended, and returns its end. Other ends are errors:
// of the first Open, as they are; that the session cannot go on, a *fleet.Error; Unavailable when no connection was had for
// 10 minutes. When ctx ends, Run sends the signal HUP, if that is possible within a second, and returns ctx's cause.
// It waits for a Write under way, not for a Read of Stdin. Run may be called once.
func (c *Client) Run(ctx context.Context) (flow.Exit, error) {
	a := &attachment{Client: c, end: line.New(flow.FromProgram, flow.Window(c.Terminal), nil)}
	defer a.end.Close()
	turn := a.end.Turn()
	conn, theirs, err := a.open(ctx, turn.Taken())
	if err != nil {
		return flow.Exit{}, err
	}
	work, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	defer context.AfterFunc(ctx, func() { a.hangUp(context.Cause(ctx), stop) })()
	defer context.AfterFunc(work, a.end.Close)()

	var all sync.WaitGroup
	defer all.Wait()
	defer stop(errOver)
	all.Go(func() { a.fail(a.connected(work, turn, conn, theirs)) })
	all.Go(func() { a.listen(work) })
	all.Go(func() { feed(work, a.end, c.Resizes) })
	all.Go(func() { feed(work, a.end, c.Signals) })
	if c.Stdin != nil {
		go a.input(work) // a Read of a terminal cannot be interrupted
	}
	exit, err := a.output(work)
	if err != nil {
		return flow.Exit{}, err
	}
	a.confirm(work)
	return exit, nil
}

// fail ends the session here, when what was taken has been written.
func (a *attachment) fail(err error) {
	if err == nil {
		return
	}
	a.mu.Lock()
	a.failed = err
	a.mu.Unlock()
	a.end.Close()
}

// cause returns why nothing more comes.
func (a *attachment) cause(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.failed
}

var errOver = errors.New("the session is over")

// farewell bounds what is still said when everything is over.
const farewell = time.Second

// hangUp tells the program that nobody is there any more, if it can be told, and stops the work.
func (a *attachment) hangUp(why error, stop context.CancelCauseFunc) {
	defer stop(why)
	if a.end.TryPush(flow.Signal("HUP")) {
		a.confirm(context.Background())
	}
}

// confirm lets the last words out: a supervisor that hears that its Exit arrived need not wait for this client.
func (a *attachment) confirm(ctx context.Context) {
	if _, lost := a.lostSince(); lost {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, farewell)
	defer cancel()
	_ = a.end.Flush(ctx) // it is a courtesy
}

// output writes what the program writes, until it ends.
func (a *attachment) output(ctx context.Context) (flow.Exit, error) {
	for {
		number, f, err := a.end.Next(ctx)
		if err != nil || ctx.Err() != nil {
			return flow.Exit{}, a.cause(ctx)
		}
		switch f := f.(type) {
		case flow.Output:
			a.write(a.Stdout, f)
		case flow.ErrorOutput:
			a.write(a.Stderr, f)
		case flow.Notice:
			if a.Notice != nil {
				a.Notice(string(f))
			}
		case flow.Exit:
			a.end.Done(number)
			return f, nil
		case flow.Input, flow.EndOfInput, flow.Resize, flow.Signal, flow.Have, flow.Ask, flow.Ack: // line lets none of them through
		}
		a.end.Done(number)
	}
}

// write writes to one of the outputs. If nobody reads it any more, the program hears what it would hear here: the signal of a
// terminal that is gone, or of a pipe that is.
func (a *attachment) write(to io.Writer, b []byte) {
	if a.unread {
		return
	}
	if _, err := to.Write(b); err == nil {
		return
	}
	signal := flow.Signal("PIPE")
	if a.Terminal {
		signal = "HUP"
	}
	a.unread = a.end.TryPush(signal)
}

// input sends what is read until its end.
func (a *attachment) input(ctx context.Context) {
	b := make([]byte, flow.MaxPayload)
	for {
		n, err := a.Stdin.Read(b)
		if n > 0 && a.end.Push(ctx, flow.Input(b[:n])) != nil {
			return
		}
		if err != nil {
			_ = a.end.Push(ctx, flow.EndOfInput{}) // fails only when everything is over
			return
		}
	}
}

// feed sends what comes out of a channel.
func feed[F flow.Frame](ctx context.Context, end *line.End, from <-chan F) {
	for {
		select {
		case <-ctx.Done():
			return
		case f, open := <-from:
			if !open || end.Push(ctx, f) != nil {
				return
			}
		}
	}
}
