package agent

import (
	"context"

	"github.com/muster-fleet/muster/consensus"
	"github.com/muster-fleet/muster/node"
)

// sweepParams has done what time does to parameters: those that have expired go, notices are given. This server leads.
func (a *Agent) sweepParams(ctx context.Context) error {
	for done := 0; node.SweepParams(a.replica.State(), a.stamp(), done); done++ {
		result, err := a.commit(ctx, consensus.ParamsDue{})
		if err == nil {
			err = result.Err()
		}
		if err != nil {
			return err
		}
	}
	return nil
}
