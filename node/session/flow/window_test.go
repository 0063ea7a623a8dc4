package flow

import (
	"testing"

	"github.com/muster-fleet/muster/node/fleet"
)

func mustTake(t testing.TB, r *Receiver, f Frame) uint64 {
	t.Helper()
	number, err := r.Take(f)
	if err != nil {
		t.Fatal(err)
	}
	return number
}

func TestAFullWindowStops(t *testing.T) {
	for _, window := range []int{TerminalWindow, BulkWindow} {
		for _, size := range []int{0, 1, 1000, MaxPayload} {
			s, pushed := NewSender(window), 0
			for s.Push(Output(make([]byte, size))) {
				pushed += size + weight
			}
			if pushed > window || pushed < window-size-weight {
				t.Errorf("a window of %d held %d in frames of %d bytes", window, pushed, size)
			}
			if room := s.Room(); room >= max(size, 1) {
				t.Errorf("full, with room for %d bytes", room)
			}
			before := s.Pushed()
			if !s.Push(Exit{Code: 3}) || s.Pushed() != before+1 {
				t.Error("no room for the end of a program behind a full window")
			}
			for s.Push(Notice("again")) {
				pushed += weight
			}
			if pushed > window+Reserve {
				t.Errorf("%d bytes are held", pushed)
			}
			if err := s.Ack(Ack(s.Pushed())); err != nil || !s.Drained() || s.held != 0 || s.Room() != MaxPayload {
				t.Errorf("after all was consumed, %d bytes are held: %v", s.held, err)
			}
		}
	}
}

func TestRoomIsWhatFits(t *testing.T) {
	s := NewSender(TerminalWindow)
	for s.Room() > 0 {
		room := s.Room()
		if room < MaxPayload && asFull(s).Push(Output(make([]byte, room+1))) {
			t.Fatalf("more than the room of %d fitted", room)
		}
		if !s.Push(Output(make([]byte, room))) {
			t.Fatalf("a room of %d was none", room)
		}
	}
}

// asFull returns a Sender with the same room.
func asFull(s *Sender) *Sender { return &Sender{window: s.window, held: s.held} }

// An end that consumes all never owes so much, unasked, that the other cannot go on.
func TestLazyAcknowledgementsStopNobody(t *testing.T) {
	for _, size := range []int{0, 1, 100, 8 << 10, MaxPayload} {
		s, r := NewSender(TerminalWindow), NewReceiver(FromProgram, TerminalWindow)
		acks := 0
		for range 10_000 {
			f := Output(make([]byte, size))
			if !s.Push(f) {
				t.Fatalf("full with frames of %d bytes: %d are confirmed of %d", size, s.acked, s.Pushed())
			}
			r.Done(mustTake(t, r, f))
			if r.Due() {
				acks++
				if err := s.Ack(r.Ack()); err != nil {
					t.Fatal(err)
				}
			}
		}
		if most := 10_000*(size+weight)/ackEvery + 1; acks > most {
			t.Errorf("%d acknowledgements of frames of %d bytes; %d are enough", acks, size, most)
		}
	}
}

func TestAnAckIsDueWhenItMatters(t *testing.T) {
	r := NewReceiver(FromProgram, TerminalWindow)
	n := mustTake(t, r, Output("a"))
	if r.Due() || r.Owes() {
		t.Error("an acknowledgement of what nobody has consumed")
	}
	r.Done(n)
	if r.Due() || !r.Owes() {
		t.Error("a byte is confirmed at once, or never")
	}
	r.Asked()
	if !r.Due() || r.Ack() != 1 || r.Due() || r.Owes() {
		t.Error("a question is not answered once")
	}
	r.Asked()
	if !r.Due() || !r.Owes() || r.Ack() != 1 {
		t.Error("a question is answered only where there is news")
	}
	n = mustTake(t, r, Exit{})
	if r.Due() {
		t.Error("an end is confirmed before it is shown")
	}
	if r.Done(n); !r.Due() || !r.Closed() || r.Ack() != 2 {
		t.Error("the end is not confirmed at once")
	}
}

// A signal does not wait behind input that nobody reads, and what was consumed in between is not confirmed before it.
func TestDoneOutOfOrder(t *testing.T) {
	r := NewReceiver(ToProgram, TerminalWindow)
	input, signal, more := mustTake(t, r, Input("typed")), mustTake(t, r, Signal("INT")), mustTake(t, r, Input("ahead"))
	r.Done(signal)
	r.Done(more)
	r.Done(more)
	if r.Owes() || r.Taken() != 3 || r.Ack() != 0 {
		t.Error("input is confirmed that nobody has read")
	}
	r.Done(input)
	r.Done(input)
	r.Done(99)
	if r.Ack() != 3 || r.held != 0 || r.open != nil {
		t.Errorf("%d bytes are held when all is consumed", r.held)
	}
}

// Whoever does not keep to the window is cut off before it costs more than that.
func TestAnUnboundedOtherEndIsRefused(t *testing.T) {
	for name, f := range map[string]Frame{"long": Input(make([]byte, MaxPayload)), "empty": Input{}, "signals": Signal("INT"), "sizes": Resize{}} {
		r, held := NewReceiver(ToProgram, TerminalWindow), 0
		for {
			_, err := r.Take(f)
			if fleet.KindOf(err) == fleet.Exhausted {
				break
			}
			if held += sizeOf(f) + weight; err != nil || held > TerminalWindow+Reserve {
				t.Fatalf("%s: %d bytes are held: %v", name, held, err)
			}
		}
	}
}

func TestNothingFollowsTheEnd(t *testing.T) {
	for _, c := range []struct {
		direction   Direction
		end, behind Frame
		fine        bool
	}{
		{ToProgram, EndOfInput{}, Input("a"), false},
		{ToProgram, EndOfInput{}, EndOfInput{}, false},
		{ToProgram, EndOfInput{}, Signal("INT"), true},
		{ToProgram, EndOfInput{}, Resize{1, 1}, true},
		{FromProgram, Exit{}, Output("a"), false},
		{FromProgram, Exit{}, ErrorOutput("a"), false},
		{FromProgram, Exit{}, Notice("a"), false},
		{FromProgram, Exit{}, Exit{}, false},
	} {
		r := NewReceiver(c.direction, TerminalWindow)
		mustTake(t, r, c.end)
		if _, err := r.Take(c.behind); (err == nil) != c.fine {
			t.Errorf("%#v behind %#v: %v", c.behind, c.end, err)
		}
	}
}

func TestNumbersThatCannotBe(t *testing.T) {
	s := NewSender(TerminalWindow)
	for range 3 {
		s.Push(Output("a"))
	}
	if err := s.Ack(4); fleet.KindOf(err) != fleet.Invalid || s.acked != 0 {
		t.Errorf("confirmed what was never sent: %v", err)
	}
	if err := s.Ack(2); err != nil {
		t.Fatal(err)
	}
	if err := s.Ack(1); err != nil || s.acked != 2 {
		t.Errorf("an old acknowledgement: %v", err)
	}
	for have, want := range map[Have]fleet.Kind{0: fleet.Conflict, 1: fleet.Conflict, 4: fleet.Invalid, 1 << 63: fleet.Invalid} {
		if err := s.Resume(have); fleet.KindOf(err) != want {
			t.Errorf("the other end has %d: %v", have, err)
		}
	}
	held := s.held
	for _, have := range []Have{2, 3} {
		if err := s.Resume(have); err != nil || s.held != held {
			t.Errorf("the other end has %d, and the room grew: %v", have, err)
		}
	}
}

func TestPendingKeepsFramesWhole(t *testing.T) {
	s := NewSender(TerminalWindow)
	for i := range 10 {
		s.Push(Output(make([]byte, 100*i)))
	}
	for most := range 3000 {
		b, after := []byte(nil), uint64(0)
		for after < s.Pushed() {
			before := after
			if b, after = s.Pending(b[:0], after, most); after == before || (len(b) > most && after > before+1) {
				t.Fatalf("%d bytes of at most %d, frames %d to %d", len(b), most, before, after)
			}
			for range after - before {
				if _, rest, err := Cut(b); err != nil {
					t.Fatal(err)
				} else {
					b = rest
				}
			}
			if len(b) != 0 {
				t.Fatalf("%d bytes behind the last frame", len(b))
			}
		}
	}
	if b, after := s.Pending(nil, 10, 1000); b != nil || after != 10 {
		t.Errorf("%d bytes behind the last frame, up to %d", len(b), after)
	}
	if err := s.Ack(9); err != nil {
		t.Fatal(err)
	}
	if _, after := s.Pending(nil, 3, 1000); after != 10 {
		t.Errorf("what is forgotten is looked for: %d", after)
	}
}
