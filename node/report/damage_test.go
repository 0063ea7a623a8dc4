package report

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	osexec "os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node/fleet"
)

// filled returns the bytes of a store with reports of n nodes for command 1.
func filled(t testing.TB, n int) []byte {
	t.Helper()
	dir := t.TempDir()
	s := open(t, dir, Options{})
	for i := range n {
		put(t, s, rep(command(1), i, 1, exec.Success), rep(command(i), 1, 1, exec.Success))
	}
	s.Close()
	data, err := os.ReadFile(filepath.Join(dir, FileName))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func write0(t testing.TB, dir string, data []byte) string {
	t.Helper()
	path := filepath.Join(dir, FileName)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestDamagedFileIsMovedAside(t *testing.T) {
	good := filled(t, 30)
	page := os.Getpagesize()
	zeroed := bytes.Clone(good)
	for at := 2 * page; at+page <= len(good); at += page {
		clear(zeroed[at : at+page])
	}
	metas := bytes.Clone(good)
	clear(metas[:2*page])
	for name, data := range map[string][]byte{
		"no such file at all":   bytes.Repeat([]byte("not a store "), 1000),
		"short":                 []byte("x"),
		"cut":                   good[:3*page],
		"cut in the last pages": good[:len(good)/2],
		"pages zeroed":          zeroed,
		"no meta page":          metas,
	} {
		t.Run(name, func(t *testing.T) {
			dir, warned := t.TempDir(), &lines{}
			path := write0(t, dir, data)
			s := open(t, dir, Options{Log: warned.log()})
			if warned.count() != 1 || !strings.Contains(warned.buf.String(), path+".damaged-1") {
				t.Errorf("warned: %s", warned.buf.String())
			}
			if kept, err := os.ReadFile(path + ".damaged-1"); err != nil || !bytes.Equal(kept, data) {
				t.Errorf("the damaged file was not kept as it was: %v", err)
			}
			put(t, s, rep(command(1), 1, 1, exec.Success))
			s.Close()
			if len(of(t, open(t, dir, Options{Log: warned.log()}), command(1))) != 1 || warned.count() != 1 {
				t.Error("the new store does not last")
			}
		})
	}
}

func TestFewDamagedFilesAreKept(t *testing.T) {
	dir := t.TempDir()
	for n := range maxDamaged + 2 {
		path := write0(t, dir, fmt.Appendf(nil, "damaged %d", n+1))
		s := open(t, dir, Options{})
		s.Close()
		kept, _ := damagedFiles(path)
		if len(kept) != min(n+1, maxDamaged) || kept[len(kept)-1] != n+1 {
			t.Fatalf("after %d: %v", n+1, kept)
		}
	}
}

// TestAnyFlippedBytesCostReportsOnly flips bytes anywhere. Whatever it hits, the process lives, the store opens, and a
// report that is put is there.
func TestAnyFlippedBytesCostReportsOnly(t *testing.T) {
	good := filled(t, 40)
	random := rand.New(rand.NewPCG(1, 2))
	for range 80 {
		data := bytes.Clone(good)
		for range 1 + random.IntN(3) {
			at := random.IntN(len(data))
			if random.IntN(2) == 0 { // page headers and elements are where it hurts
				at = at/os.Getpagesize()*os.Getpagesize() + random.IntN(64)
			}
			data[at] ^= byte(1 + random.IntN(255))
		}
		dir := t.TempDir()
		write0(t, dir, data)
		s, err := Open(dir, Options{})
		if err != nil {
			t.Fatal(err)
		}
		m := rep(command(1), 5, 9, exec.Unknown)
		if err := s.Put(m.report, m.signed); err == nil {
			if got := of(t, s, command(1))[m.report.Node]; got.Seq == 0 {
				t.Error("a report that was taken is gone")
			}
		} else {
			wantKind(t, err, fleet.Internal)
		}
		if _, err := s.Prune(); err != nil {
			wantKind(t, err, fleet.Internal)
		}
		s.Close()
	}
}

// TestSoundTreesPass puts and prunes until all trees have branches that grew, shrank and lost their first keys.
func TestSoundTreesPass(t *testing.T) {
	dir, now := t.TempDir(), time.UnixMilli(1)
	s := open(t, dir, Options{Keep: time.Second, Now: func() time.Time { return now }})
	random := rand.New(rand.NewPCG(3, 4))
	f, err := os.Open(filepath.Join(dir, FileName))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	removed := 0
	for i := range 1500 {
		now = now.Add(time.Duration(random.IntN(4)) * time.Millisecond)
		m := out(command(random.IntN(1+i/2)), random.IntN(60), uint32(i+1), exec.Success, random.IntN(3)*900)
		put(t, s, m)
		if i%50 == 49 {
			n, err := s.Prune()
			if err != nil {
				t.Fatal(err)
			}
			removed += n
			if err := examine(f); err != nil {
				t.Fatalf("after %d reports: %v", i+1, err)
			}
		}
	}
	if removed == 0 {
		t.Error("nothing was pruned")
	}
}

// TestPageIsFoundByItsFirstKey makes another key the first of a page: bbolt would add the page to its branch once more when
// it is next written, and reports would be listed twice.
func TestPageIsFoundByItsFirstKey(t *testing.T) {
	good, caught := filled(t, 40), 0
	for at := 2 * os.Getpagesize(); at+pageHead+element < len(good); at += os.Getpagesize() {
		if native.Uint16(good[at+8:]) != flagLeaf || native.Uint16(good[at+10:]) < 2 {
			continue
		}
		data := bytes.Clone(good)
		data[at+pageHead+int(native.Uint32(data[at+pageHead+4:]))+15]++ // the last byte of its first key, or nearly
		f, err := os.Open(write0(t, t.TempDir(), data))
		if err != nil {
			t.Fatal(err)
		}
		if err := examine(f); err != nil && strings.Contains(err.Error(), "than its branch says") {
			caught++
		}
		f.Close()
	}
	if caught == 0 {
		t.Fatal("no page below a branch was found")
	}
}

// TestPagesAreUsedOnce lengthens one page after the other into the next: bbolt would leave a goroutine behind for good.
func TestPagesAreUsedOnce(t *testing.T) {
	good, twice := filled(t, 30), 0
	for at := 2 * os.Getpagesize(); at+pageHead < len(good); at += os.Getpagesize() {
		data := bytes.Clone(good)
		data[at+12]++
		f, err := os.Open(write0(t, t.TempDir(), data))
		if err != nil {
			t.Fatal(err)
		}
		if err := examine(f); err != nil && strings.Contains(err.Error(), "used twice") {
			twice++
		}
		f.Close()
	}
	if twice == 0 {
		t.Fatal("no page that reaches into another was found")
	}
}

func FuzzExamine(f *testing.F) {
	good := filled(f, 3)
	f.Add(uint32(0), []byte{})
	f.Add(uint32(os.Getpagesize()+pageHead), []byte{0xff, 0xff})
	f.Add(uint32(4*os.Getpagesize()+12), []byte{0, 0, 0, 0x80}) // a page that claims 2^31 more
	f.Add(uint32(3*os.Getpagesize()+8), []byte{2, 0, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, at uint32, patch []byte) {
		data := bytes.Clone(good)
		copy(data[int(at)%len(data):], patch)
		dir := t.TempDir()
		file, err := os.Create(filepath.Join(dir, FileName))
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		if _, err := file.Write(data); err != nil {
			t.Fatal(err)
		}
		err = examine(file)
		if _, is := errors.AsType[damaged](err); err != nil && !is {
			wantKind(t, err, fleet.Invalid) // of another format
		}
		if err != nil {
			return
		}
		s, err := Open(dir, Options{}) // what passes can be used, whatever bbolt finds in it
		if err != nil {
			return
		}
		defer s.Close()
		_, ofErr := s.Of(command(1))
		_, pruneErr := s.Prune()
		for _, err := range []error{ofErr, pruneErr} {
			if _, is := errors.AsType[*fleet.Error](err); err != nil && !is {
				t.Fatalf("an error not for people: %v", err)
			}
		}
	})
}

func TestDamagedValueIsReplacedByTheNextReport(t *testing.T) {
	dir, warned := t.TempDir(), &lines{}
	s := open(t, dir, Options{Log: warned.log()})
	put(t, s, rep(command(1), 1, 7, exec.Success), rep(command(1), 2, 1, exec.Success))
	err := s.db.Update(func(tx *bbolt.Tx) error {
		b, id, node := tx.Bucket(bucketReports), command(1), signer(1).ID()
		value := bytes.Clone(b.Bucket(id[:]).Get(node[:]))
		value[len(value)/2] ^= 1
		return b.Bucket(id[:]).Put(node[:], value)
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := of(t, s, command(1)); len(got) != 1 || warned.count() != 1 {
		t.Fatalf("%d reports, %d warnings", len(got), warned.count())
	}
	put(t, s, rep(command(1), 1, 7, exec.Success))
	if got := of(t, s, command(1)); len(got) != 2 || warned.count() != 1 {
		t.Fatalf("not healed: %d reports, %d warnings", len(got), warned.count())
	}
}

func TestSoundFilesAreNeverMoved(t *testing.T) {
	t.Run("newer format", func(t *testing.T) {
		dir := t.TempDir()
		s := open(t, dir, Options{})
		if err := s.db.Update(func(tx *bbolt.Tx) error { return tx.Bucket(bucketMeta).Put(keyFormat, []byte{format + 1}) }); err != nil {
			t.Fatal(err)
		}
		s.Close()
		refused(t, dir, fleet.Invalid)
	})
	t.Run("in use", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) { // the wait for the lock takes no time here
			dir := t.TempDir()
			open(t, dir, Options{})
			refused(t, dir, fleet.Unavailable)
		})
	})
	t.Run("empty", func(t *testing.T) { // a crash between making the file and its first page
		dir := t.TempDir()
		path := write0(t, dir, nil)
		open(t, dir, Options{})
		if kept, _ := damagedFiles(path); len(kept) != 0 {
			t.Error("moved")
		}
	})
	t.Run("without buckets", func(t *testing.T) { // a crash before the first transaction
		dir := t.TempDir()
		path := filepath.Join(dir, FileName)
		db, err := bbolt.Open(path, 0o600, nil)
		if err != nil {
			t.Fatal(err)
		}
		db.Close()
		open(t, dir, Options{})
		if kept, _ := damagedFiles(path); len(kept) != 0 {
			t.Error("moved")
		}
	})
}

func refused(t *testing.T, dir string, kind fleet.Kind) {
	t.Helper()
	path := filepath.Join(dir, FileName)
	_, err := Open(dir, Options{})
	e := wantKind(t, err, kind)
	if !strings.Contains(e.What, path) || e.Hint == "" {
		t.Errorf("%q (%q) does not name the file and the mend", e.What, e.Hint)
	}
	if kept, _ := damagedFiles(path); len(kept) != 0 {
		t.Error("the file was moved aside")
	}
}

func TestErrorsOfTheDisk(t *testing.T) {
	for _, c := range []struct {
		err  error
		kind fleet.Kind
	}{
		{&os.PathError{Op: "write", Path: "x", Err: syscall.ENOSPC}, fleet.Exhausted},
		{fmt.Errorf("file resize error: %s", syscall.EDQUOT), fleet.Exhausted},
		{fmt.Errorf("file sync error: %s", syscall.ENOSPC), fleet.Exhausted},
		{syscall.EIO, fleet.Unavailable},
		{os.ErrPermission, fleet.Unavailable},
		{damagef("x"), fleet.Internal},
	} {
		e := wantKind(t, trouble("/x/reports.db", c.err), c.kind)
		if !strings.Contains(e.Error(), "/x/reports.db") || e.Hint == "" {
			t.Errorf("%v: %q (%q)", c.err, e.What, e.Hint)
		}
	}
	if trouble("x", nil) != nil {
		t.Error("no error became one")
	}
}

const fullDisk = "MUSTER_TEST_FULL_DISK"

// TestFullDisk runs itself in a mount namespace of its own, where it can make a disk of 1 MiB.
func TestFullDisk(t *testing.T) {
	if dir := os.Getenv(fullDisk); dir != "" {
		onFullDisk(t, dir)
		return
	}
	cmd := osexec.Command(os.Args[0], "-test.run=^TestFullDisk$", "-test.v")
	cmd.Env = append(os.Environ(), fullDisk+"="+t.TempDir())
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
	}
	text, err := cmd.CombinedOutput()
	switch {
	case errors.Is(err, os.ErrPermission) || bytes.Contains(text, []byte("--- SKIP")):
		t.Skipf("no namespaces here: %v %s", err, text)
	case err != nil:
		t.Fatalf("%v\n%s", err, text)
	}
}

func onFullDisk(t *testing.T, dir string) {
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Skip(err)
	}
	s := open(t, dir, Options{})
	var err error
	n := 0
	for ; err == nil && n < 200; n++ {
		m := out(command(n), 1, 1, exec.Success, 20_000)
		err = s.Put(m.report, m.signed)
	}
	wantKind(t, err, fleet.Exhausted)
	taken := n - 1
	check := func() {
		t.Helper()
		for i := range n {
			if got := len(of(t, s, command(i))); (got == 1) != (i < taken) {
				t.Fatalf("command %d has %d reports; %d were taken", i, got, taken)
			}
		}
	}
	check()
	m := out(command(n-1), 1, 1, exec.Success, 20_000)
	wantKind(t, s.Put(m.report, m.signed), fleet.Exhausted)
	check()
	s.Close()
	s = open(t, dir, Options{})
	check()
	s.Close()
	s = open(t, dir, Options{MaxBytes: 400 << 10})
	if removed, err := s.Prune(); err != nil || removed == 0 {
		t.Fatalf("pruning on a full disk: %d, %v", removed, err)
	}
	put(t, s, m)
}

// An entry of the index that damage made up does not keep the store from being pruned for good.
func TestPruneGoesOnOverAMadeUpEntry(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	put(t, s, rep(command(1), 1, 1, exec.Success))
	if err := s.db.Update(func(tx *bbolt.Tx) error {
		nobody := command(9)
		return tx.Bucket(bucketAge).Put(ageKey(1, nobody[:]), nil)
	}); err != nil {
		t.Fatal(err)
	}
	if removed, err := s.Prune(); err != nil || removed != 0 {
		t.Fatalf("%d reports removed, %v", removed, err)
	}
	if err := s.db.View(func(tx *bbolt.Tx) error {
		if k, _ := tx.Bucket(bucketAge).Cursor().First(); openedMs(k) == 1 {
			t.Error("the entry is still there")
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

func openedMs(k []byte) int64 {
	ms, _ := openAgeKey(k)
	return ms
}
