package document

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/muster-fleet/muster/exec/steps"
	"github.com/muster-fleet/muster/node/fleet"
)

// stored is what the tests' commands pin.
var stored = []Pinned{
	{Name: "/app/db", Selector: "", Value: "db01"},
	{Name: "/app/db", Selector: "3", Value: "db03"},
	{Name: "/app/key", Secret: true},
	{Name: "/app/key", Selector: "pending", Secret: true},
	{Name: "hosts", List: true, Value: "a,b c"},
	{Name: "n", Value: "7"},
	{Name: "script", Value: "echo hello"},
}

// secretValues are those of stored's secrets, in order.
var secretValues = [][]byte{[]byte("s3cr3t"), []byte("p\"e'n $(d)ing\n")}

func boundPlan(t testing.TB, text string, lib Library, args ...Argument) (steps.Plan, error) {
	t.Helper()
	d := parsed(t, text).Bind(NewStore(stored, "command"))
	v, err := d.Complete(args)
	if err != nil {
		return steps.Plan{}, err
	}
	plan, err := d.Plan(v, Host{Platform: Linux}, lib)
	if err == nil {
		err = plan.Check()
	}
	if err == nil {
		err = plan.CheckSecrets(len(secretValues))
	}
	return plan, err
}

// openedStep returns a plan's first step as its process gets it.
func openedStep(t testing.TB, text string, args ...Argument) steps.Step {
	t.Helper()
	plan, err := boundPlan(t, text, nil, args...)
	if err != nil {
		t.Fatalf("%v, in\n%s", err, text)
	}
	if raw := fmt.Sprintf("%+v", plan); strings.Contains(raw, "s3cr3t") || strings.Contains(raw, "marker") {
		t.Fatalf("a secret in a plan: %s", raw)
	}
	s, err := plan.Steps[0].Open(secretValues)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func stepWith(action, inputs string) string {
	return fmt.Sprintf("schemaVersion: '2.2'\nparameters:\n  p: {type: String, default: v}\n  l: {type: StringList, default: []}\n  i: {type: Integer, default: 1}\n"+
		"  m: {type: StringMap, default: {}}\n  a: {type: String, default: x, allowedValues: [x, db01]}\n  q: {type: String, default: x, maxChars: 3}\n"+
		"mainSteps:\n- name: a\n  action: %s\n  inputs: %s\n", action, inputs)
}

func script(text string) string {
	return stepWith("aws:runShellScript", "{runCommand: ["+quoted(text)+"]}")
}

func quoted(text string) string {
	out, _ := json.Marshal(text)
	return string(out)
}

func TestStoreReferencesAreRead(t *testing.T) {
	for text, want := range map[string]StoreRef{
		"ssm:/a/b":                       {"/a/b", "", false},
		"ssm:a.b-c_D":                    {"a.b-c_D", "", false},
		"ssm:/a":                         {"a", "", false},
		"ssm:/a:3":                       {"a", "3", false},
		"ssm-secure:/a/b:x.1":            {"/a/b", "x.1", true},
		"ssm:/muster/public/documents/x": {"/muster/public/documents/x", "", false},
	} {
		got, err := ParseStoreRef(text)
		if err != nil || got != want {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
		again, err := ParseStoreRef(got.String())
		if err != nil || again != got {
			t.Errorf("%s: %s is read as %+v, %v", text, got, again, err)
		}
	}
	for _, text := range []string{"ssm:", "ssm:/", "ssm:a/b", "ssm:/a/", "ssm://a", "ssm:/a:", "ssm:/a:1:2", "ssm:/a:1x", "ssm:/a b", "ssm:/ä", "ssm:{{x", "p", "global:x",
		"ssm:/" + strings.Repeat("a", 1011)} {
		if got, err := ParseStoreRef(text); err == nil {
			t.Errorf("%s: read as %+v", text, got)
		}
	}
}

// TestPlainParametersGoWhereValuesGo: as the document's own parameters do, in scripts by a variable.
func TestPlainParametersGoWhereValuesGo(t *testing.T) {
	s := openedStep(t, script("x=1; use {{ ssm:/app/db }} '{{ssm:/app/db:3}}' {{ ssm:/app/db }}"))
	if want := `x=1; use "${MUSTER_PARAM_1}" ''"${MUSTER_PARAM_2}"'' "${MUSTER_PARAM_1}"` + "\n"; string(s.Script) != want {
		t.Errorf("%s, wanted %s", s.Script, want)
	}
	for _, kv := range []string{"MUSTER_PARAM_1=db01", "MUSTER_PARAM_2=db03", "SSM_p=v"} {
		if !slices.Contains(s.Env, kv) {
			t.Errorf("%s is missing among %q", kv, s.Env)
		}
	}
	if s := openedStep(t, stepWith("muster:run", "{argv: [ping, 'to-{{ ssm:/app/db }}'], workingDirectory: '/{{ ssm:n }}'}")); s.Argv[1] != "to-db01" || s.Dir != "/7" {
		t.Errorf("%+v", s)
	}
	if s := openedStep(t, stepWith("aws:runShellScript", "{runCommand: ls, timeoutSeconds: '{{ ssm:n }}', environment: {DB: 'x {{ ssm:/app/db }}'}}")); s.Timeout != 7000 || !slices.Contains(s.Env, "DB=x db01") {
		t.Errorf("%+v", s)
	}
	whole := script("{{ ssm:script }}")
	if s := openedStep(t, whole); string(s.Script) != "echo hello\n" {
		t.Errorf("%s", s.Script)
	}
	if !parsed(t, whole).RawShell() || parsed(t, script("echo {{ ssm:/app/db }}")).RawShell() {
		t.Error("what is a script is raw shell, and what is a word is not")
	}
}

func TestValuesMayComeFromTheStore(t *testing.T) {
	show := script("echo {{ p }} {{ l }} {{ i }} {{ a }}")
	for _, c := range []struct {
		name, value, want string
	}{
		{"p", `"{{ssm:/app/db}}"`, "SSM_p=db01"},
		{"p", `" {{ ssm:/app/db:3 }} "`, "SSM_p=db03"},
		{"i", `"{{ ssm:n }}"`, "SSM_i=7"},
		{"l", `"{{ ssm:hosts }}"`, `SSM_l=["a","b c"]`},
		{"l", `"{{ ssm:/app/db }}"`, `SSM_l=["db01"]`},
		{"l", `["x","{{ ssm:hosts }}"]`, `SSM_l=["x","a,b c"]`},
		{"a", `"{{ ssm:/app/db }}"`, "SSM_a=db01"},
		{"p", `"x{{ ssm:/app/db }}"`, "SSM_p=x{{ ssm:/app/db }}"}, // no reference: what was signed as a value is one
	} {
		if s := openedStep(t, show, Argument{c.name, c.value}); !slices.Contains(s.Env, c.want) {
			t.Errorf("%s=%s: %s is missing among %q", c.name, c.value, c.want, s.Env)
		}
	}
	for _, c := range []struct{ name, value, want string }{
		{"p", `"{{ ssm:/other }}"`, "not among the parameters that were pinned"},
		{"p", `"{{ ssm:/app/db:4 }}"`, "not among the parameters that were pinned"},
		{"p", `"{{ ssm:/app/key }}"`, "is a secret"},
		{"p", `"{{ ssm-secure:/app/db }}"`, "is no secret"},
		{"i", `"{{ ssm:/app/db }}"`, "whole number"},
		{"a", `"{{ ssm:n }}"`, "is not one of"},
		{"m", `"{{ ssm:n }}"`, "a map is wanted"},
		{"a", `"{{ ssm-secure:/app/key }}"`, "cannot be a secret"},
		{"q", `"{{ ssm-secure:/app/key }}"`, "cannot be a secret"},
		{"i", `"{{ ssm-secure:/app/key }}"`, "cannot be a secret"},
		{"l", `"{{ ssm-secure:/app/key }}"`, "cannot be a secret"},
		{"l", `["{{ ssm-secure:/app/key }}"]`, "cannot be a secret"},
		{"p", quoted(NewStore(nil, "command").word(1)), "stands for a secret"},
	} {
		if _, err := boundPlan(t, show, nil, Argument{c.name, c.value}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s=%s: %v, wanted %s", c.name, c.value, err, c.want)
		}
	}
}

// TestWhatIsSignedOfStoreValuesIsTheReference: so that what a command says is what its sender said, and secrets are in none.
func TestWhatIsSignedOfStoreValuesIsTheReference(t *testing.T) {
	d := parsed(t, strings.Replace(script("echo {{ p }}"), "default: v}", "default: '{{ssm-secure:/app/key}}'}", 1))
	if _, err := d.ParseArguments([]string{"i={{ssm:n}}", "l=x", "l={{ ssm:hosts }}"}); err == nil {
		t.Error("a list and a reference to another were joined")
	}
	given, err := d.ParseArguments([]string{"i={{ssm:n}}"})
	if err != nil {
		t.Fatal(err)
	}
	refs, err := d.StoreRefs(given)
	if err != nil || !slices.Equal(refs, []StoreRef{{"/app/key", "", true}, {"n", "", false}}) {
		t.Errorf("%v, %v", refs, err)
	}
	if _, err := d.Complete(given); err == nil || !strings.Contains(err.Error(), "not among") {
		t.Errorf("without a store: %v", err)
	}
	bound := d.Bind(NewStore(stored, "x"))
	v, err := bound.Complete(given)
	if err != nil {
		t.Fatal(err)
	}
	signed := fmt.Sprint(v.Arguments())
	for _, want := range []string{`{i "{{ ssm:n }}"}`, `{p "{{ ssm-secure:/app/key }}"}`} {
		if !strings.Contains(signed, want) {
			t.Errorf("%s is missing in %s", want, signed)
		}
	}
	again, err := d.Bind(NewStore(stored, "y")).Complete(v.Arguments())
	if err != nil || fmt.Sprint(again.Arguments()) != signed {
		t.Errorf("%v, %v", again.Arguments(), err)
	}
}

// TestSecretsReachEnvironmentAndInput and nothing else.
func TestSecretsReachEnvironmentAndInput(t *testing.T) {
	for text, want := range map[string]string{
		script("printf %s {{ ssm-secure:/app/key }} | docker login --password-stdin"):                                         "MUSTER_PARAM_1=s3cr3t",
		script("PGPASSWORD={{ ssm-secure:/app/key:pending }} psql"):                                                           "MUSTER_PARAM_1=" + string(secretValues[1]),
		script("curl -H @- x <<EOF\nBearer {{ ssm-secure:/app/key }}\nEOF"):                                                   "MUSTER_PARAM_1=s3cr3t",
		script("say() { cat >/dev/null; }; say {{ ssm-secure:/app/key }}"):                                                    "MUSTER_PARAM_1=s3cr3t",
		stepWith("aws:runShellScript", "{runCommand: ls, environment: {A: 'u:{{ ssm-secure:/app/key }}@{{ ssm:/app/db }}'}}"): "A=u:s3cr3t@db01",
		stepWith("muster:run", "{argv: [env], environment: {A: '{{ ssm-secure:/app/key }}'}}"):                                "A=s3cr3t",
		stepWith("aws:runPowerShellScript", "{runCommand: ['Write-Output {{ ssm-secure:/app/key }}']}"):                       "MUSTER_PARAM_1=s3cr3t",
	} {
		if s := openedStep(t, text); !slices.Contains(s.Env, want) {
			t.Errorf("%s: %q is missing among %q", text, want, s.Env)
		}
	}
	if s := openedStep(t, script("printf %s {{ p }} | x"), Argument{"p", `"{{ ssm-secure:/app/key }}"`}); !slices.Contains(s.Env, "SSM_p=s3cr3t") {
		t.Errorf("%q", s.Env)
	}
	s := openedStep(t, stepWith("aws:downloadContent", `{sourceType: Git, sourceInfo: '{"repository":"git@h:r","privateSSHKey":"{{ ssm-secure:/app/key:pending }}"}'}`))
	var in Download
	if err := json.Unmarshal(s.Inputs, &in); err != nil || in.Source.PrivateSSHKey != string(secretValues[1]) {
		t.Errorf("%s, %v", s.Inputs, err)
	}
}

func TestSecretsAreRefusedElsewhere(t *testing.T) {
	key := "{{ ssm-secure:/app/key }}"
	for text, want := range map[string]string{
		script("curl -u x:" + key):                          "as an argument of curl",
		script("sudo -u x env A='" + key + "' y"):           "as an argument of sudo",
		script("echo $(cat " + key + ")"):                   "as an argument of cat",
		script(key):                                         "as a script",
		script("true\n" + key):                              "as the name of a command",
		script(key + " x"):                                  "as the name of a command",
		stepWith("muster:run", "{argv: [echo, '"+key+"']}"): "a secret in argv",
		stepWith("muster:run", "{argv: [echo, 'a'], workingDirectory: '/"+key+"'}"):         "a secret in workingDirectory",
		stepWith("aws:runShellScript", "{runCommand: ls, timeoutSeconds: '"+key+"'}"):       "a secret in timeoutSeconds",
		stepWith("aws:configurePackage", "{name: '"+key+"', action: Install}"):              "a secret in name",
		stepWith("aws:runDocument", "{documentType: SSMDocument, documentPath: '"+key+"'}"): "a secret in documentPath",
		stepWith("aws:runDockerAction", "{action: Run, image: a, env: ['A="+key+"']}"):      "a secret in env",
		stepWith("aws:runShellScript", "{runCommand: ['python3 -c '"+"'"+key+"'"+"'']}"):    "",
	} {
		_, err := Parse([]byte(text))
		if err == nil || !strings.HasPrefix(err.Error(), "line ") || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, wanted %s", text, err, want)
		}
	}
	given := Argument{"p", quoted(key)}
	for text, want := range map[string]string{
		script("curl -u x:{{ p }}"):                          "hands to a program as an argument",
		script("{{ p }}"):                                    "in a script's text",
		stepWith("muster:run", "{argv: [echo, 'x{{ p }}']}"): "a secret in argv",
		stepWith("aws:runShellScript", "{runCommand: ls, workingDirectory: '/{{ p }}'}"):                              "in the name of a folder",
		stepWith("aws:configurePackage", "{name: '{{ p }}', action: Install}"):                                        "in the inputs of aws:configurePackage",
		stepWith("aws:runDockerAction", "{action: Run, image: a, env: ['A={{ p }}']}"):                                "in the inputs of aws:runDockerAction",
		stepWith("aws:downloadContent", "{sourceType: HTTP, sourceInfo: {url: 'https://x/{{ p }}'}}"):                 "in another key of sourceInfo",
		stepWith("aws:runDocument", "{documentType: LocalPath, documentPath: x, documentParameters: {a: '{{ p }}'}}"): "nobody has seen yet",
	} {
		if plan, err := boundPlan(t, text, nil, given); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, wanted %s; %+v", text, err, want, plan)
		}
	}
	compared := strings.Replace(script("ls"), "  inputs", "  precondition: {StringEquals: ['{{ p }}', x]}\n  inputs", 1)
	if _, err := boundPlan(t, compared, nil, given); err == nil || !strings.Contains(err.Error(), "is compared with nothing") {
		t.Error(err)
	}
}

// printf is a program of its own to some shells (mksh, posh), and its arguments are for all to see: none of them gets a secret
// in its code.
func TestSecretsInCodeOfOtherShells(t *testing.T) {
	const key = "{{ ssm-secure:/app/key }}"
	for _, shell := range []string{"mksh", "ksh", "ksh93", "posh", "zsh", "zsh-static", "yash", "fish", "tcsh"} {
		for _, body := range []string{
			"#!/bin/" + shell + "\nprintf %s " + key, "#!/usr/bin/env " + shell + "\necho " + key, shell + " -c 'printf %s " + key + "'",
			shell + " <<EOF\nprintf %s " + key + "\nEOF", "echo 'printf %s " + key + "' | " + shell, shell + ` -c 'printf %s "$1"' x ` + key,
		} {
			if _, err := Parse([]byte(script(body))); err == nil {
				t.Errorf("taken: %s", body)
			}
		}
	}
}

// TestNestedDocumentsGetWhatTheyReferTo, with secrets put in when the step starts.
func TestNestedDocumentsGetWhatTheyReferTo(t *testing.T) {
	inner := func(body string) Library {
		return func(name, _ string) (*Document, bool) {
			d, err := Parse([]byte("schemaVersion: '2.2'\nparameters:\n  k: {type: String}\n  d: {type: String, default: '{{ ssm:/app/db:3 }}'}\nmainSteps:\n- name: in\n  action: aws:runShellScript\n  inputs: {runCommand: [" + quoted(body) + "]}\n"))
			if err != nil {
				t.Fatal(err)
			}
			return d, name == "Inner"
		}
	}
	outer := stepWith("aws:runDocument", "{documentType: SSMDocument, documentPath: Inner, documentParameters: {k: 'x{{ ssm-secure:/app/key:pending }}'}}")
	plan, err := boundPlan(t, outer, inner("printf %s {{ k }} {{ d }} {{ ssm-secure:/app/key }} {{ ssm:n }}"), Argument{"p", `"{{ ssm:n }}"`})
	if err != nil {
		t.Fatal(err)
	}
	s, err := plan.Steps[0].Open(secretValues)
	if err != nil {
		t.Fatal(err)
	}
	in := inputsOf[Nested](t, s)
	d, v, err := in.Complete(parsed(t, in.Text))
	if err != nil {
		t.Fatal(err)
	}
	nested, err := d.Plan(v, Host{Platform: Linux, Depth: 1}, in.Find())
	if err != nil {
		t.Fatal(err)
	}
	got, err := nested.Steps[0].Open(in.Secrets())
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"SSM_k=x" + string(secretValues[1]), "SSM_d=db03", "MUSTER_PARAM_1=s3cr3t", "MUSTER_PARAM_2=7"} {
		if !slices.Contains(got.Env, want) {
			t.Errorf("%q is missing among %q", want, got.Env)
		}
	}
	if strings.Contains(string(s.Inputs), "db01") {
		t.Error("it got what it does not refer to")
	}
	if _, err := boundPlan(t, outer, inner("curl {{ k }}")); err == nil || !strings.Contains(err.Error(), "as an argument") {
		t.Errorf("a secret came to a program's arguments by way of a nested document: %v", err)
	}
	bounded := func(name, version string) (*Document, bool) {
		d, ok := inner("echo {{ k }}")(name, version)
		d, err := Parse([]byte(strings.Replace(string(d.Text()), "{type: String}", "{type: String, allowedPattern: 's'}", 1)))
		return d, ok && err == nil
	}
	if _, err := boundPlan(t, outer, bounded); err == nil || !strings.Contains(err.Error(), "cannot be a secret") {
		t.Errorf("a secret was held against a pattern: %v", err)
	}
	if _, err := boundPlan(t, outer, inner("echo {{ ssm:/other }}")); err == nil || !strings.Contains(err.Error(), "not among") {
		t.Error(err)
	}
}

func TestEnvironmentValues(t *testing.T) {
	s := NewStore(stored, "x")
	plain, secret, err := s.Environment([]string{"A={{ssm:/app/db}}:5432", "B=1", "C=u:{{ ssm-secure:/app/key }}@{{ ssm:n }}", "B={{ ssm-secure:/app/key }}", "D={{ssm-secure:/app/key}}", "D=last", "E={{ p }}{{.Names}}"})
	if err != nil || !slices.Equal(plain, []string{"A=db01:5432", "D=last", "E={{ p }}{{.Names}}"}) {
		t.Errorf("%q, %v", plain, err)
	}
	opened, err := steps.Environment(secret, secretValues)
	if err != nil || !slices.Equal(opened, []string{"C=u:s3cr3t@7", "B=s3cr3t"}) {
		t.Errorf("%q, %v", opened, err)
	}
	refs, err := EnvironmentRefs([]string{"A={{ssm:/a:1}}{{ ssm:/a:1 }}", "B={{ ssm-secure:b }}", "{{ ssm:no }}=x"})
	if err != nil || !slices.Equal(refs, []StoreRef{{"a", "1", false}, {"b", "", true}}) {
		t.Errorf("%v, %v", refs, err)
	}
	for _, env := range []string{"A={{ ssm:/other }}", "A={{ ssm:a/b }}", "A={{ ssm-secure:n }}", "A={{ ssm:/app/key }}", "A=" + s.word(1)} {
		if plain, _, err := s.Environment([]string{env}); err == nil {
			t.Errorf("%s: %q", env, plain)
		}
	}
}

// TestSecretsComeOutWhereTheyMay: whatever a secret holds, its process finds exactly that.
func TestSecretsComeOutWhereTheyMay(t *testing.T) {
	text := stepWith("aws:downloadContent", "{sourceType: HTTP, sourceInfo: {url: 'https://x', password: 'a{{ ssm-secure:/app/key }}b{{ p }}'}}")
	plan, err := boundPlan(t, text, nil, Argument{"p", `"{{ ssm-secure:/app/key:pending }}"`})
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		values := [][]byte{[]byte(rapid.String().Draw(t, "a")), []byte(rapid.String().Draw(t, "b"))}
		s, err := plan.Steps[0].Open(values)
		if err != nil {
			t.Fatal(err)
		}
		var in Download
		if err := json.Unmarshal(s.Inputs, &in); err != nil || in.Source.Password != "a"+string(values[0])+"b"+string(values[1]) {
			t.Fatalf("%s, %v", s.Inputs, err)
		}
	})
}

// FuzzBind: whatever a document refers to, it is refused, or no word that stands for a secret is left in its plan.
func FuzzBind(f *testing.F) {
	for _, script := range []string{"echo {{ ssm:/app/db }} {{ ssm-secure:/app/key }}", "curl {{ ssm-secure:/app/key }}", "{{ ssm:script }}", "x=`{{ ssm:n }}`", "cat <<'E'\n{{ ssm-secure:/app/key:pending }}\nE"} {
		f.Add(script, "{{ ssm:/app/db }}", "A={{ ssm-secure:/app/key }}")
	}
	f.Add("{{ p }}", "{{ ssm-secure:/app/key }}", "A={{ssm:hosts}}")
	store := NewStore(stored, "fuzz")
	f.Fuzz(func(t *testing.T, body, value, env string) {
		if plain, _, err := store.Environment([]string{env}); err == nil && strings.Contains(fmt.Sprint(plain), store.marker) {
			t.Fatalf("%q", plain)
		}
		d, err := Parse([]byte(docWith(body)))
		if err != nil {
			return
		}
		guardedStep(t, d.steps[0])
		arg, err := json.Marshal(value)
		if err != nil {
			return
		}
		if _, err := d.StoreRefs([]Argument{{"p", string(arg)}}); err != nil && fleet.KindOf(err) != fleet.Invalid {
			t.Fatal(err)
		}
		d = d.Bind(store)
		v, err := d.Complete([]Argument{{"p", string(arg)}})
		if err != nil {
			return
		}
		plan, err := d.Plan(v, Host{Platform: Linux}, nil)
		if err != nil {
			return
		}
		if err := plan.CheckSecrets(len(secretValues)); err != nil {
			t.Fatal(err)
		}
		if text := fmt.Sprintf("%+v %s", plan, plan.Steps[0].Script); strings.Contains(text, store.marker) {
			t.Fatalf("a secret's place is left over: %s", text)
		}
	})
}

// guardedStep holds a step's script against what FuzzRewrite knows of references.
func guardedStep(t *testing.T, s *step) {
	t.Helper()
	c := s.compiled
	if c == nil || c.whole != nil || len(c.stored) == 0 || strings.Contains(joinedInput(s), "SSM_") || strings.Contains(joinedInput(s), "MUSTER_") {
		return
	}
	dialects, _ := dialectsOf(c.text)
	for _, dialect := range dialects {
		if file, err := parseShell(c.text, dialect); err == nil {
			guarded(t, c.text, file)
		}
	}
}

func joinedInput(s *step) string { return s.inputs.get("runCommand").joined() }

// TestASecretIsGivenToStepsThatNameIt and to no other: neither to those of the document that it was given to, nor to those
// of one that this hands it to.
func TestASecretIsGivenToStepsThatNameIt(t *testing.T) {
	const text = `schemaVersion: '2.2'
parameters:
  password: {type: String}
  pass: {type: String, default: plain}
  script: {type: String, default: ""}
mainSteps:
- {name: braces, action: 'aws:runShellScript', inputs: {runCommand: ["printf %s {{ password }} | cat"]}}
- {name: variable, action: 'aws:runShellScript', inputs: {runCommand: ['printf %s "${SSM_password}" | cat']}}
- {name: environment, action: 'muster:run', inputs: {argv: [psql], environment: {PGPASSWORD: "{{ password }}"}}}
- {name: value, action: 'aws:runShellScript', inputs: {runCommand: "{{ script }}"}}
- {name: pwsh, action: 'aws:runPowerShellScript', inputs: {runCommand: ["Write-Output {{ password }}"]}}
- {name: other, action: 'aws:runShellScript', inputs: {runCommand: ["tool {{ pass }}; echo $SSM_passwords $XSSM_password $SSM_password_"]}}
- {name: argv, action: 'muster:run', inputs: {argv: [tool, "{{ pass }}"]}}
- {name: finally, action: 'aws:runShellScript', inputs: {runCommand: ["true"], finallyStep: true}}
`
	given := []Argument{{"password", `"{{ ssm-secure:/app/key }}"`}, {"script", quoted(`psql "$SSM_password"`)}}
	check := func(where string, plan steps.Plan, secrets [][]byte) {
		t.Helper()
		if raw := fmt.Sprintf("%+v", plan); strings.Contains(raw, "s3cr3t") {
			t.Errorf("%s: a secret in a plan: %s", where, raw)
		}
		for i, s := range plan.Steps {
			s, err := s.Open(secrets)
			if err != nil {
				t.Fatal(err)
			}
			if has := slices.Contains(s.Env, "SSM_password=s3cr3t"); has != (i < 5) || has != strings.Contains(fmt.Sprint(s), "s3cr3t") {
				t.Errorf("%s, step %s: %q", where, s.Name, s.Env)
			}
			if !slices.Contains(s.Env, "SSM_pass=plain") {
				t.Errorf("%s, step %s has lost a plain value: %q", where, s.Name, s.Env)
			}
		}
	}
	plan, err := boundPlan(t, text, nil, given...)
	if err != nil {
		t.Fatal(err)
	}
	check("alone", plan, secretValues)

	outer := func(name string) string {
		return text[:strings.Index(text, "- {")] + "- {name: out, action: 'aws:runDocument', inputs: {documentType: SSMDocument, documentPath: " + name +
			", documentParameters: {password: '{{ password }}', script: '{{ script }}'}}}\n"
	}
	lib := func(name, _ string) (*Document, bool) {
		switch name {
		case "Inner":
			return parsed(t, text), true
		case "Middle":
			return parsed(t, outer("Inner")), true
		}
		return nil, false
	}
	nested := func(plan steps.Plan, secrets [][]byte) (steps.Plan, [][]byte) {
		t.Helper()
		s, err := plan.Steps[0].Open(secrets)
		if err != nil {
			t.Fatal(err)
		}
		in := inputsOf[Nested](t, s)
		d, v, err := in.Complete(parsed(t, in.Text))
		if err != nil {
			t.Fatal(err)
		}
		inner, err := d.Plan(v, Host{Platform: Linux, Depth: in.Depth}, in.Find())
		if err != nil {
			t.Fatal(err)
		}
		if err := inner.CheckSecrets(len(in.Secrets())); err != nil {
			t.Fatal(err)
		}
		return inner, in.Secrets()
	}
	plan, err = boundPlan(t, outer("Middle"), lib, given...)
	if err != nil {
		t.Fatal(err)
	}
	middle, secrets := nested(plan, secretValues)
	if raw := fmt.Sprintf("%+v", middle); strings.Contains(raw, "s3cr3t") {
		t.Errorf("a secret in a nested plan: %s", raw)
	}
	inner, secrets := nested(middle, secrets)
	check("nested", inner, secrets)
}
