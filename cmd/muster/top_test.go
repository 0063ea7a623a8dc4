package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/fleet"
)

var updateFrames = flag.Bool("update-frames", false, "write the frames of muster top anew")

// topTime is when all of these frames are drawn.
func topTime() time.Time { return time.Date(2026, 11, 23, 12, 34, 56, 0, time.UTC) }

// topFleet is a fleet of so many members, of which every hundredth is lost.
func topFleet(members int) topState {
	s := topState{Now: topTime(), Status: node.Status{
		FleetName: "lab", Version: "1.2.0", Self: fleet.Member{Name: "web1"}, Left: 1,
		Agent: node.Usage{RSS: 24 << 20, Goroutines: 120, Files: 24},
		Quorum: node.QuorumStatus{Leader: fleet.Sum([]byte("web2")), Term: 7, Voters: []node.ServerStatus{
			{ID: fleet.Sum([]byte("web1")), Name: "web1", Online: true}, {ID: fleet.Sum([]byte("web2")), Name: "web2", Online: true},
			{ID: fleet.Sum([]byte("web3")), Name: "web3", Online: true},
		}},
	}}
	for i := 1; i <= members; i++ {
		n := topNode{
			Name: fmt.Sprintf("web%d", i), Status: fleet.Online, Role: fleet.Plain, Where: fmt.Sprintf("10.0.%d.%d:7980", i/250, i%250),
			Version: "1.2.0", Tags: "role=web", LastSeen: s.Now,
		}
		switch {
		case i == 2:
			n.Role = fleet.Lead
		case i <= 3:
			n.Role = fleet.Voter
		case i == members:
			n.Status, n.LastSeen = fleet.Left, s.Now.Add(-3*time.Hour)
		case i%100 == 0 || i == 4:
			n.Status, n.LastSeen, n.Version = fleet.ConnectionLost, s.Now.Add(-42*time.Second), "1.1.0"
		case i == 15:
			n.Plight = "its own root has paused it"
		case i%10 == 0:
			n.Tags, n.Version = "rack=a7,role=db", "1.1.0"
		}
		s.Nodes = append(s.Nodes, n)
		switch n.Status {
		case fleet.Online:
			s.Status.Online++
		case fleet.ConnectionLost:
			s.Status.Lost++
		}
	}
	s.Commands = []topCommand{
		{
			ID: fleet.UUID{0x33}, Operator: "ann", Text: "systemctl restart nginx", Began: s.Now.Add(-90 * time.Second), Heard: true, Over: true,
			Tally: exec.Tally{Targets: members, Success: members},
		},
		{
			ID: fleet.UUID{0x22}, Operator: "ben", Text: "apt-get -y upgrade", Began: s.Now.Add(-61 * time.Second), Heard: true,
			Tally:  exec.Tally{Targets: members, Success: members - 4, Failed: 2, Running: 2},
			Failed: []string{"web1", "web3"}, Slow: []topSlow{{"web5", s.Now.Add(-61 * time.Second)}, {"web2", s.Now.Add(-9 * time.Second)}},
		},
		{ID: fleet.UUID{0x11}, Operator: "ann", Text: "reboot", Began: s.Now.Add(-time.Second)},
	}
	s.Sessions = []topSession{{Operator: "ann", User: "root", What: "shell", Since: s.Now.Add(-5 * time.Minute), Attached: true}}
	return s
}

// Frames at the sizes that people have, as they are meant to look.
func TestTopFrames(t *testing.T) {
	bad := topFleet(5)
	bad.Status.Warnings = []string{"the disk of /var/lib/muster has 12 KiB left", "one", "two", "three"}
	bad.Trouble = "nothing was heard for 7 s: the agent does not answer"
	bad.NoCommands = "there is no operator's key at /root/.config/muster/operator.key"
	for name, c := range map[string]struct {
		state topState
		view  topView
	}{
		"5":         {topFleet(5), topView{Rows: 24, Cols: 80}},
		"5-narrow":  {topFleet(5), topView{Rows: 14, Cols: 40}},
		"5-bad":     {bad, topView{Rows: 24, Cols: 100}},
		"5-colours": {topFleet(5), topView{Rows: 20, Cols: 80, Colours: true}},
		"50":        {topFleet(50), topView{Rows: 40, Cols: 120}},
		"50-whole":  {topFleet(50), topView{}},
		"1000":      {topFleet(1000), topView{Rows: 50, Cols: 120}},
		"1000-end":  {topFleet(1000), topView{Rows: 24, Cols: 80, Scroll: 1 << 30}},
		"1000-db":   {topFleet(1000), topView{Rows: 30, Cols: 100, Filter: "role=db WEB99"}},
		"1000-type": {topFleet(1000), topView{Rows: 24, Cols: 80, Filter: "lost", Typing: true}},
		"1000-none": {topFleet(1000), topView{Rows: 24, Cols: 80, Filter: "nobody"}},
	} {
		t.Run(name, func(t *testing.T) {
			lines, _ := topFrame(c.state, c.view)
			got := strings.Join(lines, "\n") + "\n"
			path := filepath.Join("testdata", "top", name+".frame")
			if *updateFrames {
				if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
					t.Fatal(err)
				}
				return
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("not the frame of %s (-update-frames writes it anew, where that is meant):\n%s", path, got)
			}
		})
	}
}

// Whatever the fleet says of itself, and however small the terminal is, a frame fills it and no more, and nothing in it can
// steer the terminal.
func TestTopFrameFits(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := topFleet(rapid.IntRange(0, 40).Draw(t, "members"))
		for i := range s.Nodes {
			s.Nodes[i].Name = rapid.String().Draw(t, "name")
			s.Nodes[i].Tags, s.Nodes[i].Plight = rapid.String().Draw(t, "tags"), rapid.String().Draw(t, "plight")
			s.Nodes[i].Version = rapid.SampledFrom([]string{"", "1.0", "2.0", "3.0", "\x1b[31m4", "5\n6"}).Draw(t, "version")
		}
		s.Commands[0].Text, s.Commands[1].Operator = rapid.String().Draw(t, "text"), rapid.String().Draw(t, "operator")
		s.Status.Warnings = rapid.SliceOfN(rapid.String(), 0, 6).Draw(t, "warnings")
		s.Trouble, s.NoCommands = rapid.String().Draw(t, "trouble"), rapid.SampledFrom([]string{"", "no key\x1b]0;x\a"}).Draw(t, "nothing")
		s.Status.FleetName = rapid.String().Draw(t, "fleet")
		v := topView{
			Rows: rapid.IntRange(1, 60).Draw(t, "rows"), Cols: rapid.IntRange(1, 130).Draw(t, "cols"),
			Scroll: rapid.IntRange(0, 100).Draw(t, "scroll"), Filter: rapid.SampledFrom([]string{"", "role", "x y"}).Draw(t, "filter"),
		}
		lines, after := topFrame(s, v)
		if len(lines) != v.Rows {
			t.Fatalf("%d lines on %d rows", len(lines), v.Rows)
		}
		for _, line := range lines {
			if n := utf8.RuneCountInString(line); n > v.Cols {
				t.Fatalf("%q has %d columns, of %d", line, n, v.Cols)
			}
			if strings.ContainsFunc(line, unicode.IsControl) {
				t.Fatalf("%q can steer a terminal", line)
			}
		}
		if after.Scroll < 0 || after.Scroll > max(0, len(s.Nodes)-1) {
			t.Fatalf("scrolled to %d of %d", after.Scroll, len(s.Nodes))
		}
	})
}

// With the keys one comes from the first of a thousand nodes to the last, and each is on some screen on the way.
func TestTopScrollsOverAll(t *testing.T) {
	s, v := topFleet(1000), topView{Rows: 24, Cols: 120}
	seen := map[string]bool{}
	for range 1000 / 5 {
		var lines []string
		lines, v = topFrame(s, v)
		for _, line := range lines {
			name, _, _ := strings.Cut(line, " ")
			seen[name] = true
		}
		v, _ = v.pressAll([]byte("\x1b[B\x1b[B\x1b[B\x1b[B\x1b[B"))
	}
	for _, n := range s.Nodes {
		if !seen[n.Name] {
			t.Fatalf("%s was never on the screen", n.Name)
		}
	}
	if v, _ = v.pressAll([]byte("\x1b[A")); v.Scroll > 1000 {
		t.Errorf("one key up from the end is %d", v.Scroll)
	}
}

func TestTopKeys(t *testing.T) {
	start := topView{Rows: 24, Cols: 80, Scroll: 10}
	for typed, want := range map[string]struct {
		view topView
		over bool
	}{
		"q":                  {start, true},
		"\x03":               {start, true},
		"\x1b[A":             {topView{Rows: 24, Cols: 80, Scroll: 9}, false},
		"\x1bOB":             {topView{Rows: 24, Cols: 80, Scroll: 11}, false},
		"jjk":                {topView{Rows: 24, Cols: 80, Scroll: 11}, false},
		"\x1b[6~":            {topView{Rows: 24, Cols: 80, Scroll: 22}, false},
		"\x1b[5~\x1b[5~":     {topView{Rows: 24, Cols: 80}, false},
		"\x1b[H":             {topView{Rows: 24, Cols: 80}, false},
		"G":                  {topView{Rows: 24, Cols: 80, Scroll: 1 << 30}, false},
		"/":                  {topView{Rows: 24, Cols: 80, Scroll: 10, Typing: true}, false},
		"/role=q":            {topView{Rows: 24, Cols: 80, Typing: true, Filter: "role=q"}, false},
		"/röle\x7f\x7f \r":   {topView{Rows: 24, Cols: 80, Filter: "rö"}, false},
		"/x\rq":              {topView{Rows: 24, Cols: 80, Filter: "x"}, true},
		"/x\x1b":             {topView{Rows: 24, Cols: 80}, false},
		"/x\r\x1b":           {topView{Rows: 24, Cols: 80}, false},
		"/\x03":              {topView{Rows: 24, Cols: 80, Scroll: 10, Typing: true}, true},
		"\x7f":               {start, false},
		"\x1b[99;5Z\x00\xff": {start, false},
		"\x1b[12":            {start, false},
		"x":                  {start, false},
	} {
		got, over := start.pressAll([]byte(typed))
		if got != want.view || over != want.over {
			t.Errorf("%q: %+v, over %v; want %+v, %v", typed, got, over, want.view, want.over)
		}
	}
	v, _ := start.pressAll([]byte("/" + strings.Repeat("y", 500)))
	if len(v.Filter) != maxFilter {
		t.Errorf("a filter of %d characters", len(v.Filter))
	}
}

// What was typed never stops it, and is read in one pass.
func FuzzTopKeys(f *testing.F) {
	f.Add([]byte("/a\r\x1b[6~q"))
	f.Add([]byte("\x1b\x1b[\x1b[1;2"))
	f.Fuzz(func(t *testing.T, typed []byte) {
		v, _ := topView{Rows: 24, Cols: 80}.pressAll(typed)
		if v.Scroll < 0 || utf8.RuneCountInString(v.Filter) > maxFilter {
			t.Errorf("%+v", v)
		}
	})
}

// What is known of commands is summed up by their nodes' reports: who failed, who takes longest, and whether it goes on.
func TestTopCommand(t *testing.T) {
	now := time.UnixMilli(1_800_000_000_000)
	s := paced(4, exec.Pace{Concurrency: 4, Errors: 4})
	s.info.Body.Pace.Limited = false
	s.info.Rollout = exec.Rollout{}
	m := newTopModel()
	m.roll = s.roll
	info := node.CommandInfo{ID: s.id, Body: s.info.Body, Operator: "ann", Committed: now.UnixMilli() - 5000}
	if c := m.command(info, now); c.Heard || c.Over {
		t.Errorf("of one that nobody told of: %+v", c)
	}
	m.followed[s.id] = &topFollowing{sight: s, stop: func() {}}
	run := func(i int, seq uint32, status exec.Status, began int64) {
		s.take(node.Update{Report: &exec.Report{Command: s.id, Node: s.nodes[i], Seq: seq, Status: status, Started: began}})
	}
	run(0, 1, exec.Success, now.UnixMilli()-4000)
	run(1, 1, exec.InProgress, now.UnixMilli()-1000)
	run(2, 1, exec.InProgress, now.UnixMilli()-3000)
	run(3, 1, exec.TimedOut, now.UnixMilli()-3000)
	c := m.command(info, now)
	if c.Over || !c.Heard || c.Tally.Running != 2 || c.Tally.Success != 1 || strings.Join(c.Failed, ",") != "nd" {
		t.Errorf("%+v", c)
	}
	if len(c.Slow) != 2 || c.Slow[0].Name != "nc" || c.Slow[1].Name != "nb" {
		t.Errorf("the slowest are %+v", c.Slow)
	}
	stopped := false
	m.followed[s.id].stop = func() { stopped = true }
	m.letGo(now)
	if stopped {
		t.Error("it is not followed any more, and two still run")
	}
	run(1, 2, exec.Success, 0)
	run(2, 2, exec.Success, 0)
	if c = m.command(info, now); !c.Over || c.Tally.Success != 3 {
		t.Errorf("all have ended: %+v", c)
	}
	if m.letGo(now); !stopped {
		t.Error("it is followed for ever")
	}
	if got := m.open(now); len(got) != 0 {
		t.Errorf("%d are open, and none was listed", len(got))
	}
}

// Commands in any number are neither followed nor shown where they are over; one that goes on is, however many ended after it.
func TestTopFollowsWhatGoesOn(t *testing.T) {
	now := time.UnixMilli(1_800_000_000_000)
	m := newTopModel()
	follow := func(over bool) fleet.UUID {
		last := m.commands[len(m.commands)-1]
		m.followed[last.ID] = &topFollowing{sight: newSight(last.ID, []fleet.ID{{1}}, time.UnixMilli(last.Body.Header.Expires), roll{}), stop: func() {}, over: over}
		m.followed[last.ID].sight.info = &last
		return last.ID
	}
	add := func(expires, cancelled int64) {
		info := node.CommandInfo{ID: fleet.UUID{byte(len(m.commands)), byte(len(m.commands) >> 8)}, Cancelled: cancelled}
		info.Body.Header.Expires = expires
		m.commands = append(m.commands, info)
	}
	for range 500 { // the newest: they have ended, or were cancelled before anybody looked
		add(now.UnixMilli()+1, 1)
		add(now.UnixMilli()-1, 0)
		follow(true)
	}
	add(now.UnixMilli()+1, 0)
	goesOn := follow(false)
	if open := m.open(now); len(open) != 1 || open[0].ID != goesOn {
		t.Errorf("%d are open", len(open))
	}
	shown := m.state(now).Commands
	if len(shown) != topShownEnded+1 || shown[len(shown)-1].ID != goesOn {
		t.Errorf("%d commands are shown", len(shown))
	}
	add(now.UnixMilli()+1, 1)
	if follow(false); len(m.open(now)) != 2 {
		t.Error("one that was cancelled while it was followed is let go, and its nodes have not told of their ends")
	}
	for range 100 {
		add(now.UnixMilli()+1, 0)
	}
	if open := m.open(now); len(open) != topFollowed {
		t.Errorf("%d are followed at a time", len(open))
	}
}
