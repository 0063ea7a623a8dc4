package quorum

import (
	"context"
	"errors"
	"sync"

	"github.com/hashicorp/raft"

	"github.com/muster-fleet/muster/node/fleet"
)

// proposals are the items that wait for the batch before them to return.
type proposals struct {
	mu      sync.Mutex
	waiting []*proposal
	size    int  // bytes waiting
	sending bool // a batch is on its way
}

type proposal struct {
	item   []byte
	done   chan struct{}
	result any
	err    error
}

// Propose has the item applied on all replicas and returns what Apply returned here. Only the leader can: others return
// ErrNotLeader. ErrUnknownOutcome means that it may still be applied. One batch is on its way at a time; what comes
// meanwhile goes with the next, so that the batches grow with the load and nobody waits for a timer.
func (q *Quorum) Propose(ctx context.Context, item []byte) (result any, err error) {
	if len(item) > MaxItem {
		return nil, fleet.Errorf(fleet.Exhausted, "an entry of %d bytes; %d is the most", len(item), MaxItem)
	}
	if q.raft.State() != raft.Leader {
		return nil, q.notLeader()
	}
	if err := halted(q.cfg.Machine); err != nil {
		return nil, fleet.Errorf(fleet.Unavailable, "this server leads and can write nothing: %w", err)
	}
	p := &proposal{item: item, done: make(chan struct{})}
	if err := q.enqueue(p); err != nil {
		return nil, err
	}
	select {
	case <-p.done:
		return p.result, p.err
	case <-ctx.Done():
	}
	if q.proposals.withdraw(p) {
		return nil, fleet.Errorf(fleet.Unavailable, "the quorum did not take the entry in time: %w", ctx.Err())
	}
	select { // it may have come back while we looked
	case <-p.done:
		return p.result, p.err
	default:
		return nil, ErrUnknownOutcome{ctx.Err()}
	}
}

func (q *Quorum) enqueue(p *proposal) error {
	w := &q.proposals
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.waiting) >= waitingItems || w.size+len(p.item) > waitingBytes {
		return fleet.Errorf(fleet.Exhausted, "too many entries wait to be written").Hinted("try again in a few seconds")
	}
	w.waiting = append(w.waiting, p)
	w.size += len(p.item)
	if w.sending {
		return nil
	}
	if !q.begin() {
		w.waiting, w.size = nil, 0
		return closedError()
	}
	w.sending = true
	go q.send()
	return nil
}

// withdraw takes a proposal back that has not been sent.
func (w *proposals) withdraw(p *proposal) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, waiting := range w.waiting {
		if waiting == p {
			w.waiting = append(w.waiting[:i:i], w.waiting[i+1:]...)
			w.size -= len(p.item)
			return true
		}
	}
	return false
}

// take returns the next batch; none ends the sending.
func (w *proposals) take() []*proposal {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := fits(func(i int) int { return len(w.waiting[i].item) }, len(w.waiting))
	batch := w.waiting[:n:n]
	w.waiting = w.waiting[n:]
	if len(w.waiting) == 0 {
		w.waiting = nil
	}
	for _, p := range batch {
		w.size -= len(p.item)
	}
	w.sending = n > 0
	return batch
}

func (q *Quorum) send() {
	defer q.done()
	for {
		batch := q.proposals.take()
		if len(batch) == 0 {
			return
		}
		items := make([][]byte, len(batch))
		for i, p := range batch {
			items[i] = p.item
		}
		future := q.raft.Apply(encodeBatch(items), 0)
		settle(batch, future, q.failed)
	}
}

// settle gives each proposal of a batch its own result.
func settle(batch []*proposal, future raft.ApplyFuture, failed func(error) error) {
	err := future.Error()
	if err != nil {
		err = failed(err)
	}
	var answers results
	if err == nil {
		answers, _ = future.Response().(results)
	}
	for i, p := range batch {
		switch {
		case err != nil:
			p.err = err
		case i < len(answers):
			p.result = answers[i]
		}
		close(p.done)
	}
}

// failed says what raft's refusal means for what was proposed.
func (q *Quorum) failed(err error) error {
	switch {
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipTransferInProgress):
		return q.notLeader() // refused before it was written
	default:
		return ErrUnknownOutcome{err}
	}
}

// notLeader names the leader, if it is another.
func (q *Quorum) notLeader() error {
	if leader := q.leader(); leader.ID != q.self.ID {
		return ErrNotLeader{leader.ID}
	}
	return ErrNotLeader{}
}
