package main

import "time"

// queued is something that happens at a moment.
type queued struct {
	at   time.Duration
	seq  uint64 // what was queued first happens first
	then func()
}

func (a queued) before(b queued) bool { return a.at < b.at || a.at == b.at && a.seq < b.seq }

// queue is a binary heap of what is to happen. It is its own, not container/heap: half of a simulation's time would go into
// interfaces.
type queue struct {
	heap []queued
	seq  uint64
}

func (q *queue) push(at time.Duration, then func()) {
	q.seq++
	q.heap = append(q.heap, queued{at, q.seq, then})
	i := len(q.heap) - 1
	for i > 0 {
		parent := (i - 1) / 2
		if !q.heap[i].before(q.heap[parent]) {
			break
		}
		q.heap[i], q.heap[parent] = q.heap[parent], q.heap[i]
		i = parent
	}
}

func (q *queue) empty() bool { return len(q.heap) == 0 }

// pop takes what happens next. The queue must not be empty.
func (q *queue) pop() queued {
	first := q.heap[0]
	last := len(q.heap) - 1
	q.heap[0] = q.heap[last]
	q.heap[last] = queued{}
	q.heap = q.heap[:last]
	i := 0
	for {
		least := i
		for child := 2*i + 1; child <= 2*i+2 && child < last; child++ {
			if q.heap[child].before(q.heap[least]) {
				least = child
			}
		}
		if least == i {
			return first
		}
		q.heap[i], q.heap[least] = q.heap[least], q.heap[i]
		i = least
	}
}
