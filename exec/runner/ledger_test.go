package runner

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node/fleet"
)

// countedFile counts syncs, and breaks on request.
type countedFile struct {
	file
	syncs *atomic.Int64
	hold  func() // runs before a sync
	fail  *atomic.Pointer[error]
}

func (f countedFile) Datasync() error {
	f.syncs.Add(1)
	if f.hold != nil {
		f.hold()
	}
	if f.fail != nil && f.fail.Load() != nil {
		return *f.fail.Load()
	}
	return f.file.Datasync()
}

func TestConcurrentStartsShareSyncs(t *testing.T) {
	t.Parallel()
	var syncs atomic.Int64
	release := make(chan struct{})
	cfg := Config{MaxRunning: 64, wrap: func(f file) file {
		return countedFile{file: f, syncs: &syncs, hold: func() { <-release }}
	}}
	h := open(t, cfg)
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if err := h.Start(t.Context(), spec("sleep", "1000")); err != nil {
				t.Error(err)
			}
		})
	}
	// The first sync is held until all others are on their way to the next.
	until(t, "all starts wait", func() bool { return h.Ledger().Running() == 50 })
	close(release)
	wg.Wait()
	starts := syncs.Load()
	// 50 records of about 150 bytes take two pages; the first sync, and a late start or two, come on top.
	if starts > 10 {
		t.Errorf("50 starts took %d syncs", starts)
	}
	for _, st := range h.Ledger().Since(time.Time{}) {
		if err := h.Cancel(st.Command); err != nil {
			t.Error(err)
		}
	}
	for range 50 {
		wantStatus(t, await(h, func(Ended) bool { return true }).Result, exec.Cancelled)
	}
	t.Logf("50 starts: %d syncs", starts)
}

func TestFailedSyncStopsEverything(t *testing.T) {
	t.Parallel()
	var syncs atomic.Int64
	var fail atomic.Pointer[error]
	cfg := Config{wrap: func(f file) file { return countedFile{file: f, syncs: &syncs, fail: &fail} }}
	h := open(t, cfg)
	broken := error(unix.EIO)
	fail.Store(&broken)
	s := spec("true")
	if err := h.Start(t.Context(), s); !Crossed(err) || !errors.Is(err, unix.EIO) {
		t.Fatalf("a start whose sync failed: %v", err)
	}
	fail.Store(nil) // a disk that claims to be well again is not believed
	if err := h.Start(t.Context(), spec("true")); err == nil || Crossed(err) {
		t.Fatalf("a start after a failed sync: %v", err)
	}
	if h.Refuse(newID(), fleet.ID{}, "", "") == nil {
		t.Fatal("a failed ledger takes records")
	}
	h.cfg.wrap = nil
	h = h.reopen()
	wantStatus(t, h.ended(s.Command), exec.Unknown) // it reached the disk after all, and was never launched
}

// writeTestLedger makes a ledger of so many commands, each started and ended, and returns the folder.
func writeTestLedger(t *testing.T, commands int) (string, []exec.Record) {
	t.Helper()
	dir := t.TempDir()
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC) // fixed: a sum that happens to end in zeros looks whole when torn
	var records []exec.Record
	for i := range commands {
		id := fleet.UUID{15: byte(i + 1)}
		records = append(records, exec.StartedRecord{Command: id, Issued: now, Expires: now.Add(time.Hour), BootID: "boot", Time: now},
			exec.EndedRecord{Command: id, Status: exec.Success, Time: now})
	}
	raw, _, err := writeLedger(filepath.Join(dir, ledgerName), header{ID: fleet.Sum(nil), Created: now, Capacity: 16 << 10}, records)
	if err != nil {
		t.Fatal(err)
	}
	raw.Close()
	return dir, records
}

func scanBytes(data []byte) (scanned, error) { return scan(bytes.NewReader(data), int64(len(data))) }

func ledgerBytes(t *testing.T, dir string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, ledgerName))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestScanReadsWhatWasWritten(t *testing.T) {
	dir, want := writeTestLedger(t, 20)
	s, err := scanBytes(ledgerBytes(t, dir))
	if err != nil || !reflect.DeepEqual(s.Records, want) || s.Torn != 0 || s.End != s.Mark.End || s.Chain != s.Mark.Chain {
		t.Fatalf("%v: %d records of %d, %+v", err, len(s.Records), len(want), s.Mark)
	}
	if s.End < 2*pageSize {
		t.Fatal("the records fit in one page: the test is too small")
	}
}

// Every flipped bit is an error that says where, or harmless: nothing that was recorded is ever missing or different.
func TestEveryFlipIsNoticed(t *testing.T) {
	dir, want := writeTestLedger(t, 20)
	data := ledgerBytes(t, dir)
	noticed := 0
	const stride = 3 // every record has far more bytes
	for at := 0; at < len(data); at += stride {
		bad := bytes.Clone(data)
		bad[at] ^= 1 << (at % 8)
		s, err := scanBytes(bad)
		var where *damage
		switch {
		case errors.As(err, &where):
			noticed++
		case err != nil:
			t.Fatal(err)
		case !reflect.DeepEqual(s.Records, want):
			t.Fatalf("byte %d flipped: %d records of %d, and no error", at, len(s.Records), len(want))
		}
	}
	s, _ := scanBytes(data)
	if least := (int(s.End) - pageSize) / stride; noticed < least {
		t.Fatalf("%d flips noticed, %d bytes of records were hit", noticed, least)
	}
}

func TestTruncationIsNoticed(t *testing.T) {
	dir, _ := writeTestLedger(t, 20)
	data := ledgerBytes(t, dir)
	for n := 0; n < len(data); n += 64 {
		if _, err := scanBytes(data[:n]); err == nil {
			t.Fatalf("cut to %d bytes: no error", n)
		}
		zeroed := append(bytes.Clone(data[:n]), make([]byte, len(data)-n)...)
		s, _ := scanBytes(data)
		if _, err := scanBytes(zeroed); err == nil && n < int(s.End) {
			t.Fatalf("zeroed from byte %d on: no error", n)
		}
	}
	if _, err := scanBytes(append(data, make([]byte, pageSize)...)); err == nil {
		t.Fatal("grown by a page: no error")
	}
}

// A batch that was never synced may be there in any part: it is cut off, and nothing before it.
func TestTornAppendIsCutOff(t *testing.T) {
	dir, want := writeTestLedger(t, 20)
	data := ledgerBytes(t, dir)
	s, err := scanBytes(data)
	if err != nil {
		t.Fatal(err)
	}
	var batch []byte
	chain := s.Chain
	for i := range 3 {
		var more []byte
		more, chain = exec.AppendRecord(nil, chain, exec.CancelledRecord{Command: fleet.UUID{byte(i), 1}, Time: time.Unix(1, 0)})
		batch = append(batch, more...)
	}
	at := place(s.End, len(batch))
	for n := range batch {
		torn := bytes.Clone(data)
		copy(torn[at:], batch[:n])
		got, err := scanBytes(torn)
		if err != nil || len(got.Records) < len(want) {
			t.Fatalf("torn after %d bytes: %d records of %d, %v", n, len(got.Records), len(want), err)
		}
		if whole := n % (len(batch) / 3); (got.Torn == 0) != (whole == 0 || indexNonZero(batch[n-whole:n]) < 0) {
			t.Fatalf("torn after %d bytes: torn at %d", n, got.Torn)
		}
		// More behind it, and it is damage.
		if next := roundUp(at + 1); got.Torn > 0 {
			torn[next+100] = 1
			if _, err := scanBytes(torn); err == nil {
				t.Fatalf("torn after %d bytes with more behind it: no error", n)
			}
		}
	}
}

func TestDamagedLedgerStopsTheAgentAndStaysAsItIs(t *testing.T) {
	t.Parallel()
	h := open(t, Config{})
	h.run(spec("true"))
	s := spec("true")
	h.run(s)
	h.Close()
	path := filepath.Join(h.cfg.Dir, ledgerName)
	data := ledgerBytes(t, h.cfg.Dir)
	for name, change := range map[string]func([]byte) []byte{
		"flip in the first record": func(b []byte) []byte { b[pageSize+20] ^= 4; return b },
		"flip in the last record": func(b []byte) []byte {
			sc, _ := scanBytes(b)
			b[sc.End-1] ^= 4
			return b
		},
		"cut":   func(b []byte) []byte { return b[:len(b)-pageSize] },
		"empty": func([]byte) []byte { return nil },
	} {
		bad := change(bytes.Clone(data))
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Open(h.cfg)
		var fe *fleet.Error
		if !errors.As(err, &fe) || !strings.Contains(fe.What, "byte ") || !strings.Contains(fe.What, path) || fe.Hint == "" {
			t.Fatalf("%s: %v", name, err)
		}
		if !bytes.Equal(ledgerBytes(t, h.cfg.Dir), bad) {
			t.Fatalf("%s: Open changed the file", name)
		}
	}
	os.Remove(path)
	if _, err := Open(h.cfg); err == nil || !strings.Contains(err.Error(), "is gone") {
		t.Fatalf("a lost ledger: %v", err)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if st, _ := open(t, h.cfg).Ledger().Get(s.Command); st.Status() != exec.Success {
		t.Fatalf("the ledger mended: %s", st.Status())
	}
}

// A last Started record whose bits flipped before its mark was written looks like a torn append. The run folder knows
// better.
func TestRunFolderIsTheSecondWitness(t *testing.T) {
	t.Parallel()
	h := open(t, Config{})
	before := ledgerBytes(t, h.cfg.Dir)
	s := spec("exit 5")
	h.run(s)
	h.Close()
	data := ledgerBytes(t, h.cfg.Dir)
	copy(data[:pageSize], before[:pageSize]) // the marks as they were
	sc, err := scanBytes(data)
	if err != nil || len(sc.Records) != 2 {
		t.Fatal(err, len(sc.Records))
	}
	data[pageSize+10] ^= 1
	if sc, err = scanBytes(data); err != nil || sc.Torn != pageSize {
		t.Fatalf("not taken for a torn append: %v %d", err, sc.Torn)
	}
	if err := os.WriteFile(filepath.Join(h.cfg.Dir, ledgerName), data, 0o600); err != nil {
		t.Fatal(err)
	}
	h = open(t, h.cfg)
	if got := h.ended(s.Command); got.Status != exec.Failed || got.ExitCode != 5 {
		t.Fatalf("%+v", got)
	}
	if err := h.Start(t.Context(), s); fleet.KindOf(err) != fleet.Conflict {
		t.Fatalf("it could run again: %v", err)
	}
	if st, _ := h.Ledger().Get(s.Command); st.Started.Digest != s.Digest || !st.Started.Expires.Equal(s.Expires) {
		t.Fatalf("the witness remembers %+v", st.Started)
	}
}

func TestCompactionKeepsWhatMatters(t *testing.T) {
	t.Parallel()
	var clock atomic.Int64
	clock.Store(time.Now().UnixNano())
	now := func() time.Time { return time.Unix(0, clock.Load()) }
	h := open(t, Config{Now: now, ledgerSize: 32 << 10})
	going := spec("sleep", "1000")
	h.start(going)
	h.hasStarted(going.Command)
	inode := func(name string) uint64 {
		var st unix.Stat_t
		if err := unix.Stat(filepath.Join(h.cfg.Dir, name), &st); err != nil {
			t.Fatal(err)
		}
		return st.Ino
	}
	was, spare := inode(ledgerName), inode(spareName)
	first := newID()
	if err := h.Cancel(first); err != nil {
		t.Fatal(err)
	}
	clock.Add(int64(exec.MaxValidity + exec.LedgerGrace + time.Hour)) // the first cancel has become dispensable
	kept := newID()
	if err := h.Cancel(kept); err != nil {
		t.Fatal(err)
	}
	for n := 0; inode(ledgerName) == was; n++ {
		if n > 1000 {
			t.Fatal("never compacted")
		}
		if err := h.Refuse(newID(), fleet.ID{}, exec.Refused, fmt.Sprintf("%0300d", n)); err != nil {
			t.Fatal(err)
		}
	}
	if inode(ledgerName) != spare || inode(spareName) != was {
		t.Log("grown: the spare was made anew")
	}
	id := h.Ledger().ID()
	h = h.reopen()
	if h.Ledger().ID() != id {
		t.Fatal("the ledger's ID changed")
	}
	if _, known := h.Ledger().Get(first); known {
		t.Fatal("what is dispensable was kept")
	}
	late := Spec{Command: first, Issued: h.Ledger().Created(), Expires: h.Ledger().Created().Add(time.Hour), Plan: plain("true")}
	if err := h.Start(t.Context(), late); fleet.KindOf(err) != fleet.Expired {
		t.Fatalf("a forgotten command could start: %v", err)
	}
	if st, _ := h.Ledger().Get(kept); st.Status() != exec.Cancelled {
		t.Fatal("a cancel was forgotten")
	}
	h.hasStarted(going.Command)
	h.Cancel(going.Command)
	wantStatus(t, h.ended(going.Command), exec.Cancelled)
}

// On a disk without any room, starts stop in time for what must always work.
func TestFullLedgerKeepsRoomForEnds(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	h := header{ID: fleet.Sum(nil), Created: time.Now(), Capacity: 32 << 10}
	j, _, err := openLedger(dir, h.Capacity, func(f file) file { return f }, true, h)
	if err != nil {
		t.Fatal(err)
	}
	book := &testBook{ledger: exec.NewLedger(h.Created, time.Time{})}
	j.book = book
	go j.run()
	defer j.close()
	// Compaction needs the spare, or room for another: take both away.
	if err := os.Remove(filepath.Join(dir, spareName)); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, spareName), 0o700); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	var started []fleet.UUID
	for {
		id := newID()
		err := j.append(exec.StartedRecord{Command: id, Issued: now, Expires: now.Add(time.Hour), Time: now})
		if err != nil {
			if fleet.KindOf(err) != fleet.Exhausted {
				t.Fatal(err)
			}
			break
		}
		started = append(started, id)
	}
	for _, id := range started[:len(started)/8] {
		if err := j.append(exec.EndedRecord{Command: id, Status: exec.Success, Time: now}); err != nil {
			t.Fatalf("an end found no room: %v", err)
		}
	}
	if err := j.append(exec.CancelledRecord{Command: newID(), Time: now}); err != nil {
		t.Fatalf("a cancel found no room: %v", err)
	}
	// With room again the ledger grows.
	os.Remove(filepath.Join(dir, spareName))
	if err := j.append(exec.StartedRecord{Command: newID(), Issued: now, Expires: now.Add(time.Hour), Time: now}); err != nil {
		t.Fatal(err)
	}
}

type testBook struct {
	mu     sync.Mutex
	ledger *exec.Ledger
}

func (b *testBook) check(r exec.Record) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.ledger.Check(r)
}
func (b *testBook) live() ([]exec.Record, time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.ledger.Records(), b.ledger.Horizon()
}
func (b *testBook) fold(records []exec.Record) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, r := range records {
		if err := b.ledger.Fold(r); err != nil {
			panic(err)
		}
	}
}

// Records of one command that wait together are judged one after the other: only one of them reaches the disk.
func TestContradictionsNeverReachTheDisk(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	h := header{ID: fleet.Sum(nil), Created: time.Now()}
	j, _, err := openLedger(dir, 64<<10, func(f file) file { return f }, true, h)
	if err != nil {
		t.Fatal(err)
	}
	j.book = &testBook{ledger: exec.NewLedger(h.Created, time.Time{})}
	go j.run()
	var wg sync.WaitGroup
	for i := range 200 {
		id := fleet.UUID{byte(i % 10)}
		var r exec.Record
		switch i % 4 {
		case 0:
			r = exec.StartedRecord{Command: id, Time: time.Now()}
		case 1:
			r = exec.RefusedRecord{Command: id, Time: time.Now()}
		case 2:
			r = exec.EndedRecord{Command: id, Status: exec.Failed, Time: time.Now()}
		case 3:
			r = exec.CancelledRecord{Command: id, Time: time.Now()}
		}
		wg.Go(func() { _ = j.append(r) })
	}
	wg.Wait()
	j.close()
	s, err := scanBytes(ledgerBytes(t, dir))
	if err != nil {
		t.Fatal(err)
	}
	l := exec.NewLedger(h.Created, time.Time{})
	for i, r := range s.Records {
		if err := l.Fold(r); err != nil {
			t.Fatalf("record %d: %v", i, err)
		}
	}
}

// A page of records that is gone does not pass for whole because an append behind it was torn.
func TestLostPageBeforeATornOne(t *testing.T) {
	dir, records := writeTestLedger(t, 3)
	data := ledgerBytes(t, dir)
	s, err := scanBytes(data)
	if err != nil || s.End > 2*pageSize {
		t.Fatalf("%+v, %v", s, err)
	}
	fewer, _ := layOut(records[:len(records)-1], s.Sum)
	clear(data[pageSize+len(fewer) : 2*pageSize])
	data[2*pageSize] = 1
	if got, err := scanBytes(data); err == nil {
		t.Fatalf("%d records of %d are taken for all, torn at %d", len(got.Records), len(s.Records), got.Torn)
	}
}
