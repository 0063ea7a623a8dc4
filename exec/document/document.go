package document

import (
	"crypto/sha256"
	"slices"
	"strconv"

	"github.com/muster-fleet/muster/exec/steps"
	"github.com/muster-fleet/muster/node/fleet"
)

// MaxText is the most bytes of a document: SSM's bound.
const MaxText = 64 << 10

// Document is a document that was read and found to be in order. It never changes.
type Document struct {
	text        []byte
	schema      string
	description string
	parameters  []*parameter
	stored      []*parameter // the store's that its steps refer to, in the order of their first mention
	steps       []*step
	store       *Store // what those are bound to; nil: nothing yet
}

// Digest names a document's text.
func Digest(text []byte) fleet.ID { return sha256.Sum256(text) }

// Text returns what was parsed. It must not be changed.
func (d *Document) Text() []byte { return d.text }

// Schema returns the schema's version: 1.2, 2.0 or 2.2.
func (d *Document) Schema() string { return d.schema }

// Description returns what the document says of itself; it may be empty.
func (d *Document) Description() string { return d.description }

// Parameters returns the parameters in the document's order.
func (d *Document) Parameters() []Parameter {
	out := make([]Parameter, 0, len(d.parameters))
	for _, p := range d.parameters {
		out = append(out, p.Parameter)
	}
	return out
}

// Parse reads a document of schema 1.2, 2.0 or 2.2, YAML or JSON. Whatever it does not understand it refuses with
// fleet.Invalid and the line, so that a document which was parsed can be planned for any values that Complete takes,
// but for what only those values decide.
func Parse(text []byte) (*Document, error) {
	root, err := readRoot(text)
	if err != nil {
		return nil, err
	}
	d := &Document{text: slices.Clone(text)}
	if err := d.readSchema(root); err != nil {
		return nil, err
	}
	return d, d.read(root)
}

// readRoot reads the map that every document is.
func readRoot(text []byte) (*node, error) {
	if len(text) > MaxText {
		return nil, fleet.Errorf(fleet.Invalid, "a document of %d bytes; at most %d", len(text), MaxText).
			Hinted("let a step fetch what is long: aws:downloadContent")
	}
	root, err := readTree(text)
	if err != nil {
		return nil, err
	}
	if root.shape != dict {
		return nil, refuse(root.line, "a document is a map with schemaVersion and mainSteps, not %s", root.shape)
	}
	return root, nil
}

// readSchema finds out which schema the document is of, and refuses those that are not for commands.
func (d *Document) readSchema(root *node) error {
	n := root.get("schemaVersion")
	if n == nil {
		return refuse(root.line, "schemaVersion is missing").Hinted(`schemaVersion: "2.2"`)
	}
	switch d.schema = n.text; d.schema {
	case "1.2", "2.0", "2.2":
		return nil
	case "0.3":
		return refuse(n.line, "runbook, not a command document (schema 0.3)").Hinted("commands are documents of schema 2.2")
	case "1.0":
		return refuse(n.line, "session document, not a command document (schema 1.0)").Hinted("muster shell, exec or forward NODE --doc NAME")
	}
	return refuse(n.line, "schemaVersion %q is not understood: 1.2, 2.0 and 2.2 are", clip(n.text))
}

func (d *Document) read(root *node) error {
	f := read(root, "document", nil)
	f.raw("schemaVersion")
	d.description = f.text("description")
	parameters := f.raw("parameters")
	body := "mainSteps"
	if d.schema == "1.2" {
		body = "runtimeConfig"
	}
	main := f.raw(body)
	if err := f.done(); err != nil {
		return err
	}
	if main == nil {
		return refuse(root.line, "%s is missing: a document of schema %s has its steps there", body, d.schema)
	}
	if err := d.readParameters(parameters); err != nil {
		return err
	}
	if err := d.mention(main); err != nil {
		return err
	}
	if err := d.readSteps(main); err != nil {
		return err
	}
	if err := d.checkSecrets(); err != nil {
		return err
	}
	return d.try()
}

// readSteps reads mainSteps (2.x) or runtimeConfig (1.2).
func (d *Document) readSteps(n *node) error {
	var err error
	if d.schema == "1.2" {
		err = d.readPlugins(n)
	} else {
		err = d.readMain(n)
	}
	if err != nil {
		return err
	}
	if len(d.steps) == 0 || len(d.steps) > steps.MaxSteps {
		return refuse(n.line, "a document has 1 to %d steps, not %d", steps.MaxSteps, len(d.steps))
	}
	for i, s := range d.steps {
		if slices.ContainsFunc(d.steps[:i], func(o *step) bool { return o.name == s.name }) {
			return refuse(s.line, "two steps are called %q", s.name)
		}
	}
	return nil
}

func (d *Document) readMain(n *node) error {
	if n.shape != list {
		return refuse(n.line, "mainSteps is a list of steps, not %s", n.shape)
	}
	for i, item := range n.items {
		s, err := d.readStep(item)
		if err != nil {
			return err
		}
		s.last = i == len(n.items)-1
		d.steps = append(d.steps, s)
	}
	return nil
}

// readPlugins reads schema 1.2's steps: a map of plugins, each with the properties of one step or of several. AWS leaves
// their order open; here it is the document's.
func (d *Document) readPlugins(n *node) error {
	if n.shape != dict {
		return refuse(n.line, "runtimeConfig is a map of plugins, not %s", n.shape)
	}
	for i, key := range n.keys {
		f := read(n.items[i], key.text, nil)
		properties := f.raw("properties")
		if err := f.done(); err != nil {
			return err
		}
		if properties == nil {
			properties = &node{shape: dict, line: key.line}
		}
		all := []*node{properties}
		if properties.shape == list {
			all = properties.items
		}
		for j, inputs := range all {
			name := key.text
			if len(all) > 1 {
				name = strconv.Itoa(j) + "." + key.text
			}
			s := &step{line: inputs.line, name: name, action: action(key.text), inputs: inputs, flow: &node{shape: dict, line: inputs.line}}
			if id := inputs.get("id"); id != nil && id.shape == scalar && id.text != "" {
				s.name = id.text
			}
			if err := s.check(key); err != nil {
				return err
			}
			d.steps = append(d.steps, s)
		}
	}
	if len(d.steps) > 0 {
		d.steps[len(d.steps)-1].last = true
	}
	return nil
}
