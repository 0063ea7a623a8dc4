package node

import (
	"fmt"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/muster-fleet/muster/params"
)

// item reads a selector as the root operator, with its value.
func (c *closet) item(tb testing.TB, selector string) (params.Item, params.Put) {
	tb.Helper()
	a := c.says(tb, c.root(), params.Ask{Get: []params.Selector{sel(selector)}, Values: true})
	put, err := c.verify(a.Items[0])
	if err != nil {
		tb.Fatal(err)
	}
	return a.Items[0], put
}

// kept lists what copies hold: version and what it was asked for by.
func kept(c ParamCopies) (out []string) {
	for _, v := range c.Versions {
		text := v.Item.Selector
		for _, as := range v.As {
			text += "|" + as.Selector
		}
		out = append(out, text)
	}
	return out
}

// TestCopiesKeep: a version is kept for as long as something that was asked for means it.
func TestCopiesKeep(t *testing.T) {
	t.Parallel()
	c := newCloset()
	c.put(t, nil, "/a/b")
	born := c.byName["/a/b"].Born
	label := func(seq, version uint32) {
		c.change(t, nil, params.Op{Label: []params.Label{{Name: "/a/b", Born: born, Seq: seq, Version: version, Add: []string{"live"}}}})
	}
	label(1, 1)
	var copies ParamCopies
	at := int64(0)
	keep := func(item params.Item, put params.Put) {
		at++
		copies = copies.Keep(item, put, at)
		if err := copies.Check(); err != nil {
			t.Error(err)
		}
	}
	want := func(what string, want ...string) {
		t.Helper()
		if got := kept(copies); !slices.Equal(got, want) {
			t.Errorf("%s: kept %q, want %q", what, got, want)
		}
	}
	one, onePut := c.item(t, "/a/b")
	keep(one, onePut)
	want("the newest", ":1|")
	oldLive, _ := c.item(t, "/a/b:live")
	keep(oldLive, onePut)
	want("by label too", ":1||:live")
	c.put(t, nil, "/a/b")
	two, twoPut := c.item(t, "/a/b")
	keep(two, twoPut)
	want("a newer one", ":1|:live", ":2|")
	label(2, 2)
	live, _ := c.item(t, "/a/b:live")
	keep(live, twoPut)
	want("the label moved", ":2||:live")
	keep(one, onePut)
	keep(oldLive, onePut)
	want("answers out of order", ":2||:live")
	byNumber, _ := c.item(t, "/a/b:1")
	keep(byNumber, onePut)
	want("by number", ":1|:1", ":2||:live")
	p, old, ok := copies.Param(c.Record.Charter, c.Now.UnixMilli())
	if !ok || old || p.Last != 2 || len(p.Labels) != 1 || p.Labels[0].Version != 2 || p.Seq != 2 || copies.Floor().Version != 2 {
		t.Errorf("shown: %+v, %v, %v", p, old, ok)
	}
	if at1, ok := copies.At(":live"); !ok || at1 != 4 {
		t.Errorf("the label was seen at %d, %v", at1, ok)
	}
	for selector, want := range map[string][]string{":live": {":1|:1", ":2|"}, "": nil} {
		once := copies.Forget(selector, 10)
		if got := kept(once.Forget(selector, 9+ForgetCopy)); !slices.Equal(got, kept(copies)) {
			t.Errorf("%q is gone by a word: %q", selector, got)
		}
		shown := once.Keep(live, twoPut, 20).Forget(selector, 10+ForgetCopy)
		if got := kept(shown); !slices.Equal(got, kept(copies)) {
			t.Errorf("%q was shown in between: %q", selector, got)
		}
		left := once.Forget(selector, 10+ForgetCopy)
		if got := kept(left); !slices.Equal(got, want) {
			t.Errorf("without %q: %q", selector, got)
		}
		if err := left.Check(); err != nil || !reflect.DeepEqual(left.Floor(), copies.Floor()) || left.Floor().Labels[0] != (params.LabelFloor{Label: "live", Seq: 2}) {
			t.Errorf("without %q this has been seen: %+v, %v", selector, left.Floor(), err)
		}
	}
	// Of a parameter that was born again nothing of before is kept; and what is not proved is not shown.
	again := copies.Keep(one, params.Put{Name: "/a/b", Born: born + 1, Version: 1}, 9)
	if got := kept(again); !slices.Equal(got, []string{":1|"}) {
		t.Errorf("born again: %q", got)
	}
	if _, _, ok := again.Param(c.Record.Charter, c.Now.UnixMilli()); ok {
		t.Error("a copy is shown that was not signed so")
	}
	held := byNumber
	held.Content = nil
	if got := copies.Keep(held, onePut, 99); !slices.Equal(kept(got), kept(copies)) {
		t.Error("an item without its value is kept")
	}
}

// TestCopiesKeepBounds: however a parameter is read, its copies stay few, and what was read last is among them.
func TestCopiesKeepBounds(t *testing.T) {
	t.Parallel()
	c := newCloset()
	var items []params.Item
	var puts []params.Put
	for i := range 40 {
		c.put(t, nil, "/a/b")
		item, put := c.item(t, fmt.Sprintf("/a/b:%d", i+1))
		items, puts = append(items, item), append(puts, put)
	}
	rapid.Check(t, func(t *rapid.T) {
		var copies ParamCopies
		for at := range rapid.IntRange(1, 60).Draw(t, "reads") {
			i := rapid.IntRange(0, 39).Draw(t, "version")
			copies = copies.Keep(items[i], puts[i], int64(at))
			if _, ok := copies.At(items[i].Selector); !ok || len(copies.Versions) > MaxNameCopies || copies.Check() != nil {
				t.Fatalf("%d copies, %v", len(copies.Versions), copies.Check())
			}
		}
	})
}

// TestGone: a page says of a name that it is gone only if it should have been on it.
func TestGone(t *testing.T) {
	t.Parallel()
	puts := []params.Put{{Name: "/a/c"}}
	names := []string{"/a/b", "/a/c", "/a/d", "/a/d/e", "/a/x", "/b/a"}
	for _, tc := range []struct {
		ask  params.PathAsk
		a    params.Answer
		want []string
	}{
		{params.PathAsk{Path: "/a"}, params.Answer{}, []string{"/a/b", "/a/d", "/a/x"}},
		{params.PathAsk{Path: "/a", Recursive: true}, params.Answer{}, []string{"/a/b", "/a/d", "/a/d/e", "/a/x"}},
		{params.PathAsk{Path: "/a", After: "/a/b"}, params.Answer{More: true, Next: "/a/d"}, []string{"/a/d"}},
		{params.PathAsk{Path: "/a", Filters: []params.Filter{{Key: "Type", Values: []string{"String"}}}}, params.Answer{}, nil},
	} {
		if got := Gone(tc.ask, tc.a, puts, names); !slices.Equal(got, tc.want) {
			t.Errorf("%+v: %q, want %q", tc.ask, got, tc.want)
		}
	}
}

// TestUnexpired: a parameter whose time is over is not shown, in any way.
func TestUnexpired(t *testing.T) {
	t.Parallel()
	c := newCloset()
	c.put(t, nil, "/a/a", "/a/c")
	op, content := c.plain("/a/b", "x", nil)
	op.Put[0].Tier = params.Advanced
	over := c.Now.UnixMilli() + 3_600_000
	op.Put[0].Policies = []params.Policy{{Kind: params.Expiration, At: over}}
	c.change(t, [][]byte{content}, op)
	for now, want := range map[int64]int{over - 1: 3, over: 2} {
		from := Unexpired(c, now)
		seen := 0
		from.Params("", func(*params.Param) bool { seen++; return true })
		from.ParamsBelow("/a", "", func(*params.Param) bool { seen++; return true })
		if _, ok := from.Param("/a/b"); ok != (want == 3) || seen != 2*want {
			t.Errorf("at %d: %v, %d", now-over, ok, seen)
		}
	}
}
