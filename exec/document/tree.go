package document

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"

	"github.com/muster-fleet/muster/node/fleet"
)

// maxDepth bounds how deep a document nests; AWS's own stay below 8.
const maxDepth = 20

// shape is what a node of a document is.
type shape uint8

const (
	scalar shape = iota
	null
	list
	dict
	open // a scalar whose text depends on values that are not known yet
)

func (s shape) String() string {
	return [...]string{"text", "nothing", "a list", "a map", "a value"}[s]
}

// node is a piece of a document, with the line that an error names. It is the same for YAML and JSON.
type node struct {
	shape shape
	line  int // from 1
	text  string
	block bool    // a literal block: its text begins one line below, line by line
	bare  bool    // not in quotes: 5 and true are a number and a boolean
	keys  []*node // of a dict: scalars
	items []*node // of a list, or the values of a dict
}

// refuse makes the error for a line of a document.
func refuse(line int, format string, args ...any) *fleet.Error {
	e := fleet.Errorf(fleet.Invalid, format, args...)
	return fleet.Errorf(fleet.Invalid, "line %d: %w", line, e)
}

// get returns a dict's value, or nil.
func (n *node) get(key string) *node {
	for i, k := range n.keys {
		if k.text == key {
			return n.items[i]
		}
	}
	return nil
}

// readTree reads a document: JSON when it begins with a brace, as YAML would refuse its tabs; else YAML.
func readTree(text []byte) (*node, error) {
	if i := bytes.IndexByte(text, 0); i >= 0 || !utf8.Valid(text) {
		return nil, fleet.Errorf(fleet.Invalid, "a document is UTF-8 text without zero bytes")
	}
	if bytes.HasPrefix(bytes.TrimLeft(text, " \t\r\n"), []byte("{")) {
		return readJSON(text, 1)
	}
	return readYAML(text)
}

func readYAML(text []byte) (*node, error) {
	var doc yaml.Node
	if err := yaml.Load(text, &doc); err != nil {
		return nil, yamlError(err)
	}
	if doc.Kind != yaml.DocumentNode || len(doc.Content) != 1 {
		return nil, fleet.Errorf(fleet.Invalid, "a document is one YAML map")
	}
	return fromYAML(doc.Content[0], 0)
}

// yamlError brings the library's error into our form.
func yamlError(err error) error {
	e, ok := errors.AsType[*yaml.LoadError](err)
	switch {
	case !ok:
		return fleet.Errorf(fleet.Invalid, "a document is one YAML map: %w", err)
	case e.Mark.Line == 0:
		return fleet.Errorf(fleet.Invalid, "a document is one YAML map: %s", e.Message)
	case strings.Contains(e.Message, "cannot start any token"):
		return refuse(e.Mark.Line, "%s", e.Message).Hinted("YAML is indented with spaces, not with tabs")
	}
	return refuse(e.Mark.Line, "%s", e.Message)
}

func fromYAML(y *yaml.Node, depth int) (*node, error) {
	n := &node{line: y.Line}
	switch {
	case depth > maxDepth:
		return nil, refuse(y.Line, "nested deeper than %d", maxDepth)
	case y.Kind == yaml.AliasNode || y.Anchor != "" || y.Tag == "!!merge":
		return nil, refuse(y.Line, "anchors and aliases are not understood here").Hinted("write the part out")
	case y.Style&yaml.TaggedStyle != 0:
		return nil, refuse(y.Line, "tag %s is not understood here", y.Tag)
	case y.Kind == yaml.ScalarNode && y.Tag == "!!null":
		n.shape = null
		return n, nil
	case y.Kind == yaml.ScalarNode:
		quoted := yaml.DoubleQuotedStyle | yaml.SingleQuotedStyle | yaml.LiteralStyle | yaml.FoldedStyle
		n.text, n.block, n.bare = y.Value, y.Style&yaml.LiteralStyle != 0, y.Style&quoted == 0
		return n, nil
	}
	n.shape = list
	if y.Kind == yaml.MappingNode {
		n.shape = dict
	}
	for i, c := range y.Content {
		child, err := fromYAML(c, depth+1)
		if err != nil {
			return nil, err
		}
		if n.shape == list || i%2 == 1 {
			n.items = append(n.items, child)
		} else if err := n.addKey(child); err != nil {
			return nil, err
		}
	}
	return n, nil
}

func (n *node) addKey(key *node) error {
	if key.shape != scalar {
		return refuse(key.line, "a key is text, not %s", key.shape)
	}
	if n.get(key.text) != nil {
		return refuse(key.line, "%q is there twice", key.text)
	}
	n.keys = append(n.keys, key)
	return nil
}

// jsonReader reads JSON token by token and knows the line it is at.
type jsonReader struct {
	text  []byte
	dec   *json.Decoder
	line  int
	after int // lines are counted up to this byte
}

// readJSON reads JSON whose first line is a document's line first.
func readJSON(text []byte, first int) (*node, error) {
	r := &jsonReader{text: text, dec: json.NewDecoder(bytes.NewReader(text)), line: first}
	r.dec.UseNumber()
	n, err := r.value(0)
	if err != nil {
		return nil, err
	}
	if _, err := r.dec.Token(); !errors.Is(err, io.EOF) {
		return nil, refuse(r.at(), "text after the end of the JSON")
	}
	return n, nil
}

// at returns the line of the token read last.
func (r *jsonReader) at() int {
	end := min(int(r.dec.InputOffset()), len(r.text))
	r.line += bytes.Count(r.text[r.after:end], []byte("\n"))
	r.after = end
	return r.line
}

func (r *jsonReader) token() (json.Token, error) {
	t, err := r.dec.Token()
	if err == nil {
		return t, nil
	}
	line := r.at()
	if e, ok := errors.AsType[*json.SyntaxError](err); ok && int(e.Offset) > r.after && int(e.Offset) <= len(r.text) {
		line += bytes.Count(r.text[r.after:e.Offset-1], []byte("\n"))
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, refuse(line+bytes.Count(r.text[r.after:], []byte("\n")), "the JSON ends too early")
	}
	return nil, refuse(line, "not JSON: %w", err)
}

func (r *jsonReader) value(depth int) (*node, error) {
	t, err := r.token()
	if err != nil {
		return nil, err
	}
	n := &node{line: r.at()}
	if depth > maxDepth {
		return nil, refuse(n.line, "nested deeper than %d", maxDepth)
	}
	switch t := t.(type) {
	case nil:
		n.shape = null
	case string:
		n.text = t
	case json.Number:
		n.text, n.bare = t.String(), true
	case bool:
		n.text, n.bare = "false", true
		if t {
			n.text = "true"
		}
	case json.Delim:
		return r.composite(n, t, depth)
	}
	return n, nil
}

func (r *jsonReader) composite(n *node, opening json.Delim, depth int) (*node, error) {
	n.shape = list
	if opening == '{' {
		n.shape = dict
	}
	for r.dec.More() {
		if n.shape == dict {
			key, err := r.value(depth + 1)
			if err != nil {
				return nil, err
			}
			if err := n.addKey(key); err != nil {
				return nil, err
			}
		}
		child, err := r.value(depth + 1)
		if err != nil {
			return nil, err
		}
		n.items = append(n.items, child)
	}
	_, err := r.token() // the closing one
	return n, err
}
