package host

import (
	"strings"
	"testing"

	"github.com/muster-fleet/muster/node/fleet"
)

func TestMayHide(t *testing.T) {
	at := []string{"10.0.0.1:7980"}
	for name, err := range map[string]error{
		"can be dialled": mayHide(false, at), "found out where": mayHide(false, nil), "hidden": mayHide(true, nil),
	} {
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	err := mayHide(true, at)
	if fleet.KindOf(err) != fleet.Invalid || !strings.Contains(err.Error(), at[0]) {
		t.Errorf("both at once: %v", err)
	}
}
