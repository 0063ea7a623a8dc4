package cast

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/muster-fleet/muster/node/fleet"
)

// The lines are what asciinema's documents have them: a header, then lists of seconds, code and text.
func TestFile(t *testing.T) {
	d := newDisk()
	w, clock := begin(t, d, header(), Options{Input: true})
	clock.now = began.Add(1500 * time.Millisecond)
	w.Output([]byte("a\x1b[1m\"\\\r\n\té世\u2028"))
	w.Input([]byte("ls\r"))
	w.Resize(50, 132)
	clock.now = began.Add(time.Second) // a clock that was set back moves no event back
	w.Output([]byte("x\xff\xfe\xffy"))
	w.ErrorOutput([]byte("no\n"))
	clock.now = began.Add(61*time.Second + 7*time.Microsecond)
	w.Mark(MarkNotice, "killed by bob")
	sum, err := w.Close(End{Code: 3, Why: "killed by bob"})
	if err != nil {
		t.Fatal(err)
	}
	node, by := header().Node.Text(), header().By.Text()
	want := `{"version":2,"width":80,"height":24,"timestamp":1795435200,"title":"deploy@web1 by ann","env":{"TERM":"xterm-256color"},` +
		`"muster":{"session":"01020300-0000-0000-0000-000000000000","node":"` + node + `","nodeName":"web1","operator":"ann","by":"` + by +
		`","user":"deploy","kind":"shell","reason":"INC-7","start":"2026-11-23T12:00:00Z","input":true}}
[1.500000, "o", "a\u001b[1m\"\\\r\n\té世` + "\u2028" + `"]
[1.500000, "i", "ls\r"]
[1.500000, "r", "132x50"]
[1.500000, "b", "eP/+/3k="]
[1.500000, "o", "x` + "\ufffd" + `y"]
[1.500000, "e", ""]
[1.500000, "o", "no\n"]
[61.000007, "m", "muster: killed by bob"]
[61.000007, "m", "end: exit 3, killed by bob"]
`
	if got := d.data.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if sum.Digest != fleet.Sum(d.data.Bytes()) || sum.Bytes != int64(d.data.Len()) || sum.Missing != 0 || !d.closed {
		t.Errorf("sum %+v of %d bytes, closed %v", sum, d.data.Len(), d.closed)
	}
	r, err := Open(&d.data, nil)
	if err != nil {
		t.Fatal(err)
	}
	h := header()
	h.Input = true
	if fmt.Sprint(r.Header()) != fmt.Sprint(h) {
		t.Errorf("the header came back as\n%+v, not\n%+v", r.Header(), h)
	}
}

// Whatever is recorded comes back, byte for byte and stream by stream, in lines that players can read.
func TestRoundTrip(t *testing.T) {
	public, private := auditor(t)
	rapid.Check(t, func(t *rapid.T) {
		d := newDisk()
		o := Options{Input: rapid.Bool().Draw(t, "input"), Now: func() time.Time { return began }}
		sealed := rapid.Bool().Draw(t, "sealed")
		if sealed {
			o.Auditors = [][]byte{public}
		}
		w, err := New(d, header(), o)
		if err != nil {
			t.Fatal(err)
		}
		var want [3]string
		texts := rapid.OneOf(
			rapid.Map(rapid.String(), func(s string) []byte { return []byte(s) }), rapid.SliceOfN(rapid.Byte(), 0, 20),
			rapid.Map(rapid.IntRange(0, 3*maxPiece), func(n int) []byte { return bytes.Repeat([]byte("aé世"), n/6) }),
			rapid.SampledFrom([][]byte{{0xe4}, {0xb8, 0x96}, {0xf0, 0x9f}, {0x98}, {0x80}}),
		)
		for range rapid.IntRange(0, 30).Draw(t, "steps") {
			p := texts.Draw(t, "p")
			switch rapid.IntRange(0, 4).Draw(t, "what") {
			case 0:
				want[0] += string(p)
				w.Output(p)
			case 1:
				want[1] += string(p)
				w.ErrorOutput(p)
			case 2:
				if o.Input {
					want[2] += string(p)
				}
				w.Input(p)
			case 3:
				w.Flush()
			case 4:
				w.Resize(uint16(len(p)), 7)
			}
		}
		sum, err := w.Close(End{})
		if err != nil {
			t.Fatal(err)
		}
		data := slices.Clone(d.data.Bytes())
		if sum.Digest != fleet.Sum(data) {
			t.Fatal("the digest is another")
		}
		events, whole, err := readAll(data, holding(public, private))
		if err != nil || !whole {
			t.Fatal(err, whole)
		}
		out, errs, in := streams(events)
		if got := [3]string{out, errs, in}; got != want {
			t.Fatalf("got %q, want %q", got, want)
		}
		if !sealed {
			checkLines(t, data)
		}
	})
}

func checkLines(t *rapid.T, data []byte) {
	for i, text := range bytes.Split(bytes.TrimSuffix(data, []byte("\n")), []byte("\n")) {
		var l [3]any
		if i > 0 && json.Unmarshal(text, &l) != nil {
			t.Fatalf("no JSON: %q", text)
		}
		if len(text) > maxLine/4 {
			t.Fatalf("a line of %d bytes", len(text))
		}
	}
}

// A character that comes in two pieces is one in the file, and what is left of it at the end is not forgotten.
func TestHalves(t *testing.T) {
	d := newDisk()
	w, _ := begin(t, d, header(), Options{})
	w.Output([]byte("\xe4\xb8"))
	w.ErrorOutput([]byte("\xc3"))
	w.Output([]byte("\x96!\xf0\x9f"))
	w.ErrorOutput([]byte("\xa9"))
	end(t, w)
	text := d.data.String()
	for _, want := range []string{`"o", "世!"`, `"o", "é"`, `"b", "8J8="`} {
		if !strings.Contains(text, want) {
			t.Errorf("%s is not in\n%s", want, text)
		}
	}
}

// Text that is whole stands as text, wherever it is cut into events.
func TestLongTextIsText(t *testing.T) {
	d := newDisk()
	w, _ := begin(t, d, header(), Options{})
	w.Output([]byte(strings.Repeat("世", maxPiece)))
	end(t, w)
	if strings.Contains(d.data.String(), `"b"`) || strings.Contains(d.data.String(), "\ufffd") {
		t.Error("a character was cut in two")
	}
}

// Whatever a disk takes and refuses, what is in the recording stands where it was, and each gap is as long as its marker says.
func TestGapsAreExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := newDisk()
		w, err := New(d, header(), Options{Now: func() time.Time { return began }})
		if err != nil {
			t.Fatal(err)
		}
		total := 0
		for range rapid.IntRange(0, 25).Draw(t, "steps") {
			switch rapid.IntRange(0, 3).Draw(t, "what") {
			case 0, 1:
				p := make([]byte, rapid.SampledFrom([]int{1, 1000, 40_000, 300_000}).Draw(t, "n"))
				for i := range p {
					p[i] = counted(total + i)
				}
				total += len(p)
				w.Output(p)
			case 2:
				w.Flush()
			case 3:
				d.give(rapid.SampledFrom([]int{-1, 0, 10, 30_000, 300_000}).Draw(t, "room"))
			}
		}
		d.give(-1)
		sum, err := w.Close(End{})
		if err != nil {
			t.Fatal(err)
		}
		events, whole, err := readAll(d.data.Bytes(), nil)
		if err != nil || !whole {
			t.Fatal(whole, err)
		}
		at, missing := 0, 0
		for _, e := range events {
			switch e := e.(type) {
			case Output:
				for _, c := range e.Data {
					if c != counted(at) {
						t.Fatalf("at %d stands %q", at, c)
					}
					at++
				}
			case Remark:
				var n int
				if _, err := fmt.Sscanf(e.Text, "%d bytes of the session are missing here", &n); err == nil {
					at, missing = at+n, missing+n
				}
			case Input, Resize:
			}
		}
		if at != total || int64(missing) != sum.Missing {
			t.Fatalf("%d of %d bytes are accounted for, %d missing of %d", at, total, missing, sum.Missing)
		}
	})
}

// counted is the byte at a place of a stream in which neighbours differ far and wide.
func counted(at int) byte { return 'a' + byte((at*7+at/26+at/677)%26) }

// A disk that fills up costs what memory cannot hold, and the recording says how much, and where.
func TestFullDisk(t *testing.T) {
	public, private := auditor(t)
	for name, auditors := range map[string][][]byte{"plain": nil, "sealed": {public}} {
		t.Run(name, func(t *testing.T) {
			d := newDisk()
			w, _ := begin(t, d, header(), Options{Auditors: auditors})
			w.Output([]byte("before "))
			if err := w.Flush(); err != nil {
				t.Fatal(err)
			}
			d.give(10)
			w.Output([]byte("waiting "))
			if err := w.Flush(); fleet.KindOf(err) != fleet.Exhausted {
				t.Fatalf("a full disk is %v", err)
			}
			if err := w.Sync(); fleet.KindOf(err) != fleet.Exhausted {
				t.Fatalf("a full disk is %v", err)
			}
			d.give(-1)
			if err := w.Flush(); err != nil {
				t.Fatal(err)
			}
			d.give(3)
			big := strings.Repeat("0123456789abcdef", maxPiece/16)
			var told error
			for range 100 {
				told = w.Output([]byte(big))
			}
			if fleet.KindOf(told) != fleet.Exhausted || cap(w.buf)+cap(w.out) > 1<<20 {
				t.Errorf("said %v, and holds %d bytes", told, cap(w.buf)+cap(w.out))
			}
			w.Resize(33, 99)
			d.give(-1)
			if err := w.Flush(); err != nil {
				t.Fatal(err)
			}
			w.Output([]byte(" after"))
			sum := end(t, w)
			events := mustRead(t, d.data.Bytes(), holding(public, private))
			out, _, _ := streams(events)
			if int64(len(out))+sum.Missing != int64(len("before waiting  after")+100*len(big)) || sum.Missing == 0 {
				t.Errorf("%d bytes are there and %d said to be missing", len(out), sum.Missing)
			}
			if !strings.HasPrefix(out, "before waiting 0123") || !strings.HasSuffix(out, "f after") {
				t.Errorf("out of order: %.40q … %q", out, out[len(out)-20:])
			}
			notices := remarks(events, MarkNotice)
			if want := fmt.Sprintf("%d bytes of the session are missing here", sum.Missing); len(notices) != 1 || notices[0] != want {
				t.Errorf("notices %q, want %q", notices, want)
			}
			if !slices.ContainsFunc(events, func(e Event) bool { r, ok := e.(Resize); return ok && r.Rows == 33 && r.Cols == 99 }) {
				t.Error("the size that the terminal got meanwhile is not there")
			}
			if sum.Digest != fleet.Sum(d.data.Bytes()) || sum.Bytes != int64(d.data.Len()) {
				t.Error("the sum is not that of the file")
			}
		})
	}
}

// Closed on a full disk, the recording reads up to where the disk was full, and the error says why.
func TestCloseOnFullDisk(t *testing.T) {
	d := newDisk()
	w, _ := begin(t, d, header(), Options{})
	w.Output([]byte("kept"))
	if err := w.Sync(); err != nil {
		t.Fatal(err)
	}
	d.give(5)
	w.Output([]byte("lost"))
	sum, err := w.Close(End{})
	if fleet.KindOf(err) != fleet.Exhausted || !d.closed || sum.Digest != fleet.Sum(d.data.Bytes()) {
		t.Errorf("closed with %v, %+v, closed %v", err, sum, d.closed)
	}
	events, whole, err := readAll(d.data.Bytes(), nil)
	if out, _, _ := streams(events); err != nil || whole || out != "kept" {
		t.Errorf("read %q, whole %v, %v", out, whole, err)
	}
}

// A sync that takes long holds up nobody who types, and one that fails is not taken for done.
func TestSync(t *testing.T) {
	d := newDisk()
	w, _ := begin(t, d, header(), Options{})
	if d.syncs != 1 {
		t.Errorf("the header was synced %d times", d.syncs)
	}
	d.hold = make(chan struct{})
	w.Output([]byte("a"))
	synced := make(chan error)
	go func() { synced <- w.Sync() }()
	<-d.hold
	for i := range 100 { // would never end if Sync held them
		w.Output([]byte{byte('a' + i%26)})
		w.Resize(1, uint16(i))
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	d.hold <- struct{}{}
	if err := <-synced; err != nil {
		t.Fatal(err)
	}
	d.hold = nil
	if err := w.Sync(); err != nil || d.syncs != 3 {
		t.Fatalf("%v, %d syncs", err, d.syncs)
	}
	if err := w.Sync(); err != nil || d.syncs != 3 {
		t.Errorf("%v, and %d syncs with nothing new", err, d.syncs)
	}
	d.bad = syscall.EIO
	w.Output([]byte("b"))
	for range 2 { // the second has nothing new of its own, and yet nothing is synced
		if err := w.Sync(); fleet.KindOf(err) != fleet.Unavailable {
			t.Errorf("a disk that fails is %v", err)
		}
		if err := w.Flush(); fleet.KindOf(err) != fleet.Unavailable {
			t.Errorf("what goes into the file says that the disk does not fail: %v", err)
		}
	}
	d.bad = nil
	if err := w.Sync(); err != nil || w.Flush() != nil {
		t.Errorf("a disk that fails no more is %v", err)
	}
	end(t, w)
	if notices := remarks(mustRead(t, d.data.Bytes(), nil), MarkNotice); len(notices) == 0 || !strings.Contains(notices[0], "the disk failed") {
		t.Errorf("the recording says %q", notices)
	}
}

// Who asks for a sync that is on its way waits for it.
func TestSyncsMeet(t *testing.T) {
	d := newDisk()
	w, _ := begin(t, d, header(), Options{})
	d.hold = make(chan struct{})
	w.Output([]byte("a"))
	first, second := make(chan error), make(chan int)
	go func() { first <- w.Sync() }()
	<-d.hold
	go func() {
		w.Sync()
		d.mu.Lock()
		defer d.mu.Unlock()
		second <- d.syncs
	}()
	for range 1000 { // time enough to be wrong
		runtime.Gosched()
	}
	d.hold <- struct{}{}
	if err := <-first; err != nil {
		t.Error(err)
	}
	if done := <-second; done != 2 {
		t.Error("it returned before the disk did")
	}
}

func TestCreate(t *testing.T) {
	path := filepath.Join(t.TempDir(), Name)
	w, err := Create(path, header(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	w.Output([]byte("x"))
	end(t, w)
	info, err := os.Stat(path)
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if _, err := Create(path, header(), Options{}); fleet.KindOf(err) != fleet.Conflict {
		t.Errorf("a second recording in its place: %v", err)
	}
	bad := filepath.Join(t.TempDir(), "bad")
	if _, err := Create(bad, header(), Options{Auditors: [][]byte{{1}}}); fleet.KindOf(err) != fleet.Invalid {
		t.Errorf("sealed to no key: %v", err)
	}
	if _, err := os.Stat(bad); !os.IsNotExist(err) {
		t.Error("and a file is left")
	}
	if err := w.Output([]byte("late")); err != nil || w.Flush() != nil {
		t.Error("after the end there is nothing to fail")
	}
	if got, _ := os.ReadFile(path); bytes.Contains(got, []byte("late")) {
		t.Error("the recording goes on after its end")
	}
}

func TestMarkIsBounded(t *testing.T) {
	d := newDisk()
	w, _ := begin(t, d, header(), Options{})
	w.Mark(MarkFile, strings.Repeat("é", maxMark))
	end(t, w)
	if got := remarks(mustRead(t, d.data.Bytes(), nil), MarkFile); len(got) != 1 || got[0] != strings.Repeat("é", maxMark/2)+"…" {
		t.Errorf("%d remarks, of %d bytes", len(got), len(got[0]))
	}
}

// Entered lines are remarks, whether or not what is typed is recorded.
func TestWriterMarksCommands(t *testing.T) {
	for _, input := range []bool{false, true} {
		d := newDisk()
		w, clock := begin(t, d, header(), Options{Input: input})
		for i, step := range []string{"<$ ", ">l", "<l", ">s\r", "<s\r\na b\r\n$ ", ">secret\r", "<\r\n"} {
			clock.now = began.Add(time.Duration(i) * time.Second / 10)
			if step[0] == '<' {
				w.Output([]byte(step[1:]))
			} else {
				w.Input([]byte(step[1:]))
			}
		}
		end(t, w)
		if got := remarks(mustRead(t, d.data.Bytes(), nil), MarkCommand); !slices.Equal(got, []string{"$ ls", "$"}) {
			t.Errorf("entered %q", got)
		}
		if strings.Contains(d.data.String(), "secret") != input {
			t.Errorf("what was typed is recorded: %v, asked for: %v", !input, input)
		}
	}
}

func BenchmarkOutput(b *testing.B) {
	line := []byte("drwxr-xr-x  2 root root \x1b[01;34m4096\x1b[0m Nov 23 12:37 some/file-name.go\r\n")
	for _, c := range []struct{ name, term string }{{"terminal", "xterm"}, {"streams", ""}} {
		b.Run(c.name, func(b *testing.B) {
			h := header()
			h.Terminal = c.term
			w, err := New(nowhere{}, h, Options{Limit: 1 << 60})
			if err != nil {
				b.Fatal(err)
			}
			w.ration.bulk.have, w.ration.burst = 1e18, 1<<60
			p := bytes.Repeat(line, 400)
			b.SetBytes(int64(len(p)))
			for b.Loop() {
				w.Output(p)
				w.Flush()
			}
		})
	}
}
