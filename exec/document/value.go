package document

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/muster-fleet/muster/node/fleet"
)

// A value is a string, an int64, a bool, a []string, a map[string]any or a []any: what its parameter's type asks for.

// value reads a value of the parameter's type. A scalar in quotes is taken for a number or a boolean, too, as SSM's
// callers write both.
func (p *parameter) value(n *node) (any, error) {
	switch p.Type {
	case String:
		if n.shape == scalar {
			return n.text, nil
		}
	case Integer:
		if v, ok := number(n.text); ok && n.shape == scalar {
			return v, nil
		}
	case Boolean:
		if n.shape == scalar && (strings.EqualFold(n.text, "true") || strings.EqualFold(n.text, "false")) {
			return strings.EqualFold(n.text, "true"), nil
		}
	case StringList:
		if n.shape == list {
			return n.texts()
		}
	case StringMap:
		if n.shape == dict {
			return n.any(), nil
		}
	case MapList:
		if n.shape == list && !slices.ContainsFunc(n.items, func(c *node) bool { return c.shape != dict }) {
			return n.any(), nil
		}
	}
	return nil, fleet.Errorf(fleet.Invalid, "%s, not %s", p.Type.wanted(), n.seen())
}

// wanted says how a value of the type is written.
func (t Type) wanted() string {
	switch t {
	case String:
		return "a text is wanted"
	case Integer:
		return "a whole number is wanted"
	case Boolean:
		return "true or false is wanted"
	case StringList:
		return `a list of texts is wanted, ["a","b"]`
	case StringMap:
		return `a map is wanted, {"key":"value"}`
	case MapList:
		return `a list of maps is wanted, [{"key":"value"}]`
	}
	return "a value is wanted"
}

func (n *node) seen() string {
	if n.shape == scalar {
		return strconv.Quote(clip(n.text))
	}
	return n.shape.String()
}

// texts returns a list's items, which must be scalars.
func (n *node) texts() ([]string, error) {
	out := make([]string, 0, len(n.items))
	for _, c := range n.items {
		if c.shape != scalar {
			return nil, refuse(c.line, "a list of texts is wanted, not one with %s in it", c.shape)
		}
		out = append(out, c.text)
	}
	return out, nil
}

// any returns a node as JSON has it.
func (n *node) any() any {
	switch n.shape {
	case list:
		out := make([]any, 0, len(n.items))
		for _, c := range n.items {
			out = append(out, c.any())
		}
		return out
	case dict:
		out := make(map[string]any, len(n.items))
		for i, k := range n.keys {
			out[k.text] = n.items[i].any()
		}
		return out
	case null, open:
		return nil
	case scalar:
	}
	switch {
	case n.bare && (n.text == "true" || n.text == "false"):
		return n.text == "true"
	case n.bare && n.text != "null" && json.Valid([]byte(n.text)):
		return json.Number(n.text) // as it is written: 1.50 stays
	}
	return n.text
}

// encode returns a value as JSON. It is canonical: no spaces, keys sorted, nothing escaped that need not be.
func encode(v any) string {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return "null" // only what value returns comes here, and all of that has a form
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// stringify returns a value as it stands inside of a text, as SSM has it: texts and numbers as they are, the rest as JSON.
func stringify(v any) string {
	if s, ok := v.(string); ok {
		return s
	}
	return encode(v)
}

// asNode returns a value as a piece of a document at a line.
func asNode(v any, line int) *node {
	switch v := v.(type) {
	case string:
		return &node{line: line, text: v}
	case []string:
		n := &node{shape: list, line: line}
		for _, s := range v {
			n.items = append(n.items, &node{line: line, text: s})
		}
		return n
	case []any:
		n := &node{shape: list, line: line}
		for _, c := range v {
			n.items = append(n.items, asNode(c, line))
		}
		return n
	case map[string]any:
		n := &node{shape: dict, line: line}
		for _, k := range keysOf(v) {
			n.keys = append(n.keys, &node{line: line, text: k})
			n.items = append(n.items, asNode(v[k], line))
		}
		return n
	case nil:
		return &node{shape: null, line: line}
	}
	return &node{line: line, text: stringify(v), bare: true}
}

func keysOf(m map[string]any) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// check reports why a value breaks the parameter's constraints, or nil.
func (p *parameter) check(v any) error {
	if err := p.checkItems(v); err != nil {
		return err
	}
	for _, s := range p.atoms(v) {
		if err := p.checkAtom(s); err != nil {
			return err
		}
	}
	return nil
}

func (p *parameter) checkItems(v any) error {
	items := -1
	switch v := v.(type) {
	case []string:
		items = len(v)
	case []any:
		items = len(v)
	case map[string]any:
		items = len(v)
	}
	switch {
	case items < 0:
		return nil
	case items < p.MinItems:
		return fleet.Errorf(fleet.Invalid, "%d items; at least %d are wanted", items, p.MinItems)
	case p.MaxItems > 0 && items > p.MaxItems:
		return fleet.Errorf(fleet.Invalid, "%d items; at most %d are allowed", items, p.MaxItems)
	}
	return nil
}

// atoms returns the texts that the constraints are for: SSM checks each item of a list, and a map as its JSON.
func (p *parameter) atoms(v any) []string {
	switch v := v.(type) {
	case []string:
		return v
	case []any:
		out := make([]string, 0, len(v))
		for _, c := range v {
			out = append(out, stringify(c))
		}
		return out
	}
	return []string{stringify(v)}
}

func (p *parameter) checkAtom(s string) error {
	chars := utf8.RuneCountInString(s)
	switch {
	case strings.ContainsRune(s, 0) || strings.Contains(s, `\u0000`) && p.nested():
		return fleet.Errorf(fleet.Invalid, "a value cannot hold a zero byte")
	case len(p.AllowedValues) > 0 && !slices.Contains(p.AllowedValues, s):
		return fleet.Errorf(fleet.Invalid, "%q is not one of %s", clip(s), strings.Join(p.AllowedValues, ", "))
	case p.pattern != nil && !p.pattern.MatchString(s):
		return fleet.Errorf(fleet.Invalid, "%q does not match %s", clip(s), p.AllowedPattern)
	case chars < p.MinChars:
		return fleet.Errorf(fleet.Invalid, "%q has %d characters; at least %d are wanted", clip(s), chars, p.MinChars)
	case p.MaxChars > 0 && chars > p.MaxChars:
		return fleet.Errorf(fleet.Invalid, "%q has %d characters; at most %d are allowed", clip(s), chars, p.MaxChars)
	}
	return nil
}

// nested reports whether the texts inside of a value are seen as JSON only.
func (p *parameter) nested() bool { return p.Type == StringMap || p.Type == MapList }

// constraints says in words what values a parameter takes.
func (p *parameter) constraints() []string {
	var out []string
	if len(p.AllowedValues) > 0 {
		out = append(out, "one of "+strings.Join(p.AllowedValues, ", "))
	}
	if p.AllowedPattern != "" {
		out = append(out, "matches "+p.AllowedPattern)
	}
	return append(out, bounds("characters", p.MinChars, p.MaxChars, bounds("items", p.MinItems, p.MaxItems, nil))...)
}

func bounds(what string, low, high int, before []string) []string {
	switch {
	case low > 0 && high > 0:
		return append(before, fmt.Sprintf("%d to %d %s", low, high, what))
	case low > 0:
		return append(before, fmt.Sprintf("at least %d %s", low, what))
	case high > 0:
		return append(before, fmt.Sprintf("at most %d %s", high, what))
	}
	return before
}
