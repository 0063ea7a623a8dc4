package auth

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/types"

	"github.com/muster-fleet/muster/node/fleet"
)

// FirstPolicy is what a new fleet starts with. Whatever no rule permits is denied.
const FirstPolicy = firstPolicy1 + `
// A node may read parameters. Of a secret it gets what is sealed, and can open it only where it is one of the readers.
@id("nodes-read-parameters")
permit (principal is Node, action in [Action::"param.read", Action::"param.decrypt"], resource is Parameter);
`

// firstPolicy1 is what fleets started with before there were parameters.
const firstPolicy1 = `// Operators of team root may do everything.
@id("root-operators-do-everything")
permit (principal in Team::"root", action, resource);

// A node may report about itself, and nothing else.
@id("nodes-report")
permit (principal is Node, action == Action::"report", resource is Node)
when { principal == resource };
`

// MaxPolicy bounds a policy's text in bytes.
const MaxPolicy = 12 << 10

// Action is something that policy can permit. The list is the whole list.
type Action string

// The actions, and the resources they are asked about.
const (
	ActRun         Action = "run"          // Node; context: user, shell, document, direct, output_to
	ActCancel      Action = "cancel"       // Node
	ActReport      Action = "report"       // Node
	ActRead        Action = "read"         // Fleet: commands, results, tokens, operators
	ActPutToken    Action = "token.put"    // Fleet, with the tags that the token gives; context: server
	ActDeleteToken Action = "token.delete" // Fleet
	ActTagNode     Action = "node.tag"     // Node, asked with its old and with its new tags; context: server
	ActRemoveNode  Action = "node.remove"  // Node; context: server

	ActPutDocument    Action = "document.put"    // Document: publish a version, choose the default
	ActDeleteDocument Action = "document.delete" // Document
	ActPutGroup       Action = "group.put"       // Fleet: also to delete one
	ActPutSetting     Action = "setting.put"     // Fleet: every setting but release.keys
	ActTrustRelease   Action = "release.trust"   // Fleet: the setting release.keys, which says whose programs all hosts run

	ActPutParam     Action = "param.put"     // Parameter: also its labels
	ActReadParam    Action = "param.read"    // Parameter: what is known about it, and its value if it is plain
	ActDecryptParam Action = "param.decrypt" // Parameter: a secret's value
	ActDeleteParam  Action = "param.delete"  // Parameter
	ActPutKeyring   Action = "keyring.put"   // Keyring: make, retarget, rotate, delete, hand over

	ActSession       Action = "session"        // Node; context: kind, user, shell, document, terminal, to, listen, path, put
	ActKillSession   Action = "session.kill"   // Node: another operator's session
	ActReplaySession Action = "session.replay" // Node: the recording of another operator's session; context: kind, user, shell, terminal
	ActWatchSession  Action = "session.watch"  // Node: to look on at another operator's session; context: kind, user, shell, terminal
)

// Actions lists them all, for documentation and for tests that must miss none.
var Actions = []Action{
	ActRun, ActCancel, ActReport, ActRead, ActPutToken, ActDeleteToken, ActTagNode, ActRemoveNode,
	ActPutDocument, ActDeleteDocument, ActPutGroup, ActPutSetting, ActTrustRelease,
	ActPutParam, ActReadParam, ActDecryptParam, ActDeleteParam, ActPutKeyring,
	ActSession, ActKillSession, ActReplaySession, ActWatchSession,
}

// Policy is a compiled Cedar policy set.
type Policy struct {
	text string
	set  *cedar.PolicySet
	// Cedar makes a record by sorting and hashing it: those that most questions have are made once.
	none  types.Record // of tags
	plain types.Record // the context of a question without one
}

// CompilePolicy parses Cedar text. The error names line and column.
func CompilePolicy(text string) (*Policy, error) {
	if len(text) > MaxPolicy {
		return nil, fleet.Errorf(fleet.Exhausted, "policy of %d bytes; at most %d", len(text), MaxPolicy)
	}
	set, err := cedar.NewPolicySetFromBytes("policy", []byte(text))
	if err != nil {
		return nil, fleet.Errorf(fleet.Invalid, "policy: %w", err)
	}
	return &Policy{text: text, set: set, none: types.NewRecord(nil), plain: contextOf(Ask{})}, nil
}

// Text returns the Cedar text.
func (p *Policy) Text() string { return p.text }

// Principal is who asks.
type Principal struct {
	Type  string // Operator, Node or LocalUser
	Name  string
	Teams []string          // of an operator
	Tags  map[string]string // of a node: its roster tags; of a local user: those of the node
	Node  string            // of a local user: the node's name
}

// AsPrincipal returns the operator as Cedar sees it.
func (o Operator) AsPrincipal() Principal {
	return Principal{Type: "Operator", Name: o.Name, Teams: o.Teams}
}

// AsPrincipal returns the node as Cedar sees it.
func (n *Node) AsPrincipal() Principal {
	return Principal{Type: "Node", Name: n.Name, Tags: n.Tags}
}

// LocalUser returns an account of a node as Cedar sees it. The node's root is no local user: it is the node.
func (n *Node) LocalUser(account string) Principal {
	return Principal{Type: "LocalUser", Name: account, Tags: n.Tags, Node: n.Name}
}

// Resource is what is asked about. Tags are roster tags, never facts; a parameter's are those that its writer signed.
type Resource struct {
	Type string // Node, Fleet, Document, Parameter or Keyring
	Name string
	Tags map[string]string
}

// KeyringResource is a keyring as Cedar sees it.
func KeyringResource(name string) Resource { return Resource{Type: "Keyring", Name: name} }

// ParameterResource is a parameter as Cedar sees it: by its canonical name, with the tags of a version.
func ParameterResource(name string, tags map[string]string) Resource {
	return Resource{Type: "Parameter", Name: name, Tags: tags}
}

// Ask is one question to policy.
type Ask struct {
	Principal Principal
	Action    Action
	Resource  Resource
	User      string // context.user of a run or session: the account it runs as
	Shell     bool   // context.shell of a run or session: a shell line or a script, not an argv; of a document: it takes its script as a value
	Document  string // context.document of a run or session: the name of the document; empty: none
	Direct    bool   // context.direct of a run: the quorum did not order it
	OutputTo  string // context.output_to of a run: where the command itself sends its full output; empty: only where the fleet's setting says
	Kind      string // context.kind of a session: SessionKind.String
	Terminal  bool   // context.terminal of a session: what runs has a terminal
	To        string // context.to of a session that is a tunnel: HOST:PORT, in canonical form; each place is a question of its own
	Listen    string // context.listen of a session for which the node listens: ADDRESS:PORT; each is a question of its own
	Path      string // context.path of a session that copies: as CanonicalPath has it; each path is a question of its own
	Put       bool   // context.put of a session that copies: the node writes
	Server    bool   // context.server: a token lets nodes hold replicated state; a node to be tagged or removed does, or will
}

// Decide reports why policy says no, or nil. rule names the policy that permitted.
//
// It is stricter than Cedar in one point: a forbid rule that cannot be evaluated (a tag that is not there, a slip in a
// name) denies, where Cedar would skip it. A rule written to forbid must not open what it was to close.
func (p *Policy) Decide(ask Ask) (rule string, err error) {
	principal := cedar.NewEntityUID(types.EntityType(ask.Principal.Type), types.String(ask.Principal.Name))
	resource := cedar.NewEntityUID(types.EntityType(ask.Resource.Type), types.String(ask.Resource.Name))
	var teams []types.EntityUID
	for _, team := range ask.Principal.Teams {
		teams = append(teams, cedar.NewEntityUID("Team", types.String(team)))
	}
	entities := types.EntityMap{
		resource: {UID: resource, Attributes: types.NewRecord(types.RecordMap{"name": types.String(ask.Resource.Name)}), Tags: p.tags(ask.Resource.Tags)},
	}
	if principal != resource {
		entities[principal] = types.Entity{
			UID: principal, Parents: types.NewEntityUIDSet(teams...), Attributes: ask.Principal.attributes(), Tags: p.tags(ask.Principal.Tags),
		}
	}
	decision, why := cedar.Authorize(p.set, entities, cedar.Request{
		Principal: principal,
		Action:    cedar.NewEntityUID("Action", types.String(ask.Action)),
		Resource:  resource,
		Context:   p.context(ask),
	})
	said := p.refusal(decision, why)
	if said == "" {
		return p.ruleNames(why), nil
	}
	return "", fleet.Errorf(fleet.Denied, "policy: %s %s may not %s on %s: %s",
		strings.ToLower(ask.Principal.Type), ask.Principal.Name, ask.Action, ask.Resource.Name, said).
		Hinted("%s", ask.mend(said))
}

// mend says what would let the asker in. Of a session it is the very rule that is missing, and no wider one: it is what
// people ask their roots for.
func (a Ask) mend(said string) string {
	if a.Action != ActSession || said != noRule {
		return "muster operator list says who is in which team; the charter's policy says what teams may do"
	}
	when := []string{"context.kind == " + strconv.Quote(a.Kind)}
	if a.User != "" {
		when = append(when, "context.user == "+strconv.Quote(a.User))
	}
	if a.Document != "" {
		when = append(when, "context.document == "+strconv.Quote(a.Document), shellIs(a.Shell))
	}
	if a.To != "" {
		when = append(when, "context.to == "+strconv.Quote(a.To))
	}
	if a.Listen != "" {
		when = append(when, "context.listen == "+strconv.Quote(a.Listen))
	}
	if a.Path != "" {
		when = append(when, "context.path == "+strconv.Quote(a.Path), "context.put == "+strconv.FormatBool(a.Put))
	}
	return fmt.Sprintf("the rule that is missing: permit (principal == %s::%q, action == Action::%q, resource == %s::%q) when { %s };",
		a.Principal.Type, a.Principal.Name, string(a.Action), a.Resource.Type, a.Resource.Name, strings.Join(when, " && "))
}

// shellIs is what a rule for a document says of it: one whose next version would take code as a value needs another rule.
func shellIs(shell bool) string {
	if shell {
		return "context.shell"
	}
	return "!context.shell"
}

// noRule is the refusal where nothing permits and nothing is broken.
const noRule = "no rule permits it"

// context is what rules can read of a question beside who asks what about what.
func (p *Policy) context(ask Ask) types.Record {
	if ask.User == "" && !ask.Shell && !ask.Server && ask.Document == "" && !ask.Direct && ask.OutputTo == "" && ask.Kind == "" && !ask.Terminal && ask.To == "" &&
		ask.Listen == "" && ask.Path == "" && !ask.Put {
		return p.plain
	}
	return contextOf(ask)
}

func contextOf(ask Ask) types.Record {
	return types.NewRecord(types.RecordMap{
		"user": types.String(ask.User), "shell": types.Boolean(ask.Shell), "server": types.Boolean(ask.Server),
		"document": types.String(ask.Document), "direct": types.Boolean(ask.Direct), "output_to": types.String(ask.OutputTo),
		"kind": types.String(ask.Kind), "terminal": types.Boolean(ask.Terminal), "to": types.String(ask.To),
		"listen": types.String(ask.Listen), "path": types.String(ask.Path), "put": types.Boolean(ask.Put),
	})
}

func (p *Policy) tags(tags map[string]string) types.Record {
	if len(tags) == 0 {
		return p.none
	}
	out := types.RecordMap{}
	for k, v := range tags {
		out[types.String(k)] = types.String(v)
	}
	return types.NewRecord(out)
}

// attributes are what rules can read of a principal: its name, and of a local user the node's.
func (p Principal) attributes() types.Record {
	out := types.RecordMap{"name": types.String(p.Name)}
	if p.Type == "LocalUser" {
		out["node"] = types.String(p.Node)
	}
	return types.NewRecord(out)
}

// refusal says why not, or "".
func (p *Policy) refusal(decision cedar.Decision, why types.Diagnostic) string {
	forbids, permits := p.broken(why, cedar.Forbid), p.broken(why, cedar.Permit)
	switch {
	case decision == cedar.Deny && len(why.Reasons) > 0:
		return "forbidden by " + p.ruleNames(why)
	case forbids != "":
		return "a rule that forbids cannot be evaluated: " + forbids
	case decision == cedar.Allow:
		return ""
	case permits != "":
		return noRule + ", and one cannot be evaluated: " + permits
	}
	return noRule
}

// broken names the rules of an effect that could not be evaluated, and why.
func (p *Policy) broken(why types.Diagnostic, effect cedar.Effect) string {
	var out []string
	for _, e := range why.Errors {
		if policy := p.set.Get(e.PolicyID); policy != nil && policy.Effect() == effect {
			out = append(out, p.ruleName(e.PolicyID)+" ("+e.Message+")")
		}
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

func (p *Policy) ruleName(id cedar.PolicyID) string {
	if policy := p.set.Get(id); policy != nil {
		return cmp.Or(string(policy.Annotations()["id"]), string(id))
	}
	return string(id)
}

func (p *Policy) ruleNames(why types.Diagnostic) string {
	var names []string
	for _, reason := range why.Reasons {
		names = append(names, p.ruleName(reason.PolicyID))
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}
