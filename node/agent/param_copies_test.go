package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/params"
)

// stubCopies keeps copies in memory.
type stubCopies struct {
	mu   sync.Mutex
	of   map[fleet.ID][]byte
	puts int
}

func newStubCopies() *stubCopies { return &stubCopies{of: map[fleet.ID][]byte{}} }

func (s *stubCopies) PutCopy(key fleet.ID, data []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.of[key], s.puts = data, s.puts+1
	return nil
}

func (s *stubCopies) Copy(key fleet.ID) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	data, ok := s.of[key]
	if !ok {
		return nil, fleet.Errorf(fleet.NotFound, "none")
	}
	return data, nil
}

func (s *stubCopies) DropCopy(key fleet.ID) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.of, key)
	return nil
}

func (s *stubCopies) Copies(each func(fleet.ID, []byte)) error {
	s.mu.Lock()
	all := map[fleet.ID][]byte{}
	for key, data := range s.of {
		all[key] = data
	}
	s.mu.Unlock()
	for key, data := range all {
		each(key, data)
	}
	return nil
}

// reader is a desk that keeps copies, and whose clock moves.
func newReader(tb testing.TB) (*desk, *stubCopies, func(time.Duration)) {
	tb.Helper()
	d, store := newDesk(tb), newStubCopies()
	d.kept.store = store
	var mu sync.Mutex
	now := d.Fleet.Now
	d.cfg.Clock = func() auth.Instant {
		mu.Lock()
		defer mu.Unlock()
		return auth.Instant{Wall: now, Boot: time.Hour}
	}
	return d, store, func(by time.Duration) {
		mu.Lock()
		defer mu.Unlock()
		now = now.Add(by)
		d.Advance(by)
	}
}

// deafPeers answer nobody.
type deafPeers struct{ stubPeers }

func (*deafPeers) Request(context.Context, fleet.ID, byte, []byte) (byte, []byte, error) {
	return 0, nil, fleet.Errorf(fleet.Unavailable, "no answer")
}

// cutOff takes the replica and all servers away from an agent, as if it were another node.
func (d *desk) cutOff() {
	d.replica, d.quorum = nil, nil
	d.mu.Lock()
	d.seen = map[fleet.ID]node.Sighting{}
	d.mu.Unlock()
}

// again is the agent after a restart, with the same disk.
func (d *desk) again(tb testing.TB, store *stubCopies) *desk {
	tb.Helper()
	next := *d
	cfg := d.cfg
	cfg.Record = d.record()
	next.Agent = New(cfg)
	next.Attach(Shells{Peers: &deafPeers{}, Gossip: stubGossip{}, Runner: stubRunner{}, Copies: store})
	return &next
}

// TestCopies: what a node has read for itself it answers when it is cut off, also after a restart, with its age; what it has
// never read it does not make up.
func TestCopies(t *testing.T) {
	t.Parallel()
	synctest.Test(t, testCopies)
}

func testCopies(t *testing.T) {
	d, store, pass := newReader(t)
	born := d.putPlain(t, "/app/a", "one", 1, 0)
	d.putPlain(t, "/app/b", "b", 1, 0)
	d.putPlain(t, "/app/mine", "operator's", 1, 0)
	read := func(ask node.ParamsAsk) node.ParamsRead {
		t.Helper()
		out, err := d.ReadParams(t.Context(), ask)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	read(node.ParamsAsk{Ask: get(t, "/app/a:1")})
	d.putPlain(t, "/app/a", "two", 2, born)
	pass(time.Minute)
	read(node.ParamsAsk{Ask: get(t, "/app/a")})
	read(node.ParamsAsk{Ask: get(t, "/app/b")})
	read(node.ParamsAsk{Ask: get(t, "/app/mine"), Signed: d.reads("/")})
	d.flushCopies()
	pass(time.Hour)
	cut := d.again(t, store)
	cut.cutOff()
	for selector, want := range map[string]string{"/app/a": "two", "/app/a:1": "one", "/app/a:2": "two", "/app/b": "b"} {
		for _, stale := range []bool{true, false} {
			out, err := cut.ReadParams(t.Context(), node.ParamsAsk{Ask: get(t, selector), Stale: stale})
			wantAge := time.Hour
			if selector == "/app/a:1" {
				wantAge += time.Minute
			}
			if err != nil || value(t, out) != want || out.Source != node.FromCopy || out.Age != wantAge || out.As != "node node-0" {
				t.Errorf("%s: %+v, %v", selector, out, err)
			}
		}
	}
	out, err := cut.ReadParams(t.Context(), node.ParamsAsk{Ask: params.Ask{Path: []params.PathAsk{{Path: "/app"}}, Values: true}, Stale: true})
	if err != nil || len(out.Answer.Items) != 2 {
		t.Errorf("by path: %+v, %v", out, err)
	}
	for _, selector := range []string{"/app/mine", "/app/a:3", "/app/a:live", "/none/x"} {
		_, err := cut.ReadParams(t.Context(), node.ParamsAsk{Ask: get(t, selector), Stale: true})
		if fleet.KindOf(err) != fleet.Unavailable || !strings.Contains(err.Error(), "no copy of "+selector) {
			t.Errorf("%s: %v", selector, err)
		}
	}
	// An operator's signature is verified here, and an account needs its rule.
	if out, err := cut.ReadParams(t.Context(), node.ParamsAsk{Ask: get(t, "/app/a"), Signed: d.reads("/app/"), Stale: true}); err != nil || out.As != "operator ada" {
		t.Errorf("an operator: %+v, %v", out, err)
	}
	_, err = cut.ReadParams(t.Context(), node.ParamsAsk{Ask: get(t, "/app/a"), Signed: d.reads("/app/")})
	if e, ok := errors.AsType[*fleet.Error](err); !ok || e.Kind != fleet.Unavailable || !strings.Contains(e.Hint, "--stale") {
		t.Errorf("an operator who wants the newest: %v", err)
	}
	forged := d.web.Signer.Sign(auth.ForRequest, d.Fleet.ID(), node.Read{Header: d.Header(node.ReadLife), What: node.ReadParams, Name: "/"})
	for what, ask := range map[string]node.ParamsAsk{
		"somebody's": {Ask: get(t, "/app/a"), Signed: []auth.Envelope{forged}, Stale: true}, "beyond": {Ask: get(t, "/app/a"), Signed: d.reads("/db/"), Stale: true},
		"an account's": {Ask: get(t, "/app/a"), Local: []node.LocalUser{{Name: "www"}}, Stale: true},
	} {
		if _, err := cut.ReadParams(t.Context(), ask); fleet.KindOf(err) != fleet.Denied {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestCopiesFloor: what a node has seen it remembers through a restart: a server that shows less lies.
func TestCopiesFloor(t *testing.T) {
	t.Parallel()
	d, store, _ := newReader(t)
	born := d.putPlain(t, "/app/a", "one", 1, 0)
	before := d.replica.State()
	d.putPlain(t, "/app/a", "two", 2, born)
	if _, err := d.ReadParams(t.Context(), node.ParamsAsk{Ask: get(t, "/app/a")}); err != nil {
		t.Fatal(err)
	}
	d.flushCopies()
	next := d.again(t, store)
	next.loadCopies()
	next.replica, next.quorum = d.replica, d.quorum
	d.replica.state.Store(&before)
	if _, err := next.ReadParams(t.Context(), node.ParamsAsk{Ask: get(t, "/app/a")}); err == nil || !strings.Contains(err.Error(), "older") {
		t.Errorf("an older version is taken after a restart: %v", err)
	}
}

// TestCopiesOutliveALie: one server's word that a parameter is gone takes neither the copies nor what was seen, and when the
// copies go at last, what was seen is on disk still, of labels too.
func TestCopiesOutliveALie(t *testing.T) {
	t.Parallel()
	synctest.Test(t, testCopiesOutliveALie)
}

func testCopiesOutliveALie(t *testing.T) {
	d, store, pass := newReader(t)
	born := d.putPlain(t, "/app/a", "one", 1, 0)
	label := func(seq, version uint32) {
		d.takeParams1(t, params.Op{Label: []params.Label{{Name: "/app/a", Born: born, Seq: seq, Version: version, Add: []string{"live"}}}})
	}
	label(1, 1)
	asks := []node.ParamsAsk{{Ask: get(t, "/app/a")}, {Ask: get(t, "/app/a:live")}}
	var before []paramsBody
	for _, ask := range asks {
		body, err := d.paramsHere(d.self, ask)
		if err != nil {
			t.Fatal(err)
		}
		before = append(before, body)
	}
	d.putPlain(t, "/app/a", "two", 2, born)
	label(2, 2)
	for _, ask := range asks {
		if _, err := d.ReadParams(t.Context(), ask); err != nil {
			t.Fatal(err)
		}
	}
	lies := func() {
		t.Helper()
		for _, ask := range asks {
			body := paramsBody{Answer: params.Answer{Missing: []params.Missing{{Selector: ask.Ask.Get[0], Why: "no parameter"}}}}
			if _, err := d.takeParams(t.Context(), ask, body, node.FromLeader, d.floorsSeen()); err != nil {
				t.Fatal(err)
			}
		}
		d.flushCopies()
	}
	goesBack := func(what string) {
		t.Helper()
		next := d.again(t, store)
		for i, ask := range asks {
			if _, err := next.takeParams(t.Context(), ask, before[i], node.FromLeader, next.floorsSeen()); err == nil {
				t.Errorf("%s: an older %s is taken after a restart", what, ask.Ask.Get[0])
			}
		}
		for i := range 2 * maxFloors {
			next.reading.floors.put(map[string]params.Floor{fmt.Sprint(i): {Born: 1, Version: 1}})
		}
		if _, err := next.takeParams(t.Context(), asks[0], before[0], node.FromLeader, next.floorsSeen()); err == nil {
			t.Errorf("%s: an older version is taken after many others were read", what)
		}
	}
	d.flushCopies()
	goesBack("kept")
	lies() // what was shown waits to be written, or is
	pass(time.Minute)
	lies()
	goesBack("a lie")
	cut := d.again(t, store)
	cut.cutOff()
	for _, ask := range asks {
		if out, err := cut.ReadParams(t.Context(), ask); err != nil || value(t, out) != "two" {
			t.Errorf("a node that was lied to has no copy: %v", err)
		}
	}
	puts := store.puts
	lies()
	if store.puts != puts {
		t.Error("what says nothing new is written")
	}
	pass(time.Hour)
	lies()
	cut = d.again(t, store)
	cut.cutOff()
	if _, err := cut.ReadParams(t.Context(), asks[0]); fleet.KindOf(err) != fleet.Unavailable {
		t.Errorf("what leaders go on to say is gone: %v", err)
	}
	if names := cut.kept.set.Names(); len(names) != 0 {
		t.Errorf("copies of %q", names)
	}
	goesBack("gone")
}

// TestCopiesPending: what waits to be written is the newest that was shown, whatever came behind it.
func TestCopiesPending(t *testing.T) {
	t.Parallel()
	k := newKept()
	show := func(selector string, newest uint32) {
		k.add("/a", copyNews{item: params.Item{Selector: selector, Newest: newest}, put: params.Put{Born: 1, Version: newest}})
	}
	want := func(want ...string) {
		t.Helper()
		var got []string
		for _, n := range k.pending["/a"] {
			got = append(got, fmt.Sprintf("%s %d %v", n.item.Selector, n.item.Newest, n.gone))
		}
		if !slices.Equal(got, want) {
			t.Errorf("%q wait, want %q", got, want)
		}
	}
	show("", 2)
	show("", 1)
	want(" 2 false")
	k.forget("/a", "", 5)
	k.forget("/a", "", 6)
	want(" 2 false", " 0 true")
	show("", 3)
	want(" 3 false")
	if k.bytes != copySize("/a", k.pending["/a"][0]) {
		t.Errorf("%d bytes are counted", k.bytes)
	}
}

// TestCopiesForget: what the leader goes on to say is gone is not shown any more.
func TestCopiesForget(t *testing.T) {
	t.Parallel()
	d, store, pass := newReader(t)
	for _, name := range []string{"/app/a", "/app/b", "/app/c"} {
		d.putPlain(t, name, "x", 1, 0)
	}
	page := node.ParamsAsk{Ask: params.Ask{Path: []params.PathAsk{{Path: "/app"}}, Values: true}}
	for _, ask := range []node.ParamsAsk{page, {Ask: get(t, "/app/a:1")}} {
		if _, err := d.ReadParams(t.Context(), ask); err != nil {
			t.Fatal(err)
		}
	}
	d.flushCopies()
	if len(store.of) != 3 {
		t.Fatalf("%d copies", len(store.of))
	}
	for _, name := range []string{"/app/a", "/app/b"} {
		p, _ := d.replica.State().Param(name)
		d.takeParams1(t, params.Op{Delete: []params.Delete{{Name: name, Born: p.Born, Version: p.Last}}})
	}
	for want := 3; want > 0; want -= 2 {
		for _, ask := range []node.ParamsAsk{{Ask: get(t, "/app/a")}, page} {
			if _, err := d.ReadParams(t.Context(), ask); err != nil {
				t.Fatal(err)
			}
		}
		d.flushCopies()
		if names := d.kept.set.Names(); len(names) != want || len(store.of) != 3 {
			t.Errorf("copies of %q, want %d; %d on disk", names, want, len(store.of))
		}
		pass(time.Hour)
	}
}

// takeParams1 takes operations into the state.
func (d *desk) takeParams1(tb testing.TB, ops ...params.Op) {
	tb.Helper()
	if _, err := d.Propose(tb.Context(), d.changes(nil, ops...)); err != nil {
		tb.Fatal(err)
	}
}

// TestCopiesAreFew: a parameter that is read again and again is not written each time.
func TestCopiesAreFew(t *testing.T) {
	t.Parallel()
	d, store, pass := newReader(t)
	d.putPlain(t, "/app/a", "one", 1, 0)
	for i := range 100 {
		if _, err := d.ReadParams(t.Context(), node.ParamsAsk{Ask: get(t, "/app/a")}); err != nil {
			t.Fatal(err)
		}
		if i%10 == 0 {
			d.flushCopies()
		}
	}
	if store.puts != 1 {
		t.Errorf("written %d times", store.puts)
	}
	pass(2 * time.Minute)
	if _, err := d.ReadParams(t.Context(), node.ParamsAsk{Ask: get(t, "/app/a")}); err != nil {
		t.Fatal(err)
	}
	d.flushCopies()
	if store.puts != 2 {
		t.Errorf("that a copy is still good is not noted: written %d times", store.puts)
	}
}

// TestCopiesAreBounded: a node keeps no more than it may, in memory while it waits and on disk.
func TestCopiesAreBounded(t *testing.T) {
	t.Parallel()
	set := node.NewCopySet()
	kept := map[string]bool{}
	for i := range node.MaxCopies + 500 {
		name := fmt.Sprintf("/a/%d", i)
		kept[name] = true
		c := node.ParamCopies{Name: name, Born: 1, Versions: []node.ParamCopy{{Item: params.Item{Selector: ":1"}, As: []node.CopiedAs{{}}}}}
		strip, _ := set.Note(c, 1000)
		for _, gone := range strip {
			delete(kept, gone)
		}
	}
	if n, bytes := set.Size(); n != node.MaxCopies || len(kept) != n || bytes != int64(n)*1000 || !kept["/a/500"] || kept["/a/499"] {
		t.Errorf("%d copies of %d bytes, %d on disk", n, bytes, len(kept))
	}
	big := node.ParamCopies{Name: "/big", Born: 1, Versions: []node.ParamCopy{{Item: params.Item{Selector: ":1"}, As: []node.CopiedAs{{}}}}}
	set.Note(big, node.MaxCopyBytes-5000)
	if n, bytes := set.Size(); bytes > node.MaxCopyBytes || n < 2 {
		t.Errorf("%d copies of %d bytes", n, bytes)
	}
	seen := 0
	for i := range node.MaxCopyFloors + 100 {
		_, drop := set.Note(node.ParamCopies{Name: fmt.Sprintf("/bare/%d", i), Born: 1}, 100)
		seen += 1 - len(drop)
	}
	if n, _ := set.Size(); seen != node.MaxCopyFloors || n < 2 || set.Knows("/bare/99") || !set.Knows("/bare/100") || set.Has("/bare/100") {
		t.Errorf("%d names of which nothing is kept, and %d copies", seen, n)
	}
	if _, drop := set.Note(node.ParamCopies{Name: "/bare/big", Born: 1}, node.MaxCopyFloorBytes); len(drop) != node.MaxCopyFloors {
		t.Errorf("%d go for one of many bytes", len(drop))
	}
	k := newKept()
	for i := range 1000 {
		k.add(fmt.Sprint(i), copyNews{item: params.Item{Content: [][]byte{make([]byte, 60<<10)}}})
	}
	if k.bytes > maxPending || len(k.pending) < 10 {
		t.Errorf("%d wait with %d bytes", len(k.pending), k.bytes)
	}
}
