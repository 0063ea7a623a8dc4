package report

import (
	"context"
	"testing"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node/auth"
)

// Only what was written counts, and who watches while they do.
func TestStats(t *testing.T) {
	s := open(t, t.TempDir(), Options{MaxBytes: 1 << 20})
	put(t, s, rep(command(1), 1, 2, exec.InProgress), rep(command(1), 2, 1, exec.Success), rep(command(1), 1, 1, exec.Pending)) // the last is old
	if got := s.Stats(); got.Kept != 2 || got.Bound != 1<<20 || got.Bytes == 0 || got.Watchers != 0 {
		t.Errorf("%+v", got)
	}
	ctx, stop := context.WithCancel(t.Context())
	watching, ended := make(chan struct{}, 2), make(chan error, 1)
	go func() {
		ended <- s.Watch(ctx, command(1), func(auth.Envelope) error {
			watching <- struct{}{}
			return nil
		})
	}()
	<-watching
	if got := s.Stats(); got.Watchers != 1 {
		t.Errorf("%d watch", got.Watchers)
	}
	stop()
	<-ended
	if got := s.Stats(); got.Watchers != 0 {
		t.Errorf("%d watch after the end", got.Watchers)
	}
}
