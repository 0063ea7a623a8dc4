package main

import (
	"strings"
	"testing"

	"github.com/muster-fleet/muster/node"
)

func TestLevelLines(t *testing.T) {
	if got := levelLines(node.LevelStatus{Level: 2, Supports: 2}); got != nil {
		t.Errorf("where all are equal: %q", got)
	}
	got := strings.Join(levelLines(node.LevelStatus{Level: 1, Supports: 2, More: 3, Holding: []node.LevelHolder{
		{Name: "web1", Level: 1, Online: true, Waits: true}, {Name: "web2", Level: 1, Online: true, Waits: true},
		{Name: "db1", Server: true, Waits: true}, {Name: "old1"},
	}}), "\n")
	for _, want := range []string{"fleet level 1;", "web[1-2]: older", "db1: have not said", "old1: away", "and 3 more"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in:\n%s", want, got)
		}
	}
}
