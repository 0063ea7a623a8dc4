package document

import (
	"encoding/json"
	"path"
	"slices"
	"strings"

	"github.com/muster-fleet/muster/exec/steps"
)

// Use names a document that another one runs.
type Use struct {
	Name    string
	Version string // as the step has it: a number, a version's name, $LATEST; empty: $DEFAULT
}

// useOf reads NAME or NAME:VERSION.
func useOf(text string, line int) (Use, error) {
	name, version, _ := strings.Cut(text, ":")
	if version == "$DEFAULT" {
		version = ""
	}
	if strings.ContainsAny(name, "/ ") || name == "" || strings.Contains(version, ":") {
		return Use{}, refuse(line, "%q is no document: NAME or NAME:VERSION", clip(text))
	}
	return Use{name, version}, nil
}

// Uses returns the documents that steps of d name, for values, each once. Documents that are built in are among them;
// steps that are not for Linux are not looked at.
func (d *Document) Uses(v Values) ([]Use, error) {
	var out []Use
	for _, s := range d.steps {
		b := builder{d: d, s: s, r: resolver{d: d, v: v}, host: Host{Platform: Linux}}
		u, ok, err := b.use()
		if err != nil {
			return nil, err
		}
		if ok && !slices.Contains(out, u) {
			out = append(out, u)
		}
	}
	return out, nil
}

// use returns the document that a step names, if it does.
func (b *builder) use() (Use, bool, error) {
	if b.s.when != nil {
		if ok, _, err := b.s.when.holds(b.r, b.host.Platform); err != nil || !ok {
			return Use{}, false, err
		}
	}
	f := read(b.s.inputs, b.s.of(), b.r.resolve)
	switch b.s.action {
	case runDocument:
		if f.oneOf("documentType", "", "SSMDocument", "LocalPath") == "SSMDocument" {
			u, err := useOf(f.need("documentPath"), b.s.line)
			return u, err == nil, err
		}
	case downloadContent:
		if f.text("sourceType") != "SSMDocument" {
			return Use{}, false, f.err
		}
		info, err := b.mapInput(f, "sourceInfo")
		if err != nil || info == nil {
			return Use{}, false, err
		}
		source := read(info, b.s.of()+": sourceInfo", nil)
		u, err := useOf(source.need("name"), info.line)
		return u, err == nil, err
	}
	return Use{}, false, f.err
}

// find returns a pinned document.
func (b *builder) find(u Use, line int) (*Document, error) {
	if d, ok := b.pins.lib(u.Name, u.Version); ok {
		if b.d.store.hides(string(d.text)) {
			return nil, refuse(line, "%s: document %s: %w", b.s.of(), u.Name, errMarker)
		}
		return d, nil
	}
	return nil, refuse(line, "%s: document %s is not among those that were sent", b.s.of(), u.Name).
		Hinted("muster doc list")
}

// nested builds aws:runDocument.
func (b *builder) nested(f *form, out *steps.Step) error {
	kind := f.oneOf("documentType", "", "SSMDocument", "LocalPath")
	at := f.need("documentPath")
	given, err := b.mapInput(f, "documentParameters")
	if err != nil {
		return err
	}
	if f.at.get("documentType") == nil {
		f.fail(f.at.line, "documentType is missing")
	}
	in := Nested{Name: at, Depth: b.host.Depth + 1, Parameters: map[string]json.RawMessage{}}
	if given != nil && given.shape == dict {
		for i, k := range given.keys {
			in.Parameters[k.text] = json.RawMessage(encode(given.items[i].any()))
		}
	}
	switch {
	case b.r.trial || f.err != nil:
	case in.Depth > MaxDepth:
		return refuse(b.s.line, "%s: documents run documents %d deep at most", b.s.of(), MaxDepth)
	case kind == "LocalPath" && b.hidesIn(given):
		return b.noSecret(given.line, "given to a document that nobody has seen yet")
	case kind == "LocalPath":
		in.Path = path.Clean(at)
	default:
		if err := b.pin(&in); err != nil {
			return err
		}
	}
	return act(f, out, ActDocument, in)
}

// pin puts the nested document's text into its input, and those of all that it runs in turn, and plans it once: what
// would fail on the host later is refused now.
func (b *builder) pin(in *Nested) error {
	u, err := useOf(in.Name, b.s.line)
	if err != nil {
		return err
	}
	d, err := b.find(u, b.s.line)
	if err != nil {
		return err
	}
	if b.pins.left--; b.pins.left < 0 {
		return refuse(b.s.line, "%s: more than %d documents run each other", b.s.of(), maxNested)
	}
	d = d.Bind(b.d.store)
	v, err := d.complete(in.Arguments(), d.handed)
	if err != nil {
		return refuse(b.s.line, "%s: %s: %w", b.s.of(), u.Name, err)
	}
	inner := &pins{left: b.pins.left, lib: b.pins.noting(&in.Library)}
	_, err = inner.plan(d, v, Host{b.host.Platform, in.Depth})
	b.pins.left = inner.left
	if err != nil {
		return refuse(b.s.line, "%s: %s: %w", b.s.of(), u.Name, err)
	}
	in.Text = string(d.text)
	if err := b.handOver(in, d); err != nil {
		return err
	}
	return b.handSecrets(in)
}

// handOver gives a nested document what of the store it refers to, with all that it runs in turn.
func (b *builder) handOver(in *Nested, d *Document) error {
	all := []*Document{d}
	for _, t := range in.Library {
		if other, err := Parse([]byte(t.Text)); err == nil {
			all = append(all, other)
		}
	}
	var found []StoreRef
	for _, d := range all {
		more, err := d.StoreRefs(nil)
		if err != nil {
			return err
		}
		found = join(found, more)
	}
	for _, r := range found {
		p, _, err := b.d.store.find(r)
		if err != nil {
			continue // whoever needs it says so: a default that is not asked for is not pinned
		}
		text, err := b.d.store.text(r)
		if err != nil {
			return err
		}
		in.Store = append(in.Store, StoreValue{Name: r.Name, Selector: r.Selector, List: p.List, Secret: p.Secret, Value: text})
	}
	if len(in.Store) > 0 {
		in.Salt = b.d.store.salt()
	}
	return nil
}

// handSecrets puts the words of the nested document's own store in the place of secrets within its parameters. So it knows
// them for secrets, and gives them to those of its steps that name them.
func (b *builder) handSecrets(in *Nested) error {
	for name, value := range in.Parameters {
		if !b.d.store.hides(string(value)) {
			continue
		}
		parts, err := b.d.store.parts(string(value))
		if err != nil {
			return refuse(b.s.line, "%s: %w", b.s.of(), err)
		}
		in.Salt = b.d.store.salt()
		inner := NewStore(nil, in.Salt)
		var text strings.Builder
		for _, p := range parts {
			text.WriteString(p.Text)
			if p.Secret > 0 {
				text.WriteString(inner.word(in.secret(b.d.store.secretAt(p.Secret), b.d.store.word(int(p.Secret)))))
			}
		}
		in.Parameters[name] = json.RawMessage(text.String())
	}
	return nil
}

// secret returns the number, from 1, of a secret in the nested document's store, which is given it if need be. Its value
// will be put in where word stands.
func (n *Nested) secret(p Pinned, word string) int {
	number := 0
	for _, v := range n.Store {
		if v.Secret {
			number++
		}
		if v.Secret && v.Name == p.Name && v.Selector == p.Selector {
			return number
		}
	}
	n.Store = append(n.Store, StoreValue{Name: p.Name, Selector: p.Selector, Secret: true, Value: word})
	return number + 1
}

// noting returns the library, which writes down what it was asked for. Built-in documents are on every host.
func (p *pins) noting(asked *[]NestedText) Library {
	return func(name, version string) (*Document, bool) {
		d, ok := p.lib(name, version)
		same := func(t NestedText) bool { return t.Name == name && t.Version == version }
		if _, everywhere := builtIn(name); ok && !everywhere && !slices.ContainsFunc(*asked, same) {
			*asked = append(*asked, NestedText{name, version, string(d.text)})
		}
		return d, ok
	}
}
