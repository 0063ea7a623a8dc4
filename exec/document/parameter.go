package document

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Type is the type of a document's parameter, as SSM spells it.
type Type string

// The types of parameters.
const (
	String     Type = "String"
	StringList Type = "StringList"
	StringMap  Type = "StringMap"
	Integer    Type = "Integer"
	Boolean    Type = "Boolean"
	MapList    Type = "MapList"
)

// Limits of parameters.
const (
	MaxParameters = 200
	// MaxValues is how many bytes all values of a run may have together: SSM counts them into a document's 64 KiB.
	MaxValues = 64 << 10
)

// Parameter is what a document says of one of its parameters. A bound of 0 is none.
type Parameter struct {
	Name           string
	Type           Type
	Description    string
	Required       bool   // it has no default
	Default        string // JSON; empty when Required
	AllowedValues  []string
	AllowedPattern string
	MinChars       int
	MaxChars       int
	MinItems       int
	MaxItems       int
}

// parameter is a Parameter with what is needed to check values.
type parameter struct {
	Parameter
	line     int
	pattern  *regexp.Regexp // nil: none
	fallback any            // the default; nil: none
	store    *StoreRef      // it is one of the store's, and not the document's own; nil: its own
	number   int            // of one of the store's, from 1
}

// tame reports whether no value of the parameter can mean anything to a shell: the author has listed them, or they are
// numbers.
func (p *parameter) tame() bool {
	switch p.Type {
	case Integer, Boolean:
		return true
	case String:
		return len(p.AllowedValues) > 0 && !slices.ContainsFunc(p.AllowedValues, func(v string) bool {
			return v == "" || v[0] == '-' || strings.ContainsFunc(v, func(r rune) bool { return !harmless(r) })
		})
	}
	return false
}

// harmless reports whether a character stands for itself wherever a shell meets it, also when it looks twice.
func harmless(r rune) bool { return letter(r) || strings.ContainsRune("_.:@%+,/-", r) }

func letter(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
}

// isName reports whether s can name a parameter: SSM's ^[a-zA-Z0-9]+$, which also makes SSM_<name> a name in a shell.
func isName(s string) bool {
	return s != "" && len(s) <= 128 && !strings.ContainsFunc(s, func(r rune) bool { return !letter(r) })
}

func (d *Document) readParameters(n *node) error {
	if n == nil || n.shape == null {
		return nil
	}
	if n.shape != dict || len(n.keys) > MaxParameters {
		return refuse(n.line, "parameters is a map of at most %d names, not %s of %d", MaxParameters, n.shape, len(n.items))
	}
	for i, key := range n.keys {
		if !isName(key.text) {
			return refuse(key.line, "parameter %q: a name is made of letters and digits", clip(key.text))
		}
		p, err := readParameter(key, n.items[i])
		if err != nil {
			return err
		}
		d.parameters = append(d.parameters, p)
	}
	return nil
}

func readParameter(key, n *node) (*parameter, error) {
	f := read(n, "parameter "+key.text, nil)
	p := &parameter{line: key.line}
	p.Name, p.Type, p.Description = key.text, Type(f.text("type")), f.text("description")
	p.AllowedPattern = f.text("allowedPattern")
	p.MinChars, p.MaxChars = f.count("minChars"), f.count("maxChars")
	p.MinItems, p.MaxItems = f.count("minItems"), f.count("maxItems")
	f.oneOf("displayType", "", "textfield", "textarea")
	f.oneOf("interpolationType", "", "ENV_VAR")
	p.AllowedValues = f.texts("allowedValues")
	fallback := f.take("default")
	if err := f.done(); err != nil {
		return nil, err
	}
	if !p.Type.known() {
		return nil, refuse(n.line, "parameter %s: type %q is not one of %s", key.text, clip(string(p.Type)), typeNames)
	}
	if err := p.compile(n); err != nil {
		return nil, err
	}
	return p, p.setDefault(fallback)
}

const typeNames = "String, StringList, StringMap, Integer, Boolean, MapList"

func (t Type) known() bool {
	switch t {
	case String, StringList, StringMap, Integer, Boolean, MapList:
		return true
	}
	return false
}

// compile makes the pattern. What RE2 cannot do is refused, and so is what it reads otherwise than Java does.
func (p *parameter) compile(n *node) error {
	if p.AllowedPattern == "" {
		return nil
	}
	line := n.get("allowedPattern").line
	if strings.Contains(p.AllowedPattern, "&&[") {
		return refuse(line, "parameter %s: allowedPattern: an intersection of classes is not understood here", p.Name)
	}
	re, err := regexp.Compile(p.AllowedPattern)
	if err != nil {
		return refuse(line, "parameter %s: allowedPattern: %w", p.Name, err).
			Hinted("patterns are RE2's: no look-around, no back references, no count above 1000 (minChars and maxChars count, too)")
	}
	p.pattern = re
	return nil
}

func (p *parameter) setDefault(n *node) error {
	p.Required = n == nil || n.shape == null
	if p.Required {
		return nil
	}
	v, err := p.given(n)
	if _, later := v.(storeValue); err == nil && !later {
		err = p.check(v)
	}
	if err != nil {
		return refuse(n.line, "default of %s: %w", p.Name, err)
	}
	p.fallback, p.Default = v, encode(v)
	return nil
}

// clip shortens a text for an error.
func clip(s string) string {
	const most = 60
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}

// number reads a whole number, also as 5.0.
func number(s string) (int64, bool) {
	whole, frac, _ := strings.Cut(s, ".")
	if strings.Trim(frac, "0") != "" {
		return 0, false
	}
	v, err := strconv.ParseInt(whole, 10, 64)
	return v, err == nil
}
