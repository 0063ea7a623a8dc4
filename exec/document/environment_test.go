package document

import (
	"fmt"
	"strings"
	"testing"
)

// environments are steps with an environment of their own.
const environments = `schemaVersion: "2.2"
parameters:
  p: {type: String, default: x}
  e: {type: String, default: a, allowedValues: [a, b]}
  m: {type: StringMap, default: {}}
mainSteps:
- name: s
  action: %s
  inputs:
    environment: %s
    %s
`

func TestValuesInTheEnvironment(t *testing.T) {
	const script, argv = "aws:runShellScript", "muster:run"
	for _, c := range []struct{ action, environment, code, refused string }{
		{script, `"{{ m }}"`, `runCommand: [ls]`, "line 10: step s: environment: a value may not choose the names"},
		{argv, `"{{ m }}"`, `argv: [ls]`, "line 10: step s: environment: a value may not choose the names"},
		{script, `{LD_PRELOAD: "{{ p }}"}`, `runCommand: [ls]`, "line 10: step s: environment: a value as the value of LD_PRELOAD"},
		{script, `{PATH: "/opt/{{ p }}"}`, `runCommand: [ls]`, "line 10: step s: environment: a value as the value of PATH"},
		{argv, `{PATH: "{{ p }}"}`, `argv: [ls]`, "line 10: step s: environment: a value as the value of PATH"},
		{script, `{BASH_ENV: "{{ p }}"}`, `runCommand: ["#!/bin/bash", ls]`, "line 10: step s: environment: a value as the value of BASH_ENV"},
		{script, `{PYTHONPATH: "{{ p }}"}`, `runCommand: [ls]`, "line 10: step s: environment: a value as the value of PYTHONPATH"},
		{script, `{CMD: "{{ p }}"}`, `runCommand: ['eval "$CMD"']`, "line 11: step s: $CMD, which holds a value, inside eval"},
		{script, `{CMD: "x {{ p }}"}`, `runCommand: ['[ $CMD = y ]']`, "line 11: step s: a value without quotes"},
		{argv, `{CMD: "{{ p }}"}`, `argv: [sh, -c, 'eval "$CMD"']`, "line 11: step s: $CMD, which holds a value, inside eval"},
		{script, `{"{{ p }}": x}`, `runCommand: [ls]`, "line 10: step s: environment: "},
		{script, `{PATH: "/opt/{{ e }}:/bin", LD_LIBRARY_PATH: /opt/lib, CMD: "{{ p }}"}`, `runCommand: ['echo "$CMD"']`, ""},
		{argv, `{STAGE: "{{ p }}"}`, `argv: [sh, -c, 'echo "$STAGE"']`, ""},
	} {
		_, err := Parse(fmt.Appendf(nil, environments, c.action, c.environment, c.code))
		switch {
		case c.refused == "" && err != nil:
			t.Errorf("%s %s: %v", c.environment, c.code, err)
		case c.refused != "" && (err == nil || !strings.HasPrefix(err.Error(), c.refused)):
			t.Errorf("%s %s: %v", c.environment, c.code, err)
		}
	}
}

func TestWhatSteersProgramsIsKnown(t *testing.T) {
	for _, name := range []string{"LD_PRELOAD", "PATH", "BASH_ENV", "BASH_CMDS", "ENV", "IFS", "PS4", "PROMPT_COMMAND", "PYTHONPATH", "PERL5DB", "NODE_OPTIONS", "NODE_PATH", "GIT_PAGER",
		"GIT_CONFIG_COUNT", "LESSOPEN", "RUBYLIB", "JAVA_TOOL_OPTIONS", "TAR_OPTIONS", "RSYNC_RSH", "SSH_ASKPASS", "MANPAGER", "LUA_INIT", "MAKEFLAGS", "HOME", "XDG_CONFIG_HOME", "EDITOR", "GIT_EXTERNAL_DIFF"} {
		if steers(name) == "" {
			t.Errorf("%s may have a value", name)
		}
	}
	for _, name := range []string{"STAGE", "TARGET", "A", "x", "VERSION", "HTTP_PROXY", "http_proxy", "LC_ALL", "PATHS", "MESSAGE", "BASH_REMATCH", "PWD", "REPLY", "AWS_REGION", "PGHOST", "PORT", "LEVEL", "environment"} {
		if where := steers(name); where != "" {
			t.Errorf("%s: %s", name, where)
		}
	}
}
