package main

import (
	"bytes"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node/fleet"
)

// mostFailures bounds the failures that are said while they happen; all of them are in the result.
const mostFailures = 20

// progress says on standard error how a command goes: failures as they happen, and on a terminal one line that counts.
type progress struct {
	a      *app
	s      *sight
	began  time.Time
	live   bool // standard error is a terminal: there is a line to redraw
	drawn  bool
	said   map[fleet.ID]exec.Status
	failed int
}

func (a *app) newProgress(s *sight) *progress {
	return &progress{a: a, s: s, began: time.Now(), live: isTerminal(a.stderr), said: map[fleet.ID]exec.Status{}}
}

func (v *progress) show(outcomes []exec.Outcome, t exec.Tally) {
	for _, o := range outcomes {
		if o.Status == exec.Pending && o.Report.Detail != "" && v.said[o.Node] == "" && v.a.forPeople() {
			v.said[o.Node] = exec.Pending
			v.clear()
			fmt.Fprintln(v.a.stderr, cut(oneLine(v.s.roll.name(o.Node)+": "+o.Report.Detail), 200)) // why it waits
		}
		if v.said[o.Node] == o.Status || !(o.Status.Final() || o.Status == exec.Unknown) {
			continue
		}
		v.said[o.Node] = o.Status
		v.ended(o)
	}
	if v.live {
		v.draw(t)
	}
}

// ended says that a node's run ended: to machines every one, to people the failures.
func (v *progress) ended(o exec.Outcome) {
	if v.a.flags.output == asLines {
		_ = v.a.printLine(nodeLine{"node", resultOf(o, v.s.roll.name)}) // a closed pipe shows at the end
		return
	}
	if !v.a.forPeople() || !failed(o) {
		return
	}
	v.failed++
	if v.failed > mostFailures+1 {
		return
	}
	v.clear()
	if v.failed == mostFailures+1 {
		v.a.say("… more fail; all of them are in the result")
		return
	}
	line := v.s.roll.name(o.Node) + ": " + label(o.Status, o.Report.ExitCode, o.Report.Signal, o.Reachable)
	if why := reason(o.Report); why != "" {
		line += ": " + why
	}
	fmt.Fprintln(v.a.stderr, v.tinted(red, cut(oneLine(line), 200)))
}

func (v *progress) tinted(t tint, text string) string {
	if !v.a.colours(v.a.stderr) {
		return text
	}
	return t.on(text)
}

// reason returns what a report says about a failure in one line: the node's words, else the end of the output.
func reason(r exec.Report) string {
	if r.Detail != "" {
		return r.Detail
	}
	for _, s := range []exec.Stream{r.Stderr, r.Stdout} {
		text := s.Tail
		if len(text) == 0 {
			text = s.Head
		}
		lines := bytes.Split(bytes.TrimSpace(text), []byte("\n"))
		if last := string(lines[len(lines)-1]); last != "" {
			return last
		}
	}
	return ""
}

func cut(text string, most int) string {
	if utf8.RuneCountInString(text) <= most {
		return text
	}
	return string([]rune(text)[:most-1]) + "…"
}

// draw draws the line that counts.
func (v *progress) draw(t exec.Tally) {
	parts := []string{fmt.Sprintf("%d of %d ok", t.Success, t.Targets)}
	for _, p := range []struct {
		n    int
		word string
	}{{t.Failed, "failed"}, {t.Refused, "refused"}, {t.Running, "running"}, {t.Pending, "pending"}, {t.Unknown, "unknown"}, {t.Unreachable, "unreachable"}} {
		if p.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", p.n, p.word))
		}
	}
	line := fmt.Sprintf("%s  %s", span(time.Since(v.began).Truncate(100*time.Millisecond)), strings.Join(parts, ", "))
	fmt.Fprint(v.a.stderr, "\r\x1b[K"+cut(line, width(v.a.stderr)-1))
	v.drawn = true
}

// clear takes the line away, so that something else can be said.
func (v *progress) clear() {
	if v.drawn {
		fmt.Fprint(v.a.stderr, "\r\x1b[K")
		v.drawn = false
	}
}
