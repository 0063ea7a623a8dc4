package session

import (
	"bytes"
	"testing"

	"github.com/muster-fleet/muster/exec/cage"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
)

// What is said on the socket is read as it was written, or not, and takes no more memory than it may.
func FuzzHear(f *testing.F) {
	for _, v := range []any{ask{Kind: askAttach, Have: 5}, ask{Kind: askKill, Text: "why"}, reply{Have: 1, Attached: true}, reply{Failed: []failure{failureOf(fleet.Errorf(fleet.NotFound, "x").Hinted("y"))}}} {
		var b bytes.Buffer
		if err := say(&b, v); err != nil {
			f.Fatal(err)
		}
		f.Add(b.Bytes())
	}
	f.Add([]byte{noteFormat, 0xff, 0xff, 0xff, 0xff})
	f.Add([]byte{noteFormat + 1, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		var a ask
		if hear(bytes.NewReader(data), &a) == nil {
			var b bytes.Buffer
			if err := say(&b, a); err != nil || !bytes.HasPrefix(data, b.Bytes()) {
				t.Fatalf("%+v is written otherwise", a)
			}
		}
		var r reply
		if hear(bytes.NewReader(data), &r) == nil {
			var b bytes.Buffer
			if err := say(&b, r); err != nil || !bytes.HasPrefix(data, b.Bytes()) {
				t.Fatalf("%+v is written otherwise", r)
			}
			_ = r.err()
		}
	})
}

// The notes in a folder are read as they were written, or not.
func FuzzNotes(f *testing.F) {
	f.Add(cage.SealNote(about{Format: noteFormat, State: program1("a", "b").State(), Opened: "boot"}))
	f.Add(append(ending{Code: 7, Signal: "TERM", Why: "why"}.sealed(), make([]byte, 64)...))
	f.Fuzz(func(t *testing.T, data []byte) {
		var a about
		if cage.OpenNote(data, &a) == nil && !bytes.HasPrefix(data, cage.SealNote(a)) {
			t.Fatalf("%+v is written otherwise", a)
		}
		var e ending
		if cage.OpenNote(data, &e) == nil && !bytes.HasPrefix(data, cage.SealNote(e)) {
			t.Fatalf("%+v is written otherwise", e)
		}
	})
}

// An order is read as the agent wrote it, or not.
func FuzzOrder(f *testing.F) {
	f.Add(wire.Marshal(order{Format: noteFormat, Session: onTerminal("a", "b"), Copy: []string{"x"}, Timing: usual()}))
	f.Fuzz(func(t *testing.T, data []byte) {
		var o order
		if wire.Unmarshal(data, &o) == nil && !bytes.Equal(wire.Marshal(o), data) {
			t.Fatalf("%+v is written otherwise", o)
		}
	})
}

// The longest end fits into its block.
func TestEndFits(t *testing.T) {
	long := string(bytes.Repeat([]byte("w"), 10_000))
	e := ending{Session: newID(), Ended: 1 << 62, Active: 1 << 62, In: 1 << 62, Out: 1 << 62, Code: -1 << 31, Signal: "RTMIN+15", Why: long}
	if n := len(e.sealed()); n > cage.NoteSize {
		t.Fatalf("%d bytes", n)
	}
}
