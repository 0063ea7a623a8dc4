package document

import (
	"slices"
	"strconv"
	"strings"
)

// form reads a map key by key and keeps the first thing that is wrong. What is never asked for is refused by done.
type form struct {
	what    string // for errors: "step x", "aws:runShellScript"
	at      *node
	resolve func(*node) (*node, error) // puts values in; nil: they stand for themselves
	asked   []string
	err     error
}

// read starts to read n, which must be a map.
func read(n *node, what string, resolve func(*node) (*node, error)) *form {
	f := &form{what: what, at: n, resolve: resolve}
	if n.shape != dict && n.shape != null {
		f.fail(n.line, "a map is wanted, not %s", n.seen())
	}
	return f
}

func (f *form) fail(line int, format string, args ...any) {
	if f.err == nil {
		f.err = refuse(line, f.what+": "+format, args...)
	}
}

// raw returns a value as the document has it, nil where it has none.
func (f *form) raw(key string) *node {
	f.asked = append(f.asked, key)
	if n := f.at.get(key); n != nil && n.shape != null {
		return n
	}
	return nil
}

// take returns a value with all parameters put in.
func (f *form) take(key string) *node {
	n := f.raw(key)
	if n == nil || f.resolve == nil || f.err != nil {
		return n
	}
	n, err := f.resolve(n)
	if err != nil {
		f.err = err
		return nil
	}
	return n
}

// text returns a scalar; empty when it is not there or not known yet.
func (f *form) text(key string) string {
	n := f.take(key)
	if n == nil || n.shape == open {
		return ""
	}
	if n.shape != scalar {
		f.fail(n.line, "%s is a text, not %s", key, n.shape)
	}
	return n.text
}

// need is text of a key that must be there.
func (f *form) need(key string) string {
	if f.at.get(key) == nil {
		f.fail(f.at.line, "%s is missing", key)
	}
	return f.text(key)
}

// oneOf is text that must be one of some. A default is the first of them.
func (f *form) oneOf(key string, of ...string) string {
	n := f.take(key)
	if n == nil || n.shape == open {
		return of[0]
	}
	if n.shape != scalar || !slices.Contains(of, n.text) {
		f.fail(n.line, "%s is one of %s, not %s", key, strings.Trim(strings.Join(of, ", "), ", "), n.seen())
	}
	return n.text
}

// flag is true or false, also in quotes, as SSM's documents have it.
func (f *form) flag(key string) bool {
	s := strings.ToLower(f.text(key))
	if s != "" && s != "true" && s != "false" {
		f.fail(f.at.get(key).line, "%s is true or false, not %q", key, clip(s))
	}
	return s == "true"
}

// texts is a list of texts, or one.
func (f *form) texts(key string) []string {
	n := f.take(key)
	switch {
	case n == nil || n.shape == open:
		return nil
	case n.shape == scalar:
		return []string{n.text}
	case n.shape != list:
		f.fail(n.line, "%s is a list, not %s", key, n.shape)
		return nil
	}
	var out []string
	for _, c := range n.items {
		switch c.shape {
		case scalar:
			out = append(out, c.text)
		case open, null:
		default:
			f.fail(c.line, "%s is a list of texts, not one with %s in it", key, c.shape)
		}
	}
	return out
}

// count is a number from 0.
func (f *form) count(key string) int {
	s := f.text(key)
	if s == "" {
		return 0
	}
	v, err := strconv.ParseUint(s, 10, 31)
	if err != nil {
		f.fail(f.at.get(key).line, "%s is a number from 0, not %q", key, clip(s))
	}
	return int(v)
}

// done refuses the keys that were never asked for.
func (f *form) done() error {
	if f.err != nil {
		return f.err
	}
	for _, k := range f.at.keys {
		if !slices.Contains(f.asked, k.text) {
			slices.Sort(f.asked)
			return refuse(k.line, "%s: %q is not understood here", f.what, clip(k.text)).
				Hinted("understood: %s", strings.Join(slices.Compact(f.asked), ", "))
		}
	}
	return nil
}
