package machine

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// TestHosts types what the pages about the life of a host and about sites without a network have, on machines that have no
// network but their own. It builds packages and a release, and takes minutes: MUSTER_LONG=1.
func TestHosts(t *testing.T) {
	if os.Getenv("MUSTER_LONG") == "" {
		t.Skip("it builds packages and a release, and starts machines: set MUSTER_LONG=1")
	}
	n := machines(t, nil, "web1", "web2", "web3")
	stick := stick(t)
	for _, file := range stick {
		give(t, n.Machine("web1"), file, "/root/"+filepath.Base(file))
	}
	if said, err := shell(t.Context(), n.Machine("web1"), "ip route show default"); err != nil || said != "" {
		t.Fatalf("there is a way out: %s, %v", said, err)
	}
	airgap := filepath.Join("docs", "airgap.md")
	transcript(t, n, airgap, "From the stick to the fleet", 12)
	transcript(t, n, airgap, "Upgrading", 3)
	hosts := filepath.Join("docs", "hosts.md")
	for _, part := range []struct {
		heading string
		lines   int
	}{{"Images", 5}, {"One key on two hosts", 4}, {"Reinstalled under the old name", 5}, {"For a while, and for good", 3}} {
		transcript(t, n, hosts, part.heading, part.lines)
	}
}

// stick makes the files that are carried to the site, without a network for that either.
func stick(t *testing.T) []string {
	t.Helper()
	top, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	key := filepath.Join(dir, "release.key")
	make := func(args ...string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "unshare", append([]string{"--net", "go", "run", "./packaging"}, args...)...)
		cmd.Dir, cmd.Env = top, append(os.Environ(), "GOPROXY=off", "GOFLAGS=-mod=readonly")
		if said, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("packaging %s: %v: %s", strings.Join(args, " "), err, said)
		}
	}
	make("--arch", runtime.GOARCH, "--format", "deb", "--version", "1.0.0", "--date", "1795000000", "--out", dir)
	make("--new-key", key)
	make("--arch", runtime.GOARCH, "--format", "release", "--sign", key, "--version", "1.1.0", "--date", "1795000000", "--out", filepath.Join(dir, "release"))
	var out []string
	for _, name := range []string{"*.deb", "SHA256SUMS", "release/*.release", "release.key.pub"} {
		found, err := filepath.Glob(filepath.Join(dir, name))
		if err != nil || len(found) != 1 {
			entries, _ := os.ReadDir(dir)
			t.Fatalf("%s: %v, %v of %v", name, found, err, entries)
		}
		out = append(out, found...)
	}
	return out
}
