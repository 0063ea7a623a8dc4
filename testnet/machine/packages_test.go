package machine

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"
)

// packages are built once, in two versions: version → format → file.
func packages(t *testing.T) map[string]map[string]string {
	t.Helper()
	top, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]map[string]string{}
	for _, version := range []string{"1.0.0", "1.1.0"} {
		dir := filepath.Join(t.TempDir(), "dist")
		cmd := exec.CommandContext(t.Context(), "go", "run", "./packaging", "--arch", runtime.GOARCH, "--format", "deb,rpm,apk,tar",
			"--version", version, "--date", "1795000000", "--out", dir)
		cmd.Dir = top
		if said, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("packaging: %v: %s", err, said)
		}
		out[version] = map[string]string{}
		for _, format := range []string{"deb", "rpm", "apk", "tar.gz"} {
			names, err := filepath.Glob(filepath.Join(dir, "*."+format))
			if err != nil || len(names) != 1 {
				t.Fatalf("%s: %v, %v", format, names, err)
			}
			out[version][format] = names[0]
		}
	}
	return out
}

// machines brings machines up for one test.
func machines(t *testing.T, plain []string, names ...string) *Net {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("namespaces with networks need root")
	}
	root, err := MakeRoot(t.Context())
	if errors.Is(err, ErrNoRoot) {
		t.Skip("no debootstrap to make a root with")
	}
	if err != nil {
		t.Fatal(err)
	}
	n, err := Up(t.Context(), Options{Dir: filepath.Join(t.TempDir(), "machines"), Root: root, Names: names, Plain: plain})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Down(); err != nil {
			t.Error(err)
		}
	})
	return n
}

// sh runs a shell line on a machine, in root's home, and fails the test unless it exits 0.
func sh(t *testing.T, m *Machine, line string) string {
	t.Helper()
	said, err := shell(t.Context(), m, line)
	if err != nil {
		journal, _ := m.Run(context.Background(), "journalctl", "--no-pager", "-n", "20", "-u", "muster")
		t.Fatalf("%s# %s\n%v\n%s\n%s", m.Name, line, err, said, journal)
	}
	return said
}

func shell(ctx context.Context, m *Machine, line string) (string, error) {
	return m.Run(ctx, "sh", "-c", "cd && "+line)
}

// give copies a file of this machine to a machine's root.
func give(t *testing.T, m *Machine, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(m.Path(to), data, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func until(t *testing.T, m *Machine, what, line string) {
	t.Helper()
	for deadline := time.Now().Add(Patience); ; <-time.After(100 * time.Millisecond) {
		said, err := shell(t.Context(), m, line)
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %s: %v: %s", m.Name, what, err, said)
		}
	}
}

// dnf stands in for dnf, which no root of Debian's has the repositories for: rpm does what dnf would have it do. The base is
// Debian's, of whose packages rpm knows nothing.
const dnf = `#!/bin/sh
case $1 in
install)
	shift 2
	rpm --query --quiet "$(rpm --query --package "$@")" && exit
	exec rpm --upgrade --nodeps "$@"
	;;
remove) shift 2; exec rpm --erase "$@" ;;
esac
exit 2
`

// TestPackages installs, uses, upgrades and removes muster on machines whose first process is systemd, as the page says.
// It takes minutes: MUSTER_LONG=1.
func TestPackages(t *testing.T) {
	if os.Getenv("MUSTER_LONG") == "" {
		t.Skip("it builds packages and starts whole machines: set MUSTER_LONG=1")
	}
	n := machines(t, []string{"alpine"}, "web1", "web2", "web3", "web4", "node1", "node2", "alpine")
	web1, web2, web3, web4 := n.Machine("web1"), n.Machine("web2"), n.Machine("web3"), n.Machine("web4")
	made := packages(t)
	for _, m := range []*Machine{web1, web2, web3, web4} {
		for _, version := range made {
			for _, file := range version {
				give(t, m, file, "/root/"+filepath.Base(file))
			}
		}
	}
	for _, m := range []*Machine{web3, n.Machine("node2")} {
		if err := os.WriteFile(m.Path("/usr/local/bin/dnf"), []byte(dnf), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	before := map[*Machine][]string{web2: changes(t, web2), web3: changes(t, web3), web4: changes(t, web4)}

	transcript(t, n, "install.md")
	t.Run("a host that is made by a machine", func(t *testing.T) { madeByMachine(t, web1, web4, made) })
	t.Run("the service", func(t *testing.T) { theService(t, web1) })
	t.Run("an upgrade hurts nothing", func(t *testing.T) { upgrade(t, web1, web2, web3, web4) })
	t.Run("what Vagrant's boxes run", func(t *testing.T) { provision(t, n.Machine("node1"), n.Machine("node2"), made["1.0.0"]) })
	t.Run("Alpine's way", func(t *testing.T) { openRC(t, n.Machine("alpine"), made) })
	t.Run("removal", func(t *testing.T) {
		removeDeb(t, web2, before[web2])
		removeRPM(t, web3, before[web3])
		removeFile(t, web4, before[web4])
	})
}

// transcript types the lines of a page: NAME# is a prompt on that machine, and the lines below are all that it says; … stands
// for any text, and alone for any lines.
func transcript(t *testing.T, n *Net, page string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", page))
	if err != nil {
		t.Fatal(err)
	}
	prompt := regexp.MustCompile(`^(web\d)# (.*)$`)
	inside, lines := false, 0
	var m *Machine
	var line, want string
	check := func() {
		if m == nil {
			return
		}
		lines++
		got := strings.ReplaceAll(typed(t, n, m, line), "\r", "")
		if want != "" && !matches(got, want) {
			t.Fatalf("%s# %s\nsays\n%s\nand the page has\n%s", m.Name, line, got, want)
		}
		m, want = nil, ""
	}
	for l := range strings.Lines(string(text)) {
		l = strings.TrimSuffix(l, "\n")
		if strings.HasPrefix(l, "```") {
			check()
			inside = !inside && l == "```console"
			continue
		}
		if found := prompt.FindStringSubmatch(l); inside && found != nil {
			check()
			m, line = n.Machine(found[1]), found[2]
		} else if inside {
			want += l + "\n"
		}
	}
	if lines < 9 {
		t.Fatalf("the page has %d lines to type", lines)
	}
}

var copied = regexp.MustCompile(`scp (\S+) (\w+):`)

// typed runs a line, in which scp copies between machines without any keys.
func typed(t *testing.T, n *Net, m *Machine, line string) string {
	t.Helper()
	if strings.Contains(line, "run --all") { // whoever types takes as long to look at the fleet
		until(t, m, "it sees the fleet", "muster status | grep -q '^nodes *3 online'")
	}
	if !strings.HasPrefix(line, "scp ") {
		return sh(t, m, line)
	}
	for _, c := range copied.FindAllStringSubmatch(line, -1) {
		give(t, n.Machine(c[2]), m.Path("/root/"+c[1]), "/root/"+c[1])
	}
	return ""
}

// matches reports whether a text is what a page has.
func matches(got, want string) bool {
	var form strings.Builder
	form.WriteString(`\A`)
	for line := range strings.Lines(want) {
		if line == "…\n" {
			form.WriteString(`(?s:.*)`)
			continue
		}
		form.WriteString(strings.ReplaceAll(regexp.QuoteMeta(strings.TrimSuffix(line, "\n")), "…", `.*`) + `\n`)
	}
	return regexp.MustCompile(form.String() + `\z`).MatchString(got)
}
