package session

import (
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/muster-fleet/muster/exec/account"
	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/session/cast"
)

func TestLife(t *testing.T) {
	const s = time.Second
	base := life{now: 1000 * s, began: 900 * s, active: 990 * s, left: 995 * s, attached: true, idle: 60 * s, most: 1000 * s, grace: 10 * s}
	for name, c := range map[string]struct {
		change func(*life)
		why    string
		again  time.Duration
	}{
		"nothing near":             {func(*life) {}, "", lookAgain},
		"idle soon":                {func(l *life) { l.active = 950 * s }, "", 10 * s},
		"idle now":                 {func(l *life) { l.active = 940 * s }, "no input or output for 1m", 0},
		"idle has no limit":        {func(l *life) { l.active, l.idle = 0, 0 }, "", lookAgain},
		"its time is nearly over":  {func(l *life) { l.most = 101 * s }, "", s},
		"its time is over":         {func(l *life) { l.most = 100 * s }, "its time is over: 1m40s", 0},
		"away":                     {func(l *life) { l.attached = false }, "", 5 * s},
		"away for too long":        {func(l *life) { l.attached, l.left = false, 990*s }, "nobody was attached for 10s", 0},
		"back in time":             {func(l *life) { l.left = 0 }, "", lookAgain},
		"several at once":          {func(l *life) { l.most, l.active = 1, 0 }, "its time is over", 0},
		"the host slept over much": {func(l *life) { l.now = 100000 * s }, "its time is over", 0},
	} {
		l := base
		c.change(&l)
		if why, again := l.judge(); !strings.HasPrefix(why, c.why) || (why == "") != (c.why == "") || again != c.again {
			t.Errorf("%s: %q %v", name, why, again)
		}
	}
}

// Whoever asks when told to never comes late, and a session always ends.
func TestLifeEnds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := func(name string) time.Duration {
			return time.Duration(rapid.Int64Range(1, int64(time.Hour)).Draw(t, name))
		}
		l := life{began: d("began"), idle: d("idle"), most: d("most"), grace: d("grace"), attached: rapid.Bool().Draw(t, "attached")}
		l.active, l.left, l.now = l.began, l.began, l.began
		first := min(l.idle, l.most)
		if !l.attached {
			first = min(first, l.grace)
		}
		for {
			why, again := l.judge()
			if why != "" {
				break
			}
			if again <= 0 || again > lookAgain {
				t.Fatalf("ask again in %v", again)
			}
			l.now += again
		}
		if l.now-l.began != first {
			t.Fatalf("ended after %v, not %v", l.now-l.began, first)
		}
	})
}

func TestRest(t *testing.T) {
	const s = time.Second
	for name, c := range map[string]struct {
		r     rest
		over  bool
		again time.Duration
	}{
		"just left":         {rest{now: 100 * s, ended: 90 * s, left: 95 * s, stay: 20 * s, stall: 600 * s}, false, 15 * s},
		"left long before":  {rest{now: 100 * s, ended: 90 * s, left: 5 * s, stay: 20 * s, stall: 600 * s}, false, 10 * s},
		"stays away":        {rest{now: 110 * s, ended: 90 * s, left: 5 * s, stay: 20 * s, stall: 600 * s}, true, 0},
		"there, and slow":   {rest{now: 400 * s, ended: 90 * s, left: 5 * s, attached: true, stay: 20 * s, stall: 600 * s}, false, lookAgain},
		"there, and asleep": {rest{now: 690 * s, ended: 90 * s, left: 5 * s, attached: true, stay: 20 * s, stall: 600 * s}, true, 0},
	} {
		if over, again := c.r.over(); over != c.over || again != c.again {
			t.Errorf("%s: %v %v", name, over, again)
		}
	}
}

func TestWhatRuns(t *testing.T) {
	who := account.Account{Name: "web", Home: "/h", Shell: "/usr/bin/fish"}
	for name, c := range map[string]struct {
		o     node.SessionOrder
		shell string
		want  program
	}{
		"login shell": {node.SessionOrder{Kind: auth.SessionShell}, "/usr/bin/fish", program{"/usr/bin/fish", []string{"-fish"}}},
		"no shell":    {node.SessionOrder{Kind: auth.SessionShell}, "", program{"/bin/sh", []string{"-sh"}}},
		"a line":      {node.SessionOrder{Kind: auth.SessionExec, Argv: []string{"a | b"}}, "x", program{"/bin/sh", []string{"/bin/sh", "-c", "a | b"}}},
		"an argv":     {node.SessionOrder{Kind: auth.SessionExec, Argv: []string{"a", "| b"}}, "x", program{"a", []string{"a", "| b"}}},
		"a copy":      {node.SessionOrder{Kind: auth.SessionCopy, Paths: []string{"~/a", "/b/"}, Put: true}, "x", program{"/me", []string{"/me", "copy", "put", "flat", "~/a", "/b/"}}},
	} {
		who.Shell = c.shell
		if got := (order{Session: c.o, Account: who, Copy: []string{"/me", "copy"}}).program(); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func TestEnvironment(t *testing.T) {
	o := onTerminal("x")
	o.Env = []string{"LANG=C.UTF-8", "TERM=forged", "MUSTER_OPERATOR=root", "PATH=/mine"}
	env := order{Session: o, Account: account.Account{Name: "web", Home: "/h", Shell: "/s"}}.environment()
	slices.Sort(env)
	want := []string{"HOME=/h", "LANG=C.UTF-8", "LOGNAME=web", "MUSTER_OPERATOR=ann", MarkVar + "=" + o.ID.String(), "PATH=/mine", "SHELL=/s", "TERM=xterm", "USER=web"}
	if !slices.Equal(env, want) {
		t.Fatalf("%q", env)
	}
}

func TestOutdated(t *testing.T) {
	now := time.Unix(1_000_000_000, 0)
	id := func(n byte) fleet.UUID { return fleet.UUID{n} }
	at := func(hours int) time.Time { return now.Add(-time.Duration(hours) * time.Hour) }
	all := []cast.Kept{{Session: id(1), Bytes: 10, Ended: now}, {Session: id(2), Bytes: 10, Ended: at(2)}, {Session: id(3), Bytes: 10, Ended: at(30)}, {Session: id(4), Bytes: 10, Ended: at(50)}}
	for name, c := range map[string]struct {
		keep  cast.Keep
		most  int
		want  []fleet.UUID
		casts []fleet.UUID
	}{
		"all stay":        {cast.Keep{Age: 100 * time.Hour, Bytes: 100}, 10, nil, nil},
		"old":             {cast.Keep{Age: 40 * time.Hour}, 10, []fleet.UUID{id(4)}, nil},
		"large":           {cast.Keep{Bytes: 20}, 10, []fleet.UUID{id(3), id(4)}, nil},
		"many":            {cast.Keep{}, 1, []fleet.UUID{id(2), id(3), id(4)}, nil},
		"young ones stay": {cast.Keep{Bytes: 1}, 0, []fleet.UUID{id(2), id(3), id(4)}, []fleet.UUID{id(1)}},
	} {
		got, casts := outdated(all, c.keep, c.most, now)
		if !slices.Equal(got, c.want) || !slices.Equal(casts, c.casts) {
			t.Errorf("%s: %v, recordings %v", name, got, casts)
		}
	}
}

// Nobody wipes out what is known of others, with large recordings nor with many.
func TestOutdatedIsFair(t *testing.T) {
	now := time.Unix(1_000_000_000, 0)
	bobs := cast.Kept{Session: fleet.UUID{1}, By: fleet.ID{1}, Bytes: 10, Ended: now.Add(-48 * time.Hour)}
	for name, age := range map[string]time.Duration{"young": time.Minute, "older": 2 * time.Hour} {
		all := []cast.Kept{bobs}
		for i := range byte(100) {
			all = append(all, cast.Kept{Session: fleet.UUID{2, i}, By: fleet.ID{2}, Bytes: 10, Ended: now.Add(-age)})
		}
		folders, recordings := outdated(all, cast.Keep{Bytes: 500}, 50, now)
		if slices.Contains(folders, bobs.Session) || slices.Contains(recordings, bobs.Session) || len(folders)+len(recordings) != 51 {
			t.Errorf("%s: %d folders and %d recordings go", name, len(folders), len(recordings))
		}
	}
}

func TestEndOfProgram(t *testing.T) {
	status := func(w syscall.WaitStatus) *syscall.WaitStatus { return &w }
	for name, c := range map[string]struct {
		status *syscall.WaitStatus
		code   int32
		signal string
	}{
		"nobody saw it": {nil, -1, ""},
		"success":       {status(0), 0, ""},
		"code":          {status(7 << 8), 7, ""},
		"signal":        {status(15), -1, "TERM"},
		"core":          {status(6 | 0x80), -1, "ABRT"},
		"real-time":     {status(35), -1, "signal 35"},
	} {
		if code, signal := statusOf(c.status); code != c.code || signal != c.signal {
			t.Errorf("%s: %d %q", name, code, signal)
		}
	}
	if signalNumber("INT") != syscall.SIGINT || signalNumber("NO") != 0 || signalNumber("") != 0 {
		t.Fatal("names of signals")
	}
}
