package config

import (
	"bytes"
	"errors"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"

	"github.com/muster-fleet/muster/node/fleet"
)

// MaxFile is how many bytes a configuration file may have.
const MaxFile = 64 << 10

// Parse reads a configuration file: one flat YAML map. It returns what it understands, and a problem for everything else, in
// the order of the file. path names the file in both. Values are checked by Resolve.
func Parse(path string, text []byte) (given []Given, problems []Problem) {
	root, err := load(text)
	if err != nil {
		return nil, []Problem{problemAt(path, err.line, err.what)}
	}
	if root == nil {
		return nil, nil
	}
	seen := map[string]int{}
	for i := 0; i+1 < len(root.Content); i += 2 {
		key, value := root.Content[i], root.Content[i+1]
		if key.Kind != yaml.ScalarNode {
			problems = append(problems, problemAt(path, key.Line, fleet.Errorf(fleet.Invalid, "a key is a word")))
			continue
		}
		known, ok := Find(key.Value)
		if !ok {
			problems = append(problems, problemAt(path, key.Line, unknown(key, value)))
			continue
		}
		if first := seen[known.Name]; first > 0 {
			problems = append(problems, problemAt(path, key.Line, fleet.Errorf(fleet.Invalid, "%s is there twice: in line %d too", known.Name, first)))
			continue
		}
		seen[known.Name] = key.Line
		text, err := textOf(known, value)
		if err != nil {
			problems = append(problems, problemAt(path, key.Line, err))
			continue
		}
		given = append(given, Given{known.Name, text, Origin{File, path + ":" + strconv.Itoa(key.Line), key.Line}})
	}
	return given, problems
}

// fault is what makes a whole file unreadable.
type fault struct {
	line int // 0: unknown
	what error
}

// load returns the file's map; nil: it is empty.
func load(text []byte) (*yaml.Node, *fault) {
	switch {
	case len(text) > MaxFile:
		return nil, &fault{0, fleet.Errorf(fleet.Invalid, "%d bytes; a configuration has at most %d", len(text), MaxFile)}
	case !utf8.Valid(text) || bytes.IndexByte(text, 0) >= 0:
		return nil, &fault{0, fleet.Errorf(fleet.Invalid, "a configuration is UTF-8 text without zero bytes")}
	case blank(text):
		return nil, nil
	}
	var doc yaml.Node
	if err := yaml.Load(text, &doc); err != nil {
		return nil, unreadable(err)
	}
	if doc.Kind != yaml.DocumentNode || len(doc.Content) != 1 {
		return nil, &fault{0, notAMap()}
	}
	root := doc.Content[0]
	switch {
	case root.Kind == yaml.ScalarNode && root.Tag == "!!null":
		return nil, nil
	case root.Kind != yaml.MappingNode:
		return nil, &fault{root.Line, notAMap()}
	}
	return root, nil
}

// blank reports whether a file has nothing but comments: the library takes that for no document.
func blank(text []byte) bool {
	for line := range bytes.Lines(text) {
		if line = bytes.TrimSpace(line); len(line) > 0 && line[0] != '#' {
			return false
		}
	}
	return true
}

func notAMap() error {
	return fleet.Errorf(fleet.Invalid, "a configuration is lines of KEY: VALUE").Hinted("for example log.level: debug")
}

func unreadable(err error) *fault {
	e, ok := errors.AsType[*yaml.LoadError](err)
	switch {
	case !ok:
		return &fault{0, fleet.Errorf(fleet.Invalid, "a configuration is lines of KEY: VALUE: %w", err)}
	case strings.Contains(e.Message, "cannot start any token"), strings.Contains(e.Message, "tab character"):
		return &fault{e.Mark.Line, fleet.Errorf(fleet.Invalid, "%s", e.Message).Hinted("YAML is indented with spaces, not with tabs; quote a value that begins with @, %% or `")}
	}
	return &fault{e.Mark.Line, fleet.Errorf(fleet.Invalid, "%s", e.Message).Hinted("lines of KEY: VALUE, for example log.level: debug")}
}

// unknown says what is wrong with a key that there is not; a map in a map is what people write who know other programs.
func unknown(key, value *yaml.Node) error {
	if value.Kind == yaml.MappingNode {
		for _, k := range Names() {
			if inner, ok := strings.CutPrefix(k, key.Value+"."); ok {
				return fleet.Errorf(fleet.Invalid, "keys do not nest").Hinted("write %s.%s: … on one line", key.Value, inner)
			}
		}
	}
	return noKey(key.Value)
}

// textOf returns a value as flags and variables have it.
func textOf(k Key, y *yaml.Node) (string, error) {
	if list := k.Kind == Addresses; list && y.Kind == yaml.SequenceNode {
		var all []string
		for _, one := range y.Content {
			if one.Kind != yaml.ScalarNode {
				return "", fleet.Errorf(fleet.Invalid, "%s is %s", k.Name, k.Allowed())
			}
			all = append(all, one.Value)
		}
		return strings.Join(all, ","), nil
	}
	if y.Kind != yaml.ScalarNode || y.Anchor != "" || y.Style&yaml.TaggedStyle != 0 {
		return "", fleet.Errorf(fleet.Invalid, "%s is %s", k.Name, k.Allowed())
	}
	if y.Tag == "!!null" || y.Value == "" {
		return "", fleet.Errorf(fleet.Invalid, "%s has no value", k.Name).Hinted("it is %s; or leave the line out", k.Allowed())
	}
	return y.Value, nil
}

func problemAt(path string, line int, err error) Problem {
	p := Problem{Where: path, What: err.Error()}
	if line > 0 {
		p.Where += ":" + strconv.Itoa(line)
	}
	if e, ok := errors.AsType[*fleet.Error](err); ok {
		p.Hint = e.Hint
	}
	return p
}
