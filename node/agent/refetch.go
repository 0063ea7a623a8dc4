package agent

import (
	"context"
	"time"

	"github.com/muster-fleet/muster/node"
)

// refetchEvery is how often members are asked for the record by a host that has none.
const refetchEvery = time.Second

// Refetch asks the members that this host remembers for the record, until it has one: where its file was moved away,
// nobody in gossip is trusted yet, so no beacon tells that there is more. What comes is verified from the fleet's ID on.
func (a *Agent) Refetch(ctx context.Context) {
	again := time.NewTicker(refetchEvery)
	defer again.Stop()
	for a.record().Charter == nil {
		for id := range a.everyHint() {
			a.fetchActs(ctx, node.FetchActs{From: id})
			if a.record().Charter != nil || ctx.Err() != nil {
				break
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-again.C:
		}
	}
	a.gossip.Join(ctx, a.everyHint())
}
