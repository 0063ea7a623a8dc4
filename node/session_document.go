package node

import (
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/exec/document"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

// madeSession is what a document makes of a session's statement.
type madeSession struct {
	as      auth.Session // as if it had been signed without the document
	shell   bool
	profile string
}

// mark notes what the document says beside the statement.
func (m madeSession) mark(o *SessionOrder) {
	o.Shell, o.Document, o.Profile = m.shell, m.as.Document, m.profile
}

// make returns the session that a statement is for: of one by a document, program, account, place and limits are the
// document's, and what was signed beside it counts only where it leaves something open.
func (host SessionHost) make(s auth.Session, published []auth.Envelope, record auth.Record) (madeSession, error) {
	if len(s.Document) == 0 {
		return madeSession{as: s, shell: s.Shell()}, nil
	}
	ref := s.Document[0]
	text, err := sessionText(ref, published, record)
	if err != nil {
		return madeSession{}, err
	}
	m, err := host.makeBy(s, ref, text)
	if err != nil {
		return m, ofDocument(ref.Name, err)
	}
	return m, nil
}

// ofDocument says which document an error is of.
func ofDocument(name string, err error) error {
	hint := "muster doc help " + name
	if e, ok := errors.AsType[*fleet.Error](err); ok && e.Hint != "" {
		hint = e.Hint
	}
	return fleet.Errorf(fleet.KindOf(err), "document %s: %w", name, err).Hinted("%s", hint)
}

func (host SessionHost) makeBy(s auth.Session, ref auth.SessionDocument, text []byte) (m madeSession, err error) {
	d, err := document.ParseSession(text)
	if err != nil {
		return m, err
	}
	values, err := d.Complete(argumentsOf(ref.Values))
	if err != nil {
		return m, err
	}
	plan, err := d.Plan(values)
	if err != nil {
		return m, err
	}
	if err := fitsSession(s, plan.Type); err != nil {
		return m, err
	}
	m.shell, m.profile = d.RawShell() || !HarmlessEnv(s.Env), plan.Profile
	s.Argv, s.Env = plan.Argv, append(s.Env[:len(s.Env):len(s.Env)], plan.Env...)
	s.Idle = least(s.Idle, plan.Idle.Milliseconds())
	s.Most = least(s.Most, plan.Most.Milliseconds())
	if s.User, err = host.accountBy(plan, s.User); err != nil {
		return m, err
	}
	if plan.Place != nil {
		m.shell = false
		to, err := SessionPlace(*plan.Place)
		if err != nil {
			return m, err
		}
		s.Forward = []string{to}
	}
	m.as = s
	return m, nil
}

func argumentsOf(values []auth.SessionValue) []document.Argument {
	out := make([]document.Argument, len(values))
	for i, v := range values {
		out[i] = document.Argument(v)
	}
	return out
}

// SessionKindOf returns the kind of session that documents of a type make, and whether it has a terminal.
func SessionKindOf(t document.SessionType) (kind auth.SessionKind, terminal bool) {
	switch t {
	case document.StandardStream:
		return auth.SessionShell, true
	case document.InteractiveCommands:
		return auth.SessionExec, true
	case document.NonInteractiveCommands:
		return auth.SessionExec, false
	case document.PortSession:
		return auth.SessionForward, false
	}
	return 0, false
}

// fitsSession reports why a statement is not for a session of the document's type, or nil.
func fitsSession(s auth.Session, t document.SessionType) error {
	kind, terminal := SessionKindOf(t)
	switch {
	case s.Kind != kind:
		return fleet.Errorf(fleet.Invalid, "it is of type %s, and makes a session of kind %s, not %s", t, kind, s.Kind)
	case terminal && len(s.Terminal) == 0:
		return fleet.Errorf(fleet.Invalid, "it is of type %s, which has a terminal, and the session has none", t)
	case !terminal && len(s.Terminal) > 0:
		return fleet.Errorf(fleet.Invalid, "it is of type %s, which has no terminal", t).Hinted("leave --tty away")
	}
	return nil
}

// accountBy resolves the account. Who may use one document may not therefore use it as whom he likes: a document that does
// not leave the account open has the one that it names, or the host's.
func (host SessionHost) accountBy(plan document.SessionPlan, asked string) (string, error) {
	has := plan.User
	if has == "" && plan.Type != document.PortSession {
		has = host.User
	}
	switch {
	case asked == "" || asked == has:
		return plan.User, nil
	case plan.AnyUser:
		return asked, nil
	}
	return "", fleet.Errorf(fleet.Denied, "it runs as %s, and leaves no other account open", has).
		Hinted("leave --user away; or give it inputs: {runAsEnabled: true}")
}

// HarmlessEnv reports whether variables can only say in which language and colours a program shows text. Whoever may set
// others (PATH, LD_PRELOAD) may have it run anything.
func HarmlessEnv(env []string) bool {
	return !slices.ContainsFunc(env, func(kv string) bool {
		name, value, _ := strings.Cut(kv, "=")
		known := name == "LANG" || name == "COLORTERM" || slices.Contains(localeNames[:], name)
		return !known || len(value) > maxLocale || strings.ContainsFunc(value, odd)
	})
}

var localeNames = [...]string{"LC_ALL", "LC_CTYPE", "LC_MESSAGES", "LC_TIME", "LC_COLLATE", "LC_NUMERIC"}

// maxLocale is longer than any locale's name, in bytes.
const maxLocale = 64

// odd reports whether no locale's name has a character. A slash would make a path of it.
func odd(r rune) bool {
	letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
	return !letter && !strings.ContainsRune("_.@-", r)
}

// SessionPlace returns where a document's connections lead, HOST:PORT in canonical form: what the node allows, and what
// policy is asked about.
func SessionPlace(p document.SessionPlace) (string, error) {
	host := p.Host
	if strings.Contains(host, ":") && !strings.HasPrefix(host, "[") {
		host = "[" + host + "]"
	}
	return auth.CanonicalPlace(host + ":" + strconv.FormatUint(uint64(p.Port), 10))
}

// RefOf returns what pins the text of a session's document.
func RefOf(d auth.SessionDocument) exec.DocumentRef {
	return exec.DocumentRef{Name: d.Name, Version: d.Version, Digest: d.Digest}
}

// sessionText finds the text that a session's document pins: built in, or published by somebody who may.
func sessionText(d auth.SessionDocument, published []auth.Envelope, record auth.Record) ([]byte, error) {
	ref := RefOf(d)
	if ref.Reserved() {
		return builtInSession(ref)
	}
	for _, e := range published {
		p, key, err := exec.OpenPublication(record.Charter, e)
		if err != nil || key != ref.Key() {
			continue // somebody else's word: what is missing is said below
		}
		return p.Text, exec.MayPublish(record, e)
	}
	return nil, fleet.Errorf(fleet.NotFound, "this node has not got the text of document %s that was signed", ref.Name).
		Hinted("muster doc history %s", ref.Name)
}

func builtInSession(ref exec.DocumentRef) ([]byte, error) {
	for _, b := range document.BuiltInSessions() {
		switch {
		case b.Name != ref.Name:
		case document.Digest(b.Text) == ref.Digest:
			return b.Text, nil
		default:
			return nil, fleet.Errorf(fleet.Denied, "document %s is built into muster, and this host's version has another text", ref.Name).
				Hinted("upgrade muster, here or where the session was signed")
		}
	}
	return nil, fleet.Errorf(fleet.NotFound, "no session document %s is built into muster", ref.Name).Hinted("muster doc list")
}

// documentText shows a session's document with its values, for lists.
func documentText(d auth.SessionDocument) string {
	words := []string{d.Name}
	if d.Version != 0 {
		words[0] += ":" + strconv.FormatUint(uint64(d.Version), 10)
	}
	for _, v := range d.Values {
		words = append(words, v.Name+"="+v.Value)
	}
	return strings.Join(words, " ")
}

// SessionNeeds returns the key (exec.DocumentRef.Key) of the publication that judging a session takes; none: it is built in, or
// there is no document. The statement is verified as JudgeSession does it: nothing is fetched for who may not be here.
func SessionNeeds(e auth.Envelope, record auth.Record, by fleet.ID, host SessionHost, now time.Time) ([]fleet.ID, error) {
	if len(e.Body) > auth.MaxSession {
		return nil, nil // refused as that
	}
	if claimed, err := auth.Peek[auth.Session](e); err == nil && len(claimed.Document) == 0 {
		return nil, nil // most have none, and are verified once
	}
	s, _, err := openSession(e, record, by, host, now)
	if err == nil {
		err = s.Check()
	}
	if err != nil {
		return nil, err
	}
	for _, d := range s.Document {
		if ref := RefOf(d); !ref.Reserved() {
			return []fleet.ID{ref.Key()}, nil
		}
	}
	return nil, nil
}

// lineOf returns a session's document as a list has it: values that are long are left out, and a word says so.
func lineOf(one []auth.SessionDocument) []auth.SessionDocument {
	if len(one) == 0 {
		return nil
	}
	d, size := one[0], 0
	for _, v := range d.Values {
		size += len(v.Name) + len(v.Value)
	}
	if size > maxListed {
		d.Values = []auth.SessionValue{{Name: "…", Value: `"…"`}}
	}
	return []auth.SessionDocument{d}
}

// DocumentNames returns of a session's document what policy is asked about.
func DocumentNames(one []auth.SessionDocument) []auth.SessionDocument {
	if len(one) == 0 {
		return nil
	}
	return []auth.SessionDocument{{Name: one[0].Name}}
}
