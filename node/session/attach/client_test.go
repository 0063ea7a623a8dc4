package attach_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/session/attach"
	"github.com/muster-fleet/muster/node/session/flow"
)

func TestOutputsNoticesAndTheExit(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		both := newShown()
		over := w.run(t.Context(), &attach.Client{Stdout: both, Stderr: both, Notice: func(text string) { _, _ = both.Write([]byte("<" + text + ">")) }})
		w.write(t, flow.Notice("recorded"), flow.Output("out"), flow.ErrorOutput("err"), flow.Output("more"), flow.Exit{Code: 3, Signal: "", Why: "idle"})
		if got := <-over; got.err != nil || got.exit != (flow.Exit{Code: 3, Why: "idle"}) {
			t.Errorf("ended with %+v", got)
		}
		if both.String() != "<recorded>outerrmore" {
			t.Errorf("showed %q", both.String())
		}
		// The node knows that all has arrived, and waits no longer.
		if synctest.Wait(); !w.program.Drained() {
			t.Error("the exit is not confirmed")
		}
	})
}

func TestInputItsEndSizesAndSignals(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		sizes, signals := make(chan flow.Resize), make(chan flow.Signal)
		over := w.run(t.Context(), &attach.Client{Stdin: strings.NewReader("typed\n"), Resizes: sizes, Signals: signals})
		sizes <- flow.Resize{Rows: 50, Cols: 100}
		if got := <-w.signals; got != (flow.Resize{Rows: 50, Cols: 100}) {
			t.Errorf("resized to %v", got)
		}
		signals <- "INT"
		if got := <-w.signals; got != flow.Signal("INT") {
			t.Errorf("signal %v", got)
		}
		close(signals)
		close(sizes)
		for _, want := range []flow.Frame{flow.Input("typed\n"), flow.EndOfInput{}} {
			n, f, err := w.program.Next(t.Context())
			if err != nil || string(flow.Append(nil, f)) != string(flow.Append(nil, want)) {
				t.Errorf("%v, %v; not %v", f, err, want)
			}
			w.program.Done(n)
		}
		w.write(t, flow.Exit{})
		<-over
	})
}

// Nothing is read ahead of a program that does not read, beyond the window.
func TestBackpressureReachesStdin(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		from, to := io.Pipe()
		over := w.run(t.Context(), &attach.Client{Stdin: from})
		taken := make(chan int, 1000)
		go func() {
			for {
				n, err := to.Write(make([]byte, 10_000))
				if err != nil {
					close(taken)
					return
				}
				taken <- n
			}
		}()
		time.Sleep(time.Hour)
		total := 0
		for len(taken) > 0 {
			total += <-taken
		}
		if total > flow.TerminalWindow+flow.MaxPayload {
			t.Errorf("%d bytes were read ahead", total)
		}
		w.write(t, flow.Exit{})
		<-over
		_ = from.Close()
		for range taken {
		}
	})
}

// flaky ends after so many bytes written, within a Write.
type flaky struct {
	net.Conn
	left int
}

func (f *flaky) Write(p []byte) (int, error) {
	if len(p) <= f.left {
		f.left -= len(p)
		return f.Conn.Write(p)
	}
	n, _ := f.Conn.Write(p[:f.left])
	_ = f.Close()
	return n, io.ErrClosedPipe
}

// A program that returns what it reads, over a network that loses every connection: every byte comes back once, and the
// exit code with it.
func TestEveryConnectionIsLost(t *testing.T) {
	for seed := range uint64(10) {
		in(t, func(t *testing.T, w *world) {
			r := rand.New(rand.NewPCG(seed, 0))
			w.wrap = func(c net.Conn) net.Conn { return &flaky{c, r.IntN(100_000)} }
			go func() {
				for {
					n, f, err := w.program.Next(t.Context())
					if err != nil {
						t.Error(err)
						return
					}
					switch f := f.(type) {
					case flow.Input:
						_ = w.program.Push(t.Context(), flow.Output(f))
					case flow.EndOfInput:
						w.program.Done(n)
						_ = w.program.Push(t.Context(), flow.Exit{Code: 42})
						return
					}
					w.program.Done(n)
				}
			}()
			text := make([]byte, 1<<20)
			for i := range text {
				text[i] = byte(r.Uint32())
			}
			out := newShown()
			got := <-w.run(t.Context(), &attach.Client{Stdin: bytes.NewReader(text), Stdout: out})
			if got.err != nil || got.exit.Code != 42 {
				t.Errorf("ended with %+v", got)
			}
			if out.String() != string(text) {
				t.Errorf("of %d bytes, %d others came back", len(text), len(out.String()))
			}
			if opened, _ := w.counts(); opened < 10 {
				t.Errorf("%d connections: hardly one was lost", opened)
			}
		})
	}
}

// told collects what a person is told of the line.
type told struct {
	mu     sync.Mutex
	states []attach.State
}

func (l *told) add(s attach.State) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.states = append(l.states, s)
}

func (l *told) all() []attach.State {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.states)
}

func TestAMinuteWithoutNetwork(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		var line told
		out, keys := newShown(), make(chan []byte)
		over := w.run(t.Context(), &attach.Client{Stdin: reader(keys), Stdout: out, Line: line.add})
		keys <- []byte("one")
		w.write(t, flow.Output("1"))
		time.Sleep(time.Minute)
		if len(line.all()) != 0 {
			t.Errorf("of an idle line is told %v", line.all())
		}

		down := time.Now()
		w.setRefuse(func(int) error {
			if time.Since(down) < time.Minute {
				return fleet.Errorf(fleet.Unavailable, "no route")
			}
			return nil
		})
		w.cut()
		keys <- []byte("two")
		w.write(t, flow.Output("2"))
		time.Sleep(1500 * time.Millisecond)
		if len(line.all()) != 0 {
			t.Errorf("after a moment is told %v", line.all())
		}
		time.Sleep(time.Second)
		if len(line.all()) != 1 || !line.all()[0].Silent || line.all()[0].Why == nil {
			t.Errorf("without network is told %v", line.all())
		}
		time.Sleep(time.Minute + 500*time.Millisecond) // back, and at most one pause later
		if out.String() != "12" || len(line.all()) != 2 || line.all()[1].Silent {
			t.Errorf("with a network again is shown %q, told %v", out.String(), line.all())
		}
		for _, want := range []string{"one", "two"} {
			if _, f, err := w.program.Next(t.Context()); err != nil || string(f.(flow.Input)) != want {
				t.Errorf("%v, %v; not %q", f, err, want)
			}
		}
		if opened, _ := w.counts(); opened > 50 {
			t.Errorf("tried %d times in a minute", opened)
		}
		w.write(t, flow.Exit{})
		<-over
		close(keys)
	})
}

// reader reads what comes out of a channel.
type reader chan []byte

func (r reader) Read(p []byte) (int, error) {
	b, open := <-r
	if !open {
		return 0, io.EOF
	}
	return copy(p, b), nil
}

// What is typed need not be answered, as a password is not; then the node is asked. Where that is not answered either, it is said.
func TestSilence(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		var line told
		keys := make(chan []byte)
		over := w.run(t.Context(), &attach.Client{Stdin: reader(keys), Line: line.add})
		keys <- []byte("a password")
		time.Sleep(time.Hour)
		_, before := w.counts()
		time.Sleep(time.Hour)
		if _, after := w.counts(); len(line.all()) != 0 || after != before {
			t.Errorf("an idle line says %d bytes and is told to be %v", after-before, line.all())
		}
		w.setSilent(true)
		time.Sleep(time.Hour) // nobody misses anything
		if len(line.all()) != 0 {
			t.Errorf("told %v", line.all())
		}
		keys <- []byte("x")
		time.Sleep(1900 * time.Millisecond)
		early := len(line.all())
		time.Sleep(700 * time.Millisecond)
		if early != 0 || len(line.all()) != 1 || !line.all()[0].Silent || line.all()[0].Why != nil {
			t.Errorf("of silence is told %d, then %v", early, line.all())
		}
		w.setSilent(false)
		time.Sleep(600 * time.Millisecond)
		if len(line.all()) != 2 || line.all()[1].Silent {
			t.Errorf("told %v", line.all())
		}
		if opened, _ := w.counts(); opened != 1 {
			t.Errorf("%d connections: silence is no loss", opened)
		}
		w.write(t, flow.Exit{})
		<-over
		close(keys)
	})
}

// A viewer who stops reading loses nothing by it: the line behind him is mended, and is not called silent.
func TestASlowViewer(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		var line told
		out, keys := newShown(), make(chan []byte)
		out.stop(true)
		over := w.run(t.Context(), &attach.Client{Stdin: reader(keys), Stdout: out, Line: line.add})
		sent := 0
		for w.program.TryPush(flow.Output(bytes.Repeat([]byte("a"), 1000))) {
			sent += 1000
			synctest.Wait()
		}
		if sent > flow.TerminalWindow+10_000 {
			t.Errorf("%d bytes are under way to a viewer who does not read", sent)
		}
		keys <- []byte("x")
		time.Sleep(time.Minute)
		w.cut()
		time.Sleep(time.Minute)
		keys <- []byte("y")
		time.Sleep(time.Minute)
		if opened, _ := w.counts(); opened != 2 || len(line.all()) != 0 {
			t.Errorf("%d connections, told %v", opened, line.all())
		}
		w.write(t, flow.Exit{Code: 1}) // in the reserve: the window is full
		synctest.Wait()
		w.cut()
		time.Sleep(time.Minute)
		if opened, _ := w.counts(); opened > 2 || len(line.all()) != 0 {
			t.Errorf("%d connections, told %v, though all has come", opened, line.all())
		}
		out.stop(false)
		if got := <-over; got.err != nil || got.exit.Code != 1 || len(out.String()) != sent {
			t.Errorf("ended with %+v, %d of %d bytes", got, len(out.String()), sent)
		}
		close(keys)
	})
}

// As in a pipe on one host, a program hears that nobody reads it; its end is still told.
func TestAViewerWhoIsGone(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		out := newShown()
		out.gone = syscall.EPIPE
		over := w.run(t.Context(), &attach.Client{Stdout: out})
		for range 100 {
			w.write(t, flow.Output(make([]byte, flow.MaxPayload)))
		}
		synctest.Wait()
		if len(w.signals) != 1 {
			t.Errorf("the program has %d signals", len(w.signals))
		}
		if got := <-w.signals; got != flow.Signal("HUP") {
			t.Errorf("the program has the signal %v", got)
		}
		w.write(t, flow.Exit{Code: -1, Signal: "HUP"})
		if got := <-over; got.err != nil || got.exit.Signal != "HUP" {
			t.Errorf("ended with %+v", got)
		}
	})
}

func TestTheEndOfItsContextHangsUp(t *testing.T) {
	left := errors.New("left")
	for name, c := range map[string]struct {
		before func(w *world)
		hears  bool
		within time.Duration
	}{
		"connected": {func(*world) {}, true, 0},
		"cut off": {func(w *world) {
			w.setRefuse(func(int) error { return fleet.Errorf(fleet.Unavailable, "no route") })
			w.cut()
			time.Sleep(10 * time.Second)
		}, false, 0},
		"silent": {func(w *world) { w.setSilent(true) }, false, time.Second},
	} {
		in(t, func(t *testing.T, w *world) {
			ctx, leave := context.WithCancelCause(t.Context())
			over := w.run(ctx, &attach.Client{})
			synctest.Wait()
			c.before(w)
			at := time.Now()
			leave(left)
			if c.within > 0 { // a Write under way ends with its connection, but this network's does not
				time.Sleep(c.within)
				w.setSilent(false)
			}
			got := <-over
			if !errors.Is(got.err, left) || time.Since(at) > c.within {
				t.Errorf("%s: %v after %v", name, got.err, time.Since(at))
			}
			synctest.Wait()
			if c.hears != (len(w.signals) == 1) && c.within == 0 {
				t.Errorf("%s: the program has %d signals", name, len(w.signals))
			}
		})
	}
}

// Whoever leaves need not look at what was still to be shown.
func TestLeavingShowsNothingMore(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		ctx, leave := context.WithCancel(t.Context())
		out := newShown()
		out.stop(true)
		over := w.run(ctx, &attach.Client{Stdout: out})
		w.write(t, flow.Output("under way"), flow.Output("behind it"))
		synctest.Wait()
		leave()
		synctest.Wait()
		out.stop(false)
		if got := <-over; !errors.Is(got.err, context.Canceled) || out.String() != "under way" {
			t.Errorf("ended with %v, showed %q", got.err, out.String())
		}
	})
}

func TestSessionsThatCannotGoOn(t *testing.T) {
	for kind, most := range map[fleet.Kind]time.Duration{
		fleet.NotFound:    0,
		fleet.Expired:     0,
		fleet.Conflict:    0,
		fleet.Denied:      33 * time.Second,
		fleet.Invalid:     33 * time.Second,
		fleet.Unavailable: 10*time.Minute + 3*time.Second,
		fleet.Exhausted:   10*time.Minute + 3*time.Second,
	} {
		in(t, func(t *testing.T, w *world) {
			out := newShown()
			out.stop(true)
			over := w.run(t.Context(), &attach.Client{Stdout: out})
			w.write(t, flow.Output("last"), flow.Output(" words"))
			synctest.Wait()
			w.setRefuse(func(int) error { return fleet.Errorf(kind, "no").Hinted("muster node list") })
			w.cut()
			time.Sleep(most * 9 / 10)
			synctest.Wait()
			early, _ := w.counts()
			time.Sleep(time.Hour)
			if opened, _ := w.counts(); most > 0 && opened == early {
				t.Errorf("%v: believed before its time", kind)
			}
			out.stop(false)
			got := <-over
			e, ok := errors.AsType[*fleet.Error](got.err)
			if !ok || e.Hint != "muster node list" || !strings.HasSuffix(e.Error(), ": no") || (e.Kind != kind && most < time.Minute) {
				t.Errorf("%v: %v", kind, got.err)
			}
			if out.String() != "last words" {
				t.Errorf("%v: what had come is shown as %q", kind, out.String())
			}
		})
	}
}

// A first attempt is not repeated: whoever types a wrong name wants to know.
func TestTheFirstOpenSaysWhyNot(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.refuse = func(int) error { return fleet.Errorf(fleet.Unavailable, "no answer from web7") }
		if got := <-w.run(t.Context(), &attach.Client{}); got.err == nil || got.err.Error() != "no answer from web7" {
			t.Errorf("%v", got.err)
		}
		if opened, _ := w.counts(); opened != 1 {
			t.Errorf("%d attempts", opened)
		}
	})
}

// A node that forgot, or invents, is left at once: nothing would come of another connection.
func TestANodeThatBreaksTheRules(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		over := w.run(t.Context(), &attach.Client{})
		synctest.Wait()
		w.mu.Lock()
		conn := w.conn
		w.mu.Unlock()
		_, _ = conn.Write(flow.Append(nil, flow.Ack(7)))
		if got := <-over; fleet.KindOf(got.err) != fleet.Invalid {
			t.Errorf("%v", got.err)
		}
		if opened, _ := w.counts(); opened != 1 {
			t.Errorf("%d connections", opened)
		}
	})
}

// A node that takes every connection and drops it is not asked without pause, nor forever.
func TestConnectionsThatDoNotLast(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.wrap = func(c net.Conn) net.Conn { return &flaky{c, 0} }
		w.write(t, flow.Output("a"))
		at := time.Now()
		got := <-w.run(t.Context(), &attach.Client{})
		if fleet.KindOf(got.err) != fleet.Unavailable || time.Since(at) > 11*time.Minute || time.Since(at) < 10*time.Minute {
			t.Errorf("%v after %v", got.err, time.Since(at))
		}
		if opened, _ := w.counts(); opened > 500 {
			t.Errorf("%d connections", opened)
		}
	})
}
