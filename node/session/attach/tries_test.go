package attach

import (
	"errors"
	"testing"
	"time"

	"github.com/muster-fleet/muster/node/fleet"
)

func TestPauses(t *testing.T) {
	least, most := newTries(time.Time{}), newTries(time.Time{})
	for i, want := range []time.Duration{0, 100, 200, 400, 800, 1600, 2000, 2000, 2000} {
		want *= time.Millisecond
		if got := least.pause(0); got != want*3/4 {
			t.Errorf("before attempt %d: %v", i+1, got)
		}
		if got := most.pause(1); got != want*5/4 {
			t.Errorf("before attempt %d: %v", i+1, got)
		}
	}
	for range 1000 {
		if got := most.pause(1); got > 2500*time.Millisecond || got <= 0 {
			t.Fatalf("a pause of %v", got)
		}
	}
}

// A refusal is believed when it is repeated for 30 s without another answer.
func TestARefusalThatPasses(t *testing.T) {
	at := time.Unix(1e9, 0)
	tries := newTries(at)
	denied, away := fleet.Errorf(fleet.Denied, "no"), errors.New("network is unreachable")
	for i, c := range []struct {
		after time.Duration
		err   error
		ends  bool
	}{
		{1, denied, false}, {20, denied, false}, {25, away, false}, {26, denied, false}, {55, denied, false}, {56, denied, true},
		{57, away, false}, {599, away, false}, {600, away, true},
	} {
		if err := tries.judge(c.err, at.Add(c.after*time.Second)); (err != nil) != c.ends {
			t.Errorf("%d, after %d s: %v", i, c.after, err)
		}
	}
}
