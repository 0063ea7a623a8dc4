package golden

import (
	"strings"
	"testing"
)

// TestEveryFormatIsKept finds the types that go through node/fleet/wire anywhere, and holds each to be kept by its package.
func TestEveryFormatIsKept(t *testing.T) {
	rooms, err := load("../..")
	if err != nil {
		t.Fatal(err)
	}
	left, err := missing(rooms)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range left {
		t.Errorf("%s goes through wire, and no test keeps its bytes: name it in golden.Types of the formats_test.go of its package", name)
	}
	if n := len(spoken(rooms)); n < 8 {
		t.Errorf("only %d packages speak at all: the search is wrong", n)
	}
}

func TestCompare(t *testing.T) {
	type one struct {
		A int
		B []string
	}
	type two struct {
		A int
		B []string
		C bool
	}
	kept := map[string]string{"x": text(one{})}
	for name, c := range map[string]struct {
		got  map[string]string
		want string
	}{
		"same":    {map[string]string{"x": text(one{})}, ""},
		"changed": {map[string]string{"x": text(two{})}, "changed"},
		"new":     {map[string]string{"x": text(one{}), "y": text(two{})}, "is new"},
		"gone":    {map[string]string{}, "no longer checked"},
	} {
		said := strings.Join(compare(kept, c.got), "\n")
		if c.want == "" && said != "" || !strings.Contains(said, c.want) {
			t.Errorf("%s: %q", name, said)
		}
	}
}
