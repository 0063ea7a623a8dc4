package agent

import (
	"context"
	"sync"

	"github.com/muster-fleet/muster/node/fleet"
)

// maxTickets is how many peers may wait for the loop's answer at a time, of each kind of question.
const maxTickets = 4096

// tickets match answers of the loop to those who wait for them.
type tickets[T any] struct {
	mu      *sync.Mutex
	last    *uint64
	waiting map[uint64]chan T
}

func newTickets[T any]() tickets[T] {
	return tickets[T]{mu: &sync.Mutex{}, last: new(uint64), waiting: map[uint64]chan T{}}
}

// open returns a number for a question, 0 when too many wait.
func (t *tickets[T]) open() (ticket uint64, answer chan T) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.waiting) >= maxTickets {
		return 0, nil
	}
	*t.last++
	answer = make(chan T, 1)
	t.waiting[*t.last] = answer
	return *t.last, answer
}

// perPeer counts what each peer has under way.
type perPeer struct {
	mu sync.Mutex
	of map[fleet.ID]int
}

// begin reports whether a peer has less than most under way, and counts one more then; end takes it back.
func (p *perPeer) begin(peer fleet.ID, most int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.of[peer] >= most {
		return false
	}
	if p.of == nil {
		p.of = map[fleet.ID]int{}
	}
	p.of[peer]++
	return true
}

func (p *perPeer) end(peer fleet.ID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.of[peer]--; p.of[peer] == 0 {
		delete(p.of, peer)
	}
}

// answer gives an answer to who waits for it; nobody may.
func (t *tickets[T]) answer(ticket uint64, with T) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if answer, ok := t.waiting[ticket]; ok {
		delete(t.waiting, ticket)
		answer <- with
	}
}

// wait returns the answer, or false when ctx ends first.
func (t *tickets[T]) wait(ctx context.Context, ticket uint64, answer chan T) (with T, ok bool) {
	select {
	case with = <-answer:
		return with, true
	case <-ctx.Done():
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.waiting, ticket)
	select {
	case with = <-answer: // in the last moment
		return with, true
	default:
		return with, false
	}
}
