package agent

import (
	"fmt"
	"testing"

	"github.com/muster-fleet/muster/params"
)

// TestFloors: a reader is judged by what was seen before it began, and what is lower never takes the place of what is higher.
func TestFloors(t *testing.T) {
	t.Parallel()
	var f floors
	see := func(version uint32) { f.put(map[string]params.Floor{"/a": {Born: 1, Version: version}}) }
	see(3)
	began := f.picture()
	see(4)
	see(2)
	for what, tc := range map[string]struct {
		by   func(string) (params.Floor, bool)
		want uint32
	}{"a reader that began before": {began, 3}, "a later one": {f.picture(), 4}} {
		if floor, ok := tc.by("/a"); !ok || floor.Version != tc.want {
			t.Errorf("%s is judged by %+v", what, floor)
		}
	}
	if _, ok := f.picture()("/b"); ok {
		t.Error("a name that was never seen has a floor")
	}
	for v := range uint32(100) {
		see(v + 5)
	}
	if n := len(f.of[copyKey("/a")]); n != floorSteps {
		t.Errorf("%d steps are kept", n)
	}
	for i := range 3 * maxFloors {
		f.put(map[string]params.Floor{fmt.Sprint(i): {Born: 1, Version: 1}})
	}
	if n := len(f.of) + len(f.old); n > maxFloors {
		t.Errorf("%d names are kept", n)
	}
}
