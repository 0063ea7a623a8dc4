package document

import (
	"strings"

	"github.com/muster-fleet/muster/exec/steps"
)

// action is what a step does, as documents spell it.
type action string

// The actions that this version runs.
const (
	runShellScript      action = "aws:runShellScript"
	runPowerShellScript action = "aws:runPowerShellScript"
	runDocument         action = "aws:runDocument"
	downloadContent     action = "aws:downloadContent"
	configurePackage    action = "aws:configurePackage"
	configureDocker     action = "aws:configureDocker"
	runDockerAction     action = "aws:runDockerAction"
	softwareInventory   action = "aws:softwareInventory"
	refreshAssociation  action = "aws:refreshAssociation"
	updateSsmAgent      action = "aws:updateSsmAgent"
	runArgv             action = "muster:run" // ours: a program and its arguments, no shell
)

// actionNames are those of a hint.
const actionNames = "aws:runShellScript, aws:runPowerShellScript, aws:runDocument, aws:downloadContent, aws:configurePackage, " +
	"aws:configureDocker, aws:runDockerAction, aws:softwareInventory, aws:refreshAssociation, aws:updateSsmAgent, muster:run"

func (a action) known() bool {
	switch a {
	case runShellScript, runPowerShellScript, runDocument, downloadContent, configurePackage, configureDocker, runDockerAction,
		softwareInventory, refreshAssociation, updateSsmAgent, runArgv:
		return true
	}
	return false
}

// foreign reports whether SSM has the action for hosts that are none of ours: a document may hold such steps for others.
func (a action) foreign() bool {
	switch a {
	case "aws:psModule", "aws:applications", "aws:updateAgent", "aws:configureDaemon", "aws:domainJoin", "aws:cloudWatch":
		return true
	}
	return false
}

// step is one step as the document has it, with nothing put in.
type step struct {
	line   int
	name   string
	what   string // in errors; empty: step NAME
	action action
	inputs *node
	flow   *node // the step's own keys, beside inputs
	when   *condition
	last   bool

	compiled *compiled // of a step with a script, once the document was parsed
}

// of names the step in errors.
func (s *step) of() string {
	if s.what != "" {
		return s.what
	}
	return "step " + s.name
}

// readStep reads an item of mainSteps.
func (d *Document) readStep(n *node) (*step, error) {
	f := read(n, "step", nil)
	s := &step{line: n.line, name: f.need("name"), action: action(f.need("action")), inputs: f.raw("inputs"), flow: n}
	f.text("description")
	when := f.raw("precondition")
	for _, key := range []string{"timeoutSeconds", "maxAttempts", "onFailure", "onSuccess", "finallyStep"} {
		f.raw(key) // read with the inputs, which may have them, too
	}
	for _, key := range []string{"isEnd", "isCritical", "nextStep", "onCancel", "outputs"} {
		if k := n.get(key); k != nil {
			return nil, refuse(k.line, "step %s: %s belongs to runbooks; steps of a command run in order", clip(s.name), key).
				Hinted("precondition, onFailure: exit, onSuccess: exit, finallyStep: true")
		}
	}
	if err := f.done(); err != nil {
		return nil, err
	}
	if s.inputs == nil {
		s.inputs = &node{shape: dict, line: n.line}
	}
	if err := s.check(n.get("action")); err != nil {
		return nil, err
	}
	if when == nil {
		return s, nil
	}
	if d.schema != "2.2" {
		return nil, refuse(when.line, "step %s: preconditions need schema 2.2, not %s", s.name, d.schema)
	}
	var err error
	s.when, err = d.readCondition(when)
	return s, err
}

// check refuses steps that can be of no document; at is where the action stands.
func (s *step) check(at *node) error {
	printable := func(r rune) bool { return r < ' ' || r > '~' }
	switch {
	case s.name == "" || len(s.name) > steps.MaxName || strings.ContainsFunc(s.name, printable):
		return refuse(s.line, "a step's name has 1 to %d printable ASCII characters, unlike %q", steps.MaxName, clip(s.name))
	case !s.action.known() && !s.action.foreign():
		return refuse(at.line, "step %s: action %q is unknown", s.name, clip(string(s.action))).Hinted("known: %s", actionNames)
	case s.inputs.shape != dict:
		return refuse(s.inputs.line, "step %s: inputs is a map, not %s", s.name, s.inputs.shape)
	}
	return nil
}
