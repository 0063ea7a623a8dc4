package archive

import (
	"bytes"
	"crypto/sha256"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/auth/authtest"
	"github.com/muster-fleet/muster/node/fleet"
)

var now = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func plenty(string) (int64, error) { return 1 << 40, nil }

func open(t testing.TB, dir string, room Room) *Archive {
	t.Helper()
	a, err := Open(Config{Dir: dir, Room: func() Room { return room }, Now: func() time.Time { return now }, Free: plenty})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// copyOf makes what a node says of a recording.
func copyOf(name string, session byte, data []byte, ended time.Time) node.CopyKept {
	key := authtest.Signer(name)
	s := node.SessionState{ID: fleet.UUID{session}, Ended: ended.UnixMilli(), Recording: node.SessionRecording{Bytes: int64(len(data)), Digest: sha256.Sum256(data)}}
	note := node.NoteOf(s, key.ID())
	return node.CopyKept{Copy: node.SessionCopy{Key: key.Public(), Note: key.Sign(auth.ForRecording, fleet.ID{}, note)}, Note: note}
}

func put(t testing.TB, a *Archive, k node.CopyKept, data []byte) error {
	t.Helper()
	in, err := a.Take(k)
	if err != nil {
		return err
	}
	defer in.Close()
	have, kept := in.Have()
	if kept {
		return nil
	}
	if _, err := in.Write(data[have:]); err != nil {
		return err
	}
	return in.Commit()
}

func read(t testing.TB, a *Archive, k node.CopyKept) string {
	t.Helper()
	r, err := a.Read(k.Note.Node, k.Note.Session.ID)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func sessionsIn(a *Archive) (out []byte) {
	for k := range a.List(fleet.UUID{}) {
		out = append(out, k.Note.Session.ID[0])
	}
	slices.Sort(out)
	return out
}

// What was kept is there after a restart, whole; what is not whole is not there.
func TestKept(t *testing.T) {
	dir := t.TempDir()
	a := open(t, dir, DefaultRoom())
	one, two := copyOf("web1", 1, []byte("one"), now), copyOf("db1", 2, []byte("two"), now)
	for range 2 { // a node that did not hear that it was kept gives it again
		if err := put(t, a, one, []byte("one")); err != nil {
			t.Fatal(err)
		}
	}
	if err := put(t, a, two, []byte("two")); err != nil {
		t.Fatal(err)
	}
	a = open(t, dir, DefaultRoom())
	if got := sessionsIn(a); !bytes.Equal(got, []byte{1, 2}) || read(t, a, one) != "one" {
		t.Fatalf("kept: %v", got)
	}
	if got := slices.Collect(a.List(fleet.UUID{2})); len(got) != 1 || got[0].Note.Node != two.Note.Node || !bytes.Equal(got[0].Copy.Note.Body, two.Copy.Note.Body) {
		t.Errorf("%+v", got)
	}
	for _, path := range []string{a.path(key{one.Note.Node, fleet.UUID{1}}, castSuffix), a.path(key{one.Note.Node, fleet.UUID{1}}, noteSuffix)} {
		if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
			t.Errorf("%s: %v %v", path, info.Mode(), err)
		}
	}
	cast := a.path(key{one.Note.Node, fleet.UUID{1}}, castSuffix)
	if err := os.Truncate(cast, 1); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(a.path(key{two.Note.Node, fleet.UUID{2}}, noteSuffix), []byte("torn"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := sessionsIn(open(t, dir, DefaultRoom())); len(got) != 0 {
		t.Errorf("damaged ones are listed: %v", got)
	}
	if left, _ := filepath.Glob(dir + "/*/*"); len(left) != 0 {
		t.Errorf("and are left: %v", left)
	}
}

// What broke off goes on where it was, also after a restart.
func TestResumed(t *testing.T) {
	dir := t.TempDir()
	data := bytes.Repeat([]byte("0123456789"), 1000)
	k := copyOf("web1", 1, data, now)
	for at := 0; at < len(data); at += 3000 {
		a := open(t, dir, DefaultRoom())
		in, err := a.Take(k)
		if err != nil {
			t.Fatal(err)
		}
		if have, kept := in.Have(); have != int64(at) || kept {
			t.Fatalf("it has %d of what was given up to %d", have, at)
		}
		if _, err := a.Take(k); fleet.KindOf(err) != fleet.Conflict {
			t.Errorf("the same at once: %v", err)
		}
		if _, err := in.Write(data[at:min(at+3000, len(data))]); err != nil {
			t.Fatal(err)
		}
		if at+3000 < len(data) {
			if err := in.Commit(); fleet.KindOf(err) != fleet.Invalid {
				t.Errorf("a part of it: %v", err)
			}
		} else if err := in.Commit(); err != nil {
			t.Fatal(err)
		}
		in.Close()
		if got := read2(a, k); (got == string(data)) != (at+3000 >= len(data)) {
			t.Errorf("at %d, %d bytes are read", at, len(got))
		}
	}
}

func read2(a *Archive, k node.CopyKept) string {
	r, err := a.Read(k.Note.Node, k.Note.Session.ID)
	if err != nil {
		return ""
	}
	defer r.Close()
	data, _ := io.ReadAll(r)
	return string(data)
}

// Nobody can have something else kept than was signed, nor take back what is kept.
func TestAnotherRecording(t *testing.T) {
	a := open(t, t.TempDir(), DefaultRoom())
	k := copyOf("web1", 1, []byte("true"), now)
	if err := put(t, a, k, []byte("else")); fleet.KindOf(err) != fleet.Invalid || !strings.Contains(err.Error(), "digest") {
		t.Errorf("another one of the same length: %v", err)
	}
	if err := put(t, a, k, []byte("longer")); fleet.KindOf(err) != fleet.Invalid {
		t.Errorf("a longer one: %v", err)
	}
	if len(sessionsIn(a)) != 0 {
		t.Fatal("it is listed")
	}
	if err := put(t, a, k, []byte("true")); err != nil {
		t.Fatal("and then the true one:", err)
	}
	later := copyOf("web1", 1, []byte("rewritten"), now)
	if err := put(t, a, later, []byte("rewritten")); fleet.KindOf(err) != fleet.Denied {
		t.Errorf("a node rewrites what it said: %v", err)
	}
	if read(t, a, k) != "true" {
		t.Error("it is another")
	}
}

// Whatever a kill interrupts between a recording's last byte and its note, the next start leaves nothing that nobody counts, and
// the recording is taken again.
func TestKilledWhileNaming(t *testing.T) {
	data := []byte("what was recorded")
	k := copyOf("web", 1, data, now)
	dir := t.TempDir()
	folder := filepath.Join(dir, k.Note.Node.Text())
	id := k.Note.Session.ID.String()
	for name, left := range map[string][]string{
		"renamed":                {id + castSuffix},
		"with a note half there": {id + castSuffix, id + noteSuffix + newSuffix},
	} {
		if err := os.MkdirAll(folder, 0o700); err != nil {
			t.Fatal(err)
		}
		for _, file := range left {
			if err := os.WriteFile(filepath.Join(folder, file), data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		a := open(t, dir, DefaultRoom())
		if entries, err := os.ReadDir(folder); len(entries) > 0 {
			t.Errorf("%s: left %v %v", name, entries, err)
		}
		if err := put(t, a, k, data); err != nil || read(t, a, k) != string(data) {
			t.Errorf("%s: %v", name, err)
		}
		a.remove(key{k.Note.Node, k.Note.Session.ID})
	}
}

func TestNoRoom(t *testing.T) {
	free := int64(leastFree + 10)
	a, err := Open(Config{Dir: t.TempDir(), Now: func() time.Time { return now }, Free: func(string) (int64, error) { return free, nil },
		Room: func() Room { return Room{Bytes: 1 << 20, Count: 100, Age: time.Hour} }})
	if err != nil {
		t.Fatal(err)
	}
	if err := put(t, a, copyOf("web1", 1, make([]byte, 11), now), nil); fleet.KindOf(err) != fleet.Exhausted {
		t.Errorf("more than the disk has free: %v", err)
	}
	free *= 2
	if err := put(t, a, copyOf("web1", 1, make([]byte, 256<<10+1), now), nil); fleet.KindOf(err) != fleet.Exhausted {
		t.Errorf("a large part of all the room: %v", err)
	}
	if err := put(t, a, copyOf("web1", 1, make([]byte, 10), now.Add(-2*time.Hour)), nil); fleet.KindOf(err) != fleet.Expired {
		t.Errorf("an old one: %v", err)
	}
	var all []*Incoming
	for i := range byte(40) {
		in, err := a.Take(copyOf(string(rune('a'+i%20)), i, make([]byte, 1), now))
		if err == nil {
			all = append(all, in)
		}
	}
	if len(all) != atOnce {
		t.Errorf("%d come at a time", len(all))
	}
	for _, in := range all {
		in.Close()
	}
}

// The room is kept to, also over restarts, and what one node takes pushes out its own.
func TestPruned(t *testing.T) {
	dir := t.TempDir()
	room := Room{Bytes: 10 * (beside + 1000), Count: 100, Age: 24 * time.Hour}
	a := open(t, dir, room)
	data := make([]byte, 1000)
	for i := range byte(3) {
		if err := put(t, a, copyOf("web1", i, data, now.Add(-10*time.Hour)), data); err != nil {
			t.Fatal(err)
		}
	}
	for i := range byte(50) {
		if err := put(t, a, copyOf("greedy", 100+i, data, now.Add(time.Duration(i)*time.Second)), data); err != nil {
			t.Fatal(err)
		}
	}
	if got := sessionsIn(open(t, dir, room)); !bytes.Equal(got, []byte{0, 1, 2, 143, 144, 145, 146, 147, 148, 149}) {
		t.Errorf("kept: %v", got)
	}
	room.Age = time.Hour
	if got := sessionsIn(open(t, dir, room)); !bytes.Equal(got, []byte{143, 144, 145, 146, 147, 148, 149}) {
		t.Errorf("kept: %v", got)
	}
}

// On a busy node, one operator's many or large recordings push out nobody else's.
func TestOutdatedIsFair(t *testing.T) {
	busy, bob, ann := fleet.ID{1}, fleet.ID{2}, fleet.ID{3}
	all := []Held{{Node: busy, Session: fleet.UUID{1}, By: bob, Bytes: 10, Ended: now.Add(-time.Hour)}, {Node: busy, Session: fleet.UUID{2}, Bytes: 10, Ended: now, Part: true}}
	for i := range byte(20) {
		all = append(all, Held{Node: busy, Session: fleet.UUID{10 + i}, By: ann, Bytes: 1000, Ended: now.Add(-time.Duration(20-i) * time.Second)})
	}
	var got []byte
	for _, h := range (Room{Bytes: 1 << 30, Count: 19}).Outdated(all, now) {
		got = append(got, h.Session[0])
	}
	if !bytes.Equal(got, []byte{2, 10, 11}) {
		t.Errorf("%v go", got)
	}
}

func TestOutdated(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var all []Held
		for i := range rapid.IntRange(0, 30).Draw(t, "n") {
			all = append(all, Held{
				Node: fleet.ID{byte(rapid.IntRange(0, 3).Draw(t, "node"))}, By: fleet.ID{byte(rapid.IntRange(0, 2).Draw(t, "by"))}, Session: fleet.UUID{byte(i)}, Bytes: rapid.Int64Range(0, 50_000).Draw(t, "bytes"),
				Ended: now.Add(-time.Duration(rapid.IntRange(0, 200).Draw(t, "hours")) * time.Hour), Part: rapid.Bool().Draw(t, "part"),
			})
		}
		room := Room{Bytes: rapid.Int64Range(0, 1_000_000).Draw(t, "room"), Count: rapid.IntRange(0, 30).Draw(t, "count"), Age: time.Duration(rapid.IntRange(0, 100).Draw(t, "age")) * time.Hour}
		out := room.Outdated(all, now)
		gone := map[fleet.UUID]bool{}
		for _, h := range out {
			gone[h.Session] = true
		}
		var total int64
		size := map[fleet.ID]int64{}
		count := 0
		for _, h := range all {
			if gone[h.Session] {
				continue
			}
			if room.Age > 0 && now.Sub(h.Ended) > room.Age || h.Part && now.Sub(h.Ended) > partAge {
				t.Fatal("an old one stays")
			}
			total, count = total+h.weight(), count+1
			size[h.Node] += h.weight()
		}
		if total > room.Bytes || count > room.Count {
			t.Fatalf("%d bytes in %d files stay", total, count)
		}
		for _, h := range out {
			young := !room.tooOld(h, now)
			for id, n := range size { // what went of one was never less than what others have
				if young && id != h.Node && n > size[h.Node]+sumOf(out, h.Node) {
					t.Fatalf("%x has %d, and something of %x went", id[0], n, h.Node[0])
				}
			}
		}
	})
}

func sumOf(all []Held, id fleet.ID) (n int64) {
	for _, h := range all {
		if h.Node == id {
			n += h.weight()
		}
	}
	return n
}

func sizeOf(t testing.TB, dir string) (n int64) {
	t.Helper()
	files, err := filepath.Glob(dir + "/*/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range files {
		if info, err := os.Stat(path); err == nil {
			n += info.Size()
		}
	}
	return n
}

// breaks has a recording come but for its last byte.
func breaks(t testing.TB, a *Archive, k node.CopyKept, data []byte) {
	t.Helper()
	in, err := a.Take(k)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	if _, err := in.Write(data[:len(data)-1]); err != nil {
		t.Fatal(err)
	}
}

// What breaks off takes room as what is whole does, also after a restart, and goes when it is old, though nobody restarts.
func TestPartsTakeRoom(t *testing.T) {
	dir := t.TempDir()
	room := Room{Bytes: 1 << 20, Count: 100, Age: 24 * time.Hour}
	at := now
	reopen := func() *Archive {
		a, err := Open(Config{Dir: dir, Room: func() Room { return room }, Now: func() time.Time { return at }, Free: plenty})
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	a := reopen()
	if err := put(t, a, copyOf("web1", 1, []byte("one"), now), []byte("one")); err != nil {
		t.Fatal(err)
	}
	data := make([]byte, 200<<10)
	for i := range byte(40) {
		if i == 20 {
			a = reopen()
		}
		data[0] = i
		breaks(t, a, copyOf("greedy", 2+i, data, now), data)
		if n := sizeOf(t, dir); n > room.Bytes {
			t.Fatalf("%d bytes are kept, of %d", n, room.Bytes)
		}
	}
	if got := sessionsIn(a); !bytes.Equal(got, []byte{1}) {
		t.Errorf("kept: %v", got)
	}
	room.Age = 0
	at = time.Now().Add(partAge + time.Hour) // files have the true time
	a.Prune()
	if left, _ := filepath.Glob(dir + "/*/*" + partSuffix); len(left) != 0 {
		t.Errorf("%d parts are left", len(left))
	}
	if got := sessionsIn(a); !bytes.Equal(got, []byte{1}) {
		t.Errorf("kept: %v", got)
	}
}

// Who only says that much is to come, or filled the disk, makes way for those who take less.
func TestClaimsMakeWay(t *testing.T) {
	dir := t.TempDir()
	room := Room{Bytes: 1 << 20, Count: 100, Age: time.Hour}
	free := func(dir string) (int64, error) { return leastFree + 700<<10 - sizeOf(t, dir), nil }
	a, err := Open(Config{Dir: dir, Room: func() Room { return room }, Now: func() time.Time { return now }, Free: free})
	if err != nil {
		t.Fatal(err)
	}
	large := make([]byte, 250<<10)
	greedy, err := a.Take(copyOf("greedy", 1, large, now.Add(-time.Minute)))
	if err != nil {
		t.Fatal(err)
	}
	defer greedy.Close()
	also, err := a.Take(copyOf("greedy", 2, large, now))
	if err != nil {
		t.Fatal(err)
	}
	defer also.Close()
	if _, err := greedy.Write(large[:1000]); err != nil {
		t.Fatal(err)
	}
	for i := range byte(2) {
		if err := put(t, a, copyOf("web1", 10+i, large[:100<<10], now), large[:100<<10]); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := greedy.Write(large[:1000]); fleet.KindOf(err) != fleet.Exhausted {
		t.Errorf("the oldest goes on: %v", err)
	}
	if _, err := also.Write(large); err != nil {
		t.Error(err)
	}
	if err := also.Commit(); err != nil {
		t.Error(err)
	}
	if got := sessionsIn(a); !bytes.Equal(got, []byte{2, 10, 11}) {
		t.Errorf("kept: %v", got)
	}
	if _, err := a.Take(copyOf("greedy", 3, large, now.Add(-2*time.Minute))); fleet.KindOf(err) != fleet.Exhausted {
		t.Errorf("one that is older than all that it has: %v", err)
	}
	if err := put(t, a, copyOf("db1", 20, large[:100<<10], now), large[:100<<10]); err != nil {
		t.Error("a third node:", err)
	}
}

// What is listed comes the newest first, and one at a time.
func TestListedNewestFirst(t *testing.T) {
	a := open(t, t.TempDir(), DefaultRoom())
	for i := range byte(5) {
		key := authtest.Signer("web1")
		s := node.SessionState{ID: fleet.UUID{i}, Started: int64(10 + i%3), Ended: now.UnixMilli(), Recording: node.SessionRecording{Bytes: 1, Digest: sha256.Sum256([]byte{i})}}
		note := node.NoteOf(s, key.ID())
		k := node.CopyKept{Copy: node.SessionCopy{Key: key.Public(), Note: key.Sign(auth.ForRecording, fleet.ID{}, note)}, Note: note}
		if err := put(t, a, k, []byte{i}); err != nil {
			t.Fatal(err)
		}
	}
	var got []byte
	for k := range a.List(fleet.UUID{}) {
		if got = append(got, k.Note.Session.ID[0]); len(got) == 1 { // what goes meanwhile is not read
			a.mu.Lock()
			a.remove(key{k.Note.Node, fleet.UUID{1}})
			a.mu.Unlock()
		}
	}
	if !bytes.Equal(got, []byte{2, 4, 0, 3}) {
		t.Errorf("%v", got)
	}
}
