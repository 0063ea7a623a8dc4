package api

import (
	"context"
	"sync"

	"github.com/muster-fleet/muster/consensus"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/params"
)

// A Writer changes parameters for one signer, for many goroutines at a time. What they bring while others' changes are on
// their way goes with the next, as one change under one signature: it is the signatures that cost, one to make and one to
// verify on every server. The fleet takes such a change as a whole or not at all; where it refuses one, the Writer brings
// each half of it by itself, down to the operation that is refused, so that nobody is refused for another's sake.
//
// Operations that are brought side by side come in any order: who needs one waits for the answer to the first.
type Writer struct {
	lane   *Lane
	signer auth.Signer
	fleet  fleet.ID
	header func() auth.Header
	drafts gather[*draft]
}

// Operation makes an operation for a change that is issued then, in Unix milliseconds, with the content of what it puts. It may
// be called more than once, one call after another, and is not called once Do has returned.
type Operation func(issued int64) (op params.Op, content [][]byte)

// draft is one operation that somebody waits for.
type draft struct {
	done   chan struct{}
	result consensus.Result
	err    error

	mu   sync.Mutex // held while the operation is made
	make Operation  // nil: nobody waits any more
}

const (
	// writerOps is how many operations a Writer signs at once. Whoever reads one of them is shown the hashes of all, 34
	// bytes each, as its proof.
	writerOps = 64
	// writerUnderway is how many changes of a Writer are on their way: while one is written, the next is signed and verified.
	writerUnderway = 2
	// writerBytes bounds the operations of a change of several together with their contents, so that neither
	// params.MaxChange nor params.MaxContents refuses what each of them alone would not.
	writerBytes = params.MaxContents
)

// NewWriter returns a Writer over a lane, which the caller closes. header begins a change: a new ID, times, and what the signer
// has seen of the record; several goroutines may call it at once.
func NewWriter(lane *Lane, signer auth.Signer, of fleet.ID, header func() auth.Header) *Writer {
	w := &Writer{lane: lane, signer: signer, fleet: of, header: header}
	w.drafts = gather[*draft]{bring: w.change, batch: writerOps, most: writerUnderway}
	return w
}

// Do brings an operation, and returns what the fleet says of the change that it was part of. What the fleet refuses has the
// reason in the result, as in Lane.Propose, and was not done. After any other error nobody knows what came of it. When ctx
// ends, an operation that is not on its way yet is not brought any more.
func (w *Writer) Do(ctx context.Context, operation Operation) (consensus.Result, error) {
	if err := ctx.Err(); err != nil {
		return consensus.Result{}, err
	}
	d := &draft{make: operation, done: make(chan struct{})}
	if err := w.drafts.put(d); err != nil {
		return consensus.Result{}, err
	}
	select {
	case <-d.done:
		return d.result, d.err
	case <-ctx.Done():
	}
	w.drafts.withdraw(d)
	d.giveUp()
	select { // it may have come back while we looked
	case <-d.done:
		return d.result, d.err
	default:
		return consensus.Result{}, ctx.Err()
	}
}

// operation makes the draft's operation. False: nobody waits for it any more.
func (d *draft) operation(issued int64) (op params.Op, content [][]byte, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.make == nil {
		return params.Op{}, nil, false
	}
	op, content = d.make(issued)
	return op, content, true
}

func (d *draft) giveUp() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.make = nil
}

// change signs a change of as many of the drafts as go together and brings it; the others wait again, first in line. It
// belongs to no caller's context: the lane's end ends it.
func (w *Writer) change(drafts []*draft) {
	change, taken := w.together(drafts)
	if len(taken) == 0 {
		return
	}
	result, err := w.lane.Propose(context.Background(), change)
	if result.Why != "" && len(taken) > 1 { // refused, so nothing of it was done; after any other error something may have been
		half := len(taken) / 2
		w.change(taken[:half])
		w.change(taken[half:])
		return
	}
	for _, d := range taken {
		d.result, d.err = result, err
		close(d.done)
	}
}

// together returns a signed change of those of the drafts that go together. One of a name that another has, or that there is
// no room for, waits again; and then whatever is behind it with its name.
func (w *Writer) together(drafts []*draft) (change consensus.PutParams, taken []*draft) {
	signed := params.Change{Header: w.header()}
	var left []*draft
	names := make(map[string]bool, len(drafts))
	bytes := 0
	for _, d := range drafts {
		op, content, ok := d.operation(signed.Header.Issued)
		if !ok {
			continue
		}
		one, bodies := params.Commit(signed.Header, []params.Op{op})
		size := len(bodies[0])
		for _, c := range content {
			size += len(c)
		}
		if names[op.Name()] || len(taken) > 0 && bytes+size > writerBytes {
			names[op.Name()], left = true, append(left, d)
			continue
		}
		names[op.Name()], bytes, taken = true, bytes+size, append(taken, d)
		signed.Ops, change.Ops = append(signed.Ops, one.Ops...), append(change.Ops, bodies...)
		change.Contents = append(change.Contents, content...)
	}
	if len(left) > 0 {
		w.drafts.back(left)
	}
	if len(taken) > 0 {
		change.Statement = w.signer.Sign(auth.ForParams, w.fleet, signed)
	}
	return change, taken
}
