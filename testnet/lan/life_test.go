package lan

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/testnet/lan/slowlink"
)

// spacesOf returns the names of a host's namespaces.
func spacesOf(t *testing.T, h *Host) []string {
	t.Helper()
	var out []string
	for _, kind := range []string{"net", "mnt", "pid", "uts", "ipc"} {
		name, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", h.init.pid, kind))
		must(t, err)
		out = append(out, name)
	}
	return out
}

// gone waits until no process of the machine is in any of these namespaces.
func gone(t *testing.T, spaces []string) {
	t.Helper()
	eventually(t, "the namespaces are gone", func() bool {
		links, err := filepath.Glob("/proc/[0-9]*/ns/*")
		must(t, err)
		for _, link := range links {
			if name, err := os.Readlink(link); err == nil && strings.Contains(strings.Join(spaces, " "), name) {
				return false
			}
		}
		return true
	})
}

// traces lists what there is on the machine of a lan.
func traces(t *testing.T, name, dir string) []string {
	t.Helper()
	var out []string
	firsts, err := titled(name)
	must(t, err)
	for host := range firsts {
		out = append(out, "the first process of "+host)
	}
	loops, err := loopsBelow(dir)
	must(t, err)
	out = append(out, loops...)
	for _, root := range cgroupRoots {
		groups, err := filepath.Glob(filepath.Join(root, prefix+"-"+name+"*"))
		must(t, err)
		out = append(out, groups...)
	}
	if _, err := os.Stat(dir); err == nil {
		out = append(out, dir)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	must(t, err)
	if strings.Contains(string(mounts), dir) {
		out = append(out, "mounts")
	}
	return out
}

// links lists the machine's own interfaces.
func links(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("ip", "-br", "link").Output()
	must(t, err)
	return string(out)
}

func TestDownLeavesNothing(t *testing.T) {
	t.Parallel()
	needRoot(t)
	before := links(t)
	l := up(t, Options{Name: lanName("down"), Hosts: 3, Bin: testBin(t)})
	h := l.Host("n2")
	must(t, h.Limit(Limits{Processes: 100}))
	must(t, l.Found(t.Context()))
	must(t, l.Join(t.Context()))
	must(t, h.Slow(slowlink.Params{Jitter: 1}))
	must(t, h.Pause())
	must(t, h.Command(t.Context(), "sh", "-c", "setsid sleep 4713 > /dev/null 2>&1 & :").Run())
	if got := traces(t, l.Name(), l.Dir()); len(got) < 4+3+1+1 { // first processes, disks, a control group, the folder
		t.Errorf("traces of a lan that is up: %q", got)
	}
	if links(t) != before {
		t.Error("a lan touches the machine's own network")
	}
	if _, err := Up(t.Context(), Options{Name: l.Name(), Hosts: 1}); fleet.KindOf(err) != fleet.Conflict {
		t.Errorf("a second lan of that name: %v", err)
	}
	spaces := spacesOf(t, h)
	must(t, l.Down())
	must(t, l.Down()) // it is idempotent
	gone(t, spaces)
	if got := traces(t, l.Name(), l.Dir()); len(got) > 0 || links(t) != before {
		t.Errorf("it leaves %q", got)
	}
	if err := h.PowerOn(); err == nil {
		t.Error("a host of a lan that is down was switched on")
	}
	if got := traces(t, l.Name(), l.Dir()); len(got) > 0 {
		t.Errorf("it leaves %q", got)
	}
}

func TestUpThatFailsLeavesNothing(t *testing.T) {
	t.Parallel()
	needRoot(t)
	name := lanName("fails")
	if _, err := Up(t.Context(), Options{Name: name, Hosts: 3, Root: t.TempDir()}); err == nil || !strings.Contains(err.Error(), "did not come up") {
		t.Errorf("hosts with no files: %v", err)
	}
	if got := traces(t, name, FolderOf(name)); len(got) > 0 {
		t.Errorf("it leaves %q", got)
	}
	for _, o := range []Options{{Hosts: 0}, {Hosts: MaxHosts + 1}, {Hosts: 1, Name: "a/b"}, {Hosts: 1, Bin: "/nowhere"}} {
		if _, err := Up(t.Context(), o); err == nil {
			t.Errorf("%+v came up", o)
		}
	}
}

// maker starts another process that brings a lan up, and waits until it is up.
func maker(t *testing.T, what string) *exec.Cmd {
	t.Helper()
	needRoot(t)
	self, err := os.Executable()
	must(t, err)
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), role+"="+what)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	if line, _ := bufio.NewReader(out).ReadString('\n'); line != "up\n" {
		t.Fatalf("it says %s", line)
	}
	return cmd
}

func TestWhoMadeItIsKilled(t *testing.T) {
	t.Parallel()
	needRoot(t)
	name := lanName("dies")
	cmd := maker(t, "dies "+name)
	must(t, cmd.Process.Kill())
	_ = cmd.Wait()
	eventually(t, "its hosts are gone", func() bool {
		firsts, err := titled(name)
		must(t, err)
		return len(firsts) == 0
	})
	if _, err := Open(FolderOf(name)); fleet.KindOf(err) != fleet.NotFound {
		t.Errorf("it can be opened: %v", err)
	}
	swept(t, name)
}

func TestItStays(t *testing.T) {
	t.Parallel()
	needRoot(t)
	name := lanName("stays")
	must(t, maker(t, "stays "+name).Wait())
	l, err := Open(FolderOf(name))
	must(t, err)
	defer func() { must(t, l.Down()) }()
	p := newPost(t, l)
	n1, n2 := l.Host("n1"), l.Host("n2")
	if !sleeper(t, n1, "1000000") || p.passes(n1, n2, n2, 10) != 10 {
		t.Error("its hosts do not live on")
	}
	must(t, n1.Slow(slowlink.Params{Duplicate: 100})) // a process does it: this one may end
	if got := p.passes(n1, n2, n2, 20); got != 20 {
		t.Errorf("%d of 10 came over a cable that doubles", got)
	}
	again, err := Open(FolderOf(name))
	must(t, err)
	must(t, again.Host("n1").Slow(slowlink.Params{}))
	if got := p.passes(n1, n2, n2, 10); got != 10 {
		t.Errorf("%d of 10 came", got)
	}
	must(t, again.Host("n1").Slow(slowlink.Params{Duplicate: 100}))
	must(t, again.Heal())
	if got := p.passes(n1, n2, n2, 10); got != 10 {
		t.Errorf("%d of 10 came after healing", got)
	}
	swept(t, name)
}

// swept sweeps a lan away, and no other.
func swept(t *testing.T, name string) {
	t.Helper()
	if names, err := Sweep(func(other string) bool { return other == name }); err != nil || len(names) != 1 || names[0] != name {
		t.Errorf("swept %q, %v", names, err)
	}
	if got := traces(t, name, FolderOf(name)); len(got) > 0 {
		t.Errorf("it leaves %q", got)
	}
	if names, err := Sweep(func(other string) bool { return other == name }); err != nil || len(names) != 0 {
		t.Errorf("swept %q again, %v", names, err)
	}
}

// TestRoot lets hosts stand on other files than the machine's: a shell, and what the first process needs.
func TestRoot(t *testing.T) {
	t.Parallel()
	needRoot(t)
	root := t.TempDir()
	for _, dir := range []string{"dev", "proc", "sys", "run", "tmp", "mnt", "etc"} {
		must(t, os.MkdirAll(filepath.Join(root, dir), 0o755))
	}
	for _, program := range []string{"sh", "sleep", "umount", "cat", "ls"} {
		bring(t, root, program)
	}
	l := up(t, Options{Name: lanName("root"), Hosts: 1, Root: root})
	out, err := l.Hosts()[0].Command(t.Context(), "/bin/sh", "-c", "echo x > /made; ls /; cat /etc/hosts").CombinedOutput()
	must(t, err)
	if text := string(out); strings.Contains(text, "home") || strings.Contains(text, "lib/systemd") || !strings.Contains(text, "made") || !strings.Contains(text, "10.77.0.1 n1") {
		t.Errorf("the host sees %s", out)
	}
	if _, err := os.Stat(filepath.Join(root, "made")); err == nil {
		t.Error("a host has written into the root")
	}
}

// bring copies a program and its libraries into a root, to where they are on the machine.
func bring(t *testing.T, root, program string) {
	t.Helper()
	path, err := exec.LookPath(program)
	must(t, err)
	text, err := exec.Command("ldd", path).Output()
	must(t, err)
	copyTo := func(from, to string) {
		must(t, os.MkdirAll(filepath.Dir(filepath.Join(root, to)), 0o755))
		must(t, run("cp", "--dereference", from, filepath.Join(root, to)))
	}
	copyTo(path, "/bin/"+program)
	for _, word := range strings.Fields(string(text)) {
		if strings.HasPrefix(word, "/") {
			copyTo(word, word)
		}
	}
}
