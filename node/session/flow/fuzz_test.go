package flow

import (
	"bytes"
	"reflect"
	"testing"

	"github.com/muster-fleet/muster/testnet/hostile"
)

func seeds(f *testing.F) {
	var all []byte
	for _, c := range oneOfEach {
		raw := Append(nil, c.frame)
		f.Add(raw)
		all = append(all, raw...)
	}
	f.Add(all)
	f.Add([]byte("\x01\xff\xff\xff\xff"))
	f.Add(Append(Append(nil, Input(make([]byte, MaxPayload))), Ack(1)))
	f.Add(bytes.Repeat(Append(nil, Input{}), 5000))
	f.Add(bytes.Repeat(Append(nil, Resize{1, 2}), 5000))
}

// What is cut has one form as bytes, and no byte is skipped; whether more comes is said only where it can.
func FuzzCut(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		for {
			frame, rest, err := Cut(data)
			if err == ErrShort && len(data) >= MaxFrame {
				t.Fatalf("%d bytes are no whole frame", len(data))
			}
			if err != nil {
				if frame != nil || len(rest) != len(data) {
					t.Fatalf("an error took %d bytes", len(data)-len(rest))
				}
				return
			}
			raw := data[:len(data)-len(rest)]
			if again := Append(nil, frame); !bytes.Equal(again, raw) || len(raw) > MaxFrame || len(raw)-header != sizeOf(frame) {
				t.Fatalf("%x is %#v, which is %x", raw, frame, again)
			}
			data = rest
		}
	})
}

// Whatever the other end sends, what is held for it is bounded by the window, and its numbers count what came.
func FuzzReceiver(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, d := range []Direction{ToProgram, FromProgram} {
			r, s, count := NewReceiver(d, TerminalWindow), NewSender(TerminalWindow), uint64(0)
			s.Push(Output("a"))
			for rest := data; ; {
				frame, after, err := Cut(rest)
				if err != nil {
					break
				}
				rest = after
				switch frame := frame.(type) {
				case Ack:
					err = s.Ack(frame)
				case Have:
					err = s.Resume(frame)
				case Ask:
					r.Asked()
				default:
					var number uint64
					if number, err = r.Take(frame); err == nil {
						if count++; number != count || r.Taken() != count {
							t.Fatalf("frame %d has number %d", count, number)
						}
						if count%3 == 0 {
							r.Done(number / 2)
						}
					}
				}
				if err != nil {
					break
				}
				if r.held > TerminalWindow+Reserve || len(r.open)*weight > r.held || r.held < 0 {
					t.Fatalf("%d bytes in %d frames are held", r.held, len(r.open))
				}
				if s.Pushed() != 1 {
					t.Fatalf("%d frames were pushed", s.Pushed())
				}
			}
		}
	})
}

// A frame costs no more than its bytes, whatever it claims.
func TestCutIsCheap(t *testing.T) {
	inputs := func(yield func(string, []byte) bool) {
		for _, c := range oneOfEach {
			raw := Append(nil, c.frame)
			for i := range raw {
				for _, b := range []byte{0, 1, 0x7f, 0xff} {
					bent := bytes.Clone(raw)
					bent[i] = b
					if !yield(reflect.TypeOf(c.frame).Name(), bent) {
						return
					}
				}
			}
		}
	}
	hostile.Check(t, hostile.Bound{Base: 1 << 10, PerByte: 4}, func(b []byte) { _, _, _ = Cut(b) }, inputs)
}
