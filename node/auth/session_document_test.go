package auth

import (
	"fmt"
	"strings"
	"testing"

	"github.com/muster-fleet/muster/node/fleet"
)

// byDocument is a session of a kind by a document, as it is signed.
func byDocument(kind SessionKind) Session {
	s := aSession(kind)
	s.Argv, s.Forward = nil, nil
	s.Document = []SessionDocument{{Name: "Restart-nginx_2.0", Version: 3, Digest: fleet.ID{1}, Values: []SessionValue{{"a", `"x"`}, {"b", `["y"]`}}}}
	return s
}

func TestSessionDocumentCheck(t *testing.T) {
	for _, kind := range []SessionKind{SessionShell, SessionExec, SessionForward} {
		s := byDocument(kind)
		if err := s.Check(); err != nil || s.DocumentName() != "Restart-nginx_2.0" {
			t.Errorf("%s: %v", kind, err)
		}
		if plain := aSession(kind); plain.DocumentName() != "" {
			t.Errorf("%s has document %s", kind, plain.DocumentName())
		}
	}
	var many, long []SessionValue
	for i := range MaxSessionValues + 1 {
		many = append(many, SessionValue{Name: fmt.Sprintf("a%03d", i)})
	}
	long = []SessionValue{{"a", strings.Repeat("x", MaxSessionValueBytes)}}
	for name, tc := range map[string]struct {
		kind   SessionKind
		change func(*Session)
		says   string
	}{
		"two":             {SessionExec, func(s *Session) { s.Document = append(s.Document, s.Document[0]) }, "one document at most"},
		"of a copy":       {SessionCopy, func(*Session) {}, "no documents for copies"},
		"a program":       {SessionExec, func(s *Session) { s.Argv = []string{"id"} }, "the document's to say"},
		"a place":         {SessionForward, func(s *Session) { s.Forward = []string{"db:5432"} }, "the document's to say"},
		"a listener":      {SessionForward, func(s *Session) { s.Listen = []string{"127.0.0.1:0"} }, "the document's to say"},
		"no name":         {SessionExec, func(s *Session) { s.Document[0].Name = "" }, "is no document"},
		"a path":          {SessionExec, func(s *Session) { s.Document[0].Name = "a/b" }, "is no document"},
		"a long name":     {SessionExec, func(s *Session) { s.Document[0].Name = strings.Repeat("a", 129) }, "is no document"},
		"no digest":       {SessionExec, func(s *Session) { s.Document[0].Digest = fleet.ID{} }, "not pinned"},
		"a nameless":      {SessionExec, func(s *Session) { s.Document[0].Values[0].Name = "" }, "is no parameter"},
		"a strange name":  {SessionExec, func(s *Session) { s.Document[0].Values[0].Name = "a_b" }, "is no parameter"},
		"not sorted":      {SessionExec, func(s *Session) { s.Document[0].Values[0].Name = "c" }, "not sorted"},
		"twice":           {SessionExec, func(s *Session) { s.Document[0].Values[0].Name = "b" }, "twice"},
		"too many values": {SessionExec, func(s *Session) { s.Document[0].Values = many }, "201 values"},
		"too much":        {SessionExec, func(s *Session) { s.Document[0].Values = long }, "bytes of values"},
	} {
		s := byDocument(tc.kind)
		tc.change(&s)
		if err := s.Check(); err == nil || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The rule that a refusal names is for that document, and for no version of it that would take code as a value.
func TestMissingRuleOfDocument(t *testing.T) {
	p, err := CompilePolicy(`forbid (principal, action, resource) when { context.document == "" };`)
	if err != nil {
		t.Fatal(err)
	}
	ask := Ask{Principal: Principal{Type: "Operator", Name: "bob"}, Action: ActSession, Resource: Resource{Type: "Node", Name: "web1"}, Kind: "exec", User: "root", Document: "Restart"}
	for shell, want := range map[bool]string{false: "!context.shell };", true: "&& context.shell };"} {
		ask.Shell = shell
		_, err := p.Decide(ask)
		e, ok := err.(*fleet.Error)
		if !ok || !strings.Contains(e.Hint, `context.document == "Restart"`) || !strings.Contains(e.Hint, want) {
			t.Fatalf("%v", err)
		}
		rule, err := CompilePolicy(strings.TrimPrefix(e.Hint, "the rule that is missing: "))
		if err != nil {
			t.Fatal(err)
		}
		for _, same := range []bool{true, false} {
			other := ask
			other.Shell = shell == same
			if _, err := rule.Decide(other); (err == nil) != same {
				t.Errorf("shell %v: %v", other.Shell, err)
			}
		}
		other := ask
		other.Document = "Other"
		if _, err := rule.Decide(other); err == nil {
			t.Error("another document is let through")
		}
	}
}
