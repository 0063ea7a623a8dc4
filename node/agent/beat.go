package agent

import (
	"context"
	"time"

	"github.com/muster-fleet/muster/node"
)

// beatLook is how often Beat looks for a turn.
const beatLook = 50 * time.Millisecond

// Beat returns when the loop has ended a turn since the call, or with the error of ctx: a loop that hangs ends none.
func (a *Agent) Beat(ctx context.Context) error {
	turns := a.turns.Load()
	select {
	case a.queue <- node.Tick{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	every := time.NewTicker(beatLook)
	defer every.Stop()
	for a.turns.Load() == turns {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-every.C:
		}
	}
	return nil
}
