package params

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/muster-fleet/muster/node/auth"
)

// model is what a parameter should be, as simply as it can be said.
type model struct {
	born   int64
	values []string       // of all versions there ever were; the last 100 are kept
	labels map[string]int // to versions, from 1
	moves  uint32
}

func (m *model) oldest() int { return max(1, len(m.values)-MaxVersions+1) }

func (m *model) count(version int) (n int) {
	for _, v := range m.labels {
		if v == version {
			n++
		}
	}
	return n
}

// attempt is an operation that was taken once.
type attempt struct {
	put   *Put
	label *Label
	by    Signed
}

// world is parameters beside their models, with everything that was ever taken.
type world struct {
	t      *rapid.T
	now    int64
	params map[string]*Param
	models map[string]*model
	taken  []attempt
}

func (w *world) signed(content []byte) Signed {
	return Signed{Change: &auth.Envelope{}, Operator: "ada", Issued: w.now, Time: w.now, Act: uint64(w.now), Content: content}
}

func (w *world) name() string { return rapid.SampledFrom([]string{"a", "b", "/c/d"}).Draw(w.t, "name") }

func (w *world) someLabels(n int) []string {
	return rapid.SliceOfNDistinct(rapid.SampledFrom(labels(14)), 0, n, rapid.ID).Draw(w.t, "labels")
}

// put tries a Put that may be for the next place or another; the model says which are taken.
func (w *world) put(name string, off int, add []string) {
	p, m := w.params[name], w.models[name]
	if m == nil {
		m = &model{born: w.now, labels: map[string]int{}}
	}
	value := fmt.Sprint("v", w.now)
	put, raw := plainPut(name, uint32(max(1, len(m.values)+1+off)), value)
	put.Born, put.Labels = m.born, add
	if len(add) > 0 {
		put.Seq = m.moves + 1
	}
	by := w.signed(raw)
	next, events, err := p.Put(put, by)

	fits := put.Version == uint32(len(m.values)+1)
	after := maps.Clone(m.labels)
	for _, l := range add {
		after[l] = len(m.values) + 1
	}
	dropped := len(m.values) + 1 - MaxVersions
	if labelled := slices.Contains(slices.Collect(maps.Values(after)), dropped); (err == nil) != (fits && !labelled) {
		w.t.Fatalf("put of version %d of %s after %d: %v", put.Version, name, len(m.values), err)
	}
	if err != nil {
		return
	}
	m.values, m.labels = append(m.values, string(raw)), after
	if len(add) > 0 {
		m.moves++
	}
	if want := map[bool]EventKind{true: EventCreated, false: EventUpdated}[len(m.values) == 1]; len(events) != 1 || events[0].Kind != want {
		w.t.Fatalf("%+v, want %s", events, want)
	}
	w.params[name], w.models[name] = next, m
	w.taken = append(w.taken, attempt{put: put, by: by})
}

func (w *world) label(name string, version int, off uint32, add, remove []string) {
	p, m := w.params[name], w.models[name]
	remove = slices.DeleteFunc(remove, func(l string) bool { return slices.Contains(add, l) })
	l := Label{Name: name, Version: uint32(version), Add: add, Remove: remove}
	if m != nil {
		l.Born, l.Seq = m.born, m.moves+1+off
	}
	if l.check() != nil {
		return
	}
	by := w.signed(nil)
	next, _, err := p.Labelled(l, by)
	if m == nil {
		if err == nil {
			w.t.Fatal("labels of nothing")
		}
		return
	}
	ok := off == 0 && (version == 0 || version >= m.oldest() && version <= len(m.values))
	for _, r := range remove {
		at, there := m.labels[r]
		ok = ok && there && (version == 0 || at == version)
	}
	after := maps.Clone(m.labels)
	for _, r := range remove {
		delete(after, r)
	}
	for _, a := range add {
		after[a] = version
	}
	ok = ok && (version == 0 || (&model{labels: after}).count(version) <= MaxVersionLabels)
	if (err == nil) != ok {
		w.t.Fatalf("%+v on %+v: %v", l, m.labels, err)
	}
	if err == nil {
		m.labels, m.moves = after, m.moves+1
		w.params[name] = next
		w.taken = append(w.taken, attempt{label: &l, by: by})
	}
}

func (w *world) remove(name string, off uint32) {
	p, m := w.params[name], w.models[name]
	d := Delete{Name: name, Born: w.now, Version: 1}
	if m != nil {
		d.Born, d.Version = m.born, uint32(len(m.values))+off
	}
	if err := p.MayDelete(d); (err == nil) != (m != nil && off == 0) {
		w.t.Fatalf("delete of %s: %v", name, err)
	} else if err == nil {
		delete(w.params, name)
		delete(w.models, name)
	}
}

// check compares every parameter with its model, and every selector.
func (w *world) check() {
	for name, m := range w.models {
		p := w.params[name]
		if w.now%8 == 0 {
			if err := p.Check(); err != nil {
				w.t.Fatal(err)
			}
		}
		if int(p.Last) != len(m.values) || p.Seq != m.moves || p.Born != m.born || len(p.Labels) != len(m.labels) || len(p.Versions) != len(m.values)-m.oldest()+1 {
			w.t.Fatalf("%s is at version %d, move %d; want %d, %d", name, p.Last, p.Seq, len(m.values), m.moves)
		}
		for n := range len(m.values) + 2 {
			v, _, err := p.Find(Selector{Name: name, Version: uint32(n)})
			want := n
			if n == 0 {
				want = len(m.values)
			}
			if kept := n == 0 || n >= m.oldest() && n <= len(m.values); kept != (err == nil) {
				w.t.Fatalf("version %d of %s: %v", n, name, err)
			} else if kept && string(v.Content) != m.values[want-1] {
				w.t.Fatalf("version %d of %s has another value", n, name)
			}
		}
		for l, at := range m.labels {
			if v, _, err := p.Find(Selector{Name: name, Label: l}); err != nil || int(v.Number) != at {
				w.t.Fatalf("%s:%s: %v", name, l, err)
			}
		}
	}
}

// replay tries what was taken once, anywhere: as it was, and under the quorum's later time.
func (w *world) replay() {
	for _, name := range []string{"a", "b", "/c/d"} {
		for _, a := range w.taken[max(0, len(w.taken)-20):] {
			w.again(w.params[name], a)
		}
		if n := len(w.taken); n > 0 {
			w.again(w.params[name], w.taken[rapid.IntRange(0, n-1).Draw(w.t, "replay")])
		}
	}
}

func (w *world) again(p *Param, a attempt) {
	by := a.by
	by.Time = w.now
	if a.label != nil {
		if _, _, err := p.Labelled(*a.label, by); err == nil {
			w.t.Fatalf("labels were moved twice by %+v", a.label)
		}
		return
	}
	if p == nil && a.put.Version == 1 {
		return // the quorum remembers what was deleted
	}
	if _, _, err := p.Put(a.put, by); err == nil {
		w.t.Fatalf("version %d was put twice", a.put.Version)
	}
}

// Versions, labels, selectors and deletions are what the model says; and nothing that was taken is ever taken again.
func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &world{t: t, now: born, params: map[string]*Param{}, models: map[string]*model{}}
		t.Repeat(map[string]func(*rapid.T){
			"put": func(t *rapid.T) {
				w.put(w.name(), rapid.SampledFrom([]int{0, 0, 0, 0, -1, 1, -5}).Draw(t, "off"), w.someLabels(3))
			},
			"many": func(t *rapid.T) {
				name := w.name()
				for range rapid.IntRange(30, 60).Draw(t, "count") {
					w.now++
					w.put(name, 0, nil)
				}
			},
			"label": func(t *rapid.T) {
				name := w.name()
				most := 2
				if m := w.models[name]; m != nil {
					most = len(m.values) + 1
				}
				w.label(name, rapid.IntRange(0, most).Draw(t, "version"), rapid.SampledFrom([]uint32{0, 0, 0, 0, 1, 1<<32 - 1}).Draw(t, "off"), w.someLabels(5), w.someLabels(2))
			},
			"delete": func(t *rapid.T) { w.remove(w.name(), rapid.SampledFrom([]uint32{0, 1}).Draw(t, "off")) },
			"": func(t *rapid.T) {
				w.now++
				w.check()
				w.replay()
			},
		})
	})
}

// No operation changes the value it was done on, nor what it was made from.
func TestValuesStay(t *testing.T) {
	d := newDesk("stay")
	p := d.put(t, nil, "P", "v1", "prod", "test")
	for i := range 5 {
		before := fmt.Sprintf("%+v %+v %p", *p, p.Labels, p.Versions[0])
		kept := deepCopy(p)
		_ = d.put(t, p, "P", fmt.Sprint("w", i), "prod")
		_ = d.put(t, p, "P", fmt.Sprint("x", i))
		_ = d.label(t, p, 1, []string{"other"}, nil)
		_ = d.label(t, p, 0, nil, []string{"test"})
		_, _ = p.Due(1 << 60)
		if after := fmt.Sprintf("%+v %+v %p", *p, p.Labels, p.Versions[0]); after != before {
			t.Fatalf("%s became %s", before, after)
		}
		if kept.Last != p.Last || !slices.EqualFunc(kept.Labels, p.Labels, func(a, b LabelAt) bool { return a.Label == b.Label && a.Version == b.Version }) {
			t.Fatal("labels changed")
		}
		p = d.put(t, p, "P", fmt.Sprint("v", i))
	}
}
