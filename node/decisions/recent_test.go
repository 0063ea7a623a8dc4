package decisions

import (
	"fmt"
	"testing"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node/fleet"
)

// TestRecent: the newest decisions come in the order in which they were made, of whichever file.
func TestRecent(t *testing.T) {
	t.Parallel()
	l, err := Open(t.TempDir(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	for i := range 50 {
		what := exec.DecidedPolicy
		if i%3 == 0 {
			what = exec.DecidedBell
		}
		l.Put(fleet.UUID{byte(i + 1)}, exec.Decision{At: int64(i), What: what, Detail: fmt.Sprint(i)})
	}
	for n, first := range map[int]int{7: 43, 50: 0, 99: 0} {
		got, err := l.Recent(n)
		if err != nil || len(got) != 50-first {
			t.Fatal(n, len(got), err)
		}
		for i, d := range got {
			if d.Detail != fmt.Sprint(first+i) || d.Command != (fleet.UUID{byte(first + i + 1)}) {
				t.Fatalf("the newest %d: number %d is %+v", n, i, d)
			}
		}
	}
}
