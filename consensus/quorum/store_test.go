package quorum

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/raft"
	"go.etcd.io/bbolt"
)

func newStore(t testing.TB) (*store, string) {
	t.Helper()
	dir := t.TempDir()
	m, err := createMark(filepath.Join(dir, "mark"), 1)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "raft.db")
	s, err := openStore(path, m, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return s, path
}

func fill(t testing.TB, s *store, from, to uint64) {
	t.Helper()
	for index := from; index <= to; index++ {
		entry := &raft.Log{Index: index, Term: 1, Data: fmt.Appendf(nil, "entry number %d", index)}
		if err := s.StoreLog(entry); err != nil {
			t.Fatal(err)
		}
	}
}

func TestStore(t *testing.T) {
	s, path := newStore(t)
	if first, _ := s.FirstIndex(); first != 0 {
		t.Fatal(first)
	}
	fill(t, s, 1, 300)
	if err := s.DeleteRange(1, 100); err != nil {
		t.Fatal(err)
	}
	if err := s.DeleteRange(291, 300); err != nil {
		t.Fatal(err)
	}
	first, _ := s.FirstIndex()
	last, _ := s.LastIndex()
	if first != 101 || last != 290 {
		t.Fatalf("%d to %d", first, last)
	}
	var entry raft.Log
	if err := s.GetLog(100, &entry); err != raft.ErrLogNotFound {
		t.Fatal(err)
	}
	if err := s.GetLog(200, &entry); err != nil || string(entry.Data) != "entry number 200" || len(entry.Extensions) != sealSize {
		t.Fatalf("%+v %v", entry, err)
	}
	if n := s.trailing(); n != 190 {
		t.Fatal(n)
	}
	if v, err := s.Get([]byte("none")); v != nil || err != nil {
		t.Fatal(v, err)
	}
	if err := s.SetUint64([]byte("CurrentTerm"), 7); err != nil {
		t.Fatal(err)
	}
	if v, err := s.GetUint64([]byte("CurrentTerm")); v != 7 || err != nil {
		t.Fatal(v, err)
	}
	damaged := &raft.Log{Index: 291, Term: 1, Data: []byte("x"), Extensions: make([]byte, sealSize)}
	if s.StoreLog(damaged) == nil {
		t.Fatal("an entry with a wrong seal was stored")
	}
	if err := s.DeleteRange(900, 901); err != nil { // commits nothing, and still has a number
		t.Fatal(err)
	}
	noted := s.mark.now
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
	found, err := examineLog(path)
	if err != nil || found.first != 101 || found.last != 290 || found.after != 101 || found.tx != noted.Tx {
		t.Fatalf("%+v %v, mark %+v", found, err, noted)
	}
}

// The mark never lags behind a commit, nor runs ahead of one: with a lag, the newest transaction could vanish unnoticed;
// ahead, a sound replica would be given up.
func TestMarkIsExact(t *testing.T) {
	s, path := newStore(t)
	for index := uint64(1); index <= 40; index++ {
		fill(t, s, index, index)
		if index%4 == 0 {
			if err := errors.Join(s.SetUint64([]byte("CurrentTerm"), index), s.DeleteRange(index-3, index-2)); err != nil {
				t.Fatal(err)
			}
		}
		if index%10 != 0 {
			continue
		}
		noted := s.mark.now
		if err := s.close(); err != nil {
			t.Fatal(err)
		}
		db, err := bbolt.Open(path, 0o600, boltOptions(true))
		if err != nil {
			t.Fatal(err)
		}
		tx, err := db.Begin(false)
		if err != nil || uint64(tx.ID()) != noted.Tx {
			t.Fatalf("the mark says %d, bbolt %d, %v", noted.Tx, tx.ID(), err)
		}
		m, _, err := openMark(s.mark.file.Name())
		if err := errors.Join(err, tx.Rollback(), db.Close()); err != nil {
			t.Fatal(err)
		}
		if s, err = openStore(path, m, s.log); err != nil {
			t.Fatal(err)
		}
		if m.now.Tx != noted.Tx+1 {
			t.Fatalf("opening went from %d to %d", noted.Tx, m.now.Tx)
		}
	}
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
}

// A commit whose sync fails may be in the file all the same: it is not marked, and not forgotten by the next mark.
func TestMarkAfterFailedSync(t *testing.T) {
	s, _ := newStore(t)
	defer s.close()
	before := s.mark.now.Tx
	failed := errors.New("sync failed")
	err := s.write(func() error { return errors.Join(s.bolt.Set([]byte("name"), []byte("value")), failed) })
	if !errors.Is(err, failed) || s.mark.now.Tx != before {
		t.Fatalf("%v, mark at %d after %d", err, s.mark.now.Tx, before)
	}
	fill(t, s, 1, 1)
	if s.mark.now.Tx != before+2 {
		t.Fatalf("mark at %d, the file at %d", s.mark.now.Tx, before+2)
	}
}

func TestDamagedMetaPageIsNotBelieved(t *testing.T) {
	s, path := newStore(t)
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if tx, err := newestTx(bytes.NewReader(file)); tx != 2 || err != nil {
		t.Fatal(tx, err)
	}
	for page := range 2 {
		for at := range metaBytes {
			broken := bytes.Clone(file)
			broken[page*os.Getpagesize()+metaHeader+at] ^= 1
			if tx, err := newestTx(bytes.NewReader(broken)); err == nil {
				t.Errorf("page %d, byte %d: read transaction %d", page, at, tx)
			}
		}
	}
}

func TestMissingBucketIsDamage(t *testing.T) {
	for _, name := range []string{bucketLog, bucketStable} {
		s, path := newStore(t)
		if err := s.close(); err != nil {
			t.Fatal(err)
		}
		if _, err := examineLog(path); err != nil {
			t.Fatal(err)
		}
		db, err := bbolt.Open(path, 0o600, boltOptions(false))
		if err != nil {
			t.Fatal(err)
		}
		err = db.Update(func(tx *bbolt.Tx) error { return tx.DeleteBucket([]byte(name)) })
		if err := errors.Join(err, db.Close()); err != nil {
			t.Fatal(err)
		}
		if _, err := examineLog(path); !errors.As(err, new(damaged)) {
			t.Errorf("without %s: %v", name, err)
		}
	}
	empty := filepath.Join(t.TempDir(), "raft.db") // as a crash leaves it that comes before the buckets
	db, err := bbolt.Open(empty, 0o600, boltOptions(false))
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	if found, err := examineLog(empty); err != nil || found.tx != 1 {
		t.Fatal(found, err)
	}
}

// raft-boltdb deletes while its cursor walks.
func TestDeleteRangeLeavesNothing(t *testing.T) {
	s, _ := newStore(t)
	defer s.close()
	var batch []*raft.Log
	for index := uint64(1); index <= 3000; index++ {
		batch = append(batch, &raft.Log{Index: index, Term: 1, Data: make([]byte, index%700)})
	}
	if err := s.StoreLogs(batch); err != nil {
		t.Fatal(err)
	}
	for _, gone := range [][2]uint64{{2990, 3000}, {1, 1}, {2, 1999}, {2500, 2989}} {
		if err := s.DeleteRange(gone[0], gone[1]); err != nil {
			t.Fatal(err)
		}
	}
	var entry raft.Log
	for index := uint64(1); index <= 3000; index++ {
		kept := index >= 2000 && index < 2500
		if err := s.GetLog(index, &entry); (err == nil) != kept {
			t.Fatalf("entry %d: %v", index, err)
		}
	}
}

func TestTrailingIsBoundedByBytes(t *testing.T) {
	s, _ := newStore(t)
	defer s.close()
	for index := uint64(1); index <= 80; index++ {
		if err := s.StoreLog(&raft.Log{Index: index, Term: 1, Data: make([]byte, 256<<10)}); err != nil {
			t.Fatal(err)
		}
	}
	if n := s.trailing(); n < 60 || n > 64 {
		t.Fatalf("%d entries of 256 KiB in %d bytes", n, trailingBytes)
	}
}

// Whatever is done to the file: examineLog returns, and says so wherever an entry would read differently.
func TestExamineSurvivesAnyDamage(t *testing.T) {
	s, path := newStore(t)
	fill(t, s, 1, 200)
	if err := s.SetUint64([]byte("CurrentTerm"), 1); err != nil {
		t.Fatal(err)
	}
	noted := s.mark.now
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(1, 2))
	noticed := 0
	for range 300 {
		bad := append([]byte(nil), good...)
		switch random.IntN(3) {
		case 0:
			bad[random.IntN(len(bad))] ^= 1 << random.IntN(8)
		case 1:
			at := random.IntN(len(bad) / 4096)
			clear(bad[at*4096 : (at+1)*4096])
		case 2:
			bad = bad[:random.IntN(len(bad))]
		}
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		found, err := examineLog(path)
		if err == nil {
			err = consistent(found, 0, noted, 1)
		}
		if err != nil {
			noticed++
			continue
		}
		if found.first != 1 || found.last != 200 {
			t.Fatalf("damage to the file went unnoticed: %+v", found)
		}
	}
	t.Logf("%d of 300 hits mattered", noticed)
}

// What the log has grown by since the last snapshot is known after a start, too: else a server that starts often would never
// take one by bytes.
func TestGrownSurvivesRestart(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fabric) {
		const limit = 1 << 20
		small := func(c *Config) { c.SnapshotBytes = limit }
		x := f.grow(1, 0, small)[0]
		text := strings.Repeat("x", 100<<10)
		for life := range 3 {
			before := x.store.grown.Load()
			for i := range 4 {
				f.propose(x, fmt.Sprint(life, i, text))
			}
			grown := x.store.grown.Load()
			if grown < before+400<<10 || grown > limit {
				if life < 2 {
					t.Fatalf("grown from %d to %d bytes", before, grown)
				}
				break
			}
			f.stop(x)
			x = f.start(1, small)
			if again := x.store.grown.Load(); again < grown || again > grown+4096 {
				t.Fatalf("after a start %d bytes behind the snapshot, before it %d", again, grown)
			}
			f.until("it leads", func() bool { return x.Status().Leader == x.id })
		}
		f.until("a snapshot is taken", func() bool {
			found, _ := filepath.Glob(filepath.Join(snapshotDir(x.dir), "*", checkFile))
			return len(found) > 0 && x.store.grown.Load() < limit
		})
		f.propose(x, "behind the snapshot")
		grown := x.store.grown.Load()
		f.stop(x)
		x = f.start(1, small)
		if again := x.store.grown.Load(); again < grown || again > grown+4096 {
			t.Fatalf("%d bytes behind a snapshot, before the start %d", again, grown)
		}
	})
}
