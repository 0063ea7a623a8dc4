package host

import (
	"github.com/muster-fleet/muster/node/config"
	"github.com/muster-fleet/muster/node/fleet"
)

// restart starts the agent anew in its own place, unless its next start would stop at a mistake in its configuration.
func (h *Host) restart(reason string) error {
	if h.opts.Restart == nil {
		return fleet.Errorf(fleet.Unavailable, "this agent cannot start itself anew").Hinted("systemctl restart muster")
	}
	if h.opts.Source.Read != nil {
		if _, problems := h.opts.Source.Read(); len(problems) > 0 {
			return config.Error(problems)
		}
	}
	h.opts.Restart(reason)
	return nil
}
