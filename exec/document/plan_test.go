package document

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/muster-fleet/muster/exec/steps"
)

func parsed(t testing.TB, text string) *Document {
	t.Helper()
	d, err := Parse([]byte(text))
	if err != nil {
		t.Fatalf("%v, in\n%s", err, text)
	}
	return d
}

func planWith(t testing.TB, text string, h Host, lib Library, args ...Argument) (steps.Plan, error) {
	t.Helper()
	d := parsed(t, text)
	v, err := d.Complete(args)
	if err != nil {
		t.Fatal(err)
	}
	return d.Plan(v, h, lib)
}

func planOf(t testing.TB, text string, lib Library, args ...Argument) steps.Plan {
	t.Helper()
	plan, err := planWith(t, text, Host{Platform: Linux}, lib, args...)
	if err == nil {
		err = plan.Check()
	}
	if err != nil {
		t.Fatalf("%v, in\n%s", err, text)
	}
	return plan
}

func inputsOf[T any](t *testing.T, s steps.Step) T {
	t.Helper()
	var in T
	if err := json.Unmarshal(s.Inputs, &in); err != nil {
		t.Fatalf("%s: %v", s.Inputs, err)
	}
	return in
}

const oneStep = "schemaVersion: '%s'\nparameters:\n  p: {type: String, default: v}\n  m: {type: StringMap, default: {path: '/a'}}\n  l: {type: StringList, default: [a, b c]}\nmainSteps:\n- name: a\n  action: %s\n  inputs: %s\n"

func planned(t *testing.T, action, inputs string, args ...Argument) steps.Step {
	t.Helper()
	return planOf(t, fmt.Sprintf(oneStep, "2.2", action, inputs), nil, args...).Steps[0]
}

func TestAWholeScriptIsRawShell(t *testing.T) {
	for _, inputs := range []string{"{runCommand: '{{ p }}'}", "{runCommand: ['{{ p }}']}", "{runCommand: '{{ l }}'}"} {
		d := parsed(t, fmt.Sprintf(oneStep, "2.2", "aws:runShellScript", inputs))
		if !d.RawShell() {
			t.Errorf("%s is raw shell", inputs)
		}
	}
	s := planned(t, "aws:runShellScript", "{runCommand: '{{ l }}'}", Argument{"l", `["#!/bin/bash","echo {{ p }} $$"]`})
	if got := string(s.Script); got != "#!/bin/bash\necho {{ p }} $$\n" {
		t.Errorf("%q", got)
	}
	if slices.ContainsFunc(s.Env, func(kv string) bool { return strings.HasPrefix(kv, "SSM_l=") }) {
		t.Error("the script is in the environment, too")
	}
	if parsed(t, fmt.Sprintf(oneStep, "2.2", "aws:runShellScript", "{runCommand: ['echo {{ p }}']}")).RawShell() {
		t.Error("a value as an argument is not raw shell")
	}
}

func TestRawShellSeesWhereCodeComesFrom(t *testing.T) {
	for _, c := range []struct {
		action, inputs string
		raw            bool
	}{
		{"aws:downloadContent", "{sourceType: HTTP, sourceInfo: '{{ m }}'}", true},
		{"aws:downloadContent", `{sourceType: HTTP, sourceInfo: {url: "https://x/{{ p }}"}}`, true},
		{"aws:runDocument", "{documentType: LocalPath, documentPath: '{{ p }}'}", true},
		{"aws:runDocument", "{documentType: LocalPath, documentPath: x, documentParameters: '{{ m }}'}", true},
		{"aws:runDocument", "{documentType: SSMDocument, documentPath: '{{ p }}'}", true},
		{"aws:runDocument", "{documentType: SSMDocument, documentPath: 'AWS-{{ p }}'}", true},
		{"aws:runDocument", "{documentType: SSMDocument, documentPath: AWS-RunShellScript, documentParameters: {commands: ['{{ p }}']}}", true},
		{"aws:runDocument", "{documentType: SSMDocument, documentPath: AWS-RunShellScript, documentParameters: {commands: [ls]}}", false},
		{"aws:runDocument", "{documentType: SSMDocument, documentPath: AWS-ConfigurePackage, documentParameters: {name: '{{ p }}', action: Install}}", false},
		{"aws:runDocument", "{documentType: SSMDocument, documentPath: Other, documentParameters: {name: '{{ p }}'}}", false},
		{"aws:runShellScript", "{runCommand: [ls, '{{ p }}', ls]}", true},
	} {
		if got := parsed(t, fmt.Sprintf(oneStep, "2.2", c.action, c.inputs)).RawShell(); got != c.raw {
			t.Errorf("%s %s: raw %v", c.action, c.inputs, got)
		}
	}
}

func TestStepsCarryTheirFlow(t *testing.T) {
	plan := planOf(t, head+`  timeoutSeconds: 9
  maxAttempts: 3
  inputs: {runCommand: [ls], onFailure: successAndExit, onSuccess: exit, workingDirectory: /x, environment: {A: b}}
- name: b
  action: aws:runShellScript
  finallyStep: "true"
  inputs: {runCommand: [ls]}
`, nil)
	a, b := plan.Steps[0], plan.Steps[1]
	if a.Timeout != 9_000 || a.Attempts != 3 || a.OnFailure != steps.SuccessAndExit || a.OnSuccess != steps.Exit || a.Dir != "/x" || a.Finally {
		t.Errorf("%+v", a)
	}
	if !slices.Equal(a.Env, []string{"A=b"}) || a.ScriptName != "_script.sh" || a.Action != "aws:runShellScript" {
		t.Errorf("%+v", a)
	}
	if !b.Finally || b.Timeout != 3_600_000 || b.OnFailure != steps.GoOn {
		t.Errorf("%+v", b)
	}
}

func TestTimeoutsFromValues(t *testing.T) {
	text := fmt.Sprintf(oneStep, "2.2", "aws:runShellScript", "{runCommand: [ls], timeoutSeconds: '{{ p }}'}")
	for value, want := range map[string]int64{`"20"`: 20_000, `""`: 3_600_000, `"172800"`: 172_800_000} {
		if got := planOf(t, text, nil, Argument{"p", value}).Steps[0].Timeout; got != want {
			t.Errorf("%s: %d", value, got)
		}
	}
	for _, value := range []string{`"0"`, `"-1"`, `"172801"`, `"x"`, `"1e3"`} {
		if _, err := planWith(t, text, Host{Platform: Linux}, nil, Argument{"p", value}); err == nil || !strings.Contains(err.Error(), "line 9") {
			t.Errorf("%s: %v", value, err)
		}
	}
}

func TestPreconditionsDecideInThePlan(t *testing.T) {
	for _, c := range []struct {
		when, platform string
		want           steps.Status
	}{
		{"[platformType, Linux]", "Linux", ""},
		{"[LINUX, platformtype]", "Linux", ""},
		{"[platformType, Windows]", "Linux", steps.Skipped},
		{"[platformType, MacOS]", "Linux", steps.Skipped},
		{"['{{ p }}', v]", "Linux", ""},
		{"[v, '{{p}}']", "Linux", ""},
		{"['{{ p }}', V]", "Linux", steps.Skipped},
		{"['x{{ p }}', xv]", "Linux", ""},
	} {
		text := fmt.Sprintf(oneStep, "2.2", "aws:runShellScript\n  precondition: {StringEquals: "+c.when+"}", "{runCommand: [ls]}")
		plan, err := planWith(t, text, Host{Platform: c.platform}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := plan.Steps[0].Verdict; got != c.want || (got != "") != (plan.Steps[0].Why != "") {
			t.Errorf("%s: %q (%s)", c.when, got, plan.Steps[0].Why)
		}
	}
}

func TestActionsOfOtherPlatforms(t *testing.T) {
	for schema, want := range map[string]steps.Status{"2.2": steps.Skipped, "2.0": steps.Failed} {
		plan := planOf(t, fmt.Sprintf(oneStep, schema, "aws:psModule", "{runCommand: [x], anything: y}"), nil)
		if plan.Steps[0].Verdict != want || plan.Steps[0].Why == "" {
			t.Errorf("schema %s: %+v", schema, plan.Steps[0])
		}
	}
	// A script for Windows alone is no reason to refuse the document.
	parsed(t, fmt.Sprintf(oneStep, "2.2", "aws:runPowerShellScript\n  precondition: {StringEquals: [platformType, Windows]}", "{runCommand: ['iex {{ p }}']}"))
}

func TestActsGetTheirInputs(t *testing.T) {
	d := inputsOf[Download](t, planned(t, "aws:downloadContent", `{sourceType: HTTP, sourceInfo: '{"url": "https://x/{{ p }}", "allowInsecureDownload": "true"}', destinationPath: "a/{{ p }}"}`, Argument{"p", `"q\",\"x\":\"y"`}))
	if d.Source.URL != `https://x/q","x":"y` || !d.Source.AllowInsecureDownload || d.Destination != `a/q","x":"y` {
		t.Errorf("a value broke out of its place: %+v", d)
	}
	d = inputsOf[Download](t, planned(t, "aws:downloadContent", "{sourceType: LocalPath, sourceInfo: '{{ m }}'}"))
	if d.Source.Path != "/a" {
		t.Errorf("%+v", d)
	}
	d = inputsOf[Download](t, planned(t, "aws:downloadContent", "{sourceType: SSMDocument, sourceInfo: {name: AWS-RunShellScript}}"))
	if !strings.Contains(d.Text, "runShellScript") {
		t.Errorf("%+v", d)
	}
	p := inputsOf[Package](t, planned(t, "aws:configurePackage", "{name: '{{ p }}', action: Uninstall, additionalArguments: '{}'}"))
	if p != (Package{Name: "v", Action: "Uninstall"}) {
		t.Errorf("%+v", p)
	}
	k := inputsOf[Docker](t, planned(t, "aws:runDockerAction", "{action: Run, image: 'x:{{ p }}', volume: '{{ l }}', env: A=b, cpuShares: '5', cmd: ''}"))
	if k.Image != "x:v" || !slices.Equal(k.Volume, []string{"a", "b c"}) || !slices.Equal(k.Env, []string{"A=b"}) || k.CPUShares != 5 {
		t.Errorf("%+v", k)
	}
	if k = inputsOf[Docker](t, planned(t, "aws:configureDocker", "{action: Install}")); !k.Configure || k.Action != "Install" {
		t.Errorf("%+v", k)
	}
	if i := inputsOf[Inventory](t, planned(t, "aws:softwareInventory", "{applications: Enabled, files: '[{\"Path\":\"/x\"}]'}")); len(i.Items) != 2 {
		t.Errorf("%+v", i)
	}
	if a := inputsOf[Association](t, planned(t, "aws:refreshAssociation", "{associationIds: '{{ l }}'}")); len(a.IDs) != 2 {
		t.Errorf("%+v", a)
	}
	if u := inputsOf[Upgrade](t, planned(t, "aws:updateSsmAgent", "{agentName: x, targetVersion: '{{ p }}', allowDowngrade: 'True'}")); u.TargetVersion != "v" || !u.AllowDowngrade {
		t.Errorf("%+v", u)
	}
}

func TestArgvTakesValuesAsTheyAre(t *testing.T) {
	s := planned(t, "muster:run", `{argv: [ls, -l, "{{ p }}", "x{{ p }}'{{ l }}", "{{ l }}"]}`, Argument{"p", `"$(x) 'y"`})
	want := []string{"ls", "-l", "$(x) 'y", `x$(x) 'y'["a","b c"]`, "a", "b c"}
	if !slices.Equal(s.Argv, want) {
		t.Errorf("%q", s.Argv)
	}
	// One word alone would be a shell line: it is made one that runs the word and nothing else.
	if s = planned(t, "muster:run", `{argv: ["it's; ls"]}`); !slices.Equal(s.Argv, []string{`exec 'it'\''s; ls'`}) {
		t.Errorf("%q", s.Argv)
	}
}

func TestNestedDocuments(t *testing.T) {
	outer := "schemaVersion: '2.2'\nparameters: {p: {type: String, default: v}}\nmainSteps:\n- name: a\n  action: aws:runDocument\n  inputs: {documentType: SSMDocument, documentPath: 'Middle:3', documentParameters: {x: 'a {{ p }}'}}\n"
	middle := strings.NewReplacer("{p: ", "{x: ", "Middle:3", "Inner", "x: 'a {{ p }}'", "y: '{{ x }}'").Replace(outer)
	inner := "schemaVersion: '2.2'\nparameters: {y: {type: String, maxChars: 5}}\nmainSteps:\n- {name: a, action: aws:runShellScript, inputs: {runCommand: ['echo {{ y }}']}}\n"
	lib := func(name, version string) (*Document, bool) {
		switch name + ":" + version {
		case "Middle:3":
			return parsed(t, middle), true
		case "Inner:":
			return parsed(t, inner), true
		}
		return nil, false
	}
	d := parsed(t, outer)
	v, _ := d.Complete(nil)
	if uses, err := d.Uses(v); err != nil || !slices.Equal(uses, []Use{{"Middle", "3"}}) {
		t.Errorf("%v, %v", uses, err)
	}
	n := inputsOf[Nested](t, planOf(t, outer, lib).Steps[0])
	if n.Text != middle || n.Depth != 1 || n.Name != "Middle:3" || string(n.Parameters["x"]) != `"a v"` || len(n.Library) != 1 || n.Library[0].Text != inner {
		t.Errorf("%+v", n)
	}
	// What the act does with it: the same again, one deeper, with what it was handed.
	m := parsed(t, n.Text)
	mv, err := m.Complete(n.Arguments())
	if err != nil {
		t.Fatal(err)
	}
	plan, err := m.Plan(mv, Host{Linux, n.Depth}, n.Find())
	if err != nil {
		t.Fatal(err)
	}
	if n = inputsOf[Nested](t, plan.Steps[0]); n.Depth != 2 || n.Text != inner {
		t.Errorf("%+v", n)
	}
	// What a nested document does not take is refused before anything runs.
	if _, err := planWith(t, outer, Host{Platform: Linux}, lib, Argument{"p", `"12345678"`}); err == nil || !strings.Contains(err.Error(), "at most 5") {
		t.Errorf("%v", err)
	}
	if _, err := planWith(t, outer, Host{Platform: Linux}, nil); err == nil || !strings.Contains(err.Error(), "not among those") {
		t.Errorf("%v", err)
	}
	if _, err := planWith(t, outer, Host{Linux, 2}, lib); err == nil || !strings.Contains(err.Error(), "3 deep") {
		t.Errorf("%v", err)
	}
}

func TestADocumentFromAFileCountsAsALevel(t *testing.T) {
	text := fmt.Sprintf(oneStep, "2.2", "aws:runDocument", "{documentType: LocalPath, documentPath: ./x/../y.yaml, documentParameters: '{}'}")
	for depth := range MaxDepth {
		plan, err := planWith(t, text, Host{Linux, depth}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if n := inputsOf[Nested](t, plan.Steps[0]); n.Path != "y.yaml" || n.Depth != depth+1 {
			t.Errorf("%+v", n)
		}
	}
	if _, err := planWith(t, text, Host{Linux, MaxDepth}, nil); err == nil || !strings.Contains(err.Error(), "line 7") {
		t.Errorf("%v", err)
	}
}

func TestDocumentsThatRunThemselvesEnd(t *testing.T) {
	self := "schemaVersion: '2.2'\nmainSteps:\n"
	for i := range 100 {
		self += fmt.Sprintf("- {name: s%d, action: aws:runDocument, inputs: {documentType: SSMDocument, documentPath: Self}}\n", i)
	}
	d := parsed(t, self)
	_, err := d.Plan(Values{}, Host{Platform: Linux}, func(string, string) (*Document, bool) { return d, true })
	if err == nil || !strings.Contains(err.Error(), "deep") {
		t.Errorf("%v", err)
	}
	leaf := parsed(t, head+"  inputs: {runCommand: [ls]}\n")
	wide := parsed(t, strings.ReplaceAll(self, "Self", "Leaf"))
	_, err = d.Plan(Values{}, Host{Platform: Linux}, func(name, _ string) (*Document, bool) {
		if name == "Leaf" {
			return leaf, true
		}
		return wide, true
	})
	if err == nil || !strings.Contains(err.Error(), "more than 500") {
		t.Errorf("%v", err)
	}
}

func TestBuiltInDocuments(t *testing.T) {
	raw := map[string]bool{"AWS-RunShellScript": true, "AWS-RunPowerShellScript": true, "AWS-RunDocument": true, "AWS-RunRemoteScript": true, "AWS-ApplyAnsiblePlaybooks": true}
	args := map[string][]string{
		"AWS-RunShellScript": {"commands=ls"}, "AWS-RunPowerShellScript": {"commands=ls"}, "AWS-UpdateSSMAgent": {"version=1.2.3"},
		"AWS-RunDocument":           {"sourceType=LocalPath", `sourceInfo={"path":"/x"}`, `documentParameters={"a":"b"}`},
		"AWS-RunRemoteScript":       {"sourceType=HTTP", `sourceInfo={"url":"https://x"}`, "commandLine=sh ./x"},
		"AWS-ApplyAnsiblePlaybooks": {"SourceType=Git", `SourceInfo={"repository":"x"}`}, "AWS-ConfigurePackage": {"action=Install", "name=nginx"},
	}
	names := []string{}
	for _, b := range BuiltIn() {
		names = append(names, b.Name)
		d := parsed(t, string(b.Text))
		if d.RawShell() != raw[b.Name] {
			t.Errorf("%s: raw shell %v", b.Name, d.RawShell())
		}
		given, err := d.ParseArguments(args[b.Name])
		if err != nil {
			t.Fatalf("%s: %v", b.Name, err)
		}
		v, err := d.Complete(given)
		if err != nil {
			t.Fatalf("%s: %v", b.Name, err)
		}
		plan, err := d.Plan(v, Host{Platform: Linux}, nil)
		if err == nil {
			err = plan.Check()
		}
		if err != nil {
			t.Errorf("%s: %v", b.Name, err)
		}
		for _, p := range d.Parameters() {
			if p.Description == "" {
				t.Errorf("%s: %s is not described", b.Name, p.Name)
			}
		}
	}
	if !slices.IsSorted(names) || len(names) != 7 {
		t.Errorf("%q", names)
	}
}

// TestRemoteScriptRunsItsLine runs the scripts of AWS-RunRemoteScript's and of the guides' shell steps, as their host
// would.
func TestRemoteScriptRunsItsLine(t *testing.T) {
	text, _ := builtIn("AWS-RunRemoteScript")
	d := parsed(t, string(text))
	given, err := d.ParseArguments([]string{"sourceType=HTTP", `sourceInfo={"url":"https://x"}`, "commandLine=for i in 1 2; do echo \"line $i\"; done | sort -r"})
	if err != nil {
		t.Fatal(err)
	}
	v, err := d.Complete(given)
	if err != nil {
		t.Fatal(err)
	}
	plan, err := d.Plan(v, Host{Platform: Linux}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, shell := range shells(t) {
		if out := run(t, shell, plan.Steps[1]); out != "line 2\nline 1\n" {
			t.Errorf("%s: %q", shell, out)
		}
	}
}

func run(t *testing.T, shell string, s steps.Step) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(file, s.Script, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), shell, file)
	cmd.Dir = t.TempDir()
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=/h", "USER=u"}, s.Env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%s: %v\n%s", shell, err, out)
	}
	return string(out)
}

func TestGuidesSayWhatTheyWereTold(t *testing.T) {
	all := guides(t)
	greeting := `Hello, $USER; it's "quoted" ` + "`here`"
	for _, shell := range shells(t) {
		got := run(t, shell, planOf(t, string(all["01-greeting.yaml"]), nil).Steps[0])
		want := greeting + "\ndouble - " + greeting + "\nsingle - " + greeting + "\nheredoc - " + greeting +
			"\nliteral heredoc, where $HOME stays - " + greeting + "\n1 line(s)\n"
		if got != want {
			t.Errorf("%s:\n%s\nwanted\n%s", shell, got, want)
		}
		if got = run(t, shell, planOf(t, string(all["12-config-file.json"]), nil).Steps[0]); got != "4\nwritten for www-data\n" {
			t.Errorf("%s: %q", shell, got)
		}
		got = run(t, shell, planOf(t, string(all["09-types.yaml"]), nil).Steps[0])
		if !strings.HasPrefix(got, `words are ["one","two words","it's three"]`+"\n"+`labels are {"stage":"test","team":"web"}`+"\n"+`rules are [{"open":true,"port":80},{"open":false,"port":443}]`+"\nround 1 of 3\n") || !strings.HasSuffix(got, "next is 4\n") {
			t.Errorf("%s: %s", shell, got)
		}
		if got = run(t, shell, planOf(t, string(all["13-scripts-given.yaml"]), nil).Steps[0]); !strings.HasPrefix(got, "before\na check of ") || !strings.HasSuffix(got, "\nafter\n") {
			t.Errorf("%s: %s", shell, got)
		}
	}
	if got := run(t, "bash", planOf(t, string(all["10-environment.yaml"]), nil).Steps[0]); !strings.Contains(got, "3 names in test\nit arrived unchanged\n") {
		t.Error(got)
	}
}
