package agent

import (
	"bytes"
	"testing"

	"github.com/muster-fleet/muster/consensus"
	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
	"github.com/muster-fleet/muster/params"
	"github.com/muster-fleet/muster/testnet/hostile"
)

// walled is a desk with a parameter that nodes may read and one that they may not.
func walled(tb testing.TB) *desk {
	tb.Helper()
	d := newDesk(tb)
	d.putPlain(tb, "/open/a", "for everybody", 1, 0)
	d.putPlain(tb, "/closed/b", "not for nodes", 1, 0)
	d.Fleet.Record = d.replica.State().Record
	policy := d.Charter(auth.CharterPutPolicy, auth.PutPolicy{Policy: auth.FirstPolicy + `
		forbid (principal is Node, action, resource is Parameter) when { resource.name like "/closed/*" };`})
	if result, _ := d.replica.Apply(0, consensus.Encode(consensus.PutAct(policy), d.Fleet.Now.UnixMilli())).(consensus.Result); result.Why != "" {
		tb.Fatal(result.Why)
	}
	d.Fleet.Record = d.replica.State().Record
	p := *d.picture.Load()
	p.record = d.replica.State().Record
	d.picture.Store(&p)
	return d
}

// paramSeeds are requests about parameters, by kind.
func paramSeeds(tb testing.TB, d *desk) map[byte][][]byte {
	ask := func(a params.Ask) []byte { return wire.Marshal(node.ParamsAsk{Ask: a, Stale: true}) }
	asks := [][]byte{
		ask(get(tb, "/open/a", "/closed/b", "/open/a:1")), ask(params.Ask{Values: true, Path: []params.PathAsk{{Path: "/", Recursive: true}}}),
		ask(params.Ask{List: []params.ListAsk{{}}}), ask(params.Ask{Values: true, History: []params.HistoryAsk{{Name: "/closed/b"}}}),
		wire.Marshal(node.ParamsAsk{Ask: get(tb, "/closed/b"), Local: []node.LocalUser{{Name: "www"}}}),
		wire.Marshal(node.ParamsAsk{Ask: get(tb, "/open/a"), Signed: []auth.Envelope{d.web.Signer.Sign(auth.ForRequest, d.Fleet.ID(), node.Read{Header: d.Header(node.ReadLife), What: node.ReadParams, Name: "/"})}}),
	}
	var lane laneAsks
	for i, body := range asks {
		lane.Asks = append(lane.Asks, laneAsk{ID: uint32(i), Kind: askParams, Body: body})
	}
	entry, _ := d.plain("/open/new", "x", 1, 0)
	entry.Statement.Signature = make([]byte, 64)
	lane.Asks = append(lane.Asks, laneAsk{ID: 99, Kind: askPropose, Body: consensus.Encode(entry, 0)}, laneAsk{ID: 99, Kind: askKey})
	return map[byte][][]byte{
		askParams: asks, askLane: {wire.Marshal(lane)},
		askParamWatch: {wire.Marshal(node.ParamsWatch{Scope: "/", After: params.EventPos{Act: 1}}), wire.Marshal(node.ParamsWatch{Scope: "/open/"})},
	}
}

// FuzzParamRequest: whatever a node asks, in whatever way, it is not shown what policy denies it, frames stay within their
// bounds, and nothing is written that no operator signed.
func FuzzParamRequest(f *testing.F) {
	d := walled(f)
	for kind, bodies := range paramSeeds(f, d) {
		for _, body := range bodies {
			f.Add(kind, body)
		}
	}
	before := d.replica.State()
	f.Fuzz(func(t *testing.T, kind byte, body []byte) {
		if kind != askParams && kind != askLane && kind != askParamWatch {
			return
		}
		s := &frames{peer: d.web.ID, in: []frame{{kind, body}}}
		d.Serve(s)
		for _, answer := range s.out {
			if bytes.Contains(answer.body, []byte("not for nodes")) || len(answer.body) > frameLimit {
				t.Fatalf("an answer of %d bytes: %q", len(answer.body), answer.body)
			}
			if kind == askParamWatch && bytes.Contains(answer.body, []byte("/closed/b")) {
				t.Fatalf("news of what policy denies: %q", answer.body)
			}
		}
		if now := d.replica.State(); now.Taken != before.Taken {
			t.Fatal("a question moved the state")
		}
	})
}

// FuzzParamAnswer: whatever a server answers, what the node takes was signed by an operator, and is what was asked for.
func FuzzParamAnswer(f *testing.F) {
	d := newDesk(f)
	born := d.putPlain(f, "/app/a", "one", 1, 0)
	d.putPlain(f, "/app/a", "two", 2, born)
	d.putPlain(f, "/app/b", "b", 1, 0)
	asks := []params.Ask{get(f, "/app/a"), get(f, "/app/a:1", "/app/b"), {Values: true, Path: []params.PathAsk{{Path: "/app"}}}, {Values: true, History: []params.HistoryAsk{{Name: "/app/a"}}}}
	for i, ask := range asks {
		body, err := d.answerParams(f.Context(), d.self, wire.Marshal(node.ParamsAsk{Ask: ask}))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(uint8(i), body)
	}
	charter := d.record().Charter
	d.quorum = elsewhere{stubQuorum{d.replica, d.db.ID}}
	d.peers.kind = done
	f.Fuzz(func(t *testing.T, which uint8, body []byte) {
		ask := asks[int(which)%len(asks)]
		d.peers.body = body
		read, err := d.ReadParams(t.Context(), node.ParamsAsk{Ask: ask})
		if err != nil {
			return
		}
		for _, item := range read.Answer.Items {
			put, err := params.Verify(item, charter)
			if err != nil || put.Name != "/app/a" && put.Name != "/app/b" || len(item.Content) != 1 || fleet.Sum(item.Content[0]) != put.Digest {
				t.Fatalf("%+v is taken: %v", item, err)
			}
		}
	})
}

// FuzzParamNews: whatever a server tells, the watcher hears of its scope alone, and in order.
func FuzzParamNews(f *testing.F) {
	at := params.EventPos{Act: 5, Part: 1}
	f.Add(wire.Marshal(node.ParamsNews{At: params.EventPos{Act: 9}, Events: []params.Event{{Act: 6, Name: "/app/a"}, {Act: 6, Part: 1, Name: "/app/b", Tags: map[string]string{"a": "b"}}}}))
	f.Add(wire.Marshal(node.ParamsNews{At: params.EventPos{Act: 3}, Lost: true}))
	f.Fuzz(func(t *testing.T, body []byte) {
		var news node.ParamsNews
		if wire.Unmarshal(body, &news) != nil {
			return
		}
		out, err := node.TakeNews(nil, node.ParamAsker{}, "/app/", at, news)
		if err != nil {
			return
		}
		last := at
		if out.Lost {
			last = params.EventPos{}
		}
		for _, e := range out.Events {
			if !last.Before(e.Pos()) || out.At.Before(e.Pos()) || !params.Covers("/app/", e.Name) {
				t.Fatalf("%+v is taken", news)
			}
			last = e.Pos()
		}
	})
}

// FuzzCopies: what is on disk in place of copies brings nobody down, and shows nothing that no operator signed.
func FuzzCopies(f *testing.F) {
	d := newDesk(f)
	d.kept.store = newStubCopies()
	d.putPlain(f, "/app/a", "one", 1, 0)
	for _, selector := range []string{"/app/a", "/app/a:1"} {
		if _, err := d.ReadParams(f.Context(), node.ParamsAsk{Ask: get(f, selector)}); err != nil {
			f.Fatal(err)
		}
	}
	d.flushCopies()
	raw, err := d.kept.store.Copy(copyKey("/app/a"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Add(wire.Marshal(node.ParamCopies{Name: "/app/a", Born: 1, Versions: []node.ParamCopy{{}}}))
	charter := d.record().Charter
	f.Fuzz(func(t *testing.T, data []byte) {
		c, ok := decodeCopies(copyKey("/app/a"), data)
		if !ok {
			return
		}
		_ = c.Floor()
		p, _, ok := c.Param(charter, d.Fleet.Now.UnixMilli())
		if !ok {
			return
		}
		for _, v := range p.Versions {
			if v.Put.Name != "/app/a" || fleet.Sum(v.Content) != v.Put.Digest {
				t.Fatalf("%+v is shown", v)
			}
		}
	})
}

// TestParamMemory: a request or an answer about parameters costs what it weighs, whatever it claims.
func TestParamMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("counts every byte of thousands of inputs")
	}
	d := walled(t)
	for kind, bodies := range paramSeeds(t, d) {
		hostile.Check(t, hostile.Bound{Base: 2 << 20, PerByte: 100}, func(in []byte) {
			d.Serve(&frames{peer: d.web.ID, in: []frame{{kind, in}}})
		}, hostile.Some(7, hostile.Inputs(1<<14, bodies...)))
	}
	answer, err := d.answerParams(t.Context(), d.web.ID, paramSeeds(t, d)[askParams][0])
	if err != nil {
		t.Fatal(err)
	}
	hostile.Check(t, hostile.Bound{Base: 64 << 10, PerByte: 100}, func(in []byte) {
		var body paramsBody
		if wire.Unmarshal(in, &body) == nil {
			_, _ = node.TakeParams(d.now().UnixMilli(), d.reading.proved.by(d.record().Charter), get(t, "/open/a"), body.Answer, d.reading.floors.picture())
		}
	}, hostile.Some(7, hostile.Inputs(1<<14, answer)))
}
