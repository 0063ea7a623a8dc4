package host

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/exec/steps"
	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

const storeDocument = `schemaVersion: "2.2"
parameters:
  word: {type: String, default: none}
mainSteps:
- {action: "aws:runShellScript", name: say, inputs: {runCommand: ["echo {{ word }} {{ ssm:/a/b }}"], environment: {K: "{{ ssm-secure:key }}"}}}
`

func storeCommand() exec.Command {
	return exec.Command{
		Header: auth.Header{ID: fleet.UUID{1}}, Documents: []exec.DocumentRef{ref("main", storeDocument, 1)},
		Run: exec.Run{Values: []exec.Argument{{Name: "word", Value: `"{{ ssm:/a/b:2 }}"`}}},
		Params: []exec.ParamRef{
			{Name: "/a/b", Version: 3, Value: []byte("three")}, {Name: "/a/b", Selector: "2", Version: 2, Value: []byte("two")},
			{Name: "key", Born: 9, Version: 4, Digest: fleet.Sum(nil), Tags: map[string]string{"team": "web"}, Secret: true},
		},
	}
}

// TestPlanOfPutsPinnedParametersIn: what the command carries, and nothing that it does not.
func TestPlanOfPutsPinnedParametersIn(t *testing.T) {
	cmd := storeCommand()
	plan, err := planOf(cmd, [][]byte{[]byte(storeDocument)})
	if err != nil {
		t.Fatal(err)
	}
	step := plan.Steps[0]
	for _, want := range []string{"SSM_word=two", "MUSTER_PARAM_1=three"} {
		if !slices.Contains(step.Env, want) {
			t.Errorf("%s is missing among %q", want, step.Env)
		}
	}
	if len(step.Secrets) != 1 || step.Secrets[0].Name != "K" || !slices.Equal(step.Secrets[0].Parts, []steps.Part{{Secret: 1}}) || plan.CheckSecrets(len(secretsOf(cmd))) != nil {
		t.Errorf("%+v", step.Secrets)
	}
	for i := range cmd.Params {
		less := cmd
		less.Params = slices.Delete(slices.Clone(cmd.Params), i, i+1)
		if _, err := planOf(less, [][]byte{[]byte(storeDocument)}); err == nil || !strings.Contains(err.Error(), "not among the parameters that were pinned") {
			t.Errorf("without %s: %v", cmd.Params[i], err)
		}
	}
}

// safe opens one secret.
type safe struct {
	asked node.SecretRef
	out   node.Opened
	err   error
}

func (s *safe) OpenSecret(_ context.Context, ref node.SecretRef) (node.Opened, error) {
	s.asked = ref
	return s.out, s.err
}

// TestOpenFor: the very version that was pinned is opened, and only if it has the tags about which policy was asked.
func TestOpenFor(t *testing.T) {
	named := secretsOf(storeCommand())
	if len(named) != 1 {
		t.Fatalf("%d secrets", len(named))
	}
	s := &safe{out: node.Opened{Value: []byte("v"), Tags: map[string]string{"team": "web"}}}
	value, err := openFor(s)(t.Context(), named[0])
	if want := (node.SecretRef{Name: "key", Born: 9, Version: 4, Digest: fleet.Sum(nil)}); err != nil || string(value) != "v" || s.asked != want {
		t.Errorf("%q, %v, %+v", value, err, s.asked)
	}
	s.out.Tags = map[string]string{"team": "web", "level": "high"}
	if value, err := openFor(s)(t.Context(), named[0]); fleet.KindOf(err) != fleet.Denied || value != nil {
		t.Errorf("with other tags: %q, %v", value, err)
	}
	s.err = fleet.Errorf(fleet.Unavailable, "no server answers")
	if _, err := openFor(s)(t.Context(), named[0]); fleet.KindOf(err) != fleet.Unavailable || !strings.Contains(err.Error(), "key version 4") {
		t.Errorf("%v", err)
	}
	if _, err := openFor(s)(t.Context(), []byte("x")); err == nil {
		t.Error("what names no secret was opened")
	}
}
