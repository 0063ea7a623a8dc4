package line_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/session/flow"
	"github.com/muster-fleet/muster/node/session/line"
)

// fragile is a connection that ends after so many bytes were written to it, in the middle of a Write.
type fragile struct {
	net.Conn
	left int
}

func (f *fragile) Write(p []byte) (int, error) {
	if len(p) <= f.left {
		f.left -= len(p)
		return f.Conn.Write(p)
	}
	n, _ := f.Conn.Write(p[:f.left])
	f.left -= n
	_ = f.Close()
	return n, io.ErrClosedPipe
}

// pipe returns the ends of a connection.
func pipe(t *testing.T) (net.Conn, net.Conn) {
	a, b := net.Pipe()
	t.Cleanup(func() { _, _ = a.Close(), b.Close() })
	return a, b
}

// join serves a connection of both ends, and returns why each ended.
func join(a, b *line.End, forA, forB io.ReadWriteCloser) (errA, errB error) {
	turnA, turnB := a.Turn(), b.Turn()
	done := make(chan struct{})
	go func() {
		defer close(done)
		errA = turnA.Serve(forA, turnB.Taken())
	}()
	errB = turnB.Serve(forB, turnA.Taken())
	<-done
	return errA, errB
}

// send pushes data in pieces, and then the frame that ends it.
func send[F ~[]byte](t *testing.T, e *line.End, data []byte, last flow.Frame, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 1))
	for len(data) > 0 {
		n := min(len(data), 1+r.IntN(flow.MaxPayload))
		if err := e.Push(t.Context(), any(F(data[:n])).(flow.Frame)); err != nil {
			t.Error(err)
			return
		}
		data = data[n:]
	}
	if err := e.Push(t.Context(), last); err != nil {
		t.Error(err)
	}
}

// collect consumes until the frame that ends it.
func collect(t *testing.T, e *line.End) []byte {
	var data []byte
	for {
		number, f, err := e.Next(t.Context())
		if err != nil {
			t.Error(err)
			return data
		}
		switch f := f.(type) {
		case flow.Input:
			data = append(data, f...)
		case flow.Output:
			data = append(data, f...)
		case flow.EndOfInput, flow.Exit:
			e.Done(number)
			return data
		default:
			t.Errorf("%#v", f)
		}
		e.Done(number)
	}
}

func randomBytes(seed uint64, n int) []byte {
	r := rand.New(rand.NewPCG(seed, 2))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// Both ways at once, over connections that end in the middle of whatever they carry.
func TestNothingIsLostOrRepeated(t *testing.T) {
	for seed := range uint64(20) {
		synctest.Test(t, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 3))
			client, program := line.New(flow.FromProgram, flow.TerminalWindow, nil), line.New(flow.ToProgram, flow.TerminalWindow, nil)
			up, down := randomBytes(seed, 1<<20), randomBytes(seed+100, 1<<20)
			go send[flow.Input](t, client, up, flow.EndOfInput{}, seed)
			go send[flow.Output](t, program, down, flow.Exit{}, seed)
			over, connections := make(chan struct{}), 0
			go func() {
				defer close(over)
				for !client.Ended() || !program.Ended() || !client.Drained() || !program.Drained() {
					a, b := pipe(t)
					connections++
					join(client, program, &fragile{a, r.IntN(200_000)}, &fragile{b, r.IntN(200_000)})
				}
			}()
			gotUp := make(chan []byte)
			go func() { gotUp <- collect(t, program) }()
			if got := collect(t, client); !bytes.Equal(got, down) {
				t.Errorf("of %d bytes, %d others came down", len(down), len(got))
			}
			if got := <-gotUp; !bytes.Equal(got, up) {
				t.Errorf("of %d bytes, %d others came up", len(up), len(got))
			}
			if err := errors.Join(client.AwaitDrained(t.Context()), program.AwaitDrained(t.Context())); err != nil {
				t.Error(err)
			}
			client.Close() // the last connection may be whole
			program.Close()
			<-over
			if connections < 3 {
				t.Errorf("%d connections: nothing was cut", connections)
			}
		})
	}
}

// bubble runs a test with two ends that are joined by one connection.
func bubble(t *testing.T, urgent func(flow.Frame) bool, test func(t *testing.T, client, program *line.End)) {
	synctest.Test(t, func(t *testing.T) {
		client, program := line.New(flow.FromProgram, flow.TerminalWindow, nil), line.New(flow.ToProgram, flow.TerminalWindow, urgent)
		a, b := pipe(t)
		over := make(chan struct{})
		go func() {
			defer close(over)
			join(client, program, a, b)
		}()
		synctest.Wait()
		test(t, client, program)
		client.Close()
		program.Close()
		<-over
	})
}

// A program that reads nothing stops its client at the window, and still gets signals and answers questions.
func TestAQueueThatNobodyEmpties(t *testing.T) {
	var signals []flow.Frame
	urgent := func(f flow.Frame) bool {
		if _, ok := f.(flow.Signal); ok {
			signals = append(signals, f)
			return true
		}
		return false
	}
	bubble(t, urgent, func(t *testing.T, client, program *line.End) {
		pushed := 0
		for client.TryPush(flow.Input(make([]byte, 1000))) {
			pushed += 1000
		}
		if pushed > flow.TerminalWindow || pushed < flow.TerminalWindow*9/10 {
			t.Errorf("%d bytes were sent ahead", pushed)
		}
		waits, stop := context.WithTimeoutCause(t.Context(), time.Minute, errors.New("waited"))
		defer stop()
		if err := client.Push(waits, flow.Input(make([]byte, 1000))); err == nil || err.Error() != "waited" {
			t.Errorf("pushed into a full window: %v", err)
		}
		if client.Waiting() < time.Minute {
			t.Error("the other end has said something unasked")
		}
		if !client.TryPush(flow.Signal("INT")) {
			t.Error("no room for a signal")
		}
		client.Ask()
		synctest.Wait()
		if len(signals) != 1 || client.Waiting() != 0 {
			t.Errorf("signals %v; waited %v for an answer", signals, client.Waiting())
		}
		if client.Drained() {
			t.Error("what nobody has read is confirmed")
		}
		go func() { // and once it reads, all goes on
			for {
				number, _, err := program.Next(t.Context())
				if err != nil {
					return
				}
				program.Done(number)
			}
		}()
		if err := client.Push(t.Context(), flow.EndOfInput{}); err != nil {
			t.Error(err)
		}
		if err := client.AwaitDrained(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// An acknowledgement that is not due goes along with what is said anyway.
func TestAcknowledgementsTravelAlong(t *testing.T) {
	bubble(t, nil, func(t *testing.T, client, program *line.End) {
		program.TryPush(flow.Output("a"))
		number, _, err := client.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		client.Done(number)
		time.Sleep(time.Hour)
		if program.Drained() {
			t.Error("a byte was confirmed alone")
		}
		client.TryPush(flow.Input("b"))
		if synctest.Wait(); !program.Drained() {
			t.Error("not confirmed along with what was said")
		}
	})
}

// What is never said costs nothing: an idle line writes nothing, and expects nothing.
func TestAnIdleLineIsSilent(t *testing.T) {
	bubble(t, nil, func(t *testing.T, client, program *line.End) {
		if err := client.Flush(t.Context()); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Hour)
		if client.Waiting() != 0 || program.Waiting() != 0 {
			t.Error("something is expected of an idle line")
		}
	})
}

func TestCloseEndsAllThatWaits(t *testing.T) {
	bubble(t, nil, func(t *testing.T, client, program *line.End) {
		for client.TryPush(flow.Input(make([]byte, 1000))) {
		}
		_ = program.Push(t.Context(), flow.Output("last words"))
		synctest.Wait()
		ends := make(chan error)
		go func() { ends <- client.Push(t.Context(), flow.Input(make([]byte, 1000))) }()
		go func() { ends <- client.AwaitDrained(t.Context()) }()
		synctest.Wait()
		client.Close()
		for range 2 {
			if err := <-ends; !errors.Is(err, line.ErrClosed) {
				t.Errorf("after Close: %v", err)
			}
		}
		if client.TryPush(flow.Signal("INT")) || client.Push(t.Context(), flow.Signal("INT")) == nil {
			t.Error("something was pushed after Close")
		}
		if err := client.Flush(t.Context()); !errors.Is(err, line.ErrClosed) {
			t.Errorf("Flush after Close: %v", err)
		}
		if number, f, err := client.Next(t.Context()); err != nil || number != 1 || string(f.(flow.Output)) != "last words" {
			t.Errorf("what was taken is gone: %v", err)
		}
		if _, _, err := client.Next(t.Context()); !errors.Is(err, line.ErrClosed) {
			t.Errorf("Next after Close: %v", err)
		}
		a, _ := pipe(t)
		if err := client.Turn().Serve(a, 0); !errors.Is(err, line.ErrClosed) {
			t.Errorf("Serve after Close: %v", err)
		}
	})
}

func TestTheNewestConnectionWins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		program := line.New(flow.ToProgram, flow.TerminalWindow, nil)
		defer program.Close()
		why := make(chan error, 3)
		old, toOld := pipe(t)
		turn := program.Turn()
		go func() { why <- turn.Serve(old, 0) }()
		raw := flow.Append(flow.Append(nil, flow.Input("one")), flow.Input("two"))
		_, _ = toOld.Write(raw[:len(raw)-1])
		synctest.Wait()

		passed := program.Turn() // has its turn, but is passed by another before it is served
		turn = program.Turn()
		if err := <-why; err == nil {
			t.Error("the older connection goes on")
		}
		if _, err := toOld.Write(raw[len(raw)-1:]); err == nil {
			t.Error("the older connection still takes bytes")
		}
		if turn.Taken() != 1 {
			t.Errorf("%d frames were taken, not the whole one", turn.Taken())
		}
		a, b := pipe(t)
		go func() { why <- turn.Serve(a, 0) }()
		synctest.Wait()
		other, _ := pipe(t)
		if err := passed.Serve(other, 0); fleet.KindOf(err) != fleet.Conflict {
			t.Errorf("a turn that was passed is served: %v", err)
		}
		_, _ = b.Write(flow.Append(nil, flow.Input("two")))
		for _, want := range []string{"one", "two"} {
			if _, f, err := program.Next(t.Context()); err != nil || string(f.(flow.Input)) != want {
				t.Errorf("%v, %v; not %q", f, err, want)
			}
		}
	})
}

// What the older connection had brought, and was not taken when the newer began, comes again over the newer: it may not be
// taken from both.
func TestNothingIsTakenFromAnOlderConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		newer := make(chan *line.Turn, 1)
		var program *line.End
		program = line.New(flow.ToProgram, flow.TerminalWindow, func(f flow.Frame) bool {
			if string(f.(flow.Signal)) == "ONE" {
				go func() { newer <- program.Turn() }()
				synctest.Wait() // it has begun, and waits for the older one to stop
			}
			return false
		})
		defer program.Close()
		a, b := pipe(t)
		over := make(chan error, 1)
		go func() { over <- program.Turn().Serve(a, 0) }()
		_, _ = b.Write(flow.Append(flow.Append(nil, flow.Signal("ONE")), flow.Signal("TWO"))) // in one Read
		if err := <-over; fleet.KindOf(err) != fleet.Conflict {
			t.Errorf("the older connection ended with %v", err)
		}
		if turn := <-newer; turn.Taken() != 1 {
			t.Errorf("%d frames were taken", turn.Taken())
		}
		if _, f, err := program.Next(t.Context()); err != nil || f != flow.Signal("ONE") {
			t.Errorf("%v, %v", f, err)
		}
		short, stop := context.WithTimeout(t.Context(), time.Second)
		defer stop()
		if _, f, err := program.Next(short); err == nil {
			t.Errorf("%v came over the older connection", f)
		}
	})
}

// Another connection owes nothing for what the one before did not answer.
func TestWaitingBeginsAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := line.New(flow.FromProgram, flow.TerminalWindow, nil)
		defer e.Close()
		a, b := pipe(t)
		go func() { _, _ = io.Copy(io.Discard, b) }()
		go func() { _ = e.Turn().Serve(a, 0) }()
		e.TryPush(flow.Input("a"))
		time.Sleep(time.Minute)
		if e.Waiting() != time.Minute {
			t.Errorf("waited %v", e.Waiting())
		}
		a, _ = pipe(t)
		turn := e.Turn()
		go func() { _ = turn.Serve(a, 1) }()
		if synctest.Wait(); e.Waiting() != 0 {
			t.Errorf("waits for %v over a connection that carried nothing", e.Waiting())
		}
	})
}

func TestAnEndThatBreaksTheRulesIsCutOff(t *testing.T) {
	flood := bytes.Repeat(flow.Append(nil, flow.Input(make([]byte, flow.MaxPayload))), 9)
	for name, c := range map[string]struct {
		raw    []byte
		theirs uint64
	}{
		"no frame":                       {[]byte("GET / HTTP/1.1\r\n"), 0},
		"the wrong way":                  {flow.Append(nil, flow.Output("a")), 0},
		"more than the window":           {flood, 0},
		"a confirmation of nothing":      {flow.Append(nil, flow.Ack(2)), 0},
		"a number exchange in between":   {flow.Append(nil, flow.Have(0)), 0},
		"has what was never sent":        {nil, 2},
		"has lost what it had confirmed": {flow.Append(nil, flow.Ack(1)), 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			e := line.New(flow.ToProgram, flow.TerminalWindow, nil)
			defer e.Close()
			e.TryPush(flow.Output("a"))
			for range 2 { // the second time counts for what depends on the first
				a, b := pipe(t)
				go func() { _, _ = io.Copy(io.Discard, b) }()
				go func() {
					_, _ = b.Write(c.raw)
					synctest.Wait()
					_ = b.Close()
				}()
				err := e.Turn().Serve(a, c.theirs)
				if broken, ok := errors.AsType[*line.Broken](err); ok {
					if fleet.KindOf(broken.Err) == fleet.Internal {
						t.Errorf("%s: %v", name, err)
					}
					return
				}
			}
			t.Errorf("%s: is served", name)
		})
	}
}
