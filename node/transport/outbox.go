package transport

import (
	"sync"
	"sync/atomic"
)

// tally counts the packets that wait here on somebody's behalf, and those of all.
type tally struct {
	queued atomic.Int64
	limit  int64
	all    *tally // nil: this is that of all
}

// take counts one more, unless that is too many.
func (t *tally) take() bool {
	if t == nil {
		return true
	}
	if t.queued.Add(1) > t.limit || !t.all.take() {
		t.queued.Add(-1)
		return false
	}
	return true
}

func (t *tally) give(n int) {
	for ; t != nil; t = t.all {
		t.queued.Add(-int64(n))
	}
}

// lane is what waits of one channel.
type lane struct {
	limit int           // packets
	tally *tally        // who answers for them; nil: nobody has to
	space chan struct{} // gets one when a packet has left; nil: nobody waits for that

	queue  [][]byte
	listed bool // in outbox.turns
	closed bool
}

// outbox holds the datagrams that wait for a connection. Its lanes take turns, one packet each, so that a flood through one
// pipe delays another by its own packets alone. Push never waits: what does not fit is the network's loss.
type outbox struct {
	mu     sync.Mutex
	turns  []*lane // with something in them
	wake   chan struct{}
	closed bool
}

func newOutbox() *outbox { return &outbox{wake: make(chan struct{}, 1)} }

type pushed byte

const (
	pushedIn pushed = iota
	pushedFull
	pushedClosed
)

func (o *outbox) push(l *lane, d []byte) pushed {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case o.closed || l.closed:
		return pushedClosed
	case len(l.queue) >= l.limit || !l.tally.take():
		return pushedFull
	}
	l.queue = append(l.queue, d)
	if !l.listed {
		l.listed = true
		o.turns = append(o.turns, l)
	}
	poke(o.wake)
	return pushedIn
}

// pop takes the next datagram, nil if none waits.
func (o *outbox) pop() []byte {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.turns) == 0 {
		return nil
	}
	l := o.turns[0]
	o.turns[0] = nil
	o.turns = o.turns[1:]
	d := l.queue[0]
	l.queue[0] = nil
	l.queue = l.queue[1:]
	l.tally.give(1)
	if len(l.queue) > 0 {
		o.turns = append(o.turns, l)
	} else {
		l.listed, l.queue = false, nil
	}
	poke(l.space)
	return d
}

// drop forgets a lane and what waits in it. Nothing can be pushed there any more.
func (o *outbox) drop(l *lane) {
	o.mu.Lock()
	defer o.mu.Unlock()
	l.tally.give(len(l.queue))
	l.queue, l.closed = nil, true
	if !l.listed {
		return
	}
	l.listed = false
	kept := o.turns[:0]
	for _, other := range o.turns {
		if other != l {
			kept = append(kept, other)
		}
	}
	clear(o.turns[len(kept):])
	o.turns = kept
}

// close forgets all that waits.
func (o *outbox) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
	for _, l := range o.turns {
		l.tally.give(len(l.queue))
		l.queue, l.listed = nil, false
	}
	o.turns = nil
}

// poke leaves a sign for whoever waits at c, once.
func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default: // there is one already; or c is nil
	}
}
