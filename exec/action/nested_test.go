package action

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/muster-fleet/muster/exec/document"
)

// shellDocument is a document of shell steps.
func shellDocument(steps ...string) string {
	out := "schemaVersion: '2.2'\nmainSteps:\n"
	for i, s := range steps {
		inputs, extra, _ := strings.Cut(s, "\n")
		out += fmt.Sprintf("- action: aws:runShellScript\n  name: s%d\n  inputs:\n    runCommand: [%s]\n", i+1, strconv.Quote(inputs))
		for line := range strings.Lines(extra) {
			out += "    " + line
		}
		out += "\n"
	}
	return out
}

func TestNested(t *testing.T) {
	for _, c := range []struct {
		name, text string
		code       int
		out, err   string
	}{
		{"one", shellDocument("echo hello; echo oh >&2"), 0, "hello\n", "oh\n"},
		{"two", shellDocument("echo a", "echo b"), 0, "a\nb\n", "-- two, step 1 of 2: s1\n-- two, step 2 of 2: s2\n"},
		{"failure goes on", shellDocument("exit 3", "echo b"), 3, "b\n", "document failure goes on: Failed: step 1 (s1)"},
		{"exit", shellDocument("exit 3\nonFailure: exit", "echo b"), 3, "", "Failed"},
		{"success and exit", shellDocument("exit 3\nonFailure: successAndExit", "echo b"), 0, "", ""},
		{"on success", shellDocument("echo a\nonSuccess: exit", "echo b"), 0, "a\n", ""},
		{"finally", shellDocument("exit 3\nonFailure: exit", "echo b", "echo c\nfinallyStep: true"), 3, "c\n", ""},
		{"168", shellDocument("echo a; exit 168", "echo b"), 0, "a\n", ""},
		{"169", shellDocument("echo a; exit 169", "echo b"), 1, "a\n", "Failed"}, // the outer document goes on
		{"194", shellDocument("echo a; exit 194"), 1, "a\n", "asked for a reboot by exit code 194, which a step of a nested document may not"},
		{"96", shellDocument("exit 96"), 1, "", "Failed"},
		{"signal", shellDocument("kill -9 $$"), 1, "", "killed"},
		{"time", shellDocument("sleep 1000\ntimeoutSeconds: 1"), 1, "", "TimedOut"},
		{"shebang", shellDocument("#!/usr/bin/env bash\nonFailure: exit"), 0, "", ""},
		{"invalid", "schemaVersion: '0.3'\n", 2, "", "document invalid: "},
		{"unknown parameter", shellDocument("true"), 0, "", ""},
	} {
		b := newBed(t)
		code := b.do(t, "document", document.Nested{Name: c.name, Text: c.text, Depth: 1})
		if code != c.code || b.out.String() != c.out || !strings.Contains(b.err.String(), c.err) {
			t.Errorf("%s: exit code %d, %q, %q", c.name, code, b.out, b.err)
		}
	}
}

func TestNestedParametersAndPlaces(t *testing.T) {
	text := `schemaVersion: '2.2'
parameters:
  who: {type: String, allowedPattern: '^[a-z; ]+$'}
  dir: {type: String, default: ''}
mainSteps:
- action: aws:runShellScript
  name: s
  inputs:
    workingDirectory: '{{ dir }}'
    environment: {OWN: mine, MUSTER_DOWNLOADS: /elsewhere}
    runCommand: ['echo "{{ who }} $OWN $(basename "$PWD") $OUTER"; [ "$MUSTER_DOWNLOADS" != /elsewhere ] || echo moved']
`
	b := newBed(t, "OUTER=kept")
	os.Mkdir(b.downloads+"/sub", 0o755)
	os.WriteFile(b.downloads+"/sub/doc.yaml", []byte(text), 0o644)
	os.WriteFile(b.downloads+"/sub/notes.txt", nil, 0o644)
	for _, c := range []struct {
		in  document.Nested
		out string
		err string
	}{
		{document.Nested{Text: text, Parameters: map[string]json.RawMessage{"who": []byte(`"me; id"`), "dir": []byte(`"sub"`)}}, "me; id mine sub kept\n", ""},
		{document.Nested{Path: "sub", Parameters: map[string]json.RawMessage{"who": []byte(`"me"`), "dir": []byte(`"../sub"`)}}, "me mine sub kept\n", ""},
		{document.Nested{Path: b.downloads + "/sub/doc.yaml", Parameters: map[string]json.RawMessage{"who": []byte(`"me"`), "dir": []byte(`"none"`)}}, "", "file does not exist"},
		{document.Nested{Text: text}, "", "who"},
		{document.Nested{Text: text, Parameters: map[string]json.RawMessage{"who": []byte(`"ME"`)}}, "", "who"},
		{document.Nested{Text: text, Parameters: map[string]json.RawMessage{"who": []byte(`"me"`), "x": []byte(`1`)}}, "", `x`},
		{document.Nested{Path: "."}, "", "holds 0 documents"},
		{document.Nested{Path: "none.yaml"}, "", "does not exist"},
		{document.Nested{Text: text, Depth: 4, Parameters: map[string]json.RawMessage{"who": []byte(`"me"`)}}, "", "deep"},
	} {
		if c.in.Depth == 0 {
			c.in.Depth = 1
		}
		b.out, b.err = &said{}, &said{}
		b.host.stdout, b.host.stderr = b.out, b.err
		code := b.do(t, "document", c.in)
		if (code == 0) != (c.err == "") || b.out.String() != c.out || !strings.Contains(b.err.String(), c.err) {
			t.Errorf("%+v: exit code %d, %q, %q", c.in, code, b.out, b.err)
		}
	}
}

func TestNestedInNested(t *testing.T) {
	run := func(name string) string {
		return "schemaVersion: '2.2'\nmainSteps:\n- action: aws:runDocument\n  name: n\n  inputs: {documentType: SSMDocument, documentPath: " + name + "}\n"
	}
	lib := []document.NestedText{{Name: "second", Text: run("third")}, {Name: "third", Text: shellDocument("echo third; exit 5")}}
	b := newBed(t)
	if code := b.do(t, "document", document.Nested{Name: "first", Text: run("second"), Depth: 1, Library: lib}); code != 5 || b.out.String() != "third\n" {
		t.Errorf("exit code %d: %s %s", code, b.out, b.err)
	}
	lib[1].Text = run("fourth")
	lib = append(lib, document.NestedText{Name: "fourth", Text: shellDocument("echo fourth")})
	if code := b.do(t, "document", document.Nested{Name: "first", Text: run("second"), Depth: 1, Library: lib}); code == 0 {
		t.Error("four documents deep")
	}
	wantWords(t, b.err.String(), "deep")
}

func TestNestedActs(t *testing.T) {
	url := serve(t, fileOf("hello"))
	text := `schemaVersion: '2.2'
mainSteps:
- action: aws:downloadContent
  name: get
  inputs: {sourceType: HTTP, destinationPath: f, sourceInfo: '{"url": "` + url + `/f", "allowInsecureDownload": true}'}
- action: aws:runShellScript
  name: use
  inputs: {workingDirectory: '.', runCommand: ['cat "$MUSTER_DOWNLOADS"/f']}
- action: aws:configurePackage
  name: add
  inputs: {name: tool, action: Install}
`
	b := newBed(t, "PATH="+coreutils(t))
	if code := b.do(t, "document", document.Nested{Name: "d", Text: text, Depth: 1}); code != 96 || !strings.HasSuffix(b.out.String(), "hello") {
		t.Errorf("exit code %d: %s %s", code, b.out, b.err)
	}
	wantWords(t, b.err.String(), "no package manager that is known", "InvalidPlatform: step 3 (add)")
}

func TestNestedInterpreters(t *testing.T) {
	text := "schemaVersion: '2.2'\nmainSteps:\n- action: aws:runPowerShellScript\n  name: p\n  inputs: {runCommand: ['Write-Host hello']}\n"
	b := newBed(t, "PATH="+coreutils(t))
	if code := b.do(t, "document", document.Nested{Name: "d", Text: text, Depth: 1}); code != 96 {
		t.Errorf("exit code %d: %s", code, b.err)
	}
	wantWords(t, b.err.String(), "this host has no pwsh")
	argv := "schemaVersion: '2.2'\nmainSteps:\n- action: muster:run\n  name: p\n  inputs: {argv: [none-such, 'a b']}\n"
	if code := b.do(t, "document", document.Nested{Name: "d", Text: argv, Depth: 1}); code != 127 {
		t.Errorf("exit code %d: %s", code, b.err)
	}
	wantWords(t, b.err.String(), "command not found: none-such")
}

// TestNestedLeavesNothingAlive checks that what a step started dies with its time, also what left its group, and that what
// an earlier step left on purpose stays.
func TestNestedLeavesNothingAlive(t *testing.T) {
	dir := t.TempDir()
	alive := func(name string) bool {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		pid, _ := strconv.Atoi(strings.TrimSpace(string(text)))
		state, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		return err == nil && !strings.Contains(string(state), ") Z ")
	}
	text := shellDocument(
		"setsid sh -c 'echo $$ >"+dir+"/kept; exec sleep 1000' >/dev/null 2>&1 & while [ ! -s "+dir+"/kept ]; do :; done",
		"setsid sh -c 'trap : TERM; echo $$ >"+dir+"/gone; while :; do sleep 1; done' & sleep 1000\ntimeoutSeconds: 1",
		"echo after")
	cmd, words := process(t, "document", document.Nested{Name: "d", Text: text, Depth: 1})
	cmd.Run()
	if cmd.ProcessState.ExitCode() != 1 || !strings.Contains(words.String(), "after\n") {
		t.Errorf("exit code %d: %s", cmd.ProcessState.ExitCode(), words)
	}
	if alive("gone") {
		t.Error("a process outlived its step's time")
	}
	if !alive("kept") {
		t.Error("a step's timeout killed what an earlier one had left")
	}
	pid, _ := os.ReadFile(dir + "/kept")
	if n, err := strconv.Atoi(strings.TrimSpace(string(pid))); err == nil {
		syscall.Kill(n, syscall.SIGKILL)
	}
}

func TestNestedStops(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out")
	text := shellDocument("trap 'echo cleaned >"+out+"; exit 1' TERM; echo ready; sleep 1000 & wait", "echo second >>"+out)
	cmd, words := process(t, "document", document.Nested{Name: "d", Text: text, Depth: 1})
	untilReady(t, cmd)
	cmd.Process.Signal(syscall.SIGTERM)
	cmd.Wait()
	if got, _ := os.ReadFile(out); cmd.ProcessState.ExitCode() != 143 || string(got) != "cleaned\n" {
		t.Errorf("exit code %d, %q: %s", cmd.ProcessState.ExitCode(), got, words)
	}
}
