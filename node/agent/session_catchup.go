package agent

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

// catchUpWait bounds how long an operator waits while this host fetches the part of the record that he has seen and it has
// not. Mostly it is one question to one server.
const catchUpWait = 4 * time.Second

// askAhead bounds how long one server may take for it.
const askAhead = time.Second

// growth tells whoever waits for it that the record grew.
type growth struct {
	mu   sync.Mutex
	next chan struct{}
}

// wait returns a channel that the next tell closes.
func (g *growth) wait() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.next == nil {
		g.next = make(chan struct{})
	}
	return g.next
}

func (g *growth) tell() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.next != nil {
		close(g.next)
		g.next = nil
	}
}

// caughtUp has something judged by the record. Where the judgement is Unavailable because the record is behind, more of it is
// fetched, and it is judged again by what came.
func (a *Agent) caughtUp(ctx context.Context, judge func(auth.Record) error) error {
	ctx, cancel := context.WithTimeout(ctx, catchUpWait)
	defer cancel()
	for more := true; ; {
		grown := a.grown.wait()
		err := judge(a.record())
		if fleet.KindOf(err) != fleet.Unavailable || !more || ctx.Err() != nil {
			return err
		}
		patience := ctx
		if more = a.fetchAhead(ctx); !more { // it may be on its way all the same: through this host's own replica, or by gossip
			var cancel context.CancelFunc
			patience, cancel = context.WithTimeout(ctx, askAhead)
			defer cancel()
		}
		select {
		case <-grown:
		case <-patience.Done():
		}
	}
}

// fetchAhead asks servers, the leader first, for what comes after this host's record, until one had something.
func (a *Agent) fetchAhead(ctx context.Context) bool {
	for _, id := range a.othersAhead() {
		var body actsBody
		ask, cancel := context.WithTimeout(ctx, askAhead)
		err := a.ask(ask, id, askActs, actsAsk{a.record().Length}, &body)
		cancel()
		if err == nil && len(body.Acts) > 0 {
			a.Post(node.ActsFetched{From: id, Acts: body.Acts})
			return true
		}
	}
	return false
}

// othersAhead lists the other servers that are there, the leader first.
func (a *Agent) othersAhead() []fleet.ID {
	leader := a.newest(a.picture.Load()).Leader
	var out []fleet.ID
	for _, id := range append([]fleet.ID{leader}, a.servers()...) {
		if !id.IsZero() && id != a.self && a.alive(id) && !slices.Contains(out, id) {
			out = append(out, id)
		}
	}
	return out
}
