package exec_test

import (
	"strings"
	"testing"
	"time"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/exec/document"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/auth/authtest"
	"github.com/muster-fleet/muster/node/fleet"
)

const (
	plainText = "schemaVersion: \"2.2\"\nparameters:\n  who: {type: String, default: you}\nmainSteps:\n- action: aws:runShellScript\n  name: greet\n  inputs:\n    runCommand: [\"echo {{ who }}\"]\n"
	rawText   = "schemaVersion: \"2.2\"\nparameters:\n  commands: {type: StringList}\nmainSteps:\n- action: aws:runShellScript\n  name: run\n  inputs:\n    runCommand: \"{{ commands }}\"\n"
)

// docPolicy lets team docs publish what begins with web-, and team web run it where it is no shell.
const docPolicy = auth.FirstPolicy + `
@id("docs-publish")
permit (principal in Team::"docs", action == Action::"document.put", resource is Document) when { resource.name like "web-*" };
@id("web-runs-documents")
permit (principal in Team::"web", action == Action::"run", resource is Node) when { context.document like "web-*" && !context.shell };
@id("web-runs-raw")
permit (principal in Team::"web", action == Action::"run", resource is Node) when { context.document == "AWS-RunShellScript" && context.user == "raw" };
`

func publish(f *authtest.Fleet, signer auth.Signer, name, text string) auth.Envelope {
	return signer.Sign(auth.ForDocument, f.ID(), exec.Publication{Header: f.Header(exec.PublishLife), Name: name, Text: []byte(text)})
}

func ref(name, text string) exec.DocumentRef {
	return exec.DocumentRef{Name: name, Version: 1, Digest: document.Digest([]byte(text))}
}

func builtIn(t *testing.T, name string) string {
	t.Helper()
	for _, d := range document.BuiltIn() {
		if d.Name == name {
			return string(d.Text)
		}
	}
	t.Fatalf("no document %s is built in", name)
	return ""
}

// docScene is a scene with somebody who may publish.
type docScene struct {
	*scene
	doc auth.Signer // of team docs
}

func TestJudgeDocuments(t *testing.T) {
	raw := builtIn(t, "AWS-RunShellScript")
	for name, c := range map[string]struct {
		refs       []exec.DocumentRef
		statements func(s docScene) []auth.Envelope
		user       string
		status     exec.Status
		says       string // of rule or reason
		again      bool   // an error that says: fetch again
		texts      int
	}{
		"published": {refs: []exec.DocumentRef{ref("web-greet", plainText)}, status: exec.Pending, says: "web-runs-documents", texts: 1,
			statements: func(s docScene) []auth.Envelope {
				return []auth.Envelope{publish(s.Fleet, s.doc, "web-greet", plainText)}
			}},
		"two, in another order": {refs: []exec.DocumentRef{ref("web-greet", plainText), ref("web-more", plainText)}, status: exec.Pending, texts: 2,
			statements: func(s docScene) []auth.Envelope {
				return []auth.Envelope{publish(s.Fleet, s.doc, "web-more", plainText), publish(s.Fleet, s.doc, "web-greet", plainText)}
			}},
		"missing": {refs: []exec.DocumentRef{ref("web-greet", plainText)}, again: true, statements: func(docScene) []auth.Envelope { return nil }},
		"another text": {refs: []exec.DocumentRef{ref("web-greet", plainText)}, again: true,
			statements: func(s docScene) []auth.Envelope {
				return []auth.Envelope{publish(s.Fleet, s.doc, "web-greet", plainText+"#")}
			}},
		"the text under another name": {refs: []exec.DocumentRef{ref("web-greet", plainText)}, again: true,
			statements: func(s docScene) []auth.Envelope {
				return []auth.Envelope{publish(s.Fleet, s.doc, "web-other", plainText)}
			}},
		"signature": {refs: []exec.DocumentRef{ref("web-greet", plainText)}, again: true,
			statements: func(s docScene) []auth.Envelope {
				e := publish(s.Fleet, s.doc, "web-greet", plainText)
				e.Signature[0] ^= 1
				return []auth.Envelope{e}
			}},
		"stranger": {refs: []exec.DocumentRef{ref("web-greet", plainText)}, again: true,
			statements: func(s docScene) []auth.Envelope {
				return []auth.Envelope{publish(s.Fleet, authtest.Signer("stranger"), "web-greet", plainText)}
			}},
		"publisher without the right": {refs: []exec.DocumentRef{ref("web-greet", plainText)}, status: exec.Refused, says: "may not document.put on web-greet",
			statements: func(s docScene) []auth.Envelope {
				return []auth.Envelope{publish(s.Fleet, s.bob, "web-greet", plainText)}
			}},
		"publisher removed since": {refs: []exec.DocumentRef{ref("web-greet", plainText)}, status: exec.Pending, texts: 1,
			statements: func(s docScene) []auth.Envelope {
				e := publish(s.Fleet, s.doc, "web-greet", plainText)
				s.Advance(time.Second)
				s.MustTake(s.DeleteOperator("doc", s.doc, false))
				return []auth.Envelope{e}
			}},
		"publisher removed before": {refs: []exec.DocumentRef{ref("web-greet", plainText)}, status: exec.Refused, says: "was removed before this was signed",
			statements: func(s docScene) []auth.Envelope {
				s.MustTake(s.DeleteOperator("doc", s.doc, false))
				s.Advance(time.Second)
				return []auth.Envelope{publish(s.Fleet, s.doc, "web-greet", plainText)}
			}},
		"publisher compromised": {refs: []exec.DocumentRef{ref("web-greet", plainText)}, again: true,
			statements: func(s docScene) []auth.Envelope {
				e := publish(s.Fleet, s.doc, "web-greet", plainText)
				s.MustTake(s.DeleteOperator("doc", s.doc, true))
				return []auth.Envelope{e}
			}},
		"not understood": {refs: []exec.DocumentRef{ref("web-greet", "hello")}, status: exec.Refused, says: "document web-greet: ",
			statements: func(s docScene) []auth.Envelope {
				return []auth.Envelope{publish(s.Fleet, s.doc, "web-greet", "hello")}
			}},
		"a shell by another name": {refs: []exec.DocumentRef{ref("web-raw", rawText)}, status: exec.Refused, says: "no rule permits it",
			statements: func(s docScene) []auth.Envelope { return []auth.Envelope{publish(s.Fleet, s.doc, "web-raw", rawText)} }},
		"a shell in what it runs": {refs: []exec.DocumentRef{ref("web-greet", plainText), ref("AWS-RunShellScript", raw)}, status: exec.Refused, says: "no rule permits it",
			statements: func(s docScene) []auth.Envelope {
				return []auth.Envelope{publish(s.Fleet, s.doc, "web-greet", plainText)}
			}},
		"built in":                  {refs: []exec.DocumentRef{ref("AWS-RunShellScript", raw)}, user: "raw", status: exec.Pending, says: "web-runs-raw", texts: 1, statements: func(docScene) []auth.Envelope { return nil }},
		"built in, of another text": {refs: []exec.DocumentRef{ref("AWS-RunShellScript", raw+"#")}, user: "raw", status: exec.Refused, says: "another text", statements: func(docScene) []auth.Envelope { return nil }},
	} {
		t.Run(name, func(t *testing.T) {
			s := docScene{newScene(), auth.Signer{}}
			s.doc = s.AddOperator("doc", "docs")
			s.SetPolicy(docPolicy)
			o := s.order(func(cmd *exec.Command) { cmd.Run.Argv, cmd.Run.User, cmd.Documents = nil, c.user, c.refs })
			statements := c.statements(s)
			v, err := s.judge(o)
			if err != nil {
				t.Fatal(err)
			}
			var texts [][]byte
			if v.Status == exec.Pending {
				if len(v.Documents) != len(statements) && len(statements) > 0 {
					t.Fatalf("asks for %d documents", len(v.Documents))
				}
				v, texts, err = exec.JudgeDocuments(v, statements, s.Record, s.Member(s.web.ID), s.Now)
			}
			if c.again {
				if fleet.KindOf(err) != fleet.Unavailable {
					t.Fatalf("%v, %+v", err, v)
				}
				return
			}
			if err != nil || v.Status != c.status || !strings.Contains(v.Rule+v.Reason, c.says) || v.Status == exec.Pending && len(texts) != c.texts {
				t.Fatalf("%s, rule %q, reason %q, %d texts, %v", v.Status, v.Rule, v.Reason, len(texts), err)
			}
			for i, text := range texts {
				if document.Digest(text) != c.refs[i].Digest {
					t.Errorf("text %d is another", i)
				}
			}
		})
	}
}

func TestOpenPublication(t *testing.T) {
	f := authtest.Found("publication")
	e := publish(f, f.Operator, "greet", plainText)
	p, key, err := exec.OpenPublication(f.Record.Charter, e)
	if err != nil || p.Name != "greet" || key != ref("greet", plainText).Key() {
		t.Fatalf("%+v, %v", p, err)
	}
	if ref("greet", plainText).Key() == ref("greet2", plainText).Key() || ref("greet", plainText).Key() == ref("greet", rawText).Key() {
		t.Error("two documents have one key")
	}
	large := publish(f, f.Operator, "greet", strings.Repeat("x", exec.MaxDocument+1))
	if _, _, err := exec.OpenPublication(f.Record.Charter, large); err == nil {
		t.Error("a text that is too long")
	}
	if _, _, err := exec.OpenPublication(nil, e); fleet.KindOf(err) != fleet.Unavailable {
		t.Errorf("without a charter: %v", err)
	}
	f.MustTake(f.DeleteOperator(authtest.OperatorName, f.Operator, true))
	if _, _, err := exec.OpenPublication(f.Record.Charter, e); fleet.KindOf(err) != fleet.Denied {
		t.Errorf("of a compromised operator: %v", err)
	}
}

func TestPublicationCheck(t *testing.T) {
	f := authtest.Found("check")
	good := func() exec.Publication {
		return exec.Publication{Header: f.Header(exec.PublishLife), Name: "web-greet_1.0", VersionName: "v1.2", Text: []byte(plainText)}
	}
	for name, c := range map[string]struct {
		ok    bool
		alter func(*exec.Publication)
	}{
		"good":                     {true, func(*exec.Publication) {}},
		"no version name":          {true, func(p *exec.Publication) { p.VersionName = "" }},
		"longest name":             {true, func(p *exec.Publication) { p.Name = strings.Repeat("x", 128) }},
		"no ID":                    {false, func(p *exec.Publication) { p.Header.ID = fleet.UUID{} }},
		"never expires":            {false, func(p *exec.Publication) { p.Header.Expires = 0 }},
		"lives too long":           {false, func(p *exec.Publication) { p.Header.Expires++ }},
		"from before all times":    {false, func(p *exec.Publication) { p.Header.Issued = -1 << 63 }},
		"short name":               {false, func(p *exec.Publication) { p.Name = "ab" }},
		"long name":                {false, func(p *exec.Publication) { p.Name = strings.Repeat("x", 129) }},
		"odd name":                 {false, func(p *exec.Publication) { p.Name = "a b c" }},
		"name with a version":      {false, func(p *exec.Publication) { p.Name = "web:1" }},
		"AWS's name":               {false, func(p *exec.Publication) { p.Name = "AWS-Mine" }},
		"aws's name":               {false, func(p *exec.Publication) { p.Name = "awsome" }},
		"Amazon's name":            {false, func(p *exec.Publication) { p.Name = "AmazonX" }},
		"version name is a number": {false, func(p *exec.Publication) { p.VersionName = "12" }},
		"odd version name":         {false, func(p *exec.Publication) { p.VersionName = "$LATEST" }},
		"long version name":        {false, func(p *exec.Publication) { p.VersionName = strings.Repeat("v", 129) }},
		"no text":                  {false, func(p *exec.Publication) { p.Text = []byte(" \n") }},
		"long text":                {false, func(p *exec.Publication) { p.Text = append(p.Text, make([]byte, exec.MaxDocument)...) }},
		"not a document":           {false, func(p *exec.Publication) { p.Text = []byte("mainSteps: 7") }},
	} {
		p := good()
		c.alter(&p)
		if err := p.Check(); (err == nil) != c.ok || err != nil && fleet.KindOf(err) != fleet.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, c := range map[string]struct {
		ok bool
		of exec.DocumentChange
	}{
		"default":          {true, exec.DocumentChange{Default: 3}},
		"delete one":       {true, exec.DocumentChange{Delete: true, Version: 3}},
		"delete all":       {true, exec.DocumentChange{Delete: true}},
		"nothing":          {false, exec.DocumentChange{}},
		"version alone":    {false, exec.DocumentChange{Version: 3}},
		"both":             {false, exec.DocumentChange{Default: 3, Delete: true}},
		"default of one":   {false, exec.DocumentChange{Default: 3, Version: 2}},
		"a reserved name":  {false, exec.DocumentChange{Name: "AWS-RunShellScript", Default: 3}},
		"without a header": {false, exec.DocumentChange{Header: auth.Header{Issued: 1}, Default: 3}},
	} {
		if c.of.Name == "" {
			c.of.Name = "greet"
		}
		if c.of.Header.Issued == 0 {
			c.of.Header = f.Header(exec.PublishLife)
		}
		if err := c.of.Check(); (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestWhatBendsADocument holds that nobody who may run documents alone gets a shell by what surrounds one.
func TestWhatBendsADocument(t *testing.T) {
	for name, bend := range map[string]func(*exec.Run){
		"a variable": func(r *exec.Run) { r.Env = []string{"BASH_ENV=/tmp/mine"} },
		"a folder":   func(r *exec.Run) { r.Dir = "/tmp/mine" },
		"input":      func(r *exec.Run) { r.Stdin = []byte("id") },
		"nothing":    func(*exec.Run) {},
	} {
		s := docScene{newScene(), auth.Signer{}}
		s.doc = s.AddOperator("doc", "docs")
		s.SetPolicy(docPolicy)
		o := s.order(func(cmd *exec.Command) {
			cmd.Run.Argv, cmd.Documents = nil, []exec.DocumentRef{ref("web-greet", plainText)}
			bend(&cmd.Run)
		})
		v, err := s.judge(o)
		if err != nil || v.Status != exec.Pending {
			t.Fatalf("%s: %+v, %v", name, v, err)
		}
		v, _, err = exec.JudgeDocuments(v, []auth.Envelope{publish(s.Fleet, s.doc, "web-greet", plainText)}, s.Record, s.Member(s.web.ID), s.Now)
		if want := name != "nothing"; err != nil || (v.Status == exec.Refused) != want {
			t.Errorf("%s: %s, %q, %v", name, v.Status, v.Reason, err)
		}
	}
}

// Where the output goes besides is part of the question whether somebody may run, before and after documents are read.
func TestPolicySeesOutputTo(t *testing.T) {
	s := newScene()
	for to, want := range map[string]exec.Status{"": exec.Pending, "/var/tmp": exec.Refused} {
		s.SetPolicy(`permit (principal, action, resource); forbid (principal, action == Action::"run", resource) unless { context.output_to == "" };`)
		for name, change := range map[string]func(*exec.Command){
			"a program":  func(c *exec.Command) {},
			"a document": func(c *exec.Command) { c.Run.Argv, c.Documents = nil, []exec.DocumentRef{ref("web-greet", plainText)} },
		} {
			o := s.order(func(c *exec.Command) {
				c.OutputTo = to
				change(c)
			})
			v, err := exec.Judge(o, s.Record, s.Member(s.web.ID), s.Now)
			if err != nil || v.Status != want {
				t.Errorf("%s to %q: %+v, %v", name, to, v, err)
			}
			if err := exec.MayRun(o, s.Record, s.Now); (err == nil) != (want == exec.Pending) {
				t.Errorf("%s to %q: the fast no: %v", name, to, err)
			}
		}
	}
}

func TestMayPublish(t *testing.T) {
	f := authtest.Found("docs")
	bob := f.AddOperator("bob", auth.RootTeam)
	e := publish(f, bob, "hello", plainText)
	if err := exec.MayPublish(f.Record, e); err != nil {
		t.Error(err)
	}
	before := f.Record
	other := publish(f, f.AddOperator("eve", "docs"), "hello", plainText)
	if err := exec.MayPublish(f.Record, other); fleet.KindOf(err) != fleet.Denied {
		t.Errorf("without the right: %v", err)
	}
	if err := exec.MayPublish(before, publish(f, bob, "hello", plainText)); fleet.KindOf(err) != fleet.Unavailable {
		t.Errorf("signed under a charter that is not here: %v", err)
	}
	f.MustTake(f.DeleteOperator("bob", bob, true))
	if err := exec.MayPublish(f.Record, e); fleet.KindOf(err) != fleet.Denied {
		t.Errorf("by somebody who was removed: %v", err)
	}
	if err := exec.MayPublish(auth.NewRecord(), e); fleet.KindOf(err) != fleet.Unavailable {
		t.Errorf("without a charter: %v", err)
	}
}
