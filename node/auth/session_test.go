package auth

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
)

// aSession returns a session of a kind that nothing is wrong with.
func aSession(kind SessionKind) Session {
	s := Session{
		Header: Header{ID: uuid("session"), Issued: start, Expires: start + DefaultSessionLife.Milliseconds(), Mode: Direct},
		Node:   fleet.Sum([]byte("n1")), Kind: kind,
	}
	switch kind {
	case SessionShell:
		s.Terminal = []Terminal{{Name: "xterm-256color", Rows: 24, Cols: 80}}
	case SessionExec:
		s.Argv = []string{"uptime"}
	case SessionForward:
		s.Forward = []string{"db.internal:5432"}
	case SessionCopy:
		s.Paths = []string{"/srv/www/"}
	}
	return s
}

func TestSessionCheck(t *testing.T) {
	for _, kind := range SessionKinds {
		if err := aSession(kind).Check(); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
	}
	for name, tc := range map[string]struct {
		kind   SessionKind
		change func(*Session)
		says   string // empty: nothing is wrong
	}{
		"no ID":                {SessionShell, func(s *Session) { s.Header.ID = fleet.UUID{} }, "without an ID"},
		"by quorum":            {SessionShell, func(s *Session) { s.Header.Mode = ByQuorum }, "straight to its node"},
		"never expires":        {SessionShell, func(s *Session) { s.Header.Expires = 0 }, "at most"},
		"a year":               {SessionShell, func(s *Session) { s.Header.Expires = start + 8760*hour }, "for 15m0s at most"},
		"a minute too long":    {SessionShell, func(s *Session) { s.Header.Expires = start + MaxSessionLife.Milliseconds() + 1 }, "for 15m0s at most"},
		"as long as may be":    {SessionShell, func(s *Session) { s.Header.Expires = start + MaxSessionLife.Milliseconds() }, ""},
		"back in time":         {SessionShell, func(s *Session) { s.Header.Issued = -1 }, "at most"},
		"no node":              {SessionShell, func(s *Session) { s.Node = fleet.ID{} }, "names none"},
		"no kind":              {SessionShell, func(s *Session) { s.Kind = 0 }, "kind 0"},
		"a kind to come":       {SessionShell, func(s *Session) { s.Kind = 5 }, "kind 5"},
		"shell of a terminal":  {SessionShell, func(s *Session) { s.Terminal = nil }, "lacks a terminal"},
		"shell with argv":      {SessionShell, func(s *Session) { s.Argv = []string{"x"} }, "another kind"},
		"shell that tunnels":   {SessionShell, func(s *Session) { s.Forward = []string{"a:1"} }, "another kind"},
		"exec that tunnels":    {SessionExec, func(s *Session) { s.Forward = []string{"a:1"} }, "another kind"},
		"exec of nothing":      {SessionExec, func(s *Session) { s.Argv = nil }, "nothing to run"},
		"exec of blanks":       {SessionExec, func(s *Session) { s.Argv = []string{" \t"} }, "nothing to run"},
		"exec on a terminal":   {SessionExec, func(s *Session) { s.Terminal = []Terminal{{}} }, ""},
		"listens":              {SessionForward, func(s *Session) { s.Forward, s.Listen = nil, []string{"127.0.0.1:80", "[::1]:80"} }, ""},
		"listens and connects": {SessionForward, func(s *Session) { s.Listen = []string{"127.0.0.1:0", "127.0.0.1:0"} }, ""},
		"listens twice":        {SessionForward, func(s *Session) { s.Listen = []string{"127.0.0.1:80", "127.0.0.1:80"} }, "cannot listen at 127.0.0.1:80 twice"},
		"listens at a name":    {SessionForward, func(s *Session) { s.Listen = []string{"localhost:80"} }, "can listen at"},
		"listens elsehow":      {SessionForward, func(s *Session) { s.Listen = []string{"127.0.0.1:080"} }, "canonical form, which is 127.0.0.1:80"},
		"listens too much":     {SessionForward, func(s *Session) { s.Listen = slices.Repeat([]string{"127.0.0.1:0"}, MaxForwards) }, "1 to 32 places, not 33"},
		"nothing to tunnel":    {SessionForward, func(s *Session) { s.Forward = nil }, "1 to 32 places, not 0"},
		"shell that listens":   {SessionShell, func(s *Session) { s.Listen = []string{"127.0.0.1:80"} }, "another kind"},
		"copy that listens":    {SessionCopy, func(s *Session) { s.Listen = []string{"127.0.0.1:80"} }, "another kind"},
		"exec that copies":     {SessionExec, func(s *Session) { s.Paths = []string{"/x"} }, "another kind"},
		"shell that writes":    {SessionShell, func(s *Session) { s.Put = true }, "another kind"},
		"tunnel of folders":    {SessionForward, func(s *Session) { s.Deep = true }, "another kind"},
		"copy of nothing":      {SessionCopy, func(s *Session) { s.Paths = nil }, "1 to 256 paths"},
		"copy of too much":     {SessionCopy, func(s *Session) { s.Paths = slices.Repeat([]string{"/x"}, MaxPaths+1) }, "1 to 256 paths"},
		"copy of long paths":   {SessionCopy, func(s *Session) { s.Paths = slices.Repeat([]string{"/" + strings.Repeat("x", 4000)}, 17) }, "bytes of paths"},
		"copy from anywhere":   {SessionCopy, func(s *Session) { s.Paths = []string{"/srv/../etc"} }, "canonical form, which is /etc"},
		"copy from nowhere":    {SessionCopy, func(s *Session) { s.Paths = []string{"../x"} }, "leads out of"},
		"copy to two places":   {SessionCopy, func(s *Session) { s.Paths, s.Put, s.Deep = []string{"/a/", "~/b"}, true, true }, ""},
		"a zero byte":          {SessionExec, func(s *Session) { s.Argv = []string{"a", "b\x00c"} }, "zero byte"},
		"long argv":            {SessionExec, func(s *Session) { s.Argv = []string{strings.Repeat("x", MaxSessionArgs)} }, "bytes of arguments"},
		"argv of full length":  {SessionExec, func(s *Session) { s.Argv = []string{strings.Repeat("x", MaxSessionArgs-1)} }, ""},
		"many empty words":     {SessionExec, func(s *Session) { s.Argv = append(s.Argv, make([]string, MaxSessionArgs)...) }, "bytes of arguments"},
		"two terminals":        {SessionShell, func(s *Session) { s.Terminal = make([]Terminal, 2) }, "one terminal"},
		"TERM with a path":     {SessionShell, func(s *Session) { s.Terminal[0].Name = "../../etc" }, "no kind of terminal"},
		"TERM with a line":     {SessionShell, func(s *Session) { s.Terminal[0].Name = "a\nb" }, "no kind of terminal"},
		"long TERM":            {SessionShell, func(s *Session) { s.Terminal[0].Name = strings.Repeat("x", 65) }, "no kind of terminal"},
		"a huge terminal":      {SessionShell, func(s *Session) { s.Terminal[0].Rows = 10_001 }, "at most 10000"},
		"env":                  {SessionShell, func(s *Session) { s.Env = []string{"LANG=C", "A="} }, ""},
		"env without =":        {SessionShell, func(s *Session) { s.Env = []string{"LANG"} }, "not K=V"},
		"env without a name":   {SessionShell, func(s *Session) { s.Env = []string{"=x"} }, "not K=V"},
		"env of two lines":     {SessionShell, func(s *Session) { s.Env = []string{"A\nB=x"} }, "not K=V"},
		"env with a zero":      {SessionShell, func(s *Session) { s.Env = []string{"A=x\x00B=y"} }, "not K=V"},
		"much env":             {SessionShell, func(s *Session) { s.Env = make([]string, 65) }, "at most 64"},
		"large env":            {SessionShell, func(s *Session) { s.Env = []string{"A=" + strings.Repeat("x", MaxSessionEnv)} }, "bytes of environment"},
		"copy with env":        {SessionCopy, func(s *Session) { s.Env = []string{"A=B"} }, "another kind"},
		"copy as somebody":     {SessionCopy, func(s *Session) { s.User = "www-data" }, ""},
		"tunnel with env":      {SessionForward, func(s *Session) { s.Env = []string{"A=B"} }, "another kind"},
		"tunnel as somebody":   {SessionForward, func(s *Session) { s.User = "root" }, "another kind"},
		"tunnel to nowhere":    {SessionForward, func(s *Session) { s.Forward = nil }, "1 to 32"},
		"tunnel to all":        {SessionForward, func(s *Session) { s.Forward = make([]string, 33) }, "1 to 32"},
		"tunnel in capitals":   {SessionForward, func(s *Session) { s.Forward = []string{"DB:5432"} }, "canonical form, which is db:5432"},
		"tunnel with no port":  {SessionForward, func(s *Session) { s.Forward = []string{"db"} }, "not HOST:PORT"},
		"user 0":               {SessionShell, func(s *Session) { s.User = "0" }, "is a number"},
		"user 1000":            {SessionExec, func(s *Session) { s.User = "1000" }, "is a number"},
		"user of a path":       {SessionShell, func(s *Session) { s.User = "../root" }, "no account"},
		"user of two fields":   {SessionShell, func(s *Session) { s.User = "a:0" }, "no account"},
		"user like an option":  {SessionShell, func(s *Session) { s.User = "-c" }, "no account"},
		"user in the clear":    {SessionShell, func(s *Session) { s.User = "Anna.B_c-1$" }, ""},
		"a long reason":        {SessionShell, func(s *Session) { s.Reason = strings.Repeat("x", MaxReason+1) }, "--reason"},
		"a reason in colour":   {SessionShell, func(s *Session) { s.Reason = "a\x1b[31m" }, "--reason"},
		"a broken reason":      {SessionShell, func(s *Session) { s.Reason = "a\xff" }, "--reason"},
		"idles backwards":      {SessionShell, func(s *Session) { s.Idle = -1 }, "idles or lasts"},
		"lasts for ever":       {SessionShell, func(s *Session) { s.Most = MaxSessionTime.Milliseconds() + 1 }, "at most 30 days"},
		"lasts for a month":    {SessionShell, func(s *Session) { s.Most = MaxSessionTime.Milliseconds() }, ""},
	} {
		s := aSession(tc.kind)
		tc.change(&s)
		err := s.Check()
		switch {
		case tc.says == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case tc.says != "" && (err == nil || !strings.Contains(err.Error(), tc.says)):
			t.Errorf("%s: %v; want %q", name, err, tc.says)
		}
	}
}

// What Check accepts can be sent: it fits into MaxSession.
func TestLargestSessionFits(t *testing.T) {
	s := aSession(SessionExec)
	s.Argv = append([]string{"true"}, make([]string, MaxSessionArgs-5)...)
	s.Terminal = []Terminal{{Name: strings.Repeat("x", MaxTerminalName), Rows: MaxTerminalSize, Cols: MaxTerminalSize}}
	s.Env = []string{"A=" + strings.Repeat("x", MaxSessionEnv-3)}
	s.Reason, s.User = strings.Repeat("x", MaxReason), strings.Repeat("x", MaxUser)
	if err := s.Check(); err != nil {
		t.Fatal(err)
	}
	if n := len(wire.Marshal(s)); n > MaxSession {
		t.Errorf("%d bytes", n)
	}
}

func TestSessionShell(t *testing.T) {
	for _, tc := range []struct {
		s    Session
		want bool
	}{
		{Session{Kind: SessionShell}, true},
		{Session{Kind: SessionExec, Argv: []string{"ls | wc -l"}}, true},
		{Session{Kind: SessionExec, Argv: []string{"ls", "-l"}}, false},
		{Session{Kind: SessionForward}, false},
		{Session{Kind: SessionCopy}, false},
	} {
		if got := tc.s.Shell(); got != tc.want {
			t.Errorf("%s %q: %v", tc.s.Kind, tc.s.Argv, got)
		}
	}
}

func TestSessionKillCheck(t *testing.T) {
	good := SessionKill{Header: aSession(SessionShell).Header, Node: fleet.Sum([]byte("n1")), Session: uuid("session"), Reason: "lunch"}
	if err := good.Check(); err != nil {
		t.Fatal(err)
	}
	for says, change := range map[string]func(*SessionKill){
		"no node":           func(k *SessionKill) { k.Node = fleet.ID{} },
		"no session":        func(k *SessionKill) { k.Session = fleet.UUID{} },
		"--reason":          func(k *SessionKill) { k.Reason = "a\nb" },
		"for 15m0s at most": func(k *SessionKill) { k.Header.Expires += hour },
		"by mode 1":         func(k *SessionKill) { k.Header.Mode = ByQuorum },
		"without an I":      func(k *SessionKill) { k.Header.ID = fleet.UUID{} },
	} {
		k := good
		change(&k)
		refused(t, k.Check(), fleet.Invalid, says)
	}
}

func TestCanonicalPlace(t *testing.T) {
	for text, want := range map[string]string{
		"db.internal:5432": "db.internal:5432", "DB.Internal.:5432": "db.internal:5432", "localhost:080": "localhost:80", "_sip._tcp.a:1": "_sip._tcp.a:1",
		"10.1.2.3:80": "10.1.2.3:80", "[10.1.2.3]:80": "10.1.2.3:80", "[::ffff:10.1.2.3]:80": "10.1.2.3:80", "[FD00:0:0::1]:65535": "[fd00::1]:65535",
		"7up:1": "7up:1", "1.2.3.4.example:1": "1.2.3.4.example:1", "xn--bcher-kva.example:443": "xn--bcher-kva.example:443",
		// nothing else has one
		"": "", "a": "", ":1": "", "a:": "", "a:0": "", "a:65536": "", "a:-1": "", "a:+1": "", "a:1:2": "", "a:http": "", "a b:1": "", "a/b:1": "", "-a:1": "",
		".a:1": "", "a..b:1": "", ".:1": "", "bücher:1": "", "a\x00:1": "",
		"0.0.0.0:80": "", "[::]:80": "", "[::ffff:0.0.0.0]:80": "", "224.0.0.1:80": "", "[ff02::1]:80": "", "[fe80::1%eth0]:80": "", "::1:80": "",
		"127.1:80": "", "2130706433:80": "", "0x7f000001:80": "", "127.0.0.0x1:80": "", "010.0.0.1:80": "", "[db]:80": "", "[::1:80": "", "[::1]80": "",
		strings.Repeat("a", 64) + ":1": "", strings.Repeat("a.", 127) + "a:1": "", // 255 bytes
	} {
		got, err := CanonicalPlace(text)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q %v; want %q", text, got, err, want)
		}
	}
}

// The canonical form is the one that is its own.
func FuzzCanonicalPlace(f *testing.F) {
	for _, text := range []string{"db:1", "[::1]:80", "[::ffff:1.2.3.4]:1", "A.b.:65535", "0x1:1", "[", "]:1", "[]:1"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		once, err := CanonicalPlace(text)
		if err != nil {
			return
		}
		if twice, err := CanonicalPlace(once); err != nil || twice != once {
			t.Fatalf("%q → %q → %q %v", text, once, twice, err)
		}
		if len(once) > maxHost+6 || strings.ToLower(once) != once {
			t.Fatalf("%q → %q", text, once)
		}
	})
}

// Whatever bytes are a session can be checked, and checking changes nothing; what passes fits and has only what it says.
func FuzzSession(f *testing.F) {
	for _, kind := range SessionKinds {
		f.Add(wire.Marshal(aSession(kind)))
	}
	kill := SessionKill{Header: aSession(SessionShell).Header, Node: fleet.Sum([]byte("n1")), Session: uuid("session"), Reason: "lunch"}
	f.Add(wire.Marshal(kill))
	f.Add([]byte{0x9b, 1, 0xdd, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, data []byte) {
		var k SessionKill
		if wire.Unmarshal(data, &k) == nil {
			_ = k.Check()
		}
		var s Session
		if len(data) > MaxSession || wire.Unmarshal(data, &s) != nil {
			return
		}
		ok := s.Check() == nil
		if !bytes.Equal(wire.Marshal(s), data) {
			t.Fatal("Check changed the session")
		}
		if ok && s.Kind == SessionForward && s.User+strings.Join(s.Argv, "") != "" {
			t.Fatalf("a tunnel that runs something: %+v", s)
		}
		if ok && (s.User != "" && CheckUser(s.User) != nil || strings.ContainsAny(s.User, ":/\n\x00 ")) {
			t.Fatalf("as %q", s.User)
		}
	})
}

func TestPolicyOfSessions(t *testing.T) {
	p := compile(t, `
		@id("web-shells") permit (principal in Team::"web", action == Action::"session", resource is Node)
		when { context.kind == "shell" && context.user == "muster-user" && context.terminal && resource.hasTag("role") && resource.getTag("role") == "web" };
		@id("copies") permit (principal in Team::"web", action == Action::"session", resource) when { context.kind == "copy" && context.user != "root" };
		@id("argvs") permit (principal in Team::"web", action == Action::"session", resource) when { context.kind == "exec" && !context.shell && !context.terminal };
		@id("database") permit (principal in Team::"web", action == Action::"session", resource) when { context.kind == "forward" && context.to like "db*.internal:5432" };
		@id("no-root-on-db") forbid (principal, action == Action::"session", resource == Node::"db1") when { context.user == "root" };
		@id("ops") permit (principal in Team::"ops", action in [Action::"session", Action::"session.kill"], resource);`)
	bob, op := operator("bob", "web").AsPrincipal(), operator("carol", "ops").AsPrincipal()
	web1, db1 := Resource{Type: "Node", Name: "web1", Tags: web()}, Resource{Type: "Node", Name: "db1", Tags: db()}
	shell := Ask{Principal: bob, Action: ActSession, Resource: web1, Kind: "shell", User: "muster-user", Shell: true, Terminal: true}
	with := func(change func(*Ask)) Ask {
		a := shell
		change(&a)
		return a
	}
	for name, tc := range map[string]struct {
		ask  Ask
		says string // empty: permitted
		hint string
	}{
		"a shell":              {shell, "", ""},
		"as root":              {with(func(a *Ask) { a.User = "root" }), "operator bob may not session on web1: no rule permits it", `permit (principal == Operator::"bob", action == Action::"session", resource == Node::"web1") when { context.kind == "shell" && context.user == "root" };`},
		"on db1":               {with(func(a *Ask) { a.Resource = db1 }), "no rule permits it", `resource == Node::"db1"`},
		"a shell line":         {with(func(a *Ask) { a.Kind, a.Terminal = "exec", false }), "no rule permits it", `context.kind == "exec"`},
		"an argv":              {with(func(a *Ask) { a.Kind, a.Terminal, a.Shell = "exec", false, false }), "", ""},
		"a copy":               {with(func(a *Ask) { a.Kind, a.Terminal, a.Shell = "copy", false, false }), "", ""},
		"a copy as root":       {with(func(a *Ask) { a.Kind, a.User = "copy", "root" }), "no rule permits it", "context.user"},
		"a tunnel":             {with(func(a *Ask) { a.Kind, a.User, a.To = "forward", "", "db7.internal:5432" }), "", ""},
		"a tunnel elsewhere":   {with(func(a *Ask) { a.Kind, a.User, a.To = "forward", "", "db7.internal:22" }), "no rule permits it", `when { context.kind == "forward" && context.to == "db7.internal:22" };`},
		"root where forbidden": {with(func(a *Ask) { a.Principal, a.Resource, a.User = op, db1, "root" }), "forbidden by no-root-on-db", "muster operator list"},
		"root elsewhere":       {with(func(a *Ask) { a.Principal, a.User = op, "root" }), "", ""},
		"to kill":              {Ask{Principal: op, Action: ActKillSession, Resource: db1}, "", ""},
		"to kill without":      {Ask{Principal: bob, Action: ActKillSession, Resource: web1}, "may not session.kill on web1", "muster operator list"},
		"to replay without":    {Ask{Principal: op, Action: ActReplaySession, Resource: web1, Kind: "shell"}, "may not session.replay on web1", "muster operator list"},
	} {
		_, err := p.Decide(tc.ask)
		if tc.says == "" {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		refused(t, err, fleet.Denied, tc.says)
		if e, ok := err.(*fleet.Error); ok && !strings.Contains(e.Hint, tc.hint) {
			t.Errorf("%s: hint %q; want %q", name, e.Hint, tc.hint)
		}
	}
}

// The rule that a refusal names permits just what was refused, whatever names there are in it.
func TestMissingRulePermits(t *testing.T) {
	p := compile(t, "")
	rapid.Check(t, func(t *rapid.T) {
		a := Ask{
			Principal: Principal{Type: "Operator", Name: rapid.StringMatching(`[a-z0-9][a-z0-9.-]{0,8}`).Draw(t, "operator")},
			Action:    ActSession, Resource: Resource{Type: "Node", Name: rapid.StringMatching(`[a-z0-9][a-z0-9.-]{0,8}`).Draw(t, "node")},
			Kind: rapid.SampledFrom(SessionKinds).Draw(t, "kind").String(), Shell: rapid.Bool().Draw(t, "shell"), Terminal: rapid.Bool().Draw(t, "terminal"),
		}
		if a.Kind == "forward" {
			a.To = rapid.SampledFrom([]string{"db:1", "[fd00::1]:22", "_x.y:65535"}).Draw(t, "to")
		} else {
			a.User = rapid.StringMatching(`[a-zA-Z_][a-zA-Z0-9_.@$-]{0,8}`).Draw(t, "user")
		}
		_, err := p.Decide(a)
		_, rule, ok := strings.Cut(err.(*fleet.Error).Hint, "missing: ")
		if !ok {
			t.Fatalf("%v names no rule", err)
		}
		with, err := CompilePolicy(rule)
		if err != nil {
			t.Fatalf("%s: %v", rule, err)
		}
		if _, err := with.Decide(a); err != nil {
			t.Fatalf("%s does not permit %+v: %v", rule, a, err)
		}
		for _, other := range []func(*Ask){
			func(a *Ask) { a.Principal.Name += "x" }, func(a *Ask) { a.Resource.Name += "x" }, func(a *Ask) { a.Kind += "x" },
			func(a *Ask) { a.Action = ActRun }, func(a *Ask) { a.User, a.To = a.User+"x", a.To+"x" },
		} {
			b := a
			other(&b)
			if _, err := with.Decide(b); err == nil {
				t.Fatalf("%s permits %+v, too", rule, b)
			}
		}
	})
}

func TestSessionSettings(t *testing.T) {
	w := newTown(t)
	s := w.record.Settings
	if way, input := s.SessionRecord(); s.SessionIdle() != DefaultSessionIdle || s.SessionMost() != DefaultSessionMost || way != SessionRecordBestEffort || input {
		t.Errorf("defaults: %s %s %s %v", s.SessionIdle(), s.SessionMost(), way, input)
	}
	w.must(ActSetting, w.setting("alice", SettingSessionIdle, "5m"))
	w.must(ActSetting, w.setting("alice", SettingSessionMost, "2d"))
	w.must(ActSetting, w.setting("alice", SettingSessionRecord, "durable,input"))
	s = w.record.Settings
	if way, input := s.SessionRecord(); s.SessionIdle().Minutes() != 5 || s.SessionMost().Hours() != 48 || way != SessionRecordDurable || !input {
		t.Errorf("set: %s %s %s %v", s.SessionIdle(), s.SessionMost(), way, input)
	}
	for _, tc := range []struct {
		name, value string
		ok          bool
	}{
		{SettingSessionIdle, "1m", true}, {SettingSessionIdle, "59s", false}, {SettingSessionMost, "30d", true}, {SettingSessionMost, "31d", false},
		{SettingSessionIdle, "0", false}, {SettingSessionIdle, "never", false}, {SettingSessionMost, "721h", false},
		{SettingSessionRecord, "off", true}, {SettingSessionRecord, "best-effort,input", true}, {SettingSessionRecord, "best-effort", true},
		{SettingSessionRecord, "off,input", false}, {SettingSessionRecord, "input", false}, {SettingSessionRecord, "durable,", false},
		{SettingSessionRecord, "durable,input,", false}, {SettingSessionRecord, "Durable", false},
	} {
		if err := CheckSetting(tc.name, tc.value); (err == nil) != tc.ok {
			t.Errorf("%s %q: %v", tc.name, tc.value, err)
		}
	}
}
