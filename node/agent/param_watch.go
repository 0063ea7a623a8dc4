package agent

import (
	"context"
	"slices"
	"time"

	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
	"github.com/muster-fleet/muster/params"
)

// A watch of parameters is a stream from any server's replica. The server keeps nothing for a watcher but its position in
// the agreed events: who is slow falls behind, and who falls behind too far is told so.
const (
	// watchBeat is how often a watcher hears where the events are though nothing happened; watchSilence, after how long a
	// watcher takes a server for lost. QUIC notices a dead peer no sooner.
	watchBeat    = 10 * time.Second
	watchSilence = 25 * time.Second
	// watchPace is how long news gather, at least, while they come without end: fewer, larger frames.
	watchPace = 5 * time.Millisecond
	// watchAlone is how long a watch goes on without a server.
	watchAlone = 15 * time.Second
	// maxParamWatches is how many watches one peer may have at a server.
	maxParamWatches = 64
)

func (a *Agent) serveParamWatch(s Stream, body []byte) error {
	var watch node.ParamsWatch
	if err := wire.Unmarshal(body, &watch); err != nil {
		return err
	}
	if !a.reading.watches.begin(s.Peer(), maxParamWatches) {
		return fleet.Errorf(fleet.Exhausted, "this node has %d watches of parameters at %s", maxParamWatches, a.cfg.Name)
	}
	defer a.reading.watches.end(s.Peer())
	return a.watchParamsHere(s.Context(), s.Peer(), watch, func(n node.ParamsNews) error { return s.WriteFrame(done, wire.Marshal(n)) })
}

// watchParamsHere tells news of this host's replica until ctx ends, each fails, or the watcher may not any more.
func (a *Agent) watchParamsHere(ctx context.Context, peer fleet.ID, watch node.ParamsWatch, each func(node.ParamsNews) error) error {
	if err := a.needReplica(); err != nil {
		return err
	}
	state := a.replica.State()
	asker, err := a.reading.asker(state.Record, peer, watch.Signed, watch.Local, a.now())
	if err == nil {
		err = asker.CheckWatch(watch.Scope)
	}
	if err != nil {
		return err
	}
	at := watch.After
	if at == (params.EventPos{}) {
		at = node.PosNow(state.Act)
	}
	told := params.EventPos{} // what the watcher knows; the first news are told though there are none
	beat := time.NewTicker(watchBeat)
	defer beat.Stop()
	for beats := false; ; {
		moved := a.replica.paramsMoved() // before the state is looked at: what comes later is heard of
		state = a.replica.State()
		if asker, err = asker.Renewed(state.Record, a.now()); err != nil { // each time: a key also expires without an act
			return err
		}
		news, more := node.NewsOf(state, state.Record.Charter.Policy(), asker, watch.Scope, at, node.PosNow(state.Act))
		at = news.At
		if len(news.Events) > 0 || news.Lost || told == (params.EventPos{}) || beats && told != at {
			if err := each(news); err != nil {
				return err
			}
			told, beats = at, false
		}
		if more {
			continue
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-moved:
		case <-beat.C:
			beats = true
			told = params.EventPos{} // a sign of life, even if nothing moved
			continue
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(watchPace):
		}
	}
}

// WatchParams tells what happens to parameters, in order, until ctx ends or each fails. It goes from server to server and
// on from where it was; Unavailable: no server answers for a while. Expired: the signed request is over; sign another, and
// go on after the last position.
func (a *Agent) WatchParams(ctx context.Context, watch node.ParamsWatch, each func(node.ParamsNews) error) error {
	if err := params.CheckScope(watch.Scope); err != nil {
		return err
	}
	w := paramWatcher{agent: a, watch: watch, each: each, heard: a.cfg.Clock().Boot}
	for {
		for _, id := range a.watchServers() {
			err := w.from(ctx, id)
			switch {
			case ctx.Err() != nil:
				return ctx.Err()
			case w.failed != nil:
				return w.failed
			case err != nil && !retriable(err):
				return err
			}
			a.log.Debug("a watch of parameters ended", "peer", id, "err", err)
			w.last = err
		}
		if a.cfg.Clock().Boot-w.heard > watchAlone {
			e := fleet.Errorf(fleet.Unavailable, "no server tells of parameters any more")
			if w.last != nil {
				e = fleet.Errorf(fleet.Unavailable, "no server tells of parameters any more (last: %w)", w.last)
			}
			return e.Hinted("muster quorum status; then watch again, from where it ended")
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(retryLeader):
		}
	}
}

// watchServers lists whom to ask for a watch: this host itself, then servers that can be seen, the leader last, which has
// enough to do.
func (a *Agent) watchServers() []fleet.ID {
	leader, _ := a.leaderToTry(0)
	servers := slices.DeleteFunc(a.servers(), func(id fleet.ID) bool { return !a.alive(id) })
	rank := func(id fleet.ID) int {
		switch id {
		case a.self:
			return 0
		case leader:
			return 2
		}
		return 1
	}
	slices.SortStableFunc(servers, func(x, y fleet.ID) int { return rank(x) - rank(y) })
	return servers
}

// paramWatcher is a watch on the node that asked.
type paramWatcher struct {
	agent  *Agent
	watch  node.ParamsWatch // After moves on
	each   func(node.ParamsNews) error
	failed error         // of each
	last   error         // of a server
	heard  time.Duration // boot time of the newest news
}

func (w *paramWatcher) from(ctx context.Context, id fleet.ID) error {
	a := w.agent
	if id == a.self {
		return a.watchParamsHere(ctx, a.self, w.watch, w.take)
	}
	dial, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	s, err := a.peers.Open(dial, id)
	if err != nil {
		return err
	}
	defer s.Close()
	defer context.AfterFunc(ctx, func() { s.Close() })()
	if err := s.WriteFrame(askParamWatch, wire.Marshal(w.watch)); err != nil {
		return err
	}
	silent := time.AfterFunc(watchSilence, func() { s.Close() })
	defer silent.Stop()
	for {
		_, body, err := s.ReadFrame()
		if err != nil {
			if fleet.KindOf(err) == fleet.Internal { // a stream that broke, not a word of the server
				err = fleet.Errorf(fleet.Unavailable, "%s: %w", a.nameOf(id), err)
			}
			return err
		}
		silent.Reset(watchSilence)
		var news node.ParamsNews
		if err := wire.Unmarshal(body, &news); err != nil {
			return err
		}
		if err := w.take(news); err != nil {
			return fleet.Errorf(fleet.Unavailable, "%s: %w", a.nameOf(id), err) // another may be honest
		}
	}
}

// take judges news, passes them on, and remembers where the next server goes on.
func (w *paramWatcher) take(news node.ParamsNews) error {
	a := w.agent
	record := a.record()
	var own node.ParamAsker // judges for this host's accounts alone
	if len(w.watch.Signed) == 0 && len(w.watch.Local) > 0 {
		var err error
		if own, err = node.NodeAsker(record, a.self, w.watch.Local); err != nil {
			return err
		}
	}
	out, err := node.TakeNews(policyOf(record), own, w.watch.Scope, w.watch.After, news)
	if err != nil {
		return err
	}
	w.watch.After, w.heard = out.At, a.cfg.Clock().Boot
	if err := w.each(out); err != nil {
		w.failed = err
		return err
	}
	return nil
}

func policyOf(r auth.Record) *auth.Policy {
	if r.Charter == nil {
		return nil
	}
	return r.Charter.Policy()
}
