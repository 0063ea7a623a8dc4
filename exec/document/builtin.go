package document

import (
	_ "embed"
)

// BuiltInDocument is a document that every agent has: it needs no publication.
type BuiltInDocument struct {
	Name string
	Text []byte
}

var (
	//go:embed builtin/AWS-ApplyAnsiblePlaybooks.yaml
	applyAnsiblePlaybooks string
	//go:embed builtin/AWS-ConfigurePackage.yaml
	configurePackageText string
	//go:embed builtin/AWS-RunDocument.yaml
	runDocumentText string
	//go:embed builtin/AWS-RunPowerShellScript.yaml
	runPowerShellScriptText string
	//go:embed builtin/AWS-RunRemoteScript.yaml
	runRemoteScript string
	//go:embed builtin/AWS-RunShellScript.yaml
	runShellScriptText string
	//go:embed builtin/AWS-UpdateSSMAgent.yaml
	updateSSMAgent string

	//go:embed builtin/AWS-StartInteractiveCommand.yaml
	startInteractiveCommand string
	//go:embed builtin/AWS-StartNonInteractiveCommand.yaml
	startNonInteractiveCommand string
	//go:embed builtin/AWS-StartPortForwardingSession.yaml
	startPortForwarding string
	//go:embed builtin/AWS-StartPortForwardingSessionToRemoteHost.yaml
	startPortForwardingToRemoteHost string
	//go:embed builtin/AWS-StartSSHSession.yaml
	startSSHSession string
	//go:embed builtin/SSM-SessionManagerRunShell.yaml
	runShell string
)

// BuiltIn returns the built-in documents that commands run, sorted by name. All are at version 1.
func BuiltIn() []BuiltInDocument {
	return []BuiltInDocument{
		{"AWS-ApplyAnsiblePlaybooks", []byte(applyAnsiblePlaybooks)},
		{"AWS-ConfigurePackage", []byte(configurePackageText)},
		{"AWS-RunDocument", []byte(runDocumentText)},
		{"AWS-RunPowerShellScript", []byte(runPowerShellScriptText)},
		{"AWS-RunRemoteScript", []byte(runRemoteScript)},
		{"AWS-RunShellScript", []byte(runShellScriptText)},
		{"AWS-UpdateSSMAgent", []byte(updateSSMAgent)},
	}
}

// BuiltInSessions returns the built-in session documents, sorted by name. All are at version 1.
func BuiltInSessions() []BuiltInDocument {
	return []BuiltInDocument{
		{"AWS-StartInteractiveCommand", []byte(startInteractiveCommand)},
		{"AWS-StartNonInteractiveCommand", []byte(startNonInteractiveCommand)},
		{"AWS-StartPortForwardingSession", []byte(startPortForwarding)},
		{"AWS-StartPortForwardingSessionToRemoteHost", []byte(startPortForwardingToRemoteHost)},
		{"AWS-StartSSHSession", []byte(startSSHSession)},
		{"SSM-SessionManagerRunShell", []byte(runShell)},
	}
}

// builtIn finds a built-in document that commands run.
func builtIn(name string) ([]byte, bool) {
	for _, d := range BuiltIn() {
		if d.Name == name {
			return d.Text, true
		}
	}
	return nil, false
}

// withBuiltIns returns a library that has the built-in documents, too. They cannot be replaced: publications may not
// have their names.
func withBuiltIns(lib Library) Library {
	return func(name, version string) (*Document, bool) {
		if text, ok := builtIn(name); ok {
			d, err := Parse(text)
			return d, err == nil && (version == "" || version == "1" || version == "$LATEST")
		}
		if lib == nil {
			return nil, false
		}
		return lib(name, version)
	}
}
