package runner

import (
	"errors"
	"testing"

	"github.com/muster-fleet/muster/exec"
)

// What waited for its turn is asked once more whether it may start: if not, nothing is recorded, and its place is the next one's.
func TestStartIsAskedWhenItsTurnComes(t *testing.T) {
	h := open(t, Config{MaxRunning: 1})
	first := spec("cat")
	hangs := spec("sleep 1000")
	h.start(hangs)
	h.hasStarted(hangs.Command)
	no := errors.New("paused meanwhile")
	asked := make(chan struct{})
	first.May = func() error {
		close(asked)
		return no
	}
	over := make(chan error)
	go func() { over <- h.Start(t.Context(), first) }()
	until(t, "it waits", func() bool { return h.Stats().Queued == 1 })
	select {
	case <-asked:
		t.Error("it was asked before its turn")
	default:
	}
	if err := h.Cancel(hangs.Command); err != nil {
		t.Fatal(err)
	}
	if err := <-over; !errors.Is(err, no) || Crossed(err) {
		t.Errorf("%v", err)
	}
	if _, known := h.Ledger().Get(first.Command); known {
		t.Error("the ledger knows of it")
	}
	first.May = func() error { return nil }
	first.Stdin = []byte("x")
	wantStatus(t, h.run(first), exec.Success)
}
