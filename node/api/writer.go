package api

import (
	"context"

	"github.com/muster-fleet/muster/consensus"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/params"
)

// A Writer changes parameters for one signer, for many goroutines at a time. What they bring while others' changes are on
// their way goes with the next, as one change under one signature: it is the signatures that cost, one to make and one to
// verify on every server. The fleet takes such a change as a whole or not at all; where it refuses one, the Writer brings
// each of its operations by itself, so that nobody is refused for another's sake.
type Writer struct {
	lane   *Lane
	signer auth.Signer
	fleet  fleet.ID
	header func() auth.Header
	drafts gather[*draft]
}

// Operation makes an operation for a change that is issued then, in Unix milliseconds, with the content of what it puts. It may
// be called more than once.
type Operation func(issued int64) (op params.Op, content [][]byte)

// draft is one operation that somebody waits for.
type draft struct {
	make   Operation
	done   chan struct{}
	result consensus.Result
	err    error
}

const (
	// writerOps is how many operations a Writer signs at once. Whoever reads one of them is shown the hashes of all, 34
	// bytes each, as its proof.
	writerOps = 64
	// writerUnderway is how many changes of a Writer are on their way: while one is written, the next is signed and verified.
	writerUnderway = 2
	// writerBytes bounds the contents of a change of several operations, with their names; policies, tags and readers of 64
	// operations have room beside it in params.MaxChange.
	writerBytes = 64 << 10
)

// NewWriter returns a Writer over a lane, which the caller closes. header begins a change: a new ID, times, and what the signer
// has seen of the record.
func NewWriter(lane *Lane, signer auth.Signer, of fleet.ID, header func() auth.Header) *Writer {
	w := &Writer{lane: lane, signer: signer, fleet: of, header: header}
	w.drafts = gather[*draft]{bring: w.change, batch: writerOps, most: writerUnderway}
	return w
}

// Do brings an operation, and returns what the fleet says of the change that it was part of. With an error of ctx or of kind
// Unavailable nobody knows what came of it.
func (w *Writer) Do(ctx context.Context, operation Operation) (consensus.Result, error) {
	d := &draft{make: operation, done: make(chan struct{})}
	w.drafts.put(d)
	select {
	case <-d.done:
		return d.result, d.err
	case <-ctx.Done():
		return consensus.Result{}, ctx.Err()
	}
}

// change signs a change of as many of the drafts as go together and brings it; the others wait again, first in line. It
// belongs to no caller's context: the lane's end ends it.
func (w *Writer) change(drafts []*draft) {
	header := w.header()
	change := consensus.PutParams{}
	var ops []params.Op
	var taken, left []*draft
	names := make(map[string]bool, len(drafts))
	bytes := 0
	for _, d := range drafts {
		op, content := d.make(header.Issued)
		size := len(op.Name())
		for _, c := range content {
			size += len(c)
		}
		if names[op.Name()] || len(taken) > 0 && bytes+size > writerBytes {
			left = append(left, d)
			continue
		}
		names[op.Name()], bytes = true, bytes+size
		ops, taken, change.Contents = append(ops, op), append(taken, d), append(change.Contents, content...)
	}
	if len(left) > 0 {
		w.drafts.back(left)
	}
	signed, bodies := params.Commit(header, ops)
	change.Statement, change.Ops = w.signer.Sign(auth.ForParams, w.fleet, signed), bodies
	result, err := w.lane.Propose(context.Background(), change)
	if result.Why != "" && len(taken) > 1 {
		for _, d := range taken {
			w.change([]*draft{d})
		}
		return
	}
	for _, d := range taken {
		d.result, d.err = result, err
		close(d.done)
	}
}
