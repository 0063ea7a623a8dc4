package check

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// happyShelf is a true history of parameters with one of everything. Each test changes it into a lie.
func happyShelf() Shelf {
	put := func(act int, name, value string, told uint32, from float64) ParamPut {
		return ParamPut{Act: act, Name: name, Value: value, Told: told, Ack: Accepted, Asked: at(from), Answered: at(from + 1)}
	}
	with := func(p ParamPut, change func(*ParamPut)) ParamPut {
		change(&p)
		return p
	}
	refused := func(p *ParamPut) { p.Ack, p.Told = Refused, 0 }
	doubt := func(p *ParamPut) { p.Ack, p.Told = InDoubt, 0 }
	blue := func(p *ParamPut) { p.Label = "blue" }
	in := func(node string, from float64) Write {
		return Write{What: node, Value: In, Ack: Accepted, Asked: at(from), Answered: at(from + 1)}
	}
	out := func(node string, from float64) Write {
		return Write{What: node, Ack: Accepted, Asked: at(from), Answered: at(from + 1)}
	}
	return Shelf{
		Skew: 0, Looked: at(200),
		Puts: []ParamPut{
			put(1, "/a", "a1", 1, 0), with(put(2, "/a", "a2", 2, 2), blue), with(put(3, "/a", "a3", 0, 3), doubt), with(put(4, "/a", "a4", 0, 3), doubt),
			put(5, "/a", "a5", 4, 10), put(5, "/b", "b5", 1, 10),
			with(put(6, "/a", "a6", 5, 20), func(p *ParamPut) { p.CAS, p.If = true, 4 }), with(put(7, "/a", "a7", 0, 20), refused),
			put(10, "/g", "g1", 1, 0), put(11, "/g", "g2", 2, 2), put(12, "/g", "g3", 1, 10),
			with(put(20, "/e1", "e1", 1, 5), func(p *ParamPut) { p.Lasts = 10 * time.Second }),
			with(put(21, "/e2", "e2", 1, 5), func(p *ParamPut) { p.Lasts = time.Hour }),
			put(30, "/s", "s1", 1, 5), put(31, "/s", "s2", 2, 50), put(32, "/s", "s3", 3, 150),
		},
		Deletes: []ParamDelete{
			{Name: "/g", Ack: Accepted, Asked: at(5), Answered: at(6)},
			{Name: "/a", Ack: Refused, Asked: at(5), Answered: at(6)},
		},
		Moves: []LabelMove{
			{Name: "/a", Label: "blue", Version: 1, Ack: Accepted, Asked: at(30), Answered: at(31)},
			{Name: "/a", Label: "green", Version: 2, Ack: InDoubt, Asked: at(30), Answered: at(31)},
			{Name: "/a", Label: "blue", Version: 4, Ack: Accepted, Asked: at(32), Answered: at(33)},
		},
		Params: map[string]ParamSeen{
			"/a": {By: "n1", Versions: []VersionSeen{
				{1, "a1", nil}, {2, "a2", []string{"green"}}, {3, "a3", nil}, {4, "a5", []string{"blue"}}, {5, "a6", nil},
			}},
			"/b":  {By: "n1", Versions: []VersionSeen{{1, "b5", nil}}},
			"/g":  {By: "n1", Versions: []VersionSeen{{1, "g3", nil}}},
			"/e2": {By: "n1", Part: true, Versions: []VersionSeen{{1, "e2", nil}}},
			"/s":  {By: "n1", Versions: []VersionSeen{{1, "s1", nil}, {2, "s2", nil}, {3, "s3", nil}}},
		},
		Gets: []ParamGet{
			{By: "n2", Name: "/a", Asked: at(0.5), Answered: at(0.9)},
			{By: "n2", Name: "/a", Asked: at(4.5), Answered: at(5), Version: 2, Value: "a2"},
			{By: "n2", Name: "/a", Asked: at(20.5), Answered: at(20.9), Version: 5, Value: "a6"},
			{By: "n2", Name: "/g", Asked: at(5.5), Answered: at(5.9), Version: 2, Value: "g2"},
			{By: "n2", Name: "/g", Asked: at(7), Answered: at(8)},
		},
		Members: []Write{
			in("n1", 0), in("n2", 0), out("n2", 40), in("n4", 0), {What: "n4", Ack: InDoubt, Asked: at(60), Answered: at(61)},
			out("n5", 0), in("n5", 100),
		},
		Opens: []Open{
			{Node: "n1", Name: "/s", Asked: at(190), Answered: at(191), Value: "s3", Rest: true},
			{Node: "n2", Name: "/s", Asked: at(30), Answered: at(31), Value: "s1"},
			{Node: "n2", Name: "/s", Asked: at(190), Answered: at(191), Why: "no reader", Rest: true},
			{Node: "n3", Name: "/s", Asked: at(190), Answered: at(191), Why: "no reader", Rest: true},
			{Node: "n4", Name: "/s", Asked: at(190), Answered: at(191), Why: "no reader", Rest: true},
			{Node: "n5", Name: "/s", Asked: at(110), Answered: at(120), Value: "s2"},
		},
		Planted: map[string][]string{"n1": nil, "n3": nil},
	}
}

func TestTrueShelf(t *testing.T) {
	for _, v := range Params(happyShelf()) {
		t.Error(v)
	}
	if got := Params(Shelf{}); len(got) != 0 {
		t.Errorf("an empty shelf breaks %v", got)
	}
}

// TestShelfLies changes one thing at a time, and wants exactly the promise that this breaks.
func TestShelfLies(t *testing.T) {
	versions := func(s *Shelf, name string, change func([]VersionSeen) []VersionSeen) {
		seen := s.Params[name]
		seen.Versions = change(seen.Versions)
		s.Params[name] = seen
	}
	for name, c := range map[string]struct {
		lie  func(*Shelf)
		want Promise
		text string
	}{
		"an acknowledged put is lost": {func(s *Shelf) {
			versions(s, "/a", func(v []VersionSeen) []VersionSeen { return v[:4] })
		}, PromiseShelf, `"a6" was acknowledged as version 5`},
		"an acknowledged parameter is lost": {func(s *Shelf) { delete(s.Params, "/s") }, PromiseShelf, `"s1" was acknowledged`},
		"a put is doubled": {func(s *Shelf) {
			versions(s, "/a", func(v []VersionSeen) []VersionSeen { return append(v, VersionSeen{6, "a6", nil}) })
		}, PromiseShelf, "versions 5 and 6 are both"},
		"a gap": {func(s *Shelf) {
			versions(s, "/s", func(v []VersionSeen) []VersionSeen { v[2].Number = 4; return v })
			s.Puts[15].Told = 4
		}, PromiseShelf, "version 4 follows where 3 should be"},
		"a gap at the beginning": {func(s *Shelf) {
			s.Puts[6].Ack, s.Puts[13].Ack = InDoubt, InDoubt
			versions(s, "/s", func(v []VersionSeen) []VersionSeen { return v[1:] })
		}, PromiseShelf, "version 2 follows where 1 should be"},
		"another value": {func(s *Shelf) { s.Params["/b"].Versions[0].Value = "b6" }, PromiseShelf, "which nobody put"},
		"the value of another name": {func(s *Shelf) {
			s.Params["/b"].Versions[0].Value = "a5"
		}, PromiseShelf, "which nobody put"},
		"what was refused": {func(s *Shelf) {
			versions(s, "/a", func(v []VersionSeen) []VersionSeen { return append(v, VersionSeen{6, "a7", nil}) })
		}, PromiseShelf, "which was refused"},
		"another version than was told": {func(s *Shelf) { s.Puts[14].Told = 3 }, PromiseShelf, "was acknowledged as version 3 at"},
		"not the version that follows":  {func(s *Shelf) { s.Puts[6].If = 3 }, PromiseShelf, "was to follow version 3 only"},
		"two follow the same version": {func(s *Shelf) {
			s.Puts[7].Ack, s.Puts[7].CAS, s.Puts[7].If, s.Puts[7].Told = Accepted, true, 4, 5
		}, PromiseShelf, `"a7" was acknowledged as version 5`},
		"what was deleted": {func(s *Shelf) {
			s.Params["/g"] = ParamSeen{Versions: []VersionSeen{{1, "g1", nil}, {2, "g2", nil}}}
			s.Puts[10].Ack = InDoubt
		}, PromiseShelf, "and it was deleted"},
		"another order than they were put in": {func(s *Shelf) {
			s.Puts[14].Told, s.Puts[15].Told = 3, 2
			s.Params["/s"].Versions[1].Value, s.Params["/s"].Versions[2].Value = "s3", "s2"
		}, PromiseShelf, "asked for at"},
		"half an act": {func(s *Shelf) {
			s.Puts[4].Ack, s.Puts[5].Ack = InDoubt, InDoubt
			delete(s.Params, "/b")
		}, PromiseShelf, "of one act (5) [/a] are there, and [/b] are not"},
		"a label that did not move":      {func(s *Shelf) { s.Params["/a"].Versions[3].Labels = nil }, PromiseLabels, "label blue is on version 0"},
		"a label where it was":           {func(s *Shelf) { s.Moves = s.Moves[:2]; s.Moves[0].Version = 2 }, PromiseLabels, "only be on one of [2]"},
		"a label on two versions":        {func(s *Shelf) { s.Params["/a"].Versions[0].Labels = []string{"blue"} }, PromiseLabels, "on versions [1 4] at once"},
		"a label that nobody put":        {func(s *Shelf) { s.Params["/b"].Versions[0].Labels = []string{"red"} }, PromiseLabels, "label red"},
		"a label of an older put":        {func(s *Shelf) { s.Moves, s.Puts[6].Label = s.Moves[1:2], "blue" }, PromiseLabels, "only be on one of [5]"},
		"an expired one is there":        {func(s *Shelf) { s.Params["/e1"] = ParamSeen{Versions: []VersionSeen{{1, "e1", nil}}} }, PromiseExpired, "is there at"},
		"one is gone before its time":    {func(s *Shelf) { delete(s.Params, "/e2") }, PromiseExpired, "is gone at"},
		"a look shows too little":        {func(s *Shelf) { s.Gets[0].Asked, s.Gets[0].Answered = at(1.5), at(2) }, PromiseFresh, `"a1" was acknowledged`},
		"a look shows an older version":  {func(s *Shelf) { s.Gets[2].Version, s.Gets[2].Value = 2, "a2" }, PromiseFresh, `"a5" was acknowledged`},
		"a look shows what is to come":   {func(s *Shelf) { s.Gets[1].Version, s.Gets[1].Value = 5, "a6" }, PromiseFresh, "which nobody had put"},
		"a look shows what was refused":  {func(s *Shelf) { s.Gets[2].Value = "a7" }, PromiseFresh, "was refused"},
		"a look shows what was deleted":  {func(s *Shelf) { s.Gets[4].Version, s.Gets[4].Value = 2, "g2" }, PromiseFresh, "and it was deleted"},
		"a look shows another number":    {func(s *Shelf) { s.Gets[2].Version = 7 }, PromiseFresh, "is version 7"},
		"a member cannot open":           {func(s *Shelf) { s.Opens[0].Value = "" }, PromiseOpen, "cannot open /s"},
		"who has left opens":             {func(s *Shelf) { s.Opens[2].Value = "s2" }, PromiseClosed, "it was not in the keyring since 03:00:41"},
		"who never was in it opens":      {func(s *Shelf) { s.Opens[3].Value = "s1" }, PromiseClosed, "since the beginning"},
		"who enters later opens already": {func(s *Shelf) { s.Opens[5].Asked, s.Opens[5].Answered = at(60), at(70) }, PromiseClosed, "on n5"},
		"what is opened was never put":   {func(s *Shelf) { s.Opens[0].Value = "s9" }, PromiseClosed, "what nobody put"},
		"a secret in a file":             {func(s *Shelf) { s.Planted["n3"] = []string{"/disk/x"} }, PromisePlanted, "never in the keyring, it is in /disk/x"},
		"a secret in a file of a reader": {func(s *Shelf) { s.Planted["n1"] = []string{"/disk/x"} }, PromisePlanted, "in memory"},
	} {
		t.Run(name, func(t *testing.T) {
			s := happyShelf()
			c.lie(&s)
			found := Params(s)
			if len(found) == 0 || slices.ContainsFunc(found, func(v Violation) bool { return v.Promise != c.want }) || !strings.Contains(fmt.Sprint(found), c.text) {
				t.Errorf("found %v", found)
			}
		})
	}
}

// TestShelfDoubts: what is in doubt may be or not be, and is no lie either way.
func TestShelfDoubts(t *testing.T) {
	for name, change := range map[string]func(*Shelf){
		"a put in doubt is gone with what came after it": func(s *Shelf) {
			s.Params["/s"] = ParamSeen{Versions: []VersionSeen{{1, "s1", nil}, {2, "s2", nil}}}
			s.Puts[15].Ack = InDoubt
		},
		"a delete in doubt":           func(s *Shelf) { s.Deletes[1].Ack = InDoubt; delete(s.Params, "/a") },
		"a label in doubt":            func(s *Shelf) { s.Params["/a"].Versions[1].Labels = nil },
		"who may be a member":         func(s *Shelf) { s.Opens[4].Value = "s3" },
		"who left in doubt and opens": func(s *Shelf) { s.Members[2].Ack = InDoubt; s.Opens[2].Value = "s3" },
		"a clock that is off": func(s *Shelf) {
			s.Skew = 5 * time.Minute
			s.Params["/e1"] = ParamSeen{Versions: []VersionSeen{{1, "e1", nil}}}
		},
		"more versions than are kept": func(s *Shelf) {
			var many []VersionSeen
			for n := range uint32(mostVersions) {
				value := fmt.Sprint("m", n)
				many = append(many, VersionSeen{n + 4, value, nil})
				s.Puts = append(s.Puts, ParamPut{Act: 100 + int(n), Name: "/s", Value: value, Told: n + 4, Ack: Accepted, Asked: at(160), Answered: at(300)})
			}
			s.Params["/s"] = ParamSeen{Versions: many}
			s.Opens = nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := happyShelf()
			change(&s)
			for _, v := range Params(s) {
				t.Error(v)
			}
		})
	}
}
