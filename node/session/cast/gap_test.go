package cast

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// pouring is how fast programs write: so much between two events.
const pouring = 32 << 10

// noise is what somebody pours out: it does not compress, and half of it is no text.
func noise(seed byte, n int) []byte {
	out := make([]byte, n)
	rand.NewChaCha8([32]byte{seed}).Read(out)
	return out
}

// left is what a recording says that it leaves out.
type left struct {
	bytes int64
	sum   string
	at    int64 // bytes of the output that stand before it or were left out before
}

// account walks through a recording's output and holds it to what was written. It returns what is left out.
func account(t interface{ Fatalf(string, ...any) }, events []Event, wrote []byte) (out []left) {
	at := int64(0)
	for _, e := range events {
		switch e := e.(type) {
		case Output:
			if e.OnError {
				continue
			}
			if at+int64(len(e.Data)) > int64(len(wrote)) || !bytes.Equal(e.Data, wrote[at:at+int64(len(e.Data))]) {
				t.Fatalf("at %d stands something else than was written", at)
			}
			at += int64(len(e.Data))
		case Remark:
			var l left
			if _, err := fmt.Sscanf(e.Text, "%d bytes of output, SHA-256 %s", &l.bytes, &l.sum); e.Mark != MarkOmitted || err != nil {
				continue
			}
			l.at = at
			if got := fmt.Sprintf("%x", sha256.Sum256(wrote[at:at+l.bytes])); got != l.sum {
				t.Fatalf("%d bytes at %d are said to have another digest than they have", l.bytes, at)
			}
			out = append(out, l)
			at += l.bytes
		case Input, Resize:
		}
	}
	if at != int64(len(wrote)) {
		t.Fatalf("%d of %d bytes are accounted for", at, len(wrote))
	}
	return out
}

// Whoever pours out 45 MB goes on to be recorded behind them: the beginning of it, its end, what is between them by number and
// digest, and then every line.
func TestPouringBlindsNothing(t *testing.T) {
	for terminal, size := range map[string]int{"": 45_000_000, "xterm": 20_000_000} {
		d := newDisk()
		h := header()
		h.Terminal = terminal
		w, clock := begin(t, d, h, Options{})
		wrote := noise(1, size)
		for at := 0; at < len(wrote); at += pouring {
			clock.now = clock.now.Add(time.Millisecond / 2)
			if err := w.Output(wrote[at:min(at+pouring, len(wrote))]); err != nil {
				t.Fatalf("at %d: %v", at, err)
			}
			if err := w.Flush(); err != nil {
				t.Fatalf("at %d: %v", at, err)
			}
		}
		if size := d.data.Len(); size > terminalBurst+1<<20 {
			t.Errorf("%d bytes are written of it", size)
		}
		clock.now = clock.now.Add(gapPause)
		for i := range 50 {
			line := fmt.Sprintf("line %d, long behind it\r\n", i)
			wrote = append(wrote, line...)
			w.Output([]byte(line))
			if err := w.Flush(); err != nil || !strings.Contains(d.data.String(), strings.TrimSpace(line)) {
				t.Fatalf("%v, and what was shown is not recorded: %s", err, line)
			}
			clock.now = clock.now.Add(50 * time.Millisecond)
		}
		sum := end(t, w)
		events := mustRead(t, d.data.Bytes(), nil)
		out := account(t, events, wrote)
		if len(out) != 1 || out[0].bytes != sum.Omitted || sum.Missing != 0 || out[0].at < 2<<20 {
			t.Errorf("left out: %+v, in all %d, missing %d", out, sum.Omitted, sum.Missing)
		}
		if last := remarks(events, MarkEnd); !strings.Contains(last[0], fmt.Sprintf("%d bytes of the session are not in this recording", sum.Omitted)) {
			t.Errorf("it ends %q", last)
		}
	}
}

// What a person sees and types is recorded before it is shown, whatever was poured out before, and however large the recording is.
func TestHumanPaceIsNeverLeftOut(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := newDisk()
		clock := &watch{began}
		h := header()
		if rapid.Bool().Draw(t, "plain") {
			h.Terminal = ""
		}
		w, err := New(d, h, Options{Now: clock.read, Limit: rapid.SampledFrom([]int64{1 << 20, DefaultLimit}).Draw(t, "limit")})
		if err != nil {
			t.Fatal(err)
		}
		for range rapid.IntRange(0, 40).Draw(t, "floods") {
			w.Output(bytes.Repeat([]byte("0123456789abcde\n"), pouring/16))
			clock.now = clock.now.Add(time.Duration(rapid.IntRange(0, 2000).Draw(t, "ms")) * time.Millisecond)
			if rapid.IntRange(0, 3).Draw(t, "key") == 0 {
				w.Input([]byte("x"))
			}
		}
		clock.now = clock.now.Add(gapPause)
		for i := range 40 { // a person reads, types, and reads
			clock.now = clock.now.Add(time.Duration(rapid.IntRange(300, 5000).Draw(t, "ms")) * time.Millisecond)
			w.Input([]byte("k"))
			shown := fmt.Sprintf("<%d:%s>", i, strings.Repeat("y", rapid.IntRange(0, 1000).Draw(t, "n")))
			w.Output([]byte(shown))
			if err := w.Flush(); err != nil {
				t.Fatal(err)
			}
			if !bytes.Contains(d.data.Bytes(), []byte(shown)) {
				t.Fatalf("what is shown is not recorded: %d bytes, the recording has %d", len(shown), d.data.Len())
			}
		}
		if _, err := w.Close(End{}); err != nil {
			t.Fatal(err)
		}
	})
}

// However long somebody pours, types and is resized, the recording stays small, and says all that it leaves out.
func TestRecordingsAreBounded(t *testing.T) {
	d := newDisk()
	w, clock := begin(t, d, header(), Options{Limit: 256 << 10, Input: true})
	var wrote []byte
	piece := bytes.Repeat([]byte("y\r\n"), 16<<10/3)
	for i := range 600 {
		clock.now = clock.now.Add(time.Second)
		w.Output(piece)
		wrote = append(wrote, piece...)
		w.Input(bytes.Repeat([]byte("\r"), 100))
		w.Resize(uint16(i%50+1), 80)
		w.Mark(MarkConnection, strings.Repeat("x", 1000))
		w.Sync()
		if cap(w.buf)+cap(w.out) > 1<<20 {
			t.Fatalf("it holds %d bytes", cap(w.buf)+cap(w.out))
		}
	}
	sum := end(t, w)
	if sum.Bytes > 3<<20 || sum.Bytes < 400<<10 {
		t.Errorf("ten minutes of pouring make %d bytes", sum.Bytes)
	}
	events := mustRead(t, d.data.Bytes(), nil)
	account(t, events, wrote)
	connections := len(remarks(events, MarkConnection))
	for _, text := range remarks(events, MarkOmitted) {
		var n int
		if _, err := fmt.Sscanf(text, "%d remarks (connection)", &n); err == nil {
			connections += n
		}
	}
	if connections != 600 {
		t.Errorf("%d of 600 connections are accounted for", connections)
	}
	sizes := 0
	for _, e := range events {
		if r, ok := e.(Resize); ok {
			sizes = int(r.Rows)
		}
	}
	if sizes != 599%50+1 {
		t.Errorf("the last size is said to be %d rows", sizes)
	}
}

// Each stream says its own gaps: whoever has what was poured out can find it there.
func TestGapsAreOfOneStream(t *testing.T) {
	d := newDisk()
	h := header()
	h.Terminal = ""
	w, clock := begin(t, d, h, Options{Limit: 1 << 20, Input: true})
	all := noise(2, 3<<20)
	for at := 0; at < len(all); at += pouring {
		w.Output(all[at : at+pouring])
		w.ErrorOutput(all[at : at+pouring])
		w.Input(all[at : at+pouring])
	}
	clock.now = clock.now.Add(time.Second)
	sum := end(t, w)
	events := mustRead(t, d.data.Bytes(), nil)
	account(t, events, all)
	texts := strings.Join(remarks(events, MarkOmitted), "\n")
	for _, want := range []string{" bytes of output,", " bytes of error output,", " bytes of input,"} {
		if !strings.Contains(texts, want) {
			t.Errorf("nothing is said of%s", want)
		}
	}
	out, errs, in := streams(events)
	if got := int64(len(out)+len(errs)+len(in)) + sum.Omitted; got != 3*int64(len(all)) {
		t.Errorf("%d of %d bytes are accounted for", got, 3*len(all))
	}
	if !strings.HasSuffix(out, string(all[len(all)-leastTail:])) {
		t.Error("the end of the output is not there")
	}
}

// A gap whose end is in memory only is written when it is asked for again, and the writer says that it has to be.
func TestGapsSettle(t *testing.T) {
	d := newDisk()
	w, clock := begin(t, d, header(), Options{Limit: 1 << 20})
	for range 40 {
		w.Output(noise(3, pouring))
	}
	w.Output([]byte("\n$ "))
	if w.Sync(); !w.Gaps() || strings.Contains(d.data.String(), "omitted: ") {
		t.Fatal("the gap has an end while it lasts")
	}
	syncs := d.syncs
	if w.Sync(); d.syncs != syncs {
		t.Error("a sync with nothing to write")
	}
	clock.now = clock.now.Add(gapPause)
	if err := w.Sync(); err != nil || w.Gaps() {
		t.Fatal(err, w.Gaps())
	}
	if text := d.data.String(); !strings.Contains(text, "omitted: ") || !strings.Contains(text, "\\n$ \"]") {
		t.Error("the end of what was poured out is not on the disk")
	}
	end(t, w)
}

// What follows a typed key is recorded before it is shown also while something else pours.
func TestAnswersAreSeenInAFlood(t *testing.T) {
	d := newDisk()
	w, clock := begin(t, d, header(), Options{Limit: 64 << 10})
	flood := bytes.Repeat([]byte("0123456789abcde\n"), 100)
	for i := range 40 {
		for range 300 {
			clock.now = clock.now.Add(10 * time.Millisecond)
			w.Output(flood)
		}
		w.Input([]byte("x"))
		answer := fmt.Sprintf("<answer %d>", i)
		w.Output([]byte(answer))
		if err := w.Flush(); err != nil || !strings.Contains(d.data.String(), answer) {
			t.Fatalf("%v, and %s is not recorded", err, answer)
		}
	}
	end(t, w)
}
