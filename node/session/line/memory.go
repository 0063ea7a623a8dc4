package line

import (
	"bytes"

	"github.com/muster-fleet/muster/node/session/flow"
)

// Frames that are long come in crowds, and each is held until it is consumed: their memory goes round. An end that is busy no
// more keeps mostSpare of them until something short comes.
const (
	longFrame = flow.MaxPayload / 2
	mostSpare = 8
)

// kept returns f with bytes of its own.
func (e *End) kept(f flow.Frame) flow.Frame {
	switch f := f.(type) {
	case flow.Input:
		return flow.Input(e.clone(f))
	case flow.Output:
		return flow.Output(e.clone(f))
	case flow.ErrorOutput:
		return flow.ErrorOutput(e.clone(f))
	default:
		return f
	}
}

func (e *End) clone(b []byte) []byte {
	if len(b) < longFrame {
		e.spare = nil
		return bytes.Clone(b)
	}
	last := len(e.spare) - 1
	if last < 0 {
		return append(make([]byte, 0, flow.MaxPayload), b...)
	}
	room := e.spare[last]
	e.spare = e.spare[:last]
	return append(room, b...)
}

// lend notes a frame whose memory comes back when it is done.
func (e *End) lend(i item) {
	if long(i.frame) != nil {
		e.lent = append(e.lent, i)
	}
}

func (e *End) takeBack(number uint64) {
	for i, l := range e.lent {
		if l.number != number {
			continue
		}
		if len(e.spare) < mostSpare {
			e.spare = append(e.spare, long(l.frame)[:0])
		}
		last := len(e.lent) - 1
		e.lent[i], e.lent[last] = e.lent[last], item{}
		e.lent = e.lent[:last]
		return
	}
}

// long returns the bytes of a long frame; nil if f is none.
func long(f flow.Frame) []byte {
	var b []byte
	switch f := f.(type) {
	case flow.Input:
		b = f
	case flow.Output:
		b = f
	case flow.ErrorOutput:
		b = f
	default:
	}
	if len(b) < longFrame {
		return nil
	}
	return b
}
