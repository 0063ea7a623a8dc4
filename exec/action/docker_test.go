package action

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"pgregory.net/rapid"

	"github.com/muster-fleet/muster/exec/document"
	"github.com/muster-fleet/muster/exec/steps"
)

func TestContainerLines(t *testing.T) {
	files := containerFiles{env: "/p/env", id: "/p/id"}
	all := document.Docker{Container: "web", Image: "reg:5000/team/app:1.2@sha256:ab", Memory: "512m", CPUShares: 512, Volume: []string{"/a:/b:ro", "-v"}, Cmd: `sh -c 'echo "a b"'`,
		Env: []string{"A=1", "B=secret two"}, User: "app", Publish: "80:8080", WorkingDirectory: "/srv"}
	for action, want := range map[string]string{
		"Create":  "create|--cidfile=/p/id|--name=web|--volume=/a:/b:ro|--volume=-v|--memory=512m|--cpu-shares=512|--publish=80:8080|--user=app|--workdir=/srv|--env-file=/p/env|--|reg:5000/team/app:1.2@sha256:ab|sh|-c|echo \"a b\"",
		"Run":     "run|--cidfile=/p/id|--name=web|--volume=/a:/b:ro|--volume=-v|--memory=512m|--cpu-shares=512|--publish=80:8080|--user=app|--workdir=/srv|--env-file=/p/env|--|reg:5000/team/app:1.2@sha256:ab|sh|-c|echo \"a b\"",
		"Exec":    "exec|--user=app|--workdir=/srv|--env-file=/p/env|--|web|sh|-c|echo \"a b\"",
		"Start":   "start|--|web",
		"Stop":    "stop|--|web",
		"Kill":    "kill|--|web",
		"Restart": "restart|--|web",
		"Rm":      "rm|--|web",
		"Inspect": "inspect|--|web",
		"Logs":    "logs|--|web",
		"Ps":      "ps|--all",
		"Stats":   "stats|--no-stream|--|web",
		"PULL":    "pull|--|reg:5000/team/app:1.2@sha256:ab",
		"rmi":     "rmi|--|reg:5000/team/app:1.2@sha256:ab",
		"Images":  "images",
	} {
		in := all
		in.Action = action
		w, err := readContainerWork(in)
		if got := strings.Join(w.args(files), "|"); err != nil || got != want {
			t.Errorf("%s: got %s, %v", action, got, err)
		}
	}
	w, err := readContainerWork(document.Docker{Action: "Run", Image: "app"})
	if got := strings.Join(w.args(files), " "); err != nil || got != "run --cidfile=/p/id -- app" {
		t.Errorf("got %s, %v", got, err)
	}
}

func TestContainerInputs(t *testing.T) {
	for _, in := range []document.Docker{
		{Action: "Fly"}, {Action: ""}, {Action: "Run"}, {Action: "Run", Image: "-v"}, {Action: "Run", Image: "--privileged"}, {Action: "Run", Image: "a b"},
		{Action: "Run", Image: "app", Container: "--rm"}, {Action: "Run", Image: "app", Memory: "lots"}, {Action: "Run", Image: "app", CPUShares: -1},
		{Action: "Run", Image: "app", Env: []string{"PATH"}}, {Action: "Run", Image: "app", Env: []string{"A=1\nB=2"}}, {Action: "Run", Image: "app", Env: []string{"#A=1"}},
		{Action: "Run", Image: "app", Cmd: `'`}, {Action: "Exec", Container: "web"}, {Action: "Exec", Cmd: "ls"}, {Action: "Stop", Container: "-a"}, {Action: "Inspect"}, {Action: "Pull"},
		{Action: "Stats", Container: "--all"},
	} {
		if w, err := readContainerWork(in); err == nil {
			t.Errorf("%+v became %q", in, w.args(containerFiles{}))
		} else if strings.Contains(err.Error(), "1") && len(in.Env) > 0 {
			t.Errorf("an error tells a variable's value: %v", err)
		}
	}
}

func TestWords(t *testing.T) {
	for line, want := range map[string][]string{
		"": nil, "  ": nil, "a": {"a"}, " a  b\tc\n": {"a", "b", "c"}, `'a b' "c d"e`: {"a b", "c de"}, `a\ b \'`: {"a b", "'"}, `"a\"b\n$x" '\'`: {`a"b\n$x`, `\`}, `'' ""`: {"", ""},
		`$(x) *`: {"$(x)", "*"},
	} {
		if got, err := words(line); err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: %q, %v", line, got, err)
		}
	}
	for _, line := range []string{"'", `"`, `\`, `"\`} {
		if got, err := words(line); err == nil {
			t.Errorf("%q: %q", line, got)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.SliceOf(rapid.String()).Draw(t, "words")
		var quoted []string
		for _, w := range want {
			quoted = append(quoted, "'"+strings.ReplaceAll(w, "'", `'\''`)+"'")
		}
		if got, err := words(strings.Join(quoted, " ")); err != nil || !slices.Equal(got, want) {
			t.Fatalf("%q became %q, %v", want, got, err)
		}
	})
}

// engine puts a stand-in for a container engine into a folder of its own.
func engine(t *testing.T, name, text string) (bed, string) {
	t.Helper()
	bin, log := t.TempDir(), filepath.Join(t.TempDir(), "log")
	script(t, bin+"/"+name, `printf '%s\n' "$@" >>"`+log+`"
for a; do case $a in --env-file=*) stat -c %a "${a#*=}"; cat "${a#*=}" ;; --cidfile=*) echo c0ffee >"${a#*=}" ;; esac; done
`+text)
	return newBed(t, "PATH="+bin+":"+coreutilsAnd(t, "stat", "sleep")), log
}

func coreutilsAnd(t *testing.T, names ...string) string {
	t.Helper()
	dir := coreutils(t)
	for _, name := range names {
		if err := os.Symlink("/usr/bin/"+name, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestDocker(t *testing.T) {
	for _, name := range []string{"docker", "podman"} {
		b, log := engine(t, name, "exit 194")
		code := b.do(t, "docker", document.Docker{Action: "Run", Image: "app", Env: []string{"TOKEN=hunter2 x"}, Cmd: "true"})
		if code != 1 { // a container's own codes are no signs to the run
			t.Errorf("exit code %d: %s", code, b.err)
		}
		if got := b.out.String(); got != "600\nTOKEN=hunter2 x\n" {
			t.Errorf("the environment's file: %q", got)
		}
		argv, _ := os.ReadFile(log)
		if strings.Contains(string(argv), "hunter2") {
			t.Errorf("a secret is in an argument: %s", argv)
		}
		wantFiles(t, b.private[0], nil)
	}
	b, _ := engine(t, "docker", "exit 7")
	if code := b.do(t, "docker", document.Docker{Action: "Stop", Container: "web"}); code != 7 {
		t.Errorf("exit code %d", code)
	}
	none := newBed(t, "PATH="+t.TempDir())
	if code := none.do(t, "docker", document.Docker{Action: "Ps"}); code != 96 {
		t.Errorf("exit code %d", code)
	}
	wantWords(t, none.err.String(), "neither docker nor podman")
}

// TestStoppedContainers checks that a container, which is no child of the run, does not outlive a run that was stopped.
func TestStoppedContainers(t *testing.T) {
	b, log := engine(t, "docker", `[ "$1" = kill ] && exit 0
trap 'kill $!; exit 1' TERM
echo ready
sleep 1000 & wait`)
	cmd, words := process(t, "docker", document.Docker{Action: "Run", Image: "app"}, b.env...)
	untilReady(t, cmd)
	cmd.Process.Signal(syscall.SIGTERM)
	cmd.Wait()
	argv, _ := os.ReadFile(log)
	if cmd.ProcessState.ExitCode() != 143 || !strings.HasSuffix(string(argv), "kill\n--\nc0ffee\n") {
		t.Errorf("exit code %d, %s: the engine was called so:\n%s", cmd.ProcessState.ExitCode(), words, argv)
	}
}

func TestConfigureDocker(t *testing.T) {
	bin, log := t.TempDir(), filepath.Join(t.TempDir(), "log")
	script(t, bin+"/dnf", `echo "dnf $*" >>"`+log+`"; case "$*" in *moby-engine) exit 0 ;; esac; exit 1`)
	script(t, bin+"/rpm", `case "$*" in *moby-engine) echo 1-1; exit 0 ;; esac; exit 1`)
	script(t, bin+"/systemctl", `echo "systemctl $*" >>"`+log+`"`)
	b := newBed(t, "PATH="+bin)
	if code := b.do(t, "docker", document.Docker{Configure: true, Action: "Install"}); code != 0 {
		t.Errorf("exit code %d: %s", code, b.err)
	}
	if code := b.do(t, "docker", document.Docker{Configure: true, Action: "Uninstall"}); code != 0 {
		t.Errorf("exit code %d: %s", code, b.err)
	}
	if code := b.do(t, "docker", document.Docker{Configure: true, Action: "Run"}); code != 2 {
		t.Errorf("exit code %d: %s", code, b.err)
	}
	got, _ := os.ReadFile(log)
	want := "dnf -y --setopt=exit_on_lock=True install -- docker\ndnf -y --setopt=exit_on_lock=True install -- moby-engine\nsystemctl enable --now docker\n" +
		"dnf -y --setopt=exit_on_lock=True remove -- moby-engine\n"
	if string(got) != want {
		t.Errorf("got\n%s", got)
	}
	wantWords(t, b.out.String(), "docker is not installed", "podman is not installed")
	there, _ := engine(t, "podman", "")
	if code := there.do(t, "docker", document.Docker{Configure: true, Action: "Install"}); code != 0 || !strings.Contains(there.out.String(), "podman is there") {
		t.Errorf("exit code %d: %s", code, there.err)
	}
}

// A private folder bears the command's ID, by which whoever supervises the run finds what a killed act left.
func TestPrivateFoldersBearTheCommand(t *testing.T) {
	b := newBed(t, "MUSTER_COMMAND_ID=0198-abc")
	dir, remove, err := b.privateFolder()
	if err != nil || !strings.HasPrefix(dir, filepath.Join(b.private[0], steps.PrivatePrefix("0198-abc", b.getenv(DownloadsVariable)))) {
		t.Fatalf("%s, %v", dir, err)
	}
	remove()
	wantFiles(t, b.private[0], nil)
}
