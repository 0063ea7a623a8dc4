package document

import (
	"strings"
	"testing"

	"github.com/muster-fleet/muster/node/fleet"
)

// refused says that a text is refused with a line and words.
func refused(t *testing.T, text string, want ...string) {
	t.Helper()
	_, err := Parse([]byte(text))
	if err == nil {
		t.Errorf("taken:\n%.600s", text)
		return
	}
	if fleet.KindOf(err) != fleet.Invalid {
		t.Errorf("kind %v: %v", fleet.KindOf(err), err)
	}
	for _, w := range want {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%q is not in %q, for\n%.600s", w, err, text)
		}
	}
}

const head = "schemaVersion: '2.2'\nmainSteps:\n- name: a\n  action: aws:runShellScript\n"

func TestWhatIsNotUnderstoodIsRefusedWithItsLine(t *testing.T) {
	for _, c := range []struct {
		text string
		want []string
	}{
		{"", []string{"one YAML map"}},
		{"- a\n", []string{"line 1", "map"}},
		{"a: 1\n", []string{"schemaVersion is missing"}},
		{"schemaVersion: '0.3'\nmainSteps: []\n", []string{"line 1", "runbook, not a command document"}},
		{"schemaVersion: '1.0'\nsessionType: Standard_Stream\n", []string{"line 1", "session document, not a command document"}},
		{"schemaVersion: '2.1'\n", []string{"line 1", `"2.1"`}},
		{"schemaVersion: '2.2'\n", []string{"mainSteps is missing"}},
		{"schemaVersion: '2.2'\nmainSteps: []\n", []string{"line 2", "1 to 100 steps"}},
		{"schemaVersion: '2.2'\nmainSteps: {}\n", []string{"line 2", "list of steps"}},
		{"schemaVersion: '1.2'\nmainSteps: []\n", []string{"line 2", `"mainSteps"`}},
		{"schemaVersion: '2.2'\nfoo: 1\nmainSteps: []\n", []string{"line 2", `"foo"`}},
		{"schemaVersion: '2.2'\nschemaVersion: '2.2'\n", []string{"line 2", "twice"}},
		{"schemaVersion: '2.2'\na:\n\t- b\n", []string{"line 3"}},
		{"schemaVersion: '2.2'\nparameters: &x {}\nmainSteps: *x\n", []string{"line 2", "anchors"}},
		{"schemaVersion: !!str 2.2\n", []string{"line 1", "tag"}},
		{"schemaVersion: '2.2'\n---\na: b\n", []string{"single document"}},
		{"schemaVersion: '2.2'\nmainSteps: " + strings.Repeat("[", 30) + strings.Repeat("]", 30), []string{"line 2", "nested deeper"}},
		{"{\n\"schemaVersion\": \"2.2\",\n\"mainSteps\": [\n}", []string{"line 4", "not JSON"}},
		{"{\"schemaVersion\": \"2.2\"\n", []string{"line 2", "too early"}},
		{"{\n\"a\": 1,\n\n\"a\": 2}", []string{"line 4", "twice"}},
		{"{\"schemaVersion\": \"2.2\"}\n\n{}", []string{"line 3", "after the end"}},
		{"schemaVersion: \"2.2\"\x00", []string{"zero bytes"}},
		{"schemaVersion: \"\xff\"", []string{"UTF-8"}},
		{strings.Repeat("#", MaxText+1), []string{"65537 bytes"}},
		{strings.Replace(head, "aws:runShellScript", "aws:runShelScript", 1), []string{"line 4", "unknown"}},
		{strings.Replace(head, "name: a", "nme: a", 1), []string{"line 3", "name is missing"}},
		{head + "  inputs: {runCommand: [ls], runComand: [ls]}\n", []string{"line 5", `"runComand"`}},
		{head + "  inputs: {}\n", []string{"runCommand is missing"}},
		{head + "  inputs: {runCommand: []}\n", []string{"runCommand is missing"}},
		{head + "  inputs: {runCommand: [{a: b}]}\n", []string{"line 5", "a command is a text"}},
		{head + "  inputs: {runCommand: [ls]}\n  nextStep: b\n", []string{"line 6", "belongs to runbooks"}},
		{head + "  inputs: {runCommand: [ls]}\n  onFailure: Abort\n", []string{"line 6", "onFailure is one of exit, successAndExit"}},
		{head + "  inputs:\n    runCommand: [ls]\n    onFailure: exit\n  onFailure: exit\n", []string{"line 8", "twice"}},
		{head + "  inputs: {runCommand: [ls], timeoutSeconds: 0}\n", []string{"line 5", "1 to 172800"}},
		{head + "  inputs: {runCommand: [ls], timeoutSeconds: 1.5}\n", []string{"line 5", "1 to 172800"}},
		{head + "  inputs: {runCommand: [ls]}\n  maxAttempts: 11\n", []string{"line 6", "maxAttempts is 1 to 10"}},
		{head + "  inputs: {runCommand: [ls], finallyStep: true}\n- name: b\n  action: aws:runShellScript\n  inputs: {runCommand: [ls]}\n", []string{"line 3", "last step only"}},
		{head + "  inputs: {runCommand: [ls]}\n- name: a\n  action: aws:runShellScript\n  inputs: {runCommand: [ls]}\n", []string{"line 6", "two steps"}},
		{head + "  inputs: {runCommand: [ls], environment: {1X: a}}\n", []string{"line 5", "name of a variable"}},
		{head + "  inputs:\n    workingDirectory: '{{ x }}'\n    runCommand: [ls]\n", []string{"line 6", "no parameter"}},
		{head + "  precondition: {StringEquals: [platformType]}\n  inputs: {runCommand: [ls]}\n", []string{"line 5", "two texts"}},
		{head + "  precondition: {StringNotEquals: [platformType, Linux]}\n  inputs: {runCommand: [ls]}\n", []string{"line 5", "StringNotEquals"}},
		{head + "  precondition: {StringEquals: [platformType, BeOS]}\n  inputs: {runCommand: [ls]}\n", []string{"line 5", "BeOS"}},
		{head + "  precondition: {StringEquals: [a, b]}\n  inputs: {runCommand: [ls]}\n", []string{"line 5", "holds a parameter"}},
		{head + "  precondition: {StringEquals: ['{{ ssm-secure:x }}', b]}\n  inputs: {runCommand: [ls]}\n", []string{"line 5", "a secret in precondition"}},
		{head + "  precondition: {StringEquals: [a, a]}\n  inputs: {runCommand: [ls]}\n", []string{"line 5", "the same"}},
		{strings.Replace(head, "2.2", "2.0", 1) + "  precondition: {StringEquals: [platformType, Linux]}\n  inputs: {runCommand: [ls]}\n", []string{"line 5", "need schema 2.2"}},
		{"schemaVersion: '2.2'\nmainSteps:\n- {name: a, action: muster:run, inputs: {argv: []}}\n", []string{"argv is a list"}},
		{"schemaVersion: '2.2'\nparameters: {p: {type: String}}\nmainSteps:\n- name: a\n  action: muster:run\n  inputs:\n    argv:\n    - '{{ p }}'\n", []string{"line 8", "name of a command"}},
		{"schemaVersion: '2.2'\nparameters: {p: {type: String}}\nmainSteps:\n- name: a\n  action: muster:run\n  inputs:\n    argv:\n    - sh\n    - -c\n    - 'echo {{ p }}'\n", []string{"line 10", "sh runs"}},
		{"schemaVersion: '2.2'\nmainSteps:\n- name: a\n  action: aws:downloadContent\n  inputs:\n    sourceType: HTTP\n    sourceInfo: |\n      {\"url\":\n       \"x\", \"uri\": 1}\n", []string{"line 9", `"uri"`}},
		{"schemaVersion: '2.2'\nmainSteps:\n- name: a\n  action: aws:downloadContent\n  inputs:\n    sourceType: FTP\n", []string{"line 6", "GitHub"}},
		{"schemaVersion: '2.2'\nmainSteps:\n- name: a\n  action: aws:downloadContent\n  inputs:\n    sourceType: Git\n    sourceInfo: {path: x}\n", []string{"repository is missing"}},
		{"schemaVersion: '2.2'\nmainSteps:\n- name: a\n  action: aws:runDocument\n  inputs: {documentPath: x}\n", []string{"documentType is missing"}},
		{"schemaVersion: '2.2'\nmainSteps:\n- name: a\n  action: aws:configurePackage\n  inputs: {action: Remove, name: x}\n", []string{"line 5", "Install, Uninstall"}},
		{"schemaVersion: '2.2'\nmainSteps:\n- name: a\n  action: aws:runDockerAction\n  inputs: {}\n", []string{"action is missing"}},
	} {
		refused(t, c.text, c.want...)
	}
}

func TestParametersAreCheckedWithTheirLine(t *testing.T) {
	for _, c := range []struct{ parameter, want string }{
		{"p-q: {type: String}", "letters and digits"},
		{"p: {type: Strin}", `"Strin"`},
		{"p: {}", "type"},
		{"p: {type: String, typ: x}", `"typ"`},
		{"p: {type: String, allowedPattern: '^(?!x)'}", "allowedPattern"},
		{"p: {type: String, allowedPattern: '(a)\\1'}", "allowedPattern"},
		{"p: {type: String, allowedPattern: '[a-z&&[^b]]'}", "intersection"},
		{"p: {type: String, default: xyz, maxChars: 2}", "default of p"},
		{"p: {type: String, default: [a]}", "a text is wanted"},
		{"p: {type: Integer, default: x}", "whole number"},
		{"p: {type: Boolean, default: 1}", "true or false"},
		{"p: {type: StringList, default: x}", "list of texts"},
		{"p: {type: StringMap, default: x}", "a map is wanted"},
		{"p: {type: MapList, default: [x]}", "list of maps"},
		{"p: {type: String, default: c, allowedValues: [a, b]}", "one of a, b"},
		{"p: {type: String, displayType: wide}", "textfield"},
		{"p: {type: String, interpolationType: TEXT}", "ENV_VAR"},
		{"p: {type: String, minChars: -1}", "number from 0"},
		{"p: {type: StringList, minItems: 1, default: []}", "at least 1"},
	} {
		refused(t, "schemaVersion: '2.2'\nparameters:\n  "+c.parameter+"\nmainSteps:\n- {name: a, action: aws:runShellScript, inputs: {runCommand: [ls]}}\n", "line 3", c.want)
	}
}

func TestJSONAndYAMLMeanTheSame(t *testing.T) {
	yaml := "schemaVersion: 2.2\nparameters:\n  p: {type: Integer, default: 5}\nmainSteps:\n- name: a\n  action: aws:runShellScript\n  inputs:\n    timeoutSeconds: 7.0\n    runCommand: [\"echo {{p}}\"]\n"
	json := "\t{\"schemaVersion\":\"2.2\",\n\t\"parameters\":{\"p\":{\"type\":\"Integer\",\"default\":\"5\"}},\n\t\"mainSteps\":[{\"name\":\"a\",\"action\":\"aws:runShellScript\",\"inputs\":{\"timeoutSeconds\":\"7\",\"runCommand\":[\"echo {{p}}\"]}}]}\n"
	var plans []string
	for _, text := range []string{yaml, json} {
		plan := planOf(t, text, nil)
		if plan.Steps[0].Timeout != 7_000 {
			t.Errorf("timeout %d", plan.Steps[0].Timeout)
		}
		plans = append(plans, string(plan.Steps[0].Script)+strings.Join(plan.Steps[0].Env, " "))
	}
	if plans[0] != plans[1] || plans[0] != "echo \"${SSM_p}\"\nSSM_p=5" {
		t.Errorf("%q", plans)
	}
}
