package host

import (
	"context"
	"errors"
	"time"

	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/gossip"
	"github.com/muster-fleet/muster/node/transport"
)

// uplinks lets the agent of an outbound-only host keep its uplinks.
type uplinks struct {
	end    *transport.Endpoint
	gossip *gossip.Gossip
	began  time.Time
}

func (u uplinks) Hold(ctx context.Context, id fleet.ID, up func()) error {
	return u.end.Uplink(ctx, id, up)
}

func (u uplinks) Check(ctx context.Context, id fleet.ID) { _ = u.end.CheckUplink(ctx, id) }

func (u uplinks) Tell(via []fleet.ID) error { return u.gossip.SetVia(via) }

func (u uplinks) Silence() time.Duration {
	last := u.gossip.LastHeard()
	if last.Before(u.began) {
		last = u.began
	}
	return time.Since(last)
}

// announce tells gossip of an outbound-only host again while members may not know its enrolment yet, as keepAddrs does.
func (h *Host) announce(ctx context.Context) {
	began := time.Now()
	for _, after := range announceAfter {
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Until(began.Add(after))):
		}
		if via := h.Agent.Via(); len(via) > 0 {
			_ = h.gossip.SetVia(via)
		}
	}
}

// setFree notes whether the others do without the replica that an outbound-only host has from before: nobody else tells it
// so at the next start.
func (h *Host) setFree(free bool) {
	kept, err := h.folder.Outbound()
	kept.Free = free
	if err = errors.Join(err, h.folder.PutOutbound(kept)); err != nil {
		h.opts.Log.Warn("cannot keep what becomes of the replica here", "err", err)
	}
}
