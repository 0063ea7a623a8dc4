package document

import (
	"fmt"
	"testing"
)

const rawDoc = `schemaVersion: "2.2"
parameters:
  p: {type: String, default: v}
  e: {type: String, default: web, allowedValues: [web, "/opt/my app"]}
  n: {type: Integer, default: 1}
  m: {type: StringMap, default: {A: b}}
  l: {type: StringList, default: [a]}
mainSteps:
- name: a
  action: %s
  inputs: %s
`

// TestRawShellByInput holds the table: where a value says which code runs, where it comes from or where files go.
func TestRawShellByInput(t *testing.T) {
	for _, c := range []struct {
		action, inputs string
		raw            bool
	}{
		{"aws:downloadContent", `{sourceType: HTTP, sourceInfo: {url: "{{ p }}"}}`, true},
		{"aws:downloadContent", `{sourceType: HTTP, sourceInfo: '{"url": "https://x/{{ p }}"}'}`, true},
		{"aws:downloadContent", `{sourceType: HTTP, sourceInfo: {url: "https://x/{{ e }}-{{ n }}"}}`, false},
		{"aws:downloadContent", `{sourceType: HTTP, sourceInfo: {url: "https://x", username: "{{ p }}", password: "{{ p }}", sha256: "{{ p }}"}}`, false},
		{"aws:downloadContent", `{sourceType: HTTP, sourceInfo: '{"url": "https://x", "password": "{{ p }}"}'}`, false},
		{"aws:downloadContent", `{sourceType: HTTP, sourceInfo: {url: "http://x", allowInsecureDownload: "{{ p }}"}}`, true},
		{"aws:downloadContent", `{sourceType: GitHub, sourceInfo: {owner: "{{ p }}", repository: r}}`, true},
		{"aws:downloadContent", `{sourceType: GitHub, sourceInfo: {owner: o, repository: "{{ p }}"}}`, true},
		{"aws:downloadContent", `{sourceType: GitHub, sourceInfo: {owner: o, repository: r, getOptions: "branch:{{ p }}"}}`, true},
		{"aws:downloadContent", `{sourceType: GitHub, sourceInfo: {owner: o, repository: r, path: "x/{{ p }}"}}`, true},
		{"aws:downloadContent", `{sourceType: GitHub, sourceInfo: {owner: o, repository: r, tokenInfo: "{{ p }}"}}`, false},
		{"aws:downloadContent", `{sourceType: S3, sourceInfo: {path: "https://x/y", endpoint: "{{ p }}"}}`, true},
		{"aws:downloadContent", `{sourceType: LocalPath, sourceInfo: {path: "/opt/{{ p }}"}}`, true},
		{"aws:downloadContent", `{sourceType: SSMDocument, sourceInfo: {name: "{{ p }}"}}`, true},
		{"aws:downloadContent", `{sourceType: "{{ p }}", sourceInfo: {path: /x}}`, true},
		{"aws:downloadContent", `{sourceType: LocalPath, sourceInfo: {path: /x}, destinationPath: "{{ p }}"}`, true},
		{"aws:downloadContent", `{sourceType: LocalPath, sourceInfo: {path: /x}, destinationPath: "/opt/{{ p }}"}`, true},
		{"aws:downloadContent", `{sourceType: LocalPath, sourceInfo: {path: /x}, destinationPath: "/opt/{{ e }}", timeoutSeconds: "{{ p }}"}`, false},
		{"aws:runDocument", `{documentType: LocalPath, documentPath: "/opt/docs/{{ p }}"}`, true},
		{"aws:runDocument", `{documentType: LocalPath, documentPath: "{{ p }}{{ p }}"}`, true},
		{"aws:runDocument", `{documentType: LocalPath, documentPath: "{{ e }}.yaml"}`, false},
		{"aws:runDocument", `{documentType: LocalPath, documentPath: fixed.yaml, documentParameters: {commands: "{{ p }}"}}`, true},
		{"aws:runDocument", `{documentType: LocalPath, documentPath: fixed.yaml, documentParameters: '{"commands": "{{ p }}"}'}`, true},
		{"aws:runDocument", `{documentType: LocalPath, documentPath: fixed.yaml, documentParameters: {commands: "{{ n }}"}}`, false},
		{"aws:runDocument", `{documentType: "{{ p }}", documentPath: Other}`, true},
		{"aws:runDocument", `{documentType: "{{ p }}", documentPath: "/opt/{{ p }}"}`, true},
		{"aws:runDocument", `{documentType: SSMDocument, documentPath: Other, documentParameters: "{{ m }}"}`, false}, // judged by itself
		{"aws:runShellScript", `{runCommand: [./deploy.sh], workingDirectory: "{{ p }}"}`, true},
		{"aws:runShellScript", `{runCommand: [./deploy.sh], workingDirectory: "/srv/{{ p }}"}`, true},
		{"aws:runShellScript", `{runCommand: [./deploy.sh], workingDirectory: "/srv/{{ e }}"}`, false},
		{"aws:runPowerShellScript", `{runCommand: [./deploy.ps1], workingDirectory: "{{ p }}"}`, true},
		{"aws:runPowerShellScript", `{runCommand: [./deploy.ps1], environment: {A: "{{ p }}"}}`, true},
		{"muster:run", `{argv: [./deploy], workingDirectory: "{{ p }}"}`, true},
		{"aws:runDockerAction", `{action: Run, image: "{{ p }}"}`, true},
		{"aws:runDockerAction", `{action: Run, image: x, volume: ["{{ p }}"]}`, true},
		{"aws:runDockerAction", `{action: Run, image: x, volume: "{{ l }}"}`, true},
		{"aws:runDockerAction", `{action: Exec, container: c, cmd: "ls {{ p }}"}`, true},
		{"aws:runDockerAction", `{action: Run, image: x, env: ["{{ p }}"]}`, true},
		{"aws:runDockerAction", `{action: Run, image: x, user: "{{ p }}"}`, true},
		{"aws:runDockerAction", `{action: Stop, container: "{{ p }}"}`, false},
		{"aws:updateSsmAgent", `{source: "{{ p }}"}`, true},
		{"aws:updateSsmAgent", `{targetVersion: "{{ p }}", allowDowngrade: "{{ p }}"}`, false},
		{"aws:configurePackage", `{action: Install, name: "{{ p }}", version: "{{ p }}", additionalArguments: "{{ p }}"}`, false},
		{"aws:softwareInventory", `{applications: "{{ p }}"}`, false},
		{"aws:refreshAssociation", `{associationIds: "{{ l }}"}`, false},
		{"aws:psModule", `{source: "{{ p }}"}`, false}, // runs on no host
	} {
		if got := parsed(t, fmt.Sprintf(rawDoc, c.action, c.inputs)).RawShell(); got != c.raw {
			t.Errorf("%s %s: raw %v", c.action, c.inputs, got)
		}
	}
}

// TestEnvironmentByValues: a value that names variables, or is one that programs obey, is refused or raw shell.
func TestEnvironmentByValues(t *testing.T) {
	for _, action := range []string{"aws:runShellScript", "muster:run"} {
		for _, environment := range []string{`"{{ m }}"`, `{LD_PRELOAD: "{{ p }}"}`, `{PATH: "/x/{{ p }}"}`, `{BASH_ENV: "{{ p }}"}`, `{PYTHONPATH: "{{ p }}"}`} {
			d, err := Parse([]byte(fmt.Sprintf(rawDoc, action, `{`+map[string]string{"aws:runShellScript": "runCommand", "muster:run": "argv"}[action]+`: [ls], environment: `+environment+`}`)))
			if err == nil && !d.RawShell() {
				t.Errorf("%s: environment: %s is taken", action, environment)
			}
		}
	}
	if parsed(t, fmt.Sprintf(rawDoc, "aws:runShellScript", `{runCommand: [ls], environment: {GREETING: "{{ p }}"}}`)).RawShell() {
		t.Error("a variable that no program obeys is raw shell")
	}
}
