package release

import (
	"bytes"
	"testing"

	"pgregory.net/rapid"

	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
	"github.com/muster-fleet/muster/testnet/hostile"
)

func TestTalk(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		chunks := rapid.IntRange(1, MaxChunks).Draw(t, "chunks")
		have := NewBits(chunks)
		for n := range chunks {
			if rapid.Bool().Draw(t, "has") {
				have.Put(n)
			}
		}
		names := make([]fleet.ID, rapid.IntRange(0, MaxNames).Draw(t, "names"))
		index := rapid.IntRange(0, chunks-1).Draw(t, "index")
		data := rapid.SliceOfN(rapid.Byte(), 0, 100).Draw(t, "data")
		message, room := EncodeChunk(Chunk{Index: index, Have: have, Names: names}, len(data))
		copy(room, data)
		got, err := DecodeChunk(message, chunks)
		if err != nil || got.Index != index || !bytes.Equal(got.Have, have) || len(got.Names) != len(names) || !bytes.Equal(got.Data, data) {
			t.Fatalf("%+v, %v", got, err)
		}
		if len(message)-len(data) > maxChunkHead {
			t.Fatal("a chunk's head is longer than is read")
		}
		if none, err := DecodeNone(wire.Marshal(None{have, true, names}), chunks); err != nil || none.Have.Count() != have.Count() {
			t.Fatal(none, err)
		}
		if hello, err := DecodeHello(wire.Marshal(Hello{have, names, true}), chunks); err != nil || !hello.Busy {
			t.Fatal(hello, err)
		}
	})
}

func TestTalkIsBounded(t *testing.T) {
	names := make([]fleet.ID, MaxNames+1)
	for name, err := range map[string]error{
		"other chunks":    second(DecodeAsk(wire.Marshal(Ask{Want: NewBits(9)}), 8)),
		"a chunk too far": second(DecodeAsk(wire.Marshal(Ask{Want: Bits{0x20}}), 5)),
		"many names":      second(DecodeNone(wire.Marshal(None{Have: NewBits(8), Names: names}), 8)),
		"many in a hello": second(DecodeHello(wire.Marshal(Hello{Have: NewBits(8), Names: names}), 8)),
		"an arch":         second(DecodeBuildAsk(wire.Marshal(BuildAsk{Arch: "../x"}))),
		"a long one":      second(DecodeAsk(make([]byte, maxChunkHead+1), 8)),
		"a cut chunk":     second(DecodeChunk([]byte{1}, 8)),
		"a chunk's claim": second(DecodeChunk([]byte{0xff, 0xff, 1}, 8)),
	} {
		if err == nil {
			t.Errorf("%s: it is taken", name)
		}
	}
	message, _ := EncodeChunk(Chunk{Index: 8, Have: NewBits(8)}, 5)
	if _, err := DecodeChunk(message, 8); err == nil {
		t.Error("a chunk is taken that the build has not")
	}
	message, _ = EncodeChunk(Chunk{Index: 1, Have: NewBits(8)}, ChunkSize+1)
	if _, err := DecodeChunk(message, 8); err == nil {
		t.Error("a chunk is taken that is too long")
	}
}

func second[T any](_ T, err error) error { return err }

// TestCosts: what a peer sends costs no more memory than its own length, and a little.
func TestCosts(t *testing.T) {
	m := makeRelease(t, "1.2.0", 2*ChunkSize)
	signed := m.sign(t, "ann", "bob").Encode()
	hello := wire.Marshal(Hello{Have: NewBits(96), Names: make([]fleet.ID, MaxNames)})
	ask := wire.Marshal(BuildAsk{Arch: "amd64"})
	message, _ := EncodeChunk(Chunk{Index: 3, Have: NewBits(96), Names: make([]fleet.ID, 3)}, 100)
	bound := hostile.Bound{Base: 32 << 10, PerByte: 64}
	keys := trust(1, "ann")
	for name, c := range map[string]struct {
		decode func([]byte)
		sample []byte
	}{
		"a signed manifest": {func(in []byte) {
			if s, err := DecodeSigned(in); err == nil {
				_, _ = s.Verify(keys, true)
			}
		}, signed},
		"a hello":    {func(in []byte) { _, _ = DecodeHello(in, 96) }, hello},
		"a none":     {func(in []byte) { _, _ = DecodeNone(in, 96) }, hello},
		"an ask":     {func(in []byte) { _, _ = DecodeAsk(in, 96) }, hello},
		"who begins": {func(in []byte) { _, _ = DecodeBuildAsk(in) }, ask},
		"a chunk":    {func(in []byte) { _, _ = DecodeChunk(in, 96) }, message},
	} {
		t.Run(name, func(t *testing.T) { hostile.Check(t, bound, c.decode, hostile.Inputs(4096, c.sample)) })
	}
}

// FuzzTalk: whatever a host says about chunks is refused, or is about chunks that there are.
func FuzzTalk(f *testing.F) {
	message, _ := EncodeChunk(Chunk{Index: 3, Have: NewBits(20), Names: make([]fleet.ID, 2)}, 10)
	f.Add(message, uint8(20))
	f.Add(wire.Marshal(Hello{Have: NewBits(20), Names: make([]fleet.ID, 2)}), uint8(20))
	f.Add(wire.Marshal(Ask{Want: Bits{0xff, 0xff, 0x0f}, Insist: true}), uint8(20))
	f.Add(wire.Marshal(BuildAsk{Arch: "arm64"}), uint8(1))
	f.Add([]byte{0, 4, 0x93, 0, 0xdd, 0xff, 0xff, 0xff, 0xff}, uint8(3))
	f.Fuzz(func(t *testing.T, data []byte, number uint8) {
		chunks := int(number) + 1
		within := func(b Bits) {
			if !b.fits(chunks) || b.Count() > chunks {
				t.Fatalf("%x says something of other chunks than %d", []byte(b), chunks)
			}
		}
		if c, err := DecodeChunk(data, chunks); err == nil {
			within(c.Have)
			if c.Index >= chunks || len(c.Data) > len(data) || len(c.Names) > MaxNames {
				t.Fatalf("%+v", c)
			}
		}
		if h, err := DecodeHello(data, chunks); err == nil {
			within(h.Have)
		}
		if n, err := DecodeNone(data, chunks); err == nil {
			within(n.Have)
		}
		if a, err := DecodeAsk(data, chunks); err == nil {
			within(a.Want)
		}
		_, _ = DecodeBuildAsk(data)
	})
}

// FuzzFile: whatever file it is, nothing is taken that ann did not sign.
func FuzzFile(f *testing.F) {
	m := makeRelease(f, "1.2.0", 1000)
	good := m.file(f, m.sign(f, "ann"))
	f.Add(good)
	f.Add(m.file(f, m.sign(f, "eve")))
	f.Add(good[:100])
	f.Add([]byte(title + "\x00\x00\x00\x05hello"))
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := ReadFile(bytes.NewReader(data), trust(1, "ann"), true)
		if err == nil && got.Digest != m.sign(t, "ann").Digest() {
			t.Fatalf("%+v is taken", got)
		}
	})
}
