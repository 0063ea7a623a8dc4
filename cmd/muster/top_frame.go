package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/fleet"
)

// topState is all that muster top shows, as it was heard last.
type topState struct {
	Now        time.Time // by the fleet's clock
	Status     node.Status
	Nodes      []topNode
	Commands   []topCommand // the newest first
	NoCommands string       // why none are shown; empty: they are
	Sessions   []topSession // of the host that is asked; the newest first
	Trouble    string       // what cannot be heard now, and since when
}

// topNode is a member.
type topNode struct {
	Name     string
	Status   fleet.Status
	Role     fleet.Role
	Where    string
	Version  string
	Tags     string
	Plight   string // what it does not do now; empty: nothing
	LastSeen time.Time
}

// topCommand is a command of late.
type topCommand struct {
	ID       fleet.UUID
	Operator string
	Text     string
	Began    time.Time
	Heard    bool // servers have told what came of it
	Over     bool // nothing more is to come
	Tally    exec.Tally
	Pace     exec.Pace
	Rollout  exec.Rollout
	Failed   []string  // names
	Slow     []topSlow // those that run for longest
}

// topSlow is a node that still runs a command.
type topSlow struct {
	Name  string
	Since time.Time
}

// topSession is a session that is open.
type topSession struct {
	Operator, User, What string
	Since                time.Time
	Attached             bool
}

// topView is how somebody looks at it.
type topView struct {
	Rows, Cols int // 0: no end
	Scroll     int // nodes above the first that is shown
	Filter     string
	Typing     bool // the filter is being typed
	Colours    bool
}

// Bounds of the parts above the nodes, in lines.
const (
	topWarnings    = 3
	topMaxCommands = 12
	topMaxSessions = 6
	topNameWidth   = 30
	topSlowest     = 3
	topLeastNodes  = 3
)

// topFrame draws the whole screen: at most v.Rows lines of at most v.Cols columns. It returns the view with a scroll that
// there is.
func topFrame(s topState, v topView) ([]string, topView) {
	head := topHead(s)
	commands, sessions := topCommands(s), topSessions(s)
	shown := topMatching(s.Nodes, v.Filter)
	if v.Rows > 0 {
		spare := v.Rows - len(head) - topLeastNodes - 3
		commands = topPart(commands, min(topMaxCommands, spare*2/3))
		sessions = topPart(sessions, min(topMaxSessions, spare-len(commands)))
	}
	lines := slices.Concat(head, commands, sessions, []topLine{nil, topNodesHead(s, len(shown), v.Filter)})
	room := len(shown)
	if v.Rows > 0 {
		room = min(room, max(1, v.Rows-len(lines)-2))
	}
	v.Scroll = max(0, min(v.Scroll, len(shown)-room))
	lines = append(lines, topTable(s, shown, v.Scroll, room)...)
	if v.Rows > 0 {
		for len(lines) < v.Rows-1 {
			lines = append(lines, nil)
		}
		lines = append(lines[:v.Rows-1], topFoot(v, len(shown), room))
	}
	out := make([]string, 0, len(lines))
	for _, line := range lines {
		out = append(out, line.text(v.Cols, v.Colours))
	}
	return out, v
}

// topPart is as much of a part as there is room for; a head with nothing below is nothing.
func topPart(lines []topLine, room int) []topLine {
	if len(lines) > 2 && room < 3 {
		return nil
	}
	return lines[:max(0, min(len(lines), room))]
}

// topLine is one line, in parts with a colour each.
type topLine []cell

func topText(format string, args ...any) topLine {
	return topLine{{text: oneLine(fmt.Sprintf(format, args...))}}
}

// text cuts a line to the columns that there are.
func (l topLine) text(cols int, colours bool) string {
	var b strings.Builder
	left := cols
	for _, c := range l {
		text := c.text
		if cols > 0 {
			if left == 0 {
				break
			}
			text = cut(text, left)
			left -= utf8.RuneCountInString(text)
		}
		if colours {
			text = c.tint.on(text)
		}
		b.WriteString(text)
	}
	return strings.TrimRight(b.String(), " ")
}

// topHead is what one wants to know first: who is there, who keeps the state, what is wrong.
func topHead(s topState) []topLine {
	st := s.Status
	lost := cell{text: fmt.Sprintf("%d lost", st.Lost)}
	if st.Lost > 0 {
		lost.tint = red
	}
	lines := []topLine{
		{
			{text: oneLine(fmt.Sprintf("%s, as %s sees it at %s: ", st.FleetName, st.Self.Name, s.Now.UTC().Format("15:04:05Z")))},
			{text: fmt.Sprintf("%d online", st.Online), tint: green}, {text: ", "}, lost, {text: fmt.Sprintf(", %d left", st.Left)},
		},
		topText("quorum: %s%s", topQuorum(st.Quorum), topVersions(s.Nodes)),
		topText("agent: %s, version %s", cmp.Or(agentLine(st.Agent), "no figures"), st.Version),
	}
	if s.Trouble != "" {
		lines = append(lines, topLine{{text: oneLine("! " + s.Trouble), tint: red}})
	}
	for i, w := range st.Warnings {
		if i == topWarnings {
			return append(lines, topText("! and %d more: muster status", len(st.Warnings)-i))
		}
		lines = append(lines, topLine{{text: oneLine("! " + w), tint: yellow}})
	}
	return lines
}

func topQuorum(q node.QuorumStatus) string {
	online := 0
	for _, v := range q.Voters {
		if v.Online {
			online++
		}
	}
	leader := "no leader known"
	for _, v := range q.Voters {
		if v.ID == q.Leader {
			leader = "leader " + cmp.Or(v.Name, v.ID.String())
		}
	}
	return fmt.Sprintf("%s, %d of %s online, %s, term %d", leader, online, count(len(q.Voters), "voter"), count(len(q.Spares), "spare"), q.Term)
}

// topVersions says how many hosts have which version, where they differ: the most first.
func topVersions(nodes []topNode) string {
	of := map[string]int{}
	for _, n := range nodes {
		if n.Status == fleet.Online && n.Version != "" {
			of[n.Version]++
		}
	}
	if len(of) < 2 {
		return ""
	}
	var versions []string
	for v := range of {
		versions = append(versions, v)
	}
	slices.SortFunc(versions, func(a, b string) int { return cmp.Or(cmp.Compare(of[b], of[a]), strings.Compare(a, b)) })
	var parts []string
	for _, v := range versions[:min(3, len(versions))] {
		parts = append(parts, fmt.Sprintf("%d of %s", of[v], v))
	}
	if len(versions) > 3 {
		parts = append(parts, "more")
	}
	return "; versions: " + strings.Join(parts, ", ")
}

// topCommands is a head, and one or two lines of each command; those that go on come first.
func topCommands(s topState) []topLine {
	if s.NoCommands != "" {
		return []topLine{nil, {{text: oneLine("COMMANDS are not shown: " + s.NoCommands), tint: faint}}}
	}
	all := slices.Clone(s.Commands)
	running := 0
	for i, c := range all {
		if !c.Over { // in their order, before those that are over
			copy(all[running+1:i+1], all[running:i])
			all[running] = c
			running++
		}
	}
	lines := []topLine{nil, {{text: fmt.Sprintf("COMMANDS  %d in progress", running), tint: faint}}}
	for _, c := range all {
		lines = append(lines, topCommandLine(c, s.Now))
		if about := topAbout(c, s.Now); about != "" {
			lines = append(lines, topLine{{text: "          "}, {text: about, tint: topTint(c)}})
		}
	}
	if len(all) == 0 {
		return nil
	}
	return lines
}

func topTint(c topCommand) tint {
	if len(c.Failed) > 0 {
		return red
	}
	return faint
}

func topCommandLine(c topCommand, now time.Time) topLine {
	progress := "no server has told of it yet"
	switch {
	case c.Heard && c.Over:
		progress = topResult(c.Tally) + ", " + ago(c.Began, now)
	case c.Heard:
		progress = progressLine(c.Tally, c.Pace, c.Rollout, max(0, now.Sub(c.Began)))
	}
	return topLine{
		{text: c.ID.String()[:8] + "  "}, {text: cut(oneLine(c.Operator), 12) + "  "}, {text: oneLine(progress), tint: topProgressTint(c)},
		{text: "  " + oneLine(c.Text)},
	}
}

func topProgressTint(c topCommand) tint {
	switch {
	case c.Tally.Failed > 0:
		return red
	case c.Over && c.Tally.Success == c.Tally.Targets:
		return green
	case !c.Over:
		return yellow
	}
	return plain
}

// topResult says what a command came to.
func topResult(t exec.Tally) string {
	parts := []string{fmt.Sprintf("%d of %d ok", t.Success, t.Targets)}
	for _, n := range []struct {
		n    int
		word string
	}{
		{t.Failed, "failed"}, {t.Refused, "refused"}, {t.Terminated, "never started"}, {t.Unknown, "unknown"}, {t.Unreachable, "unreachable"},
	} {
		if n.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n.n, n.word))
		}
	}
	return strings.Join(parts, ", ")
}

// topAbout names who failed, and who takes longest.
func topAbout(c topCommand, now time.Time) string {
	var parts []string
	if len(c.Failed) > 0 {
		parts = append(parts, "failed: "+cut(fleet.FoldNames(c.Failed), 60))
	}
	if len(c.Slow) > 0 && !c.Over {
		var slow []string
		for _, n := range c.Slow {
			slow = append(slow, n.Name+" "+span(max(0, now.Sub(n.Since)).Truncate(time.Second)))
		}
		parts = append(parts, "running longest: "+strings.Join(slow, ", "))
	}
	return oneLine(strings.Join(parts, "; "))
}

// topSessions is a head, and a line of each session that is open on the host that is asked.
func topSessions(s topState) []topLine {
	if len(s.Sessions) == 0 {
		return nil
	}
	lines := []topLine{nil, {{text: fmt.Sprintf("SESSIONS  %d open on %s", len(s.Sessions), s.Status.Self.Name), tint: faint}}}
	for _, e := range s.Sessions {
		state := "nobody is connected"
		if e.Attached {
			state = "open"
		}
		lines = append(lines, topText("%s as %s, %s, %s: %s", e.Operator, cmp.Or(e.User, "-"), span(max(0, s.Now.Sub(e.Since))), state, e.What))
	}
	return lines
}

// topMatching picks the nodes that have all words of a filter somewhere, what is wrong first.
func topMatching(nodes []topNode, filter string) []topNode {
	words := strings.Fields(strings.ToLower(filter))
	out := make([]topNode, 0, len(nodes))
	for _, n := range nodes {
		if len(words) == 0 {
			out = append(out, n)
			continue
		}
		text := strings.ToLower(strings.Join([]string{n.Name, string(n.Status), string(n.Role), n.Where, n.Version, n.Tags, n.Plight}, " "))
		if !slices.ContainsFunc(words, func(word string) bool { return !strings.Contains(text, word) }) {
			out = append(out, n)
		}
	}
	slices.SortFunc(out, func(a, b topNode) int {
		return cmp.Or(cmp.Compare(topRank(a), topRank(b)), strings.Compare(a.Name, b.Name))
	})
	return out
}

func topRank(n topNode) int {
	switch {
	case n.Status == fleet.ConnectionLost:
		return 0
	case n.Status == fleet.Left:
		return 9
	case n.Plight != "":
		return 1
	}
	switch n.Role {
	case fleet.Lead:
		return 2
	case fleet.Voter:
		return 3
	case fleet.Spare:
		return 4
	case fleet.Plain:
		return 5
	}
	return 5
}

func topNodesHead(s topState, shown int, filter string) topLine {
	text := fmt.Sprintf("NODES  %d", len(s.Nodes))
	if filter != "" {
		text += fmt.Sprintf(", %d with %q", shown, filter)
	}
	return topLine{{text: oneLine(text), tint: faint}}
}

// topTable is the nodes that are on the screen. Columns are as wide as all nodes make them, so that nothing jumps while one
// scrolls.
func topTable(s topState, shown []topNode, from, room int) []topLine {
	cells := func(n topNode) [6]string {
		seen := ""
		if n.Status != fleet.Online {
			seen = ago(n.LastSeen, s.Now)
		}
		return [...]string{cut(n.Name, topNameWidth), string(n.Status), string(n.Role), n.Where, n.Version, seen}
	}
	var widths [6]int
	for _, n := range shown {
		for i, text := range cells(n) {
			widths[i] = max(widths[i], utf8.RuneCountInString(text))
		}
	}
	var lines []topLine
	for _, n := range shown[from:min(len(shown), from+room)] {
		var line topLine
		for i, text := range cells(n) {
			if widths[i] == 0 {
				continue
			}
			text = oneLine(text) // which may be longer
			c := cell{text: text + strings.Repeat(" ", max(0, widths[i]-utf8.RuneCountInString(text))+2)}
			if i == 1 {
				c.tint = topStatusTint(n.Status)
			}
			line = append(line, c)
		}
		if n.Plight != "" {
			line = append(line, cell{text: oneLine(n.Plight) + "  ", tint: yellow})
		}
		lines = append(lines, append(line, cell{text: oneLine(n.Tags)}))
	}
	return lines
}

func topStatusTint(s fleet.Status) tint {
	switch s {
	case fleet.Online:
		return green
	case fleet.ConnectionLost:
		return red
	case fleet.Left:
		return faint
	}
	return plain
}

func topFoot(v topView, shown, room int) topLine {
	if v.Typing {
		return topLine{{text: "/" + oneLine(v.Filter) + "_"}, {text: "   Enter keeps the filter, Esc drops it", tint: faint}}
	}
	where := "none"
	if shown > 0 {
		where = fmt.Sprintf("%d-%d of %d", v.Scroll+1, v.Scroll+room, shown)
	}
	return topLine{{text: "q quits, arrows and PgUp PgDn scroll, / filters   " + where, tint: faint}}
}
