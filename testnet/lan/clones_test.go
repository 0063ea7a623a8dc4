package lan

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/folder"
)

// TestClones copies the data folder of a host that works to another host: both stop and say so, the fleet goes on without
// them, and the way out that the page names leads out.
func TestClones(t *testing.T) {
	t.Parallel()
	l := up(t, Options{Name: lanName("clones"), Hosts: 5, Bin: testBin(t)})
	must(t, l.Found(t.Context()))
	must(t, l.Join(t.Context(), l.Hosts()[1:4]...))
	must(t, l.Settled(t.Context()))
	n1, n3, n5 := l.Host("n1"), l.Host("n3"), l.Host("n5")
	typed(t, n1, "", "node", "tag", "n3", "role=web")
	works(t, l, n3)
	copyFolder(t, n3, n5)
	must(t, n5.Start())

	for _, h := range []*Host{n3, n5} {
		stopped(t, h)
	}
	eventually(t, "others say so", func() bool {
		return strings.Contains(n1.Muster(t.Context(), "node", "list").Stdout, node.ClonePlight) &&
			strings.Contains(n1.Muster(t.Context(), "node", "show", "n3").Stdout, string(fleet.Left))
	})
	const mark = "touch /var/lib/muster-acted"
	if r := order(t, l, n3, mark); r.Code == 0 {
		t.Errorf("it ran: %+v", r)
	}
	id := strings.TrimSpace(n1.Muster(t.Context(), "command", "list", "-o", "name").Stdout)
	id, _, _ = strings.Cut(id, "\n") // the newest
	eventually(t, "it refuses", func() bool {
		r := n1.Muster(t.Context(), "command", "show", id)
		return strings.Contains(r.Stdout, "Refused: "+node.CloneRefusal)
	})
	if r := n1.Muster(t.Context(), "exec", "n3", "--", "true"); r.Code == 0 {
		t.Errorf("a session opened: %+v", r)
	}
	must(t, n3.Restart())
	must(t, n5.Restart())
	for _, h := range []*Host{n3, n5} {
		stopped(t, h)
		if path, err := h.Path("var/lib/muster-acted"); err != nil || exists(path) {
			t.Errorf("%s acted (%v)", h.Name(), err)
		}
	}
	eventually(t, "the fleet replaces the voter", func() bool {
		s, err := n1.Status(t.Context())
		return err == nil && len(s.Quorum.Voters) >= 3 && !strings.Contains(s.Quorum.Danger, "n3")
	})

	wayOut(t, l, n1, n3, n5)
}

// wayOut has the true host join again under its name, and the copy as a host of its own.
func wayOut(t *testing.T, l *Lan, n1, n3, n5 *Host) {
	t.Helper()
	seeds := seedsOf(t, n3)
	for _, h := range []*Host{n3, n5} {
		if r := h.Muster(t.Context(), "agent", "generalize", "--yes", "--keep-operator-keys"); r.Code == 0 || !strings.Contains(r.Stderr, "stop it first") {
			t.Errorf("under an agent: %+v", r)
		}
		must(t, h.Stop())
		typed(t, h, "this host's keys, and all that it kept", "agent", "generalize", "--yes", "--keep-operator-keys")
		noSeeds(t, h, seeds)
	}
	typed(t, n1, "", "token", "create", "--replace", "n3", "-o", "name") // a second string for the same place harms nothing
	join := n1.Muster(t.Context(), "token", "create", "--replace", "n3")
	if join.Code != 0 {
		t.Fatalf("%+v", join)
	}
	must(t, os.WriteFile(filepath.Join(l.shared(), "replace"), []byte(join.Stdout), 0o600))
	typed(t, n3, "", "join", "--join-file", "/run/lan/replace", "--name", "n3")
	must(t, n3.Start())
	must(t, l.Join(t.Context(), n5))
	works(t, l, n3)
	works(t, l, n5)
	if r := n1.Muster(t.Context(), "node", "show", "n3"); !strings.Contains(r.Stdout, "role=web") {
		t.Errorf("its tags are lost: %s", r.Stdout)
	}
	if r := n1.Muster(t.Context(), "node", "list"); strings.Contains(r.Stdout, "quarantine") {
		t.Errorf("there is a plight still: %s", r.Stdout)
	}
}

// copyFolder copies the data folder of a host under its agent, as a clone of its disk would.
func copyFolder(t *testing.T, from, to *Host) {
	t.Helper()
	src, err := from.Path("var/lib/muster")
	must(t, err)
	dst, err := to.Path("var/lib/muster")
	must(t, err)
	if out, err := exec.Command("cp", "-a", src+"/.", dst).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

// stopped waits until a host's agent says that it does nothing any more.
func stopped(t *testing.T, h *Host) {
	t.Helper()
	eventually(t, h.Name()+" stops", func() bool {
		s, err := h.Status(t.Context())
		return err == nil && strings.Contains(strings.Join(s.Warnings, "\n"), "used by another host") && s.Self.Plight == node.ClonePlight
	})
}

// typed runs a command line that must succeed and say something.
func typed(t *testing.T, h *Host, want string, args ...string) {
	t.Helper()
	r := h.Muster(t.Context(), args...)
	if r.Code != 0 || !strings.Contains(r.Stdout+r.Stderr, want) {
		t.Fatalf("%s: muster %s: %+v", h.Name(), strings.Join(args, " "), r)
	}
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// seedsOf reads the secret seeds of a host, whose agent stops for it.
func seedsOf(t *testing.T, h *Host) [][]byte {
	t.Helper()
	must(t, h.Stop())
	dir, err := h.Path("var/lib/muster")
	must(t, err)
	f, err := folder.Open(dir)
	must(t, err)
	i, err := f.Identity()
	must(t, err)
	must(t, f.Close())
	must(t, h.Start())
	return [][]byte{i.Seed, i.HPKESeed}
}

// noSeeds searches the host's whole disk, block by block, and the folder.
func noSeeds(t *testing.T, h *Host, seeds [][]byte) {
	t.Helper()
	must(t, h.Command(t.Context(), "sync").Run())
	raw, err := os.ReadFile(h.disk())
	must(t, err)
	for i, seed := range seeds {
		if at := bytes.Index(raw, seed); at >= 0 {
			t.Errorf("seed %d of %s is on the disk, at byte %d", i, h.Name(), at)
		}
	}
	dir, err := h.Path("var/lib/muster")
	must(t, err)
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left in the folder: %v, %v", left, err)
	}
}

// TestPutBack: the only server of a fleet of two is put back from an older copy of its folder. It stops when the other host
// tells it what it said since, and its operator readmits it: the fleet has nobody else who could take a token.
func TestPutBack(t *testing.T) {
	t.Parallel()
	l := founded(t, 2)
	n1, n2 := l.Host("n1"), l.Host("n2")
	if r := n1.Muster(t.Context(), "agent", "readmit", "--yes"); r.Code == 0 || !strings.Contains(r.Stderr, "not in quarantine") {
		t.Errorf("a healthy host: %+v", r)
	}
	must(t, n1.Stop())
	old, err := n1.Path("run/old")
	must(t, err)
	data, err := n1.Path("var/lib/muster")
	must(t, err)
	must(t, run("cp", "-a", data, old))
	must(t, n1.Start())
	must(t, l.Settled(t.Context()))
	works(t, l, n2)
	must(t, n1.Kill())
	must(t, run("sh", "-c", "rm -rf "+data+"/* && cp -a "+old+"/. "+data))
	must(t, n1.Start())
	stopped(t, n1)
	if r := n2.Muster(t.Context(), "token", "create", "--replace", "n1"); r.Code == 0 {
		t.Errorf("the scene is wrong, the fleet can write: %+v", r)
	}
	typed(t, n1, "restart the agent", "agent", "readmit", "--yes")
	must(t, n1.Restart())
	works(t, l, n2)
	works(t, l, n1)
	must(t, n1.Restart())
	works(t, l, n1)
	if s, err := n1.Status(t.Context()); err != nil || s.Self.Plight != "" {
		t.Errorf("%q, %v", s.Self.Plight, err)
	}
}
