package node

import (
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/exec/document"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
)

const restartText = `schemaVersion: "1.0"
sessionType: NonInteractiveCommands
parameters:
  unit: {type: String, allowedValues: [nginx, haproxy]}
  why: {type: String, default: ""}
inputs: {maxSessionDuration: 5, idleSessionTimeout: 2}
properties:
  linux:
    commands:
    - systemctl restart {{ unit }}
    - logger -t restart -- {{ why }}
    runAsElevated: true
`

const webPortText = `schemaVersion: "1.0"
sessionType: Port
parameters:
  portNumber: {type: String, allowedValues: ["80", "443"]}
properties: {portNumber: "{{ portNumber }}", type: LocalPortForwarding}
`

const logsText = `schemaVersion: "1.0"
sessionType: InteractiveCommands
parameters:
  path: {type: String, allowedPattern: "^/var/log/[a-z]+$"}
properties: {linux: {commands: "tail -n 5 {{ path }}"}}
`

const adminText = `schemaVersion: "1.0"
sessionType: Standard_Stream
inputs: {runAsEnabled: true, runAsDefaultUser: deploy, idleSessionTimeout: 1, shellProfile: {linux: "cd /srv"}}
`

// Bob may use three documents, each by one rule, and nothing else.
const paperPolicy = `
permit (principal in Team::"root", action, resource);
@id("bob-restarts") permit (principal == Operator::"bob", action == Action::"session", resource is Node) when { context.document == "Restart" && !context.shell };
@id("bob-webs") permit (principal == Operator::"bob", action == Action::"session", resource is Node) when { context.document == "WebPort" };
@id("bob-reads") permit (principal == Operator::"bob", action == Action::"session", resource is Node) when { context.document == "Logs" && !context.shell };
`

// bureau is a door with documents.
type bureau struct {
	door
	papers map[string]auth.Envelope
}

func newBureau() bureau {
	o := bureau{newDoor(), map[string]auth.Envelope{}}
	o.SetPolicy(paperPolicy)
	for name, text := range map[string]string{"Restart": restartText, "WebPort": webPortText, "Logs": logsText, "Admin": adminText} {
		o.papers[name] = o.publish(o.Operator, name, text)
	}
	return o
}

func (o bureau) publish(by auth.Signer, name, text string) auth.Envelope {
	return by.Sign(auth.ForDocument, o.ID(), exec.Publication{Header: o.Header(time.Hour), Name: name, Text: []byte(text)})
}

// uses returns what bob signs for a session by a published document, or one that is built in.
func (o bureau) uses(name string, values ...auth.SessionValue) auth.Session {
	var text []byte
	if p, err := auth.Peek[exec.Publication](o.papers[name]); err == nil {
		text = p.Text
	}
	for _, b := range document.BuiltInSessions() {
		if b.Name == name {
			text = b.Text
		}
	}
	d, err := document.ParseSession(text)
	if err != nil {
		panic(err)
	}
	kind, terminal := SessionKindOf(d.Type())
	s := auth.Session{Header: o.Header(auth.DefaultSessionLife), Node: o.host.Self, Kind: kind}
	s.Header.Mode = auth.Direct
	s.Document = []auth.SessionDocument{{Name: name, Version: 3, Digest: fleet.Sum(text), Values: values}}
	if terminal {
		s.Terminal = []auth.Terminal{{Name: "xterm"}}
	}
	return s
}

func (o bureau) judgeBy(by auth.Signer, s auth.Session, published ...auth.Envelope) (SessionOrder, error) {
	if published == nil {
		for _, e := range o.papers {
			published = append(published, e)
		}
	}
	return JudgeSessionBy(by.Sign(auth.ForSession, o.ID(), s), published, o.Record, by.ID(), o.host, o.Now)
}

func value(name, text string) auth.SessionValue { return auth.SessionValue{Name: name, Value: text} }

func TestDocumentSaysWhatASessionIs(t *testing.T) {
	d := newBureau()
	o := mustOpen(t)(d.judgeBy(d.bob, d.uses("Restart", value("unit", `"nginx"`), value("why", `"$(reboot)"`))))
	if o.User != "root" || o.Shell || o.Rule != "bob-restarts" || o.Most != 300_000 || o.Idle != 120_000 || len(o.Terminal) != 0 || o.Kind != auth.SessionExec {
		t.Errorf("%+v", o)
	}
	if want := "exec </dev/null\nsystemctl restart \"${SSM_unit}\"\nlogger -t restart -- \"${SSM_why}\"\n"; len(o.Argv) != 1 || o.Argv[0] != want {
		t.Errorf("%q", o.Argv)
	}
	if !slices.Equal(o.Env, []string{"SSM_unit=nginx", "SSM_why=$(reboot)"}) {
		t.Errorf("%q", o.Env)
	}
	if text := o.State().Text(); text != `Restart:3 unit="nginx" why="$(reboot)"` {
		t.Error(text)
	}
	o = mustOpen(t)(d.judgeBy(d.bob, d.uses("WebPort", value("portNumber", `"443"`))))
	state := o.State()
	if !slices.Equal(o.Forward, []string{"127.0.0.1:443"}) || o.User != "" || o.Rule != "bob-webs" || state.MayDial("127.0.0.1:443") != nil || state.MayDial("127.0.0.1:80") == nil {
		t.Errorf("%+v", o)
	}
	s := d.uses("Logs", value("path", `"/var/log/syslog"`))
	s.Env = []string{"LANG=de_DE.UTF-8@euro", "LC_TIME=C", "COLORTERM=truecolor"}
	o = mustOpen(t)(d.judgeBy(d.bob, s))
	if o.User != DefaultSessionUser || o.Shell || len(o.Env) != 4 || o.Env[3] != "SSM_path=/var/log/syslog" {
		t.Errorf("%+v", o)
	}
	ada := d.Operator
	s = d.uses("Admin")
	s.Most = 60_000
	o = mustOpen(t)(d.judgeBy(ada, s))
	if o.User != "deploy" || !o.Shell || o.Profile != "cd /srv\n" || o.Idle != 60_000 || o.Most != 60_000 || o.Kind != auth.SessionShell {
		t.Errorf("%+v", o)
	}
	s = d.uses("SSM-SessionManagerRunShell")
	s.User = "www-data"
	if o = mustOpen(t)(d.judgeBy(ada, s)); o.User != "www-data" {
		t.Errorf("%+v", o)
	}
	o = mustOpen(t)(d.judgeBy(ada, d.uses("AWS-StartPortForwardingSessionToRemoteHost", value("host", `"fd00::1"`), value("portNumber", `"22"`))))
	if !slices.Equal(o.Forward, []string{"[fd00::1]:22"}) {
		t.Errorf("%q", o.Forward)
	}
	// Times of the fleet stay the bounds.
	d.host.Limits = SessionLimits{Most: time.Minute, Idle: time.Minute}
	o = mustOpen(t)(d.judgeBy(d.bob, d.uses("Restart", value("unit", `"nginx"`))))
	if o.Most != 60_000 {
		t.Errorf("%+v", o)
	}
}

// Whoever may use one document can do that, and nothing else, whatever he signs.
func TestOneDocumentAndNothingElse(t *testing.T) {
	d := newBureau()
	good := func() auth.Session { return d.uses("Restart", value("unit", `"nginx"`)) }
	with := func(change func(*auth.Session)) auth.Session {
		s := good()
		change(&s)
		return s
	}
	ofText := func(name, text string, values ...auth.SessionValue) auth.Session {
		return with(func(s *auth.Session) {
			s.Document = []auth.SessionDocument{{Name: name, Digest: fleet.Sum([]byte(text)), Values: values}}
		})
	}
	rawText := strings.Replace(restartText, "logger -t restart -- {{ why }}", `"{{ why }}"`, 1)
	rootText := strings.Replace(restartText, "unit }}", "unit }}x", 1)
	empty := []auth.Envelope{}
	for name, tc := range map[string]struct {
		s         auth.Session
		published []auth.Envelope
		refuse    fleet.Kind
		says      string
	}{
		"another unit":         {d.uses("Restart", value("unit", `"sshd"`)), nil, fleet.Invalid, "is not one of nginx, haproxy"},
		"code for a unit":      {d.uses("Restart", value("unit", `"nginx; id"`)), nil, fleet.Invalid, "is not one of"},
		"a list for a unit":    {d.uses("Restart", value("unit", `["nginx","sshd"]`)), nil, fleet.Invalid, "a text is wanted"},
		"no unit":              {d.uses("Restart"), nil, fleet.Invalid, "missing: unit"},
		"an unknown parameter": {d.uses("Restart", value("PATH", `"x"`), value("unit", `"nginx"`)), nil, fleet.Invalid, `no parameter "PATH"`},
		"a secret":             {d.uses("Restart", value("unit", `"nginx"`), value("why", `"{{ ssm-secure:key }}"`)), nil, fleet.Invalid, "parameter store"},
		"values out of order":  {d.uses("Restart", value("why", `""`), value("unit", `"nginx"`)), nil, fleet.Invalid, "not sorted"},
		"a value twice":        {d.uses("Restart", value("unit", `"nginx"`), value("unit", `"nginx"`)), nil, fleet.Invalid, "twice"},
		"as another account":   {with(func(s *auth.Session) { s.User = "postgres" }), nil, fleet.Denied, "runs as root, and leaves no other account open"},
		"logs as root":         {func() auth.Session { s := d.uses("Logs", value("path", `"/var/log/x"`)); s.User = "root"; return s }(), nil, fleet.Denied, "leaves no other account open"},
		"another log":          {d.uses("Logs", value("path", `"/etc/shadow"`)), nil, fleet.Invalid, "does not match"},
		"a program beside":     {with(func(s *auth.Session) { s.Argv = []string{"id"} }), nil, fleet.Invalid, "the document's to say"},
		"a place beside": {func() auth.Session {
			s := d.uses("WebPort", value("portNumber", `"80"`))
			s.Forward = []string{"127.0.0.1:22"}
			return s
		}(), nil, fleet.Invalid, "the document's to say"},
		"listening beside": {func() auth.Session {
			s := d.uses("WebPort", value("portNumber", `"80"`))
			s.Listen = []string{"0.0.0.0:80"}
			return s
		}(), nil, fleet.Invalid, "the document's to say"},
		"another port":            {d.uses("WebPort", value("portNumber", `"22"`)), nil, fleet.Invalid, "is not one of 80, 443"},
		"a shell":                 {with(func(s *auth.Session) { s.Kind, s.Terminal = auth.SessionShell, []auth.Terminal{{}} }), nil, fleet.Invalid, "session of kind exec, not shell"},
		"a copy":                  {with(func(s *auth.Session) { s.Kind, s.Paths = auth.SessionCopy, []string{"/etc/"} }), nil, fleet.Invalid, "no documents for copies"},
		"a terminal":              {with(func(s *auth.Session) { s.Terminal = []auth.Terminal{{}} }), nil, fleet.Invalid, "has no terminal"},
		"no terminal":             {func() auth.Session { s := d.uses("Logs", value("path", `"/var/log/x"`)); s.Terminal = nil; return s }(), nil, fleet.Invalid, "has a terminal"},
		"another path":            {with(func(s *auth.Session) { s.Env = []string{"PATH=bin"} }), nil, fleet.Denied, "no rule permits it"},
		"a library":               {with(func(s *auth.Session) { s.Env = []string{"LANG=C", "LD_PRELOAD=/tmp/x.so"} }), nil, fleet.Denied, "no rule permits it"},
		"a language that is code": {with(func(s *auth.Session) { s.Env = []string{"LANG=../../tmp/x"} }), nil, fleet.Denied, "no rule permits it"},
		"two documents":           {with(func(s *auth.Session) { s.Document = append(s.Document, s.Document[0]) }), nil, fleet.Invalid, "one document"},
		"no document":             {with(func(s *auth.Session) { s.Document, s.Argv = nil, []string{"systemctl", "restart", "nginx"} }), nil, fleet.Denied, "no rule permits it"},
		"another document":        {d.uses("Admin"), nil, fleet.Denied, "no rule permits it"},
		"one that is built in":    {d.uses("AWS-StartNonInteractiveCommand", value("command", `"id"`)), nil, fleet.Denied, "no rule permits it"},
		"anywhere":                {d.uses("AWS-StartPortForwardingSessionToRemoteHost", value("host", `"127.0.0.1"`), value("portNumber", `"443"`)), nil, fleet.Denied, "no rule permits it"},
		"his own text":            {ofText("Restart", rootText, value("unit", `"nginx"`)), []auth.Envelope{d.publish(d.bob, "Restart", rootText)}, fleet.Denied, "may not document.put"},
		"another text":            {ofText("Restart", rootText, value("unit", `"nginx"`)), nil, fleet.NotFound, "has not got the text"},
		"nobody's text":           {good(), empty, fleet.NotFound, "has not got the text"},
		"another's name for it":   {good(), []auth.Envelope{d.publish(d.Operator, "Other", restartText)}, fleet.NotFound, "has not got the text"},
		"a command's document":    {ofText("Restart", "schemaVersion: '2.2'\n"), []auth.Envelope{d.publish(d.Operator, "Restart", "schemaVersion: '2.2'\n")}, fleet.Invalid, "no session document"},
		"a raw version of it":     {ofText("Restart", rawText, value("unit", `"nginx"`), value("why", `"id"`)), []auth.Envelope{d.publish(d.Operator, "Restart", rawText)}, fleet.Denied, "no rule permits it"},
		"ours with another text":  {ofText("AWS-StartSSHSession", "x"), nil, fleet.Denied, "this host's version has another text"},
		"ours that is none":       {ofText("AWS-RunShellScript", "x"), nil, fleet.NotFound, "no session document AWS-RunShellScript"},
		"a made-up name":          {with(func(s *auth.Session) { s.Document[0].Name = "Res/tart" }), nil, fleet.Invalid, "is no document"},
		"unpinned":                {with(func(s *auth.Session) { s.Document[0].Digest = fleet.ID{} }), nil, fleet.Invalid, "not pinned"},
	} {
		t.Run(name, func(t *testing.T) {
			published := tc.published
			if published != nil && len(published) == 0 {
				_, err := JudgeSession(d.bob.Sign(auth.ForSession, d.ID(), tc.s), d.Record, d.bob.ID(), d.host, d.Now)
				denied(t, err, tc.refuse, tc.says)
				return
			}
			_, err := d.judgeBy(d.bob, tc.s, published...)
			denied(t, err, tc.refuse, tc.says)
		})
	}
	_, err := d.judgeBy(d.bob, d.uses("Admin"))
	if e, ok := err.(*fleet.Error); !ok || !strings.Contains(e.Hint, `context.document == "Admin" && context.shell`) {
		t.Errorf("the missing rule is not named: %v", err)
	}
	if _, err := d.judgeBy(d.bob, good()); err != nil {
		t.Error(err)
	}
	d.MustTake(d.RemoveNode(d.host.Self))
	if _, err := d.judgeBy(d.bob, good()); err == nil {
		t.Error("let in by a node that was removed")
	}
}

// What was published counts as long as its signer may publish.
func TestDocumentOfSomebodyRemoved(t *testing.T) {
	d := newBureau()
	cay := d.AddOperator("cay", "authors")
	d.SetPolicy(paperPolicy + `permit (principal == Operator::"cay", action == Action::"document.put", resource == Document::"Restart");`)
	e := d.publish(cay, "Restart", restartText)
	s := d.uses("Restart", value("unit", `"nginx"`))
	mustOpen(t)(d.judgeBy(d.bob, s, e))
	d.SetPolicy(paperPolicy)
	_, err := d.judgeBy(d.bob, s, e)
	denied(t, err, fleet.Denied, "may not document.put")
	d.SetPolicy(paperPolicy + `permit (principal == Operator::"cay", action == Action::"document.put", resource == Document::"Restart");`)
	d.MustTake(d.DeleteOperator("cay", cay, true))
	_, err = d.judgeBy(d.bob, s, e)
	if err == nil {
		t.Error("the document of a key that was stolen counts")
	}
}

// A session by a document goes on only while the rule that let it in holds: also where only its name is remembered.
func TestDocumentSessionStands(t *testing.T) {
	d := newBureau()
	for name, s := range map[string]auth.Session{"Restart": d.uses("Restart", value("unit", `"nginx"`)), "WebPort": d.uses("WebPort", value("portNumber", `"80"`))} {
		state := mustOpen(t)(d.judgeBy(d.bob, s)).State()
		state.Document = DocumentNames(state.Document)
		before := d.Record
		if err := SessionStands(state, d.Record, d.host, d.Now); err != nil {
			t.Error(err)
		}
		d.SetPolicy(strings.Replace(paperPolicy, `"`+name+`"`, `"Other"`, 1))
		denied(t, SessionStands(state, d.Record, d.host, d.Now), fleet.Denied, "no rule permits it")
		if err := SessionStands(state, before, d.host, d.Now); err != nil {
			t.Error(err)
		}
		d.SetPolicy(paperPolicy)
	}
}

// Whatever bob signs beside a document, what runs is the document's, as the document's account, and policy knows it if it is
// more.
func TestNothingBesideADocumentCounts(t *testing.T) {
	d := newBureau()
	want := mustOpen(t)(d.judgeBy(d.bob, d.uses("Restart", value("unit", `"nginx"`))))
	rapid.Check(t, func(t *rapid.T) {
		text := func(name string) string { return rapid.StringMatching(`[ -~]{0,12}`).Draw(t, name) }
		s := d.uses("Restart", value("unit", encode(rapid.SampledFrom([]string{"nginx", "haproxy", "sshd", "nginx;id"}).Draw(t, "unit"))), value("why", encode(text("why"))))
		if rapid.Bool().Draw(t, "changed") {
			s.User = rapid.SampledFrom([]string{"", "root", "toor", "muster-user", "bob"}).Draw(t, "user")
			s.Env = rapid.SliceOfN(rapid.SampledFrom([]string{"LANG=C", "PATH=/tmp", "SSM_unit=sshd", "LC_ALL=a/b", "ENV=/x", "BASH_ENV=/x"}), 0, 2).Draw(t, "env")
			s.Argv = rapid.SliceOfN(rapid.Just("id"), 0, 2).Draw(t, "argv")
			s.Kind = rapid.SampledFrom(auth.SessionKinds).Draw(t, "kind")
			s.Terminal = make([]auth.Terminal, rapid.IntRange(0, 1).Draw(t, "terminal"))
			s.Idle, s.Most = rapid.Int64Range(0, 1<<40).Draw(t, "idle"), rapid.Int64Range(0, 1<<40).Draw(t, "most")
		}
		o, err := d.judgeBy(d.bob, s)
		if err != nil {
			return
		}
		last := o.Env[len(o.Env)-2:]
		if !slices.Equal(o.Argv, want.Argv) || o.User != "root" || o.Kind != auth.SessionExec || len(o.Terminal) > 0 || o.Shell || o.Most > 300_000 || o.Idle > 120_000 ||
			!HarmlessEnv(o.Env[:len(o.Env)-2]) || last[0] != "SSM_unit=nginx" && last[0] != "SSM_unit=haproxy" {
			t.Fatalf("%+v", o)
		}
	})
}

func encode(text string) string {
	d, err := document.ParseSession([]byte(logsText))
	if err != nil {
		panic(err)
	}
	args, err := d.ParseArguments([]string{"path=" + text})
	if err != nil {
		return `"x"`
	}
	return args[0].Value
}

func (o bureau) asksFor(by auth.Signer, name string, change func(*Read)) auth.Envelope {
	r := Read{Header: o.Header(ReadLife), What: ReadSessionDocument, Name: name, Node: o.host.Self}
	if change != nil {
		change(&r)
	}
	return by.Sign(auth.ForRequest, o.ID(), r)
}

func TestDocumentReads(t *testing.T) {
	d := newBureau()
	open := func(e auth.Envelope) error {
		_, _, err := OpenDocumentRead(e, d.Record, d.host.Self, true, d.Now)
		return err
	}
	if err := open(d.asksFor(d.bob, "Restart", nil)); err != nil {
		t.Fatal(err)
	}
	denied(t, open(d.asksFor(d.bob, "Restart", func(r *Read) { r.Node[0]++ })), fleet.Denied, "another node")
	denied(t, open(d.asksFor(d.bob, "Restart", func(r *Read) { r.What = ReadSessions })), fleet.Invalid, "none for a session's document")
	denied(t, open(d.asksFor(d.bob, strings.Repeat("x", 2000), nil)), fleet.Invalid, "name of 2000 bytes")
	denied(t, open(d.asksFor(d.bob, "Restart", func(r *Read) { r.Header.Expires = 0 })), fleet.Invalid, "lives")
	denied(t, open(d.asksFor(d.bob, "Restart", func(r *Read) { r.Header.Issued -= 900_000; r.Header.Expires -= 900_000 })), fleet.Expired, "expired")
	denied(t, open(d.asksFor(d.Nodes[0].Signer, "Restart", nil)), fleet.Denied, "no operator")
	_, err := OpenRead(d.Record, d.asksFor(d.Operator, "Restart", nil), d.Now)
	if err != nil {
		t.Error(err) // whoever answers for the servers refuses it by What
	}
}

// Who may not read documents gets those by which he may have the session, and no other.
func TestMayHaveDocument(t *testing.T) {
	d := newBureau()
	may := func(by string, name string, words ...string) error {
		op, err := d.Record.Charter.Current(map[string]fleet.ID{"bob": d.bob.ID(), "ada": d.Operator.ID()}[by], d.Now)
		if err != nil {
			t.Fatal(err)
		}
		return MayHaveDocument(d.papers[name], SessionDocumentAsk{Words: words}, op, d.Record, d.host, d.Now)
	}
	for name, words := range map[string][]string{"Restart": {"unit=nginx"}, "WebPort": {"portNumber=80"}, "Logs": {"path=/var/log/x"}} {
		for _, by := range []string{"bob", "ada"} {
			if err := may(by, name, words...); err != nil {
				t.Errorf("%s %s: %v", by, name, err)
			}
		}
	}
	denied(t, may("bob", "Restart", "unit=sshd"), fleet.Invalid, "is not one of")
	denied(t, may("bob", "Restart"), fleet.Invalid, "missing: unit")
	denied(t, may("bob", "Admin"), fleet.Denied, "no rule permits it")
	if err := may("ada", "Restart"); err != nil {
		t.Error(err)
	}
	d.papers["Restart"] = d.publish(d.bob, "Restart", restartText)
	denied(t, may("bob", "Restart", "unit=nginx"), fleet.Denied, "may not document.put")
	d.papers["Restart"] = d.publish(d.Operator, "Restart", "schemaVersion: '2.2'\nmainSteps: []\n")
	denied(t, may("ada", "Restart", "unit=nginx"), fleet.Invalid, "no session document")
}

func TestKeptDocument(t *testing.T) {
	d := newBureau()
	old := d.papers["Restart"]
	d.Advance(time.Minute)
	named := d.Operator.Sign(auth.ForDocument, d.ID(), exec.Publication{Header: d.Header(time.Hour), Name: "Restart", VersionName: "calm", Text: []byte(restartText + "\n")})
	d.Advance(time.Minute)
	forged := d.publish(d.bob, "Restart", restartText+"\n\n")
	kept := []auth.Envelope{d.papers["Logs"], old, forged, named, {}}
	for _, name := range []string{"Restart", "Restart:$DEFAULT", "Restart:$LATEST", "Restart:calm"} {
		if e, err := KeptDocument(kept, name, d.Record); err != nil || e.Key != named.Key || string(e.Body) != string(named.Body) {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err := KeptDocument(kept, "Restart:2", d.Record)
	denied(t, err, fleet.Unavailable, "no server can be asked which text version 2")
	for _, name := range []string{"Other", "", ":"} {
		_, err := KeptDocument(kept, name, d.Record)
		denied(t, err, fleet.Unavailable, "no server can be asked")
	}
}

func TestSessionNeeds(t *testing.T) {
	d := newBureau()
	needs := func(s auth.Session) []fleet.ID {
		keys, err := SessionNeeds(d.bob.Sign(auth.ForSession, d.ID(), s), d.Record, d.bob.ID(), d.host, d.Now)
		if err != nil {
			t.Fatal(err)
		}
		return keys
	}
	p, _ := auth.Peek[exec.Publication](d.papers["Restart"])
	if got := needs(d.uses("Restart", value("unit", `"nginx"`))); !slices.Equal(got, []fleet.ID{p.Ref(1).Key()}) {
		t.Errorf("%v", got)
	}
	if got := append(needs(d.uses("AWS-StartSSHSession")), needs(d.asks(auth.SessionExec, nil))...); len(got) != 0 {
		t.Errorf("%v", got)
	}
	if _, err := SessionNeeds(d.bob.Sign(auth.ForSession, d.ID(), d.uses("Admin")), d.Record, d.Operator.ID(), d.host, d.Now); err == nil {
		t.Error("something is fetched for a stranger")
	}
}

// Lists have room for all sessions, whatever values they were given.
func TestLongValuesInLists(t *testing.T) {
	one := []auth.SessionDocument{{Name: "D", Values: []auth.SessionValue{value("p", strings.Repeat("x", auth.MaxSessionValueBytes))}}}
	if size := len(wire.Marshal(lineOf(one))); size > 256 {
		t.Errorf("%d bytes", size)
	}
	if len(one[0].Values[0].Value) != auth.MaxSessionValueBytes {
		t.Error("the session itself was cut")
	}
}

func FuzzSessionDocumentAsk(f *testing.F) {
	d := newBureau()
	f.Add(SessionDocumentAsk{Statement: d.asksFor(d.bob, "Restart", nil), User: "root", Words: []string{"unit=nginx"}}.Encode())
	f.Add(SessionDocumentAsk{}.Encode())
	op, err := d.Record.Charter.Current(d.bob.ID(), d.Now)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		ask, err := DecodeSessionDocumentAsk(data)
		if err != nil {
			return
		}
		if string(ask.Encode()) != string(data) {
			t.Fatal("accepted bytes that we would not have written")
		}
		if err := MayHaveDocument(d.papers["Admin"], ask, op, d.Record, d.host, d.Now); err == nil {
			t.Fatal("words gave bob the document that he may not have")
		}
	})
}

func FuzzSessionDocumentAnswer(f *testing.F) {
	d := newBureau()
	f.Add(SessionDocumentAnswer{Version: 3, Publication: d.papers["Restart"]}.Encode())
	f.Fuzz(func(t *testing.T, data []byte) {
		if a, err := DecodeSessionDocumentAnswer(data); err == nil && string(a.Encode()) != string(data) {
			t.Fatal("accepted bytes that we would not have written")
		}
	})
}
