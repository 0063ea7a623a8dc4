package quorum

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"

	"github.com/muster-fleet/muster/node/fleet"
)

func TestSeal(t *testing.T) {
	entry := func() raft.Log { return raft.Log{Index: 7, Term: 3, Type: raft.LogNoop, Data: []byte("data")} }
	whole := entry()
	if err := sealed(&whole); err != nil || len(whole.Extensions) != sealSize {
		t.Fatal(whole, err)
	}
	for name, change := range map[string]func(*raft.Log){
		"index":   func(e *raft.Log) { e.Index++ },
		"term":    func(e *raft.Log) { e.Term++ },
		"type":    func(e *raft.Log) { e.Type = raft.LogCommand },
		"data":    func(e *raft.Log) { e.Data = []byte("Data") },
		"no data": func(e *raft.Log) { e.Data = nil },
		"format":  func(e *raft.Log) { e.Extensions[0]++ },
		"seal":    func(e *raft.Log) { e.Extensions[sealSize-1]++ },
	} {
		broken := entry()
		broken.Extensions = bytes.Clone(whole.Extensions)
		if err := sealed(&broken); err != nil {
			t.Fatal(err)
		}
		change(&broken)
		if sealed(&broken) == nil {
			t.Errorf("%s: an entry that arrived damaged was taken", name)
		}
	}
}

// Flips every bit of a stored entry: it is refused, or reads as it was.
func TestEveryFlippedBitOfAnEntry(t *testing.T) {
	s, path := newStore(t)
	entry := func(index uint64) *raft.Log {
		return &raft.Log{Index: index, Term: 3, Data: []byte("data"), AppendedAt: time.Unix(5, 6)}
	}
	const most = 8 * 200 // bits
	for index := uint64(1); index <= most; index++ {
		if index%100 == 1 {
			var batch []*raft.Log
			for i := range uint64(100) {
				batch = append(batch, entry(index+i))
			}
			if err := s.StoreLogs(batch); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
	bits := 0
	rewrite(t, path, func(index uint64, record []byte) []byte {
		bits = max(bits, 8*len(record))
		bit := int(index) - 1
		if bit >= 8*len(record) {
			return record
		}
		broken := bytes.Clone(record)
		broken[bit/8] ^= 1 << (bit % 8)
		return broken
	})
	if bits > most || bits/8 > entryHead+8 {
		t.Fatalf("an entry has %d bytes", bits/8)
	}
	m, _, err := openMark(filepath.Join(filepath.Dir(path), "mark"))
	if err != nil {
		t.Fatal(err)
	}
	s, err = openStore(path, m, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	unnoticed := 0
	got := raft.Log{Term: 3, Data: []byte("data"), Extensions: []byte("of another entry")}
	for index := uint64(1); index <= uint64(bits); index++ {
		if err := s.GetLog(index, &got); err != nil {
			continue
		}
		unnoticed++
		want := entry(index)
		if got.Index != index || got.Term != want.Term || got.Type != want.Type || !bytes.Equal(got.Data, want.Data) {
			t.Errorf("a flipped bit %d in byte %d went unnoticed: %+v", (index-1)%8, (index-1)/8, got)
		}
	}
	if unnoticed > 8*(len("AppendedAt")+1+17) { // it is for people
		t.Errorf("%d of %d flipped bits went unnoticed", unnoticed, bits)
	}
}

// rewrite changes stored entries behind the store's back.
func rewrite(t testing.TB, path string, change func(index uint64, record []byte) []byte) {
	t.Helper()
	options := boltOptions(false)
	options.NoSync = true
	db, err := bbolt.Open(path, 0o600, options)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		bucket := tx.Bucket([]byte(bucketLog))
		changed := map[string][]byte{}
		_ = bucket.ForEach(func(k, record []byte) error {
			changed[string(k)] = change(binary.BigEndian.Uint64(k), record)
			return nil
		})
		for k, record := range changed {
			if err := bucket.Put([]byte(k), record); err != nil {
				return err
			}
		}
		return nil
	})
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
}

// An entry at another's index is none, though its seal is right.
func TestMisplacedEntry(t *testing.T) {
	s, path := newStore(t)
	fill(t, s, 1, 2)
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
	var other []byte
	rewrite(t, path, func(index uint64, record []byte) []byte {
		if index == 1 {
			other = bytes.Clone(record)
		}
		return record
	})
	rewrite(t, path, func(_ uint64, _ []byte) []byte { return other })
	if _, err := examineLog(path); err == nil || !strings.Contains(err.Error(), "log entry 2") {
		t.Fatal(err)
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
	s, path := newStore(t)
	if err := errors.Join(s.StoreLog(&entry), s.close()); err != nil {
		t.Fatal(err)
	}
	var stored []byte
	rewrite(t, path, func(_ uint64, record []byte) []byte {
		stored = bytes.Clone(record)
		return record
	})
	for name, c := range map[string]struct {
		got  []byte
		want string
	}{
		"batch":  {entry.Data, "0192c40161c40162"},
		"hello":  {hello{to: 1, from: 2}.encode(), "0100000000000000010000000000000002"},
		"seal":   {entry.Extensions, "011331ea9b4337694bab77eff57d3645ef"},
		"entry":  {stored, "86aa417070656e6465644174af01000000000000000000000000ffffa444617461a80192c40161c40162aa457874656e73696f6e73b1011331ea9b4337694bab77eff57d3645efa5496e64657801a45465726d02a45479706500"},
		"stable": {encodeStable([]byte("CurrentTerm"), []byte{7}), "f36ec68fc3912c5a2f48bec79609bff607"},
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

func FuzzReadEntry(f *testing.F) {
	s, good := newStore(f)
	fill(f, s, 1, 1)
	if err := s.close(); err != nil {
		f.Fatal(err)
	}
	rewrite(f, good, func(_ uint64, record []byte) []byte {
		f.Add(bytes.Clone(record))
		return record
	})
	f.Add([]byte{0x81, 0xa4, 'D', 'a', 't', 'a', 0xc6, 0xff, 0xff, 0xff, 0xff})
	f.Add([]byte{})
	file, err := os.ReadFile(good)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(t.TempDir(), "raft.db")
		if err := os.WriteFile(path, file, 0o600); err != nil {
			t.Fatal(err)
		}
		rewrite(t, path, func(uint64, []byte) []byte { return data })
		bolt, err := raftboltdb.New(raftboltdb.Options{Path: path, BoltOptions: boltOptions(true)})
		if err != nil {
			t.Fatal(err)
		}
		defer bolt.Close()
		var got raft.Log
		if readEntry(bolt, 1, &got) == nil && (got.Index != 1 || !bytes.Equal(got.Extensions, seal(&got))) {
			t.Fatal("an entry without its seal was read")
		}
	})
}

func FuzzReadMeta(f *testing.F) {
	s, path := newStore(f)
	if err := s.close(); err != nil {
		f.Fatal(err)
	}
	file, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	size := os.Getpagesize()
	pages := [2][]byte{file[:metaHeader+metaBytes], file[size : size+metaHeader+metaBytes]}
	f.Add(pages[0], pages[1], uint16(0))
	f.Add(pages[1], pages[0], uint16(500))
	f.Add(pages[0], []byte{}, uint16(1))
	f.Add([]byte{}, pages[1], uint16(2))
	f.Fuzz(func(t *testing.T, first, second []byte, flip uint16) {
		data := make([]byte, 2*size)
		copy(data[:size], first)
		copy(data[size:], second)
		tx, err := newestTx(bytes.NewReader(data))
		if err != nil {
			return
		}
		_, pageSize, _ := readMeta(bytes.NewReader(data), 0)
		for _, page := range []int64{0, int64(pageSize)} {
			if of, _, err := readMeta(bytes.NewReader(data), page); err != nil || of > tx {
				t.Fatalf("transaction %d in page %d is newer than the newest, %d", of, page, tx)
			}
		}
		data[metaHeader+int(flip)/8%metaBytes] ^= 1 << (flip % 8)
		if _, err := newestTx(bytes.NewReader(data)); err == nil {
			t.Fatalf("bit %d may change", flip)
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
