package session

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"syscall"
	"testing"

	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/session/cast"
)

// What somebody sees is in the recording before he sees it.
func TestRecordedBeforeShown(t *testing.T) {
	t.Parallel()
	for _, way := range []node.SessionRecord{node.RecordBestEffort, node.RecordDurable} {
		h := open(t, Config{})
		o := onTerminal("stty -echo; while read x; do echo seen-$x; done")
		o.Record, o.Input = way, true
		id := h.open(o)
		p := h.attach(id, true)
		for _, word := range []string{"one", "two", "three"} {
			p.types(word + "\n")
			p.sees("seen-" + word)
			if data := h.recording(id); !strings.Contains(data, `"o", "seen-`+word) && !strings.Contains(data, "seen-"+word) {
				t.Fatalf("%d: it was shown before it was recorded: %s", way, data)
			}
		}
		p.types("\x04")
		p.leaves()
		s := h.ended(id)
		data := h.recording(id)
		if s.Recording.Bytes != int64(len(data)) || s.Recording.Digest.IsZero() || s.Recording.Sealed {
			t.Fatalf("%+v, and it is %d bytes", s.Recording, len(data))
		}
		if !strings.Contains(data, `"i", "one\n"`) || !strings.Contains(data, `"xterm"`) {
			t.Fatalf("%s", data)
		}
	}
}

func (h *house) recording(id [16]byte) string {
	h.t.Helper()
	r, err := h.Recording(id)
	if err != nil {
		h.t.Fatal(err)
	}
	defer r.Close()
	data, err := io.ReadAll(r)
	if err != nil {
		h.t.Fatal(err)
	}
	return string(data)
}

func TestNotRecorded(t *testing.T) {
	t.Parallel()
	h := open(t, Config{})
	o := program1("echo secret")
	o.Record = node.RecordNone
	id := h.open(o)
	h.attach(id, false).leaves()
	if s := h.ended(id); s.Recording != (node.SessionRecording{}) || s.Out != 7 {
		t.Fatalf("%+v", s)
	}
	if _, err := h.Recording(id); err == nil {
		t.Fatal("there is a recording")
	}
}

// disk is a file that takes nothing while it is full.
type disk struct {
	bytes.Buffer
	full bool
}

func (d *disk) Write(p []byte) (int, error) {
	if d.full {
		return 0, syscall.ENOSPC
	}
	return d.Buffer.Write(p)
}

func (d *disk) Sync() error  { return nil }
func (d *disk) Close() error { return nil }

func TestFullTape(t *testing.T) {
	for _, durable := range []bool{false, true} {
		d := &disk{}
		w, err := cast.New(d, cast.Header{}, cast.Options{})
		if err != nil {
			t.Fatal(err)
		}
		var notices, spoiled []string
		tape := &tape{w: w, durable: durable, notice: func(s string) { notices = append(notices, s) }, spoiled: func(s string) { spoiled = append(spoiled, s) }}
		if !tape.output(false, []byte("a")) {
			t.Fatal("a good tape keeps output back")
		}
		d.full = true
		shown := []bool{tape.output(false, []byte("b")), tape.output(true, []byte("c"))}
		d.full = false
		tape.output(false, []byte("d"))
		tape.close(cast.End{})
		switch {
		case durable && (shown[0] || shown[1] || len(spoiled) != 2 || len(notices) > 0):
			t.Fatalf("durable: shown %v, spoiled %q, notices %q", shown, spoiled, notices)
		case !durable && (!shown[0] || !shown[1] || len(spoiled) > 0 || len(notices) != 2):
			t.Fatalf("best effort: shown %v, spoiled %q, notices %q", shown, spoiled, notices)
		}
	}
}

func TestTapeThatCannotBegin(t *testing.T) {
	t.Parallel()
	o := order{Session: program1("true")}
	var said string
	tape, err := openTape(o, t.TempDir()+"/no/such/folder", func(s string) { said = s }, nil)
	if err != nil || !tape.output(false, []byte("x")) || !strings.Contains(said, "not recorded") {
		t.Fatalf("%v %q", err, said)
	}
	o.Session.Record = node.RecordDurable
	if _, err := openTape(o, t.TempDir()+"/no/such/folder", nil, nil); err == nil || errors.Is(err, io.EOF) {
		t.Fatalf("%v", err)
	}
}

// Whoever pours out megabytes ends no session, and the human hears nothing of it: what comes behind is recorded.
func TestPouringSpoilsNoTape(t *testing.T) {
	for _, durable := range []bool{false, true} {
		d := &disk{}
		w, err := cast.New(d, cast.Header{}, cast.Options{Limit: 1 << 20})
		if err != nil {
			t.Fatal(err)
		}
		var said []string
		hears := func(s string) { said = append(said, s) }
		tape := &tape{w: w, durable: durable, notice: hears, spoiled: hears}
		piece := bytes.Repeat([]byte("0123456789abcdef"), 2048)
		for range 200 {
			if !tape.output(false, piece) {
				t.Fatal("output is kept back")
			}
		}
		if tape.timer == nil || !w.Gaps() {
			t.Error("nobody will write down how it ended")
		}
		tape.output(false, []byte("\nthe last line\n"))
		r := tape.close(cast.End{})
		if len(said) > 0 {
			t.Errorf("durable %v: it says %q", durable, said)
		}
		if !strings.Contains(d.String(), `the last line\n`) || r.Left == 0 || r.Left > 200*32<<10 || d.Len() > 1<<20 {
			t.Errorf("durable %v: %d bytes left out, a file of %d", durable, r.Left, d.Len())
		}
	}
}

// badDisk takes everything, and cannot say that it is on the disk.
type badDisk struct {
	disk
	bad error
}

func (d *badDisk) Sync() error { return d.bad }

// A recording that fails goes on when it does, and not when only its file takes bytes.
func TestTapeGoesOnWhenItDoes(t *testing.T) {
	d := &badDisk{}
	w, err := cast.New(d, cast.Header{}, cast.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var said []string
	tape := &tape{w: w, notice: func(s string) { said = append(said, s) }}
	d.bad = syscall.EIO
	for range 3 {
		tape.output(false, []byte("x"))
		tape.syncNow()
	}
	if len(said) != 1 || !strings.Contains(said[0], "fails") {
		t.Errorf("while the disk fails it says %q", said)
	}
	d.bad = nil
	tape.syncNow()
	tape.output(false, []byte("x"))
	if len(said) != 2 || !strings.Contains(said[1], "goes on") {
		t.Errorf("then it says %q", said)
	}
	tape.close(cast.End{})
}

// Where auditors cannot read it, nobody else gets a recording, and the human is told.
func TestUnrecorded(t *testing.T) {
	o := order{Session: program1("true")}
	o.Session.Record, o.Session.Unrecorded = node.RecordNone, "none of its auditors is an operator now"
	var said string
	tape, err := openTape(o, t.TempDir()+"/cast", func(s string) { said = s }, nil)
	if err != nil || !tape.output(false, []byte("x")) || said != "this session is not recorded: none of its auditors is an operator now" {
		t.Fatalf("%v %q", err, said)
	}
}
