package line

import (
	"bytes"
	"io"
	"testing"
	"testing/iotest"

	"github.com/muster-fleet/muster/node/session/flow"
)

// After bulk, a line that is quiet again holds little; in bulk it reads and writes much at once.
func TestBuffersGrowAndShrink(t *testing.T) {
	var in inbox
	var out elastic
	bulk := bytes.Repeat(flow.Append(nil, flow.Output(make([]byte, flow.MaxPayload))), 100)
	from := bytes.NewReader(bulk)
	for from.Len() > 0 {
		if err := in.fill(from); err != nil {
			t.Fatal(err)
		}
		for ok := true; ok; {
			if _, more, err := in.next(); err != nil {
				t.Fatal(err)
			} else {
				ok = more
			}
		}
	}
	out.used(append(out.empty(), bulk[:batch]...))
	if len(in.b) != large || cap(out.b) < batch {
		t.Errorf("in bulk, %d bytes to read and %d to write", len(in.b), cap(out.b))
	}
	key := flow.Append(nil, flow.Output("a"))
	for range 2 * calm {
		if err := in.fill(bytes.NewReader(key)); err != nil {
			t.Fatal(err)
		}
		if _, ok, err := in.next(); !ok || err != nil {
			t.Fatal(ok, err)
		}
		out.used(append(out.empty(), key...))
	}
	if len(in.b) > small || cap(out.b) > small {
		t.Errorf("after bulk, %d bytes to read and %d to write are held", len(in.b), cap(out.b))
	}
}

// Frames come out whole, however the bytes come.
func TestInboxCutsFrames(t *testing.T) {
	var raw []byte
	sizes := []int{0, 1, small - 10, small, small + 1, flow.MaxPayload, 3, flow.MaxPayload, flow.MaxPayload}
	for i, n := range sizes {
		raw = flow.Append(raw, flow.Output(bytes.Repeat([]byte{byte(i)}, n)))
	}
	for name, from := range map[string]io.Reader{
		"at once":      bytes.NewReader(raw),
		"byte by byte": iotest.OneByteReader(bytes.NewReader(raw)),
		"in halves":    iotest.HalfReader(bytes.NewReader(raw)),
		"with the end": iotest.DataErrReader(bytes.NewReader(raw)),
	} {
		var in inbox
		for i, n := range sizes {
			for {
				f, ok, err := in.next()
				if err != nil {
					t.Fatal(err)
				}
				if ok {
					if !bytes.Equal(f.(flow.Output), bytes.Repeat([]byte{byte(i)}, n)) {
						t.Fatalf("%s: frame %d is another", name, i)
					}
					break
				}
				if err := in.fill(from); err != nil {
					t.Fatalf("%s: frame %d: %v", name, i, err)
				}
			}
		}
		if err := in.fill(from); err == nil {
			t.Errorf("%s: no end", name)
		}
	}
}
