package agent

import (
	"context"

	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

// Acts returns acts of this host's record from a position on, as many as a peer gets in one answer, with the length and head
// of all of it, which may have been a moment before.
func (a *Agent) Acts(_ context.Context, from uint64) (acts []auth.Act, length uint64, head fleet.ID, err error) {
	record := a.record()
	acts, err = a.cfg.Folder.ReadActs(from, actsPage)
	return acts, record.Length, record.Head, err
}
