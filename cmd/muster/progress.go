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

	wave    uint32 // what was said of the rollout
	stopped string
}

func (a *app) newProgress(s *sight) *progress {
	return &progress{a: a, s: s, began: time.Now(), live: isTerminal(a.stderr), said: map[fleet.ID]exec.Status{}}
}

func (v *progress) show(outcomes []exec.Outcome, t exec.Tally) {
	v.stages()
	for _, o := range outcomes {
		if o.Status == exec.Pending && o.Report.Detail != "" && o.Report.Detail != exec.WaitsForTurn && v.said[o.Node] == "" && v.a.forPeople() {
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

// stages says when a wave begins, and when the rollout is stopped.
func (v *progress) stages() {
	p, r := v.s.pace(), v.s.rollout()
	if r.Wave != v.wave || r.Stopped != v.stopped {
		if v.a.flags.output == asLines {
			_ = v.a.printLine(rolloutLine{"rollout", r.Wave + 1, len(p.Waves), r.Granted, r.Failed, r.Stopped})
		}
		for w := v.wave + 1; w <= r.Wave && int(w) < len(p.Waves) && v.a.forPeople(); w++ {
			v.clear()
			v.a.say("wave %d of %d begins: %s", w+1, len(p.Waves), count(int(p.Waves[w])-int(p.Waves[w-1]), "node"))
		}
		v.wave, v.stopped = r.Wave, r.Stopped
	}
}

// draw draws the line that counts.
func (v *progress) draw(t exec.Tally) {
	line := progressLine(t, v.s.pace(), v.s.rollout(), time.Since(v.began))
	fmt.Fprint(v.a.stderr, "\r\x1b[K"+cut(line, width(v.a.stderr)-1))
	v.drawn = true
}

// progressLine says in one line how far a command has come: the wave, nodes by what became of them, how many failures are
// still borne, how fast it goes, and how long it may take.
func progressLine(t exec.Tally, p exec.Pace, r exec.Rollout, took time.Duration) string {
	parts := []string{span(took.Truncate(100*time.Millisecond)) + " "}
	if len(p.Waves) > 1 {
		parts[0] += fmt.Sprintf(" wave %d of %d, ", r.Wave+1, len(p.Waves))
	} else {
		parts[0] += " "
	}
	parts[0] += fmt.Sprintf("%d of %d ok", t.Success, t.Targets)
	waiting := "pending"
	if p.Limited {
		waiting = "waiting"
	}
	for _, n := range []struct {
		n    int
		word string
	}{
		{t.Failed, "failed"}, {t.Refused, "refused"}, {t.Running, "running"}, {t.Pending, waiting}, {t.Terminated, "never started"},
		{t.Unknown, "unknown"}, {t.Unreachable, "unreachable"},
	} {
		if n.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n.n, n.word))
		}
	}
	if p.Limited && r.Stopped == "" {
		parts = append(parts, fmt.Sprintf("%d of %s left", p.Errors-min(p.Errors, r.Failed), count(int(p.Errors), "error")))
	}
	if r.Stopped != "" {
		parts = append(parts, "stopped")
	}
	return strings.Join(append(parts, speed(t, took)...), ", ")
}

// speed says how many nodes end in a second or a minute, and when the last will have.
func speed(t exec.Tally, took time.Duration) []string {
	done := t.Success + t.Failed + t.Refused
	left := t.Running + t.Pending
	if done == 0 || left == 0 || took < time.Second {
		return nil
	}
	each := took / time.Duration(done)
	rate := fmt.Sprintf("%.3g/s", float64(time.Second)/float64(each))
	if each > 2*time.Second {
		rate = fmt.Sprintf("%.3g/min", float64(time.Minute)/float64(each))
	}
	return []string{rate, "about " + span((each * time.Duration(left)).Round(time.Second)) + " left"}
}

// clear takes the line away, so that something else can be said.
func (v *progress) clear() {
	if v.drawn {
		fmt.Fprint(v.a.stderr, "\r\x1b[K")
		v.drawn = false
	}
}
