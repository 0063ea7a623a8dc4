package testnet

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// outcome is one node's line of `command show -o json`.
type outcome struct {
	Name   string
	Status string
}

func (f *Fleet) outcomes(n *Node, id string) map[string]outcome {
	var shown struct{ Nodes []outcome }
	r := f.Muster(n, "command", "show", id, "-o", "json")
	if r.Code > 5 || json.Unmarshal([]byte(r.Stdout), &shown) != nil {
		return nil
	}
	out := map[string]outcome{}
	for _, o := range shown.Nodes {
		out[o.Name] = o
	}
	return out
}

// send starts a command without waiting for its end, and returns its ID.
func (f *Fleet) send(n *Node, args ...string) string {
	f.t.Helper()
	var sent struct{ ID string }
	f.JSON(&sent, n, append([]string{"run", "--async", "--yes"}, args...)...)
	return sent.ID
}

// lines reads what runs appended to a file, sorted.
func lines(t *testing.T, path string) []string {
	data, err := os.ReadFile(path)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	out := strings.Fields(string(data))
	slices.Sort(out)
	return out
}

func (f *Fleet) names() []string {
	var out []string
	for _, n := range f.Nodes {
		out = append(out, n.Name)
	}
	slices.Sort(out)
	return out
}

// awaitAll waits until every node has a status that ends a command.
func (f *Fleet) awaitAll(n *Node, id, status string) {
	f.t.Helper()
	f.Until("every node says "+status, func() bool {
		got := f.outcomes(n, id)
		for _, name := range f.names() {
			if got[name].Status != status {
				return false
			}
		}
		return true
	})
}

func TestFiveAgentsKeepTheirPromises(t *testing.T) {
	f := New(t, 5)
	step := func(name string, test func(t *testing.T, f *Fleet)) {
		t.Run(name, func(t *testing.T) {
			f.t = t
			test(t, f)
		})
		f.t = t
		for _, n := range f.Nodes {
			if !n.Running() {
				n.Start()
			}
		}
		f.Settled()
	}
	step("agent killed in the middle of a run", agentKilledMidRun)
	step("leader killed in the middle of a run", leaderKilledMidRun)
	step("a node that was down gets the command when it is back", downNodeGetsIt)
	step("an expired command does not run", expiredDoesNotRun)
	step("cancel stops running and coming runs", cancelStops)
	step("a removed node is refused", removedNode)
}

// slow is a shell line that leaves one line per run in a file and ends when a second file is there.
func slow(dir, tag string) (line, ran, release string) {
	ran, release = filepath.Join(dir, tag+".ran"), filepath.Join(dir, tag+".release")
	return "echo $MUSTER_NODE >> " + ran + "; while ! test -e " + release + "; do sleep 0.1; done; echo done", ran, release
}

func agentKilledMidRun(t *testing.T, f *Fleet) {
	line, ran, release := slow(f.Dir, "agent")
	id := f.send(f.Nodes[0], "--all", "--", line)
	f.Until("all five run", func() bool { return len(lines(t, ran)) == 5 })
	victim := f.Nodes[4]
	victim.Kill()
	victim.Start() // while its run goes on
	victim2 := f.Nodes[3]
	victim2.Kill()
	if err := os.WriteFile(release, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	f.Until("the runs end, one without its agent", func() bool { return f.outcomes(f.Nodes[0], id)["n5"].Status == "Success" })
	victim2.Start() // after its run ended
	f.awaitAll(f.Nodes[1], id, "Success")
	if got := lines(t, ran); !slices.Equal(got, f.names()) {
		t.Fatalf("ran on %v; every node exactly once was promised", got)
	}
}

func leaderKilledMidRun(t *testing.T, f *Fleet) {
	leader := f.Leader(f.Nodes[0])
	if leader == nil {
		t.Fatal("no leader")
	}
	other := f.Nodes[(slices.Index(f.Nodes, leader)+1)%5]
	line, ran, release := slow(f.Dir, "leader")
	watcher := f.Command(other, "run", "--all", "--yes", "-o", "jsonl", "--", line)
	var said strings.Builder
	watcher.Stdout = &said
	if err := watcher.Start(); err != nil {
		t.Fatal(err)
	}
	f.Until("all five run", func() bool { return len(lines(t, ran)) == 5 })
	leader.Kill()
	if err := os.WriteFile(release, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_ = watcher.Wait()
	if code := watcher.ProcessState.ExitCode(); code != 5 && code != 0 {
		t.Fatalf("run exited %d: %s", code, said.String())
	}
	leader.Start()
	var list []struct{ ID string }
	f.JSON(&list, other, "command", "list")
	f.awaitAll(other, list[0].ID, "Success")
	if got := lines(t, ran); !slices.Equal(got, f.names()) {
		t.Fatalf("ran on %v; every node exactly once was promised", got)
	}
}

func downNodeGetsIt(t *testing.T, f *Fleet) {
	down := f.Nodes[4]
	down.Kill()
	ran := filepath.Join(f.Dir, "down.ran")
	id := f.send(f.Nodes[0], "--all", "--", "echo $MUSTER_NODE >> "+ran)
	f.Until("four have run", func() bool { return len(lines(t, ran)) == 4 })
	second := f.Command(f.Nodes[2], "command", "watch", id) // a second command line, on another node
	var seen strings.Builder
	second.Stdout, second.Stderr = &seen, &seen
	if err := second.Start(); err != nil {
		t.Fatal(err)
	}
	down.Start()
	f.awaitAll(f.Nodes[1], id, "Success")
	_ = second.Wait()
	if !strings.Contains(seen.String(), "n[1-") {
		t.Fatalf("the second command line saw %q", seen.String())
	}
	if got := lines(t, ran); !slices.Equal(got, f.names()) {
		t.Fatalf("ran on %v", got)
	}
}

func expiredDoesNotRun(t *testing.T, f *Fleet) {
	late := f.Nodes[4]
	late.Kill()
	ran := filepath.Join(f.Dir, "expired.ran")
	id := f.send(f.Nodes[0], "--all", "--expires", "3s", "--", "echo $MUSTER_NODE >> "+ran)
	f.Until("four have run", func() bool { return len(lines(t, ran)) == 4 })
	wait(3500_000_000) // the command's validity is real time
	late.Start()
	f.Settled()
	probe := f.send(f.Nodes[0], "--all", "--", "true") // what comes later arrives: so would what came before
	f.awaitAll(f.Nodes[0], probe, "Success")
	if got := lines(t, ran); slices.Contains(got, "n5") {
		t.Fatal("an expired command ran")
	}
	if got := f.outcomes(f.Nodes[0], id)["n5"].Status; got == "Success" || got == "InProgress" {
		t.Fatalf("n5 is said to be %s", got)
	}
}

func cancelStops(t *testing.T, f *Fleet) {
	down := f.Nodes[4]
	down.Kill()
	line, ran, _ := slow(f.Dir, "cancel")
	id := f.send(f.Nodes[0], "--all", "--", line)
	f.Until("four run", func() bool { return len(lines(t, ran)) == 4 })
	f.Must(f.Nodes[1], "command", "cancel", id)
	down.Start()
	f.awaitAll(f.Nodes[2], id, "Cancelled")
	if got := lines(t, ran); len(got) != 4 {
		t.Fatalf("ran on %v", got)
	}
}

func removedNode(t *testing.T, f *Fleet) {
	gone := f.Nodes[4]
	f.Must(f.Nodes[0], "node", "delete", gone.Name)
	f.Until("it is told", func() bool {
		return strings.Contains(f.Muster(gone, "status").Stdout+f.Muster(gone, "status").Stderr, "removed")
	})
	gone.Kill()
	f.Nodes = f.Nodes[:4]
	f.Settled()
	if out := f.Must(f.Nodes[1], "node", "list", "-o", "name"); strings.Contains(out, gone.Name) {
		t.Fatalf("it is still listed:\n%s", out)
	}
	ran := filepath.Join(f.Dir, "after.ran")
	id := f.send(f.Nodes[2], "--all", "--", "echo $MUSTER_NODE >> "+ran)
	f.awaitAll(f.Nodes[0], id, "Success")
}
