package params

import (
	"slices"
	"strings"
	"testing"

	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
)

func TestCheckValue(t *testing.T) {
	plain, _ := plainPut("P", 1, "x")
	with := func(change func(*Put)) Put { return *changed(plain, change) }
	image := with(func(p *Put) { p.DataType = DataImage })
	digits := with(func(p *Put) { p.Pattern = `^\d+$` })
	list := with(func(p *Put) { p.Type, p.Pattern = StringList, "b" })
	for _, c := range []struct {
		put         Put
		value, want string
	}{
		{*plain, "x", ""}, {*plain, " ", ""}, {*plain, "a } b { c }}", ""}, {*plain, "ä\n", ""}, {*plain, strings.Repeat("x", MaxStandard), ""},
		{*plain, "", "empty"}, {*plain, "a {{ ssm:b }}", "{{"}, {*plain, "{{", "{{"}, {*plain, "a\x00", "UTF-8"}, {*plain, "\xff", "UTF-8"}, {*plain, strings.Repeat("x", MaxStandard+1), "takes 4096"},
		{with(func(p *Put) { p.Tier = Advanced }), strings.Repeat("x", MaxAdvanced), ""}, {with(func(p *Put) { p.Tier = Advanced }), strings.Repeat("x", MaxAdvanced+1), "takes 65536"},
		{digits, "123", ""}, {digits, "12a", "ParameterPatternMismatchException"}, {with(func(p *Put) { p.Pattern = "(" }), "x", "InvalidAllowedPatternException"},
		{list, "a,b,c", ""}, {list, "a,c", "ParameterPatternMismatchException"}, {image, "ami-01234567", ""}, {image, "ami-0123456789abcdef0", ""}, {image, "ami-x", "image"}, {image, "x ami-01234567", "image"},
	} {
		err := CheckValue(c.put, []byte(c.value))
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%.20q: %v; want %q", c.value, err, c.want)
		}
	}
	secret := with(func(p *Put) { p.Type, p.Pattern = SecureString, "^safe" })
	for _, value := range []string{"hunter2", "hunter2{{", "hunter2\x00", strings.Repeat("hunter2", 1000)} {
		if err := CheckValue(secret, []byte(value)); err == nil || strings.Contains(err.Error()+err.(*fleet.Error).Hint, "hunter2") {
			t.Errorf("%.20q: %v", value, err)
		}
	}
	if items := Items([]byte("a,b,,c")); len(items) != 4 || string(items[1]) != "b" {
		t.Errorf("%q", items)
	}
}

func TestContent(t *testing.T) {
	put, raw := plainPut("P", 1, "value")
	if c, err := put.Open(raw); err != nil || string(c.Plain[0]) != "value" {
		t.Fatal(c, err)
	}
	for name, bad := range map[string]Content{
		"other value": PlainContent([]byte("valuf")), "other size": PlainContent([]byte("values")), "sealed": SealedContent(Sealed{Box: make([]byte, boxOverhead+64)}), "none": {}, "two": {Plain: [][]byte{{1}, {2}}},
		"both": {Plain: [][]byte{[]byte("value")}, Sealed: []Sealed{{}}}, "reference": PlainContent([]byte("{{a}}")),
	} {
		raw := bad.Encode()
		if put.CheckContent(raw) == nil {
			t.Errorf("%s: taken under another digest", name)
		}
		signed := *put
		signed.Digest = fleet.Sum(raw)
		if name != "other value" && signed.CheckContent(raw) == nil {
			t.Errorf("%s: taken", name)
		}
	}
	for i := range raw {
		bad := append([]byte{}, raw...)
		bad[i] ^= 1
		if put.CheckContent(bad) == nil {
			t.Errorf("byte %d may change", i)
		}
	}
}

func TestSecretContent(t *testing.T) {
	readers := []Reader{{Kind: ByRecovery, Key: fleet.ID{1}}, {Kind: ByOperator, Name: "ada", Key: fleet.ID{2}}}
	good := Sealed{Box: make([]byte, boxOverhead+64), Wraps: [][]byte{make([]byte, wrapSize), make([]byte, wrapSize)}}
	put := Put{Name: "P", Born: born, Version: 1, Type: SecureString, DataType: DataText, Tier: Standard, Size: 64, Readers: readers}
	check := func(c Content) error {
		signed := put
		signed.Digest = fleet.Sum(c.Encode())
		return signed.CheckContent(c.Encode())
	}
	if err := check(SealedContent(good)); err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string]Content{
		"plain": PlainContent(make([]byte, 64)), "a wrap less": SealedContent(Sealed{good.Box, good.Wraps[:1]}), "a wrap more": SealedContent(Sealed{good.Box, append(good.Wraps[:2:2], good.Wraps[0])}),
		"short wrap": SealedContent(Sealed{good.Box, [][]byte{good.Wraps[0], good.Wraps[1][1:]}}), "short box": SealedContent(Sealed{good.Box[1:], good.Wraps}), "long box": SealedContent(Sealed{make([]byte, boxOverhead+128), good.Wraps}),
	} {
		if check(bad) == nil {
			t.Errorf("%s: taken", name)
		}
	}
	largest := SealedContent(Sealed{Box: make([]byte, boxOverhead+MaxAdvanced)})
	for range MaxReaders {
		largest.Sealed[0].Wraps = append(largest.Sealed[0].Wraps, make([]byte, wrapSize))
	}
	if raw := largest.Encode(); len(raw) > MaxContent || len(raw) > MaxContents {
		t.Errorf("the largest secret has %d bytes, more than %d", len(raw), MaxContent)
	} else if _, err := DecodeContent(raw); err != nil {
		t.Error(err)
	}
}

// The short way of reading a plain content takes the same bytes as the decoder, and makes the same of them.
func TestPlainContentHasOneForm(t *testing.T) {
	for size := range 70_000 {
		if size > 600 && size%97 != 0 && size < 65_500 {
			continue
		}
		raw := PlainContent(make([]byte, size)).Encode()
		value, ok := plainIn(raw)
		if ok != (size < 1<<16) || ok && len(value) != size {
			t.Fatalf("%d bytes: %t, %d bytes", size, ok, len(value))
		}
	}
	whole := PlainContent([]byte("value")).Encode()
	for i := range whole {
		for b := range 256 {
			raw := slices.Clone(whole)
			raw[i] = byte(b)
			var c Content
			_, ok := plainIn(raw)
			if err := wire.Unmarshal(raw, &c); ok != (err == nil && len(c.Plain) == 1 && c.Sealed == nil) {
				t.Errorf("% x: %t, %v", raw, ok, err)
			}
		}
	}
}
