package check

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node/fleet"
)

func at(seconds float64) time.Time {
	return time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC).Add(time.Duration(seconds*1000) * time.Millisecond)
}

func id(n byte) fleet.UUID { return fleet.UUID{15: n} }

func code(n int) *int { return &n }

// happy is a true history with one of everything. Each test changes it into a lie.
func happy() History {
	three := []string{"n1", "n2", "n3"}
	long := strings.Repeat("0123456789", 10_000)
	said := func(text string) *Output { return &Output{Size: int64(len(text)), Head: text} }
	cut := &Output{Size: int64(len(long)), Head: long[:100], Tail: long[len(long)-50:]}
	h := History{
		Ended: at(200),
		Orders: []Order{
			{ID: id(1), Does: "say", Nodes: three, Ack: Accepted, Asked: at(0), Answered: at(0.1), Expires: at(3600), Timeout: time.Hour},
			{ID: id(2), Does: "fail", Nodes: []string{"n2"}, Ack: Accepted, Asked: at(1), Answered: at(1.1), Expires: at(3600)},
			{ID: id(3), Does: "sleep", Nodes: three, Ack: Accepted, Asked: at(2), Answered: at(2.1), Expires: at(3600), Timeout: 5 * time.Second},
			{ID: id(4), Does: "sleep", Nodes: three, Ack: InDoubt, Asked: at(3), Answered: at(8), Expires: at(3600)},
			{ID: id(5), Does: "say", Nodes: three, Ack: Refused, Asked: at(4), Answered: at(4.1)},
			{ID: id(6), Does: "say", Nodes: three, Ack: InDoubt, Asked: at(5), Answered: at(9)},
			{ID: id(7), Does: "say", Nodes: three, Ack: Accepted, Asked: at(20), Answered: at(20.1), Expires: at(28)},
		},
		Cancels: []Cancel{{Command: id(4), Ack: Accepted, Asked: at(11)}},
		Listed:  map[fleet.UUID]bool{id(1): true, id(2): true, id(3): true, id(4): true, id(7): true},
		Excuses: []Excuse{{Node: "n3", From: at(21), To: at(24), Why: "power cut"}},
		Writes: []Write{
			{What: "tag n1 a", Value: "1", Ack: Accepted, Asked: at(1), Answered: at(2)},
			{What: "tag n1 a", Value: "2", Ack: Accepted, Asked: at(3), Answered: at(4)},
			{What: "tag n1 b", Value: "1", Ack: Refused, Asked: at(1), Answered: at(2)},
			{What: "tag n1 c", Value: "1", Ack: InDoubt, Asked: at(1), Answered: at(2)},
			{What: "tag n1 d", Value: "1", Ack: Accepted, Asked: at(1), Answered: at(2)},
			{What: "tag n1 d", Value: "", Ack: Accepted, Asked: at(3), Answered: at(4)},
		},
		Present: map[string]string{"tag n1 a": "2", "tag n1 c": "1"},
		Reads: []Read{
			{By: "n1", Asked: at(0.05), Answered: at(0.2), Listed: map[fleet.UUID]bool{}},
			{By: "n2", Asked: at(4), Answered: at(5), Listed: map[fleet.UUID]bool{id(1): true, id(2): true, id(3): true}},
		},
		Replicas:  []Replica{{"n1", 10, "aa"}, {"n2", 9, "bb"}, {"n1", 11, "cc"}, {"n2", 10, "aa"}},
		Last:      []Replica{{"n1", 20, "dd"}, {"n2", 20, "dd"}},
		Processes: []Process{{Node: "n1", PID: 77, Text: "daemon", Command: id(1)}},
		Levels: []Level{
			{"n1", 100, 200, 30, 30 << 20}, {"n1", 101, 220, 40, 50 << 20}, {"n1", 100, 210, 31, 40 << 20},
			{"n2", 100, 4000, 800, 400 << 20},
		},
	}
	run := func(n byte, node string, began float64, end *End, writes string) {
		o, _ := h.order(id(n))
		h.Runs = append(h.Runs, Run{Command: id(n), Node: node, Began: at(began), Did: o.Does, End: end, Writes: writes})
	}
	report := func(n byte, node string, s exec.Status, exit *int, out *Output) {
		h.Reports = append(h.Reports, Report{Command: id(n), Node: node, By: "n1", Status: s, Exit: exit, Stdout: out})
	}
	for _, node := range three {
		run(1, node, 0.5, &End{at(0.6), 0}, long)
		report(1, node, exec.InProgress, nil, nil)
		report(1, node, exec.Success, code(0), cut)
		report(1, node, exec.Success, code(0), cut)
		run(3, node, 2.5, nil, "hello\n")
		h.Runs[len(h.Runs)-1].Stopped = at(7.6)
		report(3, node, exec.TimedOut, nil, said("hello\n"))
	}
	run(2, "n2", 1.5, &End{at(1.6), 3}, "no\n")
	report(2, "n2", exec.Failed, code(3), said("no\n"))
	run(4, "n1", 3.5, nil, "hello\n")
	report(4, "n1", exec.Cancelled, nil, said(""))
	report(4, "n2", exec.Cancelled, nil, nil)
	report(4, "n3", exec.DeliveryTimedOut, nil, nil)
	h.Orders[3].Expires = at(100)
	run(7, "n1", 20.5, &End{at(20.6), 0}, "")
	report(7, "n1", exec.Success, nil, nil)
	report(7, "n2", exec.Refused, nil, nil)
	run(7, "n3", 20.9, nil, "")
	report(7, "n3", exec.Unknown, nil, nil)
	return h
}

func TestTrueHistory(t *testing.T) {
	for _, v := range All(happy()) {
		t.Error(v)
	}
	if got := All(History{}); len(got) != 0 {
		t.Errorf("an empty history breaks %v", got)
	}
}

// lastReport changes the last report of a command and node.
func lastReport(h *History, n byte, node string, change func(*Report)) {
	for i := len(h.Reports) - 1; i >= 0; i-- {
		if r := &h.Reports[i]; r.Command == id(n) && r.Node == node {
			change(r)
			return
		}
	}
}

func runOf(h *History, n byte, node string) *Run {
	i := slices.IndexFunc(h.Runs, func(r Run) bool { return r.Command == id(n) && r.Node == node })
	return &h.Runs[i]
}

func dropRun(h *History, n byte, node string) {
	h.Runs = slices.DeleteFunc(h.Runs, func(r Run) bool { return r.Command == id(n) && r.Node == node })
}

func status(s exec.Status) func(*Report) { return func(r *Report) { r.Status, r.Exit = s, nil } }

// TestLies plants one lie at a time. Each is caught by its checker, which names command, node and evidence.
func TestLies(t *testing.T) {
	for _, lie := range []struct {
		name    string
		promise Promise
		want    string // in the first violation of that promise
		plant   func(h *History)
	}{
		{"ran twice", PromiseOnce, "command 00000000-0000-0000-0000-000000000001 on n2: it began 2 times: 03:00:00.500, 03:00:09.000", func(h *History) {
			h.Runs = append(h.Runs, Run{Command: id(1), Node: "n2", Began: at(9), End: &End{at(9), 0}})
		}},
		{"no word", PromiseTruth, "000000000001 on n3: nothing is said of it in the end; by evidence it began", func(h *History) {
			h.Reports = slices.DeleteFunc(h.Reports, func(r Report) bool { return r.Command == id(1) && r.Node == "n3" })
		}},
		{"no end", PromiseTruth, "000000000003 on n3: n1 says InProgress, and that is no end", func(h *History) { lastReport(h, 3, "n3", status(exec.InProgress)) }},
		{"no end of an order in doubt that was taken", PromiseTruth, "000000000004 on n1: n1 says Pending", func(h *History) { lastReport(h, 4, "n1", status(exec.Pending)) }},
		{"success without a run", PromiseTruth, "000000000001 on n1: n1 says Success with exit code 0, but it never ran", func(h *History) { dropRun(h, 1, "n1") }},
		{"success of a run that never ended", PromiseTruth, "but it began at 03:00:00.500 and never came to its end", func(h *History) { runOf(h, 1, "n1").End = nil }},
		{"success of a failure", PromiseTruth, "000000000002 on n2: n1 says Success, but it began at 03:00:01.500 and ended at 03:00:01.600 with exit code 3", func(h *History) {
			lastReport(h, 2, "n2", status(exec.Success))
		}},
		{"failure of a success", PromiseTruth, "000000000007 on n1: n1 says Failed with exit code 0, which is a success", func(h *History) {
			lastReport(h, 7, "n1", func(r *Report) { r.Status, r.Exit = exec.Failed, code(0) })
		}},
		{"another exit code", PromiseTruth, "says Failed with exit code 4, but it", func(h *History) { lastReport(h, 2, "n2", func(r *Report) { r.Exit = code(4) }) }},
		{"failed to start, but ran", PromiseTruth, "000000000002 on n2: n1 says Failed, as if it had not been started, but it", func(h *History) {
			lastReport(h, 2, "n2", status(exec.Failed))
		}},
		{"failed to start for no reason", PromiseTruth, "000000000007 on n1: n1 says Failed, but nothing kept the node from starting it", func(h *History) {
			dropRun(h, 7, "n1")
			lastReport(h, 7, "n1", status(exec.Failed))
		}},
		{"killed by nobody", PromiseTruth, "says Failed by killed, but nobody sent it that", func(h *History) {
			lastReport(h, 2, "n2", func(r *Report) { r.Exit, r.Signal = nil, "killed" })
		}},
		{"timed out too early", PromiseTruth, "says TimedOut, but it was stopped after 1s, and its time was 5s", func(h *History) { runOf(h, 3, "n1").Stopped = at(3.5) }},
		{"timed out without a run", PromiseTruth, "says TimedOut, but it never ran", func(h *History) { dropRun(h, 3, "n1") }},
		{"timed out after its end", PromiseTruth, "000000000007 on n1: n1 says TimedOut, but it had ended before", func(h *History) { lastReport(h, 7, "n1", status(exec.TimedOut)) }},
		{"cancelled by nobody", PromiseTruth, "000000000004 on n1: n1 says Cancelled, but nobody cancelled it", func(h *History) { h.Cancels = nil }},
		{"cancelled by a cancel that was refused", PromiseTruth, "nobody cancelled it", func(h *History) { h.Cancels[0].Ack = Refused }},
		{"cancelled after its end", PromiseTruth, "000000000004 on n1: n1 says Cancelled, but it had ended before", func(h *History) { runOf(h, 4, "n1").End = &End{at(4), 0} }},
		{"undelivered, but ran", PromiseTruth, "000000000004 on n3: n1 says DeliveryTimedOut, but it began", func(h *History) {
			h.Runs = append(h.Runs, Run{Command: id(4), Node: "n3", Began: at(4)})
		}},
		{"undelivered before its time was over", PromiseTruth, "says DeliveryTimedOut, but it expires at 03:08:20.000 only", func(h *History) { h.Orders[3].Expires = at(500) }},
		{"refused, but ran", PromiseTruth, "000000000007 on n2: n1 says Refused, but it began", func(h *History) {
			h.Runs = append(h.Runs, Run{Command: id(7), Node: "n2", Began: at(21)})
		}},
		{"refused for no reason", PromiseTruth, "000000000007 on n2: n1 says Refused, but nothing speaks against it", func(h *History) { h.Orders[6].Permitted = true }},
		{"unknown of a run that had ended long before", PromiseTruth, "000000000007 on n3: n1 says Unknown, but nothing took", func(h *History) {
			runOf(h, 7, "n3").End = &End{at(21), 0}
			h.Excuses[0].From = at(23.5)
		}},
		{"unknown without a reason", PromiseTruth, "000000000007 on n3: n1 says Unknown, but nothing took its knowledge away", func(h *History) { h.Excuses = nil }},
		{"unknown for an agent's death, of what had begun", PromiseTruth, "000000000007 on n3: n1 says Unknown, but nothing took its knowledge away", func(h *History) { h.Excuses[0].Starting = true }},
		{"unknown for a reason that was over", PromiseTruth, "Unknown, but nothing took", func(h *History) { h.Excuses[0].To = at(19) }},
		{"began after it had expired", PromiseTruth, "000000000007 on n1: n1 says Success, but it expired at 03:00:28.000, and it began at 03:00:31", func(h *History) {
			r := runOf(h, 7, "n1")
			r.Began, r.End.At = at(31), at(32)
		}},
		{"output of another size", PromiseTruth, "with 3 bytes of output, but it wrote 100000", func(h *History) {
			lastReport(h, 1, "n1", func(r *Report) { r.Stdout = &Output{Size: 3, Head: "no\n"} })
		}},
		{"other output", PromiseTruth, "with output that it never wrote", func(h *History) {
			lastReport(h, 2, "n2", func(r *Report) { r.Stdout = &Output{Size: 3, Head: "yes"} })
		}},
		{"more output than it says", PromiseTruth, "with 5 bytes of output that it calls 3", func(h *History) {
			lastReport(h, 2, "n2", func(r *Report) { r.Stdout = &Output{Size: 3, Head: "no\n", Tail: "o\n"} })
		}},
		{"output of a killed run that it never writes", PromiseTruth, "000000000003 on n1: n1 says TimedOut, with output that it never wrote", func(h *History) {
			lastReport(h, 3, "n1", func(r *Report) { r.Stdout = &Output{Size: 3, Head: "bye"} })
		}},
		{"a stranger reports", PromiseTruth, "000000000002 on n9: it says Success, but the command is for n2", func(h *History) {
			h.Reports = append(h.Reports, Report{Command: id(2), Node: "n9", By: "n1", Status: exec.Success})
		}},
		{"a status that nobody knows", PromiseTruth, "which is no status", func(h *History) { lastReport(h, 2, "n2", status("Fine")) }},
		{"the end changed", PromiseSteady, "000000000001 on n1: n1 was told Success with exit code 0; later n1 was told Failed", func(h *History) {
			lastReport(h, 1, "n1", func(r *Report) { r.Status, r.Exit = exec.Failed, code(1) })
		}},
		{"the end was forgotten", PromiseSteady, "later n1 was told Pending", func(h *History) { lastReport(h, 1, "n1", status(exec.Pending)) }},
		{"a command is lost", PromiseKept, "000000000002: it was acknowledged at 03:00:01.100 and is not there", func(h *History) { delete(h.Listed, id(2)) }},
		{"a refused command is there", PromiseKept, "000000000005: it was refused at 03:00:04.100 and is there", func(h *History) { h.Listed[id(5)] = true }},
		{"a command from nowhere", PromiseKept, "command 00000000-0000-0000-0000-000000000009 is there, and nobody asked for it", func(h *History) { h.Listed[id(9)] = true }},
		{"a tag is lost", PromiseKept, `tag n1 a is not there, but could only be "2"`, func(h *History) { delete(h.Present, "tag n1 a") }},
		{"an older tag came back", PromiseKept, `tag n1 a is "1", but could only be "2"`, func(h *History) { h.Present["tag n1 a"] = "1" }},
		{"a refused tag is there", PromiseKept, `tag n1 b is "1", but could only be not there`, func(h *History) { h.Present["tag n1 b"] = "1" }},
		{"a tag in doubt became another", PromiseKept, `tag n1 c is "7", but could only be not there or "1"`, func(h *History) { h.Present["tag n1 c"] = "7" }},
		{"a dropped tag is there", PromiseKept, `tag n1 d is "1", but could only be not there`, func(h *History) { h.Present["tag n1 d"] = "1" }},
		{"a tag from nowhere", PromiseKept, `tag n1 z is "1", and nobody asked for it`, func(h *History) { h.Present["tag n1 z"] = "1" }},
		{"a stale read", PromiseFresh, "000000000003: it was acknowledged at 03:00:02.100, and a read through n2 at 03:00:04.000 does not show it", func(h *History) {
			delete(h.Reads[1].Listed, id(3))
		}},
		{"a read of what was refused", PromiseFresh, "000000000005: it was refused, and a read through n2", func(h *History) { h.Reads[1].Listed[id(5)] = true }},
		{"replicas differ", PromiseReplicas, "on n2: its state at act 10 is xx, that of n1 was aa", func(h *History) { h.Replicas[3].Digest = "xx" }},
		{"replicas differ in the end", PromiseReplicas, "on n2: its state at act 20 is xx, that of n1 was dd", func(h *History) { h.Last[1].Digest = "xx" }},
		{"a replica is behind at rest", PromiseReplicas, "on n2: at rest it is at act 19, n1 at act 20", func(h *History) { h.Last[1].Act = 19 }},
		{"a run from nowhere", PromiseSigned, "000000000009 on n1: it ran at 03:00:01.000, and nobody asked for it", func(h *History) {
			h.Runs = append(h.Runs, Run{Command: id(9), Node: "n1", Began: at(1)})
		}},
		{"a run of what was refused", PromiseSigned, "000000000005 on n1: it ran at 03:00:04.000, but was refused at 03:00:04.100", func(h *History) {
			h.Runs = append(h.Runs, Run{Command: id(5), Node: "n1", Began: at(4)})
		}},
		{"a run of what the fleet does not know", PromiseSigned, "000000000006 on n1: it ran at 03:00:06.000, and the fleet does not know it", func(h *History) {
			h.Runs = append(h.Runs, Run{Command: id(6), Node: "n1", Began: at(6)})
		}},
		{"a run on a node that it is not for", PromiseSigned, "000000000002 on n1: it ran at 03:00:02.000, but is for [n2]", func(h *History) {
			h.Runs = append(h.Runs, Run{Command: id(2), Node: "n1", Began: at(2)})
		}},
		{"another body ran", PromiseSigned, `000000000002 on n2: it did "evil", but was to do "fail"`, func(h *History) { runOf(h, 2, "n2").Did = "evil" }},
		{"a killed run lives", PromiseDead, "000000000003 on n1: its run is said to be TimedOut, but process 78 (sleep) is alive", func(h *History) {
			h.Processes = append(h.Processes, Process{Node: "n1", PID: 78, Text: "sleep", Command: id(3)})
		}},
		{"a supervisor stays", PromiseDead, "000000000001 on n1: its run is said to be Success, but its supervisor, process 78, is alive", func(h *History) {
			h.Processes = append(h.Processes, Process{Node: "n1", PID: 78, Text: "muster", Command: id(1), Supervisor: true})
		}},
		{"a process of a run that nobody knows", PromiseDead, "on n2: process 78 (sleep) is alive, and nothing is said of its run", func(h *History) {
			h.Processes = append(h.Processes, Process{Node: "n2", PID: 78, Text: "sleep", Command: id(9)})
		}},
		{"goroutines leak", PromiseLevel, "on n1: its agent holds 300 goroutines at rest, and held 200", func(h *History) {
			h.Levels = append(h.Levels, Level{"n1", 100, 300, 30, 30 << 20})
		}},
		{"files leak", PromiseLevel, "on n1: its agent holds 90 open files", func(h *History) { h.Levels = append(h.Levels, Level{"n1", 100, 200, 90, 30 << 20}) }},
		{"memory leaks", PromiseLevel, "on n1: its agent holds 104857600 bytes of memory", func(h *History) {
			h.Levels = append(h.Levels, Level{"n1", 100, 200, 30, 100 << 20})
		}},
		{"more at a time than may be", PromiseBounds, "000000000010 on n2: with it 2 run at 03:00:01.000, and 1 may at a time", func(h *History) {
			paced(h, exec.Pace{Limited: true, Concurrency: 1, Errors: 9})
		}},
		{"more failures at a time than are borne", PromiseBounds, "000000000010 on n3: with it 3 have failed or run at 03:00:01.300, and strictly 2 may", func(h *History) {
			paced(h, exec.Pace{Limited: true, Strict: true, Errors: 1})
		}},
		{"a wave too early", PromiseBounds, "000000000010 on n3: it began at 03:00:01.300 as number 3, and of wave 1 some still ran", func(h *History) {
			paced(h, exec.Pace{Limited: true, Errors: 9, Waves: []uint32{2, 3}})
		}},
	} {
		t.Run(lie.name, func(t *testing.T) {
			h := happy()
			lie.plant(&h)
			i := slices.IndexFunc(Checkers(), func(c Checker) bool { return c.Promise == lie.promise })
			found := Checkers()[i].Check(h)
			if len(found) == 0 {
				t.Fatal("it is not caught")
			}
			if got := found[0].String(); !strings.Contains(got, lie.want) || !strings.HasPrefix(got, string(lie.promise)) {
				t.Errorf("got  %s\nwant %s", got, lie.want)
			}
		})
	}
}

// paced adds a command that n1 ends well at 1.4 s, that n2 is lost with after 1 s, and that n3 begins at 1.3 s.
func paced(h *History, p exec.Pace) {
	three := []string{"n1", "n2", "n3"}
	h.Orders = append(h.Orders, Order{ID: id(16), Does: "say", Nodes: three, Ack: Accepted, Pace: p, Timeout: 10 * time.Second})
	h.Runs = append(h.Runs,
		Run{Command: id(16), Node: "n1", Began: at(0), End: &End{At: at(1.4)}},
		Run{Command: id(16), Node: "n2", Began: at(1)},
		Run{Command: id(16), Node: "n3", Began: at(1.3), End: &End{At: at(2)}})
}

// TestEveryPromiseHasAChecker: a promise that nobody holds a history to is none.
func TestEveryPromiseHasAChecker(t *testing.T) {
	seen := map[Promise]bool{}
	for _, c := range Checkers() {
		if seen[c.Promise] || c.Check == nil {
			t.Errorf("%s has two checkers or none", c.Promise)
		}
		seen[c.Promise] = true
	}
	if len(seen) != 10 {
		t.Errorf("%d promises", len(seen))
	}
}

// TestAllowances: what happens to honest fleets is no violation.
func TestAllowances(t *testing.T) {
	for _, fair := range []struct {
		name  string
		plant func(h *History)
	}{
		{"unknown became the truth", func(h *History) {
			runOf(h, 7, "n3").End = &End{at(23), 0}
			h.Reports = append(h.Reports, Report{Command: id(7), Node: "n3", By: "n2", Status: exec.Success, Exit: code(0)})
		}},
		{"an agent's death before anything began", func(h *History) {
			h.Excuses[0].Starting = true
			h.Runs = slices.DeleteFunc(h.Runs, func(r Run) bool { return r.Command == id(7) && r.Node == "n3" })
		}},
		{"a power cut that still lasts", func(h *History) { h.Excuses[0].To = time.Time{} }},
		{"no room to start it", func(h *History) {
			dropRun(h, 7, "n3")
			lastReport(h, 7, "n3", status(exec.Failed))
		}},
		{"an order of a clock that was off", func(h *History) {
			h.Orders[6].Permitted, h.Orders[6].Loose = true, "a clock was off"
		}},
		{"no process to be had", func(h *History) {
			dropRun(h, 7, "n3")
			lastReport(h, 7, "n3", func(r *Report) { r.Status, r.Exit = exec.Failed, code(126) })
		}},
		{"its host died with it", func(h *History) {
			lastReport(h, 7, "n3", func(r *Report) { r.Status, r.Signal = exec.Failed, "killed" })
		}},
		{"cancelled while it ended", func(h *History) {
			r := runOf(h, 4, "n1")
			r.Stopped, r.End = at(12), &End{at(12.1), 0}
		}},
		{"a clock that was off", func(h *History) {
			h.Skew = 4 * time.Minute
			r := runOf(h, 7, "n1")
			r.Began, r.End.At = at(200), at(201)
			h.Orders[3].Expires = at(400)
		}},
		{"an order in doubt that was not taken", func(h *History) { h.Orders[5].Ack = InDoubt }},
		{"a read that began before the answer", func(h *History) { h.Reads[1].Asked = at(2); delete(h.Reads[1].Listed, id(3)) }},
		{"two writes at once", func(h *History) {
			h.Writes[1].Asked = at(1.5)
			h.Present["tag n1 a"] = "1"
		}},
		{"a write in doubt that came late", func(h *History) {
			h.Writes[0].Ack = InDoubt
			h.Present["tag n1 a"] = "1"
		}},
		{"a new life", func(h *History) { h.Levels = append(h.Levels, Level{"n1", 102, 900, 300, 300 << 20}) }},
	} {
		t.Run(fair.name, func(t *testing.T) {
			h := happy()
			fair.plant(&h)
			for _, v := range All(h) {
				t.Error(v)
			}
		})
	}
}
