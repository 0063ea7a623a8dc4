package decisions

import (
	"bytes"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node/fleet"
)

func id(n int) (out fleet.UUID) {
	copy(out[:], fmt.Sprintf("command %08d", n))
	return out
}

func open(t testing.TB, dir string, most int64) *Log {
	t.Helper()
	l, err := Open(dir, Options{MaxBytes: most, Now: func() time.Time { return time.UnixMilli(5000) }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func details(t testing.TB, l *Log, command fleet.UUID) []string {
	t.Helper()
	all, err := l.Of(command)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, d := range all {
		out = append(out, d.What+" "+d.Detail)
	}
	return out
}

func TestDecisionsComeBackInOrderAlsoAfterARestart(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "decisions")
	l := open(t, dir, 0)
	want := []string{"bell rung by web2", "signature of tester", "policy permitted by rule 1"}
	for i, text := range want {
		what, detail, _ := strings.Cut(text, " ")
		l.Put(id(1), exec.Decision{At: int64(i), What: what, Detail: detail})
		l.Put(id(2), exec.Decision{At: int64(i), What: exec.DecidedBell, Detail: "other"})
	}
	if got := details(t, l, id(1)); !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = open(t, dir, 0)
	l.Put(id(1), exec.Decision{At: 9, What: exec.DecidedFetch, Detail: "again"})
	l.Put(id(1), exec.Decision{At: 8, What: exec.DecidedEnd, Detail: "the clock went back"})
	if got := details(t, l, id(1)); !slices.Equal(got, append(want, "fetch again", "end the clock went back")) {
		t.Errorf("after a restart: %q", got)
	}
	if got := details(t, l, id(3)); got != nil {
		t.Errorf("of a command that nobody spoke of: %q", got)
	}
}

func TestFilesAreTheOwnersAlone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "decisions")
	l := open(t, dir, 256<<10)
	fill(l, 1, 3000)
	for name, want := range map[string]os.FileMode{"": 0o700, knownName: 0o600, heardName: 0o600} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
}

// fill puts decisions about n commands, two each, as fast as the disk takes them.
func fill(l *Log, from, n int) {
	for i := from; i < from+n; i++ {
		l.Put(id(i), exec.Decision{At: int64(i), What: exec.DecidedPolicy, Detail: "first"})
		l.Put(id(i), exec.Decision{At: int64(i), What: exec.DecidedEnd, Detail: strings.Repeat("x", 100)})
		if i%20 == 0 {
			l.flush()
		}
	}
	l.flush()
}

func TestOldestCommandsGoFirstAndWhole(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir, 256<<10)
	fill(l, 1, 500)
	l.Put(id(1), exec.Decision{At: 500, What: exec.DecidedReport, Detail: "late"})
	for n := 501; n < 10_000; n += 500 {
		fill(l, n, 500)
		if n < 600 && len(details(t, l, id(1))) != 3 {
			t.Error("a command with a new decision was forgotten before older ones")
		}
		if used := bytesIn(t, dir); used > 256<<10 {
			t.Fatalf("%d bytes are taken", used)
		}
	}
	if got := details(t, l, id(9999)); len(got) != 2 {
		t.Errorf("the newest: %q", got)
	}
	first, gone := 0, 0
	for i := 1; i < 10_000; i += 37 {
		switch len(details(t, l, id(i))) {
		case 2:
			if first == 0 {
				first = i
			}
		case 0:
			gone++
			if first != 0 {
				t.Fatalf("%d was forgotten, but %d was not", i, first)
			}
		default:
			t.Fatalf("of %d a part is left", i)
		}
	}
	if first < 1000 || first > 9900 {
		t.Errorf("the oldest that is left is %d", first)
	}
	if l.known.size < kept(l.known.most)/2 {
		t.Errorf("only %d bytes are left", l.known.size)
	}
}

func bytesIn(t testing.TB, dir string) (sum int64) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if info, err := e.Info(); err == nil {
			sum += info.Size()
		}
	}
	return sum
}

// A member can ring bells about commands that do not exist, as many as it likes.
func TestHearsayPushesNothingSignedOut(t *testing.T) {
	l := open(t, t.TempDir(), 256<<10)
	l.Put(id(1), exec.Decision{What: exec.DecidedPolicy, Detail: "permitted"})
	for i := 2; i < 20_000; i++ {
		l.Put(id(i), exec.Decision{What: exec.DecidedBell, Detail: "rung"})
		if i%50 == 0 {
			l.flush()
		}
	}
	if got := details(t, l, id(1)); !slices.Equal(got, []string{"policy permitted"}) {
		t.Errorf("got %q", got)
	}
}

// One command that asks for days keeps its beginning and its end, and leaves room for others.
func TestOneCommandAloneIsCutInItsMiddle(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir, 256<<10)
	l.Put(id(1), exec.Decision{What: exec.DecidedPolicy, Detail: "another"})
	for i := range 10_000 {
		l.Put(id(2), exec.Decision{At: int64(i), What: exec.DecidedGrant, Detail: fmt.Sprint("asked ", i)})
		if i%50 == 0 {
			l.flush()
			if used := bytesIn(t, dir); used > 256<<10 {
				t.Fatalf("%d bytes are taken", used)
			}
		}
	}
	got := details(t, l, id(2))
	if got[0] != "grant asked 0" || got[len(got)-1] != "grant asked 9999" {
		t.Errorf("from %q to %q", got[0], got[len(got)-1])
	}
	if !slices.ContainsFunc(got, func(s string) bool { return strings.HasPrefix(s, exec.DecidedLost) }) {
		t.Error("what is missing is not said")
	}
	if got := details(t, l, id(1)); len(got) != 1 {
		t.Errorf("the other: %q", got)
	}
	if len(got) > exec.MaxDecisions*2 {
		t.Errorf("%d are shown", len(got))
	}
}

// Put returns while the disk does not: what does not fit is counted, and said in its place.
func TestPutNeverWaitsAndWhatIsDroppedIsSaid(t *testing.T) {
	l := open(t, t.TempDir(), 0)
	l.Put(id(1), exec.Decision{At: 4000, What: exec.DecidedPolicy, Detail: "before"})
	l.flush()
	l.disk.Lock()
	for i := range 100_000 {
		l.Put(id(2), exec.Decision{At: 4500, What: exec.DecidedStep, Detail: fmt.Sprint(i)})
	}
	l.mu.Lock()
	if l.size > maxWaiting {
		t.Errorf("%d bytes wait", l.size)
	}
	l.mu.Unlock()
	l.disk.Unlock()
	l.flush()
	l.Put(id(1), exec.Decision{At: 6000, What: exec.DecidedEnd, Detail: "after"})
	got := details(t, l, id(1))
	if len(got) != 3 || !strings.Contains(got[1], "decisions were not kept") {
		t.Errorf("got %q", got)
	}
	l.Put(id(3), exec.Decision{At: 1 << 40, What: exec.DecidedEnd, Detail: "years later"})
	if got := details(t, l, id(3)); len(got) != 1 {
		t.Errorf("what is missing elsewhere is said: %q", got)
	}
}

func TestTornAndDamagedFilesLoseOnlyWhatIsDamaged(t *testing.T) {
	var log bytes.Buffer
	dir := t.TempDir()
	l := open(t, dir, 0)
	for i := range 10 {
		l.Put(id(1), exec.Decision{At: int64(i), What: exec.DecidedStep, Detail: fmt.Sprint("step ", i)})
		l.flush()
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, knownName)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	one := len(data) / 10
	for _, c := range []struct {
		what string
		to   []byte
		left []string // parts of what is left
		gone string
	}{
		{"torn", data[:len(data)-5], []string{"step 0", "step 8", "damaged"}, "step 9"},
		{"zeros behind", append(slices.Clone(data), make([]byte, 100_000)...), []string{"step 0", "step 9", "damaged here: 100000 bytes"}, ""},
		{"a bit in a length", flip(data, 3*one+len(marker)+1), []string{"step 2", "damaged", "step 4", "step 9"}, "step 3"},
		{"a bit in a text", flip(data, 4*one-1), []string{"step 2", "damaged", "step 4"}, "step 3"},
		{"the beginning", data[7:], []string{"damaged", "step 1", "step 9"}, "step 0"},
		{"a hole", append(slices.Clone(data[:2*one+9]), data[5*one+9:]...), []string{"step 1", "damaged", "step 6"}, "step 5"},
	} {
		if err := os.WriteFile(path, c.to, 0o600); err != nil {
			t.Fatal(err)
		}
		log.Reset()
		l, err := Open(dir, Options{Log: slog.New(slog.NewTextHandler(&log, nil)), Now: func() time.Time { return time.UnixMilli(10) }})
		if err != nil {
			t.Fatalf("%s: %v", c.what, err)
		}
		l.Put(id(1), exec.Decision{At: 11, What: exec.DecidedEnd, Detail: "the new one"})
		got := strings.Join(details(t, l, id(1)), "; ")
		at := 0
		for _, part := range append(c.left, "the new one") {
			next := strings.Index(got[at:], part)
			if next < 0 {
				t.Errorf("%s: no %q in its place in %q", c.what, part, got)
				break
			}
			at += next
		}
		if c.gone != "" && strings.Contains(got, c.gone) {
			t.Errorf("%s: %q is still there", c.what, c.gone)
		}
		if !strings.Contains(log.String(), "damaged") {
			t.Errorf("%s: no warning: %s", c.what, log.String())
		}
		_ = l.Close()
	}
}

// Whoever can have a text noted, an error's for example, cannot have it read as a decision where the file is damaged.
func TestTextIsNeverARecord(t *testing.T) {
	forged := string(appendRecord(nil, record{seq: 1, command: id(2), decision: exec.Decision{What: exec.DecidedPolicy, Detail: "forged"}}))
	d := exec.Decision{What: exec.DecidedEnd, Detail: "ended: " + forged}
	data := appendRecord(nil, record{seq: 1, command: id(1), decision: d.Bounded()})
	data[len(marker)] ^= 1 // the record that holds it is damaged
	if err := scan(bytes.NewReader(data), func(x found) error {
		if x.damaged == 0 {
			t.Errorf("found %+v", x.record)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

func flip(data []byte, at int) []byte {
	out := slices.Clone(data)
	out[at] ^= 0x10
	return out
}

// A rewriting keeps what is missing too, and a bad part of the file does not stop it.
func TestRewritingGoesOverDamage(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir, 256<<10)
	fill(l, 1, 100)
	l.disk.Lock()
	if _, err := l.known.f.Write(bytes.Repeat([]byte{0xff}, 3000)); err != nil {
		t.Fatal(err)
	}
	l.known.size += 3000
	l.disk.Unlock()
	fill(l, 101, 100)
	l.disk.Lock()
	err := l.known.rewrite()
	l.disk.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	got := details(t, l, id(100))
	if len(got) != 3 || !strings.Contains(got[2], "3000 bytes") {
		t.Errorf("got %q", got)
	}
}

func TestADiskThatTakesNothingCostsOnlyTheDecisions(t *testing.T) {
	var log bytes.Buffer
	dir := t.TempDir()
	l, err := Open(dir, Options{Log: slog.New(slog.NewTextHandler(&log, nil)), Now: func() time.Time { return time.UnixMilli(5000) }})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	l.Put(id(1), exec.Decision{At: 4000, What: exec.DecidedPolicy, Detail: "before"})
	l.flush()
	l.disk.Lock()
	good := l.known.f
	if l.known.f, err = os.Open(filepath.Join(dir, knownName)); err != nil { // for reading only
		t.Fatal(err)
	}
	l.disk.Unlock()
	for range 3 {
		l.Put(id(1), exec.Decision{At: 4500, What: exec.DecidedStep, Detail: "lost"})
		l.flush()
	}
	l.disk.Lock()
	l.known.f.Close()
	l.known.f = good
	l.disk.Unlock()
	l.Put(id(1), exec.Decision{At: 5000, What: exec.DecidedEnd, Detail: "after"})
	if got := details(t, l, id(1)); len(got) != 3 || !strings.Contains(got[1], "3 decisions were not kept: the disk") {
		t.Errorf("got %q", got)
	}
	if n := strings.Count(log.String(), "cannot be kept"); n != 1 || !strings.Contains(log.String(), "kept again") {
		t.Errorf("said %d times: %s", n, log.String())
	}
}

func TestAFolderThatCannotBeUsedIsAnError(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path, Options{}); fleet.KindOf(err) != fleet.Unavailable || !strings.Contains(err.Error(), path) {
		t.Errorf("got %v", err)
	}
}

// Whatever is put comes back, in order, across restarts.
func TestPropertyAllThatWasPutComesBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp("", "decisions-")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		l, err := Open(dir, Options{})
		if err != nil {
			t.Fatal(err)
		}
		want := map[fleet.UUID][]exec.Decision{}
		for range rapid.IntRange(0, 50).Draw(t, "decisions") {
			command := id(rapid.IntRange(0, 3).Draw(t, "command"))
			d := exec.Decision{At: rapid.Int64Range(math.MinInt64/2, math.MaxInt64/2).Draw(t, "at"), What: rapid.SampledFrom([]string{"bell", "policy", "end"}).Draw(t, "what"), Detail: rapid.String().Draw(t, "detail")}
			l.Put(command, d)
			want[command] = append(want[command], d.Bounded())
			if rapid.IntRange(0, 9).Draw(t, "restart") == 0 {
				if err := l.Close(); err != nil {
					t.Fatal(err)
				}
				if l, err = Open(dir, Options{}); err != nil {
					t.Fatal(err)
				}
			}
		}
		for command, list := range want {
			if got, err := l.Of(command); err != nil || !slices.Equal(got, list) {
				t.Fatalf("%s: got %v, %v, not %v", command, got, err, list)
			}
		}
		_ = l.Close()
	})
}

// Whatever a file holds, it is read to its end, and every byte of it is a record or damage.
func FuzzScan(f *testing.F) {
	one := appendRecord(nil, record{seq: 1, command: id(1), decision: exec.Decision{At: 1, What: "bell", Detail: "x"}})
	f.Add(one)
	f.Add(append(slices.Clone(one), one...))
	f.Add(append(slices.Clone(one[:20]), one...))
	f.Add([]byte(marker + "\xff\xff"))
	f.Fuzz(func(t *testing.T, data []byte) {
		read := int64(0)
		if err := scan(bytes.NewReader(data), func(x found) error {
			if x.damaged > 0 {
				read += x.damaged
				return nil
			}
			if again := appendRecord(nil, x.record); int64(len(again)) != x.record.size() {
				t.Fatalf("%d bytes became %d", x.record.size(), len(again))
			}
			read += x.record.size()
			return nil
		}); err != nil || read != int64(len(data)) {
			t.Fatalf("%d of %d bytes, %v", read, len(data), err)
		}
		if got := bytes.Count(data, one); got > 0 { // a whole record is always found
			n := 0
			_ = scan(bytes.NewReader(data), func(x found) error {
				if x.damaged == 0 && x.record.command == id(1) {
					n++
				}
				return nil
			})
			if n == 0 {
				t.Fatal("a record was passed over")
			}
		}
	})
}
