package attach_test

import (
	"context"
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/muster-fleet/muster/node/session/attach"
	"github.com/muster-fleet/muster/node/session/flow"
	"github.com/muster-fleet/muster/node/session/line"
)

// world is a node with one session, and the network before it.
type world struct {
	program *line.End
	signals chan flow.Frame

	mu      sync.Mutex
	changed sync.Cond
	silent  bool            // the network carries nothing, and says nothing about it
	refuse  func(int) error // what opening says the n-th time; nil: it opens
	wrap    func(net.Conn) net.Conn
	opened  int
	written int // bytes that the client wrote
	conn    net.Conn
}

// wire is the client's connection.
type wire struct {
	net.Conn
	w *world
}

func (c *wire) Write(p []byte) (int, error) {
	c.w.pass()
	c.w.mu.Lock()
	c.w.written += len(p)
	c.w.mu.Unlock()
	return c.Conn.Write(p)
}

// far is the node's connection.
type far struct {
	net.Conn
	w *world
}

func (c *far) Write(p []byte) (int, error) {
	c.w.pass()
	return c.Conn.Write(p)
}

// pass waits while the network is silent.
func (w *world) pass() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.silent {
		w.changed.Wait()
	}
}

func (w *world) setSilent(silent bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.silent = silent
	w.changed.Broadcast()
}

// cut ends the connection that there is.
func (w *world) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.conn != nil {
		_ = w.conn.Close()
	}
}

func (w *world) setRefuse(refuse func(int) error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.refuse = refuse
}

func (w *world) counts() (opened, written int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.opened, w.written
}

// Open is the client's way to the node.
func (w *world) Open(_ context.Context, have uint64) (io.ReadWriteCloser, uint64, error) {
	w.pass()
	w.mu.Lock()
	w.opened++
	n, refuse, wrap := w.opened, w.refuse, w.wrap
	w.mu.Unlock()
	if refuse != nil {
		if err := refuse(n); err != nil {
			return nil, 0, err
		}
	}
	a, b := net.Pipe()
	if wrap != nil {
		a, b = wrap(a), wrap(b)
	}
	turn := w.program.Turn()
	go func() { _ = turn.Serve(&far{b, w}, have) }()
	w.mu.Lock()
	w.conn = b
	w.mu.Unlock()
	return &wire{a, w}, turn.Taken(), nil
}

// in runs a test in a bubble with a world, in which nothing is left running.
func in(t *testing.T, test func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{signals: make(chan flow.Frame, 100)}
		w.changed.L = &w.mu
		w.program = line.New(flow.ToProgram, flow.TerminalWindow, func(f flow.Frame) bool {
			switch f.(type) {
			case flow.Signal, flow.Resize:
				w.signals <- f
				return true
			}
			return false
		})
		test(t, w)
		w.setSilent(false)
		w.program.Close()
		synctest.Wait()
	})
}

func (w *world) write(t *testing.T, frames ...flow.Frame) {
	t.Helper()
	for _, f := range frames {
		if err := w.program.Push(t.Context(), f); err != nil {
			t.Error(err)
		}
	}
}

// ended is what Run returned.
type ended struct {
	exit flow.Exit
	err  error
}

// run starts a client of the world.
func (w *world) run(ctx context.Context, c *attach.Client) <-chan ended {
	c.Open, c.Terminal = w.Open, true
	if c.Stdout == nil {
		c.Stdout = io.Discard
	}
	if c.Stderr == nil {
		c.Stderr = io.Discard
	}
	over := make(chan ended, 1)
	go func() {
		exit, err := c.Run(ctx)
		over <- ended{exit, err}
	}()
	return over
}

// shown is an output whose reader can stop reading, or go away.
type shown struct {
	mu      sync.Mutex
	changed sync.Cond
	text    []byte
	stopped bool
	gone    error
}

func newShown() *shown {
	s := new(shown)
	s.changed.L = &s.mu
	return s
}

func (s *shown) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.stopped {
		s.changed.Wait()
	}
	if s.gone != nil {
		return 0, s.gone
	}
	s.text = append(s.text, p...)
	return len(p), nil
}

func (s *shown) stop(stopped bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopped = stopped
	s.changed.Broadcast()
}

func (s *shown) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return string(s.text)
}
