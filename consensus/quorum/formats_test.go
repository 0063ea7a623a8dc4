package quorum

import (
	"bytes"
	"encoding/hex"
	"slices"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/muster-fleet/muster/node/fleet"
)

func TestRecord(t *testing.T) {
	entry := raft.Log{Index: 7, Term: 3, Type: raft.LogCommand, Data: []byte("data"), AppendedAt: time.Unix(5, 6)}
	if err := sealed(&entry); err != nil {
		t.Fatal(err)
	}
	record := encodeRecord(&entry)
	var got raft.Log
	if err := decodeRecord(7, record, &got); err != nil {
		t.Fatal(err)
	}
	if got.Term != 3 || string(got.Data) != "data" || !got.AppendedAt.Equal(entry.AppendedAt) {
		t.Fatalf("%+v", got)
	}
	if decodeRecord(8, record, &got) == nil {
		t.Error("an entry was read at another's index")
	}
	for i := range record {
		if i >= 10 && i < 18 {
			continue // AppendedAt is for people
		}
		broken := bytes.Clone(record)
		broken[i] ^= 0x10
		if decodeRecord(7, broken, &got) == nil {
			t.Errorf("a flipped bit in byte %d went unnoticed", i)
		}
	}
	entry.Data = []byte("Data")
	if sealed(&entry) == nil {
		t.Error("an entry that arrived damaged was taken")
	}
}

func TestStableValue(t *testing.T) {
	record := encodeStable([]byte("CurrentTerm"), []byte{0, 0, 0, 0, 0, 0, 0, 9})
	if v, err := decodeStable([]byte("CurrentTerm"), record); err != nil || v[7] != 9 {
		t.Fatal(v, err)
	}
	if _, err := decodeStable([]byte("LastVoteTerm"), record); err == nil {
		t.Error("a value was read under another name")
	}
	record[len(record)-1] ^= 1
	if _, err := decodeStable([]byte("CurrentTerm"), record); err == nil {
		t.Error("a flipped bit went unnoticed")
	}
}

func TestMarkSurvivesTornSlot(t *testing.T) {
	file := make([]byte, 2*markSlot)
	copy(file, marking{Incarnation: 1, Tx: 5}.encode())
	copy(file[markSlot:], marking{Incarnation: 1, Tx: 6, Snapshot: 2}.encode())
	if m, ok := newest(file); !ok || m.Tx != 6 || m.Snapshot != 2 {
		t.Fatal(m, ok)
	}
	file[markSlot+20] ^= 1
	if m, ok := newest(file); !ok || m.Tx != 5 {
		t.Fatal(m, ok)
	}
	file[20] ^= 1
	if _, ok := newest(file); ok {
		t.Fatal("a mark was read from two damaged slots")
	}
}

func TestConsistent(t *testing.T) {
	for name, c := range map[string]struct {
		found    findings
		snapshot uint64
		noted    marking
		good     bool
	}{
		"new":                                {findings{tx: 2}, 0, marking{Incarnation: 1, Tx: 2}, true},
		"log from the first entry":           {findings{tx: 9, first: 1, last: 5}, 0, marking{Incarnation: 1, Tx: 9}, true},
		"mark behind after a power cut":      {findings{tx: 9, first: 1, last: 5}, 0, marking{Incarnation: 1, Tx: 7}, true},
		"rolled back":                        {findings{tx: 6, first: 1, last: 3}, 0, marking{Incarnation: 1, Tx: 7}, false},
		"another replica's mark":             {findings{tx: 9}, 0, marking{Incarnation: 2, Tx: 7}, false},
		"log behind a snapshot":              {findings{tx: 9, first: 4, last: 8, after: 4}, 3, marking{Incarnation: 1, Snapshot: 3}, true},
		"a gap behind the snapshot":          {findings{tx: 9, first: 5, last: 8, after: 5}, 3, marking{Incarnation: 1, Snapshot: 3}, false},
		"a gap below a received snapshot":    {findings{tx: 9, first: 1, last: 12, after: 11}, 10, marking{Incarnation: 1, Snapshot: 10}, true},
		"only old entries below a snapshot":  {findings{tx: 9, first: 4, last: 8, after: 4}, 20, marking{Incarnation: 1, Snapshot: 20}, true},
		"no snapshot, the log begins late":   {findings{tx: 9, first: 4, last: 8, after: 4}, 0, marking{Incarnation: 1}, false},
		"the newest snapshot is gone":        {findings{tx: 9, first: 1, last: 8}, 0, marking{Incarnation: 1, Snapshot: 20}, false},
		"it is gone, the log has everything": {findings{tx: 9, first: 1, last: 20}, 0, marking{Incarnation: 1, Snapshot: 20}, true},
	} {
		if err := consistent(c.found, c.snapshot, c.noted, 1); (err == nil) != c.good {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAfterLoss(t *testing.T) {
	self := rid(1)
	for name, c := range map[string]struct {
		id   identity
		want loss
	}{
		"never had a configuration":   {identity{}, startEmpty},
		"one of three":                {identity{}.with(9, []Replica{rid(1), rid(2), rid(3)}), startEmpty},
		"a spare":                     {identity{}.with(9, []Replica{rid(2)}), startEmpty},
		"the only voter":              {identity{}.with(9, []Replica{rid(1)}), refuse},
		"about to be the first":       {identity{}.with(0, []Replica{rid(1)}), refuse},
		"only it, as another replica": {identity{}.with(9, []Replica{{ID: self.ID, Incarnation: 5}}), refuse},
	} {
		if got := c.id.afterLoss(self.ID); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

func TestReplicaText(t *testing.T) {
	r := Replica{ID: fleet.Sum([]byte("x")), Incarnation: 1_700_000_000}
	if got, err := parseReplica(r.text()); err != nil || got != r {
		t.Fatal(got, err)
	}
	for _, bad := range []string{"", r.ID.Text(), r.ID.Text() + "/", r.ID.Text() + "/07", r.ID.Text() + "/-1", "x/1"} {
		if _, err := parseReplica(bad); err == nil {
			t.Errorf("%q names a replica", bad)
		}
	}
}

func TestNextIncarnation(t *testing.T) {
	for _, c := range []struct {
		previous uint64
		now      int64
		want     uint64
	}{{0, 1000, 1000}, {1000, 1000, 1001}, {5000, 1000, 5001}, {0, -5, 1}, {7, 0, 8}} {
		if got := nextIncarnation(c.previous, c.now); got != c.want {
			t.Errorf("after %d at %d: %d, want %d", c.previous, c.now, got, c.want)
		}
	}
}

func TestListens(t *testing.T) {
	for _, c := range []struct {
		configured, member, eligible bool
		silent                       time.Duration
		want                         bool
	}{
		{true, true, false, 0, true},
		{true, false, true, 0, false},
		{true, false, true, strangerAfter - 1, false},
		{true, false, true, strangerAfter, true},
		{true, false, false, time.Hour, false},
		{false, false, true, 0, true},
		{false, false, false, time.Hour, false},
	} {
		if got := listens(c.configured, c.member, c.eligible, c.silent); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

func TestFits(t *testing.T) {
	for name, c := range map[string]struct {
		sizes []int
		want  int
	}{
		"none":                  {nil, 0},
		"one over the limit":    {[]int{MaxItem, 1}, 1},
		"up to the limit":       {[]int{batchBytes / 2, batchBytes / 2, 1}, 2},
		"small ones go at once": {slices.Repeat([]int{1}, 100), 100},
		"no more than so many":  {slices.Repeat([]int{1}, batchItems+1), batchItems},
	} {
		if got := fits(func(i int) int { return c.sizes[i] }, len(c.sizes)); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}

func TestPokeDelay(t *testing.T) {
	if d := pokeDelay(time.Second, 2*time.Second, 100*time.Millisecond, false); d != 1100*time.Millisecond {
		t.Error(d)
	}
	if d := pokeDelay(3*time.Second, 2*time.Second, 0, false); d > 0 {
		t.Error(d)
	}
	if d := pokeDelay(0, 2*time.Second, time.Second, true); d != 0 {
		t.Error(d)
	}
}

// The formats on wire and disk do not change by accident.
func TestGoldenFormats(t *testing.T) {
	entry := raft.Log{Index: 1, Term: 2, Type: raft.LogCommand, Data: encodeBatch([][]byte{[]byte("a"), []byte("b")})}
	if err := sealed(&entry); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		got  []byte
		want string
	}{
		"batch":  {entry.Data, "0192c40161c40162"},
		"hello":  {hello{to: 1, from: 2}.encode(), "0100000000000000010000000000000002"},
		"record": {encodeRecord(&entry)[:18], "010000000000000002000000000000000000"},
	} {
		if got := hex.EncodeToString(c.got); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

func FuzzDecodeBatch(f *testing.F) {
	f.Add(encodeBatch([][]byte{[]byte("a"), {}, []byte("b")}))
	f.Add([]byte{1, 0xdd, 0xff, 0xff, 0xff, 0xff})
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		items, err := decodeBatch(data)
		if err == nil && !bytes.Equal(encodeBatch(items), data) {
			t.Fatal("two encodings of one batch")
		}
	})
}

func FuzzDecodeHello(f *testing.F) {
	f.Add(hello{to: 1, from: 2}.encode())
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		if h, err := decodeHello(data); err == nil && !bytes.Equal(h.encode(), data) {
			t.Fatal("two encodings of one hello")
		}
	})
}

func FuzzDecodeRecord(f *testing.F) {
	entry := raft.Log{Index: 1, Term: 2, Data: []byte("x")}
	_ = sealed(&entry)
	f.Add(uint64(1), encodeRecord(&entry))
	f.Add(uint64(0), []byte{1})
	f.Fuzz(func(t *testing.T, index uint64, data []byte) {
		var got raft.Log
		if decodeRecord(index, data, &got) == nil && !bytes.Equal(got.Extensions, seal(&got)) {
			t.Fatal("an entry without its seal was read")
		}
	})
}

func FuzzDecodeIdentity(f *testing.F) {
	f.Add(identity{Format: 1, Incarnation: 1}.with(3, []Replica{rid(1)}).encode())
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		if i, err := decodeIdentity(data); err == nil && !bytes.Equal(i.encode(), data) {
			t.Fatal("two encodings of one identity")
		}
	})
}

func FuzzDecodeMarking(f *testing.F) {
	f.Add(marking{1, 2, 3}.encode())
	f.Add([]byte(markMagic))
	f.Fuzz(func(t *testing.T, data []byte) {
		if m, ok := decodeMarking(data); ok && !bytes.Equal(m.encode(), data[:markSize]) {
			t.Fatal("two encodings of one mark")
		}
	})
}

func FuzzParseReplica(f *testing.F) {
	f.Add(rid(1).text())
	f.Add("x/1")
	f.Fuzz(func(t *testing.T, text string) {
		if r, err := parseReplica(text); err == nil && r.text() != text {
			t.Fatal("two spellings of one replica")
		}
	})
}
