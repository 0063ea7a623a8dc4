package transport

import (
	"context"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/testnet/fabric"
)

// hearing counts what was said on a plane, and echoes it.
type hearing struct {
	mu   sync.Mutex
	said map[string]int
}

func heardBy(e *Endpoint, plane Plane) *hearing {
	h := &hearing{said: map[string]int{}}
	e.Handle(plane, func(s *Stream) {
		defer s.Close()
		kind, body, err := s.ReadFrame()
		if err != nil {
			return
		}
		h.mu.Lock()
		h.said[string(body)]++
		h.mu.Unlock()
		_ = s.WriteFrame(kind, body)
	})
	return h
}

func (h *hearing) times(what string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.said[what]
}

// saying opens a stream with first words, and returns the answer.
func saying(ctx context.Context, e *Endpoint, id fleet.ID, plane Plane, what string) (string, error) {
	s, err := e.OpenSaying(ctx, id, plane, 7, []byte(what))
	if err != nil {
		return "", err
	}
	defer s.Close()
	_, body, err := s.ReadFrame()
	return string(body), err
}

// TestFirstWordsSaveARoundTrip: two round trips to the answer, of TLS and of everything else. Without them there are three, as
// on planes where the peer's proof is to be seen first.
func TestFirstWordsSaveARoundTrip(t *testing.T) {
	const way = 25 * time.Millisecond
	for plane, trips := range map[Plane]int{Session: 2, Peer: 3} {
		inBubble(t, func(t *testing.T) {
			w := newNetwork(t, fabric.Options{Latency: way})
			b := w.node(2, newBook())
			h := heardBy(b, plane)
			a := w.node(1, newBook())
			for i, most := range []int{trips, 1} { // the second over the same connection
				began := time.Now()
				if got, err := saying(t.Context(), a, b.ID(), plane, "open"); err != nil || got != "open" {
					t.Fatalf("%q: %v", got, err)
				}
				if took := time.Since(began); took >= time.Duration(2*most+1)*way {
					t.Errorf("%s: it took %s", plane, took)
				}
				if n := h.times("open"); n != i+1 {
					t.Errorf("%s: it was heard %d times", plane, n)
				}
			}
			if n := len(b.pool.of(a.ID())); n != 1 {
				t.Errorf("%d connections", n)
			}
		})
	}
}

// TestFirstWordsThatAreRefused: nobody is served whom the gate does not admit, and they hear why.
func TestFirstWordsThatAreRefused(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newNetwork(t, fabric.Options{Latency: time.Millisecond})
		gate := newBook()
		gate.admit = func(fleet.ID, Plane, []byte) error { return fleet.Errorf(fleet.Denied, "no operator") }
		b := w.node(2, gate)
		h := heardBy(b, Session)
		_, err := saying(t.Context(), w.node(1, newBook(), onlyDials), b.ID(), Session, "open")
		if fleet.KindOf(err) != fleet.Denied || h.times("open") != 0 {
			t.Errorf("%v; heard %d times", err, h.times("open"))
		}
		barred := newBook()
		barred.bar(b.ID())
		if _, err := saying(t.Context(), w.node(3, barred), b.ID(), Session, "open"); fleet.KindOf(err) != fleet.Denied || h.times("open") != 0 {
			t.Errorf("to a node that our own gate does not allow: %v", err)
		}
		if _, err := w.node(4, newBook()).OpenSaying(t.Context(), b.ID(), Session, 7, make([]byte, 1<<20)); fleet.KindOf(err) != fleet.Exhausted {
			t.Errorf("a frame beyond the plane's: %v", err)
		}
	})
}

// TestFirstWordsOfMany: those who share a dial say each its own, once; long ones go behind the hello of the peer.
func TestFirstWordsOfMany(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newNetwork(t, fabric.Options{Latency: 10 * time.Millisecond})
		b := w.node(2, newBook())
		h := heardBy(b, Session)
		a := w.node(1, newBook(), onlyDials)
		texts := []string{"one", "two", "three", string(make([]byte, 300<<10))}
		var all sync.WaitGroup
		for _, text := range texts {
			all.Go(func() {
				if got, err := saying(t.Context(), a, b.ID(), Session, text); err != nil || got != text {
					t.Errorf("%d bytes are answered by %d: %v", len(text), len(got), err)
				}
			})
		}
		all.Wait()
		for _, text := range texts {
			if n := h.times(text); n != 1 {
				t.Errorf("%.9q was heard %d times", text, n)
			}
		}
		if n := len(b.pool.of(a.ID())); n != 1 {
			t.Errorf("%d connections", n)
		}
	})
}

// TestWhoGivesUpItsFirstWords: the dial goes on for another, and the stream of who left holds no place.
func TestWhoGivesUpItsFirstWords(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		const way = 10 * time.Millisecond
		w := newNetwork(t, fabric.Options{Latency: way})
		b := w.node(2, newBook())
		heardBy(b, Session)
		a := w.node(1, newBook(), onlyDials)
		for _, after := range []time.Duration{way, 3 * way} { // before and after they are said
			ctx, cancel := context.WithCancel(t.Context())
			gone := make(chan error)
			go func() {
				_, err := a.OpenSaying(ctx, b.ID(), Session, 7, []byte("gone"))
				gone <- err
			}()
			synctest.Wait()
			answered := make(chan error)
			go func() {
				_, err := saying(t.Context(), a, b.ID(), Session, "stays")
				answered <- err
			}()
			time.Sleep(after)
			cancel()
			if err := <-gone; fleet.KindOf(err) != fleet.Unavailable {
				t.Errorf("after %s: %v", after, err)
			}
			if err := <-answered; err != nil {
				t.Errorf("after %s: %v", after, err)
			}
			time.Sleep(time.Second)
			for _, l := range append(a.pool.of(b.ID()), b.pool.of(a.ID())...) {
				l.mu.Lock()
				if l.open != 0 {
					t.Errorf("after %s: %d streams are open", after, l.open)
				}
				l.mu.Unlock()
				l.close(closeGone, "")
			}
			synctest.Wait()
		}
	})
}

// TestFirstWordsAreNotSaidTwice: where it is not known whether they were heard, no other address is tried.
func TestFirstWordsAreNotSaidTwice(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newNetwork(t, fabric.Options{Latency: time.Millisecond})
		var judged atomic.Int32
		there := newBook()
		there.admit = func(fleet.ID, Plane, []byte) error {
			judged.Add(1)
			time.Sleep(time.Minute) // it hangs
			return nil
		}
		b := w.node(2, there)
		h := heardBy(b, Session)
		here := newBook()
		here.moved(b.ID(), addrOf(2), netip.AddrPortFrom(addrOf(2).Addr(), addrOf(2).Port()))
		if _, err := saying(t.Context(), w.node(1, here, onlyDials), b.ID(), Session, "open"); fleet.KindOf(err) != fleet.Unavailable {
			t.Error(err)
		}
		time.Sleep(2 * time.Minute)
		if judged.Load() != 1 || h.times("open") != 0 {
			t.Errorf("said %d times, heard %d times", judged.Load(), h.times("open"))
		}
	})
}
