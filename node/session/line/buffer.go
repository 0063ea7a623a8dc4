package line

import (
	"io"

	"github.com/muster-fleet/muster/node/session/flow"
)

// A buffer is small while little is said, and large in bulk: of 1,000 idle sessions each holds no more than small.
const (
	small = 4 << 10
	large = 4 * flow.MaxFrame
	calm  = 16 // so many small uses in a row make it small again
)

// elastic is memory for what is written.
type elastic struct {
	b     []byte
	small int
}

func (e *elastic) empty() []byte { return e.b[:0] }

// used says what was made of the memory.
func (e *elastic) used(b []byte) {
	e.b = b
	if len(b) > small {
		e.small = 0
		return
	}
	if e.small++; e.small >= calm && cap(e.b) > small {
		e.b = nil
	}
}

// inbox makes frames of what is read.
type inbox struct {
	b          []byte
	start, end int // what was read and not cut yet
	small      int
}

// fill reads once. The bytes of frames that next returned are void then.
func (in *inbox) fill(conn io.Reader) error {
	rest := in.end - in.start
	switch {
	case in.b == nil, rest == 0 && in.small >= calm && len(in.b) > small:
		in.move(small)
	case rest == len(in.b), rest == 0 && in.end == len(in.b) && len(in.b) < large:
		in.move(large)
	case in.start > 0:
		copy(in.b, in.b[in.start:in.end])
		in.start, in.end = 0, rest
	}
	n, err := conn.Read(in.b[in.end:])
	if in.end += n; n > small/2 {
		in.small = 0
	} else {
		in.small++
	}
	if n > 0 {
		return nil // an error comes again
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return err
}

func (in *inbox) move(size int) {
	b := make([]byte, size)
	in.end = copy(b, in.b[in.start:in.end])
	in.b, in.start = b, 0
}

// next cuts the next whole frame off what was read.
func (in *inbox) next() (flow.Frame, bool, error) {
	f, rest, err := flow.Cut(in.b[in.start:in.end])
	if err == flow.ErrShort {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	in.start = in.end - len(rest)
	return f, true, nil
}
