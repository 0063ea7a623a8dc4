package cast

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/testnet/hostile"
)

// small makes a recording with a bit of everything.
func small(t testing.TB, auditors ...[]byte) []byte {
	t.Helper()
	d := newDisk()
	clock := &watch{began}
	w, err := New(d, header(), Options{Input: true, Auditors: auditors, Now: clock.read})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 4 {
		clock.now = began.Add(time.Duration(i) * time.Second)
		w.Output(fmt.Appendf(nil, "line %d \xff é\r\n", i))
		w.ErrorOutput([]byte("error\n"))
		w.Input([]byte("i"))
		w.Resize(uint16(i), 80)
		w.Flush()
	}
	if _, err := w.Close(End{}); err != nil {
		t.Fatal(err)
	}
	return d.data.Bytes()
}

// isPrefix reports whether some events are the first of others.
func isPrefix(some, of []Event) bool {
	return len(some) <= len(of) && (len(some) == 0 || reflect.DeepEqual(some, of[:len(some)]))
}

// Cut off anywhere, a recording gives what it has, and does not pass for whole.
func TestCutAnywhere(t *testing.T) {
	public, private := auditor(t)
	keys := holding(public, private)
	for name, data := range map[string][]byte{"plain": small(t), "sealed": small(t, public)} {
		all := mustRead(t, data, keys)
		first := bytes.IndexByte(data, '\n') + 1 // of a plain one, the header
		for n := range data {
			events, whole, err := readAll(data[:n], keys)
			if err != nil && (len(events) > 0 || fleet.KindOf(err) != fleet.Invalid || (name == "plain" && n >= first)) {
				t.Fatalf("%s cut at %d: %v after %d events", name, n, err, len(events))
			}
			if whole || !isPrefix(events, all) {
				t.Fatalf("%s cut at %d: whole %v, %d events", name, n, whole, len(events))
			}
		}
		if events, _, _ := readAll(data[:len(data)-1], keys); name == "plain" && len(events) != len(all)-1 {
			t.Errorf("cut by one byte, %d of %d events are left", len(events), len(all))
		}
	}
}

// In a sealed recording no byte can be changed, and no part left out, repeated or added, without its being seen.
func TestSealedTampering(t *testing.T) {
	public, private := auditor(t)
	second, _ := auditor(t) // a change to his part of the head is seen by the first, too
	keys := holding(public, private)
	data := small(t, public, second)
	all := mustRead(t, data, keys)
	if bytes.Contains(data, []byte("line")) || bytes.Contains(data, []byte("deploy")) {
		t.Error("something stands in the clear")
	}
	try := func(what string, changed []byte) {
		t.Helper()
		events, whole, err := readAll(changed, keys)
		if whole || !isPrefix(events, all) {
			t.Errorf("%s: whole %v, %v, %d events", what, whole, err, len(events))
		}
		if err != nil && fleet.KindOf(err) != fleet.Invalid && fleet.KindOf(err) != fleet.Denied {
			t.Errorf("%s: %v", what, err)
		}
	}
	for i := range data {
		changed := bytes.Clone(data)
		changed[i] ^= 0x41
		try(fmt.Sprintf("byte %d changed", i), changed)
	}
	for i := range 32 { // the top bit of lengths says "last"
		changed := bytes.Clone(data)
		changed[len(data)-1-i*3] ^= 0x80
		try("a top bit changed", changed)
	}
	head, parts := chunksOf(t, data)
	for i := range parts {
		rest := append(append([][]byte{head}, parts[:i]...), parts[i+1:]...)
		try(fmt.Sprintf("part %d left out", i), bytes.Join(rest, nil))
		twice := append(append([][]byte{head}, parts[:i+1]...), parts[i:]...)
		try(fmt.Sprintf("part %d twice", i), bytes.Join(twice, nil))
	}
	last := bytes.Clone(parts[len(parts)-2])
	last[0] |= 0x80
	try("ended early", bytes.Join(append(append([][]byte{head}, parts[:len(parts)-2]...), last), nil))
	try("longer", append(bytes.Clone(data), 0))
	other, parts2 := chunksOf(t, small(t, public))
	try("another recording's parts", bytes.Join(append([][]byte{head}, parts2...), nil))
	try("another recording's head", bytes.Join(append([][]byte{other}, parts...), nil))
}

// The end's own marks are what makes a part the last: one that is made the last is not, and one whose last part is missing has
// no end, whatever stands in it.
func TestSealedEnd(t *testing.T) {
	public, private := auditor(t)
	head := func() (*sealer, []byte) {
		s, first, err := newSealer(header(), [][]byte{public})
		if err != nil {
			t.Fatal(err)
		}
		return s, first
	}
	text := appendMark(header().encode(), 0, MarkEnd, "exit 0")
	s, data := head()
	at := len(data)
	data = s.seal(data, text, false)
	if events, whole, err := readAll(data, holding(public, private)); whole || err != nil || len(events) != 1 {
		t.Errorf("without its last part: whole %v, %v", whole, err)
	}
	data[at] |= 0x80
	if _, whole, err := readAll(data, holding(public, private)); whole || fleet.KindOf(err) != fleet.Invalid {
		t.Errorf("made the last: whole %v, %v", whole, err)
	}
	s, data = head()
	if _, whole, err := readAll(s.seal(data, text, true), holding(public, private)); !whole || err != nil {
		t.Errorf("the last: whole %v, %v", whole, err)
	}
}

// chunksOf takes a sealed file apart.
func chunksOf(t *testing.T, data []byte) (head []byte, parts [][]byte) {
	t.Helper()
	length := func(at int) int {
		return int(data[at]&0x7f)<<24 | int(data[at+1])<<16 | int(data[at+2])<<8 | int(data[at+3])
	}
	at := len(magic) + 4 + length(len(magic))
	head = data[:at]
	for at < len(data) {
		n := 4 + length(at)
		parts = append(parts, data[at:at+n])
		at += n
	}
	if len(parts) < 3 {
		t.Fatalf("%d parts", len(parts))
	}
	return head, parts
}

func TestSealedForWhom(t *testing.T) {
	one, oneKey := auditor(t)
	two, twoKey := auditor(t)
	other, otherKey := auditor(t)
	data := small(t, one, two)
	a, b := mustRead(t, data, holding(one, oneKey)), mustRead(t, data, holding(two, twoKey))
	if !reflect.DeepEqual(a, b) || !reflect.DeepEqual(a, mustRead(t, small(t), nil)) {
		t.Error("auditors read different things")
	}
	for name, keys := range map[string]Keys{"none": nil, "another's": holding(other, otherKey), "a wrong one": holding(two, otherKey)} {
		if _, _, err := readAll(data, keys); fleet.KindOf(err) != fleet.Denied {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, _, err := readAll(data, nil)
	if !strings.Contains(err.Error(), fleet.Sum(one).String()) || !strings.Contains(err.Error(), fleet.Sum(two).String()) {
		t.Errorf("the refusal does not name the auditors: %v", err)
	}
	r, err := Open(bytes.NewReader(data), holding(one, oneKey))
	if err != nil {
		t.Fatal(err)
	}
	if s, ok := r.Sealed(); !ok || s.Session != header().Session || !s.Start.Equal(began) || len(s.Auditors) != 2 {
		t.Errorf("%+v, %v", s, ok)
	}
	if _, err := New(newDisk(), header(), Options{Auditors: make([][]byte, MaxAuditors+1)}); fleet.KindOf(err) != fleet.Invalid {
		t.Errorf("too many auditors: %v", err)
	}
}

func TestBadRecordings(t *testing.T) {
	head := `{"version":2,"width":80,"height":24}` + "\n"
	for text, want := range map[string]string{
		"":                               "cut off within its header",
		"\x7fELF\n":                      "no asciicast header",
		`{"version":1,"width":1}` + "\n": "asciicast version 1",
		`{"version":2,"timestamp":-999999999999}` + "\n":                      "year",
		`{"version":2,"timestamp":253402300800}` + "\n":                       "year",
		`{"version":2,"muster":{"start":"9999-12-31T23:59:59-23:00"}}` + "\n": "not a full ID",
		head + "[1,\"o\"]\n":                                       "line 2",
		head + "[1,\"o\",\"\",1]\n":                                "line 2",
		head + "[-1,\"o\",\"\"]\n":                                 "line 2",
		head + "[1e300,\"o\",\"\"]\n":                              "line 2",
		head + "[1,\"o\",2]\n":                                     "line 2",
		head + "\n\n[1,\"b\",\"*\"]\n":                             "line 4",
		head + "[1,\"r\",\"80\"]\n":                                "line 2",
		head + "[1,\"r\",\"80x70000\"]\n":                          "line 2",
		head + "\x00\x00\x00\n":                                    "line 2",
		head + `[1,"o","` + strings.Repeat("x", maxLine) + "\"]\n": "longer than",
	} {
		_, _, err := readAll([]byte(text), nil)
		if fleet.KindOf(err) != fleet.Invalid || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60q: %v", text, err)
		}
	}
}

// What other programs record reads as well, with codes that nobody knows.
func TestForeignRecording(t *testing.T) {
	text := `{"version": 2, "width": 80, "height": 24, "timestamp": 1504467315, "theme": {"fg": "#fff"}}
[0.248848, "o", "hi"]
[1.001376, "z", "?"]
[2, "m", "chapter"]

[3, "i", "x"]
[2, "o", "back"]
`
	events, whole, err := readAll([]byte(text), nil)
	want := []Event{
		Output{At: 248848 * time.Microsecond, Data: []byte("hi")}, Remark{At: 2 * time.Second, Mark: MarkNotice, Text: "chapter"},
		Input{At: 3 * time.Second, Data: []byte("x")}, Output{At: 2 * time.Second, Data: []byte("back")},
	}
	if err != nil || whole || !reflect.DeepEqual(events, want) {
		t.Errorf("%+v, %v, %v", events, whole, err)
	}
}

type failing struct{ after []byte }

var errPlug = errors.New("pulled")

func (f *failing) Read(p []byte) (int, error) {
	if len(f.after) == 0 {
		return 0, errPlug
	}
	n := copy(p, f.after)
	f.after = f.after[n:]
	return n, nil
}

// A reader that fails is not taken for the end.
func TestReaderFails(t *testing.T) {
	public, private := auditor(t)
	for _, data := range [][]byte{small(t), small(t, public)} {
		r, err := Open(&failing{data[:len(data)-9]}, holding(public, private))
		for err == nil {
			_, err = r.Next()
		}
		if !errors.Is(err, errPlug) {
			t.Errorf("%v", err)
		}
	}
}

// fixedAuditor is the same in every process, so that what a fuzzer found opens later.
func fixedAuditor(t testing.TB) (public, private []byte) {
	kem, _, _ := suite()
	key, err := kem.DeriveKeyPair(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	return key.PublicKey().Bytes(), mustBytes(t, key)
}

func FuzzOpen(f *testing.F) {
	public, private := fixedAuditor(f)
	keys := func(fleet.ID) []byte { return private }
	f.Add(small(f))
	f.Add(small(f, public))
	f.Add([]byte(magic + "\x00\x00\x00\x01\x90"))
	f.Add([]byte(`{"version":2,"width":80,"height":24,"env":{"TERM":"x"}}` + "\n" + `[1,"b","AA=="]` + "\n" + `[1,"o","?"]` + "\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		all, _, err := readAll(data, keys)
		r, opened := Open(bytes.NewReader(data), keys)
		if opened != nil {
			return
		}
		var out bytes.Buffer
		if exported := Export(&out, r, FormatCast); (exported == nil) != (err == nil) {
			t.Fatalf("%v, but %v", exported, err)
		}
		again, _, err := readAll(out.Bytes(), nil)
		if err != nil || !reflect.DeepEqual(again, all) {
			t.Fatalf("what was exported reads as %+v with %v, not %+v", again, err, all)
		}
		for _, form := range []Format{FormatText, FormatCommands, FormatRaw} {
			if r, err := Open(bytes.NewReader(data), keys); err == nil {
				_ = Export(&out, r, form)
			}
		}
	})
}

// TestMemory: a recording costs what it weighs, whatever it claims.
func TestMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("counts every byte of thousands of inputs")
	}
	public, private := auditor(t)
	keys := func(fleet.ID) []byte { return private }
	many := `{"version":2,"muster":{"argv":[` + strings.Repeat(`"",`, 10000) + `""]}}` + "\n"
	list := `{"version":2}` + "\n[" + strings.Repeat("0,", 30000) + "0]\n"
	inputs := hostile.Join(hostile.Inputs(64<<10, small(t), small(t, public), []byte(many), []byte(list)), hostile.Corpus(t, "FuzzOpen"))
	hostile.Check(t, hostile.Bound{Base: 1 << 20, PerByte: 64}, func(in []byte) { _, _, _ = readAll(in, keys) }, inputs)
}
