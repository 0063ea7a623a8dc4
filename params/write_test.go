package params

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/muster-fleet/muster/node/fleet"
)

func TestPut(t *testing.T) {
	d := newDesk("put")
	p := d.put(t, nil, "/a/b", "one", "prod")
	d.Advance(time.Minute)
	p = d.put(t, p, "/a/b", "two")
	next := func(change func(*Put)) (*Put, Signed) {
		put, raw := plainPut("/a/b", 3, "three")
		put.Born = p.Born
		change(put)
		by := d.sign(Op{Put: []Put{*put}})[0]
		by.Content = raw
		return put, by
	}
	for name, c := range map[string]struct {
		change func(*Put)
		kind   fleet.Kind
		want   string
	}{
		"exists":        {func(p *Put) { p.Version = 1 }, fleet.Conflict, "ParameterAlreadyExists"},
		"exists, anew":  {func(p *Put) { p.Version, p.Born = 1, born }, fleet.Conflict, "ParameterAlreadyExists"},
		"another life":  {func(p *Put) { p.Born++ }, fleet.Conflict, "made anew"},
		"version again": {func(p *Put) { p.Version = 2 }, fleet.Conflict, "has version 2"},
		"version ahead": {func(p *Put) { p.Version = 4 }, fleet.Conflict, "has version 2"},
		"type":          {func(p *Put) { p.Type = StringList }, fleet.Invalid, "HierarchyTypeMismatchException"},
		"secret":        {secret, fleet.Invalid, "HierarchyTypeMismatchException"},
		"labels":        {func(p *Put) { p.Labels, p.Seq = []string{"x"}, 3 }, fleet.Conflict, "changed 1 times"},
		"labels again":  {func(p *Put) { p.Labels, p.Seq = []string{"x"}, 1 }, fleet.Conflict, "changed 1 times"},
	} {
		put, by := next(c.change)
		_, _, err := p.Put(put, by)
		wants(t, name, err, c.kind, c.want)
	}
	put, by := next(func(p *Put) { p.Labels, p.Seq, p.Tier = []string{"prod", "x"}, 2, Advanced })
	got, events, err := p.Put(put, by)
	if err != nil || got.Last != 3 || len(got.Versions) != 3 || got.Seq != 2 || got.Newest().Put != put {
		t.Fatalf("%+v, %v", got, err)
	}
	if at, _ := got.Label("prod"); at.Version != 3 || at.Change != by.Change || at.Act != by.Act || len(got.Labels) != 2 {
		t.Errorf("%+v", got.Labels)
	}
	if e := events[0]; len(events) != 1 || e.Kind != EventUpdated || e.Version != 3 || !slices.Equal(e.Labels, put.Labels) || e.By != by.Operator || e.Act != by.Act || e.Time != by.Time || e.Name != "/a/b" || e.Born != p.Born {
		t.Errorf("%+v", events)
	}
	if p.Last != 2 || len(p.Versions) != 2 || p.Seq != 1 || len(p.Labels) != 1 {
		t.Errorf("the old value changed: %+v", p)
	}
	p = got
	put, by = next(func(p *Put) { p.Version, p.Tier = 4, Standard })
	_, _, err = p.Put(put, by)
	wants(t, "down", err, fleet.Invalid, "no way down")
}

func TestCreate(t *testing.T) {
	d := newDesk("create")
	put, raw := plainPut("P", 1, "x")
	put.Born = d.Now.UnixMilli()
	by := d.sign(Op{Put: []Put{*put}})[0]
	by.Content = raw
	for name, c := range map[string]struct {
		change func(*Put)
		kind   fleet.Kind
		want   string
	}{
		"gone":           {func(p *Put) { p.Version = 2 }, fleet.Conflict, "ParameterNotFound"},
		"born elsewhere": {func(p *Put) { p.Born-- }, fleet.Invalid, "born when"},
		"labels":         {func(p *Put) { p.Labels, p.Seq = []string{"x"}, 2 }, fleet.Conflict, "changed 0 times"},
	} {
		_, _, err := (*Param)(nil).Put(changed(put, c.change), by)
		wants(t, name, err, c.kind, c.want)
	}
	p, events, err := (*Param)(nil).Put(put, by)
	if err != nil || p.Check() != nil || p.Last != 1 || p.Born != by.Issued || len(events) != 1 || events[0].Kind != EventCreated || events[0].By != by.Operator {
		t.Fatal(p, events, err)
	}
}

func TestVersionsAreBounded(t *testing.T) {
	d := newDesk("versions")
	p := d.put(t, nil, "P", "v1", "first")
	for i := 2; i <= MaxVersions; i++ {
		p = d.put(t, p, "P", fmt.Sprint("v", i))
	}
	put, raw := plainPut("P", MaxVersions+1, "more")
	put.Born = p.Born
	by := d.sign(Op{Put: []Put{*put}})[0]
	by.Content = raw
	_, _, err := p.Put(put, by)
	wants(t, "labelled oldest", err, fleet.Exhausted, "ParameterMaxVersionLimitExceeded")
	if !strings.Contains(err.Error(), "first") {
		t.Error(err)
	}
	// A Put that takes the label along makes room itself.
	moving := d.put(t, p, "P", "more", "first")
	if len(moving.Versions) != MaxVersions || moving.Versions[0].Number != 2 {
		t.Errorf("%d versions from %d on", len(moving.Versions), moving.Versions[0].Number)
	}
	p = d.label(t, p, 50, []string{"first"}, nil)
	p = d.put(t, p, "P", "more")
	if len(p.Versions) != MaxVersions || p.Versions[0].Number != 2 || p.Last != MaxVersions+1 {
		t.Errorf("%d versions from %d on", len(p.Versions), p.Versions[0].Number)
	}
	_, _, err = p.Find(Selector{Name: "P", Version: 1})
	wants(t, "dropped", err, fleet.NotFound, "ParameterVersionNotFound")
}

func TestLabelled(t *testing.T) {
	d := newDesk("labelled")
	p := d.put(t, nil, "P", "v1", labels(MaxVersionLabels)...)
	p = d.put(t, p, "P", "v2")
	good := Label{Name: "P", Born: p.Born, Seq: 2, Version: 2, Add: []string{"l0"}}
	for name, c := range map[string]struct {
		change func(*Label)
		kind   fleet.Kind
		want   string
	}{
		"life":         {func(l *Label) { l.Born++ }, fleet.Conflict, "made anew"},
		"again":        {func(l *Label) { l.Seq = 1 }, fleet.Conflict, "changed 1 times"},
		"ahead":        {func(l *Label) { l.Seq = 3 }, fleet.Conflict, "changed 1 times"},
		"version":      {func(l *Label) { l.Version = 3 }, fleet.NotFound, "ParameterVersionNotFound"},
		"eleventh":     {func(l *Label) { l.Version, l.Add = 1, []string{"x"} }, fleet.Exhausted, "ParameterVersionLabelLimitExceeded"},
		"absent":       {func(l *Label) { l.Remove = []string{"x"} }, fleet.Invalid, "InvalidLabels"},
		"elsewhere":    {func(l *Label) { l.Remove = []string{"l1"} }, fleet.Invalid, "InvalidLabels"},
		"not anywhere": {func(l *Label) { l.Version, l.Add, l.Remove = 0, nil, []string{"x"} }, fleet.Invalid, "InvalidLabels"},
	} {
		l := good
		c.change(&l)
		_, _, err := p.Labelled(l, d.sign(Op{Label: []Label{l}})[0])
		wants(t, name, err, c.kind, c.want)
	}
	_, _, err := (*Param)(nil).Labelled(good, Signed{})
	wants(t, "no parameter", err, fleet.NotFound, "ParameterNotFound")

	by := d.sign(Op{Label: []Label{good}})[0]
	next, events, err := p.Labelled(good, by)
	if err != nil || next.Check() != nil || next.Seq != 2 || !slices.Equal(next.LabelsOf(2), []string{"l0"}) || len(next.LabelsOf(1)) != 9 || len(p.LabelsOf(1)) != 10 {
		t.Fatalf("%+v, %v", next, err)
	}
	if e := events[0]; len(events) != 1 || e.Kind != EventLabelled || e.Version != 2 || !slices.Equal(e.Labels, []string{"l0"}) {
		t.Errorf("%+v", events)
	}
	// A label that takes another's place among ten.
	p = d.label(t, next, 1, []string{"x"}, nil)
	p = d.label(t, p, 1, []string{"y"}, []string{"l1"})
	if got := p.LabelsOf(1); len(got) != 10 || slices.Contains(got, "l1") {
		t.Errorf("%v", got)
	}
	p = d.label(t, p, 0, nil, []string{"l0", "y"})
	if got := len(p.Labels); got != 9 || p.Check() != nil {
		t.Errorf("%v, %v", p.Labels, p.Check())
	}
}

func TestMayDelete(t *testing.T) {
	d := newDesk("delete")
	p := d.put(t, nil, "P", "v1")
	p = d.put(t, p, "P", "v2")
	for _, c := range []struct {
		p    *Param
		d    Delete
		kind fleet.Kind
		want string
	}{
		{nil, Delete{Name: "P", Born: p.Born, Version: 2}, fleet.NotFound, "ParameterNotFound"},
		{p, Delete{Name: "P", Born: p.Born + 1, Version: 2}, fleet.Conflict, "made anew"},
		{p, Delete{Name: "P", Born: p.Born, Version: 1}, fleet.Conflict, "has version 2"},
	} {
		wants(t, "delete", c.p.MayDelete(c.d), c.kind, c.want)
	}
	del := Delete{Name: "P", Born: p.Born, Version: 2}
	if err := p.MayDelete(del); err != nil {
		t.Error(err)
	}
	if e := p.Deleted(d.sign(Op{Delete: []Delete{del}})[0]); e.Kind != EventDeleted || e.Version != 2 || e.Born != p.Born || e.By == "" {
		t.Errorf("%+v", e)
	}
}

func TestFind(t *testing.T) {
	d := newDesk("find")
	p := d.put(t, nil, "P", "v1", "prod")
	p = d.put(t, p, "P", "v2")
	for text, want := range map[string]uint32{"P": 2, "P:1": 1, "P:2": 2, "P:prod": 1} {
		s, _ := ParseSelector(text)
		v, at, err := p.Find(s)
		if err != nil || v.Number != want || (at != nil) != (s.Label != "") {
			t.Errorf("%s: %+v, %v", text, v, err)
		}
	}
	for text, want := range map[string]string{"Q": "ParameterNotFound", "P:3": "ParameterVersionNotFound", "P:test": "ParameterVersionNotFound"} {
		s, _ := ParseSelector(text)
		_, _, err := p.Find(s)
		wants(t, text, err, fleet.NotFound, want)
	}
	_, _, err := (*Param)(nil).Find(Selector{Name: "P"})
	wants(t, "nil", err, fleet.NotFound, "ParameterNotFound")
}

func TestKept(t *testing.T) {
	d := newDesk("kept")
	good := d.put(t, nil, "P", "v1", "prod")
	good = d.label(t, d.put(t, good, "P", "v2"), 2, []string{"test"}, nil)
	if err := good.Check(); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*Param){
		"name": func(p *Param) { p.Name = "/P" }, "other name": func(p *Param) { p.Name = "Q" }, "born": func(p *Param) { p.Born++ }, "last": func(p *Param) { p.Last++ }, "seq": func(p *Param) { p.Seq = 0 }, "none": func(p *Param) { p.Versions = nil },
		"order": func(p *Param) { p.Versions[0], p.Versions[1] = p.Versions[1], p.Versions[0] }, "gap": func(p *Param) { p.Versions[0].Number, p.Versions[0].Put.Version = 5, 5 }, "number": func(p *Param) { p.Versions[0].Put.Version = 2 },
		"content": func(p *Param) { p.Versions[0].Content = p.Versions[1].Content }, "no put": func(p *Param) { p.Versions[0].Put = nil }, "no change": func(p *Param) { p.Versions[1].Change = nil }, "type": func(p *Param) { p.Versions[1].Put.Type = StringList },
		"label to nothing": func(p *Param) { p.Labels[0].Version = 3 }, "labels' order": func(p *Param) { slices.Reverse(p.Labels) }, "label twice": func(p *Param) { p.Labels[1] = p.Labels[0] }, "bad label": func(p *Param) { p.Labels[0].Label = "1" },
		"told": func(p *Param) { p.Told = []Told{{}} }, "too many": func(p *Param) { p.Versions = make([]*Version, MaxVersions+1) }, "too many labels": func(p *Param) {
			p.Labels = nil
			for _, l := range labels(11) {
				p.Labels = append(p.Labels, LabelAt{Label: l, Version: 1, Change: p.Versions[0].Change})
			}
			slices.SortFunc(p.Labels, func(a, b LabelAt) int { return strings.Compare(a.Label, b.Label) })
		},
	} {
		p := deepCopy(good)
		if name != "too many" {
			spoil(p)
		} else {
			for i := range MaxVersions - 1 {
				v := *p.Versions[1]
				put := *v.Put
				v.Number, put.Version = uint32(i+3), uint32(i+3)
				v.Put = &put
				p.Versions, p.Last = append(p.Versions, &v), v.Number
			}
		}
		if p.Check() == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

func deepCopy(p *Param) *Param {
	next := *p
	next.Labels, next.Told, next.Versions = slices.Clone(p.Labels), slices.Clone(p.Told), nil
	for _, v := range p.Versions {
		copied, put := *v, *v.Put
		copied.Put = &put
		next.Versions = append(next.Versions, &copied)
	}
	return &next
}
