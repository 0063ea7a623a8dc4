package action

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"context"

	"github.com/muster-fleet/muster/exec/document"
)

func TestPackageLines(t *testing.T) {
	for _, c := range []struct {
		m       manager
		version string
		add     string
		remove  string
		query   string
	}{
		{apt(), "", "-q -y -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold -o Dpkg::Use-Pty=0 install -- tool",
			"-q -y -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold -o Dpkg::Use-Pty=0 remove -- tool", "dpkg-query -W -f ${Status} ${Version}\n -- tool"},
		{apt(), "1:2.0-3", "-q -y -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold -o Dpkg::Use-Pty=0 --allow-downgrades install -- tool=1:2.0-3", "", ""},
		{redHat("dnf"), "", "-y --setopt=exit_on_lock=True install -- tool", "-y --setopt=exit_on_lock=True remove -- tool", "rpm -q --qf %{VERSION}-%{RELEASE}\n -- tool"},
		{redHat("yum"), "2.0", "-y --setopt=exit_on_lock=True install -- tool-2.0", "", ""},
		{zypper(), "", "--non-interactive install -- tool", "--non-interactive remove -- tool", "rpm -q --qf %{VERSION}-%{RELEASE}\n -- tool"},
		{zypper(), "2.0", "--non-interactive install --oldpackage -- tool=2.0", "", ""},
		{apk(), "", "--no-progress add --upgrade --update-cache -- tool", "--no-progress del -- tool", "apk list --installed -- tool"},
		{apk(), "2.0-r1", "--no-progress add --upgrade --update-cache -- tool=2.0-r1", "", ""},
	} {
		w, err := c.m.read(document.Package{Name: "tool", Action: "Install", Version: c.version})
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(c.m.add(w), " "); got != c.add {
			t.Errorf("%s: install %s", c.m.program, got)
		}
		if got := strings.Join(c.m.remove("tool"), " "); c.remove != "" && got != c.remove {
			t.Errorf("%s: remove %s", c.m.program, got)
		}
		if got := strings.Join(c.m.query("tool"), " "); c.query != "" && got != c.query {
			t.Errorf("%s: query %s", c.m.program, got)
		}
	}
}

func TestPackageInputs(t *testing.T) {
	good := document.Package{Name: "g++", Action: "Install"}
	for change, want := range map[string]bool{
		"name=g++": true, "name=libstdc++6": true, "name=python3.11": true, "name=foo:amd64": true, "name=Mono_x": true,
		"name=": false, "name=-y": false, "name=--root=/": false, "name=foo-": false, "name=foo bar": false, "name=./foo.deb": false, "name=/foo.deb": false, "name=foo*": false,
		"name=@group": false, "name=https://h/x.rpm": false, "name=foo=1": false, "name=foo\n": false, "name=foo/stable": false, "name=!foo": false, "name=foo>1": false, "name=~nfoo": false,
		"name=?true": false, "name=^foo": false, "name=foo$": false, "name=.*": false,
		"version=1:2.0~rc1+b2-3": true, "version=2.0^git": true, "version=latest": true, "version=-1": false, "version=1*": false, "version=1 2": false, "version=1;x": false, "version=1=2": false,
		"action=Uninstall": true, "action=install": true, "action=Upgrade": false, "action=": false,
		"type=In-place update": true, "type=Uninstall and reinstall": true, "type=Other": false,
	} {
		in := good
		key, value, _ := strings.Cut(change, "=")
		switch key {
		case "name":
			in.Name = value
		case "version":
			in.Version = value
		case "action":
			in.Action = value
		case "type":
			in.InstallationType = value
		}
		w, err := apt().read(in)
		if (err == nil) != want {
			t.Errorf("%q: %v", change, err)
		}
		if w.version == "latest" {
			t.Error("latest is no version")
		}
	}
}

func TestVersions(t *testing.T) {
	if got := dpkgVersions("install ok installed 1.2-3\ndeinstall ok config-files 1.1\nunknown ok not-installed \n"); got != "1.2-3\n" {
		t.Errorf("dpkg: %q", got)
	}
	if got := apk().versions("tool-extra-1.2.3-r4 x86_64 {tool} (MIT) [installed]\n"); got != "1.2.3-r4\n" {
		t.Errorf("apk: %q", got)
	}
	for want, ok := range map[string]bool{"": true, "1.2-3": true, "1.2": true, "1.1": false, "1": false} {
		if hasVersion("1.2-3\n", want) != ok {
			t.Errorf("%q", want)
		}
	}
	if hasVersion("", "") {
		t.Error("nothing has a version")
	}
}

// aptRoot makes a host within a folder for apt-get and dpkg, with a repository of tool 1.0 and 2.0 that the folder's lists
// do not know yet. Nothing of this machine's own packages is touched: APT_CONFIG and DPKG_ADMINDIR lead into the folder.
func aptRoot(t *testing.T) (bed, string) {
	t.Helper()
	top := t.TempDir()
	for _, d := range []string{"state/lists/partial", "cache/archives/partial", "etc/apt.conf.d", "etc/preferences.d", "etc/sources.list.d", "etc/trusted.gpg.d", "log",
		"root/var/lib/dpkg/updates", "root/var/lib/dpkg/info", "repo", "pkg/DEBIAN", "pkg/usr/share/muster-test"} {
		if err := os.MkdirAll(filepath.Join(top, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	put := func(name, text string) {
		if err := os.WriteFile(filepath.Join(top, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	put("root/var/lib/dpkg/status", "")
	put("root/var/lib/dpkg/available", "")
	put("etc/sources.list", "deb [trusted=yes] file:"+top+"/repo ./\n")
	put("apt.conf", fmt.Sprintf(`
Dir "/";
Dir::State "%[1]s/state";
Dir::State::status "%[1]s/root/var/lib/dpkg/status";
Dir::Cache "%[1]s/cache";
Dir::Etc "%[1]s/etc";
Dir::Log "%[1]s/log";
APT::Sandbox::User "root";
Dpkg::Options { "--root=%[1]s/root"; "--force-not-root"; "--force-bad-path"; "--log=%[1]s/log/dpkg.log"; };
`, top))
	index := ""
	for _, version := range []string{"1.0", "2.0"} {
		put("pkg/DEBIAN/control", "Package: muster-test\nVersion: "+version+"\nArchitecture: all\nMaintainer: nobody <nobody@example.org>\nDescription: nothing\n")
		put("pkg/usr/share/muster-test/version", version)
		deb := "muster-test_" + version + ".deb"
		if out, err := exec.Command("dpkg-deb", "--build", "--root-owner-group", filepath.Join(top, "pkg"), filepath.Join(top, "repo", deb)).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		data, _ := os.ReadFile(filepath.Join(top, "repo", deb))
		control, _ := os.ReadFile(filepath.Join(top, "pkg/DEBIAN/control"))
		index += fmt.Sprintf("%sFilename: ./%s\nSize: %d\nSHA256: %s\n\n", control, deb, len(data), digest(string(data)))
	}
	put("repo/Packages", index)
	return newBed(t, "APT_CONFIG="+top+"/apt.conf", "DPKG_ADMINDIR="+top+"/root/var/lib/dpkg"), top
}

func TestAptGet(t *testing.T) {
	b, top := aptRoot(t)
	version := func() string {
		text, err := os.ReadFile(top + "/root/usr/share/muster-test/version")
		if err != nil {
			return "none"
		}
		return string(text)
	}
	for _, c := range []struct {
		in   document.Package
		code int
		then string
		says string
	}{
		{document.Package{Name: "muster-test", Action: "Uninstall"}, 0, "none", "muster-test is not installed"},
		{document.Package{Name: "muster-test", Action: "Install", Version: "1.0"}, 0, "1.0", "fetching the lists"},
		{document.Package{Name: "muster-test", Action: "Install"}, 0, "2.0", ""},
		{document.Package{Name: "muster-test", Action: "Install", Version: "1.0", InstallationType: "Uninstall and reinstall"}, 0, "1.0", ""},
		{document.Package{Name: "muster-test", Action: "Uninstall", Version: "2.0"}, 0, "1.0", "muster-test 2.0 is not installed"},
		{document.Package{Name: "muster-test", Action: "Install", Version: "9.9"}, 100, "1.0", "9.9"},
		{document.Package{Name: "muster-tes.", Action: "Install"}, 1, "1.0", `knows no package "muster-tes."`}, // apt-get would take it for a pattern
		{document.Package{Name: "muster-test", Action: "Uninstall", Version: "1.0"}, 0, "none", ""},
		{document.Package{Name: "muster-tes+", Action: "Install"}, 1, "none", `knows no package "muster-tes+"`},
	} {
		if code := b.do(t, "package", c.in); code != c.code || version() != c.then {
			t.Fatalf("%+v: exit code %d, now %s: %s %s", c.in, code, version(), b.out, b.err)
		}
		wantWords(t, b.out.String()+b.err.String(), c.says)
	}
}

// TestAptGetWaitsForItsLock has a stand-in that finds the lock held twice.
func TestPackageManagersWaitForTheirLock(t *testing.T) {
	for program, held := range map[string]string{
		"apt-get": `echo 'E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 1 (apt)' >&2; exit 100`,
		"dnf":     `exit 200`,
		"yum":     `echo 'Existing lock /var/run/yum.pid: another copy is running as pid 1.' >&2; exit 1`,
		"zypper":  `exit 7`,
		"apk":     `echo 'ERROR: Unable to lock database: temporary error (try again later)' >&2; exit 99`,
	} {
		bin, log := t.TempDir(), filepath.Join(t.TempDir(), "log")
		script(t, bin+"/"+program, `[ "$1" = list ] && exit 0
echo "$*" >>"`+log+`"
[ $(wc -l <"`+log+`") -gt 2 ] && exit 0
`+held)
		script(t, bin+"/dpkg-query", "exit 1")
		script(t, bin+"/rpm", "exit 1")
		script(t, bin+"/apt-cache", "echo tool")
		b := newBed(t, "PATH="+bin+":/usr/bin:/bin")
		if program != "apt-get" { // this machine's own come later in the PATH
			b.env = append(b.env, "PATH="+bin+":"+coreutils(t))
		}
		if code := b.do(t, "package", document.Package{Name: "tool", Action: "Install"}); code != 0 {
			t.Errorf("%s: exit code %d: %s", program, code, b.err)
		}
		if got := strings.Count(b.err.String(), program+" is in use by something else; trying again"); got != 2 {
			t.Errorf("%s: waited %d times: %s", program, got, b.err)
		}
	}
}

// coreutils returns a folder with the few programs that the stand-ins need.
func coreutils(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"wc", "sh", "cat", "env"} {
		path, err := exec.LookPath(name)
		if err != nil {
			t.Fatal(err)
		}
		os.Symlink(path, filepath.Join(dir, name))
	}
	return dir
}

func TestLocksAreNotWaitedForForever(t *testing.T) {
	bin := t.TempDir()
	script(t, bin+"/zypper", "exit 7")
	script(t, bin+"/rpm", "exit 1")
	b := newBed(t, "PATH="+bin)
	now := time.Unix(0, 0)
	b.now = func() time.Time { return now }
	b.pause = func(_ context.Context, d time.Duration) error { now = now.Add(d); return nil }
	if code := b.do(t, "package", document.Package{Name: "tool", Action: "Install"}); code != 1 {
		t.Errorf("exit code %d", code)
	}
	wantWords(t, b.err.String(), "in use by something else for 15m0s")
	if waited := now.Sub(time.Unix(0, 0)); waited != lockPatience {
		t.Errorf("waited %s", waited)
	}
}

func TestPackagesWithoutAManager(t *testing.T) {
	b := newBed(t, "PATH="+t.TempDir())
	if code := b.do(t, "package", document.Package{Name: "tool", Action: "Install"}); code != 96 {
		t.Errorf("exit code %d", code)
	}
	wantWords(t, b.err.String(), "no package manager that is known: apt-get, dnf, yum, zypper, apk")
}

func TestToolsAskNothing(t *testing.T) {
	bin := t.TempDir()
	script(t, bin+"/apt-get", `echo "$DEBIAN_FRONTEND $LC_ALL"; read x && echo "got $x"; exit 0`)
	script(t, bin+"/dpkg-query", "exit 1")
	script(t, bin+"/apt-cache", "echo tool")
	b := newBed(t, "PATH="+bin, "LC_ALL=de_DE")
	b.do(t, "package", document.Package{Name: "tool", Action: "Install"})
	if got := b.out.String(); got != "noninteractive C\n" {
		t.Errorf("got %q %s", got, b.err)
	}
}

func TestCallLeavesTheEnvironmentAlone(t *testing.T) {
	b := newBed(t)
	before := slices.Clone(b.env)
	b.call(t.Context(), tool{path: "/bin/true", env: []string{"A=1"}, stdout: io.Discard, stderr: io.Discard})
	if !slices.Equal(before, b.env) {
		t.Error("changed")
	}
}
