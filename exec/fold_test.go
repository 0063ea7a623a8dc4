package exec_test

import (
	"fmt"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node/fleet"
)

func nameOf(id fleet.ID) string { return fmt.Sprintf("n%02d", id[0]) }

func outcome(node byte, s exec.Status, stdout string) exec.Outcome {
	out := exec.Outcome{Node: fleet.ID{node}, Status: s, Reachable: true}
	if stdout != "" {
		out.Report.Stdout = exec.Stream{Size: int64(len(stdout)), Kept: int64(len(stdout)), Digest: fleet.Sum([]byte(stdout)), Head: []byte(stdout)}
	}
	return out
}

func TestFold(t *testing.T) {
	away := outcome(11, exec.Pending, "")
	away.Reachable = false
	cut := outcome(3, exec.Success, "b")
	cut.Report.Stdout.Kept = 0
	code := outcome(7, exec.Failed, "x")
	code.Report.ExitCode = 2
	groups := exec.Fold([]exec.Outcome{
		away, outcome(10, exec.Pending, ""), outcome(9, exec.Refused, ""), outcome(8, exec.Unknown, ""), code,
		outcome(6, exec.Failed, "x"), outcome(5, exec.Failed, "x"), outcome(1, exec.Success, "a"),
		outcome(4, exec.Success, "b"), cut,
	}, nameOf)
	var got []string
	for _, g := range groups {
		got = append(got, fmt.Sprintf("%s%d%s%s%v", g.Status, g.ExitCode, g.Stdout.Head, g.Names, g.Reachable))
	}
	want := []string{
		"Success0b[n03 n04]true", "Success0a[n01]true",
		"Failed0x[n05 n06]true", "Failed2x[n07]true",
		"Unknown0[n08]true", "Refused0[n09]true", "Pending0[n10]true", "Pending0[n11]false",
	}
	if !slices.Equal(got, want) {
		t.Errorf("%q,\nwant %q", got, want)
	}
	if groups[0].Stdout.Kept != 0 {
		t.Errorf("%d bytes are kept on all nodes", groups[0].Stdout.Kept)
	}
	if got := exec.Fold(nil, nameOf); len(got) != 0 {
		t.Errorf("%v of nothing", got)
	}
}

// Whatever reads differently stands apart.
func TestFoldTellsApart(t *testing.T) {
	base := func() exec.Outcome {
		o := outcome(1, exec.Failed, "out")
		o.Report.Stderr = exec.Stream{Size: 3, Head: []byte("err")}
		o.Report.Steps = []exec.StepReport{{Name: "a", Status: exec.Success, Started: 1, Ended: 2}, {Name: "b", Status: exec.Failed, ExitCode: 1, Started: 2}}
		return o
	}
	for name, alter := range map[string]func(*exec.Outcome){
		"status":        func(o *exec.Outcome) { o.Status = exec.TimedOut },
		"a step less":   func(o *exec.Outcome) { o.Report.Steps = o.Report.Steps[:1] },
		"step status":   func(o *exec.Outcome) { o.Report.Steps[1].Status = exec.Skipped },
		"step code":     func(o *exec.Outcome) { o.Report.Steps[1].ExitCode = 3 },
		"step detail":   func(o *exec.Outcome) { o.Report.Steps[1].Detail = "not for this host" },
		"exit code":     func(o *exec.Outcome) { o.Report.ExitCode = 1 },
		"signal":        func(o *exec.Outcome) { o.Report.Signal = "killed" },
		"detail":        func(o *exec.Outcome) { o.Report.Detail = "policy" },
		"stdout digest": func(o *exec.Outcome) { o.Report.Stdout.Digest[0] ^= 1 },
		"stdout head":   func(o *exec.Outcome) { o.Report.Stdout.Head = []byte("uot") },
		"stdout tail":   func(o *exec.Outcome) { o.Report.Stdout.Tail = []byte("x") },
		"stdout size":   func(o *exec.Outcome) { o.Report.Stdout.Size++ },
		"stderr digest": func(o *exec.Outcome) { o.Report.Stderr.Digest[0] ^= 1 },
		"stderr head":   func(o *exec.Outcome) { o.Report.Stderr.Head = []byte("rre") },
		"stderr tail":   func(o *exec.Outcome) { o.Report.Stderr.Tail = []byte("x") },
		"the split":     func(o *exec.Outcome) { o.Report.Stdout.Head, o.Report.Stdout.Tail = []byte("ou"), []byte("t") },
	} {
		other := base()
		other.Node = fleet.ID{2}
		alter(&other)
		if got := exec.Fold([]exec.Outcome{base(), other}, nameOf); len(got) != 2 {
			t.Errorf("%s: folded", name)
		}
	}
	same := base()
	same.Node, same.Reachable = fleet.ID{2}, false // gone since; it has ended all the same
	same.Report.Started, same.Report.Ended, same.Report.Seq, same.Report.Stdout.Tail = 5, 6, 7, []byte{}
	if got := exec.Fold([]exec.Outcome{base(), same}, nameOf); len(got) != 1 {
		t.Errorf("times told them apart: %+v", got)
	}
}

func TestFoldLosesNobodyAndIsStable(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var outcomes []exec.Outcome
		for i := range rapid.IntRange(0, 12).Draw(t, "nodes") {
			o := outcome(byte(i), rapid.SampledFrom(statuses).Draw(t, "status"), rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, "out"))
			o.Reachable = rapid.Bool().Draw(t, "reachable")
			outcomes = append(outcomes, o)
		}
		groups := exec.Fold(outcomes, nameOf)
		if again := exec.Fold(rapid.Permutation(outcomes).Draw(t, "shuffled"), nameOf); !reflect.DeepEqual(again, groups) {
			t.Fatalf("%+v, in another order %+v", groups, again)
		}
		var names []string
		for _, g := range groups {
			if !slices.IsSorted(g.Names) {
				t.Fatalf("names %v", g.Names)
			}
			names = append(names, g.Names...)
		}
		slices.Sort(names)
		if len(names) != len(outcomes) || len(slices.Compact(names)) != len(outcomes) {
			t.Fatalf("%d names of %d nodes", len(names), len(outcomes))
		}
	})
}
