package document

import (
	"slices"
	"strings"
	"time"

	"github.com/muster-fleet/muster/node/fleet"
)

// SessionType says what a session document makes, as SSM spells it.
type SessionType string

// The types of session documents.
const (
	StandardStream         SessionType = "Standard_Stream"        // the account's login shell
	InteractiveCommands    SessionType = "InteractiveCommands"    // the document's commands on a terminal
	NonInteractiveCommands SessionType = "NonInteractiveCommands" // the document's commands without terminal and input
	PortSession            SessionType = "Port"                   // connections to one place
)

const sessionTypes = "Standard_Stream, InteractiveCommands, NonInteractiveCommands, Port"

// Session is a session document, schema 1.0, that was read and found to be in order. It never changes.
type Session struct {
	doc     *Document // text and parameters; of one with commands, these as its only step
	kind    SessionType
	user    string // account; empty: none is named
	anyUser bool   // it is left to whoever opens the session
	idle    time.Duration
	most    time.Duration
	profile string
	runner  []string // what the commands' first line names, with its arguments; none: sh
	port    *portForm
}

// Type returns what the document makes.
func (d *Session) Type() SessionType { return d.kind }

// Text returns what was parsed. It must not be changed.
func (d *Session) Text() []byte { return d.doc.text }

// Schema returns "1.0".
func (d *Session) Schema() string { return d.doc.schema }

// Description returns what the document says of itself; it may be empty.
func (d *Session) Description() string { return d.doc.description }

// Parameters returns the parameters in the document's order.
func (d *Session) Parameters() []Parameter { return d.doc.Parameters() }

// RawShell reports whether whoever opens the session can make the host run anything: it is a shell, or a value says which
// code runs. What an interactive program lets its user do (less and vi start shells) is the author's to know.
func (d *Session) RawShell() bool { return d.kind == StandardStream || d.doc.RawShell() }

// ParseSession reads a document of schema 1.0, YAML or JSON. Whatever it does not understand, or would not do, it refuses with
// fleet.Invalid and the line.
func ParseSession(text []byte) (*Session, error) {
	root, err := readRoot(text)
	if err != nil {
		return nil, err
	}
	d := &Session{doc: &Document{text: slices.Clone(text), schema: "1.0"}}
	switch n := root.get("schemaVersion"); {
	case n == nil:
		return nil, refuse(root.line, "schemaVersion is missing").Hinted(`schemaVersion: "1.0"`)
	case n.text != "1.0":
		return nil, refuse(n.line, "no session document: those are of schema 1.0, not %q", clip(n.text)).Hinted("muster run --doc NAME")
	}
	return d, withoutArgv(d.read(root))
}

// withoutArgv takes what only commands have out of a hint.
func withoutArgv(err error) error {
	if e, ok := err.(*fleet.Error); ok && strings.Contains(e.Hint, string(runArgv)) {
		return &fleet.Error{Kind: e.Kind, What: e.What, Err: e.Err, Hint: strings.ReplaceAll(e.Hint, ", use "+string(runArgv), "")}
	}
	return err
}

func (d *Session) read(root *node) error {
	f := read(root, "document", nil)
	f.raw("schemaVersion")
	d.doc.description = f.text("description")
	d.kind = SessionType(f.need("sessionType"))
	parameters, inputs, properties := f.raw("parameters"), f.raw("inputs"), f.raw("properties")
	if err := f.done(); err != nil {
		return err
	}
	if err := d.readParameters(parameters); err != nil {
		return err
	}
	if err := d.readInputs(inputs); err != nil {
		return err
	}
	switch d.kind {
	case StandardStream:
		if properties != nil {
			return refuse(properties.line, "a session of type %s has no properties", d.kind).Hinted("inputs: {shellProfile: {linux: …}}")
		}
		return nil
	case InteractiveCommands, NonInteractiveCommands:
		return d.readCommands(root, properties)
	case PortSession:
		return d.readPort(root, properties)
	}
	return refuse(root.get("sessionType").line, "sessionType %q is not one of %s", clip(string(d.kind)), sessionTypes)
}

// readParameters reads them as those of commands, but that AWS's guides spell types of session documents in any case.
func (d *Session) readParameters(n *node) error {
	if n != nil {
		for _, p := range n.items {
			if kind := p.get("type"); kind != nil && kind.shape == scalar {
				kind.text = string(inAnyCase(kind.text))
			}
		}
	}
	if err := d.doc.readParameters(n); err != nil {
		return err
	}
	for _, p := range d.doc.parameters {
		if len(refsOf(p.fallback)) > 0 {
			return refuse(p.line, "default of %s: %s", p.Name, noStore).Hinted("let the commands ask for it: muster param get NAME")
		}
	}
	return nil
}

const noStore = "a session takes nothing from the parameter store"

func inAnyCase(text string) Type {
	for _, t := range []Type{String, StringList, StringMap, Integer, Boolean, MapList} {
		if strings.EqualFold(string(t), text) {
			return t
		}
	}
	return Type(text)
}

// fixed is for what no value may change.
func fixed(n *node) (*node, error) {
	for _, c := range append(slices.Clone(n.items), n) {
		if c.shape == scalar && len(refs(c.text)) > 0 {
			return nil, refuse(c.line, "%q: parameters belong into properties", clip(c.text))
		}
	}
	return n, nil
}

// readInputs reads the settings of the session.
func (d *Session) readInputs(n *node) error {
	if n == nil {
		return nil
	}
	f := read(n, "inputs", fixed)
	for _, key := range []string{"s3BucketName", "cloudWatchLogGroupName", "kmsKeyId"} {
		if f.text(key) != "" {
			return refuse(n.get(key).line, "inputs: %s: %s", key, insteadOf(key)).Hinted("leave it empty; muster setting list has what the fleet's say of sessions")
		}
	}
	f.text("s3KeyPrefix") // of nothing
	for _, key := range []string{"s3EncryptionEnabled", "cloudWatchEncryptionEnabled", "cloudWatchStreamingEnabled"} {
		f.flag(key)
	}
	as := f.flag("runAsEnabled")
	if user := f.text("runAsDefaultUser"); as && user != "" {
		d.user = user
		if !isAccount(user) {
			f.fail(n.get("runAsDefaultUser").line, "runAsDefaultUser: %q is no account's name", clip(user))
		}
	} else {
		d.anyUser = as
	}
	if as && d.kind == PortSession {
		f.fail(n.get("runAsEnabled").line, "runAsEnabled: connections have no account")
	}
	d.idle = minutes(f, "idleSessionTimeout", 60)
	d.most = minutes(f, "maxSessionDuration", 24*60)
	if d.idle > 0 && d.kind == PortSession {
		f.fail(n.get("idleSessionTimeout").line, "idleSessionTimeout: a tunnel lasts as long as somebody is connected; maxSessionDuration bounds that")
	}
	d.profile = d.readProfile(f)
	return f.done()
}

// insteadOf says what there is in the place of what AWS does.
func insteadOf(key string) string {
	if key == "kmsKeyId" {
		return "sessions are encrypted from end to end without a key of AWS's"
	}
	return "AWS's stores are not written to by documents: recordings are kept by the node, and copied to where the fleet's settings say"
}

// isAccount reports whether policy can go by a name. Numbers are none: 0 is root.
func isAccount(name string) bool {
	odd := func(r rune) bool { return !letter(r) && !strings.ContainsRune("_.@$-", r) }
	return len(name) <= 64 && strings.Trim(name, "0123456789") != "" && !strings.ContainsAny(name[:1], ".@$-") && !strings.ContainsFunc(name, odd)
}

// minutes is a time of 1 to most minutes; 0: none is given.
func minutes(f *form, key string, most int64) time.Duration {
	text := f.text(key)
	if text == "" {
		return 0
	}
	v, ok := number(text)
	if !ok || v < 1 || v > most {
		f.fail(f.at.get(key).line, "%s is 1 to %d minutes, not %q", key, most, clip(text))
		return 0
	}
	return time.Duration(v) * time.Minute
}

// readProfile reads what is typed into a shell when it begins.
func (d *Session) readProfile(f *form) string {
	n := f.raw("shellProfile")
	if n == nil {
		return ""
	}
	g := read(n, "shellProfile", fixed)
	text := strings.TrimRight(g.text("linux"), "\n")
	for _, other := range []string{"windows", "macos"} {
		g.raw(other)
	}
	switch {
	case text != "" && d.kind != StandardStream:
		g.fail(n.line, "only a session of type %s has a shell", StandardStream)
	case strings.ContainsFunc(text, func(r rune) bool { return r < ' ' && r != '\n' && r != '\t' || r == 0x7f }):
		g.fail(n.get("linux").line, "control characters cannot be typed into a shell")
	}
	if err := g.done(); err != nil && f.err == nil {
		f.err = err
	}
	if text == "" {
		return ""
	}
	return text + "\n"
}

// readCommands reads what runs: properties.linux. What is there for others is not looked at.
func (d *Session) readCommands(root, n *node) error {
	if n == nil {
		return refuse(root.line, "properties is missing: a session of type %s has its commands there", d.kind).Hinted(`properties: {linux: {commands: "…"}}`)
	}
	f := read(n, "properties", nil)
	linux := f.raw("linux")
	f.raw("windows")
	f.raw("macos")
	if err := f.done(); err != nil {
		return err
	}
	if linux == nil {
		return refuse(n.line, "properties: linux is missing, and hosts run Linux")
	}
	g := read(linux, "linux", nil)
	commands := g.raw("commands")
	elevated := read(linux, "linux", fixed)
	if elevated.flag("runAsElevated") {
		d.elevate(elevated, linux.get("runAsElevated").line)
	}
	g.raw("runAsElevated")
	if apart := g.text("separateOutputStream"); apart != "" && d.kind == InteractiveCommands {
		g.fail(linux.get("separateOutputStream").line, "separateOutputStream: a terminal has one stream")
	} else if err := d.declares(linux.get("separateOutputStream")); err != nil { // else they always come apart
		return err
	}
	if g.err == nil {
		g.err = elevated.err
	}
	if err := g.done(); err != nil {
		return err
	}
	return d.compile(linux, commands)
}

// elevate has the commands run as root.
func (d *Session) elevate(f *form, line int) {
	if d.user != "" || d.anyUser {
		f.fail(line, "runAsElevated is root, and inputs say runAsEnabled: one of them can hold")
		return
	}
	d.user = "root"
}

// declares reports why a piece of the document refers to what is no parameter, or nil.
func (d *Session) declares(n *node) error {
	if n == nil {
		return nil
	}
	_, err := resolver{d: d.doc, trial: true}.resolve(n)
	return err
}

// compile makes a step of the commands, so that everything that is known of values in scripts holds for them.
func (d *Session) compile(linux, commands *node) error {
	if commands == nil || commands.shape == scalar && strings.TrimSpace(commands.text) == "" {
		return refuse(linux.line, "linux: commands is missing: what runs")
	}
	if found, err := commands.storeRefs(); err != nil || len(found) > 0 {
		return refuse(commands.line, "commands: "+noStore).Hinted("let the commands ask for it: muster param get NAME")
	}
	key := &node{line: commands.line, text: "runCommand"}
	s := &step{
		line: commands.line, name: "commands", what: "commands", action: runShellScript, last: true, flow: &node{shape: dict, line: commands.line},
		inputs: &node{shape: dict, line: commands.line, keys: []*node{key}, items: []*node{commands}},
	}
	d.doc.steps = []*step{s}
	if err := d.doc.try(); err != nil {
		return err
	}
	if s.compiled.whole != nil {
		return nil
	}
	return d.readRunner(s)
}

// readRunner reads the first line of the commands: nobody makes a file of them, so what it names is started by us.
func (d *Session) readRunner(s *step) error {
	rest, ok := strings.CutPrefix(s.compiled.text, "#!")
	if !ok {
		return nil
	}
	dialects, program := dialectsOf(s.compiled.text)
	if len(dialects) == 0 {
		return refuse(s.line, "commands: a session's are run by sh or bash, not by %q", clip(program)).Hinted("leave the first line away, and call %s in the commands", clip(program))
	}
	line, _, _ := strings.Cut(rest, "\n")
	d.runner = strings.Fields(line)
	return nil
}
