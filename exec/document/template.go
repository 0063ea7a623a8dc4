package document

import "strings"

// ref is a {{ name }} in a text, by bytes.
type ref struct {
	start, end int
	name       string
}

// refs finds all {{ name }} of a text. Other things in double braces ({{.Names}}, {{ a.b }}) are no references of SSM's
// and stand for themselves.
func refs(text string) []ref {
	var out []ref
	for at := 0; ; {
		i := strings.Index(text[at:], "{{")
		if i < 0 {
			return out
		}
		at += i
		if r, ok := refAt(text, at); ok {
			out = append(out, r)
			at = r.end
		} else {
			at++ // {{{ p }} has its reference one further
		}
	}
}

// refAt reads a reference that begins at the two braces at byte at. Names of other rooms ({{ ssm:x }}) are references,
// too, so that they can be refused.
func refAt(text string, at int) (ref, bool) {
	const space = " \t\r\n\f"
	rest := strings.TrimLeft(text[at+2:], space)
	name := rest
	if i := strings.IndexFunc(rest, func(r rune) bool { return !letter(r) }); i >= 0 {
		name = rest[:i]
	}
	for _, room := range []string{"ssm:", "ssm-secure:", "global:", "automation:"} {
		if end := strings.Index(rest, "}}"); strings.HasPrefix(rest, room) && end >= 0 {
			name = strings.TrimRight(rest[:end], space)
		}
	}
	tail := strings.TrimLeft(rest[len(name):], space)
	if name == "" || !strings.HasPrefix(tail, "}}") {
		return ref{}, false
	}
	return ref{at, len(text) - len(tail) + 2, name}, true
}

// whole returns the name if a text is one reference and nothing else.
func whole(text string) (string, bool) {
	text = strings.TrimSpace(text)
	r := refs(text)
	if len(r) != 1 || r[0].start != 0 || r[0].end != len(text) {
		return "", false
	}
	return r[0].name, true
}

// declared finds the parameter of a reference at a line.
func (d *Document) declared(name string, line int) (*parameter, error) {
	if isStoreName(name) {
		return d.stores(name, line)
	}
	if strings.Contains(name, ":") {
		return nil, refuse(line, "{{ %s }} is not understood here: the document's own parameters and the store's are", clip(name))
	}
	p, err := d.parameter(name)
	if err != nil {
		return nil, refuse(line, "{{ %s }} is no parameter of the document", clip(name)).Hinted("parameters: %s", d.names())
	}
	return p, nil
}

// resolver puts values into the inputs of a step. Without values it marks what depends on them as open.
type resolver struct {
	d     *Document
	v     Values
	trial bool
}

// resolve returns n with all references replaced, once: what a value holds is never looked into. A reference that
// stands alone keeps its parameter's type; inside of a text it becomes text.
func (r resolver) resolve(n *node) (*node, error) {
	if n.shape == scalar {
		return r.scalar(n)
	}
	out := *n
	out.items = make([]*node, len(n.items))
	for i, c := range n.items {
		var err error
		if out.items[i], err = r.resolve(c); err != nil {
			return nil, err
		}
	}
	return &out, nil
}

func (r resolver) scalar(n *node) (*node, error) {
	if name, ok := whole(n.text); ok {
		p, err := r.d.declared(name, n.line)
		if err != nil {
			return nil, err
		}
		if r.trial {
			return &node{shape: open, line: n.line}, nil
		}
		v, err := r.value(p, n.line)
		if err != nil {
			return nil, err
		}
		return asNode(v, n.line), nil
	}
	text, known, err := r.text(n.text, n.line)
	if err != nil {
		return nil, err
	}
	if !known {
		return &node{shape: open, line: n.line}, nil
	}
	out := *n
	out.text = text
	return &out, nil
}

// value returns the value of a parameter, the document's own or the store's; nil in a trial.
func (r resolver) value(p *parameter, line int) (any, error) {
	if p.store == nil || r.trial {
		return r.v.of[p.Name], nil
	}
	text, err := r.d.store.text(*p.store)
	if err != nil {
		return nil, refuse(line, "%w", err)
	}
	return text, nil
}

// text puts values into a text; known is false where they are not there yet.
func (r resolver) text(text string, line int) (out string, known bool, err error) {
	var b strings.Builder
	at := 0
	found := refs(text)
	for _, f := range found {
		p, err := r.d.declared(f.name, line)
		if err != nil {
			return "", false, err
		}
		v, err := r.value(p, line)
		if err != nil {
			return "", false, err
		}
		b.WriteString(text[at:f.start])
		b.WriteString(stringify(v))
		at = f.end
	}
	b.WriteString(text[at:])
	return b.String(), len(found) == 0 || !r.trial, nil
}
