package flow

import "github.com/muster-fleet/muster/node/fleet"

// Sender numbers what one end sends, and keeps it until the other end has consumed it. The zero value has no room; use NewSender.
type Sender struct {
	window int
	held   int      // bytes of kept with weights
	acked  uint64   // number of the last frame that is forgotten
	kept   [][]byte // the frames after it, as bytes
	spare  [][]byte // memory of long frames that were forgotten, for those that come
}

// Long frames come in crowds, and each lives until it is acknowledged: their memory goes round. An end that is busy no more keeps
// it until something short is sent.
const (
	longFrame = MaxFrame / 2
	mostSpare = 4 * ackEvery / MaxPayload // what four acknowledgements set free, when they come together
)

// NewSender returns a Sender that holds at most the window (TerminalWindow, BulkWindow) and Reserve.
func NewSender(window int) *Sender { return &Sender{window: window} }

// Push gives a numbered frame its number and keeps a copy of it, or returns false: full, try again after an Ack. It panics
// for a frame without number and for more than MaxPayload bytes.
func (s *Sender) Push(f Frame) bool {
	if !Numbered(f) {
		panic("flow: pushed a frame that has no number")
	}
	if isBulk(f) && !fits(s.held, sizeOf(f), f.kind(), s.window) { // before it is copied: who waits for room asks often
		return false
	}
	raw := Append(s.memory(header+sizeOf(f)), f)
	if !fits(s.held, len(raw)-header, f.kind(), s.window) {
		return false
	}
	s.kept = append(s.kept, raw)
	s.held += len(raw) - header + weight
	return true
}

// memory returns room for a frame.
func (s *Sender) memory(size int) []byte {
	if size < longFrame {
		s.spare = nil
		return make([]byte, 0, size)
	}
	last := len(s.spare) - 1
	if last < 0 {
		return make([]byte, 0, MaxFrame)
	}
	b := s.spare[last]
	s.spare = s.spare[:last]
	return b
}

// forget takes back the memory of a frame.
func (s *Sender) forget(raw []byte) {
	if len(raw) >= longFrame && len(s.spare) < mostSpare {
		s.spare = append(s.spare, raw[:0])
	}
}

// isBulk reports whether a frame may be long; its size is known then.
func isBulk(f Frame) bool {
	switch f.(type) {
	case Input, Output, ErrorOutput:
		return true
	default:
		return false
	}
}

// sizeOf returns the bytes of a payload, exactly if f came from Cut.
func sizeOf(f Frame) int {
	switch f := f.(type) {
	case Input:
		return len(f)
	case Output:
		return len(f)
	case ErrorOutput:
		return len(f)
	case Signal:
		return len(f)
	case Notice:
		return len(f)
	case Exit:
		return 4 + 1 + len(f.Signal) + len(f.Why)
	case Resize:
		return 4
	case Ack, Have:
		return 8
	case EndOfInput, Ask:
	}
	return 0
}

// Room returns how many bytes the next Input, Output or ErrorOutput may have: 0 to MaxPayload.
func (s *Sender) Room() int { return min(MaxPayload, max(0, s.window-s.held-weight)) }

// Pushed returns how many frames were pushed in all: the number of the last.
func (s *Sender) Pushed() uint64 { return s.acked + uint64(len(s.kept)) }

// Drained reports whether the other end has consumed all.
func (s *Sender) Drained() bool { return len(s.kept) == 0 }

// Ack forgets the frames up to number n. It is Invalid to have consumed what was never sent.
func (s *Sender) Ack(n Ack) error {
	if uint64(n) > s.Pushed() {
		return fleet.Errorf(fleet.Invalid, "session: the other end confirms frame %d of %d", n, s.Pushed())
	}
	for s.acked < uint64(n) {
		s.held -= len(s.kept[0]) - header + weight
		s.forget(s.kept[0])
		s.kept[0] = nil
		s.kept = s.kept[1:]
		s.acked++
	}
	if len(s.kept) == 0 {
		s.kept = nil // an idle session keeps no array from busier times
	}
	return nil
}

// Resume judges what the other end says that it has, at the beginning of a connection; sending goes on behind it (Pending).
// The room does not grow by it: what was taken is not consumed yet. Conflict: the other end has lost what it
// had confirmed, and this session cannot go on; Invalid: it has what was never sent.
func (s *Sender) Resume(have Have) error {
	if uint64(have) < s.acked {
		return fleet.Errorf(fleet.Conflict, "session: the other end is at frame %d and had confirmed %d", have, s.acked)
	}
	if uint64(have) > s.Pushed() {
		return fleet.Errorf(fleet.Invalid, "session: the other end has frame %d of %d", have, s.Pushed())
	}
	return nil
}

// Pending appends the frames behind number after to b, whole and as many as keep b within most bytes, but at least one, and
// returns the number of the last that b has now (after, if there is none).
func (s *Sender) Pending(b []byte, after uint64, most int) ([]byte, uint64) {
	after = max(after, s.acked)
	first := true
	for after < s.Pushed() {
		raw := s.kept[after-s.acked]
		if !first && len(b)+len(raw) > most {
			break
		}
		b = append(b, raw...)
		after++
		first = false
	}
	return b, after
}
