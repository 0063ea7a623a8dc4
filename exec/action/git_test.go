package action

import (
	"net/http"
	"net/http/cgi"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/muster-fleet/muster/exec/document"
	"github.com/muster-fleet/muster/node/fleet"
)

// gitHome makes a bare repository NAME.git with two commits on main and one on side, and returns its folder and the first
// commit's ID.
func gitHome(t *testing.T) (dir, first string) {
	t.Helper()
	work := t.TempDir()
	dir = t.TempDir()
	git := func(args ...string) string {
		cmd := exec.Command("git", args...)
		cmd.Dir = work
		cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@b", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@b",
			"GIT_AUTHOR_DATE=2026-01-01T00:00:00Z", "GIT_COMMITTER_DATE=2026-01-01T00:00:00Z")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("git %v: %v: %s", args, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	write := func(name, text string) {
		os.MkdirAll(filepath.Dir(filepath.Join(work, name)), 0o755)
		os.WriteFile(filepath.Join(work, name), []byte(text), 0o755)
		git("add", "--", name)
		git("commit", "-q", "-m", "x")
	}
	git("init", "-q", "-b", "main")
	write("play/site.yml", "one")
	first = git("rev-parse", "HEAD")
	write("play/site.yml", "two")
	git("checkout", "-q", "-b", "side/1")
	write("README", "side")
	git("checkout", "-q", "main")
	os.Symlink("../../etc/passwd", filepath.Join(work, "play/out"))
	git("checkout", "-q", "-b", "evil")
	git("add", "play/out")
	git("commit", "-q", "-m", "x")
	git("checkout", "-q", "main")
	git("clone", "-q", "--bare", work, filepath.Join(dir, "r.git"))
	return dir, first
}

func gitFetch(in document.SourceInfo, to string) document.Download {
	return document.Download{SourceType: "Git", Source: in, Destination: to}
}

func TestGit(t *testing.T) {
	dir, first := gitHome(t)
	b := newBed(t, "GIT_DIR=/none", "GIT_TRACE=1")
	repo := dir + "/r.git"
	for to, in := range map[string]document.SourceInfo{
		"main":   {Repository: repo},
		"side":   {Repository: "file://" + repo, GetOptions: "branch:side/1"},
		"first":  {Repository: repo, GetOptions: "commitID:" + first},
		"short":  {Repository: repo, GetOptions: "commitID:" + first[:10]},
		"folder": {Repository: repo, Path: "play"},
		"file/":  {Repository: repo, Path: "play/site.yml"},
	} {
		if code := b.do(t, "download", gitFetch(in, to)); code != 0 {
			t.Fatalf("%s: %s", to, b.err)
		}
	}
	wantFiles(t, b.downloads, map[string]string{"main/": "", "main/play/": "", "main/play/site.yml": "two", "side/": "", "side/play/": "", "side/play/site.yml": "two", "side/README": "side",
		"first/": "", "first/play/": "", "first/play/site.yml": "one", "short/": "", "short/play/": "", "short/play/site.yml": "one",
		"folder/": "", "folder/site.yml": "two", "file/": "", "file/site.yml": "two"})
	for want, in := range map[string]document.SourceInfo{
		"there is no \"none\"":                 {Repository: repo, Path: "none"},
		"does not appear":                      {Repository: dir + "/none.git"},
		"leads out of it":                      {Repository: repo, GetOptions: "branch:evil", Path: "play"},
		"couldn't find":                        {Repository: repo, GetOptions: "branch:none"},
		"fatal: invalid reference: 0123456789": {Repository: repo, GetOptions: "commitID:0123456789"},
		"is for a repository b":                {Repository: repo, PrivateSSHKey: "key"},
	} {
		if code := b.do(t, "download", gitFetch(in, "x")); code == 0 {
			t.Errorf("%+v was downloaded", in)
		}
		wantWords(t, b.err.String(), want)
	}
	if left, _ := filepath.Glob(b.downloads + "/.*"); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if strings.Contains(b.err.String(), "trace:") {
		t.Error("git is told to trace what it sends")
	}
}

func TestGitByHTTPWithPassword(t *testing.T) {
	dir, _ := gitHome(t)
	home, err := exec.Command("git", "--exec-path").Output()
	if err != nil {
		t.Fatal(err)
	}
	backend := &cgi.Handler{Path: filepath.Join(strings.TrimSpace(string(home)), "git-http-backend"), Env: []string{"GIT_PROJECT_ROOT=" + dir, "GIT_HTTP_EXPORT_ALL=1"}}
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if user, password, _ := r.BasicAuth(); user != "me@example" || password != "hunter/2" {
			w.Header().Set("WWW-Authenticate", `Basic realm="git"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		backend.ServeHTTP(w, r)
	})
	b, argv := spied(t)
	for to, in := range map[string]document.SourceInfo{
		"a": {Repository: url + "/r.git", Username: "me@example", Password: "hunter/2"},
		"b": {Repository: strings.Replace(url, "://", "://me%40example:hunter%2F2@", 1) + "/r.git"},
	} {
		in.AllowInsecureDownload = true
		if code := b.do(t, "download", gitFetch(in, to)); code != 0 {
			t.Fatalf("%s: %s", to, b.err)
		}
	}
	wantFiles(t, b.downloads, map[string]string{"a/": "", "a/play/": "", "a/play/site.yml": "two", "b/": "", "b/play/": "", "b/play/site.yml": "two"})
	in := document.SourceInfo{Repository: url + "/r.git", Username: "me@example", Password: "hunter3", AllowInsecureDownload: true}
	if code := b.do(t, "download", gitFetch(in, "c")); code == 0 {
		t.Error("a wrong password opened")
	}
	in.AllowInsecureDownload = false
	if code := b.do(t, "download", gitFetch(in, "c")); code == 0 {
		t.Error("http was taken without leave")
	}
	wantWords(t, b.err.String(), "Authentication failed", "is not encrypted")
	seen := argv()
	if !strings.Contains(seen, "fetch") {
		t.Fatalf("the spy saw nothing: %s", seen)
	}
	if all := seen + b.err.String() + b.out.String(); strings.Contains(all, "hunter") {
		t.Errorf("a secret is in an argument, the environment or the output: %s", all)
	}
	wantFiles(t, b.private[0], nil)
}

// spied puts a git before the real one that writes down arguments and environment.
func spied(t *testing.T) (bed, func() string) {
	t.Helper()
	real, err := exec.LookPath("git")
	if err != nil {
		t.Fatal(err)
	}
	bin, log := t.TempDir(), filepath.Join(t.TempDir(), "log")
	script(t, bin+"/git", `printf '%s\n' "$@" >>"`+log+`"; env >>"`+log+`"; exec "`+real+`" "$@"`)
	b := newBed(t, "PATH="+bin+":"+os.Getenv("PATH"))
	return b, func() string {
		text, _ := os.ReadFile(log)
		return string(text)
	}
}

func script(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
}

// TestGitBySSH has a stand-in for ssh that checks the key as ssh does, and runs what it is told on this host.
func TestGitBySSH(t *testing.T) {
	dir, _ := gitHome(t)
	bin, log := t.TempDir(), filepath.Join(t.TempDir(), "log")
	script(t, bin+"/ssh", `
printf '%s\n' "$*" >>"`+log+`"
while [ $# -gt 0 ]; do
	case $1 in
	-i) key=$2; shift 2 ;;
	-o | -p) shift 2 ;;
	-*) shift ;;
	*) break ;;
	esac
done
if [ -n "$key" ]; then
	[ "$(stat -c %a "$key")" = 600 ] || exit 9
	[ "$(cat "$key")" = "PRIVATE hunter2" ] || exit 8
fi
shift
exec sh -c "$*"`)
	b := newBed(t, "PATH="+bin+":"+os.Getenv("PATH"))
	for to, in := range map[string]document.SourceInfo{
		"a": {Repository: "ssh://host" + dir + "/r.git", PrivateSSHKey: " PRIVATE hunter2 \n\n"},
		"b": {Repository: "deploy@host:" + dir + "/r.git", SkipHostKeyChecking: true},
		"c": {Repository: "host:" + dir + "/r.git", Username: "me", PrivateSSHKey: "PRIVATE hunter2"},
	} {
		if code := b.do(t, "download", gitFetch(in, to)); code != 0 {
			t.Fatalf("%s: %s", to, b.err)
		}
	}
	text, _ := os.ReadFile(log)
	wantWords(t, string(text), "git@host git-upload-pack", "deploy@host git-upload-pack", "me@host git-upload-pack", "-o IdentitiesOnly=yes -i /", "-o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null")
	if strings.Count(string(text), "StrictHostKeyChecking=yes") != 2 || strings.Contains(string(text)+b.err.String(), "hunter") {
		t.Errorf("ssh was called so: %s", text)
	}
	wantFiles(t, b.private[0], nil)
}

func TestRemotes(t *testing.T) {
	for text, want := range map[string]remote{
		"/srv/r.git":                {address: "/srv/r.git", shown: "/srv/r.git"},
		"https://u:p@h:8443/a/b":    {address: "https://h:8443/a/b", shown: "https://h:8443/a/b", user: "u", password: "p"},
		"ssh://h:22/a":              {address: "ssh://git@h:22/a", shown: "ssh://h:22/a", ssh: true},
		"ssh://u@h/a":               {address: "ssh://u@h/a", shown: "ssh://h/a", ssh: true},
		"git@github.com:o/r.git":    {address: "git@github.com:o/r.git", shown: "git@github.com:o/r.git", ssh: true},
		"host:r.git":                {address: "git@host:r.git", shown: "git@host:r.git", ssh: true},
		"file:///srv/r.git":         {address: "file:///srv/r.git", shown: "file:///srv/r.git"},
		"-u/x":                      {},
		"--upload-pack=touch /x":    {},
		"ext::sh -c touch% /x":      {},
		"":                          {},
		"r.git":                     {},
		"../r.git":                  {},
		"git://h/r":                 {},
		"http://h/r":                {},
		"https://":                  {},
		"https://h/r?token=hunter2": {},
		"ssh://-oProxyCommand=x/r":  {},
		"-oProxyCommand=x:r":        {},
		"u@-oProxyCommand=x:r":      {},
		"ssh://-l@h/r":              {},
		"h:r\nx":                    {},
	} {
		got, err := readRemote(document.SourceInfo{Repository: text})
		if got != want && want != (remote{}) || (err == nil) != (want != remote{}) {
			t.Errorf("%q: got %+v, %v", text, got, err)
		}
		if err != nil && (strings.Contains(err.Error(), "hunter") || fleet.KindOf(err) == fleet.Internal) {
			t.Errorf("%q: %v", text, err)
		}
	}
	if _, err := readRemote(document.SourceInfo{Repository: "h:r", Username: "-oProxyCommand=x"}); err == nil {
		t.Error("a user name became an option")
	}
}

func TestWithoutGit(t *testing.T) {
	b := newBed(t, "PATH="+t.TempDir())
	if code := b.do(t, "download", gitFetch(document.SourceInfo{Repository: "/srv/r.git"}, "x")); code != 96 {
		t.Errorf("exit code %d: %s", code, b.err)
	}
	wantWords(t, b.err.String(), "this host has no git")
}
