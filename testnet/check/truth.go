package check

import (
	"fmt"
	"strings"
	"time"

	"github.com/muster-fleet/muster/exec"
)

// slack is how far a run's own notes may be from what its supervisor saw: a note is written a moment before the exit.
const slack = 2 * time.Second

// Truth finds accepted commands that did not end on a node that they are for, and ends that are not what happened.
func Truth(h History) []Violation {
	v := violations{promise: PromiseTruth}
	runs, final := h.runsOf(), h.final()
	for _, o := range h.Orders {
		if !h.taken(o) {
			continue
		}
		for _, node := range o.Nodes {
			k := key{o.ID, node}
			said, told := final[k]
			if !told {
				v.add(o.ID, node, "nothing is said of it in the end; by evidence it %s", happened(runs[k]))
				continue
			}
			if lie := h.lie(o, said, runs[k]); lie != "" {
				v.add(o.ID, node, "%s says %s, %s", said.By, spoken(said), lie)
			}
		}
		h.strangers(&v, o, final)
	}
	return v.found
}

// strangers finds reports by nodes that a command is not for.
func (h History) strangers(v *violations, o Order, final map[key]Report) {
	meant := map[string]bool{}
	for _, node := range o.Nodes {
		meant[node] = true
	}
	told := map[string]bool{}
	for _, r := range h.Reports {
		if r.Command == o.ID && !meant[r.Node] && !told[r.Node] {
			told[r.Node] = true
			v.add(o.ID, r.Node, "it says %s, but the command is for %s", spoken(final[key{o.ID, r.Node}]), strings.Join(o.Nodes, " "))
		}
	}
}

func spoken(r Report) string {
	out := string(r.Status)
	if r.Exit != nil {
		out += fmt.Sprintf(" with exit code %d", *r.Exit)
	}
	if r.Signal != "" {
		out += " by " + r.Signal
	}
	if r.Detail != "" {
		out += " (" + r.Detail + ")"
	}
	return out
}

func happened(runs []Run) string {
	switch {
	case len(runs) == 0:
		return "never ran"
	case len(runs) > 1:
		return fmt.Sprintf("ran %d times", len(runs))
	case runs[0].End == nil && !runs[0].Stopped.IsZero():
		return fmt.Sprintf("began at %s and was asked to stop at %s", clock(runs[0].Began), clock(runs[0].Stopped))
	case runs[0].End == nil:
		return fmt.Sprintf("began at %s and never came to its end", clock(runs[0].Began))
	}
	return fmt.Sprintf("began at %s and ended at %s with exit code %d", clock(runs[0].Began), clock(runs[0].End.At), runs[0].End.Exit)
}

// lie returns why what is said cannot be what happened, or "".
func (h History) lie(o Order, said Report, runs []Run) string {
	var why string
	switch said.Status {
	case exec.Success:
		why = endedSo(said, runs, 0)
	case exec.Failed:
		why = h.failedSo(o, said, runs)
	case exec.TimedOut:
		why = stoppedSo(said, runs)
		if why == "" {
			why = timedOut(o, runs[0])
		}
	case exec.Cancelled:
		if !h.cancelled(o.ID) {
			why = "but nobody cancelled it"
		} else if len(runs) > 0 {
			why = stoppedSo(said, runs)
		}
	case exec.DeliveryTimedOut:
		why = h.undeliveredSo(o, runs)
	case exec.Terminated:
		why = h.terminatedSo(o, runs)
	case exec.Refused, exec.Undeliverable:
		if len(runs) > 0 {
			why = "but it " + happened(runs)
		} else if o.Permitted && o.Loose == "" {
			why = "but nothing speaks against it"
		}
	case exec.Unknown:
		if !h.excused(o, said.Node, runs) {
			why = "but nothing took its knowledge away: it " + happened(runs)
		}
	case exec.Pending, exec.InProgress:
		why = "and that is no end; by evidence it " + happened(runs)
	default:
		why = "which is no status"
	}
	if why == "" && len(runs) > 0 && !o.Expires.IsZero() && runs[0].Began.After(o.Expires.Add(h.Skew+slack)) {
		why = fmt.Sprintf("but it expired at %s, and it %s", clock(o.Expires), happened(runs))
	}
	return why
}

// terminatedSo judges a run that is said never to have started because too many failed.
func (h History) terminatedSo(o Order, runs []Run) string {
	if len(runs) > 0 {
		return "but it " + happened(runs)
	}
	failed := h.failures(o)
	if !o.Pace.Limited || failed <= o.Pace.Errors && !h.cancelled(o.ID) && o.Loose == "" {
		return fmt.Sprintf("but %d failed, and %d are borne", failed, o.Pace.Errors)
	}
	return ""
}

// failures counts the nodes on which a command failed: by what ran, and where nothing did, by what is said, which is judged
// by itself.
func (h History) failures(o Order) uint32 {
	failed, runs, final := uint32(0), h.runsOf(), h.final()
	for _, node := range o.Nodes {
		k := key{o.ID, node}
		switch all := runs[k]; {
		case len(all) > 0 && (all[0].End == nil || all[0].End.Exit != 0):
			failed++
		case len(all) == 0 && (final[k].Status == exec.Failed || final[k].Status == exec.Unknown):
			failed++
		}
	}
	return failed
}

// endedSo judges a run that is said to have ended by itself.
func endedSo(said Report, runs []Run, exit int) string {
	switch {
	case len(runs) != 1 || runs[0].End == nil || runs[0].End.Exit != exit:
		return "but it " + happened(runs)
	case said.Exit != nil && *said.Exit != exit:
		return fmt.Sprintf("but its exit code was %d", exit)
	}
	return misquoted(said.Stdout, runs[0], true)
}

func (h History) failedSo(o Order, said Report, runs []Run) string {
	switch {
	case said.Exit != nil && *said.Exit == 0:
		return "which is a success"
	}
	excused := h.excused(o, said.Node, runs)
	switch {
	case said.Exit != nil && notExecuted(*said.Exit) && len(runs) == 0 && excused:
		return ""
	case said.Exit != nil:
		return endedSo(said, runs, *said.Exit)
	case said.Signal != "" && len(runs) == 1 && excused:
		return ""
	case said.Signal != "":
		return "but nobody sent it that: it " + happened(runs)
	case len(runs) > 0:
		return "as if it had not been started, but it " + happened(runs)
	case !excused && o.Loose == "":
		return "but nothing kept the node from starting it"
	}
	return ""
}

// notExecuted reports whether an exit code is a shell's word for a program that could not be executed.
func notExecuted(exit int) bool { return exit == 126 || exit == 127 }

// stoppedSo judges a run that is said to have been stopped. Its note of a natural end may stand when it was at its end.
func stoppedSo(said Report, runs []Run) string {
	switch {
	case len(runs) != 1:
		return "but it " + happened(runs)
	case runs[0].End == nil:
		return misquoted(said.Stdout, runs[0], false)
	case runs[0].Stopped.IsZero() || runs[0].End.At.Before(runs[0].Stopped.Add(-slack)):
		return "but it had ended before: it " + happened(runs)
	}
	return misquoted(said.Stdout, runs[0], false)
}

func timedOut(o Order, run Run) string {
	if o.Timeout <= 0 || run.Stopped.IsZero() {
		return ""
	}
	if took := run.Stopped.Sub(run.Began); took < o.Timeout-slack {
		return fmt.Sprintf("but it was stopped after %s, and its time was %s", took.Round(time.Millisecond), o.Timeout)
	}
	return ""
}

func (h History) undeliveredSo(o Order, runs []Run) string {
	switch {
	case len(runs) > 0:
		return "but it " + happened(runs)
	case !o.Expires.IsZero() && !h.Ended.IsZero() && h.Ended.Before(o.Expires.Add(-h.Skew)):
		return fmt.Sprintf("but it expires at %s only, and it is %s", clock(o.Expires), clock(h.Ended))
	}
	return ""
}

// misquoted returns how reported output differs from what the run writes. A run that was stopped may have written a
// beginning of it only.
func misquoted(said *Output, run Run, whole bool) string {
	if said == nil {
		return ""
	}
	wrote := run.Writes
	if !whole {
		wrote = wrote[:min(int64(len(wrote)), said.Size)]
	}
	switch {
	case said.Size != int64(len(wrote)):
		return fmt.Sprintf("with %d bytes of output, but it wrote %d", said.Size, len(wrote))
	case int64(len(said.Head)+len(said.Tail)) > said.Size:
		return fmt.Sprintf("with %d bytes of output that it calls %d", len(said.Head)+len(said.Tail), said.Size)
	case !strings.HasPrefix(wrote, said.Head) || !strings.HasSuffix(wrote, said.Tail):
		return fmt.Sprintf("with output that it never wrote: %.60q … %.60q", said.Head, said.Tail)
	}
	return ""
}

// Steady finds final statuses that were told and are not what is said later.
func Steady(h History) []Violation {
	v := violations{promise: PromiseSteady}
	ends, told := map[key]Report{}, map[key]bool{}
	for _, r := range h.Reports {
		k := key{r.Command, r.Node}
		end, ended := ends[k]
		switch {
		case !ended && r.Status.Final():
			ends[k] = r
		case ended && !told[k] && !end.Equal(r):
			told[k] = true
			v.add(r.Command, r.Node, "%s was told %s; later %s was told %s", end.By, spoken(end), r.By, spoken(r))
		}
	}
	return v.found
}
