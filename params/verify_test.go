package params

import (
	"testing"
	"time"

	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

func TestVerify(t *testing.T) {
	d := newDesk("verify")
	p := d.put(t, nil, "a", "v1", "prod")
	p = d.put(t, p, "a", "v2")
	p = d.label(t, p, 2, []string{"test"}, nil)
	c := d.Record.Charter
	for _, s := range []Selector{{Name: "a"}, {Name: "a", Version: 1}, {Name: "a", Version: 2}, {Name: "a", Label: "prod"}, {Name: "a", Label: "test"}} {
		for _, content := range []bool{true, false} {
			i := item(t, p, s, content)
			put, err := Verify(i, c)
			if err != nil || put.Name != "a" || i.Answers(s) != nil {
				t.Errorf("%s: %+v, %v, %v", s, put, err, i.Answers(s))
			}
			for _, other := range []Selector{{Name: "b"}, {Name: "a", Version: 3}, {Name: "a", Label: "x"}} {
				if i.Answers(other) == nil {
					t.Errorf("%s answers %s", s, other)
				}
			}
		}
	}

	other := d.put(t, nil, "b", "v1", "prod")
	newest, labelled := Selector{Name: "a"}, Selector{Name: "a", Label: "test"}
	for name, c := range map[string]struct {
		s     Selector
		spoil func(*Item)
	}{
		"another value":       {newest, func(i *Item) { i.Content[0] = p.Versions[0].Content }},
		"two values":          {newest, func(i *Item) { i.Content = append(i.Content, i.Content[0]) }},
		"another body":        {newest, func(i *Item) { i.Body = other.Newest().Body }},
		"another place":       {newest, func(i *Item) { i.Op = 1 }},
		"far place":           {newest, func(i *Item) { i.Op = 1<<32 - 1 }},
		"a label's change":    {newest, func(i *Item) { i.Change, i.Body = *p.Labels[1].Change, p.Labels[1].Body }},
		"older as newest":     {newest, func(i *Item) { v := p.Versions[0]; i.Change, i.Body, i.Content[0] = *v.Change, v.Body, v.Content }},
		"newer than newest":   {newest, func(i *Item) { i.Newest = 1 }},
		"older than newest":   {newest, func(i *Item) { i.Newest = 3 }},
		"fewer label changes": {Selector{Name: "a", Version: 1}, func(i *Item) { i.Seq = 0 }},
		"another number":      {newest, func(i *Item) { i.Selector = ":1" }},
		"odd number":          {newest, func(i *Item) { i.Selector = ":02" }},
		"colon":               {newest, func(i *Item) { i.Selector = ":" }},
		"text":                {newest, func(i *Item) { i.Selector = "prod" }},
		"unproved label":      {newest, func(i *Item) { i.Selector = ":test" }},
		"proof without label": {labelled, func(i *Item) { i.Selector = "" }},
		"two proofs":          {labelled, func(i *Item) { i.Proof = append(i.Proof, i.Proof[0]) }},
		"another label":       {labelled, func(i *Item) { i.Selector = ":prod" }},
		"proof of another one": {labelled, func(i *Item) {
			i.Selector, i.Proof[0] = ":prod", LabelProof{*other.Labels[0].Change, 0, other.Labels[0].Body}
		}},
		"of another version": {labelled, func(i *Item) { i.Selector, i.Proof[0] = ":prod", LabelProof{*p.Labels[0].Change, 0, p.Labels[0].Body} }},
		"moved from another version": {Selector{Name: "a", Version: 1}, func(i *Item) {
			i.Selector, i.Proof = ":test", []LabelProof{{*p.Labels[1].Change, p.Labels[1].Op, p.Labels[1].Body}}
		}},
		"number beyond the newest": {Selector{Name: "a", Version: 2}, func(i *Item) { i.Newest = 1 }},
		"proof ahead":              {labelled, func(i *Item) { i.Seq = 1 }},
		"proof by version":         {labelled, func(i *Item) { i.Proof[0] = LabelProof{i.Change, i.Op, i.Body} }},
		"signature": {newest, func(i *Item) {
			i.Change.Signature = append([]byte{i.Change.Signature[0] ^ 1}, i.Change.Signature[1:]...)
		}},
		"signed body":     {newest, func(i *Item) { i.Change.Body = append([]byte{}, i.Change.Body...); i.Change.Body[20] ^= 1 }},
		"large body":      {newest, func(i *Item) { i.Change.Body = make([]byte, MaxSigned+1) }},
		"stranger":        {newest, func(i *Item) { i.Change.Key[0] ^= 1 }},
		"another purpose": {newest, func(i *Item) { i.Change = d.Sign(auth.ForDocument, msgOf(t, i.Change)) }},
	} {
		i := item(t, p, c.s, true)
		i.Content = [][]byte{i.Content[0]}
		c.spoil(&i)
		if put, err := Verify(i, d.Record.Charter); err == nil {
			t.Errorf("%s: taken as %+v", name, put)
		}
	}
	if _, err := Verify(item(t, p, newest, true), nil); err == nil {
		t.Error("taken without a charter")
	}
	if _, err := Verify(item(t, p, newest, true), newDesk("elsewhere").Record.Charter); err == nil {
		t.Error("taken in another fleet")
	}
}

func msgOf(t *testing.T, e auth.Envelope) Change {
	t.Helper()
	c, err := auth.Peek[Change](e)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// What an operator put stays when they go, unless they go as compromised; what they sign afterwards never counts.
func TestVerifyOutlivesSigner(t *testing.T) {
	d := newDesk("outlives")
	bob := d.AddOperator("bob", auth.RootTeam)
	put, raw := plainPut("P", 1, "x")
	by := d.signAs(bob, Op{Put: []Put{*put}})[0]
	put.Born, by.Content = by.Issued, raw
	p, _, err := (*Param)(nil).Put(put, by)
	if err != nil {
		t.Fatal(err)
	}
	d.Advance(time.Minute)
	d.MustTake(d.DeleteOperator("bob", bob, false))
	d.Advance(time.Minute)
	if _, err := Verify(item(t, p, Selector{Name: "P"}, true), d.Record.Charter); err != nil {
		t.Errorf("it went with its signer: %v", err)
	}
	late, raw := plainPut("P", 2, "y")
	late.Born = p.Born
	by = d.signAs(bob, Op{Put: []Put{*late}})[0]
	by.Content = raw
	after, _, err := p.Put(late, by)
	if err != nil {
		t.Fatal(err)
	}
	_, err = Verify(item(t, after, Selector{Name: "P"}, true), d.Record.Charter)
	wants(t, "signed after the removal", err, fleet.Denied, "removed before")
	d.MustTake(d.DeleteOperator("bob", bob, true))
	_, err = Verify(item(t, p, Selector{Name: "P"}, true), d.Record.Charter)
	wants(t, "compromised", err, fleet.Denied, "compromised")
}

// Who is shown one operation of a change learns nothing of the others.
func TestOpsOfAChangeAreApart(t *testing.T) {
	d := newDesk("apart")
	a, rawA := plainPut("a", 1, "x")
	b, _ := plainPut("b", 1, "hidden")
	all := d.sign(Op{Put: []Put{*a}}, Op{Put: []Put{*b}})
	a.Born, all[0].Content = all[0].Issued, rawA
	p, _, err := (*Param)(nil).Put(a, all[0])
	if err != nil {
		t.Fatal(err)
	}
	i := item(t, p, Selector{Name: "a"}, true)
	if _, err := Verify(i, d.Record.Charter); err != nil {
		t.Fatal(err)
	}
	salt := all[1].Body[2:18]
	for _, secret := range [][]byte{salt, b.Digest[:]} {
		if found := string(append(i.Change.Body, i.Body...)); len(secret) != 0 && contains(found, string(secret)) {
			t.Error("an item shows what was put with it")
		}
	}
	// With the salt taken away, the hash alone would let one guess.
	same, _ := Commit(auth.Header{}, []Op{{Salt: fleet.UUID{1}, Put: []Put{*b}}, {Salt: fleet.UUID{2}, Put: []Put{*b}}})
	if same.Ops[0] == same.Ops[1] {
		t.Error("the salt does not count")
	}
}

func contains(text, part string) bool {
	for i := 0; i+len(part) <= len(text); i++ {
		if text[i:i+len(part)] == part {
			return true
		}
	}
	return false
}

func TestFloor(t *testing.T) {
	d := newDesk("floor")
	p1 := d.put(t, nil, "a", "v1", "prod")
	p2 := d.put(t, p1, "a", "v2")
	p3 := d.label(t, p2, 2, []string{"prod"}, nil)
	p4 := d.label(t, p3, 1, []string{"test"}, nil)
	d.Advance(time.Hour)
	anew := d.put(t, nil, "a", "v1")
	take := func(f Floor, p *Param, s Selector) (Floor, error) {
		t.Helper()
		i := item(t, p, s, false)
		put, err := Verify(i, d.Record.Charter)
		if err != nil {
			t.Fatal(err)
		}
		return f.Take(i, put)
	}
	newest, first, prod := Selector{Name: "a"}, Selector{Name: "a", Version: 1}, Selector{Name: "a", Label: "prod"}
	test := Selector{Name: "a", Label: "test"}
	for name, c := range map[string]struct {
		seen *Param
		by   Selector
		show *Param
		as   Selector
		ok   bool
	}{
		"same": {p2, newest, p2, newest, true}, "newer": {p1, newest, p2, newest, true}, "older": {p2, newest, p1, newest, false}, "older version of the newest": {p2, newest, p2, first, true}, "older version of the older": {p2, newest, p1, first, false},
		"older label": {p3, prod, p2, prod, false}, "newer label": {p1, prod, p3, prod, true}, "label changes behind": {p4, test, p3, prod, false}, "old label that nobody moved": {p4, test, p4, prod, true},
		"made anew": {p4, newest, anew, newest, true}, "before it was made anew": {anew, newest, p4, newest, false},
	} {
		f, err := take(Floor{}, c.seen, c.by)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		got, err := take(f, c.show, c.as)
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil && fleet.KindOf(err) != fleet.Unavailable {
			t.Errorf("%s: %v", name, err)
		}
		if err == nil && (got.Born != c.show.Born || got.Version < c.show.Versions[0].Number) {
			t.Errorf("%s: %+v", name, got)
		}
	}

	// What a server merely says raises nothing.
	i := item(t, p1, first, false)
	i.Newest, i.Seq = 1<<32-1, 1<<32-1
	put, err := Verify(i, d.Record.Charter)
	if err != nil {
		t.Fatal(err)
	}
	f, err := Floor{}.Take(i, put)
	if err != nil || f.Version != 1 || f.Seq != 1 {
		t.Errorf("%+v, %v", f, err)
	}
	// A server that has all the numbers right and shows a label's old place.
	f, _ = take(Floor{}, p3, prod)
	i = item(t, p2, prod, false)
	i.Newest, i.Seq = p4.Last, p4.Seq
	if put, err = Verify(i, d.Record.Charter); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Take(i, put); err == nil {
		t.Error("an old place of a label is taken")
	}
}

func TestFloorHigher(t *testing.T) {
	f := Floor{Born: 5, Version: 3, Seq: 2, Labels: []LabelFloor{{"a", 1}, {"c", 2}}}
	g := Floor{Born: 5, Version: 2, Seq: 9, Labels: []LabelFloor{{"b", 9}, {"c", 1}}}
	for _, h := range []Floor{f.Higher(g), g.Higher(f)} {
		if h.Version != 3 || h.Seq != 9 || len(h.Labels) != 3 || h.Labels[1] != (LabelFloor{"b", 9}) || h.Labels[2] != (LabelFloor{"c", 2}) {
			t.Errorf("%+v", h)
		}
	}
	if h := f.Higher(Floor{Born: 6}); h.Born != 6 || h.Version != 0 || len(h.Labels) != 0 {
		t.Errorf("%+v", h)
	}
	if h := f.Higher(Floor{Born: 4, Version: 9}); h.Version != 3 {
		t.Errorf("%+v", h)
	}
	many := Floor{Born: 5}
	for i, l := range labels(3 * MaxFloorLabels) {
		many = many.Higher(Floor{Born: 5, Labels: []LabelFloor{{l, uint32(i)}}})
	}
	if len(many.Labels) != MaxFloorLabels {
		t.Errorf("%d labels", len(many.Labels))
	}
	for _, l := range many.Labels {
		if l.Seq < 2*MaxFloorLabels {
			t.Errorf("%+v was kept", l)
		}
	}
	if len(f.Labels) != 2 || f.Labels[1].Seq != 2 {
		t.Error("Higher changed its receiver")
	}
}
