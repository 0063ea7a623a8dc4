package node

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vmihailenco/msgpack/v5"
	"pgregory.net/rapid"

	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/auth/authtest"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
	"github.com/muster-fleet/muster/testnet/hostile"
)

// door is a node with people before it: ada of team root, bob of team web, and a policy for them.
type door struct {
	*authtest.Fleet
	bob  auth.Signer
	host SessionHost
}

const doorPolicy = `
permit (principal in Team::"root", action, resource);
@id("web-sessions") permit (principal in Team::"web", action == Action::"session", resource is Node)
when { context.user == "muster-user" || context.user == "toor" || context.kind == "forward" && context.to like "*:5432" };
@id("no-copies-here") forbid (principal in Team::"web", action == Action::"session", resource) when { resource.hasTag("role") && context.kind == "copy" };
`

func newDoor() door {
	f := authtest.Found("door")
	d := door{Fleet: f, bob: f.AddOperator("bob", "web")}
	f.SetPolicy(doorPolicy)
	d.host = SessionHost{Self: f.Nodes[0].ID, User: DefaultSessionUser, Roots: []string{"root", "toor"}}
	return d
}

// asks returns what bob signs for a session of a kind; change, which may be nil, alters it before.
func (d door) asks(kind auth.SessionKind, change func(*auth.Session)) auth.Session {
	s := auth.Session{Header: d.Header(auth.DefaultSessionLife), Node: d.host.Self, Kind: kind}
	s.Header.Mode = auth.Direct
	switch kind {
	case auth.SessionShell:
		s.Terminal = []auth.Terminal{{Name: "xterm", Rows: 24, Cols: 80}}
	case auth.SessionExec:
		s.Argv = []string{"uptime"}
	case auth.SessionForward:
		s.Forward = []string{"db:5432"}
	case auth.SessionCopy:
		s.Paths = []string{"/srv/www/"}
	}
	if change != nil {
		change(&s)
	}
	return s
}

func (d door) judge(s auth.Session) (SessionOrder, error) {
	return JudgeSession(d.bob.Sign(auth.ForSession, d.ID(), s), d.Record, d.bob.ID(), d.host, d.Now)
}

func mustOpen(t testing.TB) func(SessionOrder, error) SessionOrder {
	return func(o SessionOrder, err error) SessionOrder {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return o
	}
}

func denied(t testing.TB, err error, kind fleet.Kind, says string) {
	t.Helper()
	if err == nil || fleet.KindOf(err) != kind || !strings.Contains(err.Error(), says) {
		t.Errorf("%v (%s); want %s with %q", err, fleet.KindOf(err), kind, says)
	}
}

func TestJudgeSession(t *testing.T) {
	d := newDoor()
	s := d.asks(auth.SessionShell, func(s *auth.Session) {
		s.Env, s.Reason, s.Terminal[0].Name = []string{"LANG=C"}, "disk is full", "screen"
	})
	o := mustOpen(t)(d.judge(s))
	want := SessionOrder{
		ID: s.Header.ID, By: d.bob.ID(), Operator: "bob", Rule: "web-sessions", Kind: auth.SessionShell, User: DefaultSessionUser,
		Terminal: []auth.Terminal{{Name: "screen", Rows: 24, Cols: 80}}, Env: []string{"LANG=C"}, Reason: "disk is full", Shell: true,
		Opened: d.Now.UnixMilli(), Expires: s.Header.Expires, Idle: (20 * time.Minute).Milliseconds(), Most: (24 * time.Hour).Milliseconds(),
		Grace: (5 * time.Minute).Milliseconds(), Record: RecordBestEffort,
	}
	if fmt.Sprintf("%+v", o) != fmt.Sprintf("%+v", want) {
		t.Errorf("\n%+v\n%+v", o, want)
	}
	for _, kind := range []auth.SessionKind{auth.SessionExec, auth.SessionForward, auth.SessionCopy} {
		o := mustOpen(t)(d.judge(d.asks(kind, nil)))
		if o.Grace != time.Minute.Milliseconds() || o.Idle != 0 || o.Most != want.Most || (o.User == "") != (kind == auth.SessionForward) {
			t.Errorf("%s: %+v", kind, o)
		}
		if (o.Record == RecordNone) != (kind != auth.SessionExec) {
			t.Errorf("%s is recorded by %d", kind, o.Record)
		}
	}
}

func TestJudgeSessionRefusals(t *testing.T) {
	d := newDoor()
	d.MustTake(d.TagNode(d.host.Self, map[string]string{"role": "db"}, true))
	for name, tc := range map[string]struct {
		kind   auth.SessionKind
		change func(*auth.Session)
		refuse fleet.Kind
		says   string
	}{
		"another node":       {auth.SessionShell, func(s *auth.Session) { s.Node[0]++ }, fleet.Denied, "another node"},
		"expired":            {auth.SessionShell, func(s *auth.Session) { s.Header.Issued -= 900_000; s.Header.Expires -= 900_000 }, fleet.Expired, "expired at"},
		"from the future":    {auth.SessionShell, func(s *auth.Session) { s.Header.Issued += 400_000; s.Header.Expires += 400_000 }, fleet.Denied, "in the future"},
		"unknown charter":    {auth.SessionShell, func(s *auth.Session) { s.Header.Charter[0]++ }, fleet.Unavailable, "signed under charter"},
		"an act to come":     {auth.SessionShell, func(s *auth.Session) { s.Header.Act++ }, fleet.Unavailable, "signed at act"},
		"nothing to run":     {auth.SessionExec, func(s *auth.Session) { s.Argv = nil }, fleet.Invalid, "nothing to run"},
		"root":               {auth.SessionShell, func(s *auth.Session) { s.User = "root" }, fleet.Denied, "no rule permits it"},
		"root, other name":   {auth.SessionShell, func(s *auth.Session) { s.User = "toor" }, fleet.Denied, "no rule permits it"},
		"root by its number": {auth.SessionShell, func(s *auth.Session) { s.User = "0" }, fleet.Invalid, "is a number"},
		"a tunnel elsewhere": {auth.SessionForward, func(s *auth.Session) { s.Forward = append(s.Forward, "db:22") }, fleet.Denied, "no rule permits it"},
		"forbidden by tag":   {auth.SessionCopy, nil, fleet.Denied, "forbidden by no-copies-here"},
		"too long":           {auth.SessionShell, func(s *auth.Session) { s.Reason = strings.Repeat("x", auth.MaxSession) }, fleet.Exhausted, "at most"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := d.judge(d.asks(tc.kind, tc.change))
			denied(t, err, tc.refuse, tc.says)
		})
	}
	_, err := d.judge(d.asks(auth.SessionShell, func(s *auth.Session) { s.User = "toor" }))
	if e, ok := err.(*fleet.Error); !ok || !strings.Contains(e.Hint, `context.user == "root"`) {
		t.Errorf("the missing rule is not named: %v", err)
	}

	good := d.bob.Sign(auth.ForSession, d.ID(), d.asks(auth.SessionShell, nil))
	judge := func(e auth.Envelope, r auth.Record, by fleet.ID) error {
		_, err := JudgeSession(e, r, by, d.host, d.Now)
		return err
	}
	if err := judge(good, d.Record, d.bob.ID()); err != nil {
		t.Fatal(err)
	}
	denied(t, judge(good, d.Record, d.Operator.ID()), fleet.Denied, "the connection is that of key") // what ada caught of bob's
	stolen := good
	stolen.Key = d.Operator.ID()
	denied(t, judge(stolen, d.Record, d.Operator.ID()), fleet.Denied, "signature")
	denied(t, judge(alter(good, func(s *auth.Session) { s.User = "root" }), d.Record, d.bob.ID()), fleet.Denied, "signature")
	denied(t, judge(d.bob.Sign(auth.ForCommand, d.ID(), d.asks(auth.SessionShell, nil)), d.Record, d.bob.ID()), fleet.Denied, "signature")
	denied(t, judge(d.bob.Sign(auth.ForSession, fleet.ID{1}, d.asks(auth.SessionShell, nil)), d.Record, d.bob.ID()), fleet.Denied, "signature")
	node := d.Nodes[0].Signer
	denied(t, judge(node.Sign(auth.ForSession, d.ID(), d.asks(auth.SessionShell, nil)), d.Record, node.ID()), fleet.Denied, "no operator")
	denied(t, judge(good, auth.NewRecord(), d.bob.ID()), fleet.Unavailable, "no charter")

	d.MustTake(d.DeleteOperator("bob", d.bob, false))
	denied(t, judge(good, d.Record, d.bob.ID()), fleet.Denied, "operator bob was removed")
}

// A node that was removed lets nobody in: nothing says who may.
func TestRemovedNodeTakesNoSession(t *testing.T) {
	d := newDoor()
	d.MustTake(d.RemoveNode(d.host.Self))
	if _, err := d.judge(d.asks(auth.SessionShell, nil)); err == nil {
		t.Error("let in")
	}
}

// A host whose clock is off takes sessions all the same, of whoever is an operator.
func TestJudgeSessionWithoutClock(t *testing.T) {
	d := newDoor()
	e := d.bob.Sign(auth.ForSession, d.ID(), d.asks(auth.SessionShell, nil))
	for _, off := range []time.Duration{-8760 * time.Hour, 8760 * time.Hour} {
		if _, err := JudgeSession(e, d.Record, d.bob.ID(), d.host, d.Now.Add(off)); err == nil {
			t.Errorf("taken %s off", off)
		}
		host := d.host
		host.ClockOff = true
		if _, err := JudgeSession(e, d.Record, d.bob.ID(), host, d.Now.Add(off)); err != nil {
			t.Errorf("refused %s off: %v", off, err)
		}
		_, err := JudgeSession(e, d.Record, d.Operator.ID(), host, d.Now.Add(off))
		denied(t, err, fleet.Denied, "the connection is that of key")
		long := d.bob.Sign(auth.ForSession, d.ID(), d.asks(auth.SessionShell, func(s *auth.Session) { s.Header.Expires = 0 }))
		_, err = JudgeSession(long, d.Record, d.bob.ID(), host, d.Now.Add(off))
		denied(t, err, fleet.Invalid, "is good for")
	}
}

// Nobody gets more time than the fleet and the host allow, and nobody more than he asked for.
func TestSessionTimes(t *testing.T) {
	d := newDoor()
	set := func(name, value string) {
		d.MustTake(authtest.Proposal{Kind: auth.ActSetting, Data: wire.Marshal(d.Sign(auth.ForSetting, auth.SettingChange{Header: d.Header(time.Hour), Name: name, Value: value}))})
	}
	check := func(kind auth.SessionKind, idle, most, wantIdle, wantMost time.Duration) {
		t.Helper()
		o := mustOpen(t)(d.judge(d.asks(kind, func(s *auth.Session) { s.Idle, s.Most = idle.Milliseconds(), most.Milliseconds() })))
		if o.Idle != wantIdle.Milliseconds() || o.Most != wantMost.Milliseconds() {
			t.Errorf("%s %s %s: %d %d", kind, idle, most, o.Idle, o.Most)
		}
	}
	const m, h = time.Minute, time.Hour
	check(auth.SessionShell, 0, 0, 20*m, 24*h)
	check(auth.SessionShell, h, 48*h, 20*m, 24*h)
	check(auth.SessionShell, m, h, m, h)
	check(auth.SessionExec, 0, 0, 0, 24*h)
	check(auth.SessionExec, 2*h, 0, 2*h, 24*h)
	set(auth.SettingSessionIdle, "5m")
	set(auth.SettingSessionMost, "2d")
	check(auth.SessionShell, h, 72*h, 5*m, 48*h)
	d.host.Limits = SessionLimits{Idle: 2 * m, Most: h}
	check(auth.SessionShell, 0, 0, 2*m, h)
	check(auth.SessionShell, m, 2*h, m, h)
	d.host.Limits = SessionLimits{Idle: 9 * h, Most: 900 * h}
	check(auth.SessionShell, 0, 0, 5*m, 48*h)

	record := func(value string, kind auth.SessionKind, want SessionRecord, input bool) {
		t.Helper()
		set(auth.SettingSessionRecord, value)
		if o := mustOpen(t)(d.judge(d.asks(kind, nil))); o.Record != want || o.Input != input {
			t.Errorf("%q, %s: %d %v", value, kind, o.Record, o.Input)
		}
	}
	record("durable", auth.SessionShell, RecordDurable, false)
	record("durable,input", auth.SessionExec, RecordDurable, true)
	record("durable,input", auth.SessionCopy, RecordNone, false)
	record("best-effort,input", auth.SessionShell, RecordBestEffort, true)
	record("off", auth.SessionShell, RecordNone, false)
	record("", auth.SessionShell, RecordBestEffort, false)
}

func TestAdmitSession(t *testing.T) {
	d := newDoor()
	o := mustOpen(t)(d.judge(d.asks(auth.SessionShell, nil)))
	limits := SessionLimitsOf(d.Record.Settings, SessionLimits{All: 4, Operator: 2})
	other := func(n int, by fleet.ID, ended int64) SessionState {
		return SessionState{ID: uuid(n), By: by, Ended: ended}
	}
	bob, ada := d.bob.ID(), d.Operator.ID()
	if err := AdmitSession(o, []SessionState{other(1, bob, 0), other(2, bob, 9), other(3, bob, 9), other(4, ada, 0), other(5, ada, 0)}, limits); err != nil {
		t.Error(err)
	}
	denied(t, AdmitSession(o, []SessionState{other(1, bob, 0), other(2, bob, 0)}, limits), fleet.Exhausted, "operator bob has 2 sessions")
	denied(t, AdmitSession(o, []SessionState{other(1, ada, 0), other(2, ada, 0), other(3, ada, 0), other(4, ada, 0)}, limits), fleet.Exhausted, "this node has 4")
	lingers := other(6, bob, 9)
	lingers.Lingers = true
	denied(t, AdmitSession(o, []SessionState{other(1, bob, 0), other(2, bob, 9), lingers}, limits), fleet.Exhausted, "operator bob has 2 sessions on this node, the limit (1 have ended")
	denied(t, AdmitSession(o, []SessionState{other(1, ada, 0), other(2, ada, 0), other(3, ada, 0), lingers}, limits), fleet.Exhausted, "this node has 4")
	again := o.State()
	denied(t, AdmitSession(o, []SessionState{again}, limits), fleet.Conflict, "opened before")
	again.Ended, again.By = 9, ada
	denied(t, AdmitSession(o, []SessionState{again}, limits), fleet.Conflict, "opened before")
	if l := SessionLimitsOf(d.Record.Settings, SessionLimits{All: 9999, Operator: -1}); l.All != MaxSessions || l.Operator != MaxOperatorSessions {
		t.Errorf("%+v", l)
	}
}

// A session goes on only while what let it in holds.
func TestSessionStands(t *testing.T) {
	d := newDoor()
	shell := mustOpen(t)(d.judge(d.asks(auth.SessionShell, nil))).State()
	tunnel := mustOpen(t)(d.judge(d.asks(auth.SessionForward, nil))).State()
	attach := func(s SessionState, by auth.Signer) error { return JudgeAttach(s, by.ID(), d.Record, d.host, d.Now) }
	for _, s := range []SessionState{shell, tunnel} {
		if err := attach(s, d.bob); err != nil {
			t.Error(err)
		}
		denied(t, attach(s, d.Operator), fleet.NotFound, "no session")
	}
	if err := tunnel.MayDial("db:5432"); err != nil {
		t.Error(err)
	}
	denied(t, tunnel.MayDial("db:22"), fleet.Denied, "may connect to db:5432 only")
	denied(t, tunnel.MayDial("DB:5432"), fleet.Denied, "only")
	denied(t, shell.MayDial("db:5432"), fleet.Invalid, "connects to nothing")

	before := d.Record
	d.SetPolicy(strings.Replace(doorPolicy, ":5432", ":3306", 1))
	denied(t, attach(tunnel, d.bob), fleet.Denied, "no rule permits it")
	nowhere := tunnel
	nowhere.Forward = nil
	denied(t, attach(nowhere, d.bob), fleet.Denied, "no rule permits it")
	if err := attach(shell, d.bob); err != nil {
		t.Error(err)
	}
	d.host.Roots = append(d.host.Roots, shell.User) // the account became root
	denied(t, attach(shell, d.bob), fleet.Denied, "no rule permits it")
	d.host.Roots = nil
	d.MustTake(d.DeleteOperator("bob", d.bob, false))
	denied(t, SessionStands(shell, d.Record, d.host, d.Now), fleet.Denied, "was removed")
	if err := SessionStands(shell, before, d.host, d.Now); err != nil {
		t.Error(err)
	}
}

// What a session is judged by when it opens and when it goes on is the same.
func TestStandsAsItOpened(t *testing.T) {
	d := newDoor()
	policies := []string{doorPolicy, `permit (principal, action, resource) when { context.shell };`, `permit (principal, action, resource) when { context.terminal };`,
		`permit (principal, action, resource) when { context.kind == "exec" && !context.shell };`, `permit (principal, action, resource) when { context.to != "" };`, ``}
	rapid.Check(t, func(t *rapid.T) {
		d := door{Fleet: d.Clone(), bob: d.bob, host: d.host}
		d.SetPolicy(`permit (principal, action, resource);`)
		o, err := d.judge(d.asks(rapid.SampledFrom(auth.SessionKinds).Draw(t, "kind"), func(s *auth.Session) {
			if s.Kind == auth.SessionExec {
				s.Argv = rapid.SliceOfN(rapid.Just("x"), 1, 3).Draw(t, "argv")
				s.Terminal = make([]auth.Terminal, rapid.IntRange(0, 1).Draw(t, "terminal"))
			}
			if s.Kind != auth.SessionForward {
				s.User = rapid.SampledFrom([]string{"", "root", "toor", "www-data"}).Draw(t, "user")
			}
		}))
		if err != nil {
			t.Fatal(err)
		}
		d.SetPolicy(rapid.SampledFrom(policies).Draw(t, "policy"))
		again := d.asks(o.Kind, func(s *auth.Session) {
			s.Argv, s.Terminal, s.User = o.Argv, o.Terminal, o.User
		})
		_, opens := d.judge(again)
		if stands := SessionStands(o.State(), d.Record, d.host, d.Now); (opens == nil) != (stands == nil) {
			t.Fatalf("opens: %v; stands: %v", opens, stands)
		}
	})
}

func TestSessionReads(t *testing.T) {
	d := newDoor()
	d.SetPolicy(`
		permit (principal in Team::"root", action, resource);
		permit (principal in Team::"audit", action == Action::"read", resource is Fleet);
		permit (principal in Team::"audit", action == Action::"session.replay", resource is Node) when { context.user != "root" };`)
	eve := d.AddOperator("eve", "audit")
	mine := SessionState{ID: uuid(1), By: d.bob.ID(), User: "root", Recording: SessionRecording{Bytes: 1}, Started: 10, Ended: 30}
	hers := SessionState{ID: uuid(2), By: d.Operator.ID(), User: "root", Recording: SessionRecording{Bytes: 1}, Started: 20}
	plain := SessionState{ID: uuid(3), By: d.Operator.ID(), User: "www-data", Recording: SessionRecording{Bytes: 1}, Started: 15}
	bare := SessionState{ID: uuid(4), By: d.Operator.ID(), User: "www-data", Started: 40, Ended: 50}
	have := []SessionState{mine, hers, plain, bare}
	read := func(who auth.Signer, what ReadWhat, arg fleet.UUID) (SessionAnswer, error) {
		body := Read{Header: d.Header(ReadLife), What: what, Arg: arg, Node: d.host.Self}
		r, reader, err := JudgeSessionRead(who.Sign(auth.ForRequest, d.ID(), body), d.Record, who.ID(), d.host, d.Now)
		if err != nil {
			t.Fatal(err)
		}
		return AnswerSessions(r, reader, have)
	}
	for name, tc := range map[string]struct {
		who  auth.Signer
		want []SessionState
	}{
		"bob sees his": {d.bob, []SessionState{mine}}, "eve sees all": {eve, []SessionState{hers, plain, bare, mine}}, "ada sees all": {d.Operator, []SessionState{hers, plain, bare, mine}},
	} {
		a, err := read(tc.who, ReadSessions, fleet.UUID{})
		if err != nil || a.More || fmt.Sprint(a.Sessions) != fmt.Sprint(tc.want) {
			t.Errorf("%s: %v %v", name, a, err)
		}
	}
	for _, tc := range []struct {
		who  auth.Signer
		what ReadWhat
		s    fleet.UUID
		kind fleet.Kind
		says string // empty: it may
	}{
		{d.bob, ReadSession, mine.ID, 0, ""}, {d.bob, ReadRecording, mine.ID, 0, ""},
		{d.bob, ReadSession, hers.ID, fleet.NotFound, "no session"}, {d.bob, ReadRecording, hers.ID, fleet.NotFound, "no session"},
		{d.bob, ReadSession, uuid(9), fleet.NotFound, "no session"},
		{eve, ReadSession, hers.ID, 0, ""}, {eve, ReadRecording, hers.ID, fleet.Denied, "may not session.replay"}, {eve, ReadRecording, plain.ID, 0, ""},
		{eve, ReadRecording, bare.ID, fleet.NotFound, "has no recording"}, {d.Operator, ReadRecording, hers.ID, 0, ""},
	} {
		a, err := read(tc.who, tc.what, tc.s)
		if tc.says != "" {
			denied(t, err, tc.kind, tc.says)
		} else if err != nil || len(a.Sessions) != 1 || a.Sessions[0].ID != tc.s {
			t.Errorf("%s of %s: %v %v", tc.what, tc.s, a, err)
		}
	}

	_, stranger, err := JudgeSessionRead(d.bob.Sign(auth.ForRequest, d.ID(), Read{Header: d.Header(ReadLife), What: ReadRecording, Node: d.host.Self}), d.Record, d.bob.ID(), d.host, d.Now)
	if err != nil {
		t.Fatal(err)
	}
	denied(t, stranger.MayReplay(hers), fleet.NotFound, "no session")
	if err := stranger.MayReplay(mine); err != nil {
		t.Error(err)
	}

	judge := func(change func(*Read), by fleet.ID, host SessionHost, now time.Time) error {
		body := Read{Header: d.Header(ReadLife), What: ReadSessions, Node: d.host.Self}
		change(&body)
		_, _, err := JudgeSessionRead(d.bob.Sign(auth.ForRequest, d.ID(), body), d.Record, by, host, now)
		return err
	}
	off := d.host
	off.ClockOff = true
	later := d.Now.Add(time.Hour)
	denied(t, judge(func(r *Read) { r.What = ReadOutput }, d.bob.ID(), d.host, d.Now), fleet.Invalid, "none for sessions")
	denied(t, judge(func(r *Read) { r.What = ReadCommands }, d.bob.ID(), d.host, d.Now), fleet.Invalid, "none for sessions")
	denied(t, judge(func(r *Read) { r.Node[0]++ }, d.bob.ID(), d.host, d.Now), fleet.Denied, "another node")
	denied(t, judge(func(r *Read) { r.Node = fleet.ID{} }, d.bob.ID(), d.host, d.Now), fleet.Denied, "another node")
	denied(t, judge(func(r *Read) { r.Header.Expires = 0 }, d.bob.ID(), d.host, d.Now), fleet.Invalid, "lives")
	denied(t, judge(func(*Read) {}, d.bob.ID(), d.host, later), fleet.Expired, "expired")
	denied(t, judge(func(*Read) {}, d.Operator.ID(), off, later), fleet.Expired, "expired")
	for _, err := range []error{
		judge(func(*Read) {}, d.bob.ID(), off, later), judge(func(*Read) {}, fleet.ID{}, d.host, d.Now), judge(func(r *Read) { r.Header.Act++ }, d.bob.ID(), d.host, d.Now),
	} {
		if err != nil {
			t.Error(err)
		}
	}
}

// A list fits into a frame, whatever people ran, and says what it leaves out.
func TestSessionListIsBounded(t *testing.T) {
	d := newDoor()
	var have []SessionState
	for i := range 2 * MaxSessionsListed {
		s := SessionState{ID: uuid(i), By: d.bob.ID(), Kind: auth.SessionExec, Argv: []string{"sh", "-c", "x"}, Started: int64(i)}
		switch i % 3 {
		case 1:
			s.Argv = []string{strings.Repeat("x", auth.MaxSessionArgs)}
		case 2:
			s.Argv = make([]string, auth.MaxSessionArgs)
		}
		have = append(have, s)
	}
	reader := SessionReader{key: d.bob.ID()}
	for _, n := range []int{0, 1, 90, MaxSessionsListed, MaxSessionsListed + 1, len(have)} {
		a, err := AnswerSessions(Read{What: ReadSessions}, reader, slices.Clone(have[:n]))
		if err != nil || (len(a.Sessions) < n) != a.More || len(wire.Marshal(a)) > 512<<10-5 {
			t.Errorf("of %d: %d, %v, %d bytes, %v", n, len(a.Sessions), a.More, len(wire.Marshal(a)), err)
		}
		if n > 0 && a.Sessions[0].ID != have[n-1].ID {
			t.Errorf("of %d: the newest is not first", n)
		}
	}
	if empty := (SessionState{Argv: make([]string, auth.MaxSessionArgs)}).line(); len(empty.Argv) > maxListed+1 {
		t.Errorf("%d words of nothing", len(empty.Argv))
	}
	small := SessionState{Argv: []string{"ls", "", "-l"}}
	if got := small.line(); fmt.Sprintf("%q", got.Argv) != `["ls" "" "-l"]` {
		t.Errorf("%q", got.Argv)
	}
	long := SessionState{Argv: []string{"cat", strings.Repeat("y", 2*maxListed), "z"}}
	if got := long.line(); len(got.Argv) != 3 || got.Argv[2] != "…" || len(long.Argv[1]) != 2*maxListed {
		t.Errorf("%q", got.Argv)
	}
}

func TestJudgeSessionKill(t *testing.T) {
	d := newDoor()
	mine := mustOpen(t)(d.judge(d.asks(auth.SessionShell, nil))).State()
	hers := mine
	hers.ID, hers.By = uuid(2), d.Operator.ID()
	find := func(id fleet.UUID) (SessionState, bool) {
		for _, s := range []SessionState{mine, hers} {
			if s.ID == id {
				return s, true
			}
		}
		return SessionState{}, false
	}
	kill := func(who auth.Signer, change func(*auth.SessionKill), host SessionHost, now time.Time) (SessionState, string, error) {
		k := auth.SessionKill{Header: d.Header(time.Minute), Node: d.host.Self, Session: mine.ID}
		k.Header.Mode = auth.Direct
		change(&k)
		return JudgeSessionKill(who.Sign(auth.ForSessionKill, d.ID(), k), d.Record, host, find, now)
	}
	same := func(*auth.SessionKill) {}
	for who, by := range map[*auth.Signer]string{&d.bob: "ended by bob", &d.Operator: "ended by ada"} {
		if s, says, err := kill(*who, same, d.host, d.Now); err != nil || s.ID != mine.ID || says != by {
			t.Errorf("%s: %v %q %v", by, s.ID, says, err)
		}
	}
	if _, says, err := kill(d.Operator, func(k *auth.SessionKill) { k.Reason = "lunch" }, d.host, d.Now); err != nil || says != "ended by ada: lunch" {
		t.Errorf("%q %v", says, err)
	}
	for _, tc := range []struct {
		who    auth.Signer
		change func(*auth.SessionKill)
		kind   fleet.Kind
		says   string
	}{
		{d.bob, func(k *auth.SessionKill) { k.Session = hers.ID }, fleet.Denied, "may not session.kill"},
		{d.bob, func(k *auth.SessionKill) { k.Session = uuid(9) }, fleet.Denied, "may not session.kill"},
		{d.Operator, func(k *auth.SessionKill) { k.Session = uuid(9) }, fleet.NotFound, "no session"},
		{d.bob, func(k *auth.SessionKill) { k.Node[0]++ }, fleet.Denied, "another node"},
		{d.bob, func(k *auth.SessionKill) { k.Header.Expires += 3_600_000 }, fleet.Invalid, "is good for"},
		{d.bob, func(k *auth.SessionKill) { k.Header.Act++ }, fleet.Unavailable, "signed at act"},
		{d.bob, func(k *auth.SessionKill) { k.Reason = "\x1b]0;" }, fleet.Invalid, "--reason"},
		{d.Nodes[0].Signer, same, fleet.Denied, "no operator"},
	} {
		s, _, err := kill(tc.who, tc.change, d.host, d.Now)
		denied(t, err, tc.kind, tc.says)
		if !s.ID.IsZero() {
			t.Errorf("%q returns session %s", tc.says, s.ID)
		}
	}
	off := d.host
	off.ClockOff = true
	_, _, err := kill(d.bob, same, d.host, d.Now.Add(time.Hour))
	denied(t, err, fleet.Expired, "expired")
	if _, _, err := kill(d.bob, same, off, d.Now.Add(time.Hour)); err != nil {
		t.Error(err)
	}
}

// Nothing opens but what was signed, for the key that signed it; whatever an operator signs, what is opened keeps to the
// bounds.
func FuzzJudgeSession(f *testing.F) {
	d := newDoor()
	for _, kind := range auth.SessionKinds {
		f.Add(wire.Marshal(d.asks(kind, nil)), uint32(77))
	}
	f.Add(wire.Marshal(d.asks(auth.SessionExec, func(s *auth.Session) { s.User, s.Most = "toor", 1<<40 })), uint32(1000))
	f.Add([]byte{0x9b}, uint32(0))
	f.Fuzz(func(t *testing.T, body []byte, flip uint32) {
		e := d.bob.Sign(auth.ForSession, d.ID(), msgpack.RawMessage(body))
		o, err := JudgeSession(e, d.Record, d.bob.ID(), d.host, d.Now)
		if err != nil {
			if o.ID != (fleet.UUID{}) {
				t.Fatalf("refused with %+v", o)
			}
			return
		}
		if o.Most <= 0 || o.Most > auth.DefaultSessionMost.Milliseconds() || len(o.Terminal) > 0 && (o.Idle <= 0 || o.Idle > auth.DefaultSessionIdle.Milliseconds()) {
			t.Fatalf("it lasts as it likes: %+v", o)
		}
		if (o.Kind == auth.SessionForward) != (o.User == "") || o.User == "root" || o.User == "toor" || o.By != d.bob.ID() {
			t.Fatalf("%+v", o)
		}
		for _, to := range o.Forward {
			if !strings.HasSuffix(to, ":5432") {
				t.Fatalf("it may connect to %s", to)
			}
		}
		raw := wire.Marshal(e)
		raw[flip/8%uint32(len(raw))] ^= 1 << (flip % 8)
		if bent, err := DecodeSessionStatement(SessionOpen, raw); err == nil {
			if _, err := JudgeSession(bent, d.Record, d.bob.ID(), d.host, d.Now); err == nil {
				t.Fatalf("bit %d may change", flip)
			}
		}
	})
}

func FuzzSessionWire(f *testing.F) {
	d := newDoor()
	id := uuid(1)
	state := mustOpen(f)(d.judge(d.asks(auth.SessionExec, nil))).State()
	for _, data := range [][]byte{
		EncodeSession(SessionOpened{ID: id, Node: "n1", User: "x", Most: 9, Recorded: true}), EncodeSession(SessionAttaching{id, 7}), EncodeSession(SessionAttached{7}),
		EncodeSession(SessionDialling{id, "db:1"}), EncodeSession(SessionDialled{"10.0.0.1:1"}), EncodeSession(SessionAnswer{Sessions: []SessionState{state}, More: true}),
		EncodeSession(d.bob.Sign(auth.ForSession, d.ID(), d.asks(auth.SessionShell, nil))), {0x92, 0xdd, 0xff, 0xff, 0xff, 0xff},
	} {
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		same(t, data, DecodeSession[SessionOpened], EncodeSession)
		same(t, data, DecodeSession[SessionAttaching], EncodeSession)
		same(t, data, DecodeSession[SessionAttached], EncodeSession)
		same(t, data, DecodeSession[SessionDialling], EncodeSession)
		same(t, data, DecodeSession[SessionDialled], EncodeSession)
		same(t, data, DecodeSession[SessionAnswer], EncodeSession)
		for _, kind := range []byte{SessionOpen, SessionAsk, SessionKill} {
			same(t, data, func(b []byte) (auth.Envelope, error) { return DecodeSessionStatement(kind, b) }, EncodeSession)
		}
	})
}

func same[T any](t *testing.T, data []byte, decode func([]byte) (T, error), encode func(T) []byte) {
	if body, err := decode(data); err == nil && !bytes.Equal(encode(body), data) {
		t.Fatalf("accepted bytes that we would not have written: %+v", body)
	}
}

// Statements of full size pass, larger ones are refused before they are read.
func TestSessionStatementSize(t *testing.T) {
	d := newDoor()
	s := d.asks(auth.SessionExec, func(s *auth.Session) { s.Argv = append(s.Argv, strings.Repeat("x", auth.MaxSessionArgs-8)) })
	if e, err := DecodeSessionStatement(SessionOpen, EncodeSession(d.bob.Sign(auth.ForSession, d.ID(), s))); err != nil || len(e.Body) < auth.MaxSessionArgs {
		t.Error(err)
	}
	large := auth.Envelope{Format: auth.EnvelopeFormat, Body: make([]byte, auth.MaxSession), Signature: make([]byte, 64)}
	if _, err := DecodeSessionStatement(SessionOpen, EncodeSession(large)); err != nil {
		t.Error(err)
	}
	_, err := DecodeSessionStatement(SessionAsk, EncodeSession(large))
	denied(t, err, fleet.Exhausted, "signed request of")
	large.Body = make([]byte, auth.MaxSession+maxSessionAsk)
	_, err = DecodeSessionStatement(SessionOpen, EncodeSession(large))
	denied(t, err, fleet.Exhausted, "signed request of")
}

// Policy hears of a session what its operator signed, and nothing else.
func TestWhatPolicyHearsOfSessions(t *testing.T) {
	d := newDoor()
	shell := d.asks(auth.SessionShell, nil)
	line := d.asks(auth.SessionExec, func(s *auth.Session) { s.Argv, s.User = []string{"ls | wc"}, "www-data" })
	argv := d.asks(auth.SessionExec, func(s *auth.Session) { s.Argv, s.Terminal = []string{"top", "-b"}, make([]auth.Terminal, 1) })
	cp, tunnel := d.asks(auth.SessionCopy, nil), d.asks(auth.SessionForward, nil)
	all := []auth.Session{shell, line, argv, cp, tunnel}
	for when, want := range map[string][]auth.Session{
		`context.terminal`:                     {shell, argv},
		`context.shell`:                        {shell, line},
		`context.kind == "shell"`:              {shell},
		`context.kind == "exec"`:               {line, argv},
		`context.kind == "copy"`:               {cp},
		`context.kind == "forward"`:            {tunnel},
		`context.user == "muster-user"`:        {shell, argv, cp},
		`context.user == "www-data"`:           {line},
		`context.user == ""`:                   {tunnel},
		`context.to == "db:5432"`:              {tunnel},
		`context.server || context.direct`:     nil,
		`resource == Node::"node-1"`:           nil,
		`principal in Team::"web"`:             all,
		`resource is Node && context.to == ""`: {shell, line, argv, cp},
	} {
		d.SetPolicy(`permit (principal, action == Action::"session", resource) when { ` + when + ` };`)
		for _, s := range all {
			_, err := d.judge(s)
			may := slices.ContainsFunc(want, func(w auth.Session) bool { return w.Header.ID == s.Header.ID })
			if (err == nil) != may {
				t.Errorf("%s: %s %q: %v", when, s.Kind, s.Argv, err)
			}
		}
	}
}

// What an operator's end sends costs what it weighs, before and after its signature is looked at; and so does what a node
// answers.
func TestSessionMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("counts every byte of thousands of inputs")
	}
	d := newDoor()
	s := d.asks(auth.SessionExec, func(s *auth.Session) { s.Env = []string{"A=B"} })
	hostile.Check(t, hostile.Bound{Base: 64 << 10, PerByte: 32}, func(in []byte) {
		if e, err := DecodeSessionStatement(SessionOpen, in); err == nil {
			_, _ = JudgeSession(e, d.Record, d.bob.ID(), d.host, d.Now)
		}
	}, hostile.Some(3, hostile.Inputs(1<<16, EncodeSession(d.bob.Sign(auth.ForSession, d.ID(), s)))))
	hostile.Check(t, hostile.Bound{Base: 64 << 10, PerByte: 80}, func(in []byte) {
		_, _ = JudgeSession(d.bob.Sign(auth.ForSession, d.ID(), msgpack.RawMessage(in)), d.Record, d.bob.ID(), d.host, d.Now)
	}, hostile.Some(3, hostile.Inputs(1<<16, wire.Marshal(s))))
	hostile.Check(t, hostile.Bound{Base: 16 << 10, PerByte: 80}, func(in []byte) {
		_, _ = DecodeSession[SessionAnswer](in)
	}, hostile.Inputs(1<<16, EncodeSession(SessionAnswer{Sessions: []SessionState{{Argv: []string{"x"}}}})))
}
