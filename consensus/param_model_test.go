package consensus

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/muster-fleet/muster/params"
)

// Parameters against a plain map: whatever is put, deleted, labelled and waited for, alone and several in one change, at the
// right version and at a wrong one. Beside it a second replica, which is prepared on old states and restored from snapshots,
// and must hold the same bytes.
func TestParametersAgainstAModel(t *testing.T) {
	base := founded("model")
	rapid.Check(t, func(t *rapid.T) {
		w := &paramLife{quorum: base.clone(), model: map[string]*modelParam{}}
		w.other, w.older = w.s, []State{w.s}
		t.Repeat(map[string]func(*rapid.T){
			"":       w.check,
			"change": w.changeSome,
			"due":    w.due,
			"again":  w.again,
			"wait":   w.wait,
			"forget": w.forget,
			"restore": func(t *rapid.T) {
				w.other = restoredFrom(t, w.other)
			},
		})
	})
}

// paramLife is a random history of parameters.
type paramLife struct {
	*quorum
	other State
	older []State // that entries are prepared on
	model map[string]*modelParam
	made  []taking
}

type taking struct {
	e     PutParams
	first Result
	now   int64 // when it was taken
}

// modelParam is a parameter as the simplest store would have it.
type modelParam struct {
	born     int64
	values   []string // of all versions ever
	labels   map[string]uint32
	seq      uint32
	expires  int64 // 0: never
	tier     params.Tier
	gone     bool // born is that of the last life
	modified int64
}

func restoredFrom(t *rapid.T, s State) State {
	var data bytes.Buffer
	if err := s.WriteSnapshot(&data); err != nil {
		t.Fatal(err)
	}
	out, err := ReadSnapshot(&data)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// apply takes an entry on both replicas.
func (w *paramLife) apply(t *rapid.T, e Entry) Result {
	now := w.Now.UnixMilli()
	on := rapid.SampledFrom(w.older).Draw(t, "prepared on")
	prepared := on.Prepare(Encode(e, now))
	r := w.put(e)
	var other Result
	if w.other, other = w.other.ApplyPrepared(prepared); other != r {
		t.Fatalf("%T came to %+v, and prepared to %+v", e, r, other)
	}
	w.older = append(w.older, w.s)
	w.sweepModel()
	return r
}

// sweepModel ends what has expired.
func (w *paramLife) sweepModel() {
	for _, m := range w.model {
		if !m.gone && m.expires != 0 && m.expires <= w.s.Time {
			*m = modelParam{gone: true, born: m.born}
		}
	}
}

var modelNames = []string{"a", "/x/a", "/x/b", "/x/y/c"}

func (w *paramLife) changeSome(t *rapid.T) {
	w.Advance(time.Duration(rapid.IntRange(0, 2).Draw(t, "ms")) * time.Millisecond)
	now := w.Now.UnixMilli()
	w.s.Time = max(w.s.Time, now) // so that the model and the fixture see what Apply will
	w.sweepModel()
	names := rapid.SliceOfNDistinct(rapid.SampledFrom(modelNames), 1, 3, rapid.ID[string]).Draw(t, "names")
	after := map[string]*modelParam{}
	fits := true
	var edits []edit
	for _, name := range names {
		m := w.model[name]
		if m == nil {
			m = &modelParam{gone: true}
		}
		next := *m
		next.labels = maps.Clone(m.labels)
		var e edit
		var ok bool
		switch rapid.SampledFrom([]string{"put", "put", "put", "delete", "label"}).Draw(t, "what") {
		case "put":
			e, ok = w.drawPut(t, name, m, &next)
		case "delete":
			e, ok = w.drawDelete(t, name, m, &next)
		case "label":
			e, ok = w.drawLabel(t, name, m, &next)
		}
		edits, after[name], fits = append(edits, e), &next, fits && ok
	}
	e := w.change(edits...)
	r := w.apply(t, e)
	if (r.Err() == nil) != fits {
		t.Fatalf("%s: %v; the model says %t", names, r.Err(), fits)
	}
	if fits {
		maps.Copy(w.model, after)
		w.made = append(w.made, taking{e, r, w.s.Time})
	}
}

// off draws a number that is right most of the time.
func off(t *rapid.T, right uint32) uint32 {
	return right + rapid.SampledFrom([]uint32{0, 0, 0, 0, 1, ^uint32(0)}).Draw(t, "off")
}

func (w *paramLife) drawPut(t *rapid.T, name string, m, next *modelParam) (edit, bool) {
	value := rapid.StringMatching(`[a-z]{1,8}`).Draw(t, "value")
	e := w.set(name, value, nil)
	put := &e.op.Put[0]
	right := uint32(1)
	if !m.gone {
		right = uint32(len(m.values)) + 1
	}
	put.Version = off(t, right)
	ok := put.Version == right
	if put.Version == 0 {
		put.Version, ok = 1, right == 1
	}
	put.Born = m.born
	if put.Version == 1 {
		put.Born = w.Now.UnixMilli()
		ok = ok && put.Born > m.born // after the last life
	} else if put.Born == 0 {
		put.Born = 1
	}
	put.Tier = rapid.SampledFrom([]params.Tier{params.Standard, params.Advanced}).Draw(t, "tier")
	ok = ok && (m.gone || put.Tier >= m.tier)
	if m.gone {
		*next = modelParam{born: put.Born}
	}
	next.expires = 0
	if put.Tier == params.Advanced && rapid.Bool().Draw(t, "expires") {
		next.expires = w.Now.UnixMilli() + int64(rapid.IntRange(1, 90).Draw(t, "minutes"))*60_000
		put.Policies = []params.Policy{{Kind: params.Expiration, At: next.expires}}
	}
	next.values, next.tier, next.modified = append(slices.Clip(next.values), value), put.Tier, w.s.Time
	if rapid.Bool().Draw(t, "tagged") {
		put.Tags = map[string]string{"team": rapid.SampledFrom([]string{"web", "db"}).Draw(t, "team")}
	}
	if rapid.IntRange(0, 2).Draw(t, "labelled") == 0 {
		put.Labels = []string{rapid.SampledFrom([]string{"x", "y"}).Draw(t, "label")}
		put.Seq = next.seq + 1
		next.move(put.Labels[0], put.Version)
	}
	return e, ok
}

func (m *modelParam) move(label string, version uint32) {
	m.labels = maps.Clone(m.labels)
	if m.labels == nil {
		m.labels = map[string]uint32{}
	}
	m.labels[label] = version
	m.seq++
}

func (w *paramLife) drawDelete(t *rapid.T, name string, m, next *modelParam) (edit, bool) {
	d := params.Delete{Name: name, Born: max(m.born, 1), Version: max(off(t, uint32(len(m.values))), 1)}
	ok := !m.gone && d.Version == uint32(len(m.values))
	*next = modelParam{gone: true, born: m.born}
	return edit{op: params.Op{Delete: []params.Delete{d}}}, ok
}

func (w *paramLife) drawLabel(t *rapid.T, name string, m, next *modelParam) (edit, bool) {
	l := params.Label{
		Name: name, Born: max(m.born, 1), Seq: max(off(t, m.seq+1), 1), Version: uint32(rapid.IntRange(1, max(1, len(m.values))).Draw(t, "version")),
		Add: []string{rapid.SampledFrom([]string{"x", "y", "z"}).Draw(t, "label")},
	}
	ok := !m.gone && l.Seq == m.seq+1
	next.move(l.Add[0], l.Version)
	return edit{op: params.Op{Label: []params.Label{l}}}, ok
}

func (w *paramLife) due(t *rapid.T) {
	want := w.s.ParamsDue(w.Now.UnixMilli())
	if r := w.apply(t, ParamsDue{}); (r.Err() == nil) != want {
		t.Fatalf("due %t: %v", want, r.Err())
	}
	if w.s.ParamsDue(w.s.Time) {
		t.Fatal("what was due still is")
	}
}

// again puts a statement once more: it gets its first result, or is refused; it never does anything.
func (w *paramLife) again(t *rapid.T) {
	old := pick(t, "change", w.made)
	taken := w.s.Taken
	if r := w.apply(t, old.e); w.s.Taken != taken || r.Err() == nil && r != old.first {
		t.Fatalf("again: %+v, first %+v, %d entries taken", r, old.first, w.s.Taken-taken)
	}
}

func (w *paramLife) wait(t *rapid.T) {
	w.Advance(time.Duration(rapid.IntRange(0, 40).Draw(t, "minutes")) * time.Minute)
}

// forget drops what is remembered of statements, as 20,000 others would.
func (w *paramLife) forget(*rapid.T) {
	w.s.results, w.other.results = results{}, results{}
	w.older = []State{w.s}
}

func (w *paramLife) check(t *rapid.T) {
	if w.s.Digest() != w.other.Digest() {
		t.Fatal("the replicas differ")
	}
	count := 0
	for name, m := range w.model {
		p, ok := w.s.Param(name)
		if ok == m.gone {
			t.Fatalf("%s is there: %t, in the model %t", name, ok, !m.gone)
		}
		if ok {
			count++
			sameAsModel(t, p, m)
		}
	}
	var listed []string
	w.s.Params("", func(p *params.Param) bool {
		listed = append(listed, p.Name)
		return true
	})
	if len(listed) != count || !slices.IsSorted(listed) {
		t.Fatalf("listed %v of %d", listed, count)
	}
	for _, s := range []State{w.s, w.other} {
		checkCounts(t, s)
	}
	checkHistory(t, w.s)
}

func sameAsModel(t *rapid.T, p *params.Param, m *modelParam) {
	if p.Born != m.born || int(p.Last) != len(m.values) || p.Seq != m.seq || len(p.Labels) != len(m.labels) || p.Newest().Put.Tier != m.tier || p.Newest().Time != m.modified {
		t.Fatalf("%+v, in the model %+v", p, m)
	}
	for i, v := range p.Versions {
		if c, err := params.DecodeContent(v.Content); err != nil || string(c.Plain[0]) != m.values[i] {
			t.Fatalf("%s:%d is %q, in the model %q", p.Name, v.Number, c.Plain, m.values[i])
		}
	}
	for label, version := range m.labels {
		if at, ok := p.Label(label); !ok || at.Version != version {
			t.Fatalf("label %s of %s: %+v, in the model at %d", label, p.Name, at, version)
		}
	}
}

// checkCounts counts anew what a state keeps count of.
func checkCounts(t interface{ Fatalf(string, ...any) }, s State) {
	ps, bytes, statements := s.params, 0, map[uint64]uint32{}
	standard, advanced, due := 0, 0, 0
	for name, p := range ps.byName.all() {
		if err := p.Check(); err != nil || string(name) != p.Name {
			t.Fatalf("%s: %v", name, err)
		}
		if p.Newest().Put.Tier == params.Advanced {
			advanced++
		} else {
			standard++
		}
		if at, ok := p.NextDue(); ok {
			if due++; at <= 0 {
				t.Fatalf("due at %d", at)
			} else if _, ok := ps.due.get(paramMoment{at, p.Name}); !ok {
				t.Fatalf("%s is due at %d, and nobody knows", name, at)
			}
		}
		add := func(act uint64, body, statement int) {
			if bytes += body; statements[act] == 0 {
				bytes += statement + perStatement
			}
			statements[act]++
		}
		for _, v := range p.Versions {
			add(v.Act, len(v.Body)+len(v.Content), len(v.Change.Body)+len(v.Change.Signature))
		}
		for _, l := range p.Labels {
			if v, _ := p.Version(l.Version); v.Act != l.Act {
				add(l.Act, len(l.Body), len(l.Change.Body)+len(l.Change.Signature))
			}
		}
	}
	for act, n := range statements {
		if shared, _ := ps.shared.get(actIndex(act)); n > 1 && shared != n || n == 1 && shared != 0 {
			t.Fatalf("the statement of act %d is kept for %d, counted %d", act, n, shared)
		}
		if n == 1 {
			delete(statements, act)
		}
	}
	if bytes != ps.bytes || standard != ps.standard || advanced != ps.advanced || due != ps.due.length() || len(statements) != ps.shared.length() || ps.gone.length() != ps.fading.length() {
		t.Fatalf("%d bytes, counted %d; tiers %d and %d, counted %d and %d; %d due, counted %d; %d shared, counted %d", bytes, ps.bytes,
			standard, advanced, ps.standard, ps.advanced, due, ps.due.length(), len(statements), ps.shared.length())
	}
}

// checkHistory plays all events: what they leave is what there is.
func checkHistory(t *rapid.T, s State) {
	events, ok := s.ParamEvents(params.EventPos{}, MaxParamEvents)
	if !ok {
		t.Fatal("events are lost")
	}
	there := map[string]uint32{}
	var last params.EventPos
	for i, e := range events {
		if !last.Before(e.Pos()) || e.Act > s.Act {
			t.Fatalf("event %d is at %+v after %+v", i, e.Pos(), last)
		}
		last = e.Pos()
		switch e.Kind {
		case params.EventCreated, params.EventUpdated:
			if e.Version != there[e.Name]+1 || (e.Kind == params.EventCreated) != (e.Version == 1) {
				t.Fatalf("event %+v after version %d", e, there[e.Name])
			}
			there[e.Name] = e.Version
		case params.EventDeleted, params.EventExpired:
			delete(there, e.Name)
		case params.EventLabelled, params.EventExpires, params.EventUnchanged:
		}
	}
	kept := map[string]uint32{}
	for name, p := range s.params.byName.all() {
		kept[string(name)] = p.Last
	}
	if !maps.Equal(there, kept) {
		t.Fatalf("the events leave %v; there is %v", there, kept)
	}
	rest, _ := s.ParamEvents(last, 10)
	if half, _ := s.ParamEvents(params.EventPos{}, len(events)/2); len(rest) != 0 || len(half) != len(events)/2 {
		t.Fatalf("%d events behind the last, %d of half", len(rest), len(half))
	}
}

func ExampleState_ParamsBelow() {
	q := founded("example")
	q.put(q.change(q.set("/app/url", "https://web", nil), q.set("/app/db/host", "db-1", nil), q.set("/other/x", "1", nil)))
	q.s.ParamsBelow("/app", "", func(p *params.Param) bool {
		fmt.Println(p.Name, p.Last)
		return true
	})
	// Output:
	// /app/db/host 1
	// /app/url 1
}
