package document

import (
	"encoding/json"

	"github.com/muster-fleet/muster/exec/steps"
	"github.com/muster-fleet/muster/node/fleet"
)

// Linux is the platform of all hosts of this version.
const Linux = "Linux"

// MaxDepth is how deep documents may run documents: SSM's.
const MaxDepth = 3

// Host is what a plan depends on beside the values.
type Host struct {
	Platform string // Linux
	Depth    int    // 0: the document of the command; above: it is run by a step of a document of Depth-1
}

// Library finds the pinned documents that a document runs. version is as the step has it: empty, a number, a name.
type Library func(name, version string) (*Document, bool)

// Times of a step, in seconds: SSM's.
const (
	maxStepTime     = 172_800
	defaultStepTime = 3_600
)

// try builds every step without values, so that Parse refuses what no values could mend.
func (d *Document) try() error {
	for _, s := range d.steps {
		b := builder{d: d, s: s, r: resolver{d: d, trial: true}, host: Host{Platform: Linux}, pins: &pins{}}
		if s.action.foreign() || !s.isFor(Linux) {
			continue // what is there for others is judged where it runs
		}
		if _, err := b.step(); err != nil {
			return err
		}
	}
	return nil
}

// Plan returns what one host does for values. Steps that are not for the host have their verdict in the plan. What is
// wrong with a nested document or its values is found here, too, before anything runs.
func (d *Document) Plan(v Values, h Host, lib Library) (steps.Plan, error) {
	return (&pins{lib: withBuiltIns(lib), left: maxNested}).plan(d, v, h)
}

// maxNested is how many nested documents one plan looks into, counting each time that one is run.
const maxNested = 500

// pins are the documents that a plan may use.
type pins struct {
	lib  Library
	left int // how many more are looked into
}

func (p *pins) plan(d *Document, v Values, h Host) (steps.Plan, error) {
	if h.Depth > MaxDepth {
		return steps.Plan{}, fleet.Errorf(fleet.Invalid, "documents run documents %d deep at most", MaxDepth)
	}
	plan := steps.Plan{Codes: true}
	for _, s := range d.steps {
		b := builder{d: d, s: s, r: resolver{d: d, v: v}, host: h, pins: p}
		one, err := b.plan()
		if err != nil {
			return steps.Plan{}, err
		}
		plan.Steps = append(plan.Steps, one)
	}
	return plan, nil
}

// builder makes one step of a plan.
type builder struct {
	d    *Document
	s    *step
	r    resolver
	host Host
	pins *pins
}

// plan decides whether the step runs here, and builds it if so.
func (b *builder) plan() (steps.Step, error) {
	skipped := steps.Step{Name: b.s.name, Action: string(b.s.action), Verdict: steps.Skipped}
	if b.s.when != nil {
		ok, why, err := b.s.when.holds(b.r, b.host.Platform)
		if err != nil || !ok {
			skipped.Why = why
			return skipped, err
		}
	}
	if b.s.action.known() {
		return b.step()
	}
	// SSM: a plugin that the platform does not have fails the step, from 2.2 on it is skipped.
	skipped.Why = string(b.s.action) + " is not for hosts like this one"
	if b.d.schema != "2.2" {
		skipped.Verdict = steps.Failed
	}
	return skipped, nil
}

// step builds the step as it runs.
func (b *builder) step() (steps.Step, error) {
	f := read(b.s.inputs, b.s.of(), b.r.resolve)
	out := steps.Step{Name: b.s.name, Action: string(b.s.action)}
	b.flow(f, &out)
	if f.err == nil {
		if err := b.inputs(f, &out); err != nil {
			return steps.Step{}, err
		}
	}
	if err := f.done(); err != nil {
		return steps.Step{}, err
	}
	return out, b.release(&out)
}

// flow reads when the step ends, and what its end does. AWS's agent reads these keys from inputs; beside them, where
// people expect them, they mean the same.
func (b *builder) flow(f *form, out *steps.Step) {
	own := &form{what: b.s.of(), at: b.s.flow, resolve: b.r.resolve}
	pick := func(key string) *form {
		f.asked = append(f.asked, key)
		switch n := b.s.flow.get(key); {
		case n == nil:
			return f
		case b.s.inputs.get(key) != nil:
			own.fail(n.line, "%s is there twice: in the step and in its inputs", key)
		}
		return own
	}
	if b.s.action == runDocument {
		out.Timeout = 0 // the steps of the nested document have their own
	} else {
		out.Timeout = defaultStepTime * 1000
	}
	if n := pick("timeoutSeconds").take("timeoutSeconds"); n != nil && n.shape != open && n.text != "" {
		v, ok := number(n.text)
		if !ok || v < 1 || v > maxStepTime {
			f.fail(n.line, "timeoutSeconds is 1 to %d, not %s", maxStepTime, n.seen())
		}
		out.Timeout = v * 1000
	}
	if n := own.take("maxAttempts"); n != nil && n.shape != open {
		v, ok := number(n.text)
		if !ok || v < 1 || v > steps.MaxAttempts {
			f.fail(n.line, "maxAttempts is 1 to %d, not %s", steps.MaxAttempts, n.seen())
		}
		out.Attempts = uint32(v)
	}
	out.OnFailure = steps.Flow(pick("onFailure").oneOf("onFailure", "", "exit", "successAndExit"))
	out.OnSuccess = steps.Flow(pick("onSuccess").oneOf("onSuccess", "", "exit"))
	if out.Finally = pick("finallyStep").flag("finallyStep"); out.Finally && !b.s.last {
		f.fail(b.s.line, "finallyStep counts on the last step only")
	}
	if f.err == nil {
		f.err = own.err
	}
}

// inputs reads what the step's action needs.
func (b *builder) inputs(f *form, out *steps.Step) error {
	switch b.s.action {
	case runShellScript:
		return b.shellScript(f, out)
	case runPowerShellScript:
		return b.powerShell(f, out)
	case runArgv:
		return b.argv(f, out)
	case runDocument:
		return b.nested(f, out)
	case downloadContent:
		return b.download(f, out)
	case configurePackage:
		return act(f, out, ActPackage, packageOf(f))
	case configureDocker:
		return act(f, out, ActDocker, Docker{Configure: true, Action: f.oneOf("action", "Install", "Uninstall")})
	case runDockerAction:
		return act(f, out, ActDocker, dockerOf(f))
	case softwareInventory:
		return act(f, out, ActInventory, inventoryOf(f))
	case refreshAssociation:
		return act(f, out, ActAssociation, Association{IDs: f.texts("associationIds")})
	case updateSsmAgent:
		return act(f, out, ActUpgrade, upgradeOf(f))
	}
	return refuse(b.s.line, "action %q is unknown", string(b.s.action))
}

// act makes the step one of the agent's own actions.
func act(f *form, out *steps.Step, name string, inputs any) error {
	if f.err != nil {
		return f.err
	}
	text, err := json.Marshal(inputs)
	if err != nil {
		return fleet.Errorf(fleet.Internal, "inputs of %s: %w", name, err)
	}
	out.Act, out.Inputs = name, text
	return nil
}
