package copy

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/session/copy/talk"
)

// pair is two ends of one stream.
type pair struct {
	io.Reader
	io.Writer
	close  func()
	finish func() // ends what is written, as a process does that ends
}

func (p *pair) Close() error {
	p.close()
	return nil
}

func newPair() (*pair, *pair) {
	r1, w1 := io.Pipe()
	r2, w2 := io.Pipe()
	ends := func() { w1.Close(); w2.Close(); r1.Close(); r2.Close() }
	return &pair{r1, w2, ends, func() { w2.Close() }}, &pair{r2, w1, ends, func() { w1.Close() }}
}

// takeFrom receives from a sender that says anything. listening drops what it is told.
func takeFrom(t *testing.T, o Order, said ...talk.Message) (Total, *heard, error) {
	t.Helper()
	near, far := newPair()
	h := &heard{}
	o.Watch = h.watch()
	go io.Copy(io.Discard, far)
	go func() {
		l := newLine(far, far)
		for _, m := range said {
			if l.now(m) != nil {
				return
			}
		}
		far.finish()
	}()
	total, err := Get(t.Context(), near, o)
	return total, h, err
}

func content(n uint64, text string) []talk.Message {
	return []talk.Message{talk.Body{N: n}, talk.Data(text), talk.Done{}}
}

func join(all ...[]talk.Message) []talk.Message {
	var out []talk.Message
	for _, some := range all {
		out = append(out, some...)
	}
	return out
}

// TestHostileSender: a node can put nothing anywhere but under the names that it was asked for, in the folder that the copy
// lands in.
func TestHostileSender(t *testing.T) {
	t.Parallel()
	dir := func(name string) talk.Message { return talk.Folder{Name: name, Mode: 0o755} }
	file := func(name string) talk.Message { return talk.File{Name: name, Mode: 0o644, Size: 4} }
	evil := func(n uint64) []talk.Message { return content(n, "evil") }
	one := func(all ...talk.Message) []talk.Message { return all }
	for name, said := range map[string][]talk.Message{
		"another name":             join(one(file("authorized_keys")), evil(1)),
		"a way up":                 join(one(dir("d"), dir("..")), one(file("f")), evil(3)),
		"a path":                   join(one(file("../outside/f")), evil(1)),
		"a path within":            join(one(dir("d"), file("../../outside/f")), evil(2)),
		"through a link":           join(one(dir("d"), talk.Link{Name: "l", To: "../../outside"}, dir("l"), file("f")), evil(4), one(talk.Leave{}, talk.Leave{}, talk.End{})),
		"through a link to a file": join(one(dir("d"), talk.Link{Name: "l", To: "../../outside/kept"}, file("l")), evil(3), one(talk.Leave{}, talk.End{})),
		"through links to links":   join(one(dir("d"), talk.Link{Name: "a", To: ".."}, talk.Link{Name: "b", To: "a/../outside"}, dir("b"), file("kept")), evil(5), one(talk.Leave{}, talk.Leave{}, talk.End{})),
		"through one that is here": join(one(dir("d"), dir("out"), file("kept")), evil(3), one(talk.Leave{}, talk.Leave{}, talk.End{})),
		"too much":                 join(one(file("f")), content(1, "more than four")),
		"too little":               join(one(file("f")), content(1, "abc"), one(talk.End{})),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			top := t.TempDir()
			plant(t, top, map[string]string{"outside/kept": "kept", "here/d/out": "-> ../../outside"})
			outside := listing(t, filepath.Join(top, "outside"))
			total, h, err := takeFrom(t, Order{Sources: []string{"/srv/d", "f"}, To: filepath.Join(top, "here"), Deep: true}, said...)
			if err == nil && len(h.troubles) == 0 && name != "through a link to a file" {
				t.Errorf("%+v: nothing is said", total)
			}
			if got := listing(t, filepath.Join(top, "outside")); got != outside {
				t.Errorf("outside there is\n%s", got)
			}
			entries, _ := os.ReadDir(filepath.Join(top, "here"))
			if len(entries) != 1 || entries[0].Name() != "d" {
				t.Errorf("here there is %v", entries)
			}
		})
	}
}

// TestRights: a sender gives no more rights than to read, write and run.
func TestRights(t *testing.T) {
	t.Parallel()
	top := t.TempDir()
	_, _, err := takeFrom(t, Order{Sources: []string{"d"}, To: top, Deep: true},
		talk.Folder{Name: "d", Mode: 0o7777}, talk.File{Name: "f", Mode: 0o7755, Size: 1}, talk.Body{N: 2}, talk.Data("x"), talk.Done{}, talk.Leave{}, talk.End{})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]os.FileMode{"d": os.ModeDir | 0o777, "d/f": 0o755} {
		if info, err := os.Stat(filepath.Join(top, name)); err != nil || info.Mode() != want {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
}

// TestHostileReceiver: what a receiver says of what was never sent ends the copy.
func TestHostileReceiver(t *testing.T) {
	t.Parallel()
	from := t.TempDir()
	plant(t, from, map[string]string{"f": strings.Repeat("content", 1<<20)})
	for name, said := range map[string]talk.Message{
		"an end too early": talk.Finished{}, "an answer nobody asked for": talk.Have{N: 1}, "a failure of nothing": talk.Failed{N: 999},
		"the first word": talk.Ask{Paths: []string{"x"}},
	} {
		near, far := newPair()
		go func() { _ = newLine(far, far).now(said) }() // and reads nothing, which must not keep the sender
		if _, err := Put(t.Context(), near, Order{Sources: []string{from + "/f"}}); fleet.KindOf(err) != fleet.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestOtherLanguages: what is no copy, or one of another version, is refused in words.
func TestOtherLanguages(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		said talk.Message
		want string
	}{
		{talk.Ask{Version: 9, Paths: []string{"x"}}, "version 2 of copies, not 9"}, {talk.End{}, "does not ask"},
		{talk.Ask{Version: talk.Version, Put: true, Paths: []string{"a", "b"}}, "does not ask"}, {talk.Ask{Version: talk.Version}, "does not ask"},
	} {
		p := startFar(t, t.TempDir())
		l := newLine(p, p)
		if err := l.now(c.said); err != nil {
			t.Fatal(err)
		}
		m, err := l.hear()
		if fatal, ok := m.(talk.Fatal); !ok || !strings.Contains(fatal.Problem.What, c.want) {
			t.Errorf("%#v: %#v, %v", c.said, m, err)
		}
		if p.wait(t) != 1 {
			t.Error("it is content")
		}
	}
	p := startFar(t, t.TempDir())
	go io.WriteString(p, "GET / HTTP/1.1\r\n\r\n")
	if m, err := newLine(p, p).hear(); fleet.KindOf(err) == fleet.Internal && m == nil {
		t.Error(m, err)
	}
}

// TestPartsInTheWay: nothing at the place of a part is written through, or over.
func TestPartsInTheWay(t *testing.T) {
	t.Parallel()
	for name, obstruct := range map[string]func(path, victim string) error{
		"a link":      func(path, victim string) error { return os.Symlink(victim, path) },
		"a hard link": func(path, victim string) error { return os.Link(victim, path) },
		"a folder":    func(path, _ string) error { return os.Mkdir(path, 0o755) },
		"a pipe":      func(path, _ string) error { return unix.Mkfifo(path, 0o600) },
		"one that another copy writes": func(path, _ string) error {
			f, err := os.Create(path)
			if err == nil {
				err = unix.Flock(int(f.Fd()), unix.LOCK_EX)
				t.Cleanup(func() { f.Close() })
			}
			return err
		},
	} {
		for _, resume := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				from, far := t.TempDir(), t.TempDir()
				plant(t, from, map[string]string{"f": "new"})
				plant(t, far, map[string]string{"victim": "kept"})
				old(t, from+"/f", 0o640)
				info, _ := os.Stat(from + "/f")
				path := filepath.Join(far, partName(talk.File{Name: "f", Mode: 0o640, Time: info.ModTime().UnixNano(), Size: 3}))
				if err := obstruct(path, filepath.Join(far, "victim")); err != nil {
					t.Fatal(err)
				}
				total, h, err := put(t, far, Order{Sources: []string{from + "/f"}, Resume: resume})
				got, _ := os.ReadFile(filepath.Join(far, "f"))
				kept, _ := os.ReadFile(filepath.Join(far, "victim"))
				if err != nil || total.Files != 1 || string(got) != "new" || string(kept) != "kept" {
					t.Errorf("%+v, %v, %q: %q, %q", total, err, h.troubles, got, kept)
				}
				if _, err := os.Lstat(path); err != nil {
					t.Error("what was in the way is gone")
				}
			})
		}
	}
}

// TestSwapped: a file that became something else between its name and its content is not read.
func TestSwapped(t *testing.T) {
	t.Parallel()
	top := t.TempDir()
	plant(t, top, map[string]string{"secret": "secret", "d/link": "-> ../secret", "d/sub/": ""})
	if err := unix.Mkfifo(filepath.Join(top, "d/pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := os.Open(filepath.Join(top, "d"))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for _, name := range []string{"link", "pipe", "sub", "gone"} {
		f := source{in: &opened{File: d, uses: 1}, name: name, path: name}
		if file, err := f.open(); err == nil {
			t.Errorf("%s is read", file.Name())
		}
	}
}

// TestAnotherAccount: files are read and written as the account may.
func TestAnotherAccount(t *testing.T) {
	t.Parallel()
	from, far := t.TempDir(), t.TempDir()
	plant(t, from, map[string]string{"f": "x", "g": "y"})
	for path, mode := range map[string]os.FileMode{from: 0o755, far: 0o555, from + "/f": 0o000, from + "/g": 0o644} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	_, h, err := putAs(t, far, Order{Sources: []string{from + "/g"}})
	if all := strings.Join(h.troubles, "\n"); err != nil || !strings.Contains(all, "denied g: the account may not do that") {
		t.Errorf("%v: %s", err, all)
	}
	near := t.TempDir()
	p, h := startFarFor(t, from, nobody(), signedFor(false, "f", "g")), &heard{}
	total, err := Get(t.Context(), p, Order{Sources: []string{"f", "g"}, To: near, Watch: h.watch()})
	if all := strings.Join(h.troubles, "\n"); err != nil || total.Files != 1 || !strings.Contains(all, "denied f: the account may not do that") {
		t.Errorf("%+v, %v: %s", total, err, all)
	}
}

// nobody is an account that may do nothing, where this one may choose; else this one.
func nobody() *syscall.SysProcAttr {
	if os.Geteuid() != 0 {
		return nil
	}
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
}

func putAs(t *testing.T, far string, o Order) (Total, *heard, error) {
	t.Helper()
	p, h := startFarAs(t, far, nobody()), &heard{}
	o.Watch = h.watch()
	total, err := Put(t.Context(), p, o)
	p.wait(t)
	return total, h, err
}

// TestEndedKindly: a far end that is told to end leaves what it has in order.
func TestEndedKindly(t *testing.T) {
	t.Parallel()
	far := t.TempDir()
	p := startFar(t, far)
	l := newLine(p, p)
	for _, m := range []talk.Message{
		talk.Ask{Version: talk.Version, Put: true, Paths: []string{""}, Deep: true}, talk.Folder{Name: "d", Mode: 0o755, Time: 5e9}, talk.File{Name: "f", Size: 1},
		talk.Body{N: 2}, talk.Data("x"), talk.Done{}, talk.File{Name: "g", Size: 3 << 20}, talk.Body{N: 3},
	} {
		if err := l.say(m); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 << 20 / talk.MaxPayload {
		if err := l.data(make([]byte, frameSize)); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.flush(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(20 * time.Second); ; { // until it has heard all of it
		parts, _ := filepath.Glob(filepath.Join(far, "d/.muster-*"))
		if len(parts) == 1 {
			if info, err := os.Stat(parts[0]); err == nil && info.Size() > 1<<20 {
				break
			}
		}
		if time.Now().After(deadline) {
			t.Fatal("no part comes to be")
		}
	}
	if err := p.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	if code := p.wait(t); code != 1 {
		t.Error("exit", code)
	}
	parts, _ := filepath.Glob(filepath.Join(far, "d/.muster-*"))
	info, err := os.Stat(filepath.Join(far, "d"))
	if err != nil || len(parts) != 1 || info.Mode().Perm() != 0o755 || info.ModTime().Unix() != 5 {
		t.Errorf("%q, %v, %v", parts, info, err)
	}
}

// TestFarErrorsAreHeard: an error of the far end's own is heard, though the near end only writes.
func TestFarErrorsAreHeard(t *testing.T) {
	t.Parallel()
	from, far := t.TempDir(), t.TempDir()
	plant(t, from, map[string]string{"f": strings.Repeat("x", 32<<20)})
	_, _, err := put(t, far, Order{Sources: []string{from + "/f"}, To: "no/such/folder"})
	if fleet.KindOf(err) != fleet.NotFound || errors.Is(err, errBrokenOff) {
		t.Error(err)
	}
}

// TestFailsEarly: what a receiver cannot take is not sent to its end.
func TestFailsEarly(t *testing.T) {
	t.Parallel()
	from, far := t.TempDir(), t.TempDir()
	plant(t, from, map[string]string{"f": "", "d/a/": "", "d/b": "", "d/c": ""})
	plant(t, far, map[string]string{"f/": "", "d": "a file"})
	const size = 1 << 30
	for _, name := range []string{"f", "d/b", "d/c"} {
		if err := os.Truncate(filepath.Join(from, name), size); err != nil {
			t.Fatal(err)
		}
	}
	total, h, err := put(t, far, Order{Sources: []string{from + "/f", from + "/d"}, Deep: true})
	if err != nil || total.Failed != 2 || len(h.troubles) != 2 {
		t.Fatalf("%+v, %v, %q", total, err, h.troubles)
	}
	if h.moved >= size {
		t.Errorf("%d bytes were sent of what was refused", h.moved)
	}
}

// TestNobodysPart: a part that cannot be found again is not left behind.
func TestNobodysPart(t *testing.T) {
	t.Parallel()
	from, far := t.TempDir(), t.TempDir()
	plant(t, from, map[string]string{"f": strings.Repeat("x", 4<<20)})
	info, err := os.Stat(from + "/f")
	if err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(far, partName(talk.File{Name: "f", Mode: uint16(info.Mode().Perm()), Time: info.ModTime().UnixNano(), Size: 4 << 20}))
	if err := os.Mkdir(other, 0o755); err != nil {
		t.Fatal(err)
	}
	p := startFar(t, far)
	if _, err := Put(t.Context(), &cutting{p, 3 << 20}, Order{Sources: []string{from + "/f"}}); err == nil {
		t.Fatal("it did not break off")
	}
	p.wait(t)
	if entries, _ := os.ReadDir(far); len(entries) != 1 {
		t.Errorf("left behind: %v", entries)
	}
}
