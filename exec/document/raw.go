package document

// RawShell reports whether whoever gives the values can make the host run anything: a parameter is a script itself, says
// which code runs or where it comes from or where files go, or reaches a built-in document in which it does. Policy treats
// such a run as raw shell. It does not speak of the published documents that steps run: those are judged by themselves.
func (d *Document) RawShell() bool {
	for _, s := range d.steps {
		if s.action.foreign() || !s.isFor(Linux) {
			continue // it runs on no host
		}
		if s.compiled != nil && s.compiled.raw || d.choosesCode(s) || d.choosesDocument(s) {
			return true
		}
	}
	return false
}

// weight is what a value in an input can do.
type weight uint8

const (
	chooses   weight = iota // which code runs, where it comes from, or where files go: raw shell, also where it is only a part
	data                    // no more than the document says
	judged                  // its words are judged one by one, where the step is built
	parts                   // sourceInfo: some of its keys are data
	variables               // environment: the names of variables count
	pinned                  // documentPath, documentParameters: by the document that they are for
)

// weighs is the table of all inputs. What is not in it chooses.
func (a action) weighs(input string) weight {
	switch input {
	case "timeoutSeconds", "onFailure", "onSuccess", "finallyStep", "maxAttempts", "id":
		return data
	}
	switch a {
	case runShellScript, runPowerShellScript, runArgv:
		switch input {
		case "runCommand", "argv":
			return judged
		case "environment":
			return variables
		}
		return chooses // workingDirectory: ./check is something else there
	case downloadContent:
		if input == "sourceInfo" {
			return parts
		}
		return chooses // sourceType, destinationPath
	case runDocument:
		switch input {
		case "documentPath", "documentParameters":
			return pinned
		}
		return chooses // documentType
	case runDockerAction:
		switch input {
		case "container", "memory", "cpuShares", "publish":
			return data
		}
		return chooses // image, cmd, volume, env, user, workingDirectory, action
	case updateSsmAgent:
		switch input {
		case "agentName", "targetVersion", "allowDowngrade", "release", "sources", "downloadOnly": // of the fleet's own releases
			return data
		}
		return chooses // source
	case configurePackage, configureDocker, softwareInventory, refreshAssociation:
		return data // names, which the action checks; the host's own sources say what is behind them
	}
	return chooses
}

// choosesCode reports whether a value in a step's inputs says which code runs.
func (d *Document) choosesCode(s *step) bool {
	for i, k := range s.inputs.keys {
		n := s.inputs.items[i]
		switch s.action.weighs(k.text) {
		case chooses:
			if d.open(n) {
				return true
			}
		case parts:
			if d.choosesSource(n) {
				return true
			}
		case variables:
			if d.choosesVariables(s, n) {
				return true
			}
		case pinned:
			if d.open(n) && !s.runsPinned() {
				return true // nobody has judged what a document from a file does with its values
			}
		case data, judged:
		}
	}
	return false
}

// choosesSource reports whether a value says where content comes from.
func (d *Document) choosesSource(n *node) bool {
	if n.shape == scalar && d.open(n) {
		if _, alone := whole(n.text); alone {
			return true
		}
		parsed, err := embedded(n)
		if err != nil {
			return true
		}
		n = parsed
	}
	for i, k := range n.keys {
		switch k.text {
		case "username", "password", "tokenInfo", "privateSSHKey", "sha256": // they open what the document names, or do not
		default:
			if d.open(n.items[i]) {
				return true
			}
		}
	}
	return n.shape == list && d.open(n)
}

// choosesVariables reports whether values choose the names of a step's variables, or what programs are told by them.
func (d *Document) choosesVariables(s *step, n *node) bool {
	if n.shape != dict || s.action == runPowerShellScript {
		return d.open(n) // PowerShell's scripts are not followed that far
	}
	for i, k := range n.keys {
		if steers(k.text) != "" && d.open(n.items[i]) {
			return true
		}
	}
	return false
}

// runsPinned reports whether a runDocument step runs a document by name, and never one from a file.
func (s *step) runsPinned() bool {
	kind := s.inputs.get("documentType")
	return kind != nil && kind.text == "SSMDocument"
}

// choosesDocument reports whether a value may choose a built-in document that is raw shell, or reach one.
func (d *Document) choosesDocument(s *step) bool {
	at := s.inputs.get("documentPath")
	if s.action != runDocument || !s.runsPinned() || at == nil {
		return false
	}
	if d.open(at) {
		return true
	}
	given := d.open(s.inputs.get("documentParameters"))
	u, err := useOf(at.text, at.line)
	if len(refs(at.text)) > 0 || err != nil {
		return given
	}
	text, builtIn := builtIn(u.Name)
	if !given || !builtIn {
		return false
	}
	other, err := Parse(text)
	return err != nil || other.RawShell()
}

// open reports whether n holds, anywhere, a parameter whose values the author has not listed.
func (d *Document) open(n *node) bool {
	if n == nil {
		return false
	}
	if n.shape == scalar {
		for _, r := range refs(n.text) {
			if p, err := d.parameter(r.name); err != nil || !p.listed() {
				return true
			}
		}
		return false
	}
	for _, c := range n.items {
		if d.open(c) {
			return true
		}
	}
	return false
}

// listed reports whether the author has chosen all values of a parameter. Other than tame ones they may mean something
// to a shell, but no shell reads them.
func (p *parameter) listed() bool { return p.tame() || p.Type == String && len(p.AllowedValues) > 0 }
