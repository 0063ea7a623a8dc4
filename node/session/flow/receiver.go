package flow

import "github.com/muster-fleet/muster/node/fleet"

// Receiver counts what one end takes and consumes of what the other sends. Use NewReceiver.
type Receiver struct {
	direction Direction
	window    int

	held     int     // bytes of open with weights
	consumed uint64  // all up to this number are consumed
	open     []piece // what was taken behind it

	unsaid int  // bytes consumed, with weights, that no Ack has told of
	owes   bool // something was consumed that no Ack has told of
	asked  bool // the other end waits for an Ack
	closed bool // EndOfInput or Exit was taken
}

// piece is one frame that was taken.
type piece struct {
	cost int
	last bool // nothing of its direction need follow it
	done bool
}

// NewReceiver returns a Receiver of what goes in a direction. The window is the other end's.
func NewReceiver(d Direction, window int) *Receiver { return &Receiver{direction: d, window: window} }

// Take takes the next numbered frame and returns its number; Done must follow when it is consumed, also out of order. An
// error says that the other end does not keep to the protocol (Invalid) or to its window (Exhausted): leave it.
func (r *Receiver) Take(f Frame) (number uint64, err error) {
	k := f.kind()
	if !r.direction.carries(k) {
		return 0, fleet.Errorf(fleet.Invalid, "session: a frame of kind %d goes the wrong way", k)
	}
	if r.closed && !afterEnd(k) {
		return 0, fleet.Errorf(fleet.Invalid, "session: a frame of kind %d behind the end", k)
	}
	size := sizeOf(f)
	if !fits(r.held, size, k, r.window) {
		return 0, fleet.Errorf(fleet.Exhausted, "session: the other end sends more than the window of %d bytes", r.window)
	}
	last := k == kindEndOfInput || k == kindExit
	r.closed = r.closed || last
	r.open = append(r.open, piece{cost: size + weight, last: last})
	r.held += size + weight
	return r.Taken(), nil
}

// afterEnd reports whether a frame may follow EndOfInput or Exit: a program that reads no more still has a size.
func afterEnd(k kind) bool { return k == kindResize || k == kindSignal }

// Done says that the frame of this number is consumed: it takes no memory and nobody needs it again.
func (r *Receiver) Done(number uint64) {
	if number <= r.consumed || number > r.Taken() {
		return
	}
	r.open[number-r.consumed-1].done = true
	for len(r.open) > 0 && r.open[0].done {
		p := r.open[0]
		r.open = r.open[1:]
		r.consumed++
		r.held -= p.cost
		r.unsaid += p.cost
		r.owes = true
		r.asked = r.asked || p.last
	}
	if len(r.open) == 0 {
		r.open = nil // an idle session keeps no array from busier times
	}
}

// Taken returns how many numbered frames were taken in all: what Have says.
func (r *Receiver) Taken() uint64 { return r.consumed + uint64(len(r.open)) }

// Have returns what to tell the other end at the beginning of the next connection.
func (r *Receiver) Have() Have { return Have(r.Taken()) }

// Resume begins another connection: the last Ack may not have arrived over the one before, so it is due again.
func (r *Receiver) Resume() { r.asked = r.asked || r.consumed > 0 }

// Closed reports whether EndOfInput or Exit was taken.
func (r *Receiver) Closed() bool { return r.closed }

// Asked notes an Ask of the other end.
func (r *Receiver) Asked() { r.asked = true }

// Due reports whether an Ack should go out now: asked for, at the end, or much was consumed.
func (r *Receiver) Due() bool { return r.asked || r.unsaid >= ackEvery }

// Owes reports whether an Ack would say anything new. It costs nothing to send it along with something else.
func (r *Receiver) Owes() bool { return r.owes || r.asked }

// Ack returns the Ack to send; none is due until more is consumed.
func (r *Receiver) Ack() Ack {
	r.unsaid, r.owes, r.asked = 0, false, false
	return Ack(r.consumed)
}
