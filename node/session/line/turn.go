package line

import (
	"io"
	"time"

	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/session/flow"
)

var (
	errSuperseded = fleet.Errorf(fleet.Conflict, "session: another connection has taken its place")
	errHave       = fleet.Errorf(fleet.Invalid, "session: a number exchange in the middle of the line")
)

// Broken is an error of an other end that does not keep to the protocol, or lost what it had: no connection mends that.
type Broken struct{ Err error }

// Error returns what is wrong.
func (b *Broken) Error() string { return b.Err.Error() }

// Unwrap returns the *fleet.Error.
func (b *Broken) Unwrap() error { return b.Err }

// batch is how many bytes are written at once at most: some frames of the longest.
const batch = 4 * flow.MaxFrame

// Turn is the right of one connection to be served, until a newer Turn begins.
type Turn struct {
	end   *End
	taken uint64
	over  chan struct{} // closed when Serve is over; nil before Serve

	// With the lock of end:
	conn    io.ReadWriteCloser
	sent    uint64 // number of the last frame that was written or is known to be there
	writing bool
	err     error // why it stopped
}

// Turn ends the connection that is served now, and begins the turn of another.
func (e *End) Turn() *Turn {
	t := &Turn{end: e}
	e.mu.Lock()
	old := e.turn
	e.turn = t
	t.taken = e.in.Taken()
	e.mu.Unlock()
	if old != nil {
		old.stop(errSuperseded)
		old.join()
	}
	return t
}

// Taken returns how many numbered frames have been taken in all: what the other end must be told before Serve.
func (t *Turn) Taken() uint64 { return t.taken }

// Serve carries frames until the connection ends, a newer Turn begins or the End is closed, closes conn and says why, as
// the connection did, as *Broken or as ErrClosed; never nil. theirs is how many frames the other end has. conn's Close must end
// its Read and Write. Serve may be called once.
func (t *Turn) Serve(conn io.ReadWriteCloser, theirs uint64) error {
	if err := t.begin(conn, theirs); err != nil {
		_ = conn.Close() // it is given up, and nothing of it counts
		return err
	}
	wrote := make(chan struct{})
	go func() {
		defer close(wrote)
		t.stop(t.write(conn))
	}()
	t.stop(t.read(conn))
	<-wrote
	close(t.over)
	t.end.mu.Lock()
	defer t.end.mu.Unlock()
	return t.err
}

func (t *Turn) begin(conn io.ReadWriteCloser, theirs uint64) error {
	e := t.end
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case e.closed:
		return ErrClosed
	case e.turn != t:
		return errSuperseded
	}
	if err := e.out.Resume(flow.Have(theirs)); err != nil {
		return &Broken{err}
	}
	e.in.Resume()
	t.conn, t.sent, t.over = conn, theirs, make(chan struct{})
	e.waiting = time.Time{}
	e.allChanged()
	return nil
}

// stop ends the connection for a reason; the first one counts.
func (t *Turn) stop(why error) {
	e := t.end
	e.mu.Lock()
	conn := t.conn
	t.conn = nil
	if t.err == nil {
		t.err = why
	}
	e.allChanged()
	e.mu.Unlock()
	if conn != nil {
		_ = conn.Close() // nothing depends on its last bytes: they come again
	}
}

// join waits until Serve is over, if it has begun.
func (t *Turn) join() {
	t.end.mu.Lock()
	over := t.over
	t.end.mu.Unlock()
	if over != nil {
		<-over
	}
}

func (t *Turn) read(conn io.Reader) error {
	var in inbox
	for {
		if err := in.fill(conn); err != nil {
			return err
		}
		t.end.mu.Lock()
		t.end.waiting = time.Time{}
		t.end.mu.Unlock()
		for {
			f, ok, err := in.next()
			if err != nil {
				return &Broken{err}
			}
			if !ok {
				break
			}
			if err := t.handle(f); err != nil {
				return err
			}
		}
	}
}

func (t *Turn) handle(f flow.Frame) error {
	if flow.Numbered(f) {
		return t.end.take(t, f)
	}
	t.end.mu.Lock()
	defer t.end.mu.Unlock()
	return t.end.hear(f)
}

func (t *Turn) write(conn io.Writer) error {
	var b elastic
	for {
		data, more := t.collect(b.empty())
		if !more {
			return nil // whoever stopped it said why
		}
		_, err := conn.Write(data)
		b.used(data)
		if err != nil {
			return err
		}
	}
}

// collect waits for something to write and appends it to b; false when the turn is over.
func (t *Turn) collect(b []byte) ([]byte, bool) {
	e := t.end
	e.mu.Lock()
	defer e.mu.Unlock()
	t.writing = false
	if !t.hasWork() {
		e.written.Broadcast()
	}
	for t.conn != nil && !t.hasWork() {
		e.work.Wait()
	}
	if t.conn == nil {
		return nil, false
	}
	t.writing = true
	if e.in.Owes() {
		b = flow.Append(b, e.in.Ack())
	}
	sent := t.sent
	b, t.sent = e.out.Pending(b, t.sent, batch)
	if e.asking {
		b = flow.Append(b, flow.Ask{})
	}
	if (e.asking || t.sent > sent) && e.waiting.IsZero() {
		e.waiting = time.Now()
	}
	e.asking = false
	return b, true
}

// hasWork reports whether there is something to write, with the lock.
func (t *Turn) hasWork() bool {
	return t.end.in.Due() || t.end.asking || t.sent < t.end.out.Pushed()
}
