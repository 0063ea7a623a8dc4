package shape

import (
	"reflect"
	"testing"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/fleet"
)

// TestPinnedParametersComeBack: a command that is sent again takes the same versions.
func TestPinnedParametersComeBack(t *testing.T) {
	want := []exec.ParamRef{
		{Name: "/a/b", Selector: "3", Born: 5, Version: 3, Digest: fleet.Sum(nil), Tags: map[string]string{"k": "v"}, List: true, Value: []byte("x,y")},
		{Name: "key", Born: 6, Version: 1, Secret: true},
	}
	raw, err := Marshal(OfCommand(node.CommandInfo{Body: exec.Command{Params: want}}))
	if err != nil {
		t.Fatal(err)
	}
	var c Command
	if err := Unmarshal(raw, &c); err != nil || !reflect.DeepEqual(c.Command().Body.Params, want) {
		t.Errorf("%s, %v", raw, err)
	}
}
