package api

import (
	"context"
	"net/http"

	"github.com/muster-fleet/muster/node/fleet"
)

// restart has the agent start its program anew in its own place. The answer gets out before that.
func (s *desk) restart(w http.ResponseWriter, _ *http.Request) {
	if s.again == nil {
		fail(w, fleet.Errorf(fleet.Unavailable, "this agent cannot start itself anew").Hinted("systemctl restart muster"))
		return
	}
	if err := s.again("somebody on this host asked for it"); err != nil {
		fail(w, err)
		return
	}
	write(w, http.StatusOK, struct{}{})
}

// Restart has the agent start its program anew as the same process: the program that lies at its path by now. What it runs goes
// on. The agent may still answer for a moment after it has agreed.
func (c *Client) Restart(ctx context.Context) error {
	return c.post(ctx, "/v1/restart", struct{}{}, &struct{}{})
}
