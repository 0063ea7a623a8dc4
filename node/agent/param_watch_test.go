package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-fleet/muster/consensus"
	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
	"github.com/muster-fleet/muster/params"
)

// watcher collects what a watch tells.
type watcher struct {
	news chan node.ParamsNews
	done chan error
	stop context.CancelFunc
}

func (d *desk) watches(t *testing.T, watch node.ParamsWatch) *watcher {
	ctx, stop := context.WithCancel(t.Context())
	w := &watcher{news: make(chan node.ParamsNews, 100), done: make(chan error, 1), stop: stop}
	go func() {
		w.done <- d.WatchParams(ctx, watch, func(n node.ParamsNews) error { w.news <- n; return nil })
	}()
	return w
}

// told returns the kinds and names of what has been told by now, and where.
func (w *watcher) told() (out []string, at params.EventPos, lost bool) {
	synctest.Wait()
	for {
		select {
		case n := <-w.news:
			for _, e := range n.Events {
				out = append(out, fmt.Sprintf("%s %s:%d", e.Kind, e.Name, e.Version))
			}
			at, lost = n.At, lost || n.Lost
		default:
			return out, at, lost
		}
	}
}

func same(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: told %q, want %q", what, got, want)
	}
}

// TestWatchParams: a watch tells every change of its scope once, in order, and another goes on where it ended.
func TestWatchParams(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t)
		before := d.putPlain(t, "/app/old", "x", 1, 0)
		w := d.watches(t, node.ParamsWatch{Scope: "/app/"})
		got, at, _ := w.told()
		same(t, "from now on", got)
		if at == (params.EventPos{}) {
			t.Error("a watch does not say where it begins")
		}
		born := d.putPlain(t, "/app/a", "1", 1, 0)
		d.putPlain(t, "/db/a", "1", 1, 0)
		d.putPlain(t, "/app/a", "2", 2, born)
		time.Sleep(time.Second)
		got, at, _ = w.told()
		same(t, "as it happens", got, "created /app/a:1", "updated /app/a:2")
		w.stop()
		if err := <-w.done; !errors.Is(err, context.Canceled) {
			t.Errorf("a watch that was stopped: %v", err)
		}
		d.putPlain(t, "/app/old", "y", 2, before)
		d.putPlain(t, "/app/a", "3", 3, born)
		w = d.watches(t, node.ParamsWatch{Scope: "/app/", After: at})
		defer w.stop()
		got, at, _ = w.told()
		same(t, "after a while", got, "updated /app/old:2", "updated /app/a:3")
		// News of others move the position on, so that the watch is not lost for nothing.
		for i := range 3 {
			d.putPlain(t, fmt.Sprintf("/db/%d", i), "1", 1, 0)
		}
		time.Sleep(watchBeat + time.Second)
		_, later, _ := w.told()
		if !at.Before(later) {
			t.Errorf("the position stays at %v though others' parameters changed", at)
		}
	})
}

// TestWatchParamsPolicy: a watch tells nobody of what he may not see, and ends when the watcher may not any more.
func TestWatchParamsPolicy(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t)
		mine := d.watches(t, node.ParamsWatch{Scope: "/", Signed: d.reads("/")})
		www := d.watches(t, node.ParamsWatch{Scope: "/", Local: []node.LocalUser{{Name: "www"}}})
		mine.told()
		d.putPlain(t, "/app/a", "1", 1, 0)
		time.Sleep(time.Second)
		got, _, _ := www.told()
		same(t, "an account without a rule", got)
		got, _, _ = mine.told()
		same(t, "the operator", got, "created /app/a:1")
		p := d.DeleteOperator("ada", d.Operator, false)
		if result, _ := d.replica.Apply(0, consensus.Encode(consensus.PutAct(p), d.Fleet.Now.UnixMilli())).(consensus.Result); result.Why != "" {
			t.Fatal(result.Why)
		}
		d.replica.tellWatches()
		if err := <-mine.done; fleet.KindOf(err) != fleet.Denied {
			t.Errorf("the watch of a removed operator: %v", err)
		}
		www.stop()
		<-www.done
	})
}

// TestWatchParamsExpiredKey: a watch ends when the key of who signed it expires, though nothing happens then.
func TestWatchParamsExpiredKey(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d, _, pass := newReader(t)
		signer, p := d.NewOperator("bob", time.Hour, auth.RootTeam)
		if result, _ := d.replica.Apply(0, consensus.Encode(consensus.PutAct(p), d.Fleet.Now.UnixMilli())).(consensus.Result); result.Why != "" {
			t.Fatal(result.Why)
		}
		signed := signer.Sign(auth.ForRequest, d.Fleet.ID(), node.Read{Header: d.Header(node.ReadLife), What: node.ReadParams, Name: "/"})
		w := d.watches(t, node.ParamsWatch{Scope: "/", Signed: []auth.Envelope{signed}})
		time.Sleep(2 * watchBeat)
		w.told()
		select {
		case err := <-w.done:
			t.Fatalf("the watch ended early: %v", err)
		default:
		}
		pass(2 * time.Hour)
		if err := <-w.done; fleet.KindOf(err) != fleet.Expired {
			t.Errorf("the watch of an expired key: %v", err)
		}
	})
}

// TestWatchParamsScope: nobody watches beyond what was signed for.
func TestWatchParamsScope(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	for _, tc := range []struct {
		signed, scope string
		ok            bool
	}{{"/", "/app/", true}, {"/app/", "/app/", true}, {"/app/", "/app/a/", true}, {"/app/", "/app/a", true}, {"/app/a", "/app/a", true},
		{"/app/", "/", false}, {"/app/", "/application/", false}, {"/app/a", "/app/", false}, {"/app/a", "/app/a/", false}, {"/", "app/", false}, {"/", "", false}} {
		ctx, stop := context.WithCancel(t.Context())
		err := d.watchParamsHere(ctx, d.self, node.ParamsWatch{Signed: d.reads(tc.signed), Scope: tc.scope}, func(node.ParamsNews) error { stop(); return nil })
		if (errors.Is(err, context.Canceled)) != tc.ok {
			t.Errorf("signed for %s, watches %s: %v", tc.signed, tc.scope, err)
		}
		stop()
	}
}

// TestWatchParamsLie: a server that goes back, tells of what was not asked for, or repeats itself is refused.
func TestWatchParamsLie(t *testing.T) {
	t.Parallel()
	at := params.EventPos{Act: 10, Part: 1}
	event := func(act uint64, name string) params.Event {
		return params.Event{Act: act, Name: name, Kind: params.EventCreated}
	}
	for what, news := range map[string]node.ParamsNews{
		"back":          {At: params.EventPos{Act: 9}},
		"other scope":   {Events: []params.Event{event(11, "/db/a")}, At: params.EventPos{Act: 11}},
		"out of order":  {Events: []params.Event{event(12, "/app/a"), event(11, "/app/a")}, At: params.EventPos{Act: 12}},
		"told before":   {Events: []params.Event{event(10, "/app/a")}, At: params.EventPos{Act: 12}},
		"beyond its at": {Events: []params.Event{event(13, "/app/a")}, At: params.EventPos{Act: 12}},
	} {
		if _, err := node.TakeNews(nil, node.ParamAsker{}, "/app/", at, news); err == nil {
			t.Errorf("%s is taken", what)
		}
	}
	if _, err := node.TakeNews(nil, node.ParamAsker{}, "/app/", at, node.ParamsNews{At: params.EventPos{Act: 3}, Lost: true}); err != nil {
		t.Errorf("lost: %v", err)
	}
}

// TestWatchParamsServers: a watch that loses its server goes on at another, and gives up when there is none for a while.
func TestWatchParamsServers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t)
		d.replica, d.quorum = nil, nil
		d.mu.Lock()
		d.seen = map[fleet.ID]node.Sighting{d.db.ID: {ID: d.db.ID, Status: fleet.Online}}
		d.mu.Unlock()
		news := func(act uint64, name string) frame {
			at := params.EventPos{Act: act}
			return frame{done, wire.Marshal(node.ParamsNews{At: at, Events: []params.Event{{Act: act, Name: name, Kind: params.EventCreated}}})}
		}
		d.peers.stream = []frame{news(5, "/app/a"), news(6, "/app/b")} // each stream: the second time it repeats what was told
		began := time.Now()
		var told []string
		ctx, stop := context.WithTimeout(t.Context(), time.Hour)
		defer stop()
		d.cfg.Clock = func() auth.Instant { return auth.Instant{Wall: d.Fleet.Now, Boot: time.Since(began)} }
		err := d.WatchParams(ctx, node.ParamsWatch{Scope: "/app/"}, func(n node.ParamsNews) error {
			for _, e := range n.Events {
				told = append(told, e.Name)
			}
			return nil
		})
		same(t, "through lost servers", told, "/app/a", "/app/b")
		if fleet.KindOf(err) != fleet.Unavailable || time.Since(began) > 2*watchAlone {
			t.Errorf("the end after %s: %v", time.Since(began), err)
		}
	})
}

// TestWatchParamsBounds: one peer has so many watches at a server, and no more.
func TestWatchParamsBounds(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	for range maxParamWatches {
		if !d.reading.watches.begin(d.web.ID, maxParamWatches) {
			t.Fatal("no watch")
		}
	}
	s := &frames{peer: d.web.ID, in: []frame{{askParamWatch, wire.Marshal(node.ParamsWatch{Scope: "/"})}}}
	d.Serve(s)
	if len(s.fails) != 1 || fleet.KindOf(s.fails[0]) != fleet.Exhausted {
		t.Errorf("one watch too many: %v", s.fails)
	}
}
