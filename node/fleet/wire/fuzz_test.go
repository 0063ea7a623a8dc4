package wire

import (
	"bytes"
	"net/netip"
	"reflect"
	"testing"

	"github.com/muster-fleet/muster/testnet/hostile"
)

// every has a field of each kind that formats have.
type every struct {
	Bool    bool
	Int     int64
	Small   uint8
	Text    string
	Bytes   []byte
	Array   [16]byte
	Texts   []string
	Lists   [][]byte
	Structs []sample
	Tags    map[string]string
	Inner   *inner
	Addr    netip.AddrPort
	None    struct{}
}

func fullEvery() every {
	one := example()
	return every{
		Bool: true, Int: -1 << 40, Small: 200, Text: "t", Bytes: []byte{}, Array: [16]byte{1}, Texts: []string{"", "a"}, Lists: [][]byte{nil, {1}},
		Structs: []sample{one, {}}, Tags: map[string]string{"a": "", "": "b"}, Inner: &one.List[0], Addr: netip.MustParseAddrPort("[fd00::1]:7980"),
	}
}

func TestEveryKindRoundTrips(t *testing.T) {
	for _, want := range []every{fullEvery(), {}, {Texts: []string{}, Lists: [][]byte{}, Structs: []sample{}, Tags: map[string]string{}}} {
		var got every
		if err := Unmarshal(Marshal(want), &got); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%+v came back as %+v, %v", want, got, err)
		}
	}
}

// Whatever is accepted is what Marshal writes; and what Scan passes over, the walk along a type never takes for more.
func FuzzUnmarshal(f *testing.F) {
	f.Add(Marshal(example()))
	f.Add(Marshal(fullEvery()))
	f.Add(Marshal(every{}))
	f.Add(Marshal([]inner{{}, {}}))
	f.Add(Marshal([][]byte{nil, {1}, {}}))
	f.Add([]byte{0xdd, 0xff, 0xff, 0xff, 0xff})
	f.Add([]byte{0x94, 1, 0xa0, 0xc4, 0, 0x93, 0xc0, 0x90, 0x80})
	f.Fuzz(func(t *testing.T, data []byte) {
		scanned := Scan(data)
		for _, v := range []any{new(sample), new(every), new([]inner), new([][]byte), new(map[string]string), new(string), new(uint16)} {
			if Unmarshal(data, v) != nil {
				continue
			}
			if !bytes.Equal(Marshal(v), data) {
				t.Fatalf("accepted bytes that we would not have written as %T", v)
			}
			if scanned != nil {
				t.Fatalf("accepted as %T what is no message: %v", v, scanned)
			}
		}
	})
}

// TestMemory: a message costs what it weighs, whatever it claims and whatever it is full of.
func TestMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("counts every byte of thousands of inputs")
	}
	inputs := hostile.Join(hostile.Inputs(64<<10, Marshal(example()), Marshal(fullEvery())), hostile.Corpus(t, "FuzzUnmarshal"))
	for _, c := range []struct {
		make  func() any
		bound hostile.Bound
	}{
		{func() any { return new(sample) }, hostile.Bound{Base: 16 << 10, PerByte: 48}},
		{func() any { return new(every) }, hostile.Bound{Base: 16 << 10, PerByte: 80}},
		{func() any { return new([]sample) }, hostile.Bound{Base: 16 << 10, PerByte: 80}},
		{func() any { return new([][]inner) }, hostile.Bound{Base: 16 << 10, PerByte: 80}},
		{func() any { return new([][]byte) }, hostile.Bound{Base: 16 << 10, PerByte: 80}},
		{func() any { return new([]map[string]string) }, hostile.Bound{Base: 16 << 10, PerByte: 160}},
	} {
		hostile.Check(t, c.bound, func(in []byte) { _ = Unmarshal(in, c.make()) }, inputs)
	}
}
