package quorum

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/hashicorp/raft"
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
	noted := s.mark.now
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
	found, err := examineLog(path)
	if err != nil || found.first != 101 || found.last != 290 || found.after != 101 || found.tx != noted.Tx {
		t.Fatalf("%+v %v, mark %+v", found, err, noted)
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
