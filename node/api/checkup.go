package api

import (
	"context"
	"net/http"

	"github.com/muster-fleet/muster/node/api/shape"
	"github.com/muster-fleet/muster/node/fleet"
)

// CheckupBackend is what an agent offers that looks at itself and at its ways to others. A Backend need not be one.
type CheckupBackend interface {
	// Checkup looks; it takes up to ten seconds. NotFound: there is no such node.
	Checkup(ctx context.Context, ask shape.CheckupAsk) (shape.Checkup, error)
	// MayCheckUp reports why policy lets an operator elsewhere have no checkup of this host, or nil. by is the key that was proved.
	MayCheckUp(by fleet.ID) error
}

// maxCheckupAsk bounds a request for a checkup in bytes.
const maxCheckupAsk = 4 << 10

func (s *desk) checkup(w http.ResponseWriter, r *http.Request) {
	var body shape.CheckupAsk
	err := ask(w, r, maxCheckupAsk, &body)
	backend, ok := s.backend.(CheckupBackend)
	if err == nil && !ok {
		err = fleet.Errorf(fleet.Unavailable, "this agent looks at nothing")
	}
	if who, _ := r.Context().Value(callerKey{}).(caller); err == nil && who.operator != nil { // it tells of the host, and sends packets
		err = backend.MayCheckUp(who.operator.Key)
	}
	var out shape.Checkup
	if err == nil {
		out, err = backend.Checkup(r.Context(), body)
	}
	if err != nil {
		fail(w, err)
		return
	}
	write(w, http.StatusOK, out)
}

// Checkup has the agent look at its own host, and at the ways between it and a sample of members, or the one that is named.
func (c *Client) Checkup(ctx context.Context, node string) (shape.Checkup, error) {
	var out shape.Checkup
	err := c.post(ctx, "/v1/checkup", shape.CheckupAsk{Node: node}, &out)
	return out, err
}
