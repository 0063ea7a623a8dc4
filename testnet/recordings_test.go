package testnet

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/session/cast"
)

// recorded is a session as -o json has it.
type recorded struct {
	ID     string
	Sealed bool  `json:"recording_sealed"`
	Left   int64 `json:"recording_left_out"`
	Copies []string
	Node   struct{ Name string }
}

func (n *Node) recording(session string) string {
	return filepath.Join(n.Dir, "sessions", session, cast.Name)
}

// newestOf returns the newest session of a node.
func (f *Fleet) newestOf(asker, n *Node) (s recorded) {
	f.t.Helper()
	var all []recorded
	f.JSON(&all, asker, "session", "list", n.Name)
	if len(all) == 0 {
		f.t.Fatalf("%s has no sessions", n.Name)
	}
	return all[0]
}

// TestRecordings has people look at what others did: only auditors can, nobody on any host; also when the host is gone; and
// whoever pours out megabytes is seen behind them.
func TestRecordings(t *testing.T) {
	f := New(t, 5)
	asker, n := f.Nodes[0], f.Nodes[4]
	eve := filepath.Join(f.Dir, "eve.key")
	var asked struct{ Code string }
	f.JSON(&asked, asker, "--identity", eve, "operator", "request", "--name", "eve")
	f.Must(asker, "operator", "approve", asked.Code, "--team", "root")
	f.Must(asker, "setting", "put", "session.auditors", "eve")
	f.Must(asker, "setting", "put", "session.record", "durable")
	out := filepath.Join(f.Dir, "out")
	if err := os.Mkdir(out, 0o700); err != nil {
		t.Fatal(err)
	}
	f.Must(asker, "setting", "put", "session.to", out)
	const said = "only-eve-may-read-this"
	f.Until("the host seals recordings", func() bool {
		f.Must(asker, "exec", n.Name, "--user", "root", "--", "printf 'only-%s\\n' eve-may-read-this")
		return f.newestOf(asker, n).Sealed
	})
	s := f.newestOf(asker, n)
	t.Run("sealed", func(t *testing.T) { f.sealedRecording(t, asker, n, s.ID, eve, said) })
	t.Run("poured", func(t *testing.T) { f.pouredRecording(t, asker, n, eve) })
	t.Run("watched", func(t *testing.T) { f.watchedSession(t, asker, n, eve) })
	t.Run("copied", func(t *testing.T) { f.copiedRecording(t, asker, n, s.ID, eve, said, out) })
}

func (f *Fleet) sealedRecording(t *testing.T, asker, n *Node, id, eve, said string) {
	if r := f.Muster(asker, "session", "replay", id, "--node", n.Name, "--speed", "100"); r.Code == 0 || strings.Contains(r.Stdout, said) || !strings.Contains(r.Stderr, "sealed for auditors") {
		t.Errorf("who is no auditor gets exit %d, %q, %q", r.Code, r.Stdout, r.Stderr)
	}
	if text := f.Must(asker, "--identity", eve, "session", "replay", id, "--node", n.Name, "--speed", "100"); !strings.Contains(text, said) {
		t.Errorf("the auditor sees %q", text)
	}
	// What root of any host finds on its disks.
	err := filepath.WalkDir(f.Dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return nil
		}
		data, err := os.ReadFile(path)
		if err == nil && bytes.Contains(data, []byte(said)) {
			t.Errorf("it stands in the clear in %s", path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(n.recording(id))
	if err != nil {
		t.Fatal(err)
	}
	var for_ []fleet.ID
	_, err = cast.Open(bytes.NewReader(data), func(auditor fleet.ID) []byte {
		for_ = append(for_, auditor)
		return nil
	})
	if fleet.KindOf(err) != fleet.Denied || len(for_) != 1 {
		t.Errorf("it is sealed to %v: %v", for_, err)
	}
}

// pouredRecording pours out 45 MB, and then does what is to be seen.
func (f *Fleet) pouredRecording(t *testing.T, asker, n *Node, eve string) {
	r := f.Muster(asker, "exec", n.Name, "--user", "root", "--", "head -c 45000000 /dev/urandom; sleep 1; echo; echo and then this")
	if r.Code != 0 || len(r.Stdout) < 45_000_000 || !strings.HasSuffix(r.Stdout, "\nand then this\n") {
		t.Fatalf("exit %d, %d bytes, %s", r.Code, len(r.Stdout), r.Stderr)
	}
	s := f.newestOf(asker, n)
	raw := f.Must(asker, "--identity", eve, "session", "export", s.ID, "--node", n.Name, "--format", "raw")
	if !strings.HasSuffix(raw, "\nand then this\n") || !strings.HasPrefix(r.Stdout, raw[:1<<20]) || int64(len(raw))+s.Left != int64(len(r.Stdout)) {
		t.Errorf("of %d bytes, %d are recorded, and %d said to be left out", len(r.Stdout), len(raw), s.Left)
	}
	if text := f.Must(asker, "--identity", eve, "session", "export", s.ID, "--node", n.Name, "--format", "commands"); !strings.Contains(text, "bytes of output, SHA-256 ") {
		t.Errorf("nothing says what was left out: %s", text)
	}
}

// watchedSession has eve look on at somebody else's session.
func (f *Fleet) watchedSession(t *testing.T, asker, n *Node, eve string) {
	gate := filepath.Join(f.Dir, "gate")
	doing := f.Command(asker, "exec", n.Name, "--user", "root", "--", "echo begun; until [ -e "+gate+" ]; do sleep 0.1; done; echo the last line")
	var told bytes.Buffer
	doing.Stderr = &told
	if err := doing.Start(); err != nil {
		t.Fatal(err)
	}
	var id string
	f.Until("it runs", func() bool {
		id = strings.TrimSpace(f.Muster(asker, "session", "list", n.Name, "--running", "-o", "name").Stdout)
		return id != ""
	})
	watch := f.Command(asker, "--identity", eve, "session", "watch", id, "--node", n.Name)
	var seen bytes.Buffer
	watch.Stdout = &seen
	if err := watch.Start(); err != nil {
		t.Fatal(err)
	}
	f.Until("the host knows who looks on", func() bool { return strings.Contains(f.Must(asker, "why", n.Name, id), "eve looks on") })
	if err := os.WriteFile(gate, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := doing.Wait(); err != nil {
		t.Error(err)
	}
	if err := watch.Wait(); err != nil || seen.String() != "begun\nthe last line\n" {
		t.Errorf("eve saw %q, %v", seen.String(), err)
	}
	if !strings.Contains(told.String(), "eve looks on at this session") {
		t.Errorf("whose session it is was told %q", told.String())
	}
}

// copiedRecording reads a recording when its host is gone.
func (f *Fleet) copiedRecording(t *testing.T, asker, n *Node, id, eve, said, out string) {
	f.Until("two servers have it, and the folder", func() bool {
		var s struct {
			Copies []string `json:"recording_copies"`
		}
		f.JSON(&s, asker, "session", "show", id, "--node", n.Name)
		_, err := os.Stat(filepath.Join(out, id, n.Name, "session.cast"))
		return len(s.Copies) == 2 && err == nil
	})
	want, err := os.ReadFile(n.recording(id))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(out, id, n.Name, "session.cast")); err != nil || !bytes.Equal(got, want) {
		t.Errorf("in the folder stand %d bytes, not %d: %v", len(got), len(want), err)
	}
	n.Kill()
	f.Until("the host is gone", func() bool {
		var all []recorded
		r := f.Muster(asker, "--identity", eve, "-o", "json", "session", "list")
		if err := json.Unmarshal([]byte(r.Stdout), &all); err != nil || r.Code != 5 {
			return false
		}
		for _, s := range all {
			if s.ID == id && s.Node.Name == n.Name {
				return true
			}
		}
		return false
	})
	f.damageFirstCopy(t, id)
	for _, args := range [][]string{{id}, {id, "--node", n.Name}} {
		r := f.Muster(asker, append([]string{"--identity", eve, "session", "replay", "--speed", "100"}, args...)...)
		if r.Code != 0 || !strings.Contains(r.Stdout, said) || !strings.Contains(r.Stderr, "its digest differs") {
			t.Errorf("%s: exit %d, %q, %q", args, r.Code, r.Stdout, r.Stderr)
		}
	}
	if r := f.Muster(asker, "session", "replay", id); r.Code == 0 || strings.Contains(r.Stdout, said) {
		t.Errorf("who is no auditor gets exit %d, %q", r.Code, r.Stdout)
	}
	n.Start()
	f.Settled()
}

// damageFirstCopy changes the copy at the server that is asked first: the other one is shown instead.
func (f *Fleet) damageFirstCopy(t *testing.T, id string) {
	for _, n := range f.Nodes { // by name
		at, err := filepath.Glob(filepath.Join(n.Dir, "recordings", "*", id+".cast"))
		if err != nil || len(at) != 1 {
			continue
		}
		data, err := os.ReadFile(at[0])
		if err != nil {
			t.Fatal(err)
		}
		data[len(data)/2] ^= 1
		if err := os.WriteFile(at[0], data, 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Fatal("no server has a copy")
}
