package runner

import (
	"maps"
	"testing"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node/fleet"
)

// Starts and ends are counted as the ledger has them: refusals are ends of their kind, a cancel of what never started is none,
// and a restart begins anew.
func TestStats(t *testing.T) {
	h := open(t, Config{MaxRunning: 2})
	h.run(spec("true"))
	h.run(spec("exit 3"))
	hangs := spec("sleep 1000")
	h.start(hangs)
	h.hasStarted(hangs.Command)
	for as, status := range map[exec.Status]exec.Status{"": exec.Refused, exec.Terminated: exec.Terminated} {
		if err := h.Refuse(newID(), fleet.ID{1}, as, "no"); err != nil {
			t.Fatal(err, status)
		}
	}
	if err := h.Cancel(newID()); err != nil {
		t.Fatal(err)
	}
	s := h.Stats()
	want := map[exec.Status]uint64{exec.Success: 1, exec.Failed: 1, exec.Refused: 1, exec.Terminated: 1}
	if !maps.Equal(s.Ended, want) || s.Started != 3 || s.Running != 1 || s.Queued != 0 || s.Capacity != 2 {
		t.Errorf("%+v", s)
	}
	if s.Bytes == 0 || s.Bound != DefaultKeepBytes || s.Ledger == 0 {
		t.Errorf("%d bytes of %d kept, a ledger of %d", s.Bytes, s.Bound, s.Ledger)
	}
	if err := h.Cancel(hangs.Command); err != nil {
		t.Fatal(err)
	}
	h.ended(hangs.Command)
	if s = h.Stats(); s.Running != 0 || s.Ended[exec.Cancelled] != 1 {
		t.Errorf("after the cancel: %+v", s)
	}
	if s = h.reopen().Stats(); s.Started != 0 || len(s.Ended) != 0 {
		t.Errorf("after a restart: %+v", s)
	}
}
