package document

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/muster-fleet/muster/node/fleet"
)

func mustSession(t testing.TB, text string) *Session {
	t.Helper()
	d, err := ParseSession([]byte(text))
	if err != nil {
		t.Fatalf("%v, for\n%s", err, text)
	}
	return d
}

func planSession(t testing.TB, d *Session, words ...string) SessionPlan {
	t.Helper()
	given, err := d.ParseArguments(words)
	if err != nil {
		t.Fatal(err)
	}
	v, err := d.Complete(given)
	if err != nil {
		t.Fatal(err)
	}
	plan, err := d.Plan(v)
	if err != nil {
		t.Fatal(err)
	}
	return plan
}

func TestBuiltInSessions(t *testing.T) {
	raw := []string{"AWS-StartInteractiveCommand", "AWS-StartNonInteractiveCommand", "SSM-SessionManagerRunShell"}
	for i, b := range BuiltInSessions() {
		d := mustSession(t, string(b.Text))
		if d.RawShell() != slices.Contains(raw, b.Name) {
			t.Errorf("%s: raw shell is %v", b.Name, d.RawShell())
		}
		if help := d.Help(b.Name); !strings.Contains(help, "--doc "+b.Name) || !strings.Contains(help, string(d.Type())) {
			t.Errorf("%s", help)
		}
		if i > 0 && BuiltInSessions()[i-1].Name >= b.Name {
			t.Errorf("%s is not in order", b.Name)
		}
		if _, err := Parse(b.Text); err == nil || !strings.Contains(err.Error(), "session document") {
			t.Errorf("%s as a command: %v", b.Name, err)
		}
	}
	plan := planSession(t, mustSession(t, startPortForwarding), "portNumber=80", "localPortNumber=8080")
	if *plan.Place != (SessionPlace{"127.0.0.1", 80, true, 8080}) {
		t.Errorf("%+v", *plan.Place)
	}
	plan = planSession(t, mustSession(t, startPortForwardingToRemoteHost), "portNumber=5432", "host=db.internal")
	if *plan.Place != (SessionPlace{"db.internal", 5432, true, 0}) {
		t.Errorf("%+v", *plan.Place)
	}
	plan = planSession(t, mustSession(t, startSSHSession))
	if *plan.Place != (SessionPlace{"127.0.0.1", 22, false, 0}) {
		t.Errorf("%+v", *plan.Place)
	}
	plan = planSession(t, mustSession(t, startInteractiveCommand), "command=top -b")
	if !slices.Equal(plan.Argv, []string{"top -b\n"}) || len(plan.Env) != 0 {
		t.Errorf("%q %q", plan.Argv, plan.Env)
	}
	plan = planSession(t, mustSession(t, runShell))
	if !plan.AnyUser || plan.User != "" || plan.Argv != nil {
		t.Errorf("%+v", plan)
	}
}

// Documents as SSM's console and guides have them, with everything that they say for other platforms.
func TestSessionsOfGuides(t *testing.T) {
	shell := planSession(t, mustSession(t, `{
	"schemaVersion": "1.0",
	"description": "Document to hold regional settings",
	"sessionType": "Standard_Stream",
	"inputs": {
		"s3BucketName": "", "s3KeyPrefix": "", "s3EncryptionEnabled": true,
		"cloudWatchLogGroupName": "", "cloudWatchEncryptionEnabled": true, "cloudWatchStreamingEnabled": false,
		"kmsKeyId": "", "runAsEnabled": true, "runAsDefaultUser": "deploy",
		"idleSessionTimeout": "20", "maxSessionDuration": "1440",
		"shellProfile": {"windows": "date", "linux": "exec /bin/bash\ncd /usr"}
	}}`))
	if shell.User != "deploy" || shell.AnyUser || shell.Idle != 20*time.Minute || shell.Most != 24*time.Hour || shell.Profile != "exec /bin/bash\ncd /usr\n" {
		t.Errorf("%+v", shell)
	}
	off := planSession(t, mustSession(t, "schemaVersion: '1.0'\nsessionType: Standard_Stream\ninputs: {runAsEnabled: false, runAsDefaultUser: deploy, idleSessionTimeout: ''}\n"))
	if off.User != "" || off.AnyUser || off.Idle != 0 {
		t.Errorf("%+v", off)
	}
	logs := planSession(t, mustSession(t, `
schemaVersion: '1.0'
description: Follows a log.
sessionType: InteractiveCommands
parameters:
  logpath:
    type: string
    default: /var/log/syslog
    allowedPattern: "^[a-zA-Z0-9-_/]+(.log)?$"
properties:
  linux:
    commands: "tail -f {{ logpath }}"
    runAsElevated: true
  windows:
    commands: "Get-Content {{ logpath }}"
  macos: {commands: 'tail -f {{ logpath }}'}
`))
	if logs.User != "root" || !slices.Equal(logs.Argv, []string{"tail -f \"${SSM_logpath}\"\n"}) || !slices.Equal(logs.Env, []string{"SSM_logpath=/var/log/syslog"}) {
		t.Errorf("%+v", logs)
	}
	port := planSession(t, mustSession(t, `{"schemaVersion":"1.0","sessionType":"Port","parameters":{"paramExample":{"type":"string","default":"x"}},"properties":{"portNumber":443}}`))
	if *port.Place != (SessionPlace{Host: "127.0.0.1", Port: 443}) {
		t.Errorf("%+v", *port.Place)
	}
	bash := planSession(t, mustSession(t, commandsDoc("NonInteractiveCommands", `["#!/bin/bash -e", "echo {{ p }}"]`)), "p=x")
	if !slices.Equal(bash.Argv, []string{"/bin/bash", "-e", "-c", noInput + "#!/bin/bash -e\necho \"${SSM_p}\"\n"}) {
		t.Errorf("%q", bash.Argv)
	}
}

// commandsDoc is a document with a parameter p, and commands.
func commandsDoc(kind, commands string) string {
	return "schemaVersion: '1.0'\nsessionType: " + kind + "\nparameters:\n  p: {type: String}\nproperties:\n  linux:\n    commands: " + commands + "\n"
}

func TestSessionsAreRefusedWithTheirLine(t *testing.T) {
	const shell, port = "schemaVersion: '1.0'\nsessionType: Standard_Stream\n", "schemaVersion: '1.0'\nsessionType: Port\n"
	run := func(commands string) string { return commandsDoc("InteractiveCommands", commands) }
	for _, c := range []struct {
		text string
		want []string
	}{
		{"schemaVersion: '2.2'\nmainSteps: []\n", []string{"line 1", "no session document"}},
		{"sessionType: Port\n", []string{"schemaVersion is missing"}},
		{"schemaVersion: '1.0'\n", []string{"sessionType is missing"}},
		{"schemaVersion: '1.0'\nsessionType: Shell\n", []string{"line 2", "is not one of Standard_Stream"}},
		{shell + "properties: {linux: {commands: id}}\n", []string{"line 3", "has no properties"}},
		{shell + "mainSteps: []\n", []string{"line 3", `"mainSteps"`}},
		{shell + "inputs: {s3BucketName: logs}\n", []string{"line 3", "s3BucketName", "kept by the node"}},
		{shell + "inputs: {cloudWatchLogGroupName: logs}\n", []string{"line 3", "cloudWatchLogGroupName", "kept by the node"}},
		{shell + "inputs: {kmsKeyId: 'arn:aws:kms:x'}\n", []string{"line 3", "kmsKeyId", "end to end"}},
		{shell + "inputs: {runAsEnabled: maybe}\n", []string{"line 3", "true or false"}},
		{shell + "inputs: {runAsEnabled: true, runAsDefaultUser: 'a b'}\n", []string{"line 3", "no account's name"}},
		{shell + "inputs: {runAsEnabled: true, runAsDefaultUser: '0'}\n", []string{"line 3", "no account's name"}},
		{shell + "inputs: {runAsEnabled: true, runAsDefaultUser: '{{ u }}'}\n", []string{"line 3", "belong into properties"}},
		{shell + "inputs: {idleSessionTimeout: 61}\n", []string{"line 3", "1 to 60 minutes"}},
		{shell + "inputs: {idleSessionTimeout: 0}\n", []string{"line 3", "1 to 60 minutes"}},
		{shell + "inputs: {maxSessionDuration: 1441}\n", []string{"line 3", "1 to 1440 minutes"}},
		{shell + "inputs: {maxSessionDuration: 1.5}\n", []string{"line 3", "1 to 1440 minutes"}},
		{shell + "inputs: {shellProfile: {linux: 'echo {{ p }}'}}\n", []string{"line 3", "belong into properties"}},
		{shell + "inputs: {shellProfile: {linux: \"a\\x03b\"}}\n", []string{"line 3", "control characters"}},
		{shell + "inputs: {shellProfile: {bsd: x}}\n", []string{"line 3", `"bsd"`}},
		{shell + "inputs: {idle: 3}\n", []string{"line 3", `"idle"`}},
		{port, []string{"properties is missing"}},
		{port + "properties: {host: a}\n", []string{"line 3", "portNumber is missing"}},
		{port + "properties: {portNumber: 0}\n", []string{"line 3", "1 to 65535"}},
		{port + "properties: {portNumber: 65536}\n", []string{"line 3", "1 to 65535"}},
		{port + "properties: {portNumber: '{{ x }}'}\n", []string{"line 3", "no parameter"}},
		{port + "properties: {portNumber: '{{ ssm:x }}'}\n", []string{"line 3", "parameter store"}},
		{port + "properties: {portNumber: 1, type: RemotePortForwarding}\n", []string{"line 3", "LocalPortForwarding"}},
		{port + "properties: {portNumber: 1, localConnectionType: unix, localUnixSocket: /x}\n", []string{"line 3", "localConnectionType"}},
		{port + "properties: {portNumber: 1, localPortNumber: -1}\n", []string{"line 3", "0 to 65535"}},
		{port + "inputs: {idleSessionTimeout: 5}\nproperties: {portNumber: 1}\n", []string{"line 3", "as long as somebody is connected"}},
		{port + "inputs: {runAsEnabled: true}\nproperties: {portNumber: 1}\n", []string{"line 3", "have no account"}},
		{run("''"), []string{"line 7", "commands is missing"}},
		{run("{a: b}"), []string{"line 7", "a list of commands"}},
		{run("'echo {{ q }}'"), []string{"line 7", "no parameter"}},
		{run(`'eval "{{ p }}"'`), []string{"line 7", "commands: {{ p }}", "no safe way"}},
		{run("'sh -c {{ p }}'"), []string{"line 7", "no safe way"}},
		{run("'{{ p }} x'"), []string{"line 7", "no safe way"}},
		{run("'echo {{ ssm:x }}'"), []string{"line 7", "parameter store"}},
		{run("'echo {{ ssm-secure:x }}'"), []string{"line 7", "parameter store"}},
		{run("\"#!/usr/bin/python3\\nprint(1)\""), []string{"line 7", "not by \"python3\""}},
		{run("id\n    runAsElevated: '{{ p }}'"), []string{"line 8", "belong into properties"}},
		{run("id\n    separateOutputStream: 'True'"), []string{"line 8", "one stream"}},
		{run("id\n    stdin: x"), []string{"line 8", `"stdin"`}},
		{strings.Replace(run("id\n    runAsElevated: true"), "properties", "inputs: {runAsEnabled: true}\nproperties", 1), []string{"line 9", "one of them"}},
		{strings.Replace(run("id"), "{type: String}", "{type: String, default: '{{ ssm:x }}'}", 1), []string{"line 4", "parameter store"}},
		{strings.Replace(run("id"), "linux", "windows", 1), []string{"linux is missing"}},
		{strings.Replace(run("id"), "properties", "inputs: {shellProfile: {linux: x}}\nproperties", 1), []string{"only a session of type Standard_Stream"}},
	} {
		_, err := ParseSession([]byte(c.text))
		if err == nil {
			t.Errorf("taken:\n%s", c.text)
			continue
		}
		for _, w := range c.want {
			if fleet.KindOf(err) != fleet.Invalid || !strings.Contains(err.Error(), w) {
				t.Errorf("%q is not in %q, for\n%s", w, err, c.text)
			}
		}
		if e, ok := err.(*fleet.Error); ok && strings.Contains(e.Hint, string(runArgv)) {
			t.Errorf("session documents have no %s: %s", runArgv, e.Hint)
		}
	}
}

func TestSessionValues(t *testing.T) {
	d := mustSession(t, strings.Replace(commandsDoc("InteractiveCommands", "'echo {{ p }}'"), "{type: String}", "{type: String, allowedPattern: '^[a-z]+$'}", 1))
	for _, words := range [][]string{{}, {"p=A"}, {"p=a\nb"}, {"p={{ ssm:x }}"}, {"q=a"}, {"p"}, {"p=a", "p=b"}, {"p=\xff"}} {
		given, err := d.ParseArguments(words)
		if err == nil {
			_, err = d.Complete(given)
		}
		if fleet.KindOf(err) != fleet.Invalid || err == nil {
			t.Errorf("%q: %v", words, err)
		}
	}
	host := mustSession(t, startPortForwardingToRemoteHost)
	v, err := host.Complete([]Argument{{"host", `"h"`}, {"portNumber", `"80"`}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := host.Plan(v); err != nil {
		t.Error(err)
	}
	open := mustSession(t, "schemaVersion: '1.0'\nsessionType: Port\nparameters: {n: {type: Integer}}\nproperties: {portNumber: '{{ n }}'}\n")
	if v, err = open.Complete([]Argument{{"n", "70000"}}); err != nil {
		t.Fatal(err)
	}
	if _, err = open.Plan(v); err == nil || !strings.Contains(err.Error(), "1 to 65535") {
		t.Errorf("%v", err)
	}
}

// No value is ever a part of what runs, and a shell that runs it sees the value, and nothing in it.
func TestSessionValuesAreData(t *testing.T) {
	d := mustSession(t, commandsDoc("NonInteractiveCommands", `'printf %s {{ p }}; cat'`))
	if d.RawShell() {
		t.Fatal("raw shell")
	}
	first := planSession(t, d, "p=a").Argv
	tried := 0
	rapid.Check(t, func(t *rapid.T) {
		value := rapid.StringMatching(`[ -~\n]{0,20}|[$;&|"'(){}]{1,9}(id|reboot)[$;&|"'(){}]{0,9}`).Draw(t, "value")
		v, err := d.Complete([]Argument{{"p", encode(value)}})
		if err != nil {
			t.Skip() // a reference to the store
		}
		plan, err := d.Plan(v)
		if err != nil || !slices.Equal(plan.Argv, first) || !slices.Equal(plan.Env, []string{"SSM_p=" + value}) {
			t.Fatalf("%q: %q %q %v", value, plan.Argv, plan.Env, err)
		}
		if tried++; tried > 20 { // processes are dear
			return
		}
		cmd := exec.Command("/bin/sh", "-c", plan.Argv[0])
		cmd.Env, cmd.Stdin = plan.Env, strings.NewReader("typed")
		if out, err := cmd.CombinedOutput(); err != nil || string(out) != value {
			t.Fatalf("%q became %q: %v", value, out, err)
		}
	})
}

// FuzzParseSession: whatever the text, it is refused as Invalid, or is a session document that plans for the values that it
// completes, within SSM's bounds.
func FuzzParseSession(f *testing.F) {
	for _, b := range BuiltInSessions() {
		f.Add(b.Text)
	}
	f.Add([]byte(commandsDoc("InteractiveCommands", "'tail {{ p }}'\n    runAsElevated: true")))
	f.Add([]byte(commandsDoc("NonInteractiveCommands", `["#!/bin/bash", "{{ p }}"]`)))
	f.Add([]byte("schemaVersion: '1.0'\nsessionType: Standard_Stream\ninputs: {runAsEnabled: true, runAsDefaultUser: a, idleSessionTimeout: 5, shellProfile: {linux: x}}\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		described, descErr := Describe(text)
		d, err := ParseSession(text)
		if err != nil {
			if fleet.KindOf(err) != fleet.Invalid {
				t.Fatalf("%v", err)
			}
			return
		}
		if _, ok := described.(*Session); !ok {
			t.Fatalf("described as %T: %v", described, descErr)
		}
		d.Help("x")
		v, err := d.Complete(nil)
		if err != nil {
			return
		}
		plan, err := d.Plan(v)
		if err != nil {
			if fleet.KindOf(err) != fleet.Invalid {
				t.Fatalf("%v", err)
			}
			return
		}
		commands := plan.Type == InteractiveCommands || plan.Type == NonInteractiveCommands
		switch {
		case plan.Idle < 0 || plan.Idle > time.Hour || plan.Most < 0 || plan.Most > 24*time.Hour:
			t.Fatalf("%s %s", plan.Idle, plan.Most)
		case plan.User != "" && (plan.AnyUser || !isAccount(plan.User)):
			t.Fatalf("%+v", plan)
		case commands != (len(plan.Argv) > 0), (plan.Place != nil) != (plan.Type == PortSession), plan.Place != nil && plan.Place.Port == 0:
			t.Fatalf("%+v", plan)
		case plan.Profile != "" && plan.Type != StandardStream:
			t.Fatalf("%+v", plan)
		}
	})
}
