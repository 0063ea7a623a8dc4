package testnet

import (
	"encoding/json"
	"strings"
	"testing"
)

// guideResult is what a run of a document says in JSON.
type guideResult struct {
	Nodes []guideNode
}

type guideNode struct {
	Name, Status   string
	Stdout, Stderr struct{ Text string }
	Steps          []struct{ Name, Status string }
}

func (n guideNode) steps() string {
	var words []string
	for _, s := range n.Steps {
		words = append(words, s.Name+" "+s.Status)
	}
	return strings.Join(words, ", ")
}

func (g *guideResult) read(t *testing.T, text string) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), g); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
}
