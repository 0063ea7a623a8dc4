package main

import (
	"context"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/exec/document"
	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/api/shape"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

// documentFlags are those of sessions that may be by a document.
func (f *sessionFlags) documentFlags(a *app, cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.doc, "doc", "", "session document NAME[:VERSION], which says what the session is")
	flags.StringArrayVar(&f.params, "param", nil, "value for a parameter of --doc, NAME=VALUE; may be repeated")
	a.completeSessionDocuments(cmd, "doc")
	_ = cmd.RegisterFlagCompletionFunc("param", a.completeSessionValues(func() string { return f.doc }))
}

// byDocument is a session by a document: what is signed, and what the document makes of it, which this end knows as well as
// the node.
type byDocument struct {
	auth.Session
	plan document.SessionPlan
	to   string // of one that connects: where, in canonical form
}

// byDocument reads the document that flags name, and checks what it is given. verb is the command that is to open it.
func (v *visit) byDocument(ctx context.Context, f sessionFlags, verb string) (b byDocument, err error) {
	ref, doc, err := v.sessionDocument(ctx, f)
	if err != nil {
		return b, err
	}
	if err := opensBy(verb, ref.Name, doc); err != nil {
		return b, err
	}
	given, err := doc.ParseArguments(f.params)
	if err != nil {
		return b, badValues(ref.Name, err)
	}
	values, err := doc.Complete(given)
	if err == nil {
		b.plan, err = doc.Plan(values)
	}
	if err == nil && b.plan.Place != nil {
		b.to, err = node.SessionPlace(*b.plan.Place)
	}
	if err != nil {
		return b, badValues(ref.Name, err)
	}
	kind, _ := node.SessionKindOf(doc.Type())
	b.Session = f.session(kind)
	b.Document = []auth.SessionDocument{node.PinSessionDocument(ref, values.Arguments())}
	return b, nil
}

// verbsOf lists the commands that open sessions by documents of a type, the most fitting first.
func verbsOf(doc *document.Session) []string {
	switch doc.Type() {
	case document.StandardStream:
		return []string{"shell"}
	case document.InteractiveCommands:
		return []string{"shell", "exec"}
	case document.NonInteractiveCommands:
		return []string{"exec"}
	case document.PortSession:
		if doc.Listens() {
			return []string{"forward", "ssh-proxy"}
		}
		return []string{"ssh-proxy"}
	}
	return nil
}

// opensBy reports why a command opens no session by a document, or nil.
func opensBy(verb, name string, doc *document.Session) error {
	verbs := verbsOf(doc)
	if slices.Contains(verbs, verb) {
		return nil
	}
	return fleet.Errorf(fleet.Invalid, "document %s is of type %s, which is not for muster %s", name, doc.Type(), verb).
		Hinted("muster %s NODE --doc %s", verbs[0], name)
}

// sessionDocument finds the document: built in, else as the node finds it, which is asked as long as it can be reached,
// whatever became of the quorum.
func (v *visit) sessionDocument(ctx context.Context, f sessionFlags) (ref exec.DocumentRef, doc *document.Session, err error) {
	name, version, err := splitVersion(f.doc)
	if err != nil {
		return ref, nil, err
	}
	text, number, err := v.sessionText(ctx, f, name, version)
	if err != nil {
		return ref, nil, err
	}
	if doc, err = document.ParseSession(text); err != nil {
		return ref, nil, fleet.Errorf(fleet.KindOf(err), "document %s: %w", joinVersion(name, version), err)
	}
	return exec.DocumentRef{Name: name, Version: number, Digest: document.Digest(text)}, doc, nil
}

func (v *visit) sessionText(ctx context.Context, f sessionFlags, name, version string) (text []byte, number uint32, err error) {
	if d, ok := builtInDocument(name); ok {
		return d.Text, builtInVersion, onlyVersion(name, version)
	}
	ask := node.SessionDocumentAsk{User: f.user, Words: f.params}
	ask.Statement = v.pen.sign(auth.ForRequest, node.Read{
		Header: v.pen.header(node.ReadLife), What: node.ReadSessionDocument, Name: joinVersion(name, version), Node: v.at.ID,
	})
	s, body, err := v.begin(ctx, v.at, node.SessionDocument, ask.Encode())
	if err != nil {
		return nil, 0, err
	}
	s.Close()
	answer, err := node.DecodeSessionDocumentAnswer(body)
	if err != nil {
		return nil, 0, err
	}
	p, err := auth.Peek[exec.Publication](answer.Publication) // whether somebody may publish it, the node judges, which acts by it
	if err == nil && p.Name != name {
		err = fleet.Errorf(fleet.Denied, "%s answers with document %q instead of %s", v.at.Name, p.Name, name)
	}
	return p.Text, answer.Version, err
}

// completeSessionDocuments offers the names of session documents that are built in, and of all that are published.
func (a *app) completeSessionDocuments(cmd *cobra.Command, flags ...string) {
	for _, flag := range flags {
		_ = cmd.RegisterFlagCompletionFunc(flag, func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
			names := a.publishedNames(cmd)
			for _, d := range document.BuiltInSessions() {
				names = append(names, d.Name)
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		})
	}
}

// completeSessionValues offers NAME= and values for --param.
func (a *app) completeSessionValues(spec func() string) cobra.CompletionFunc {
	return func(cmd *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
		ctx, cancel := context.WithTimeout(cmd.Context(), completionTime)
		defer cancel()
		v, err := a.documentVersion(ctx, spec())
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		doc, err := document.Describe([]byte(v.Text))
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		given, _ := cmd.Flags().GetStringArray("param")
		return valueWords(doc.Parameters(), given, typed), cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
	}
}

// plainEnvironment is environmentHere for a session by a document: what the node would take for more than a language is only
// there if it was given.
func (a *app) plainEnvironment(given []string) []string {
	return slices.DeleteFunc(a.environmentHere(given), func(kv string) bool {
		return !slices.Contains(given, kv) && !node.HarmlessEnv([]string{kv})
	})
}

// sitBy opens a session by a document that runs something, and joins the person to it.
func (a *app) sitBy(ctx context.Context, f sessionFlags, name, verb string, tty, noStdin bool) error {
	v, err := a.visit(ctx, name)
	if err != nil {
		return err
	}
	defer v.Close()
	b, err := v.byDocument(ctx, f, verb)
	if err != nil {
		return err
	}
	in := a.stdin
	switch _, terminal := node.SessionKindOf(b.plan.Type); {
	case terminal:
		b.Terminal, b.Env = []auth.Terminal{a.terminalHere()}, a.plainEnvironment(f.env)
	case tty:
		return fleet.Errorf(fleet.Invalid, "document %s is of type %s, which has no terminal", f.doc, b.plan.Type).Hinted("leave --tty away")
	default:
		in = strings.NewReader("") // the node gives it none
	}
	if noStdin {
		in = strings.NewReader("")
	}
	return a.sit(ctx, v, b.Session, in)
}

// tunnel returns the one tunnel of a session by a document.
func (b byDocument) tunnel() tunnel {
	port := strconv.FormatUint(uint64(b.plan.Place.Local), 10)
	return tunnel{network: "tcp", local: net.JoinHostPort("127.0.0.1", port), to: b.to}
}

// sessionDocumentText is a session's document with its values, as one line.
func sessionDocumentText(d shape.SessionDocument) string {
	name := d.Name
	if d.Version != 0 {
		name += ":" + strconv.FormatUint(uint64(d.Version), 10)
	}
	words := []string{name}
	for _, key := range slices.Sorted(maps.Keys(d.Values)) {
		words = append(words, key+"="+plainValue(d.Values[key]))
	}
	return strings.Join(words, " ")
}
