package testnet

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/muster-fleet/muster/node/fleet"
)

// ended is a command and what it came to, as -o json has it.
type ended struct {
	ID    string
	Nodes []struct {
		Name   string
		Stdout struct{ Size int64 }
	}
}

// kept is where a node keeps a command's output.
func (n *Node) kept(command string) string { return filepath.Join(n.Dir, "runs", command, "stdout") }

const (
	outputSize = 10_000_000
	// outputRoom is what the agent that passes output on may grow by for each node that gives some: a window of pieces, and
	// what the garbage collector lets lie.
	outputRoom = 1 << 20
)

// TestFullOutput brings all that a command wrote from where it was run: many megabytes from several nodes at once, which
// nobody on the way holds; and of nodes that are gone, or keep it no longer, it says so.
func TestFullOutput(t *testing.T) {
	t.Setenv("GOGC", "50") // an idle agent's: a busy one may gather garbage for longer, and what is measured here is no garbage
	f := New(t, 5)
	asker, others := f.Nodes[0], f.Nodes[1:]
	dir := filepath.Join(f.Dir, "out")
	var run ended
	f.JSON(&run, asker, "run", "--target", "not "+asker.Name, "--", fmt.Sprintf("head -c %d /dev/urandom; echo bad >&2", outputSize))
	before := f.restPeak(asker)
	f.Must(asker, "command", "show", run.ID, "--output-dir", dir)
	if len(run.Nodes) != len(others) {
		t.Fatalf("%d nodes: %+v", len(run.Nodes), run)
	}
	for _, n := range run.Nodes {
		size, sum := digestOf(t, filepath.Join(dir, n.Name+".stdout"))
		_, want := digestOf(t, f.Find(n.Name).kept(run.ID))
		if size != outputSize || n.Stdout.Size != outputSize || sum != want {
			t.Errorf("%s: %d bytes with digest %s, but %d were reported, and it is %s", n.Name, size, sum, n.Stdout.Size, want)
		}
		if text, err := os.ReadFile(filepath.Join(dir, n.Name+".stderr")); err != nil || string(text) != "bad\n" {
			t.Errorf("%s wrote %q to stderr, %v", n.Name, text, err)
		}
	}
	peak := memoryOf(t, asker.PID(), "VmHWM")
	t.Logf("the asker's agent grew from %.1f to %.1f MiB for %d × %d MB", mebi(before), mebi(peak), len(others), outputSize/1_000_000)
	if peak > before+uint64(len(others))*outputRoom+4<<20 {
		t.Errorf("the agent holds what it passes on: it grew from %d to %d bytes", before, peak)
	}
	t.Run("by name", func(t *testing.T) { f.oneOutput(t, asker, run) })
	t.Run("changed", func(t *testing.T) { f.changedOutput(t, asker, run) })
	t.Run("pruned", func(t *testing.T) { f.prunedOutput(t, asker, run) })
	t.Run("going on", func(t *testing.T) { f.goingOutput(t, asker, others[0]) })
	t.Run("why", func(t *testing.T) { f.whyAfterRestart(t, asker, others[1]) })
	t.Run("copied", func(t *testing.T) { f.copiedOutput(t, asker, others[2]) })
	t.Run("lost", func(t *testing.T) { f.lostOutput(t, asker, run) })
}

// oneOutput asks for one node's output alone; the command line holds none of it either.
func (f *Fleet) oneOutput(t *testing.T, asker *Node, run ended) {
	n := run.Nodes[0]
	cmd := f.Command(asker, "command", "show", run.ID, "--node", n.Name, "--stdout")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	sum := sha256.New()
	const last = 1 << 20 // more than a pipe holds: the command line waits for it to be read
	size, err := io.CopyN(sum, out, outputSize-last)
	if err != nil {
		t.Fatalf("%d bytes came, %v", size, err)
	}
	line := memoryOf(t, cmd.Process.Pid, "VmHWM")
	rest, err := io.Copy(sum, out)
	if err := errors.Join(err, cmd.Wait()); err != nil || rest != last {
		t.Errorf("%d bytes of the last %d, %v", rest, last, err)
	}
	if _, want := digestOf(t, f.Find(n.Name).kept(run.ID)); fleet.ID(sum.Sum(nil)) != want {
		t.Error("it is another output")
	}
	t.Logf("the command line took %.1f MiB for %d MB", mebi(line), outputSize/1_000_000)
}

// changedOutput changes a byte on a node's disk after the run.
func (f *Fleet) changedOutput(t *testing.T, asker *Node, run ended) {
	n := f.Find(run.Nodes[1].Name)
	file, err := os.OpenFile(n.kept(run.ID), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	was := make([]byte, 1)
	if _, err := file.ReadAt(was, 5_000_000); err != nil {
		t.Fatal(err)
	}
	if _, err := file.WriteAt([]byte{was[0] ^ 1}, 5_000_000); err != nil {
		t.Fatal(err)
	}
	r := f.Muster(asker, "command", "show", run.ID, "--node", n.Name, "--stdout")
	if r.Code == 0 || !strings.Contains(r.Stderr, "digest") {
		t.Errorf("a changed byte is not seen: exit %d, %s", r.Code, r.Stderr)
	}
}

// prunedOutput takes a node's output away as retention does.
func (f *Fleet) prunedOutput(t *testing.T, asker *Node, run ended) {
	n := f.Find(run.Nodes[2].Name)
	if err := os.RemoveAll(filepath.Dir(n.kept(run.ID))); err != nil {
		t.Fatal(err)
	}
	r := f.Muster(asker, "command", "show", run.ID, "--node", n.Name, "--stdout")
	if r.Code == 0 || !strings.Contains(r.Stderr, "no longer kept") {
		t.Errorf("exit %d, %s", r.Code, r.Stderr)
	}
}

// lostOutput asks a node whose agent was killed, and again when it is back.
func (f *Fleet) lostOutput(t *testing.T, asker *Node, run ended) {
	n := f.Find(run.Nodes[3].Name)
	_, want := digestOf(t, n.kept(run.ID))
	n.Kill()
	r := f.Muster(asker, "command", "show", run.ID, "--node", n.Name, "--stdout")
	if r.Code == 0 || !strings.Contains(r.Stderr, "lost with "+n.Name) {
		t.Errorf("exit %d, %s", r.Code, r.Stderr)
	}
	n.Start()
	f.Until("the output of "+n.Name+" is there again", func() bool {
		r := f.Muster(asker, "command", "show", run.ID, "--node", n.Name, "--stdout")
		return r.Code == 0 && fleet.ID(sha256.Sum256([]byte(r.Stdout))) == want
	})
}

// goingOutput reads the output of a run that goes on: what is there so far, whatever was reported.
func (f *Fleet) goingOutput(t *testing.T, asker, n *Node) {
	gate := filepath.Join(f.Dir, "gate")
	if err := syscall.Mkfifo(gate, 0o600); err != nil {
		t.Fatal(err)
	}
	var run ended
	f.JSON(&run, asker, "run", "--async", "--target", n.Name, "--", "echo one; cat "+gate+"; echo three")
	f.Until("the first line is there", func() bool {
		r := f.Muster(asker, "command", "show", run.ID, "--node", n.Name, "--stdout")
		return r.Code == 0 && r.Stdout == "one\n"
	})
	if err := os.WriteFile(gate, []byte("two\n"), 0); err != nil {
		t.Fatal(err)
	}
	f.Until("all of it is there", func() bool {
		r := f.Muster(asker, "command", "show", run.ID, "--node", n.Name, "--stdout")
		return r.Code == 0 && r.Stdout == "one\ntwo\nthree\n"
	})
}

// copiedOutput kills an agent while a run goes on whose output is to go elsewhere: the copy is made when the agent is back.
func (f *Fleet) copiedOutput(t *testing.T, asker, n *Node) {
	to, gate := filepath.Join(f.Dir, "copies"), filepath.Join(f.Dir, "gate2")
	if err := errors.Join(os.Mkdir(to, 0o700), syscall.Mkfifo(gate, 0o600)); err != nil {
		t.Fatal(err)
	}
	var run ended
	f.JSON(&run, asker, "run", "--async", "--target", n.Name, "--output-to", to, "--", "echo one; cat "+gate)
	f.Until("it runs", func() bool {
		return f.Muster(asker, "command", "show", run.ID, "--node", n.Name, "--stdout").Stdout == "one\n"
	})
	n.Kill()
	if err := os.WriteFile(gate, []byte("two\n"), 0); err != nil {
		t.Fatal(err)
	}
	n.Start()
	f.Until("the copy is there", func() bool {
		text, err := os.ReadFile(filepath.Join(to, run.ID, n.Name, "stdout"))
		return err == nil && string(text) == "one\ntwo\n"
	})
	f.Until("it is told", func() bool { return strings.Contains(f.Must(asker, "why", n.Name, run.ID), "copied to "+to) })
}

// whyAfterRestart has a node say in order what it decided about a command, also after a restart.
func (f *Fleet) whyAfterRestart(t *testing.T, asker, node *Node) {
	var run ended
	f.JSON(&run, asker, "run", "--target", node.Name, "--", "true")
	first := f.Must(asker, "why", node.Name, run.ID)
	at := 0
	for _, word := range []string{"signature", "set", "policy", "start", "end"} {
		next := strings.Index(first[at:], word)
		if next < 0 {
			t.Fatalf("no %q in its place in\n%s", word, first)
		}
		at += next
	}
	node.Stop()
	node.Start()
	f.Until(node.Name+" says again what it decided", func() bool {
		r := f.Muster(asker, "why", node.Name, run.ID)
		return r.Code == 0 && strings.HasPrefix(r.Stdout, first)
	})
}

// restPeak has the kernel begin anew with a node's peak of memory, and returns what it has now.
func (f *Fleet) restPeak(n *Node) uint64 {
	f.t.Helper()
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", n.PID()), []byte("5"), 0); err != nil {
		f.t.Fatal(err)
	}
	return memoryOf(f.t.(*testing.T), n.PID(), "VmRSS")
}

func mebi(n uint64) float64 { return float64(n) / (1 << 20) }

func digestOf(t *testing.T, path string) (size int64, sum fleet.ID) {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	h := sha256.New()
	size, err = io.Copy(h, file)
	if err != nil {
		t.Fatal(err)
	}
	return size, fleet.ID(h.Sum(nil))
}
