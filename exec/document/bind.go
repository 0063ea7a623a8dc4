package document

import (
	"slices"
	"strings"

	"github.com/muster-fleet/muster/node/fleet"
)

// storeValue is a value that is a reference to the store, as it is signed: {{ ssm:NAME }}.
type storeValue string

// storeValueOf reads a text that is one reference and nothing else.
func storeValueOf(text string) (storeValue, bool, error) {
	r, ok, err := wholeRef(text)
	if !ok || err != nil {
		return "", false, err
	}
	return storeValue(r.braced()), true, nil
}

// inside is the refusal of a reference that is only a part of a value.
func inside(text string) error {
	return fleet.Errorf(fleet.Invalid, "%q: a value is one reference to the store, or none: inside of a text it would become a part of it", clip(text)).
		Hinted("put it into the document, or into the environment: --env NAME='{{ ssm:/a }}', and use \"$NAME\"")
}

// Bind returns the document with its references to the store bound to what was pinned. Without it Complete and Plan refuse
// what refers to the store. The documents that it runs are bound with it.
func (d *Document) Bind(to *Store) *Document {
	out := *d
	out.store = to
	return &out
}

// all returns the document's own parameters and those of the store that its steps refer to.
func (d *Document) all() []*parameter { return slices.Concat(d.parameters, d.stored) }

// StoreRefs returns what of the store the document needs: what its steps refer to, and the values that are references, given
// or by default. It looks neither at steps for other platforms nor at the documents that it runs.
func (d *Document) StoreRefs(given []Argument) ([]StoreRef, error) {
	var out []StoreRef
	for _, s := range d.steps {
		if s.action.foreign() || !s.isFor(Linux) {
			continue
		}
		for _, n := range []*node{s.flow, s.inputs} {
			found, err := n.storeRefs()
			if err != nil {
				return nil, err
			}
			out = join(out, found)
		}
	}
	for _, p := range d.parameters {
		v, err := p.asGiven(given)
		if err != nil {
			return nil, fleet.Errorf(fleet.Invalid, "parameter %s: %w", p.Name, err)
		}
		out = join(out, refsOf(v))
	}
	return out, nil
}

// asGiven returns what a parameter was given, or its default.
func (p *parameter) asGiven(given []Argument) (any, error) {
	for _, a := range given {
		if a.Name == p.Name {
			return p.decode(a.Value)
		}
	}
	return p.fallback, nil
}

// refsOf returns the references that a value is, or that its items are.
func refsOf(v any) []StoreRef {
	var out []StoreRef
	switch v := v.(type) {
	case storeValue:
		if r, ok, err := wholeRef(string(v)); ok && err == nil {
			out = append(out, r)
		}
	case []string:
		for _, item := range v {
			if r, ok, err := wholeRef(item); ok && err == nil {
				out = append(out, r)
			}
		}
	}
	return out
}

// storeRefs returns the references to the store in a piece of a document.
func (n *node) storeRefs() ([]StoreRef, error) {
	if n == nil {
		return nil, nil
	}
	if n.shape == scalar {
		out, err := textRefs(n.text)
		if err != nil {
			return nil, refuse(n.line, "%w", err)
		}
		return out, nil
	}
	var out []StoreRef
	for _, c := range n.items {
		found, err := c.storeRefs()
		if err != nil {
			return nil, err
		}
		out = join(out, found)
	}
	return out, nil
}

// mention notes what of the store the steps refer to.
func (d *Document) mention(steps *node) error {
	found, err := steps.storeRefs()
	for i, r := range found {
		d.stored = append(d.stored, &parameter{Parameter: Parameter{Name: r.String(), Type: String, Required: true}, store: &found[i], number: i + 1})
	}
	return err
}

// stores finds the parameter of the store that is called name between braces.
func (d *Document) stores(name string, line int) (*parameter, error) {
	r, err := ParseStoreRef(name)
	if err != nil {
		return nil, refuse(line, "%w", err)
	}
	for _, p := range d.stored {
		if *p.store == r {
			return p, nil
		}
	}
	return nil, refuse(line, "%s is not understood here", r.braced())
}

// storedIn returns the store's parameters among references, each once.
func (b *builder) storedIn(found []ref) []*parameter {
	var out []*parameter
	for _, r := range found {
		if !isStoreName(r.name) {
			continue
		}
		if p, err := b.d.stores(r.name, b.s.line); err == nil && !slices.Contains(out, p) {
			out = append(out, p)
		}
	}
	return out
}

// given reads a value, or the reference to one.
func (p *parameter) given(n *node) (any, error) {
	if n.shape == scalar {
		if v, ok, err := storeValueOf(n.text); ok || err != nil {
			return v, err
		}
	}
	return p.value(n)
}

// settle takes a value as it was signed, with references of which it is made replaced.
func (d *Document) settle(v Values, p *parameter, text string) error {
	given, err := p.decode(text)
	if err != nil {
		return err
	}
	switch given := given.(type) {
	case storeValue:
		return d.settleLater(v, p, given)
	case []string:
		if len(refsOf(given)) > 0 {
			return d.settleItems(v, p, given)
		}
	}
	v.of[p.Name] = given
	return p.check(given)
}

// settleLater puts what was pinned in the place of a reference.
func (d *Document) settleLater(v Values, p *parameter, given storeValue) error {
	r, _, err := wholeRef(string(given))
	if err != nil {
		return err
	}
	pinned, _, err := d.store.find(r)
	if err != nil {
		return err
	}
	text, err := d.store.text(r)
	if err != nil {
		return err
	}
	v.signed[p.Name] = given
	if pinned.Secret {
		v.of[p.Name] = text
		return p.mayBeSecret()
	}
	value, err := p.fromStore(pinned, text)
	if err != nil {
		return fleet.Errorf(fleet.KindOf(err), "%s: %w", r.braced(), err)
	}
	v.of[p.Name] = value
	return p.check(value)
}

// settleItems does the same for a list's items.
func (d *Document) settleItems(v Values, p *parameter, given []string) error {
	items := slices.Clone(given)
	for i, item := range given {
		r, ok, err := wholeRef(item)
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		if r.Secure {
			return p.noSecret("is a list")
		}
		if items[i], err = d.store.text(r); err != nil {
			return err
		}
	}
	v.signed[p.Name], v.of[p.Name] = given, items
	return p.check(items)
}

// fromStore reads the text of a plain parameter as the type asks for.
func (p *parameter) fromStore(pinned Pinned, text string) (any, error) {
	n := &node{line: 1, text: text}
	switch p.Type {
	case String, Integer, Boolean:
	case StringList:
		n = &node{shape: list, line: 1}
		items := []string{text}
		if pinned.List {
			items = strings.Split(text, ",")
		}
		for _, item := range items {
			n.items = append(n.items, &node{line: 1, text: item})
		}
	case StringMap, MapList:
		parsed, err := readJSON([]byte(text), 1)
		if err != nil {
			return nil, err
		}
		n = parsed
	}
	return p.value(n)
}

// mayBeSecret reports why a parameter cannot be a secret, or nil. What is known of a value before it is open must hold for
// it: a secret is looked at by nobody.
func (p *parameter) mayBeSecret() error {
	switch {
	case p.Type != String:
		return p.noSecret("is of type " + string(p.Type))
	case len(p.AllowedValues) > 0 || p.AllowedPattern != "" || p.MinChars > 0 || p.MaxChars > 0:
		return p.noSecret("has bounds for its values, and nobody looks into a secret")
	}
	return nil
}

func (p *parameter) noSecret(why string) error {
	return fleet.Errorf(fleet.Invalid, "parameter %s cannot be a secret: it %s", p.Name, why).
		Hinted("refer to the secret in the document: {{ ssm-secure:NAME }}")
}

// checkArguments refuses values that hold what stands for a secret.
func (s *Store) checkArguments(args []Argument) error {
	for _, a := range args {
		if s.hides(a.Value) {
			return fleet.Errorf(fleet.Invalid, "parameter %s: %w", a.Name, errMarker)
		}
	}
	return nil
}

// handed takes a value that a document hands to one that it runs: whatever it looks like, it is a value.
func (d *Document) handed(v Values, p *parameter, text string) error {
	n, err := readJSON([]byte(text), 1)
	if err != nil {
		return err
	}
	value, err := p.value(n)
	if err != nil {
		return err
	}
	v.of[p.Name] = value
	if d.store.hides(encode(value)) {
		return p.mayBeSecret()
	}
	return p.check(value)
}
