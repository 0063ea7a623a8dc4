package host

import (
	"log/slog"
	"testing"
	"time"

	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/auth/authtest"
	"github.com/muster-fleet/muster/node/folder"
)

// TestReadmittedOverAWithheldWord: what a copy told before the operator's word puts no host back into quarantine, though a member
// passes it on only then; what it tells afterwards does.
func TestReadmittedOverAWithheldWord(t *testing.T) {
	f := authtest.Found("readmit")
	dir, err := folder.Create(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	sequence := func(d time.Duration) uint64 { return uint64(f.Now.Add(d).UnixNano()) }
	h := &Host{ID: f.Nodes[0].ID, folder: dir, opts: Options{
		Log: slog.New(slog.DiscardHandler), Clock: func() auth.Instant { return auth.Instant{Wall: f.Now} },
	}}
	seen := sequence(-2 * time.Hour)
	if err := dir.PutTold(sequence(-3 * time.Hour)); err != nil {
		t.Fatal(err)
	}
	if err := dir.PutQuarantine(folder.Quarantine{Since: 1, Why: "twice", Seen: seen}); err != nil {
		t.Fatal(err)
	}
	word := f.Sign(auth.ForReadmit, auth.Readmit{Header: f.Header(10 * time.Minute), Node: h.ID, Seen: seen})
	if err := h.readmit(f.Record, word, seen); err != nil {
		t.Fatal(err)
	}
	v := newVoice(dir)
	v.echo(sequence(-time.Hour))
	if v.highest() != 0 {
		t.Error("a word from before has it in quarantine again")
	}
	v.echo(sequence(time.Hour))
	if v.highest() != sequence(time.Hour) {
		t.Error("a copy that lives on is not heard")
	}
}
