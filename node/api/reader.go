package api

import (
	"cmp"
	"context"
	"slices"

	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/params"
)

// A Reader reads parameters by name for many goroutines at a time: what they ask for while other questions are on their way
// goes with the next, up to params.MaxGet names in one. Every question is asked after those who wait for it began to.
type Reader struct {
	lane   *Lane
	signed func() auth.Envelope
	stale  bool
	asks   gather[*wanted]
}

// wanted is a parameter that somebody waits for.
type wanted struct {
	selector params.Selector
	done     chan struct{}
	read     ParamsRead
	err      error
}

// readerUnderway is how many questions of a Reader are on their way: an agent answers them side by side.
const readerUnderway = 8

// NewReader returns a Reader over a lane, which the caller closes. signed returns the operator's request to read, which must
// not have expired; nil: the account that this process runs as reads. stale is node.ParamsAsk's.
func NewReader(lane *Lane, signed func() auth.Envelope, stale bool) *Reader {
	r := &Reader{lane: lane, signed: signed, stale: stale}
	r.asks = gather[*wanted]{bring: r.ask, batch: params.MaxGet, most: readerUnderway}
	return r
}

// Get reads one version with its value: the answer has one item, or one that is missing, and no proof.
func (r *Reader) Get(ctx context.Context, s params.Selector) (ParamsRead, error) {
	if err := s.Check(); err != nil { // the question would fail for others too
		return ParamsRead{}, err
	}
	w := &wanted{selector: s, done: make(chan struct{})}
	r.asks.put(w)
	select {
	case <-w.done:
		return w.read, w.err
	case <-ctx.Done():
		return ParamsRead{}, ctx.Err()
	}
}

// ask asks for what is wanted, each selector once. It belongs to no caller's context: the lane's end ends it.
func (r *Reader) ask(all []*wanted) {
	ask := node.ParamsAsk{Ask: params.Ask{Values: true}, Stale: r.stale}
	if r.signed != nil {
		ask.Signed = []auth.Envelope{r.signed()}
	}
	for _, w := range all {
		if !slices.Contains(ask.Ask.Get, w.selector) {
			ask.Ask.Get = append(ask.Ask.Get, w.selector)
		}
	}
	read, err := r.lane.ReadParams(context.Background(), ask)
	if err != nil && len(ask.Ask.Get) > 1 && fleet.KindOf(err) != fleet.Unavailable { // nobody is refused for another's sake
		for _, w := range all {
			r.ask([]*wanted{w})
		}
		return
	}
	parts := partsOf(read, ask.Ask.Get)
	for _, w := range all {
		var ok bool
		if w.read, ok = parts[w.selector]; !ok && err == nil {
			w.err = fleet.Errorf(fleet.Internal, "the agent does not answer for %s", w.selector)
		}
		w.err = cmp.Or(err, w.err)
		close(w.done)
	}
}

// partsOf returns the parts of an answer by what each is about. Items and what is missing are in the order of the question.
func partsOf(read ParamsRead, asked []params.Selector) map[params.Selector]ParamsRead {
	parts := make(map[params.Selector]ParamsRead, len(asked))
	items, missing := read.Answer.Items, read.Answer.Missing
	for _, s := range asked {
		part := read
		part.Answer.Items, part.Answer.Missing = nil, nil
		switch {
		case len(missing) > 0 && missing[0].Selector == s:
			part.Answer.Missing, missing = missing[:1:1], missing[1:]
		case len(items) > 0:
			part.Answer.Items, items = items[:1:1], items[1:]
		default:
			return parts
		}
		parts[s] = part
	}
	return parts
}
