package session

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/session/cast"
)

// onlooker reads what it is shown.
type onlooker struct {
	mu     sync.Mutex
	more   sync.Cond
	out    string
	errs   string
	said   []string
	size   cast.Resize
	whole  bool
	err    error
	header cast.Header
	over   bool
}

func looksOn(from io.Reader) *onlooker {
	o := &onlooker{}
	o.more.L = &o.mu
	go o.look(from)
	return o
}

func (o *onlooker) look(from io.Reader) {
	r, err := cast.Open(from, nil)
	for err == nil {
		var e cast.Event
		if e, err = r.Next(); err == nil {
			o.take(e)
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.over = true; r != nil {
		o.whole, o.header = r.Whole(), r.Header()
	}
	if !errors.Is(err, io.EOF) {
		o.err = err
	}
	o.more.Broadcast()
}

func (o *onlooker) take(e cast.Event) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch e := e.(type) {
	case cast.Output:
		if e.OnError {
			o.errs += string(e.Data)
		} else {
			o.out += string(e.Data)
		}
	case cast.Remark:
		o.said = append(o.said, e.Mark.String()+": "+e.Text)
	case cast.Resize:
		o.size = e
	case cast.Input:
	}
	o.more.Broadcast()
}

// sees waits until the output has a text.
func (o *onlooker) sees(t testing.TB, want string) {
	t.Helper()
	o.mu.Lock()
	defer o.mu.Unlock()
	for !strings.Contains(o.out, want) {
		if o.over {
			t.Fatalf("%q is not in %q, and nothing more comes: %v", want, o.out, o.err)
		}
		o.more.Wait()
	}
}

// ends waits for the end.
func (o *onlooker) ends() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for !o.over {
		o.more.Wait()
	}
}

// Whoever looks on sees what is on the screen and what comes; whose session it is reads who looks on, and that is recorded.
func TestLook(t *testing.T) {
	t.Parallel()
	h := open(t, Config{})
	id := h.open(onTerminal("stty -echo; echo before; while read x; do echo seen-$x; done"))
	p := h.attach(id, true)
	p.sees("before")
	conn, err := h.Look(t.Context(), id, "eve")
	if err != nil {
		t.Fatal(err)
	}
	o := looksOn(conn)
	o.sees(t, "before")
	p.types("one\n")
	p.sees("seen-one")
	o.sees(t, "seen-one")
	p.types("\x04")
	p.leaves()
	o.ends()
	if o.err != nil || !o.whole || o.header.Session != id || !strings.HasPrefix(o.out, anew) {
		t.Errorf("%v, whole %v, header %+v, %q", o.err, o.whole, o.header, o.out)
	}
	if last := o.said[len(o.said)-1]; last != "end: exit 0" {
		t.Errorf("it ended %q", last)
	}
	if text := p.notices.String(); !strings.Contains(text, "eve looks on at this session") {
		t.Errorf("the operator was told %q", text)
	}
	if data := h.recording(id); !strings.Contains(data, "muster: eve looks on at this session") {
		t.Errorf("the recording does not say who looked on: %s", data)
	}
	h.ended(id)
	if _, err := h.Look(t.Context(), id, "eve"); fleet.KindOf(err) != fleet.Expired {
		t.Errorf("to look on at what has ended: %v", err)
	}
	if _, err := h.Look(t.Context(), newID(), "eve"); fleet.KindOf(err) != fleet.NotFound {
		t.Errorf("to look on at nothing: %v", err)
	}
}

// Who does not read slows down nobody; and then he is shown the newest.
func TestLookersSlowNobody(t *testing.T) {
	t.Parallel()
	h := open(t, Config{})
	id := h.open(program1("read x; head -c 20000000 /dev/zero | tr '\\0' z; echo; echo newest"))
	p := h.attach(id, false)
	var idle []io.ReadCloser
	for i := range maxLookers {
		conn, err := h.Look(t.Context(), id, fmt.Sprint("eve", i))
		if err != nil {
			t.Fatal(err)
		}
		idle = append(idle, conn)
	}
	if _, err := h.Look(t.Context(), id, "eve"); fleet.KindOf(err) != fleet.Exhausted {
		t.Errorf("one more looks on: %v", err)
	}
	p.types("go\n")
	p.sees("newest")
	p.leaves()
	o := looksOn(idle[0])
	o.ends()
	if !strings.HasSuffix(o.out, "\nnewest\n") || len(o.out) > 2<<20 || !strings.Contains(strings.Join(o.said, " "), "were passed over") {
		t.Errorf("he sees %d bytes, %q", len(o.out), o.said)
	}
	for _, conn := range idle {
		conn.Close()
	}
}

// Nobody keeps others from looking on by taking all the places: neither who has the session nor an onlooker has more than one.
func TestEverybodyLooksOnOnce(t *testing.T) {
	t.Parallel()
	h := open(t, Config{})
	id := h.open(program1("read x; echo seen-$x"))
	p := h.attach(id, false)
	var ann []*onlooker
	for range maxLookers + 1 {
		conn, err := h.Look(t.Context(), id, "ann")
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		ann = append(ann, looksOn(conn))
	}
	conn, err := h.Look(t.Context(), id, "eve")
	if err != nil {
		t.Fatalf("somebody else: %v", err)
	}
	defer conn.Close()
	eve := looksOn(conn)
	for i, o := range ann[:maxLookers] {
		if o.ends(); o.whole || !strings.Contains(strings.Join(o.said, " "), "from elsewhere") {
			t.Errorf("ann's place %d: whole %v, %q", i, o.whole, o.said)
		}
	}
	p.types("go\n")
	p.leaves()
	for name, o := range map[string]*onlooker{"eve": eve, "ann's newest place": ann[maxLookers]} {
		if o.ends(); !o.whole || o.out != "seen-go\n" {
			t.Errorf("%s: whole %v, %q", name, o.whole, o.out)
		}
	}
	if strings.Contains(p.notices.String(), "no more") {
		t.Errorf("of those who look on it is said that they do not: %q", p.notices.String())
	}
}

// What somebody sees is what was shown, in order; what is missing is said, and behind it stands the newest.
func TestGallery(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := newGallery(cast.Header{Start: time.Unix(1e9, 0)}, func() time.Duration { return 0 })
		var all bytes.Buffer
		write := func() {
			for range rapid.IntRange(1, 20).Draw(t, "writes") {
				p := make([]byte, rapid.SampledFrom([]int{1, 100, 32 << 10}).Draw(t, "n"))
				for i := range p {
					p[i] = 'a' + byte((all.Len()+i)%26)
				}
				all.Write(p)
				g.output(false, p)
			}
		}
		write()
		l, err := g.enter("eve")
		if err != nil {
			t.Fatal(err)
		}
		var lines []byte
		for range rapid.IntRange(0, 5).Draw(t, "rounds") {
			write()
			if len(l.waiting) > behindMost {
				t.Fatalf("%d bytes wait for one", len(l.waiting))
			}
			if rapid.Bool().Draw(t, "reads") {
				more, _ := g.next(l)
				lines = append(lines, more...)
			}
		}
		g.end(cast.End{})
		rest, more := g.next(l)
		if more {
			t.Fatal("something is to come behind the end")
		}
		r, err := cast.Open(bytes.NewReader(append(lines, rest...)), nil)
		if err != nil {
			t.Fatal(err)
		}
		var seen []byte
		for {
			e, err := r.Next()
			if err != nil {
				break
			}
			switch e := e.(type) {
			case cast.Output:
				seen = append(seen, e.Data...)
			case cast.Remark:
				if e.Mark == cast.MarkNotice {
					seen = nil
				}
			}
		}
		if !r.Whole() || !bytes.HasSuffix(all.Bytes(), seen) || len(seen) < min(recentMost, all.Len())-1<<10 {
			t.Fatalf("he sees %d bytes of %d, whole %v", len(seen), all.Len(), r.Whole())
		}
		if len(g.recent.data) > 2*recentMost {
			t.Fatalf("%d bytes are kept", len(g.recent.data))
		}
	})
}

// Streams are told apart also in what was shown last.
func TestRecentKeepsStreamsApart(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var r recent
		var all [2][]byte
		for range rapid.IntRange(0, 3000).Draw(t, "writes") {
			stream := rapid.IntRange(0, 1).Draw(t, "stream")
			p := bytes.Repeat([]byte{byte('0' + stream)}, rapid.SampledFrom([]int{1, 1, 1, 3000}).Draw(t, "n"))
			all[stream] = append(all[stream], p...)
			r.add(stream == 1, p)
		}
		n := 0
		r.each(func(onError bool, p []byte) {
			n += len(p)
			want := byte('0')
			if onError {
				want = '1'
			}
			if len(bytes.Trim(p, string(want))) > 0 {
				t.Fatal("streams are mixed up")
			}
		})
		if n > recentMost || !r.cut && n < min(recentMost, len(all[0])+len(all[1])) {
			t.Fatalf("%d bytes are shown", n)
		}
	})
}
