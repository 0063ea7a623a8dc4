package folder

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/muster-fleet/muster/node/fleet"
)

// TestWipe: nothing of a host is left in its folder, not in another folder by a link out of it either, and what has another name
// too stays whole there.
func TestWipe(t *testing.T) {
	w := newTown(t)
	w.lives(t)
	outside, elsewhere := filepath.Join(t.TempDir(), "outside"), filepath.Join(t.TempDir(), "elsewhere")
	must(t, os.WriteFile(outside, []byte("stays"), 0o600))
	must(t, os.Symlink(outside, filepath.Join(w.dir, "runs", "a", "link")))
	must(t, os.WriteFile(filepath.Join(w.dir, "runs", "a", "linked"), []byte("stays"), 0o600))
	must(t, os.Link(filepath.Join(w.dir, "runs", "a", "linked"), elsewhere))
	held, err := os.Open(filepath.Join(w.dir, identityName)) // the bytes of a removed file are where they were
	must(t, err)
	defer held.Close()

	if !WasHost(w.dir) {
		t.Error("it is no host's")
	}
	if strangers, err := Strangers(w.dir); err != nil || len(strangers) > 0 {
		t.Errorf("strangers %q, %v", strangers, err)
	}
	f, err := Open(w.dir)
	must(t, err)
	if _, err := Wipe(w.dir); fleet.KindOf(err) != fleet.Conflict {
		t.Errorf("under an agent: %v", err)
	}
	must(t, f.Close())
	files, err := Wipe(w.dir)
	if err != nil || files < 10 {
		t.Errorf("%d files, %v", files, err)
	}
	entries, err := os.ReadDir(w.dir)
	if err != nil || len(entries) > 0 {
		t.Errorf("left: %v, %v", entries, err)
	}
	for _, path := range []string{outside, elsewhere} {
		if text, err := os.ReadFile(path); err != nil || string(text) != "stays" {
			t.Errorf("%s: %q, %v", path, text, err)
		}
	}
	raw := make([]byte, 4096)
	n, _ := held.ReadAt(raw, 0)
	if n == 0 || len(bytes.Trim(raw[:n], "\x00")) > 0 {
		t.Errorf("the identity's bytes are still there: %x", raw[:n])
	}
	if WasHost(w.dir) {
		t.Error("it is a host's still")
	}
	f, err = Create(w.dir)
	must(t, err)
	must(t, f.Discard())
}

// lives adds to a host's folder what an agent leaves.
func (w town) lives(t *testing.T) {
	t.Helper()
	for _, name := range []string{"raft", "runs/a", "reports", "sessions", "keyrings", "params", "decisions", "releases"} {
		must(t, os.MkdirAll(filepath.Join(w.dir, name), 0o700))
	}
	for _, name := range []string{"ledger", "ledger.spare", "raft/identity", "runs/a/end", "reports/reports.db", "keyrings/ab", "agent.sock", quarantineName, "upgrade", ".doctor-1"} {
		must(t, os.WriteFile(filepath.Join(w.dir, name), []byte("x"), 0o600))
	}
	must(t, os.Mkdir(filepath.Join(w.dir, "runs", "a", "closed"), 0o700))
	must(t, os.WriteFile(filepath.Join(w.dir, "runs", "a", "closed", "x"), nil, 0o400))
	must(t, os.Chmod(filepath.Join(w.dir, "runs", "a", "closed"), 0))
}

func TestStrangers(t *testing.T) {
	w := newTown(t)
	w.lives(t)
	must(t, os.WriteFile(filepath.Join(w.dir, "notes.txt"), nil, 0o600))
	if got, err := Strangers(w.dir); err != nil || !slices.Equal(got, []string{"notes.txt"}) {
		t.Errorf("%q, %v", got, err)
	}
}

// TestWipeIsRepeated: keys go first, so whoever pulls the plug leaves none; and the next try finishes.
func TestWipeIsRepeated(t *testing.T) {
	w := newTown(t)
	w.lives(t)
	names := []string{"runs", "keyrings", "identity", "gossip-keys", ".new-123", "joining"}
	slices.SortStableFunc(names, func(a, b string) int { return urgency(a) - urgency(b) })
	if !slices.Equal(names, []string{"identity", ".new-123", "joining", "keyrings", "gossip-keys", "runs"}) {
		t.Errorf("the order is %q", names)
	}
	must(t, os.Remove(filepath.Join(w.dir, identityName)))
	if !WasHost(w.dir) {
		t.Error("half-way it counts as no host's")
	}
	if _, err := Wipe(w.dir); err != nil {
		t.Error(err)
	}
}

func TestQuarantine(t *testing.T) {
	w := newTown(t)
	f, err := Open(w.dir)
	must(t, err)
	defer f.Close()
	if _, is := f.Quarantine(); is {
		t.Error("a host begins in quarantine")
	}
	want := Quarantine{Since: 5000, Why: "twice", Seen: 7}
	must(t, f.PutQuarantine(want))
	if got, is := f.Quarantine(); !is || got != want {
		t.Errorf("%+v, %v", got, is)
	}
	must(t, os.WriteFile(filepath.Join(w.dir, quarantineName), []byte("damage"), 0o600))
	if got, is := f.Quarantine(); !is || got.Since == 0 {
		t.Errorf("damaged: %+v, %v", got, is)
	}
}

// TestQuarantineOnAFullDisk: where nothing can be written a file that there is becomes the one that counts.
func TestQuarantineOnAFullDisk(t *testing.T) {
	w := newTown(t)
	f, err := Open(w.dir)
	must(t, err)
	defer f.Close()
	if !f.quarantineByName(5000) {
		t.Error("it could not be renamed")
	}
	if got, is := f.Quarantine(); !is || got.Since != 5000 {
		t.Errorf("%+v, %v", got, is)
	}
	if f.quarantineByName(6000) {
		t.Error("there was nothing left to rename, and it says yes")
	}
}

func TestTold(t *testing.T) {
	w := newTown(t)
	f, err := Open(w.dir)
	must(t, err)
	defer f.Close()
	is := func(what string, sequence uint64, known bool) {
		t.Helper()
		if got, k := f.Told(); got != sequence || k != known {
			t.Errorf("%s: %d, %v", what, got, k)
		}
	}
	is("as written", 7, true)
	path := filepath.Join(w.dir, "told")
	must(t, os.WriteFile(path, []byte("damage"), 0o600))
	is("damaged", 0, false)
	must(t, os.Remove(path))
	is("before the first start", 0, true)
	must(t, os.WriteFile(filepath.Join(w.dir, "ledger"), nil, 0o600))
	is("gone from where an agent ran", 0, false)
}
