package main

import (
	"cmp"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node/api/shape"
	"github.com/muster-fleet/muster/node/fleet"
)

// result is a command with what came of it, as JSON.
type result struct {
	Format  int           `json:"format"`
	ID      fleet.UUID    `json:"id"`
	Command shape.Command `json:"command"`
	Tally   tally         `json:"tally"`
	Stopped string        `json:"stopped,omitempty"` // errors, gate or cancelled: no more nodes were started
	Exit    int           `json:"exit"`              // what muster run exits with
	aftermath
	Nodes []nodeResult `json:"nodes"`
}

type tally struct {
	Targets     int `json:"targets"`
	Success     int `json:"success"`
	Failed      int `json:"failed"`
	Running     int `json:"running"`
	Pending     int `json:"pending"`
	Unreachable int `json:"unreachable"`
	Refused     int `json:"refused"`
	Unknown     int `json:"unknown"`
	Terminated  int `json:"terminated"` // never started: it was stopped before
}

// nodeResult is what a command came to on one node. Output is text when it is UTF-8, else base64.
type nodeResult struct {
	ID        fleet.ID     `json:"id"`
	Name      string       `json:"name"`
	Status    exec.Status  `json:"status"`
	SSM       string       `json:"ssm_status"` // in Systems Manager's words
	Details   string       `json:"status_details"`
	Reachable bool         `json:"reachable"`
	ExitCode  *int         `json:"exit_code"` // null: it did not exit, or nobody knows
	Signal    string       `json:"signal,omitempty"`
	Detail    string       `json:"detail,omitempty"`
	Rule      string       `json:"rule,omitempty"`
	Started   time.Time    `json:"started,omitzero"`
	Ended     time.Time    `json:"ended,omitzero"`
	Stdout    output       `json:"stdout"`
	Stderr    output       `json:"stderr"`
	Steps     []shape.Step `json:"steps,omitempty"` // of a document
}

// output is one stream. When it was too long for a report, Omitted bytes are missing between Text and Tail.
type output struct {
	Size    int64  `json:"size"`
	Kept    int64  `json:"kept"`             // on the node
	SHA256  string `json:"sha256,omitempty"` // of what is kept, in hexadecimal
	Text    string `json:"text"`
	Base64  string `json:"base64,omitempty"` // instead of Text and Tail, with the gap as it is
	Omitted int64  `json:"omitted,omitempty"`
	Tail    string `json:"tail,omitempty"`
}

// nodeLine and endLine are the lines of -o jsonl.
type nodeLine struct {
	Event string `json:"event"`
	nodeResult
}

type endLine struct {
	Event   string     `json:"event"`
	ID      fleet.UUID `json:"id"`
	Tally   tally      `json:"tally"`
	Stopped string     `json:"stopped,omitempty"`
	Exit    int        `json:"exit"`
	aftermath
}

// rolloutLine is a line of -o jsonl when a wave begins or no more nodes are started.
type rolloutLine struct {
	Event   string `json:"event"`
	Wave    uint32 `json:"wave"` // from 1
	Waves   int    `json:"waves"`
	Granted uint32 `json:"granted"`
	Failed  uint32 `json:"failed"`
	Stopped string `json:"stopped"`
}

func resultOf(o exec.Outcome, name func(fleet.ID) string) nodeResult {
	r := o.Report
	out := nodeResult{
		ID: o.Node, Name: name(o.Node), Status: o.Status, Reachable: o.Reachable, Signal: r.Signal, Detail: r.Detail, Rule: r.Rule,
		Started: shape.At(r.Started), Ended: shape.At(r.Ended), Stdout: outputOf(r.Stdout), Stderr: outputOf(r.Stderr),
	}
	out.SSM, out.Details = shape.SSM(o.Status, o.Reachable)
	if len(r.Steps) > 0 {
		out.Steps = shape.OfSteps(r.Steps)
	}
	if exited(o.Status, r.ExitCode, r.Signal) {
		out.ExitCode = &r.ExitCode
	}
	return out
}

// exited reports whether an exit code says something.
func exited(s exec.Status, code int, signal string) bool {
	return s == exec.Success || (s == exec.Failed && code > 0 && signal == "")
}

func outputOf(s exec.Stream) output {
	out := output{Size: s.Size, Kept: s.Kept}
	if !s.Digest.IsZero() {
		out.SHA256 = hexOf(s.Digest)
	}
	head, tail := wholeRunes(s)
	if !utf8.Valid(head) || !utf8.Valid(tail) {
		out.Omitted, out.Base64 = s.Gap(), base64.StdEncoding.EncodeToString(append(s.Head[:len(s.Head):len(s.Head)], s.Tail...))
		return out
	}
	out.Text, out.Tail, out.Omitted = string(head), string(tail), s.Size-int64(len(head))-int64(len(tail))
	return out
}

// hexOf writes a SHA-256 as sha256sum does.
func hexOf(digest fleet.ID) string { return hex.EncodeToString(digest[:]) }

// shortHex is the beginning of it, where a column or a line has no more room.
func shortHex(digest fleet.ID) string { return hexOf(digest)[:16] }

// wholeRunes drops the pieces of characters that the gap between head and tail has left.
func wholeRunes(s exec.Stream) (head, tail []byte) {
	head, tail = s.Head, s.Tail
	if s.Gap() <= 0 {
		return head, tail
	}
	for i := 0; i < utf8.UTFMax-1 && len(head) > 0; i++ {
		if r, size := utf8.DecodeLastRune(head); r != utf8.RuneError || size > 1 {
			break
		}
		head = head[:len(head)-1]
	}
	for i := 0; i < utf8.UTFMax-1 && len(tail) > 0 && !utf8.RuneStart(tail[0]); i++ {
		tail = tail[1:]
	}
	return head, tail
}

// showResult prints what came of a command.
func (a *app) showResult(s *sight, outcomes []exec.Outcome, how showing, began time.Time, after aftermath) error {
	t := s.count(outcomes)
	switch a.flags.output {
	case asJSON, asYAML:
		out := a.resultOf(s, outcomes, t)
		out.aftermath = after
		return a.printData(out)
	case asLines:
		for _, o := range outcomes { // whoever has not ended was not told of yet
			if o.Status.Final() || o.Status == exec.Unknown {
				continue
			}
			if err := a.printLine(nodeLine{"node", resultOf(o, s.roll.name)}); err != nil {
				return err
			}
		}
		return a.printLine(endLine{"end", s.id, counts(t), t.Stopped, t.ExitCode(), after})
	case asNames:
		_, err := fmt.Fprintln(a.stdout, s.id)
		return err
	case asWide:
		if err := nodeResults().show(a, a.resultOf(s, outcomes, t).Nodes); err != nil {
			return err
		}
		fmt.Fprintln(a.stdout)
	}
	shortened := a.printOutcomes(outcomes, s.roll.name, how)
	line := tallyLine(t)
	if !began.IsZero() {
		line += " in " + span(time.Since(began))
	}
	a.say("%s", line)
	if why := stopLine(t, s.pace()); why != "" {
		a.say("%s", why)
	}
	a.sayAftermath(after)
	if t.Unreachable > 0 && t.Stopped == "" {
		a.say("whoever comes back before %s still gets it", when(s.expires))
	}
	switch {
	case t.Terminated > 0 && !s.direct:
		a.say("  → muster command rerun %s --failed", s.id)
	case shortened:
		a.say("  → muster command show %s --node NODE --full", s.id)
	case t.Success < t.Targets:
		a.say("  → muster command show %s -o json", s.id)
	}
	return nil
}

// stopLine says why no more nodes were started, or "".
func stopLine(t exec.Tally, p exec.Pace) string {
	switch t.Stopped {
	case exec.StoppedByErrors:
		return fmt.Sprintf("stopped by the error budget: more than %s", count(int(p.Errors), "failure"))
	case exec.StoppedByGate:
		return "stopped by a gate that did not succeed"
	case exec.StoppedByCancel:
		return "cancelled"
	case exec.StoppedUnsaid:
		return "stopped, and no server has said why yet"
	}
	return ""
}

func counts(t exec.Tally) tally {
	return tally{t.Targets, t.Success, t.Failed, t.Running, t.Pending, t.Unreachable, t.Refused, t.Unknown, t.Terminated}
}

func (a *app) resultOf(s *sight, outcomes []exec.Outcome, t exec.Tally) result {
	out := result{Format: shape.Format, ID: s.id, Tally: counts(t), Stopped: t.Stopped, Exit: t.ExitCode(), Nodes: []nodeResult{}}
	if s.info != nil {
		out.Command = shape.OfCommand(*s.info)
		out.Command.Nodes = nil // they are in Nodes
	}
	for _, m := range sortedByName(outcomes, s.roll.name) {
		out.Nodes = append(out.Nodes, resultOf(m, s.roll.name))
	}
	return out
}

func groupTint(g exec.Group) tint {
	switch g.Status {
	case exec.Success, exec.Skipped:
		return green
	case exec.Failed, exec.TimedOut, exec.Refused, exec.Undeliverable, exec.InvalidPlatform, exec.Cancelled:
		return red
	case exec.Pending, exec.InProgress, exec.Unknown, exec.DeliveryTimedOut, exec.Terminated:
		return yellow
	}
	return plain
}

// label says what a run came to.
func label(s exec.Status, code int, signal string, reachable bool) string {
	switch {
	case s == exec.Success:
		return "exit 0"
	case s == exec.Failed && signal != "":
		return "Failed (" + signal + ")"
	case exited(s, code, signal):
		return fmt.Sprintf("exit %d", code)
	case s == exec.Pending && !reachable:
		return "unreachable"
	case s == exec.InProgress && !reachable:
		return "InProgress, unreachable"
	}
	return string(s)
}

// printStream prints what there is of a stream; all of it goes through exec.Printable, also into pipes: one host must
// not be able to forge what its neighbours seem to say.
func printStream(w io.Writer, title string, s exec.Stream) (shortened bool) {
	if s.Size == 0 {
		return false
	}
	if title != "" {
		fmt.Fprintln(w, title)
	}
	head, tail := wholeRunes(s)
	printText(w, head)
	if gap := s.Size - int64(len(head)) - int64(len(tail)); gap > 0 {
		fmt.Fprintf(w, "… %d bytes are left out here\n", gap)
		shortened = true
	}
	printText(w, tail)
	if s.Kept < s.Size {
		fmt.Fprintf(w, "… the node kept %d of %d bytes\n", s.Kept, s.Size)
		shortened = true
	}
	return shortened
}

func printText(w io.Writer, text []byte) {
	if len(text) == 0 {
		return
	}
	w.Write(exec.Printable(text))
	if text[len(text)-1] != '\n' {
		fmt.Fprintln(w)
	}
}

func tallyLine(t exec.Tally) string {
	parts := []string{fmt.Sprintf("%d of %s succeeded", t.Success, count(t.Targets, "node"))}
	for _, p := range []struct {
		n    int
		word string
	}{
		{t.Failed, "failed"}, {t.Refused, "refused"}, {t.Running, "running"}, {t.Pending, "pending"}, {t.Terminated, "never started"},
		{t.Unknown, "unknown"}, {t.Unreachable, "unreachable"},
	} {
		if p.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", p.n, p.word))
		}
	}
	return strings.Join(parts, ", ")
}

func nodeResults() listing[nodeResult] {
	return listing[nodeResult]{
		columns: []column[nodeResult]{
			{head: "NODE", cell: func(r nodeResult) string { return r.Name }},
			{head: "STATUS", cell: func(r nodeResult) string {
				if !r.Status.Final() && !r.Reachable {
					return string(r.Status) + ", unreachable"
				}
				return string(r.Status)
			}},
			{head: "EXIT", cell: func(r nodeResult) string {
				if r.ExitCode == nil {
					return cmp.Or(r.Signal, "-")
				}
				return fmt.Sprint(*r.ExitCode)
			}},
			{head: "TOOK", cell: func(r nodeResult) string {
				if r.Started.IsZero() || r.Ended.IsZero() {
					return "-"
				}
				return span(max(r.Ended.Sub(r.Started), 0))
			}},
			{head: "RULE", cell: func(r nodeResult) string { return r.Rule }},
			{head: "WHY", cell: func(r nodeResult) string { return r.Detail }},
		},
		name: func(r nodeResult) string { return r.Name },
	}
}
