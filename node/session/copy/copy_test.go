package copy

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/session/copy/talk"
)

// farWord makes the test's own binary the far end of a copy.
const farWord = "be-the-far-end"

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == farWord {
		os.Exit(Main(os.Args[2:], os.Stdin, os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// process is the far end as a process of its own, in a folder.
type process struct {
	io.Reader
	io.WriteCloser
	cmd *exec.Cmd
}

func startFar(t *testing.T, folder string) *process {
	t.Helper()
	return startFarAs(t, folder, nil)
}

func startFarAs(t *testing.T, folder string, how *syscall.SysProcAttr) *process {
	t.Helper()
	return startFarFor(t, folder, how, signedFor(true, ""))
}

// signedFor is what far ends may do that are not tested for that: anything, by these names.
func signedFor(put bool, names ...string) talk.Grant {
	g := talk.Grant{Put: put, Deep: true, Paths: []string{"/"}}
	for _, name := range names {
		if canonical, err := auth.CanonicalPath(name); err == nil {
			g.Paths = append(g.Paths, canonical)
		}
	}
	return g
}

// startFarFor is a far end that was signed for no more than a grant.
func startFarFor(t *testing.T, folder string, how *syscall.SysProcAttr, grant talk.Grant) *process {
	t.Helper()
	cmd := exec.Command(os.Args[0], append([]string{farWord}, grant.Words()...)...)
	if how != nil {
		cmd.Path = forAll(t, os.Args[0])
	}
	cmd.Dir, cmd.Stderr, cmd.SysProcAttr = folder, os.Stderr, how
	cmd.Env = append(os.Environ(), "HOME="+folder)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &process{out, in, cmd}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	return p
}

// forAll puts a program where other accounts can run it.
func forAll(t *testing.T, program string) string {
	t.Helper()
	raw, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "far")
	if err := os.WriteFile(path, raw, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Dir(filepath.Dir(path)), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// wait returns the exit code.
func (p *process) wait(t *testing.T) int {
	t.Helper()
	p.cmd.Wait()
	return p.cmd.ProcessState.ExitCode()
}

// heard collects what a copy says.
type heard struct {
	mu       sync.Mutex
	troubles []string
	moved    int64
}

func (h *heard) watch() Watch {
	return Watch{
		Moved: func(n int64) { h.moved += n },
		Trouble: func(_ bool, trouble *fleet.Error) {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.troubles = append(h.troubles, trouble.Kind.String()+" "+trouble.Error())
		},
	}
}

// plant makes files and folders: path → content; a path that ends in / is a folder, a content "-> x" a link to x.
func plant(t *testing.T, top string, tree map[string]string) {
	t.Helper()
	var paths []string
	for path := range tree {
		paths = append(paths, path)
	}
	sort.Strings(paths)
	for _, path := range paths {
		full := filepath.Join(top, path)
		var err error
		to, isLink := strings.CutPrefix(tree[path], "-> ")
		switch {
		case strings.HasSuffix(path, "/"):
			err = os.MkdirAll(full, 0o755)
		case isLink:
			if err = os.MkdirAll(filepath.Dir(full), 0o755); err == nil {
				err = os.Symlink(to, full)
			}
		default:
			if err = os.MkdirAll(filepath.Dir(full), 0o755); err == nil {
				err = os.WriteFile(full, []byte(tree[path]), 0o644)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// listing describes all below a folder: kinds, rights, times and contents.
func listing(t *testing.T, top string) string {
	t.Helper()
	var out strings.Builder
	err := filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == top {
			return err
		}
		info, err := os.Lstat(path)
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(top, path)
		fmt.Fprintf(&out, "%q %s %d", rel, info.Mode(), info.ModTime().UnixNano())
		switch {
		case info.Mode()&fs.ModeSymlink != 0:
			to, _ := os.Readlink(path)
			fmt.Fprintf(&out, " -> %q", to)
		case info.Mode().IsRegular():
			raw, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			fmt.Fprintf(&out, " %d %x", len(raw), shortSum(raw))
		}
		out.WriteByte('\n')
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func shortSum(raw []byte) []byte {
	sum, _ := sumOf(bytes.NewReader(raw), int64(len(raw)))
	return sum[:6]
}

// put and get copy through a process whose home is far.
func put(t *testing.T, far string, o Order) (Total, *heard, error) {
	t.Helper()
	p, h := startFarFor(t, far, nil, signedFor(true, o.To)), &heard{}
	o.Watch = h.watch()
	total, err := Put(t.Context(), p, o)
	if code := p.wait(t); (code == 0) != (err == nil && total.Failed == 0) && len(h.troubles) == 0 {
		t.Errorf("the far end exits %d: %+v, %v", code, total, err)
	}
	return total, h, err
}

func get(t *testing.T, far string, o Order) (Total, *heard, error) {
	t.Helper()
	p, h := startFarFor(t, far, nil, signedFor(false, o.Sources...)), &heard{}
	o.Watch = h.watch()
	total, err := Get(t.Context(), p, o)
	p.wait(t)
	return total, h, err
}

func old(t *testing.T, path string, mode fs.FileMode) {
	t.Helper()
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
	when := time.Date(2020, 2, 3, 4, 5, 6, 789, time.UTC)
	if err := os.Chtimes(path, when, when); err != nil {
		t.Fatal(err)
	}
}

func grown(t *testing.T) string {
	t.Helper()
	top := t.TempDir()
	plant(t, top, map[string]string{
		"site/index.html": "hello", "site/empty": "", "site/big": strings.Repeat("0123456789", 50_000), "site/a/b/c/deep": "deep",
		"site/nothing/": "", "site/link": "-> a/b", "site/out": "-> /etc/passwd", "site/dangling": "-> nowhere",
		"site/bad\x1b[31m\nname": "x", "site/\xff\xfe": "not UTF-8", "site/-rf": "dash", "site/.hidden": "h",
	})
	old(t, filepath.Join(top, "site/index.html"), 0o640)
	old(t, filepath.Join(top, "site/a/b/c/deep"), 0o751)
	old(t, filepath.Join(top, "site/nothing"), 0o711)
	old(t, filepath.Join(top, "site/a/b"), 0o555)
	old(t, filepath.Join(top, "site/a"), 0o700)
	return top
}

func TestTrees(t *testing.T) {
	t.Parallel()
	for _, resume := range []bool{false, true} {
		t.Run(fmt.Sprintf("resume=%v", resume), func(t *testing.T) {
			t.Parallel()
			top := grown(t)
			want := listing(t, filepath.Join(top, "site"))
			far, near := t.TempDir(), t.TempDir()
			o := Order{Sources: []string{filepath.Join(top, "site")}, To: "", Deep: true, Resume: resume}
			total, h, err := put(t, far, o)
			if err != nil || len(h.troubles) > 0 || total.Files != 8 || total.Links != 3 || total.Folders != 5 || total.Failed != 0 {
				t.Fatalf("%+v, %v, %q", total, err, h.troubles)
			}
			if got := listing(t, filepath.Join(far, "site")); got != want {
				t.Errorf("at the node:\n%s\nnot:\n%s", got, want)
			}
			total, h, err = get(t, far, Order{Sources: []string{"site"}, To: near, Deep: true, Resume: resume})
			if err != nil || len(h.troubles) > 0 || total.Files != 8 || total.Bytes != 500_000+5+4+1+9+4+1 {
				t.Fatalf("%+v, %v, %q", total, err, h.troubles)
			}
			if got := listing(t, filepath.Join(near, "site")); got != want {
				t.Errorf("here:\n%s\nnot:\n%s", got, want)
			}
		})
	}
}

// TestLanding: where things land, as cp has it.
func TestLanding(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		sources []string
		to      string
		want    []string
		kind    fleet.Kind // of the refusal, where nothing is wanted
	}{
		{[]string{"f"}, "", []string{"f"}, 0},
		{[]string{"f"}, "new", []string{"new"}, 0},
		{[]string{"f"}, "there", []string{"there/f"}, 0},
		{[]string{"f"}, "there/", []string{"there/f"}, 0},
		{[]string{"f"}, "file", []string{"file"}, 0},
		{[]string{"f"}, "~/there", []string{"there/f"}, 0},
		{[]string{"f", "d"}, "there", []string{"there/d", "there/d/x", "there/f"}, 0},
		{[]string{"d"}, "new", []string{"new", "new/x"}, 0},
		{[]string{"d/"}, "there", []string{"there/d", "there/d/x"}, 0},
		{[]string{"d/."}, "there", []string{"there/x"}, 0},
		{[]string{"d/."}, "new", []string{"new", "new/x"}, 0},
		{[]string{"f"}, "missing/", nil, fleet.NotFound},
		{[]string{"f"}, "missing/new", nil, fleet.NotFound},
		{[]string{"f", "d"}, "new", nil, fleet.NotFound},
		{[]string{"f", "d"}, "file", nil, fleet.Conflict},
		{[]string{"f"}, "file/", nil, fleet.Conflict},
		{[]string{"f"}, "file/x", nil, fleet.Conflict},
		{[]string{"f"}, "/dev/null", nil, fleet.Conflict},
	} {
		t.Run(fmt.Sprint(c.sources, c.to), func(t *testing.T) {
			t.Parallel()
			from, far := t.TempDir(), t.TempDir()
			plant(t, from, map[string]string{"f": "F", "d/x": "X"})
			plant(t, far, map[string]string{"file": "old", "there/": ""})
			o := Order{To: c.to, Deep: true}
			for _, s := range c.sources {
				o.Sources = append(o.Sources, from+"/"+s)
			}
			total, h, err := put(t, far, o)
			if c.want == nil {
				if err == nil || fleet.KindOf(err) != c.kind || total.Files > 0 {
					t.Fatalf("%+v, %v, not %v", total, err, c.kind)
				}
				return
			}
			if err != nil || len(h.troubles) > 0 {
				t.Fatal(err, h.troubles)
			}
			var got []string
			filepath.WalkDir(far, func(path string, d fs.DirEntry, err error) error {
				rel, _ := filepath.Rel(far, path)
				raw, _ := os.ReadFile(path)
				if rel != "." && rel != "there" && string(raw) != "old" {
					got = append(got, rel)
				}
				return err
			})
			slices.Sort(got)
			if !slices.Equal(got, c.want) {
				t.Errorf("%q, not %q", got, c.want)
			}
		})
	}
}

// TestOneFails: what cannot be read or written is named, and the rest is copied.
func TestOneFails(t *testing.T) {
	t.Parallel()
	from, far := t.TempDir(), t.TempDir()
	plant(t, from, map[string]string{"d/a": "A", "d/folder": "F", "d/z": "Z", "d/sub/y": "Y", "d/linked/q": "Q"})
	plant(t, far, map[string]string{"d/folder/": "", "elsewhere/": "", "d/linked": "-> ../elsewhere", "d/sub": "a file"})
	if out, err := exec.Command("mkfifo", filepath.Join(from, "d/pipe")).CombinedOutput(); err != nil {
		t.Fatal(err, string(out))
	}
	total, h, err := put(t, far, Order{Sources: []string{filepath.Join(from, "d"), filepath.Join(from, "none")}, To: ".", Deep: true})
	slices.Sort(h.troubles)
	all := strings.Join(h.troubles, "\n")
	if err != nil || total.Failed != 5 || len(h.troubles) != 5 || total.Files != 2 {
		t.Fatalf("%+v, %v:\n%s", total, err, all)
	}
	for _, want := range []string{"conflict a folder is in the way at d/folder", "conflict d/linked is a link", "conflict d/sub is a link, or no folder", "/d/pipe is neither", "not-found there is no " + from + "/none"} {
		if !strings.Contains(all, want) {
			t.Errorf("nothing says %q:\n%s", want, all)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(far, "*/.muster*")); len(left) > 0 || listing(t, filepath.Join(far, "elsewhere")) != "" {
		t.Errorf("left behind: %q, %s", left, listing(t, filepath.Join(far, "elsewhere")))
	}
	total, h, err = get(t, from, Order{Sources: []string{"d", "none", "d/p*"}, To: far, Deep: false})
	if err != nil || total.Failed != 3 || len(h.troubles) != 3 {
		t.Fatalf("%+v, %v: %q", total, err, h.troubles)
	}
}

// TestPatterns: the far end writes out ~ and patterns, which no shell of here can.
func TestPatterns(t *testing.T) {
	t.Parallel()
	far, near := t.TempDir(), t.TempDir()
	plant(t, far, map[string]string{"log/a.log": "A", "log/b.log": "B", "log/c.txt": "C", "log/[x]": "X"})
	total, h, err := get(t, far, Order{Sources: []string{"~/log/*.log", "log/[x]"}, To: near})
	if err != nil || total.Files != 3 || len(h.troubles) > 0 {
		t.Fatalf("%+v, %v, %q", total, err, h.troubles)
	}
	for _, name := range []string{"a.log", "b.log", "[x]"} {
		if _, err := os.Stat(filepath.Join(near, name)); err != nil {
			t.Error(err)
		}
	}
}

func TestProc(t *testing.T) {
	t.Parallel()
	near := t.TempDir()
	total, _, err := get(t, near, Order{Sources: []string{"/proc/cpuinfo"}, To: near})
	raw, _ := os.ReadFile(filepath.Join(near, "cpuinfo"))
	if err != nil || total.Files != 1 || len(raw) == 0 {
		t.Fatalf("%+v, %v: a file that says that it has no bytes has %d", total, err, len(raw))
	}
}

// cutting is a stream that breaks after so many bytes written.
type cutting struct {
	*process
	left int
}

func (c *cutting) Write(p []byte) (int, error) {
	if len(p) > c.left {
		c.process.Close()
		return 0, io.ErrClosedPipe
	}
	c.left -= len(p)
	return c.process.Write(p)
}

func TestResume(t *testing.T) {
	t.Parallel()
	from, far := t.TempDir(), t.TempDir()
	plant(t, from, map[string]string{
		"d/1": "one", "d/2": strings.Repeat("two", 1<<20), "d/3": "three", "d/sub/4": strings.Repeat("4", 100_000),
	})
	old(t, filepath.Join(from, "d/sub"), 0o750)
	want := listing(t, from)
	o := Order{Sources: []string{filepath.Join(from, "d")}, To: "", Deep: true}

	p := startFar(t, far)
	if _, err := Put(t.Context(), &cutting{p, 2 << 20}, o); fleet.KindOf(err) != fleet.Unavailable {
		t.Fatal(err)
	}
	if code := p.wait(t); code != 1 {
		t.Error("exit", code)
	}
	parts, _ := filepath.Glob(filepath.Join(far, "d/.muster-*.part"))
	if len(parts) != 1 {
		t.Fatalf("parts: %q", parts)
	}
	info, err := os.Stat(parts[0])
	if err != nil || info.Size() < 1<<20 || info.Mode() != 0o600 {
		t.Fatal(info, err)
	}
	kept := uint64(info.Size())
	done := len(strings.Split(listing(t, filepath.Join(far, "d")), "\n"))
	t.Logf("%d bytes in the part, %d entries", kept, done)

	o.Resume = true
	total, h, err := put(t, far, o)
	if err != nil || len(h.troubles) > 0 || total.Files != 4 || total.Reused < kept || total.Bytes+total.Reused != 3<<20+100_000+8 {
		t.Fatalf("%+v, %v, %q", total, err, h.troubles)
	}
	if h.moved != 3<<20+100_000+8 {
		t.Errorf("progress says %d bytes", h.moved)
	}
	if got := listing(t, far); names(got) != names(want) {
		t.Errorf("%s\nnot\n%s", got, want)
	}
	// Once more: all is there.
	total, _, err = put(t, far, o)
	if err != nil || total.Kept != 4 || total.Bytes != 0 {
		t.Fatalf("%+v, %v", total, err)
	}
	// The time of one has changed, and comes along.
	old(t, filepath.Join(from, "d/1"), 0o604)
	total, _, err = put(t, far, o)
	if err != nil || total.Kept != 3 || total.Bytes != 3 || names(listing(t, far)) != names(listing(t, from)) {
		t.Fatalf("%+v, %v", total, err)
	}
}

// names leaves times of folders out: a folder that a copy which broke off made keeps the time of the one that ended it.
func names(listing string) string {
	var out []string
	for line := range strings.Lines(listing) {
		f := strings.Fields(line)
		if strings.HasPrefix(f[1], "d") {
			f[2] = ""
		}
		out = append(out, strings.Join(f, " "))
	}
	return strings.Join(out, "\n")
}

// TestResumeOfAnother: a part of another content is not gone on with.
func TestResumeOfAnother(t *testing.T) {
	t.Parallel()
	from, far := t.TempDir(), t.TempDir()
	plant(t, from, map[string]string{"f": strings.Repeat("a", 3<<20)})
	old(t, filepath.Join(from, "f"), 0o600)
	o := Order{Sources: []string{filepath.Join(from, "f")}, To: ""}
	p := startFar(t, far)
	if _, err := Put(t.Context(), &cutting{p, 2 << 20}, o); err == nil {
		t.Fatal("it did not break off")
	}
	p.wait(t)
	plant(t, from, map[string]string{"f": strings.Repeat("b", 3<<20)})
	old(t, filepath.Join(from, "f"), 0o600)
	o.Resume = true
	total, _, err := put(t, far, o)
	raw, _ := os.ReadFile(filepath.Join(far, "f"))
	if err != nil || total.Reused != 0 || strings.Trim(string(raw), "b") != "" || len(raw) != 3<<20 {
		t.Fatalf("%+v, %v, %d", total, err, len(raw))
	}
}

func TestCancel(t *testing.T) {
	t.Parallel()
	from, far := t.TempDir(), t.TempDir()
	plant(t, from, map[string]string{"f": strings.Repeat("a", 8<<20)})
	ctx, cancel := context.WithCancel(t.Context())
	p := startFar(t, far)
	_, err := Put(ctx, p, Order{Sources: []string{from + "/f"}, Watch: Watch{Moved: func(int64) { cancel() }}})
	if fleet.KindOf(err) != fleet.Unavailable || !strings.Contains(err.Error(), "ended here") {
		t.Error(err)
	}
	if code := p.wait(t); code != 1 {
		t.Error("exit", code)
	}
}

// TestFullDisk: the copy ends, says so, and leaves room.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	from, far := t.TempDir(), t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", far).CombinedOutput(); err != nil {
		t.Skip("mounting a small disk needs root:", string(out))
	}
	defer exec.Command("umount", far).Run()
	plant(t, from, map[string]string{"d/a": "A", "d/b": strings.Repeat("b", 5<<20)})
	total, h, err := put(t, far, Order{Sources: []string{from + "/d"}, Deep: true})
	if fleet.KindOf(err) != fleet.Exhausted || !strings.Contains(err.Error(), "d/b") {
		t.Fatalf("%+v, %v, %q", total, err, h.troubles)
	}
	if left, _ := filepath.Glob(filepath.Join(far, "d/.muster*")); len(left) > 0 {
		t.Error("left behind:", left)
	}
	// And here, when it is here that it is full.
	_, _, err = get(t, from, Order{Sources: []string{"d"}, To: far, Deep: true})
	if fleet.KindOf(err) != fleet.Exhausted {
		t.Fatal(err)
	}
}

func TestMany(t *testing.T) {
	t.Parallel()
	from, far := t.TempDir(), t.TempDir()
	const many = 2_000
	for i := range many {
		dir := filepath.Join(from, "d", fmt.Sprint(i%50))
		if i < 50 {
			if err := os.MkdirAll(dir, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), fmt.Appendf(nil, "content of %d", i), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	began := time.Now()
	total, h, err := put(t, far, Order{Sources: []string{from + "/d"}, Deep: true})
	t.Logf("%d files in %s", many, time.Since(began))
	if err != nil || total.Files != uint64(many) || len(h.troubles) > 0 {
		t.Fatalf("%+v, %v, %q", total, err, h.troubles)
	}
	if a, b := listing(t, from), listing(t, far); a != b {
		t.Error("the trees differ")
	}
}
