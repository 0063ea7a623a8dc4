package folder

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/auth/authtest"
	"github.com/muster-fleet/muster/node/fleet"
)

// town is a folder with all its files, of a node of a fleet with a few acts.
type town struct {
	dir   string
	fleet *authtest.Fleet
	heads []fleet.ID
}

func newTown(t *testing.T) town {
	t.Helper()
	w := town{dir: filepath.Join(t.TempDir(), "data"), fleet: authtest.Found("folder")}
	for range 3 {
		w.fleet.AddOperator(fmt.Sprintf("op%d", w.fleet.Record.Length), "web")
	}
	record := auth.NewRecord()
	for _, act := range w.fleet.Acts {
		var err error
		if record, err = record.Apply(act, w.fleet.ID()); err != nil {
			t.Fatal(err)
		}
		w.heads = append(w.heads, record.Head)
	}
	f, err := Create(w.dir)
	if err != nil {
		t.Fatal(err)
	}
	w.fill(t, f)
	must(t, f.Close())
	return w
}

func (w town) fill(t *testing.T, f *Folder) {
	t.Helper()
	if _, err := f.LoadRecord(w.fleet.ID()); err != nil {
		t.Fatal(err)
	}
	must(t, f.AppendActs(w.fleet.Acts, w.heads))
	must(t, f.PutFloor(Floor{Time: 1, Length: w.fleet.Record.Length, Head: w.fleet.Record.Head}))
	must(t, f.PutHost(Host{Bind: "127.0.0.1:7980", Advertise: []string{"10.0.0.1:7980"}}))
	must(t, f.PutOutbound(Outbound{Only: true, Free: true}))
	must(t, f.PutGossipKeys([]GossipKey{{Epoch: 1, Key: bytes.Repeat([]byte{1}, 32)}}))
	must(t, f.PutPeers([]Peer{{ID: fleet.Sum([]byte("peer")), Addrs: []string{"10.0.0.2:7980"}}}))
	must(t, f.PutTold(7))
	must(t, f.PutFounding(Founding{Acts: []FoundingAct{{Kind: auth.ActCharter, Data: []byte("x")}}}))
	must(t, f.PutIdentity(w.identity()))
}

func (w town) identity() Identity {
	return Identity{Fleet: w.fleet.ID(), Name: "n1", Seed: bytes.Repeat([]byte{2}, 32), HPKESeed: bytes.Repeat([]byte{3}, 32)}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// readAll reads every file as the agent does at its start; what it finds wrong first is the error.
func readAll(dir string, id fleet.ID) (read auth.Record, peers []Peer, err error) {
	f, err := Open(dir)
	if err != nil {
		return read, nil, err
	}
	defer f.Close()
	_, err = f.Identity()
	for _, next := range []func() error{
		func() error { read, err = f.LoadRecord(id); return err },
		func() error { _, err := f.Floor(); return err },
		func() error { _, err := f.GossipKeys(); return err },
		func() error { _, err := f.Founding(); return err },
		func() error { _, err := f.Host(); return err },
		func() error { _, err := f.Outbound(); return err },
	} {
		if err == nil {
			err = next()
		}
	}
	return read, f.Peers(), err
}

// snapshot reads a folder's files.
func snapshot(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	entries, err := os.ReadDir(dir)
	must(t, err)
	for _, entry := range entries {
		data, err := os.ReadFile(filepath.Join(dir, entry.Name()))
		must(t, err)
		files[entry.Name()] = string(data)
	}
	return files
}

// checkHelpful holds an error to what every error promises: one line that names the file, and what mends it.
func checkHelpful(t *testing.T, err error, name string) {
	t.Helper()
	e, ok := err.(*fleet.Error)
	switch {
	case err == nil:
		t.Fatalf("%s is taken as it is", name)
	case !ok:
		t.Fatalf("%s: %v is no error for people", name, err)
	case !strings.Contains(e.Error(), name) || e.Hint == "" || strings.ContainsAny(e.Error()+e.Hint, "\n"):
		t.Fatalf("%s: %q, hint %q", name, e.Error(), e.Hint)
	}
}

func TestEveryDamagedFileIsNamedAndStays(t *testing.T) {
	w := newTown(t)
	if record, peers, err := readAll(w.dir, w.fleet.ID()); err != nil || record.Head != w.fleet.Record.Head || len(peers) != 1 {
		t.Fatalf("an undamaged folder: %v", err)
	}
	before := snapshot(t, w.dir)
	damage := func(name, to string) {
		t.Helper()
		path := filepath.Join(w.dir, name)
		must(t, os.WriteFile(path, []byte(to), 0o600))
		_, peers, err := readAll(w.dir, w.fleet.ID())
		if name == "peers" || name == "told" {
			if err != nil || name == "peers" && len(peers) != 0 {
				t.Fatalf("%s is a hint: %v, %v", name, peers, err)
			}
		} else {
			checkHelpful(t, err, path)
		}
		after := snapshot(t, w.dir)
		if after[name] != to {
			t.Fatalf("%s was changed", name)
		}
		must(t, os.WriteFile(path, []byte(before[name]), 0o600))
		after[name] = before[name]
		if !maps.Equal(before, after) {
			t.Fatalf("with %s damaged, another file was changed", name)
		}
	}
	for name, data := range before {
		if name == "lock" {
			continue
		}
		step := 1 + len(data)/40
		for at := 0; at < len(data); at += step {
			damage(name, data[:at])
			flipped := []byte(data)
			flipped[at] ^= 1 << (at % 8)
			damage(name, string(flipped))
		}
		damage(name, data[:len(data)-1])
		damage(name, data+"x"+strings.Repeat("\x00", 70_000))
	}
}

func TestMissingFiles(t *testing.T) {
	w := newTown(t)
	for name, want := range map[string]string{"host": "", "floor": "", "gossip-keys": "", "peers": "", "told": "", "founding": "", outboundName: "", "record": "", "identity": "no host"} {
		data, err := os.ReadFile(filepath.Join(w.dir, name))
		must(t, err)
		must(t, os.Remove(filepath.Join(w.dir, name)))
		_, _, err = readAll(w.dir, w.fleet.ID())
		if want == "" && err != nil {
			t.Errorf("without %s: %v", name, err)
		}
		if want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("without %s: %v", name, err)
		}
		must(t, os.WriteFile(filepath.Join(w.dir, name), data, 0o600))
	}
}

func TestRecordOfAnotherFleet(t *testing.T) {
	w := newTown(t)
	_, _, err := readAll(w.dir, fleet.Sum([]byte("another")))
	checkHelpful(t, err, "another fleet")
	if fleet.KindOf(err) != fleet.Conflict {
		t.Fatalf("kind %s", fleet.KindOf(err))
	}
}

// TestCrashInAppend cuts the last act, which nothing counts on yet: the floor was not raised.
func TestCrashInAppend(t *testing.T) {
	w := newTown(t)
	path := filepath.Join(w.dir, "record")
	data, err := os.ReadFile(path)
	must(t, err)
	must(t, os.Remove(filepath.Join(w.dir, "floor")))
	last := len(w.fleet.Acts) - 1
	for _, cut := range []int{1, 7, 9, 40} {
		must(t, os.WriteFile(path, data[:len(data)-cut], 0o600))
		f, err := Open(w.dir)
		must(t, err)
		record, err := f.LoadRecord(w.fleet.ID())
		if err != nil || record.Head != w.heads[last-1] {
			t.Fatalf("cut by %d: %v", cut, err)
		}
		must(t, f.AppendActs(w.fleet.Acts[last:], w.heads[last:]))
		must(t, f.Close())
		if record, _, err := readAll(w.dir, w.fleet.ID()); err != nil || record.Head != w.heads[last] {
			t.Fatalf("mended after a cut by %d: %v", cut, err)
		}
	}
}

// TestFullDiskLeavesNoHole lets the disk refuse some acts and take later ones.
func TestFullDiskLeavesNoHole(t *testing.T) {
	w := newTown(t)
	must(t, os.Remove(filepath.Join(w.dir, "record")))
	must(t, os.Remove(filepath.Join(w.dir, "floor")))
	f, err := Open(w.dir)
	must(t, err)
	_, err = f.LoadRecord(w.fleet.ID())
	must(t, err)
	must(t, f.AppendActs(w.fleet.Acts[:2], w.heads[:2]))

	good := f.record
	if f.record, err = os.Open(good.Name()); err != nil { // every write fails
		t.Fatal(err)
	}
	if err := f.AppendActs(w.fleet.Acts[2:4], w.heads[2:4]); err == nil {
		t.Fatal("a disk that takes nothing went unnoticed")
	}
	if acts, err := f.ReadActs(0, 1<<20); err != nil || len(acts) != 4 {
		t.Fatalf("peers are given %d acts, %v", len(acts), err)
	}
	if err := f.PutFloor(Floor{Time: 9, Length: 4, Head: w.heads[3]}); err == nil {
		t.Fatal("the floor hides that acts wait")
	}
	if floor, err := f.Floor(); err != nil || floor.Length != 2 || floor.Head != w.heads[1] || floor.Time != 9 {
		t.Fatalf("the floor is %+v, %v; above the record on disk it would refuse the next start", floor, err)
	}
	must(t, f.record.Close())
	f.record = good

	must(t, f.AppendActs(w.fleet.Acts[4:], w.heads[4:]))
	must(t, f.PutFloor(Floor{Time: 9, Length: w.fleet.Record.Length, Head: w.fleet.Record.Head}))
	must(t, f.Close())
	if record, _, err := readAll(w.dir, w.fleet.ID()); err != nil || record.Head != w.fleet.Record.Head {
		t.Fatalf("the record has a hole: %v", err)
	}
}

// TestFloorFlushes frees the disk without any new act.
func TestFloorFlushes(t *testing.T) {
	w := newTown(t)
	must(t, os.Remove(filepath.Join(w.dir, "record")))
	f, err := Open(w.dir)
	must(t, err)
	_, err = f.LoadRecord(w.fleet.ID())
	must(t, err)
	must(t, f.AppendActs(w.fleet.Acts[:1], w.heads[:1]))
	good := f.record
	if f.record, err = os.Open(good.Name()); err != nil {
		t.Fatal(err)
	}
	_ = f.AppendActs(w.fleet.Acts[1:], w.heads[1:])
	must(t, f.record.Close())
	f.record = good
	must(t, f.PutFloor(Floor{Length: w.fleet.Record.Length, Head: w.fleet.Record.Head}))
	must(t, f.Close())
	if record, _, err := readAll(w.dir, w.fleet.ID()); err != nil || record.Length != w.fleet.Record.Length {
		t.Fatalf("%d acts, %v", record.Length, err)
	}
}

// TestFullDiskAtFirst lets the disk refuse the very first acts of a record that was moved away.
func TestFullDiskAtFirst(t *testing.T) {
	w := newTown(t)
	path := filepath.Join(w.dir, "record")
	must(t, os.Remove(path))
	must(t, os.Mkdir(path, 0o700)) // nothing can be put in its place
	f, err := Create(filepath.Join(t.TempDir(), "data"))
	must(t, err)
	must(t, f.Close())
	f.dir = w.dir
	if f.AppendActs(w.fleet.Acts[:2], w.heads[:2]) == nil {
		t.Fatal("acts that have no place went unnoticed")
	}
	if acts, err := f.ReadActs(0, 1<<20); err != nil || len(acts) != 2 {
		t.Fatalf("peers are given %d acts, %v", len(acts), err)
	}
	must(t, os.Remove(path))
	must(t, f.AppendActs(w.fleet.Acts[2:], w.heads[2:]))
	if record, _, err := readAll(w.dir, w.fleet.ID()); err != nil || record.Head != w.fleet.Record.Head {
		t.Fatalf("%v", err)
	}
}
