package exec_test

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/exec/steps"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/auth/authtest"
	"github.com/muster-fleet/muster/node/fleet"
)

// statuses lists them all; the test of Final below notices when one is missing.
var statuses = []exec.Status{
	exec.Pending, exec.InProgress, exec.Success, exec.Failed, exec.TimedOut, exec.Cancelled, exec.DeliveryTimedOut,
	exec.Undeliverable, exec.Unknown, exec.Refused, exec.Terminated, exec.InvalidPlatform, exec.Skipped,
}

func TestOpenReport(t *testing.T) {
	f := authtest.Found("a")
	web := f.AddNode("web-1", nil, nil)
	report := exec.Report{Command: f.NewID(), Node: web.ID, Seq: 1, Status: exec.Success}
	sign := func(n authtest.Node, r exec.Report) auth.Envelope { return n.Signer.Sign(auth.ForReport, f.ID(), r) }

	if got, err := exec.OpenReport(f.Record, sign(web, report)); err != nil || got.Command != report.Command || got.Status != exec.Success {
		t.Fatalf("%+v, %v", got, err)
	}
	tampered := sign(web, report)
	tampered.Body[len(tampered.Body)-1] ^= 1
	other := report
	other.Node = f.Nodes[0].ID
	unfit := report
	unfit.Seq = 0
	long := sign(web, report)
	long.Body = make([]byte, exec.MaxReport+1)
	for name, c := range map[string]struct {
		e    auth.Envelope
		want fleet.Kind
	}{
		"node not enrolled":     {sign(f.NewNode("stranger"), report), fleet.Denied},
		"another node's report": {sign(web, other), fleet.Denied},
		"in another's name":     {sign(f.Nodes[0], report), fleet.Denied},
		"tampered":              {tampered, fleet.Denied},
		"purpose":               {web.Signer.Sign(auth.ForBeacon, f.ID(), report), fleet.Denied},
		"another fleet":         {web.Signer.Sign(auth.ForReport, fleet.Sum(nil), report), fleet.Denied},
		"malformed":             {sign(web, unfit), fleet.Invalid},
		"too large":             {long, fleet.Exhausted},
	} {
		if _, err := exec.OpenReport(f.Record, c.e); err == nil || fleet.KindOf(err) != c.want {
			t.Errorf("%s: %v", name, err)
		}
	}

	f.MustTake(f.RemoveNode(web.ID))
	if _, err := exec.OpenReport(f.Record, sign(web, report)); err != nil {
		t.Errorf("a removed node's results no longer count: %v", err)
	}
}

func TestReportCheck(t *testing.T) {
	stream := func(size int64, head, tail int) exec.Stream {
		return exec.Stream{Size: size, Kept: max(size, 0), Head: make([]byte, head), Tail: make([]byte, tail)}
	}
	for name, c := range map[string]struct {
		ok    bool
		alter func(*exec.Report)
	}{
		"plain":                {true, func(*exec.Report) {}},
		"whole output":         {true, func(r *exec.Report) { r.Stdout = stream(24<<10, exec.ReportHead+exec.ReportTail, 0) }},
		"head and tail":        {true, func(r *exec.Report) { r.Stderr = stream(1<<40, exec.ReportHead, exec.ReportTail) }},
		"longest texts":        {true, func(r *exec.Report) { r.Detail, r.Rule = strings.Repeat("x", 1024), strings.Repeat("x", 1024) }},
		"head too long":        {false, func(r *exec.Report) { r.Stdout = stream(1<<20, exec.ReportHead+exec.ReportTail+1, 0) }},
		"tail too long":        {false, func(r *exec.Report) { r.Stderr = stream(1<<20, 0, exec.ReportTail+1) }},
		"more shown than run":  {false, func(r *exec.Report) { r.Stdout = stream(9, 10, 0) }},
		"size below 0":         {false, func(r *exec.Report) { r.Stdout = stream(-1, 0, 0) }},
		"more kept than run":   {false, func(r *exec.Report) { r.Stdout = exec.Stream{Size: 1, Kept: 2} }},
		"kept below 0":         {false, func(r *exec.Report) { r.Stdout = exec.Stream{Size: 1, Kept: -1} }},
		"detail":               {false, func(r *exec.Report) { r.Detail = strings.Repeat("x", exec.MaxDetail+1) }},
		"rule":                 {false, func(r *exec.Report) { r.Rule = strings.Repeat("x", exec.MaxDetail+1) }},
		"signal":               {false, func(r *exec.Report) { r.Signal = strings.Repeat("x", exec.MaxSignal+1) }},
		"sequence 0":           {false, func(r *exec.Report) { r.Seq = 0 }},
		"no status":            {false, func(r *exec.Report) { r.Status = "" }},
		"status of the future": {false, func(r *exec.Report) { r.Status = "Paused" }},
	} {
		r := exec.Report{Seq: 1, Status: exec.Success}
		c.alter(&r)
		if err := r.Check(); (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, s := range statuses {
		if err := (exec.Report{Seq: 1, Status: s}).Check(); err != nil {
			t.Errorf("%s: %v", s, err)
		}
	}
}

func TestLargestReportFits(t *testing.T) {
	f := authtest.Found("a")
	s := exec.Stream{Size: 1 << 60, Kept: 1 << 60, Digest: f.ID(), Head: make([]byte, exec.ReportHead), Tail: make([]byte, exec.ReportTail)}
	r := exec.Report{
		Command: f.NewID(), Node: f.Nodes[0].ID, Seq: 1 << 31, Status: exec.DeliveryTimedOut, ExitCode: 255, Signal: strings.Repeat("x", exec.MaxSignal),
		Received: 1 << 60, Started: 1 << 60, Ended: 1 << 60, Stdout: s, Stderr: s, Act: 1 << 60, Charter: f.ID(),
		Detail: strings.Repeat("x", exec.MaxDetail), Rule: strings.Repeat("x", exec.MaxDetail),
	}
	for range steps.MaxSteps {
		span := exec.Span{From: 1 << 60, To: 1 << 60}
		r.Steps = append(r.Steps, exec.StepReport{
			Name: strings.Repeat("x", exec.MaxStepName), Action: strings.Repeat("x", exec.MaxStepName), Status: exec.DeliveryTimedOut, ExitCode: 255, Attempts: 1 << 31,
			Started: 1 << 60, Ended: 1 << 60, Stdout: span, Stderr: span, Detail: strings.Repeat("x", exec.MaxStepDetail),
		})
	}
	if _, err := exec.OpenReport(f.Record, f.Nodes[0].Signer.Sign(auth.ForReport, f.ID(), r)); err != nil {
		t.Error(err)
	}
}

func TestSupersedes(t *testing.T) {
	report := func(seq uint32, s exec.Status) exec.Report { return exec.Report{Seq: seq, Status: s} }
	other := report(9, exec.Success)
	other.Node = fleet.ID{1}
	for _, c := range []struct {
		name     string
		old, new exec.Report
		want     bool
	}{
		{"the first", exec.Report{}, report(1, exec.Pending), true},
		{"higher", report(1, exec.Pending), report(2, exec.InProgress), true},
		{"lower", report(2, exec.InProgress), report(1, exec.Pending), false},
		{"the same again", report(2, exec.InProgress), report(2, exec.InProgress), false},
		{"final", report(2, exec.InProgress), report(3, exec.Success), true},
		{"final of lower sequence", report(3, exec.InProgress), report(2, exec.Success), true},
		{"final stays", report(2, exec.Success), report(3, exec.Failed), false},
		{"final is not unknown again", report(2, exec.Success), report(3, exec.Unknown), false},
		{"unknown becomes the truth", report(4, exec.Unknown), report(3, exec.Failed), true},
		{"unknown after running", report(2, exec.InProgress), report(3, exec.Unknown), true},
		{"running before unknown", report(3, exec.Unknown), report(2, exec.InProgress), false},
		{"another node's", report(1, exec.Pending), other, false},
	} {
		if got := exec.Supersedes(c.old, c.new); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

// Whatever a node says, in whatever order and however often it comes to a server, servers end up with the same.
func TestReportsFoldToTheSameInAnyOrder(t *testing.T) {
	open := []exec.Status{exec.Pending, exec.InProgress, exec.Unknown}
	rapid.Check(t, func(t *rapid.T) {
		var said []exec.Report
		for range rapid.IntRange(1, 6).Draw(t, "open reports") {
			said = append(said, exec.Report{Seq: uint32(len(said) + 1), Status: rapid.SampledFrom(open).Draw(t, "status")})
		}
		if rapid.Bool().Draw(t, "ended") {
			said = append(said, exec.Report{Seq: uint32(len(said) + 1), Status: exec.Failed})
		}
		fold := func(delivered []exec.Report) (got exec.Report) {
			for _, r := range delivered {
				was := got
				if exec.Supersedes(got, r) {
					got = r
				}
				if was.Status.Final() && got.Status != was.Status {
					t.Fatalf("%s became %s", was.Status, got.Status)
				}
			}
			return got
		}
		twice := append(append([]exec.Report(nil), said...), said...)
		want := said[len(said)-1]
		if got := fold(rapid.Permutation(twice).Draw(t, "delivered")); got.Seq != want.Seq || got.Status != want.Status {
			t.Fatalf("%s (%d), want %s (%d)", got.Status, got.Seq, want.Status, want.Seq)
		}
	})
}

func TestOutcomes(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	done, away, here := fleet.ID{1}, fleet.ID{2}, fleet.ID{3}
	reports := map[fleet.ID]exec.Report{done: {Node: done, Seq: 1, Status: exec.Failed, ExitCode: 7}, {9}: {Status: exec.Success}}
	outcomes := func(expires time.Time) []exec.Outcome {
		return exec.Outcomes([]fleet.ID{done, away, here}, reports, func(id fleet.ID) bool { return id != away }, expires, now)
	}
	got := outcomes(now.Add(time.Hour))
	if len(got) != 3 || got[0].Node != done || got[0].Status != exec.Failed || got[0].Report.ExitCode != 7 || !got[0].Reachable ||
		got[1].Status != exec.Pending || got[1].Reachable || got[2].Status != exec.Pending || !got[2].Reachable {
		t.Errorf("%+v", got)
	}
	// A node whose clock is a little behind may still start.
	if got := outcomes(now.Add(-auth.MaxSkew)); got[1].Status != exec.Pending {
		t.Errorf("at the last moment: %s", got[1].Status)
	}
	got = outcomes(now.Add(-auth.MaxSkew - time.Millisecond))
	if got[0].Status != exec.Failed || got[1].Status != exec.Unknown || got[2].Status != exec.Unknown {
		t.Errorf("when it can no longer start: %+v", got)
	}
}

func TestCountAndExitCode(t *testing.T) {
	for _, c := range []struct {
		name    string
		away    bool
		of      []exec.Status
		want    exec.Tally
		code    int
		settled bool
	}{
		{"nobody", false, nil, exec.Tally{}, exec.ExitOK, true},
		{"success", false, []exec.Status{exec.Success, exec.Success}, exec.Tally{Targets: 2, Success: 2}, exec.ExitOK, true},
		{
			"failures", false, []exec.Status{exec.Success, exec.Failed, exec.TimedOut, exec.Cancelled, exec.Terminated},
			exec.Tally{Targets: 5, Success: 1, Failed: 3, Terminated: 1}, exec.ExitFailed, true,
		},
		{"all refused", false, []exec.Status{exec.Refused, exec.Undeliverable, exec.InvalidPlatform}, exec.Tally{Targets: 3, Refused: 3}, exec.ExitRefused, true},
		{"some refused", false, []exec.Status{exec.Refused, exec.Success}, exec.Tally{Targets: 2, Refused: 1, Success: 1}, exec.ExitFailed, true},
		{"unknown beats failed", false, []exec.Status{exec.Unknown, exec.Failed}, exec.Tally{Targets: 2, Unknown: 1, Failed: 1}, exec.ExitUnknown, true},
		{"undelivered", false, []exec.Status{exec.DeliveryTimedOut, exec.Refused}, exec.Tally{Targets: 2, Unknown: 1, Refused: 1}, exec.ExitUnknown, true},
		{"running", false, []exec.Status{exec.InProgress, exec.Success}, exec.Tally{Targets: 2, Running: 1, Success: 1}, exec.ExitUnknown, false},
		{"pending", false, []exec.Status{exec.Pending}, exec.Tally{Targets: 1, Pending: 1}, exec.ExitUnknown, false},
		{"unreachable", true, []exec.Status{exec.Pending, exec.Success}, exec.Tally{Targets: 2, Unreachable: 1, Success: 1}, exec.ExitUnknown, true},
	} {
		var outcomes []exec.Outcome
		for _, s := range c.of {
			outcomes = append(outcomes, exec.Outcome{Status: s, Reachable: !c.away})
		}
		got := exec.Count(outcomes)
		if got != c.want || got.ExitCode() != c.code || got.Settled() != c.settled {
			t.Errorf("%s: %+v, exit %d, settled %v", c.name, got, got.ExitCode(), got.Settled())
		}
	}
	for _, s := range statuses { // none is left out
		for _, reachable := range []bool{true, false} {
			n := exec.Count([]exec.Outcome{{Status: s, Reachable: reachable}})
			if sum := n.Success + n.Failed + n.Running + n.Pending + n.Unreachable + n.Refused + n.Unknown + n.Terminated; sum != 1 {
				t.Errorf("%s is counted %d times", s, sum)
			}
			if (n.ExitCode() == exec.ExitOK) != (s == exec.Success || s == exec.Skipped) {
				t.Errorf("%s exits with %d", s, n.ExitCode())
			}
			for _, why := range []string{exec.StoppedByErrors, exec.StoppedByGate} {
				if n.Stopped = why; n.ExitCode() != exec.ExitBudget {
					t.Errorf("%s, stopped (%s), exits with %d", s, why, n.ExitCode())
				}
			}
		}
	}
}

// A node that was never granted cannot have started: that is known, whatever is not heard of it.
func TestOutcomesOfARollout(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	nodes := []fleet.ID{{1}, {2}, {3}, {4}, {5}}
	cmd := exec.Command{Count: 5, Pace: exec.Pace{Limited: true, Concurrency: 2, Errors: 0}}
	begun, err := exec.NewRollout(cmd).Grant(cmd.Pace, []uint32{0, 1})
	if err != nil {
		t.Fatal(err)
	}
	begun = begun.End(cmd.Pace, []exec.Ending{{Node: 3, As: exec.EndedAside}}) // declined; its report is still to come
	failed := begun.End(cmd.Pace, []exec.Ending{{Node: 0, As: exec.EndedFailed}})
	reports := map[fleet.ID]exec.Report{{1}: {Seq: 1, Status: exec.Failed}, {5}: {Seq: 1, Status: exec.Pending}}
	for name, c := range map[string]struct {
		r    exec.Rollout
		over bool
		want []exec.Status
		tell string // of the third node
		code int
	}{
		"begun":     {begun, false, []exec.Status{exec.Failed, exec.Pending, exec.Pending, exec.Pending, exec.Pending}, exec.WaitsForTurn, exec.ExitUnknown},
		"stopped":   {failed, false, []exec.Status{exec.Failed, exec.Pending, exec.Terminated, exec.Pending, exec.Terminated}, "never started: too many nodes failed", exec.ExitBudget},
		"gate":      {begun.Stop(exec.StoppedByGate), false, []exec.Status{exec.Failed, exec.Pending, exec.Terminated, exec.Pending, exec.Terminated}, "never started: a gate failed", exec.ExitBudget},
		"cancelled": {begun.Stop(exec.StoppedByCancel), false, []exec.Status{exec.Failed, exec.Pending, exec.Cancelled, exec.Pending, exec.Cancelled}, "cancelled before its turn", exec.ExitUnknown},
		"unneeded":  {begun.Stop(exec.StoppedUnneeded), false, []exec.Status{exec.Failed, exec.Pending, exec.Terminated, exec.Pending, exec.Terminated}, "never started: it was not needed", exec.ExitUnknown},
		"expired":   {begun, true, []exec.Status{exec.Failed, exec.Unknown, exec.DeliveryTimedOut, exec.Unknown, exec.DeliveryTimedOut}, "it expired before its turn", exec.ExitUnknown},
		"unlimited": {exec.Rollout{}, false, []exec.Status{exec.Failed, exec.Pending, exec.Pending, exec.Pending, exec.Pending}, "", exec.ExitUnknown},
	} {
		expires := now.Add(time.Hour)
		if c.over {
			expires = now.Add(-time.Hour)
		}
		for _, online := range []bool{true, false} {
			got := c.r.Outcomes(nodes, reports, func(fleet.ID) bool { return online }, expires, now)
			for i, o := range got {
				if o.Status != c.want[i] || o.Node != nodes[i] || o.Reachable != online {
					t.Errorf("%s: node %d is %s (%s), want %s", name, i, o.Status, o.Report.Detail, c.want[i])
				}
			}
			if got[2].Report.Detail != c.tell {
				t.Errorf("%s: says %q", name, got[2].Report.Detail)
			}
			tally := c.r.Count(got)
			if tally.ExitCode() != c.code || tally.Stopped != c.r.Stopped {
				t.Errorf("%s: exit %d, %+v", name, tally.ExitCode(), tally)
			}
		}
	}
	// A gate that has passed was not for everybody.
	gate := exec.NewRollout(exec.Command{Count: 5, Pace: cmd.Pace, After: exec.After{Command: fleet.UUID{1}, Wave: 1}})
	see := func(r exec.Rollout) exec.Outcome {
		return r.Outcomes(nodes, nil, func(fleet.ID) bool { return true }, now.Add(time.Hour), now)[0]
	}
	if o := see(gate); o.Status != exec.Pending || o.Report.Detail != exec.WaitsForTurn {
		t.Errorf("a gate to come: %+v", o)
	}
	gate.Waits = false
	if o := see(gate); o.Status != exec.Skipped {
		t.Errorf("a gate that has passed: %+v", o)
	}
	if o := see(gate.Stop(exec.StoppedUnneeded)); o.Status != exec.Terminated {
		t.Errorf("a gate that was not needed: %+v", o)
	}
	if (exec.Tally{Targets: 2, Terminated: 2, Stopped: exec.StoppedUnneeded}).ExitCode() != exec.ExitOK {
		t.Error("what was not needed counts as a failure")
	}
}

func TestSSMNames(t *testing.T) {
	known := map[string]bool{ // of GetCommandInvocation, but for Unknown and Skipped
		"Pending": true, "InProgress": true, "Success": true, "DeliveryTimedOut": true, "ExecutionTimedOut": true, "Failed": true, "Cancelled": true,
		"Undeliverable": true, "Terminated": true, "InvalidPlatform": true, "AccessDenied": true,
	}
	seen := map[string]exec.Status{}
	for _, s := range statuses {
		status, details := s.SSM()
		if other, twice := seen[details]; twice {
			t.Errorf("%s and %s are both %s", s, other, details)
		}
		seen[details] = s
		if !known[details] && s != exec.Unknown && s != exec.Skipped {
			t.Errorf("%s: %s is no detail of SSM's", s, details)
		}
		switch status {
		case "Pending", "InProgress":
			if s.Final() {
				t.Errorf("%s is final, %s is not", s, status)
			}
		case "Success", "Cancelled", "TimedOut", "Failed":
			if !s.Final() && s != exec.Unknown {
				t.Errorf("%s is not final, %s is", s, status)
			}
		default:
			t.Errorf("%s: %s is no status of SSM's", s, status)
		}
	}
}

// The verdict is the same whether the nodes or the rollout are heard first.
func TestTallyOfALateRollout(t *testing.T) {
	limited := exec.Command{Count: 4, Pace: exec.Pace{Limited: true, Errors: 1}}
	begun, _ := exec.NewRollout(limited).Grant(limited.Pace, []uint32{0, 1})
	ended := begun.End(limited.Pace, []exec.Ending{{Node: 0, As: exec.EndedFailed}, {Node: 1, As: exec.EndedFailed}})
	gate := limited
	gate.After = exec.After{Command: fleet.UUID{1}, Wave: 1}
	of := func(statuses ...exec.Status) (out []exec.Outcome) {
		for _, s := range statuses {
			out = append(out, exec.Outcome{Status: s, Report: exec.Report{Seq: 1, Status: s}, Reachable: true})
		}
		return out
	}
	silent := exec.Outcome{Status: exec.Unknown, Reachable: true}
	for name, c := range map[string]struct {
		cmd  exec.Command
		r    exec.Rollout
		of   []exec.Outcome
		stop string
		code int
	}{
		"heard":                     {limited, ended, of(exec.Failed, exec.TimedOut, exec.Terminated, exec.Terminated), exec.StoppedByErrors, exec.ExitBudget},
		"late":                      {limited, begun, of(exec.Failed, exec.TimedOut, exec.Terminated, exec.Terminated), exec.StoppedByErrors, exec.ExitBudget},
		"not heard of at all":       {limited, exec.Rollout{}, of(exec.Failed, exec.Unknown, exec.Terminated, exec.Terminated), exec.StoppedByErrors, exec.ExitBudget},
		"why is not known":          {limited, begun, of(exec.Success, exec.Success, exec.Terminated, exec.Terminated), exec.StoppedUnsaid, exec.ExitBudget},
		"borne":                     {limited, begun, of(exec.Failed, exec.Success, exec.Success, exec.Success), "", exec.ExitFailed},
		"silence is no failure":     {limited, begun, append(of(exec.Failed, exec.Success), silent, silent), "", exec.ExitUnknown},
		"cancelled":                 {limited, begun.Stop(exec.StoppedByCancel), of(exec.Failed, exec.Failed, exec.Terminated, exec.Cancelled), exec.StoppedByCancel, exec.ExitFailed},
		"not needed on some":        {gate, begun, of(exec.Success, exec.Success, exec.Terminated, exec.Terminated), "", exec.ExitOK},
		"a gate that failed":        {gate, begun, of(exec.Failed, exec.Failed, exec.Terminated), exec.StoppedByErrors, exec.ExitBudget},
		"a plain command's failure": {exec.Command{Count: 2}, exec.Rollout{}, of(exec.Failed, exec.Failed), "", exec.ExitFailed},
	} {
		if got := c.cmd.Tally(c.r, c.of); got.Stopped != c.stop || got.ExitCode() != c.code || got.Targets != len(c.of) {
			t.Errorf("%s: %+v, exit %d; want %q, %d", name, got, got.ExitCode(), c.stop, c.code)
		}
	}
}
