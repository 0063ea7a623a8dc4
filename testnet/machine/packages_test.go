package machine

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// packages are built in two versions, of this machine's architecture: version → format → file.
func packages(t *testing.T, formats ...string) map[string]map[string]string {
	t.Helper()
	top, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]map[string]string{}
	for _, version := range []string{"1.0.0", "1.1.0"} {
		dir := filepath.Join(t.TempDir(), "dist")
		cmd := exec.CommandContext(t.Context(), "go", "run", "./packaging", "--arch", runtime.GOARCH, "--format", strings.Join(formats, ","),
			"--version", version, "--date", "1795000000", "--out", dir)
		cmd.Dir = top
		if said, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("packaging: %v: %s", err, said)
		}
		out[version] = map[string]string{}
		for _, format := range formats {
			names, err := filepath.Glob(filepath.Join(dir, "*."+format+"*")) // tar.gz
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

// TestPackages installs, uses, upgrades and removes muster on machines whose first process is systemd, as the page says, by
// every kind of package. It takes minutes: MUSTER_LONG=1.
func TestPackages(t *testing.T) {
	if os.Getenv("MUSTER_LONG") == "" {
		t.Skip("it builds packages and starts whole machines: set MUSTER_LONG=1")
	}
	n := machines(t, []string{"alpine"}, "web1", "web2", "web3", "web4", "web5", "node1", "node2", "alpine")
	web1, web2, web3, web4, web5 := n.Machine("web1"), n.Machine("web2"), n.Machine("web3"), n.Machine("web4"), n.Machine("web5")
	made := packages(t, "deb", "rpm", "apk", "tar")
	all := []*Machine{web1, web2, web3, web4, web5}
	for _, m := range all {
		for _, version := range made {
			for _, file := range version {
				give(t, m, file, "/root/"+filepath.Base(file))
			}
		}
	}
	before := map[*Machine][]string{}
	for _, m := range all {
		before[m] = changes(t, m)
	}

	transcript(t, n, filepath.Join("docs", "install.md"), "Three hosts", 9)
	t.Run("a host that is made by a machine", func(t *testing.T) { madeByMachine(t, web1, web4, made) })
	t.Run("openSUSE's way", func(t *testing.T) { zypper(t, web1, web5) })
	t.Run("the service", func(t *testing.T) { theService(t, web1) })
	t.Run("an upgrade hurts nothing", func(t *testing.T) { upgrade(t, web1, web2, web3, web4, web5) })
	t.Run("bad luck", func(t *testing.T) { badLuck(t, web1, web2) })
	t.Run("what Vagrant's boxes run", func(t *testing.T) { provision(t, n.Machine("node1"), n.Machine("node2"), made["1.0.0"]) })
	t.Run("Alpine's way", func(t *testing.T) { openRC(t, n.Machine("alpine"), made) })
	t.Run("removal", func(t *testing.T) {
		removeDeb(t, web2, before[web2])
		removeRPM(t, web3, before[web3], "dnf remove -y muster 2>&1")
		removeFile(t, web4, before[web4])
		removeRPM(t, web5, before[web5], "zypper --non-interactive remove muster 2>&1")
	})
}
