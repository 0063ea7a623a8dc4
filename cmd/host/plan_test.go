package host

import (
	"reflect"
	"testing"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/exec/document"
	"github.com/muster-fleet/muster/exec/steps"
	"github.com/muster-fleet/muster/node/fleet"
)

const (
	outer = `schemaVersion: "2.2"
parameters:
  word: {type: String, default: none}
mainSteps:
- {action: "aws:runShellScript", name: say, inputs: {runCommand: ["echo {{ word }}"]}}
- {action: "aws:runDocument", name: inside, inputs: {documentType: SSMDocument, documentPath: "inner:2"}}
`
	inner = `schemaVersion: "2.2"
mainSteps:
- {action: "aws:runShellScript", name: deep, inputs: {runCommand: ["true"]}}
`
)

func ref(name, text string, version uint32) exec.DocumentRef {
	return exec.DocumentRef{Name: name, Version: version, Digest: document.Digest([]byte(text))}
}

func TestPlanOf(t *testing.T) {
	plain := exec.Command{Run: exec.Run{Argv: []string{"true"}, Script: []byte("x")}}
	plan, err := planOf(plain, nil)
	if want := (steps.Plan{Steps: []steps.Step{{Argv: []string{"true"}, Script: []byte("x")}}}); err != nil || !reflect.DeepEqual(plan, want) || !plan.Plain() {
		t.Fatalf("%+v %v", plan, err)
	}
	cmd := exec.Command{Documents: []exec.DocumentRef{ref("outer", outer, 3), ref("inner", inner, 2)},
		Run: exec.Run{Values: []exec.Argument{{Name: "word", Value: `"hi"`}}}}
	texts := [][]byte{[]byte(outer), []byte(inner)}
	plan, err = planOf(cmd, texts)
	if err != nil || len(plan.Steps) != 2 || !plan.Codes || plan.Steps[0].Name != "say" || plan.Steps[1].Act != document.ActDocument || plan.Check() != nil {
		t.Fatalf("%+v %v", plan, err)
	}
	for name, change := range map[string]func(*exec.Command, [][]byte) [][]byte{
		"another text":    func(_ *exec.Command, texts [][]byte) [][]byte { return [][]byte{texts[0], []byte(outer)} },
		"a text too few":  func(_ *exec.Command, texts [][]byte) [][]byte { return texts[:1] },
		"another version": func(c *exec.Command, texts [][]byte) [][]byte { c.Documents[1].Version = 1; return texts },
		"unknown value":   func(c *exec.Command, texts [][]byte) [][]byte { c.Run.Values[0].Name = "other"; return texts },
	} {
		c := cmd
		c.Documents, c.Run.Values = append([]exec.DocumentRef(nil), cmd.Documents...), append([]exec.Argument(nil), cmd.Run.Values...)
		if _, err := planOf(c, change(&c, texts)); err == nil || fleet.KindOf(err) == fleet.Internal && name != "a text too few" {
			t.Errorf("%s: %v", name, err)
		}
	}
}
