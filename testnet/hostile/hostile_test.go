package hostile

import (
	"bytes"
	"testing"
)

// sample is {1, bytes that hold {"a", {nil, nil, nil, nil, nil}}, map of none}.
var sample = []byte("\x93\x01\xc4\x09\x92\xa1a\x95\xc0\xc0\xc0\xc0\xc0\x80")

func TestParts(t *testing.T) {
	plain := bytes.Clone(sample)
	plain[7] = 0x94 // the bytes hold a value, and one more
	if got := parts(plain); len(got) != 4 {
		t.Fatalf("plain bytes are looked into: %v", got)
	}
	got := parts(sample)
	if len(got) != 12 {
		t.Fatalf("%d parts: %v", len(got), got)
	}
	for _, p := range got {
		if !bytes.Equal(p.replace(sample, p.of(sample)), sample) {
			t.Fatalf("%v put in its own place changes the sample", p)
		}
		swollen := p.replace(sample, append([]byte{0xc5, 1, 0}, make([]byte, 256)...))
		if again := parts(swollen); len(again) == 0 {
			t.Fatalf("%v replaced makes no msgpack: %x", p, swollen)
		}
	}
}

// A decoder that believes a header, and one that makes much of little, are caught.
func TestCheckCatches(t *testing.T) {
	believe := func(in []byte) {
		if len(in) >= 5 && in[0] == 0xdd {
			_ = make([]byte, min(1<<20, int(in[1])<<24|int(in[2])<<16|int(in[3])<<8|int(in[4])))
		}
	}
	for name, decode := range map[string]func([]byte){
		"claims": believe,
		"nils": func(in []byte) {
			var out [][64]byte
			for range bytes.Count(in, []byte{0xc0}) {
				out = append(out, [64]byte{})
			}
			_ = out
		},
	} {
		t.Run(name, func(t *testing.T) {
			fails := 0
			for _, in := range Inputs(4096, sample) {
				if Cost(func() { decode(in) }) > 16<<10+16*len(in) {
					fails++
				}
			}
			if fails == 0 {
				t.Error("it passes")
			}
		})
	}
}

func TestInputsKeepTheirSize(t *testing.T) {
	count := 0
	for name, in := range Inputs(1000, sample) {
		if count++; len(in) > 1000 {
			t.Fatalf("%s: %d bytes", name, len(in))
		}
	}
	for name, in := range JSON(1000, "entry") {
		if count++; len(in) > 1000 {
			t.Fatalf("%s: %d bytes", name, len(in))
		}
	}
	if count < 300 {
		t.Fatalf("%d inputs", count)
	}
}

func TestArgument(t *testing.T) {
	for line, want := range map[string]string{`[]byte("a\x00")`: "a\x00", `string("b")`: "b", "[]byte(`c`)": "c"} {
		if got, ok := argument(line); !ok || string(got) != want {
			t.Errorf("%s: %q", line, got)
		}
	}
	if _, ok := argument("uint8(1)"); ok {
		t.Error("a number is taken for bytes")
	}
}
