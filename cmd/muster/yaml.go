package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/muster-fleet/muster/node/fleet"
)

// yamlOf writes v as YAML with the names and the order of its JSON.
func yamlOf(v any) ([]byte, error) {
	raw, err := json.Marshal(v)
	if err != nil {
		return nil, fleet.Errorf(fleet.Internal, "%w", err)
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(raw, &doc); err != nil { // every JSON text is YAML
		return nil, fleet.Errorf(fleet.Internal, "the answer cannot be written as YAML: %w", err)
	}
	unquote(&doc)
	var out bytes.Buffer
	enc := yaml.NewEncoder(&out)
	enc.SetIndent(2)
	if err := errors.Join(enc.Encode(&doc), enc.Close()); err != nil {
		return nil, fleet.Errorf(fleet.Internal, "the answer cannot be written as YAML: %w", err)
	}
	return out.Bytes(), nil
}

// unquote takes JSON's braces and quotes away where they are not needed. Words that older readers of YAML take for true
// and false keep theirs.
func unquote(n *yaml.Node) {
	if n.Kind != yaml.ScalarNode || n.Tag != "!!str" || !oldBool(n.Value) {
		n.Style = 0
	}
	for _, c := range n.Content {
		unquote(c)
	}
}

func oldBool(text string) bool {
	return slices.Contains([]string{"y", "n", "yes", "no", "on", "off"}, strings.ToLower(text))
}
