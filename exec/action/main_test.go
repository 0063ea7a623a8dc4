package action

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/muster-fleet/muster/exec/document"
	"github.com/muster-fleet/muster/exec/steps"
	"github.com/muster-fleet/muster/node/fleet"
)

// TestMain lets the test binary be the process of an act, as the agent's binary is.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "act" {
		os.Exit(Main(os.Args[2:], Ways{}, os.Stdin, os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// said collects what an act says.
type said struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (s *said) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

func (s *said) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// bed is a host for tests: folders of its own, and no waiting.
type bed struct {
	host
	out, err *said
}

func newBed(t *testing.T, env ...string) bed {
	t.Helper()
	downloads := t.TempDir()
	b := bed{out: &said{}, err: &said{}}
	env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), DownloadsVariable + "=" + downloads}, env...)
	b.host = host{env: env, dir: downloads, downloads: downloads, private: []string{t.TempDir()}, stdout: b.out, stderr: b.err, now: time.Now,
		pause: func(ctx context.Context, d time.Duration) error {
			if d < firstPause {
				return pause(ctx, d)
			}
			return ctx.Err()
		}}
	return b
}

// do performs an act with inputs, and returns its exit code.
func (b bed) do(t *testing.T, act string, inputs any) int {
	t.Helper()
	text, err := json.Marshal(inputs)
	if err != nil {
		t.Fatal(err)
	}
	return b.verdict(t.Context(), b.main(t.Context(), []string{act}, bytes.NewReader(text)))
}

// files lists what lies below a folder: path → content, "→target" for links, "/" for folders.
func files(t *testing.T, top string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == top {
			return err
		}
		rel, _ := filepath.Rel(top, path)
		switch {
		case d.IsDir():
			out[rel+"/"] = ""
		case d.Type()&fs.ModeSymlink != 0:
			to, _ := os.Readlink(path)
			out[rel] = "→" + to
		default:
			text, err := os.ReadFile(path)
			out[rel] = string(text)
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func wantFiles(t *testing.T, top string, want map[string]string) {
	t.Helper()
	got := files(t, top)
	for path := range got {
		if _, ok := want[path]; !ok {
			t.Errorf("%s is there", path)
		}
	}
	for path, text := range want {
		if g, ok := got[path]; !ok || g != text {
			t.Errorf("%s: got %.200q, %v", path, g, ok)
		}
	}
}

func wantWords(t *testing.T, got string, want ...string) {
	t.Helper()
	for _, w := range want {
		if !strings.Contains(got, w) {
			t.Errorf("%q is not in %q", w, got)
		}
	}
}

func TestMainRefuses(t *testing.T) {
	for _, c := range []struct {
		args  []string
		stdin string
		want  string
		code  int
	}{
		{nil, "", "an act has one name", 2},
		{[]string{"download", "x"}, "{}", "an act has one name", 2},
		{[]string{"fly"}, "{}", `no act "fly"`, 2},
		{[]string{"download"}, "", "cannot be read", 2},
		{[]string{"download"}, `{"sourceType": 5}`, "sourceType is of another type", 2},
		{[]string{"download"}, `{"sourceType": "HTTP", "wings": 2}`, `unknown field "wings"`, 2},
		{[]string{"download"}, `{} {}`, "more follows", 2},
		{[]string{"download"}, `{"sourceType": "Gopher"}`, `no source type "Gopher"`, 2},
		{[]string{"download"}, strings.Repeat(" ", MaxInputs+1), "more than 16777216 bytes", 1},
		{[]string{"upgrade"}, `{}`, "needs one", 1},
		{[]string{"inventory"}, `{}`, "not built yet", 1},
		{[]string{"association"}, `{}`, "not built yet", 1},
	} {
		var out, err bytes.Buffer
		if code := Main(c.args, Ways{}, strings.NewReader(c.stdin), &out, &err); code != c.code || !strings.Contains(err.String(), c.want) {
			t.Errorf("%q %.40q: exit code %d, %q", c.args, c.stdin, code, err.String())
		}
	}
}

func TestExitCodes(t *testing.T) {
	for code, want := range map[int]int{0: 1, 1: 1, 5: 5, 100: 100, 255: 255, 256: 1, -1: 1, 96: 1, 168: 1, 169: 1, 194: 1} {
		if got := exitCode(&exitError{"apt-get", code}); got != want {
			t.Errorf("a tool's %d became %d", code, got)
		}
	}
	if got := exitCode(fmt.Errorf("x: %w", invalidPlatform("no git"))); got != steps.ExitInvalidPlatform {
		t.Errorf("got %d", got)
	}
	if exitCode(fleet.Errorf(fleet.Denied, "x")) != 1 || exitCode(fleet.Errorf(fleet.Invalid, "x")) != 2 {
		t.Error("kinds have the wrong exit codes")
	}
}

func TestErrorsAreOneLine(t *testing.T) {
	b := newBed(t)
	b.verdict(t.Context(), fleet.Errorf(fleet.Denied, "a\n\x1b[31mb").Hinted("c\nd"))
	if got := b.err.String(); got != "a  [31mb\n  → c d\n" {
		t.Errorf("got %q", got)
	}
}

// process starts an act as a process of its own.
func process(t *testing.T, act string, inputs any, env ...string) (*exec.Cmd, *said) {
	t.Helper()
	text, err := json.Marshal(inputs)
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	words := &said{}
	cmd := exec.CommandContext(t.Context(), self, "act", act)
	cmd.WaitDelay = mercy
	cmd.Stdin, cmd.Stdout, cmd.Stderr, cmd.Env = bytes.NewReader(text), words, words, append(os.Environ(), env...)
	return cmd, words
}

// untilReady starts a process and waits until it prints the line "ready", or ends.
func untilReady(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	all := cmd.Stdout
	cmd.Stdout = nil
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	for lines := bufio.NewReader(out); ; {
		line, err := lines.ReadString('\n')
		io.WriteString(all, line)
		if line == "ready\n" || err != nil {
			return
		}
	}
}

func TestLocal(t *testing.T) {
	from := t.TempDir()
	write := func(name, text string, mode fs.FileMode) {
		path := filepath.Join(from, name)
		os.MkdirAll(filepath.Dir(path), 0o755)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	write("a.txt", "a", 0o644)
	write("sub/run.sh", "#!", 0o755)
	os.Symlink("sub/run.sh", filepath.Join(from, "link"))

	b := newBed(t)
	local := func(path, to string) int {
		return b.do(t, "download", document.Download{SourceType: "LocalPath", Source: document.SourceInfo{Path: path}, Destination: to})
	}
	os.MkdirAll(b.downloads+"/there/sub", 0o755)
	os.WriteFile(b.downloads+"/there/sub/own", []byte("mine"), 0o644)
	os.WriteFile(b.downloads+"/there/a.txt", []byte("old"), 0o644)
	for path, to := range map[string]string{from + "/a.txt": "x/renamed", from + "//a.txt": "y/", from: "there"} {
		if code := local(path, to); code != 0 {
			t.Fatalf("%s: exit code %d: %s", path, code, b.err)
		}
	}
	if code := local("x/renamed", "../../../dots"); code != 0 { // relative ones stay below the downloads
		t.Fatalf("exit code %d: %s", code, b.err)
	}
	wantFiles(t, b.downloads, map[string]string{"x/": "", "x/renamed": "a", "y/": "", "y/a.txt": "a", "dots": "a", "there/": "", "there/sub/": "",
		"there/a.txt": "a", "there/sub/own": "mine", "there/sub/run.sh": "#!", "there/link": "→sub/run.sh"})
	if info, _ := os.Stat(b.downloads + "/there/sub/run.sh"); info.Mode()&0o100 == 0 {
		t.Error("what could be executed no longer can")
	}
	wantWords(t, b.out.String(), b.downloads+"/y/a.txt: 1 byte\n")

	os.Symlink("/etc/passwd", filepath.Join(from, "out"))
	before := files(t, b.downloads)
	for path, want := range map[string]string{from: "leads out of it", from + "/none": "does not exist", "/dev/null": "neither a file nor a folder", "": "no path"} {
		if code := local(path, "new/"); code == 0 {
			t.Errorf("%s was copied", path)
		}
		wantWords(t, b.err.String(), want)
	}
	if code := local(from+"/a.txt", "x/renamed/"); code == 0 {
		t.Error("a file was taken for a folder")
	}
	delete(before, "new/")
	after := files(t, b.downloads)
	delete(after, "new/")
	if len(after) != len(before) {
		t.Errorf("left behind: %v", after)
	}
}

func TestDocumentTexts(t *testing.T) {
	b := newBed(t)
	for name, text := range map[string]string{"web-deploy:3": "schemaVersion: '2.2'\n", "json-one": " {}"} {
		if code := b.do(t, "download", document.Download{SourceType: "SSMDocument", Source: document.SourceInfo{Name: name}, Text: text, Destination: "docs/"}); code != 0 {
			t.Fatal(b.err)
		}
	}
	wantFiles(t, b.downloads, map[string]string{"docs/": "", "docs/web-deploy.yaml": "schemaVersion: '2.2'\n", "docs/json-one.json": " {}"})
	if code := b.do(t, "download", document.Download{SourceType: "SSMDocument", Source: document.SourceInfo{Name: "x"}}); code != 2 {
		t.Errorf("exit code %d", code)
	}
}

func TestFileNames(t *testing.T) {
	for path, want := range map[string]string{"/a/b.txt": "b.txt", "b": "b", "": "", "/": "", "/a/": "", "/a/..": "", ".": "", "/" + strings.Repeat("x", 256): "", "/a/\x00": ""} {
		if got := fileName(path); got != want {
			t.Errorf("%q: got %q", path, got)
		}
	}
}

func TestPlace(t *testing.T) {
	for text, want := range map[string]destination{
		"": {"/d", true}, ".": {"/d", true}, "a": {"/d/a", false}, "a/": {"/d/a", true}, "../a": {"/d/a", false}, "a/../../b": {"/d/b", false},
		"/a/../b": {"/b", false}, "/": {"/", true}, "/a/.": {"/a", true},
	} {
		if got := place("/d", text); got != want {
			t.Errorf("%q: got %+v", text, got)
		}
	}
}

func TestToolsInThePath(t *testing.T) {
	dir := t.TempDir()
	b := newBed(t)
	b.env = []string{"PATH=/none", "PATH=.:relative:" + dir}
	os.WriteFile(dir+"/plain", nil, 0o644)
	os.WriteFile(dir+"/tool", nil, 0o755)
	os.Mkdir(dir+"/folder", 0o755)
	for name, want := range map[string]bool{"plain": false, "tool": true, "folder": false, "none": false} {
		if path, ok := b.find(name); ok != want || (ok && path != filepath.Join(dir, name)) {
			t.Errorf("%s: %s, %v", name, path, ok)
		}
	}
	if slices.Contains(b.env, "") {
		t.Error("the environment changed")
	}
}
