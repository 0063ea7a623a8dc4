package outlet

import (
	"bytes"
	"context"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/muster-fleet/muster/exec/s3/s3test"
	"github.com/muster-fleet/muster/node/fleet"
)

var command = fleet.UUID{0x87, 0xff, 15: 1}

func TestCheck(t *testing.T) {
	for to, want := range map[string]string{
		"syslog": "", "/srv/outputs": "", "/": "", "s3://logs/fleet?endpoint=https://minio:9000": "", "s3://logs": "",
		"": "no place", "outputs": "no place", "./x": "no place", "syslog:": "no place", "https://logs/x": "no place", "s3://": "no name of a bucket",
		"s3://logs?acl=x": "not \"acl\"", "/a\nb": "control characters", "/" + strings.Repeat("x", 3000): "at most 2048",
		"s3://logs/" + strings.Repeat("k", 1000): "leave room",
	} {
		err := Check(to)
		if (err == nil) != (want == "") || (err != nil && (!strings.Contains(err.Error(), want) || fleet.KindOf(err) != fleet.Invalid)) {
			t.Errorf("%.40q: got %v, wanted %q", to, err, want)
		}
	}
}

func source(stream, text string) Source {
	return Source{Command: command, Node: "web1", Stream: stream, Size: int64(len(text)),
		Open: func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(text + "later")), nil }}
}

func open(t *testing.T, to string, o Options) Outlet {
	t.Helper()
	out, err := Open(to, o)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestFolder(t *testing.T) {
	old := syscall.Umask(0o077)
	defer syscall.Umask(old)
	dir := t.TempDir()
	out := open(t, dir, Options{})
	for range 2 { // a copy may be made twice
		if err := out.Copy(t.Context(), source("stdout", "hello\n")); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(dir, command.String(), "web1", "stdout")
	text, err := os.ReadFile(path)
	if err != nil || string(text) != "hello\n" {
		t.Errorf("got %q, %v", text, err)
	}
	for p, mode := range map[string]fs.FileMode{path: 0o640, filepath.Dir(path): 0o750 | fs.ModeDir, filepath.Dir(filepath.Dir(path)): 0o750 | fs.ModeDir} {
		if info, err := os.Stat(p); err != nil || info.Mode() != mode {
			t.Errorf("%s: %v, %v", p, info.Mode(), err)
		}
	}
	if names, _ := filepath.Glob(filepath.Join(filepath.Dir(path), ".*")); len(names) > 0 {
		t.Errorf("left behind: %v", names)
	}
}

func TestFolderLeavesNothingHalf(t *testing.T) {
	dir := t.TempDir()
	out := open(t, dir, Options{})
	short := source("stdout", "hello\n")
	short.Size = 100
	if err := out.Copy(t.Context(), short); fleet.KindOf(err) != fleet.Unavailable || !strings.Contains(err.Error(), "11 of 100") {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := out.Copy(ctx, source("stdout", "hello\n")); err == nil {
		t.Error("a stopped copy succeeded")
	}
	left := 0
	filepath.WalkDir(dir, func(_ string, d fs.DirEntry, _ error) error {
		if !d.IsDir() {
			left++
		}
		return nil
	})
	if left > 0 {
		t.Errorf("%d files are left", left)
	}
	if err := open(t, dir+"/none", Options{}).Copy(t.Context(), source("stdout", "")); fleet.KindOf(err) != fleet.Unavailable {
		t.Errorf("a folder that is not there: %v", err)
	}
	if _, err := os.Stat(dir + "/none"); err == nil {
		t.Error("the folder was made: a share that is not mounted would fill the disk below it")
	}
}

func TestFolderIsNotLeftByLinks(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	if err := os.Symlink(outside, filepath.Join(dir, command.String())); err != nil {
		t.Fatal(err)
	}
	if err := open(t, dir, Options{}).Copy(t.Context(), source("stdout", "x")); err == nil {
		t.Error("a link was followed")
	}
	if names, _ := os.ReadDir(outside); len(names) > 0 {
		t.Errorf("written outside: %v", names)
	}
}

func TestNamesAreChecked(t *testing.T) {
	for _, to := range []string{t.TempDir(), "syslog", "s3://logs"} {
		out := open(t, to, Options{})
		for _, s := range []Source{{Node: "../x", Stream: "stdout"}, {Node: "", Stream: "stdout"}, {Node: "web1", Stream: "../../x"}, {Node: "web1", Stream: "stdout", Size: -1}} {
			if err := out.Copy(t.Context(), s); fleet.KindOf(err) != fleet.Invalid {
				t.Errorf("%s: %+v: %v", to, s, err)
			}
		}
	}
}

func TestBucket(t *testing.T) {
	store := s3test.New(t)
	store.Fail(503)
	out := open(t, "s3://logs/fleet/lab?endpoint="+store.URL, Options{Getenv: env(store), Pause: still})
	if err := out.Copy(t.Context(), source("stderr", "oh\n")); err != nil {
		t.Fatal(err)
	}
	if got, ok := store.Object("logs/fleet/lab/" + command.String() + "/web1/stderr"); !ok || string(got) != "oh\n" {
		t.Errorf("got %q of %v", got, store.Asked())
	}
	if err := open(t, "s3://logs", Options{Getenv: env(store)}).Copy(t.Context(), source("stdout", "")); err != nil {
		t.Errorf("an empty output: %v", err)
	}
	wrong := open(t, "s3://logs?endpoint="+store.URL, Options{Getenv: func(name string) string {
		return map[string]string{"AWS_ACCESS_KEY_ID": s3test.KeyID, "AWS_SECRET_ACCESS_KEY": "wrong", "AWS_REGION": s3test.Region}[name]
	}})
	if err := wrong.Copy(t.Context(), source("stdout", "x")); fleet.KindOf(err) != fleet.Denied {
		t.Errorf("a wrong key: %v", err)
	}
}

func env(s *s3test.Store) func(string) string {
	return func(name string) string {
		for _, kv := range s.Env() {
			if v, ok := strings.CutPrefix(kv, name+"="); ok {
				return v
			}
		}
		return ""
	}
}

func still(ctx context.Context, _ time.Duration) error { return ctx.Err() }

// daemon is a syslog daemon that keeps what it hears.
type daemon struct {
	path string
	conn *net.UnixConn
	mu   sync.Mutex
	more sync.Cond
	said []string
	over bool
}

func listen(t *testing.T, path string) *daemon {
	t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	d := &daemon{path: path, conn: conn}
	d.more.L = &d.mu
	go d.listen()
	t.Cleanup(func() { conn.Close() })
	return d
}

func (d *daemon) listen() {
	buf := make([]byte, 64<<10)
	for {
		n, err := d.conn.Read(buf)
		d.mu.Lock()
		if d.over = err != nil; !d.over {
			d.said = append(d.said, string(buf[:n]))
		}
		d.mu.Unlock()
		d.more.Broadcast()
		if err != nil {
			return
		}
	}
}

// heard returns what came, once as many messages came as wanted.
func (d *daemon) heard(want int) []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	for len(d.said) < want && !d.over {
		d.more.Wait()
	}
	return slices.Clone(d.said)
}

func TestSyslog(t *testing.T) {
	d := listen(t, filepath.Join(t.TempDir(), "log"))
	at := time.Date(2026, 11, 3, 4, 5, 6, 0, time.UTC)
	o := Options{Socket: d.path, Pause: still, Now: func() time.Time { return at }}
	out := open(t, "syslog", o)
	long := strings.Repeat("é", 1000)
	if err := out.Copy(t.Context(), source("stdout", "one\r\n\n"+long+"\n\x1b[31mred\tx\xff\nlast")); err != nil {
		t.Fatal(err)
	}
	if err := out.Copy(t.Context(), source("stderr", "oh\n")); err != nil {
		t.Fatal(err)
	}
	head := "<30>Nov  3 04:05:06 muster: " + command.String() + " web1 stdout"
	want := []string{head + ": one", head + ": ", head + ": " + long[:1800], head + "+: " + long[1800:], head + `: \x1b[31mred` + "\t" + `x\xff`, head + ": last",
		"<29>Nov  3 04:05:06 muster: " + command.String() + " web1 stderr: oh"}
	if got := d.heard(len(want)); !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwanted\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestSyslogKeepsItsPaceAndSaysWhatIsCut(t *testing.T) {
	d := listen(t, filepath.Join(t.TempDir(), "log"))
	var waited time.Duration
	o := Options{Socket: d.path, Pause: func(ctx context.Context, d time.Duration) error { waited += d; return ctx.Err() }}
	text := strings.Repeat("x\n", maxMessages+10)
	if err := open(t, "syslog", o).Copy(t.Context(), source("stdout", text)); err != nil {
		t.Fatal(err)
	}
	got := d.heard(maxMessages + 1)
	if len(got) != maxMessages+1 || !strings.Contains(got[maxMessages], "only 100000 messages are sent; all of it: muster command show "+command.String()+" --node web1 --stdout --full") {
		t.Errorf("%d messages, the last is %q", len(got), got[len(got)-1])
	}
	if rate := maxMessages / int(waited.Seconds()); rate > 10_000/30 {
		t.Errorf("%d messages a second", rate)
	}
}

func TestSyslogComesBack(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	pauses := 0
	var d *daemon
	o := Options{Socket: path, Pause: func(ctx context.Context, _ time.Duration) error {
		if pauses++; pauses == 2 {
			d = listen(t, path)
		}
		return ctx.Err()
	}}
	if err := open(t, "syslog", o).Copy(t.Context(), source("stdout", "a\nb\n")); err != nil {
		t.Fatal(err)
	}
	if got := d.heard(2); len(got) != 2 {
		t.Errorf("got %q", got)
	}
	d.conn.Close()
	os.Remove(path)
	o.Pause = still
	err := open(t, "syslog", o).Copy(t.Context(), source("stdout", "a\n"))
	if fleet.KindOf(err) != fleet.Unavailable || !strings.Contains(err.Error(), path) {
		t.Errorf("got %v", err)
	}
}

func TestSyslogByStream(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	heard := make(chan string)
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		text, _ := io.ReadAll(conn)
		heard <- string(text)
	}()
	if err := open(t, "syslog", Options{Socket: path}).Copy(t.Context(), source("stdout", "a\nb\n")); err != nil {
		t.Fatal(err)
	}
	if got := <-heard; strings.Count(got, "\x00") != 2 || !strings.HasSuffix(got, "stdout: b\x00") {
		t.Errorf("got %q", got)
	}
}

func TestPiecesAreBoundedPrintableAndLoseNothing(t *testing.T) {
	plain := regexp.MustCompile(`^[^\x00-\x08\x0a-\x1f\x7f-\x9f]*$`)
	rapid.Check(t, func(t *rapid.T) {
		line := bytes.Repeat([]byte(rapid.String().Draw(t, "text")+string(rapid.SliceOf(rapid.Byte()).Draw(t, "bytes"))), rapid.IntRange(1, 200).Draw(t, "times"))
		var all string
		for _, p := range pieces(line) {
			if len(p) > maxText || !plain.MatchString(p) {
				t.Fatalf("piece %q", p)
			}
			all += p
		}
		if bytes.IndexFunc(line, func(r rune) bool { return r == '\ufffd' || (r != '\t' && r < ' ') || (r >= 0x7f && r < 0xa0) }) < 0 && all != string(line) {
			t.Fatalf("%q became %q", line, all)
		}
	})
}

func BenchmarkPieces(b *testing.B) {
	line := []byte(strings.Repeat("an ordinary line of output, ", 3))
	for b.Loop() {
		pieces(line)
	}
}
