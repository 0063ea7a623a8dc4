package params

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/vmihailenco/msgpack/v5"

	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
	"github.com/muster-fleet/muster/testnet/hostile"
)

// There is one spelling, and it is its own.
func FuzzName(f *testing.F) {
	for _, text := range []string{"/a/b", "P", " /P ", "/aws/x", "a/b", "/", "/a//b", "{{ssm:a}}", "/./.."} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if name, err := CanonicalName(text); err == nil {
			if again, err := CanonicalName(name); err != nil || again != name || len(name) > MaxName {
				t.Errorf("%q, then %q, %v", name, again, err)
			}
			if with, err := CanonicalName(FullPath(name)); err != nil || with != name || !Below("/", name, true) || !Covers("/", name) {
				t.Errorf("%q with its slash is %q, %v", name, with, err)
			}
			if CheckScope(name) != nil || !Covers(name, name) {
				t.Errorf("%q is no scope", name)
			}
		}
		if path, err := CheckPath(text); err == nil {
			if again, err := CheckPath(path); err != nil || again != path {
				t.Errorf("%q, then %q, %v", path, again, err)
			}
		}
		_ = CheckScope(text)
	})
}

// What is read prints as what reads the same.
func FuzzSelector(f *testing.F) {
	for _, text := range []string{"/a/b:3", "P:prod", "P", "a:2:3", "a:", "a:0", "a:99999999999"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := ParseSelector(text)
		if err != nil {
			return
		}
		if again, err := ParseSelector(s.String()); err != nil || again != s || s.Check() != nil {
			t.Errorf("%q is %+v, then %+v, %v", text, s, again, err)
		}
	})
}

func FuzzPolicies(f *testing.F) {
	for _, text := range []string{
		"[{}]", "[]", `[{"Type":"Expiration","Version":"1.0","Attributes":{"Timestamp":"2030-01-31T00:00:00.000Z"}}]`, `[{"Type":"NoChangeNotification","Version":"1.0","Attributes":{"After":"20","Unit":"Days"}}]`, `[{"Type":1}]`, "[null]", `[{"Attributes":{"After":"1"}}] x`,
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, err := ParsePolicies(text)
		if err != nil {
			return
		}
		if again, err := ParsePolicies(FormatPolicies(got)); err != nil || !reflect.DeepEqual(again, got) || CheckPolicies(got) != nil {
			t.Errorf("%q is %+v, then %+v, %v", text, got, again, err)
		}
	})
}

func opSeeds() (out [][]byte) {
	plain, _ := plainPut("/a/b", 2, "x")
	plain.Labels, plain.Seq, plain.Tags = []string{"prod"}, 2, map[string]string{"a": "b"}
	hidden := changed(plain, secret)
	hidden.Rotation = []Rotation{{"Rotate", "all", 0, 32}}
	timed := changed(plain, func(p *Put) { p.Tier, p.Policies = Advanced, []Policy{{Kind: Expiration, At: born + 5*day}} })
	for _, op := range []Op{
		{Put: []Put{*plain}}, {Put: []Put{*hidden}}, {Put: []Put{*timed}}, {Delete: []Delete{{Name: "a", Born: 5, Version: 1}}}, {Label: []Label{{Name: "a", Born: 5, Seq: 2, Version: 1, Add: []string{"x"}, Remove: []string{"y"}}}}, {},
	} {
		out = append(out, wire.Marshal(salted(op)))
	}
	return out
}

// Whatever passes the checks can be tried on any parameter, fits at most one place, and leaves what holds together.
func FuzzOp(f *testing.F) {
	for _, seed := range opSeeds() {
		f.Add(seed)
	}
	d := newDesk("fuzz op")
	p := d.put(f, nil, "/a/b", "v1", "prod")
	f.Fuzz(func(t *testing.T, data []byte) {
		op, err := DecodeOp(data)
		if err != nil || op.check(born) != nil {
			return
		}
		for _, put := range op.Put {
			by := Signed{Change: &auth.Envelope{}, Body: data, Issued: born, Time: born}
			if next, _, err := p.Put(&put, by); err == nil {
				if next.Last != p.Last+1 || put.Name != p.Name || put.Born != p.Born {
					t.Fatalf("%+v fits %+v", put, p)
				}
				_, _ = next.Due(born)
				_, _ = next.NextDue()
			}
			if next, _, err := (*Param)(nil).Put(&put, by); err == nil && (put.Version != 1 || next.Name != put.Name) {
				t.Fatalf("%+v founds %+v", put, next)
			}
		}
		for _, l := range op.Label {
			if next, _, err := p.Labelled(l, Signed{Change: &auth.Envelope{}}); err == nil && next.checkLabels() != nil {
				t.Fatalf("%+v makes %+v", l, next.Labels)
			}
		}
		for _, del := range op.Delete {
			_ = p.MayDelete(del)
		}
	})
}

// Nothing counts that no operator signed.
func FuzzItem(f *testing.F) {
	d := newDesk("fuzz item")
	p := d.put(f, nil, "a", "v1", "prod")
	p = d.put(f, p, "a", "v2")
	p = d.label(f, p, 2, []string{"test"}, nil)
	signed := map[fleet.ID]bool{}
	for _, v := range p.Versions {
		signed[fleet.Sum(v.Body)] = true
	}
	for _, s := range []Selector{{Name: "a"}, {Name: "a", Version: 1}, {Name: "a", Label: "prod"}, {Name: "a", Label: "test"}} {
		f.Add(wire.Marshal(item(f, p, s, true)))
	}
	f.Add(wire.Marshal(Item{}))
	f.Fuzz(func(t *testing.T, data []byte) {
		var i Item
		if wire.Unmarshal(data, &i) != nil {
			return
		}
		_ = i.Answers(Selector{Name: "a"})
		put, err := Verify(i, d.Record.Charter)
		if err != nil {
			return
		}
		if !signed[fleet.Sum(i.Body)] || put.Name != "a" {
			t.Fatalf("%+v was never signed", put)
		}
		floor, err := Floor{}.Take(i, put)
		if err != nil || floor.Version > p.Last || floor.Seq > p.Seq {
			t.Fatalf("%+v, %v", floor, err)
		}
	})
}

func FuzzContent(f *testing.F) {
	raw := kept(f, "sealed-1") // what is sealed anew is different in each process
	sealed, err := DecodeContent(raw)
	if err != nil {
		f.Fatal(err)
	}
	s := sealed.Sealed[0]
	_, readers := sealedFor(f, place(), "hunter2")
	f.Add(raw)
	f.Add(PlainContent([]byte("value")).Encode())
	f.Add(wire.Marshal(Content{}))
	f.Add([]byte{0x92, 0xdd, 0xff, 0xff, 0xff, 0xff, 0x90})
	private, _ := keyPair("keyring:web")
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := DecodeContent(data)
		if err != nil {
			return
		}
		if !bytes.Equal(c.Encode(), data) {
			t.Fatal("two encodings")
		}
		put := Put{Name: "a", Type: String, Digest: fleet.Sum(data), Size: uint32(len(data)), Readers: readers}
		for _, put.Type = range []Type{String, SecureString} {
			_, _ = put.Open(data)
		}
		for _, sealed := range c.Sealed {
			if value, err := sealed.Open(place(), readers, 0, private); err == nil && (string(value) != "hunter2" || !bytes.Equal(sealed.Wraps[0], s.Wraps[0])) {
				t.Fatalf("opened as %q", value)
			}
		}
	})
}

// kept reads a file that the first version wrote.
func kept(t testing.TB, name string) []byte {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func FuzzSeed(f *testing.F) {
	private, to := keyPair("member")
	b := SeedBinding{Fleet: fleet.ID{1}, Keyring: "web", Life: fleet.UUID{2}, Number: 3}
	box := kept(f, "seed-1")
	f.Add(box, to)
	f.Add(box[:5], to[:5])
	f.Fuzz(func(t *testing.T, data, public []byte) {
		if got, err := OpenSeed(b, data, private); err == nil && !bytes.Equal(data, box) {
			t.Fatalf("opened as %x", got)
		}
		_ = CheckPublic(public) // sealing itself draws randomness, which the fuzzer would take for news
	})
}

func FuzzAsk(f *testing.F) {
	f.Add(wire.Marshal(Ask{Get: []Selector{{Name: "a", Label: "b"}}}))
	f.Add(wire.Marshal(Ask{List: []ListAsk{{Filters: []Filter{{"Path", "Recursive", []string{"/a"}}, {"tag:x", "", nil}, {"Name", "Contains", []string{"b"}}}}}}))
	f.Add(wire.Marshal(Ask{Path: []PathAsk{{Path: "/a", Filters: []Filter{{"Label", "", []string{"prod"}}}}}}))
	f.Add(wire.Marshal(Ask{History: []HistoryAsk{{Name: "a"}}}))
	d := newDesk("fuzz ask")
	p := d.put(f, nil, "/a/b", "v1", "prod")
	f.Fuzz(func(t *testing.T, data []byte) {
		var a Ask
		if wire.Unmarshal(data, &a) != nil || a.Check() != nil {
			return
		}
		if a.Within("/") != nil {
			t.Fatalf("%+v is not within everything", a)
		}
		_ = a.Within("/a/")
		for _, l := range a.List {
			_ = p.Matches(l.Filters)
		}
		for _, q := range a.Path {
			if _, at := p.Chosen(q.Filters); at != nil && !p.Matches([]Filter{{"Label", "", []string{at.Label}}}) {
				t.Fatal("chosen by a label that is not there")
			}
		}
	})
}

// TestMemory: what a peer sends, signed or not, costs what it weighs.
func TestMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("counts every byte of thousands of inputs")
	}
	d := newDesk("memory")
	p := d.put(t, nil, "a", "v1", "prod")
	good := item(t, p, Selector{Name: "a", Label: "prod"}, true)
	c := d.Record.Charter
	verify := func(i Item) {
		_, _ = Verify(i, c)
		_ = i.Answers(Selector{Name: "a"})
	}
	hostile.Check(t, hostile.Bound{Base: 64 << 10, PerByte: 64}, func(in []byte) {
		var i Item
		if wire.Unmarshal(in, &i) == nil {
			verify(i)
		}
	}, hostile.Join(hostile.Some(3, hostile.Inputs(64<<10, wire.Marshal(good))), hostile.Corpus(t, "FuzzItem")))

	// Behind a good signature.
	hostile.Check(t, hostile.Bound{Base: 128 << 10, PerByte: 64}, func(in []byte) {
		i := good
		i.Change = d.Sign(auth.ForParams, msgpack.RawMessage(in))
		verify(i)
	}, hostile.Some(3, hostile.Inputs(MaxSigned+1, good.Change.Body)))
	h := d.Header(0)
	h.Expires = h.Issued + ChangeLife
	for _, seed := range opSeeds() { // each is decoded three times
		hostile.Check(t, hostile.Bound{Base: 128 << 10, PerByte: 3 * 64}, func(in []byte) {
			if op, err := DecodeOp(in); err == nil {
				_ = op.check(born)
			}
			change := Change{Header: h, Ops: []fleet.ID{fleet.Sum(in)}}
			_, _ = change.Open([][]byte{in})
			i := good
			i.Change, i.Body = d.Sign(auth.ForParams, change), in
			verify(i)
		}, hostile.Join(hostile.Some(5, hostile.Inputs(MaxOp+1, seed)), hostile.Corpus(t, "FuzzOp")))
	}

	s, readers := sealedFor(t, place(), "hunter2")
	private, _ := keyPair("keyring:web")
	hostile.Check(t, hostile.Bound{Base: 128 << 10, PerByte: 64}, func(in []byte) {
		if content, err := DecodeContent(in); err == nil {
			for _, sealed := range content.Sealed {
				_, _ = sealed.Open(place(), readers, 0, private)
			}
		}
	}, hostile.Join(hostile.Some(5, hostile.Inputs(MaxContent+1, SealedContent(s).Encode(), PlainContent([]byte("x")).Encode())), hostile.Corpus(t, "FuzzContent")))
	hostile.Check(t, hostile.Bound{Base: 64 << 10, PerByte: 64}, func(in []byte) {
		var a Ask
		if wire.Unmarshal(in, &a) == nil && a.Check() == nil {
			_ = a.Within("/a/")
		}
	}, hostile.Join(hostile.Some(3, hostile.Inputs(64<<10, wire.Marshal(Ask{List: []ListAsk{{Filters: []Filter{{"Name", "", []string{"x"}}}}}}))), hostile.Corpus(t, "FuzzAsk")))
	hostile.Check(t, hostile.Bound{Base: 64 << 10, PerByte: 256}, func(in []byte) { _, _ = ParsePolicies(string(in)) },
		hostile.Join(hostile.JSON(2*MaxPolicyText, "Type", "Version", "Attributes", "Timestamp", "Before", "After", "Unit"), hostile.Corpus(t, "FuzzPolicies")))
}

// A pattern comes from another operator, and is compiled where the next value is put.
func TestPatternsCost(t *testing.T) {
	put, _ := plainPut("a", 1, "x")
	for _, pattern := range []string{
		repeat(`x{1000}`), repeat(`(x{30}){30}`), repeat(`\pL{900}`), repeat(`(?i)\pL{90}`), repeat(`(`), repeat(`(a|`), repeat(`[^a]{999}?`), repeat(`.*`),
	} {
		put.Pattern = pattern
		if cost := hostile.Cost(func() { _ = CheckValue(*put, bytes.Repeat([]byte("x"), MaxStandard)) }); cost > 64<<20 {
			t.Errorf("%.20q costs %d bytes", pattern, cost)
		}
	}
}

func repeat(part string) string { return string(bytes.Repeat([]byte(part), MaxPattern/len(part))) }
