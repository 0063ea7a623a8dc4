package report

import (
	"bytes"
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

var fleetID = fleet.Sum([]byte("fleet"))

func signer(n int) auth.Signer {
	seed := make([]byte, ed25519.SeedSize)
	binary.BigEndian.PutUint64(seed, uint64(n))
	return auth.NewSigner(ed25519.NewKeyFromSeed(seed))
}

func command(n int) fleet.UUID {
	return fleet.UUID(slices.Concat([]byte{9}, make([]byte, 11), binary.BigEndian.AppendUint32(nil, uint32(n))))
}

// made is a report with its statement.
type made struct {
	report exec.Report
	signed auth.Envelope
}

// out makes a report with size bytes of output.
func out(cmd fleet.UUID, node int, seq uint32, status exec.Status, size int) made {
	s := signer(node)
	r := exec.Report{Command: cmd, Node: s.ID(), Seq: seq, Status: status}
	r.Stdout = exec.Stream{Size: int64(size), Kept: int64(size), Head: bytes.Repeat([]byte("x"), size)}
	return made{r, s.Sign(auth.ForReport, fleetID, r)}
}

func rep(cmd fleet.UUID, node int, seq uint32, status exec.Status) made {
	return out(cmd, node, seq, status, 100)
}

func open(t testing.TB, dir string, o Options) *Store {
	t.Helper()
	s, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func put(t testing.TB, s *Store, all ...made) {
	t.Helper()
	for _, m := range all {
		if err := s.Put(m.report, m.signed); err != nil {
			t.Fatal(err)
		}
	}
}

// of returns status and Seq by node.
func of(t testing.TB, s *Store, cmd fleet.UUID) map[fleet.ID]exec.Report {
	t.Helper()
	list, err := s.Of(cmd)
	if err != nil {
		t.Fatal(err)
	}
	out := map[fleet.ID]exec.Report{}
	for _, e := range list {
		r, err := auth.Peek[exec.Report](e)
		if err != nil || r.Node != e.Key || r.Command != cmd || out[e.Key].Seq != 0 {
			t.Fatalf("a report that is none of this command, or twice: %+v, %v", r, err)
		}
		out[e.Key] = r
	}
	return out
}

func wantKind(t testing.TB, err error, kind fleet.Kind) *fleet.Error {
	t.Helper()
	e, ok := errors.AsType[*fleet.Error](err)
	if !ok || e.Kind != kind {
		t.Fatalf("error %v; want one of kind %s", err, kind)
	}
	return e
}

// lines counts what was logged at warning or above.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *lines) log() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelWarn}))
}

func (l *lines) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes.Count(l.buf.Bytes(), []byte("\n"))
}

func TestNewestOfEachNodeSurvivesRestart(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Options{})
	final := rep(command(1), 1, 3, exec.Success)
	put(t, s, rep(command(1), 1, 2, exec.InProgress), final, rep(command(1), 1, 4, exec.InProgress),
		rep(command(1), 2, 1, exec.InProgress), rep(command(2), 1, 1, exec.Refused))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir, Options{})
	got := of(t, s, command(1))
	if len(got) != 2 || got[signer(1).ID()].Status != exec.Success || got[signer(2).ID()].Seq != 1 {
		t.Fatalf("after a restart: %+v", got)
	}
	list, _ := s.Of(command(1))
	for _, e := range list {
		if e.Key == signer(1).ID() && e.Verify(auth.ForReport, fleetID, signer(1).Public()) != nil {
			t.Fatal("the statement does not verify any more")
		}
	}
	if len(of(t, s, command(2))) != 1 || len(of(t, s, command(3))) != 0 {
		t.Fatal("commands are mixed up")
	}
}

// TestDurableWhenPutReturns opens a copy of the file made while the store is open: what a killed process leaves behind.
func TestDurableWhenPutReturns(t *testing.T) {
	dir, copyDir := t.TempDir(), t.TempDir()
	s := open(t, dir, Options{})
	for n := range 5 {
		put(t, s, rep(command(n), n, 1, exec.Success))
		data, err := os.ReadFile(filepath.Join(dir, FileName))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(copyDir, FileName), data, 0o600); err != nil {
			t.Fatal(err)
		}
		after, err := Open(copyDir, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if len(of(t, after, command(n))) != 1 {
			t.Fatalf("report %d is lost", n)
		}
		after.Close()
	}
	info, _ := os.Stat(filepath.Join(dir, FileName))
	if info.Mode().Perm() != 0o600 {
		t.Fatalf("others may read the store: %v", info.Mode())
	}
}

func TestOrderDoesNotMatter(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	stages := []exec.Status{exec.Pending, exec.InProgress, exec.InProgress, exec.Unknown, exec.Success}
	var all sync.WaitGroup
	n := 0
	permute([]int{0, 1, 2, 3, 4}, func(order []int) {
		n++
		cmd := command(n)
		all.Go(func() {
			for _, i := range append(order, order...) { // and each one twice
				m := rep(cmd, 1, uint32(i+1), stages[i])
				if err := s.Put(m.report, m.signed); err != nil {
					t.Error(err)
				}
			}
		})
	})
	all.Wait()
	for i := 1; i <= n; i++ {
		if got := of(t, s, command(i)); len(got) != 1 || got[signer(1).ID()].Status != exec.Success {
			t.Fatalf("order %d: %+v", i, got)
		}
	}
}

func permute(list []int, each func([]int)) {
	var rec func(done, left []int)
	rec = func(done, left []int) {
		if len(left) == 0 {
			each(slices.Clone(done))
		}
		for i := range left {
			rec(append(slices.Clone(done), left[i]), slices.Delete(slices.Clone(left), i, i+1))
		}
	}
	rec(nil, list)
}

func txID(t testing.TB, s *Store) (id int) {
	t.Helper()
	if err := s.db.View(func(tx *bbolt.Tx) error { id = tx.ID(); return nil }); err != nil {
		t.Fatal(err)
	}
	return id
}

func TestSupersededCostsNoWrite(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	put(t, s, rep(command(1), 1, 2, exec.Success))
	before := txID(t, s)
	put(t, s, rep(command(1), 1, 2, exec.Success), rep(command(1), 1, 1, exec.InProgress))
	if after := txID(t, s); after != before {
		t.Fatalf("%d transactions were written for nothing", after-before)
	}
}

func TestPutRefusesWhatItShallNotKeep(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	foreign := rep(command(1), 1, 1, exec.Success)
	foreign.report.Node = signer(2).ID()
	large := rep(command(1), 1, 1, exec.Success)
	large.signed.Body = make([]byte, exec.MaxReport+1)
	padded := rep(command(1), 1, 1, exec.Success)
	padded.signed.Signature = make([]byte, maxSignature+1)
	for name, m := range map[string]made{
		"another's": foreign, "too large": large, "padded": padded, "of nothing": rep(fleet.UUID{}, 1, 1, exec.Success),
	} {
		t.Run(name, func(t *testing.T) { wantKind(t, s.Put(m.report, m.signed), fleet.Invalid) })
	}
	wantKind(t, s.PutFacts(signer(1).ID(), auth.Envelope{Key: signer(2).ID()}), fleet.Invalid)
	wantKind(t, s.PutFacts(signer(1).ID(), auth.Envelope{Key: signer(1).ID(), Body: make([]byte, MaxFacts+1)}), fleet.Invalid)
}

func TestLargestReportsFit(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	m := out(command(1), 1, 1, exec.Success, exec.ReportHead+exec.ReportTail)
	put(t, s, m)
	body := make([]byte, MaxFacts)
	if err := s.PutFacts(signer(1).ID(), auth.Envelope{Key: signer(1).ID(), Body: body, Signature: make([]byte, maxSignature)}); err != nil {
		t.Fatal(err)
	}
	facts, err := s.Facts()
	if err != nil || len(facts[signer(1).ID()].Body) != MaxFacts || len(of(t, s, command(1))) != 1 {
		t.Fatalf("the largest that may be put does not come back: %v", err)
	}
}

func TestNewestFacts(t *testing.T) {
	type body struct {
		Header auth.Header
		Text   string
	}
	facts := func(node int, issued int64, text string) auth.Envelope {
		return signer(node).Sign("muster/facts/1", fleetID, body{auth.Header{Issued: issued}, text})
	}
	dir := t.TempDir()
	s := open(t, dir, Options{})
	for _, e := range []auth.Envelope{facts(1, 10, "old"), facts(1, 20, "new"), facts(1, 15, "late"), facts(2, 5, "other")} {
		if err := s.PutFacts(e.Key, e); err != nil {
			t.Fatal(err)
		}
	}
	before := txID(t, s)
	if err := s.PutFacts(signer(1).ID(), facts(1, 20, "new")); err != nil || txID(t, s) != before {
		t.Fatalf("the same facts again were written again: %v", err)
	}
	s.Close()
	got, err := open(t, dir, Options{}).Facts()
	if err != nil || len(got) != 2 {
		t.Fatalf("%d nodes, %v", len(got), err)
	}
	for node, want := range map[int]string{1: "new", 2: "other"} {
		if b, err := auth.Peek[body](got[signer(node).ID()]); err != nil || b.Text != want {
			t.Errorf("node %d: %q, %v; want %q", node, b.Text, err, want)
		}
	}
}

func TestClosed(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	watching := make(chan error, 1)
	go func() {
		watching <- s.Watch(t.Context(), command(1), func(auth.Envelope) error { return nil })
	}()
	if err := errors.Join(s.Close(), s.Close()); err != nil {
		t.Fatal(err)
	}
	wantKind(t, <-watching, fleet.Unavailable)
	m := rep(command(1), 1, 1, exec.Success)
	wantKind(t, s.Put(m.report, m.signed), fleet.Unavailable)
	_, err := s.Of(command(1))
	wantKind(t, err, fleet.Unavailable)
	_, err = s.Prune()
	wantKind(t, err, fleet.Unavailable)
}

func FuzzOpenEntry(f *testing.F) {
	m := rep(command(1), 1, 1, exec.Success)
	f.Add(sealEntry([]byte("s"), []byte("k"), 7, m.signed)[4:])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, rest []byte) {
		value := append(make([]byte, 4), rest...)
		if len(value) >= entryHead {
			binary.BigEndian.PutUint32(value, entrySum([]byte("s"), []byte("k"), value)) // else all is refused at the sum
		}
		e, err := openEntry([]byte("s"), []byte("k"), value)
		if err == nil && !bytes.Equal(sealEntry([]byte("s"), []byte("k"), receivedAt(value), e), value) {
			t.Fatal("read a value that was never written")
		}
		issued(rest)
	})
}

func TestEntryOfAnotherKeyIsRefused(t *testing.T) {
	m := rep(command(1), 1, 1, exec.Success)
	value := sealEntry([]byte("s"), []byte("k"), 7, m.signed)
	for _, at := range [][2]string{{"s", "l"}, {"t", "k"}} {
		if _, err := openEntry([]byte(at[0]), []byte(at[1]), value); err == nil {
			t.Errorf("read under %v", at)
		}
	}
}

func BenchmarkPutAlone(b *testing.B) { benchmarkPut(b, 1) }

func BenchmarkPut64AtOnce(b *testing.B) { benchmarkPut(b, 64) }

func benchmarkPut(b *testing.B, writers int) {
	s := open(b, b.TempDir(), Options{})
	all := make([]made, b.N)
	for i := range all {
		all[i] = rep(command(i/1000), i%1000, 1, exec.Success)
	}
	began := time.Now()
	b.ResetTimer()
	var group sync.WaitGroup
	for w := range writers {
		group.Go(func() {
			for i := w; i < b.N; i += writers {
				if err := s.Put(all[i].report, all[i].signed); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	group.Wait()
	b.ReportMetric(float64(b.N)/time.Since(began).Seconds(), "puts/s")
}
