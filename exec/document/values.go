package document

import (
	"cmp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/muster-fleet/muster/node/fleet"
)

// Argument is a value for a parameter.
type Argument struct {
	Name  string
	Value string // JSON
}

// Values are the values of all parameters of one document, checked. The zero Values are those of a document without
// parameters.
type Values struct {
	of     map[string]any
	signed map[string]any // of those that came from the store: as they were given
}

// Arguments returns all values, sorted by name, in their canonical form: what is signed. Of what came from the store it is
// the reference.
func (v Values) Arguments() []Argument {
	args := make([]Argument, 0, len(v.of))
	for name, value := range v.of {
		if given, ok := v.signed[name]; ok {
			value = given
		}
		args = append(args, Argument{name, encode(value)})
	}
	return sorted(args)
}

func sorted(args []Argument) []Argument {
	slices.SortFunc(args, func(a, b Argument) int { return strings.Compare(a.Name, b.Name) })
	return args
}

// ParseArguments reads values as a person types them, NAME=VALUE, by the parameters' types. A list is JSON, or one
// item; a list that is named again gets one more.
func (d *Document) ParseArguments(words []string) ([]Argument, error) {
	args := map[string]any{}
	for _, word := range words {
		name, text, ok := strings.Cut(word, "=")
		if !ok {
			return nil, fleet.Errorf(fleet.Invalid, "%q is not NAME=VALUE", clip(word)).Hinted("parameters: %s", d.names())
		}
		p, err := d.parameter(name)
		if err != nil {
			return nil, err
		}
		v, err := p.typed(text)
		if err != nil {
			return nil, fleet.Errorf(fleet.Invalid, "parameter %s: %w", name, err)
		}
		if args[name], err = merge(name, args[name], v); err != nil {
			return nil, err
		}
	}
	return Values{of: args}.Arguments(), nil
}

// merge adds a value to what the same name was given before.
func merge(name string, before, v any) (any, error) {
	items, isList := v.([]string)
	first, wasList := before.([]string)
	switch {
	case before == nil:
		return v, nil
	case !isList || !wasList:
		return nil, fleet.Errorf(fleet.Invalid, "parameter %s is given twice", name)
	}
	return slices.Concat(first, items), nil
}

// typed reads what a person typed for the parameter.
func (p *parameter) typed(text string) (any, error) {
	switch {
	case !utf8.ValidString(text):
		return nil, fleet.Errorf(fleet.Invalid, "a value is UTF-8 text")
	case MentionsStore(text):
		if v, ok, err := storeValueOf(text); ok || err != nil {
			return v, err
		}
		if p.Type != StringList { // whose items may be references
			return nil, inside(text)
		}
	}
	n := &node{line: 1, text: text}
	switch p.Type {
	case String, Integer, Boolean:
	case StringList:
		if parsed, err := readJSON([]byte(text), 1); err == nil && parsed.shape == list {
			n = parsed
		} else {
			n = &node{shape: list, line: 1, items: []*node{n}}
		}
		for _, item := range n.items {
			if _, ok, err := storeValueOf(item.text); err != nil || !ok && MentionsStore(item.text) {
				return nil, cmp.Or(err, inside(item.text))
			}
		}
	case StringMap, MapList:
		if parsed, err := readJSON([]byte(text), 1); err == nil {
			n = parsed
		}
	}
	return p.value(n)
}

// parameter finds a parameter by its name.
func (d *Document) parameter(name string) (*parameter, error) {
	for _, p := range d.parameters {
		if p.Name == name {
			return p, nil
		}
	}
	return nil, fleet.Errorf(fleet.Invalid, "the document has no parameter %q", clip(name)).Hinted("parameters: %s", d.names())
}

// names lists the parameters for an error.
func (d *Document) names() string {
	names := make([]string, 0, len(d.parameters))
	for _, p := range d.parameters {
		names = append(names, p.Name)
	}
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

// Complete checks values against the document, and adds the defaults of those that are not given. A value or a default
// that is a reference to the store, or a list's item that is one, becomes what was pinned: see Bind.
func (d *Document) Complete(args []Argument) (Values, error) {
	if err := d.store.checkArguments(args); err != nil {
		return Values{}, err
	}
	return d.complete(args, d.settle)
}

// complete checks values and adds defaults. take makes a parameter's value of what was given.
func (d *Document) complete(args []Argument, take func(Values, *parameter, string) error) (Values, error) {
	v := Values{make(map[string]any, len(d.parameters)), map[string]any{}}
	size := 0
	for _, a := range args {
		p, err := d.parameter(a.Name)
		if err != nil {
			return Values{}, err
		}
		if _, twice := v.of[a.Name]; twice {
			return Values{}, fleet.Errorf(fleet.Invalid, "parameter %s is given twice", a.Name)
		}
		if size += len(a.Value); size > MaxValues {
			return Values{}, fleet.Errorf(fleet.Invalid, "values of more than %d bytes", MaxValues).Hinted("put what is long into a file that the hosts fetch")
		}
		if err = take(v, p, a.Value); err != nil {
			return Values{}, fleet.Errorf(fleet.Invalid, "parameter %s: %w", a.Name, err)
		}
	}
	return v, d.fill(v)
}

// decode reads a value given as JSON.
func (p *parameter) decode(text string) (any, error) {
	if !utf8.ValidString(text) {
		return nil, fleet.Errorf(fleet.Invalid, "a value is UTF-8 text")
	}
	n, err := readJSON([]byte(text), 1)
	if err != nil {
		return nil, err
	}
	return p.given(n)
}

// fill adds defaults, and refuses when a parameter has neither value nor default.
func (d *Document) fill(v Values) error {
	var missing []string
	for _, p := range d.parameters {
		if _, ok := v.of[p.Name]; ok {
			continue
		}
		if p.Required {
			missing = append(missing, p.Name)
			continue
		}
		if later, ok := p.fallback.(storeValue); ok {
			if err := d.settleLater(v, p, later); err != nil {
				return fleet.Errorf(fleet.KindOf(err), "default of %s: %w", p.Name, err)
			}
			continue
		}
		v.of[p.Name] = p.fallback
	}
	if len(missing) > 0 {
		return fleet.Errorf(fleet.Invalid, "missing: %s", strings.Join(missing, ", ")).Hinted("give %s=VALUE", missing[0])
	}
	return nil
}
