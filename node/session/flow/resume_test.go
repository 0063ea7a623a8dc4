package flow

import (
	"bytes"
	"reflect"
	"testing"

	"pgregory.net/rapid"
)

// end is one end of a line in memory.
type end struct {
	direction Direction // of what it takes
	out       *Sender
	in        *Receiver
	sent      uint64
	heard     []byte // of this connection, not cut yet

	pushed, took []Frame  // of all connections
	waiting      []uint64 // taken, not consumed
}

func newEnd(takes Direction, window int) *end {
	return &end{direction: takes, out: NewSender(window), in: NewReceiver(takes, window)}
}

// push pushes one frame that the other end may take.
func (e *end) push(f Frame) bool {
	if !e.out.Push(f) {
		return false
	}
	raw, _, _ := Cut(Append(nil, f)) // a copy that is nobody else's
	e.pushed = append(e.pushed, raw)
	return true
}

// speak returns what it writes now.
func (e *end) speak(most int) []byte {
	var b []byte
	if e.in.Due() || (e.in.Owes() && e.sent < e.out.Pushed()) {
		b = Append(b, e.in.Ack())
	}
	b, e.sent = e.out.Pending(b, e.sent, most)
	return b
}

// hear takes bytes of the connection, cut anywhere.
func (e *end) hear(t *rapid.T, b []byte) {
	e.heard = append(e.heard, b...)
	for {
		f, rest, err := Cut(e.heard)
		if err == ErrShort {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		switch f := f.(type) {
		case Ack:
			if err := e.out.Ack(f); err != nil {
				t.Fatal(err)
			}
		case Ask:
			e.in.Asked()
		default:
			number, err := e.in.Take(f)
			if err != nil {
				t.Fatal(err)
			}
			copied, _, _ := Cut(Append(nil, f))
			e.took = append(e.took, copied)
			e.waiting = append(e.waiting, number)
		}
		e.heard = bytes.Clone(rest)
	}
}

// drop loses the connection.
func (e *end) drop() { e.heard = nil }

func (e *end) resume(t *rapid.T, have Have) {
	if err := e.out.Resume(have); err != nil {
		t.Fatal(err)
	}
	e.in.Resume()
	e.sent = uint64(have)
}

func (e *end) check(t *rapid.T, of *end) {
	n := len(e.took)
	if n > len(of.pushed) || !reflect.DeepEqual(e.took, of.pushed[:n:n]) && n > 0 {
		t.Fatalf("took %d frames that are not the first of the %d pushed", n, len(of.pushed))
	}
	for _, held := range []int{e.out.held, e.in.held} {
		if held > e.out.window+Reserve {
			t.Fatalf("%d bytes are held, window %d", held, e.out.window)
		}
	}
	if e.in.held > of.out.held {
		t.Fatal("the taker counts more than the giver: an honest end could be cut off")
	}
}

// Any cut, anywhere in a frame, any number of times, at either side of what is under way: nothing is lost, nothing comes
// twice, the order stays, neither end holds more than its window, and what was pushed arrives in the end.
func TestAnyCutAndResumeLosesAndRepeatsNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		window := rapid.SampledFrom([]int{ackEvery + MaxPayload + weight, TerminalWindow}).Draw(t, "window")
		client, program := newEnd(FromProgram, window), newEnd(ToProgram, window)
		var up, down []byte                    // under way
		cut := func(arrive func([]byte) int) { // so much of what was under way arrives before the end is noticed
			program.hear(t, up[:arrive(up)])
			client.hear(t, down[:arrive(down)])
			up, down = nil, nil
			client.drop()
			program.drop()
			client.resume(t, program.in.Have())
			program.resume(t, client.in.Have())
		}
		count := byte(0)
		data := func(t *rapid.T) []byte {
			count++
			return bytes.Repeat([]byte{count}, rapid.SampledFrom([]int{1, 3, 700, 9000, MaxPayload}).Draw(t, "size"))
		}
		under := func(b []byte) int { return rapid.IntRange(0, len(b)).Draw(t, "bytes") }
		consume := func(e *end) {
			if len(e.waiting) == 0 {
				return
			}
			i := rapid.IntRange(0, len(e.waiting)-1).Draw(t, "which")
			e.in.Done(e.waiting[i])
			e.waiting = append(e.waiting[:i:i], e.waiting[i+1:]...)
		}
		t.Repeat(map[string]func(*rapid.T){
			"input":   func(t *rapid.T) { client.push(Input(data(t))) },
			"signal":  func(t *rapid.T) { client.push(Signal("INT")) },
			"resize":  func(t *rapid.T) { client.push(Resize{uint16(count), 80}) },
			"output":  func(t *rapid.T) { program.push(Output(data(t))) },
			"error":   func(t *rapid.T) { program.push(ErrorOutput(data(t))) },
			"notice":  func(t *rapid.T) { program.push(Notice("one")) },
			"ask":     func(t *rapid.T) { client.in.Asked() },
			"up":      func(t *rapid.T) { up = append(up, client.speak(1<<20)...) },
			"down":    func(t *rapid.T) { down = append(down, program.speak(1<<20)...) },
			"arrives": func(t *rapid.T) { n := under(up); program.hear(t, up[:n]); up = up[n:] },
			"comes":   func(t *rapid.T) { n := under(down); client.hear(t, down[:n]); down = down[n:] },
			"read":    func(*rapid.T) { consume(program) },
			"shown":   func(*rapid.T) { consume(client) },
			"cut":     func(*rapid.T) { cut(under) },
			"":        func(t *rapid.T) { client.check(t, program); program.check(t, client) },
		})
		// It comes to an end: all is heard, consumed and confirmed.
		var saidAll, wroteAll bool
		for !saidAll || !wroteAll || !client.out.Drained() || !program.out.Drained() {
			before := len(client.took) + len(program.took)
			saidAll = saidAll || client.push(EndOfInput{})
			wroteAll = wroteAll || program.push(Exit{Code: 7})
			program.hear(t, append(up, client.speak(1<<20)...))
			client.hear(t, append(down, program.speak(1<<20)...))
			up, down = nil, nil
			for _, e := range []*end{client, program} {
				for _, number := range e.waiting {
					e.in.Done(number)
				}
				e.waiting = nil
			}
			up, down = client.speak(1<<20), program.speak(1<<20)
			cut(func([]byte) int { return 0 }) // no acknowledgement arrives
			program.hear(t, client.speak(1<<20))
			client.hear(t, program.speak(1<<20))
			if len(client.took)+len(program.took) == before && (!client.out.Drained() || !program.out.Drained()) {
				t.Fatalf("nothing moves: %d and %d frames are held", len(client.out.kept), len(program.out.kept))
			}
		}
		client.check(t, program)
		program.check(t, client)
		if len(client.took) != len(program.pushed) || len(program.took) != len(client.pushed) {
			t.Fatal("not all has arrived")
		}
	})
}
