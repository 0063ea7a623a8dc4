package api

import (
	"bytes"
	"context"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/muster-fleet/muster/node/api/shape"
	"github.com/muster-fleet/muster/node/fleet"
)

// examined is a backend that looks at itself, for accounts and for whom policy lets.
type examined struct {
	stub
	denied error
	asked  atomic.Int64
}

func (b *examined) Checkup(context.Context, shape.CheckupAsk) (shape.Checkup, error) {
	b.asked.Add(1)
	return shape.Checkup{Format: shape.Format}, nil
}

func (b *examined) MayCheckUp(by fleet.ID) error {
	if by != id("ann") {
		return fleet.Errorf(fleet.Denied, "another key")
	}
	return b.denied
}

// TestCheckupsOfOperatorsElsewhere: policy is asked about them; accounts of the host that may look at the fleet need none.
func TestCheckupsOfOperatorsElsewhere(t *testing.T) {
	t.Parallel()
	b := &examined{denied: fleet.Errorf(fleet.Denied, "no rule permits it")}
	_, c := fromElsewhere(t, b)
	if _, err := c.Checkup(t.Context(), ""); fleet.KindOf(err) != fleet.Denied || b.asked.Load() > 0 {
		t.Errorf("%v, and it looked %d times", err, b.asked.Load())
	}
	b = &examined{}
	_, c = fromElsewhere(t, b)
	if _, err := c.Checkup(t.Context(), ""); err != nil {
		t.Error(err)
	}
}

// TestStacksShowNoValues: what a call was given does not stand in its stack.
func TestStacksShowNoValues(t *testing.T) {
	t.Parallel()
	in := "goroutine 7 [chan receive, 12 minutes]:\nmain.seal({0xde, 0xad, 0xbe, 0xef}, 0x20)\n\t/src/main.go:7 +0x1d\n" +
		"main.(*box).open(0xc000012345, {0xca, 0xfe}, ...)\n\t/src/box.go:9 +0x20\ncreated by main.run in goroutine 1\n\t/src/run.go:3 +0x4\n"
	want := "goroutine 7 [chan receive, 12 minutes]:\nmain.seal(…)\n\t/src/main.go:7 +0x1d\n" +
		"main.(*box).open(…)\n\t/src/box.go:9 +0x20\ncreated by main.run in goroutine 1\n\t/src/run.go:3 +0x4\n"
	if got := withoutArguments(in); got != want {
		t.Errorf("%s", got)
	}
	var out bytes.Buffer
	if err := writeStacks(&out); err != nil || !strings.Contains(out.String(), "TestStacksShowNoValues(…)") || strings.Contains(out.String(), "(0x") {
		t.Errorf("%v\n%s", err, out.String())
	}
}
