package api

import (
	"context"
	"slices"
	"sync"

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
// not have expired, and may be called by several goroutines at once; nil: the account that this process runs as reads. stale
// is node.ParamsAsk's.
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
	if err := ctx.Err(); err != nil {
		return ParamsRead{}, err
	}
	w := &wanted{selector: s, done: make(chan struct{})}
	if err := r.asks.put(w); err != nil {
		return ParamsRead{}, err
	}
	select {
	case <-w.done:
		return w.read, w.err
	case <-ctx.Done():
		r.asks.withdraw(w)
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
	if len(ask.Ask.Get) > 1 && mixed(read, err) {
		r.singly(ask.Ask.Get, all)
		return
	}
	parts := partsOf(read, ask.Ask.Get)
	for _, w := range all {
		part, ok := parts[w.selector]
		switch {
		case err != nil:
			w.err = err
		case !ok:
			w.err = fleet.Errorf(fleet.Internal, "the agent does not answer for %s", w.selector)
		default:
			w.read = part
		}
		close(w.done)
	}
}

// mixed reports whether an answer about several names may be one that some of them alone would not get: a refusal may be
// meant for one, as may the word that servers show less than this node has seen; and of what an agent that is cut off has no
// copy it says that nobody answers, if it is asked for that alone. An agent that has too much to do is not asked more.
func mixed(read ParamsRead, err error) bool {
	if err != nil {
		return fleet.KindOf(err) != fleet.Exhausted
	}
	return read.Source == node.FromCopy && len(read.Answer.Missing) > 0
}

// singly asks for each by itself, side by side: nobody is refused for another's sake, nor waits for others' patience.
func (r *Reader) singly(asked []params.Selector, all []*wanted) {
	var work sync.WaitGroup
	for _, s := range asked {
		var these []*wanted
		for _, w := range all {
			if w.selector == s {
				these = append(these, w)
			}
		}
		work.Go(func() { r.ask(these) })
	}
	work.Wait()
}

// partsOf returns the parts of an answer by what each is about. The agent has seen to it that items are in the order of the
// question; but what it hides from an account is missing behind all else, so where anything is, each is looked at.
func partsOf(read ParamsRead, asked []params.Selector) map[params.Selector]ParamsRead {
	parts := make(map[params.Selector]ParamsRead, len(asked))
	items, missing := read.Answer.Items, read.Answer.Missing
	read.Answer.Items, read.Answer.Missing, read.Answer.More, read.Answer.Next = nil, nil, false, ""
	inOrder := len(items) == len(asked) && len(missing) == 0
	for i, s := range asked {
		part := read
		if inOrder {
			part.Answer.Items = items[i : i+1 : i+1]
			parts[s] = part
			continue
		}
		item := slices.IndexFunc(items, func(i params.Item) bool { return i.Answers(s) == nil })
		gone := slices.IndexFunc(missing, func(m params.Missing) bool { return m.Selector == s })
		switch {
		case item >= 0:
			part.Answer.Items = items[item : item+1 : item+1]
		case gone >= 0:
			part.Answer.Missing = missing[gone : gone+1 : gone+1]
		default:
			continue
		}
		parts[s] = part
	}
	return parts
}
