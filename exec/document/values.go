package document

import (
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
type Values struct{ of map[string]any }

// Arguments returns all values, sorted by name, in their canonical form: what is signed.
func (v Values) Arguments() []Argument {
	args := make([]Argument, 0, len(v.of))
	for name, value := range v.of {
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
	return Values{args}.Arguments(), nil
}

// merge adds a value to what the same name was given before.
func merge(name string, before, v any) (any, error) {
	items, isList := v.([]string)
	switch {
	case before == nil:
		return v, nil
	case !isList:
		return nil, fleet.Errorf(fleet.Invalid, "parameter %s is given twice", name)
	}
	return slices.Concat(before.([]string), items), nil
}

// typed reads what a person typed for the parameter.
func (p *parameter) typed(text string) (any, error) {
	switch {
	case !utf8.ValidString(text):
		return nil, fleet.Errorf(fleet.Invalid, "a value is UTF-8 text")
	case fromStore(text):
		return nil, fleet.Errorf(fleet.Invalid, "%s: values from the parameter store are not there yet", clip(text)).Hinted("give the value itself")
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

// Complete checks values against the document, and adds the defaults of those that are not given.
func (d *Document) Complete(args []Argument) (Values, error) {
	v := Values{make(map[string]any, len(d.parameters))}
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
		if v.of[a.Name], err = p.decode(a.Value); err != nil {
			return Values{}, fleet.Errorf(fleet.Invalid, "parameter %s: %w", a.Name, err)
		}
	}
	return v, d.fill(v)
}

// decode reads and checks a value given as JSON.
func (p *parameter) decode(text string) (any, error) {
	if !utf8.ValidString(text) {
		return nil, fleet.Errorf(fleet.Invalid, "a value is UTF-8 text")
	}
	n, err := readJSON([]byte(text), 1)
	if err != nil {
		return nil, err
	}
	v, err := p.value(n)
	if err != nil {
		return nil, err
	}
	return v, p.check(v)
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
		v.of[p.Name] = p.fallback
	}
	if len(missing) > 0 {
		return fleet.Errorf(fleet.Invalid, "missing: %s", strings.Join(missing, ", ")).Hinted("give %s=VALUE", missing[0])
	}
	return nil
}
