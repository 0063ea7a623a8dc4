package auth

import (
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/muster-fleet/muster/node/fleet"
)

func compile(t *testing.T, text string) *Policy {
	t.Helper()
	p, err := CompilePolicy(text)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func ask(principal Principal, action Action, resource Resource) Ask {
	return Ask{Principal: principal, Action: action, Resource: resource}
}

func TestFirstPolicy(t *testing.T) {
	p := compile(t, FirstPolicy)
	root := operator("alice", RootTeam).AsPrincipal()
	node := func(name string) Resource { return Resource{Type: "Node", Name: name} }
	lab := Resource{Type: "Fleet", Name: "lab"}
	for _, action := range Actions {
		for _, r := range []Resource{node("n1"), lab, ParameterResource("/app/db", web()), KeyringResource("web")} {
			if rule, err := p.Decide(ask(root, action, r)); err != nil || rule != "root-operators-do-everything" {
				t.Errorf("root may not %s: %q %v", action, rule, err)
			}
			for _, who := range []Principal{
				operator("bob").AsPrincipal(), operator("bob", "web", "roots").AsPrincipal(), operator(RootTeam).AsPrincipal(),
				{Type: "LocalUser", Name: "root"}, (&Node{Name: "n1", Tags: web()}).LocalUser("root"), {Type: "Team", Name: "web"}, {},
			} {
				if _, err := p.Decide(ask(who, action, r)); err == nil {
					t.Errorf("%s %s may %s", who.Type, who.Name, action)
				}
			}
			self := Principal{Type: "Node", Name: "n1"}
			want := action == ActReport && r.Name == "n1" || (action == ActReadParam || action == ActDecryptParam) && r.Type == "Parameter"
			if _, err := p.Decide(ask(self, action, r)); (err == nil) != want {
				t.Errorf("node n1 may %s on %s: %v", action, r.Name, err)
			}
		}
	}
	// The fleet's name is a name like any other: a node of that name is not the fleet.
	if _, err := p.Decide(ask(Principal{Type: "Node", Name: "lab"}, ActReport, lab)); err == nil {
		t.Error("a node called like the fleet reports about the fleet")
	}
}

func TestDenialNamesTheRule(t *testing.T) {
	p := compile(t, FirstPolicy+`
		@id("no-shell-on-db") forbid (principal, action == Action::"run", resource)
		when { context.shell && resource.hasTag("role") && resource.getTag("role") == "db" };
		forbid (principal, action == Action::"run", resource) when { context.user == "nobody" };`)
	run := Ask{
		Principal: operator("alice", RootTeam).AsPrincipal(), Action: ActRun, User: "root", Shell: true,
		Resource: Resource{Type: "Node", Name: "db1", Tags: map[string]string{"role": "db"}},
	}
	_, err := p.Decide(run)
	refused(t, err, fleet.Denied, "operator alice may not run on db1: forbidden by no-shell-on-db")
	run.User = "nobody"
	_, err = p.Decide(run)
	refused(t, err, fleet.Denied, "forbidden by no-shell-on-db, policy4")
	run.Shell, run.User = false, "root"
	if rule, err := p.Decide(run); err != nil || rule != "root-operators-do-everything" {
		t.Errorf("an argv: %q %v", rule, err)
	}
	run.Principal = operator("bob").AsPrincipal()
	_, err = p.Decide(run)
	refused(t, err, fleet.Denied, "no rule permits it")
}

// A rule that was written to forbid and cannot be evaluated denies; Cedar would skip it and so open what it closes.
func TestForbidThatCannotBeEvaluatedDenies(t *testing.T) {
	p := compile(t, FirstPolicy+`
		@id("guard-prod") forbid (principal, action == Action::"run", resource) when { resource.getTag("env") == "prod" };
		@id("slip") forbid (principal, action == Action::"cancel", resource) when { context.sudo };
		@id("dev") permit (principal, action == Action::"read", resource) when { resource.getTag("env") == "dev" };`)
	root, bob := operator("alice", RootTeam).AsPrincipal(), operator("bob").AsPrincipal()
	node := func(tags map[string]string) Resource { return Resource{Type: "Node", Name: "n1", Tags: tags} }
	_, err := p.Decide(ask(root, ActRun, node(nil)))
	refused(t, err, fleet.Denied, "cannot be evaluated: guard-prod")
	_, err = p.Decide(ask(root, ActCancel, node(nil)))
	refused(t, err, fleet.Denied, "cannot be evaluated: slip")
	_, err = p.Decide(ask(bob, ActRead, node(nil)))
	refused(t, err, fleet.Denied, "no rule permits it, and one cannot be evaluated: dev")
	_, err = p.Decide(ask(root, ActRun, node(map[string]string{"env": "prod"})))
	refused(t, err, fleet.Denied, "forbidden by guard-prod")
	for _, good := range []Ask{ask(root, ActRun, node(map[string]string{"env": "dev"})), ask(root, ActRead, node(nil))} {
		if _, err := p.Decide(good); err != nil {
			t.Error(err)
		}
	}
}

func TestPolicyTags(t *testing.T) {
	p := compile(t, `permit (principal in Team::"web", action == Action::"run", resource is Node)
		when { resource.hasTag("role") && resource.getTag("role") == "web" };`)
	web := operator("bob", "db", "web").AsPrincipal()
	for name, tc := range map[string]struct {
		tags map[string]string
		ok   bool
	}{
		"that tag":      {map[string]string{"role": "web", "x": "y"}, true},
		"another value": {map[string]string{"role": "web2"}, false},
		"another key":   {map[string]string{"Role": "web"}, false},
		"quotes":        {map[string]string{"role": `web" || true || "`}, false},
		"none":          {nil, false},
	} {
		if _, err := p.Decide(ask(web, ActRun, Resource{Type: "Node", Name: "n1", Tags: tc.tags})); (err == nil) != tc.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestEmptyPolicyDeniesAll(t *testing.T) {
	p := compile(t, "")
	if _, err := p.Decide(ask(operator("alice", RootTeam).AsPrincipal(), ActRead, Resource{Type: "Fleet", Name: "lab"})); err == nil {
		t.Error("no rule, and still permitted")
	}
}

func TestCompileRefusals(t *testing.T) {
	_, err := CompilePolicy("permit (principal, action, resource);\npermit (principal, action, resourse);")
	refused(t, err, fleet.Invalid, "2:")
	_, err = CompilePolicy(strings.Repeat(" ", MaxPolicy+1))
	refused(t, err, fleet.Exhausted, "at most")
	compile(t, strings.Repeat(" ", MaxPolicy))
}

// Text of the largest size, made to be deep or long, costs bounded memory to compile and to ask.
func TestHostilePolicyText(t *testing.T) {
	rule := func(open, shut, inner string) string {
		n := (MaxPolicy - 100) / (len(open) + len(shut))
		return "permit (principal, action, resource) when { " + strings.Repeat(open, n) + inner + strings.Repeat(shut, n) + " };"
	}
	for name, text := range map[string]string{
		"parentheses": rule("(", ")", "true"),
		"negations":   rule("!", "", "true"),
		"sets":        rule("[", "]", "1"),
		"records":     rule("{a:", "}", "1"),
		"ifs":         rule("if true then ", " else true", "true"),
		"ands":        rule("true && ", "", "true"),
		"stars":       `permit (principal, action, resource) when { context.user like "` + strings.Repeat("a*", MaxPolicy/2-100) + `b" };`,
	} {
		if len(text) > MaxPolicy {
			t.Fatalf("%s: %d bytes", name, len(text))
		}
		if got := allocatedBy(func() {
			p, err := CompilePolicy(text)
			if err != nil {
				return
			}
			a := ask(Principal{Type: "Node", Name: "n1"}, ActRun, Resource{Type: "Node", Name: "n2"})
			a.User = strings.Repeat("a", 10_000)
			_, _ = p.Decide(a)
		}); got > 64<<20 {
			t.Errorf("%s: %d bytes of memory", name, got)
		}
	}
}

// The answer and the words for it do not depend on the order in which Cedar walks its rules: replicas must agree.
func TestDecideIsDeterministic(t *testing.T) {
	var text strings.Builder
	for i := range 20 {
		fmt.Fprintf(&text, `@id("rule%02d") forbid (principal, action, resource) when { context.user like "*%d*" };`, i, i%10)
	}
	p := compile(t, FirstPolicy+text.String())
	rapid.Check(t, func(t *rapid.T) {
		a := ask(operator("alice", RootTeam).AsPrincipal(), ActRun, Resource{Type: "Node", Name: "n1"})
		a.User = rapid.StringMatching("[0-9a-c]{0,6}").Draw(t, "user")
		rule, err := p.Decide(a)
		for range 5 {
			if again, e := p.Decide(a); again != rule || fmt.Sprint(e) != fmt.Sprint(err) {
				t.Fatalf("%q %v, then %q %v", rule, err, again, e)
			}
		}
	})
}

// A rule can see where a run sends its output besides.
func TestOutputToIsAsked(t *testing.T) {
	p := compile(t, `permit (principal, action == Action::"run", resource is Node) when { context.output_to == "" || context.output_to like "s3://logs/*" };`)
	for to, want := range map[string]bool{"": true, "s3://logs/web": true, "s3://other/web": false, "/etc": false, "syslog": false} {
		_, err := p.Decide(Ask{Principal: operator("bob").AsPrincipal(), Action: ActRun, Resource: Resource{Type: "Node", Name: "n1"}, OutputTo: to})
		if (err == nil) != want {
			t.Errorf("to %q: %v", to, err)
		}
	}
}

// Rules about parameters and keyrings see who asks, with the node's tags, and what is asked about, by path and tags.
func TestPolicyOfParameters(t *testing.T) {
	p := compile(t, `
		permit (principal in Team::"app", action in [Action::"param.put", Action::"param.read"], resource is Parameter) when { resource.name like "/app/*" };
		permit (principal in Team::"app", action == Action::"param.decrypt", resource is Parameter)
		when { resource.name like "/app/dev/*" && resource.hasTag("class") && resource.getTag("class") == "low" };
		permit (principal is Node, action in [Action::"param.read", Action::"param.decrypt"], resource is Parameter)
		when { principal.hasTag("role") && resource.hasTag("role") && principal.getTag("role") == resource.getTag("role") };
		permit (principal is Node, action == Action::"param.read", resource is Parameter) when { principal.name like "web*" && resource.name == "/fleet/motd" };
		permit (principal == LocalUser::"www-data", action == Action::"param.read", resource is Parameter) when { principal.node like "web*" && principal.hasTag("role") };
		permit (principal in Team::"ops", action == Action::"keyring.put", resource == Keyring::"web");
		permit (principal in Team::"ops", action == Action::"param.delete", resource == Parameter::"/app/old");`)
	app, ops := operator("bob", "app").AsPrincipal(), operator("carol", "ops").AsPrincipal()
	web1, db1 := &Node{Name: "web1", Tags: web()}, &Node{Name: "db1", Tags: db()}
	low := map[string]string{"class": "low", "role": "web"}
	may := map[string][]Ask{
		"yes": {
			ask(app, ActPutParam, ParameterResource("/app/x", nil)), ask(app, ActReadParam, ParameterResource("/app/dev/x", low)),
			ask(app, ActDecryptParam, ParameterResource("/app/dev/x", low)),
			ask(web1.AsPrincipal(), ActReadParam, ParameterResource("/app/x", low)), ask(web1.AsPrincipal(), ActDecryptParam, ParameterResource("/app/x", low)),
			ask(web1.AsPrincipal(), ActReadParam, ParameterResource("/fleet/motd", nil)),
			ask(web1.LocalUser("www-data"), ActReadParam, ParameterResource("/app/x", nil)),
			ask(ops, ActPutKeyring, KeyringResource("web")), ask(ops, ActDeleteParam, ParameterResource("/app/old", nil)),
		},
		"no": {
			ask(app, ActPutParam, ParameterResource("/apply", nil)), ask(app, ActDeleteParam, ParameterResource("/app/x", nil)), ask(app, ActPutKeyring, KeyringResource("web")),
			ask(app, ActDecryptParam, ParameterResource("/app/x", low)), ask(app, ActDecryptParam, ParameterResource("/app/dev/x", nil)),
			ask(db1.AsPrincipal(), ActReadParam, ParameterResource("/app/x", low)), ask(db1.AsPrincipal(), ActReadParam, ParameterResource("/fleet/motd", nil)),
			ask((&Node{Name: "web1"}).AsPrincipal(), ActReadParam, ParameterResource("/app/x", low)),
			ask(web1.LocalUser("postgres"), ActReadParam, ParameterResource("/app/x", nil)), ask(db1.LocalUser("www-data"), ActReadParam, ParameterResource("/app/x", nil)),
			ask((&Node{Name: "web1"}).LocalUser("www-data"), ActReadParam, ParameterResource("/app/x", nil)),
			ask(web1.LocalUser("www-data"), ActDecryptParam, ParameterResource("/app/x", nil)),
			ask(Principal{Type: "Operator", Name: "www-data", Node: "web1", Tags: web()}, ActReadParam, ParameterResource("/app/x", nil)),
			ask(ops, ActPutKeyring, KeyringResource("db")), ask(ops, ActPutKeyring, Resource{Type: "Parameter", Name: "web"}), ask(ops, ActDeleteParam, Resource{Type: "Keyring", Name: "/app/old"}),
		},
	}
	for want, asks := range map[bool][]Ask{true: may["yes"], false: may["no"]} {
		for _, a := range asks {
			if _, err := p.Decide(a); (err == nil) != want {
				t.Errorf("%+v: %v", a, err)
			}
		}
	}
}

// A rule that forbids by the node of a local user binds everybody else only if it says so.
func TestForbidByLocalUser(t *testing.T) {
	p := compile(t, FirstPolicy+`forbid (principal is LocalUser, action, resource) when { principal.node == "web1" };`)
	if _, err := p.Decide(ask(operator("alice", RootTeam).AsPrincipal(), ActReadParam, ParameterResource("/x", nil))); err != nil {
		t.Error(err)
	}
	p = compile(t, FirstPolicy+`@id("slip") forbid (principal, action, resource) when { principal.node == "web1" };`)
	_, err := p.Decide(ask(operator("alice", RootTeam).AsPrincipal(), ActReadParam, ParameterResource("/x", nil)))
	refused(t, err, fleet.Denied, "cannot be evaluated: slip")
}
