package api

import (
	"context"
	"fmt"
	"net/http"
	"strconv"

	"github.com/muster-fleet/muster/node/api/shape"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
)

// RecordBackend is what the agent offers to those who verify the fleet's record themselves.
type RecordBackend interface {
	// Acts returns acts of this host's record from a position on (0 is the genesis), as many as fit one answer.
	Acts(ctx context.Context, from uint64) (Acts, error)
}

// Acts is a part of a record, and how far all of it went a moment before.
type Acts struct {
	Length uint64
	Head   fleet.ID // of the chain at Length
	Acts   []auth.Act
}

func (s *desk) record(w http.ResponseWriter, r *http.Request) {
	from, err := strconv.ParseUint(r.URL.Query().Get("from"), 10, 64)
	if err != nil {
		fail(w, fleet.Errorf(fleet.Invalid, "from=%q is no position in the record", r.URL.Query().Get("from")))
		return
	}
	acts, err := s.backend.Acts(r.Context(), from)
	if err != nil {
		fail(w, err)
		return
	}
	out := shape.Record{Format: shape.Format, Length: acts.Length, Head: acts.Head, Acts: [][]byte{}}
	for _, act := range acts.Acts {
		out.Acts = append(out.Acts, wire.Marshal(act))
	}
	write(w, http.StatusOK, out)
}

// Acts returns acts of the agent's record from a position on, as many as fit one answer. Nobody has verified them: Record.Apply
// does.
func (c *Client) Acts(ctx context.Context, from uint64) (Acts, error) {
	var in shape.Record
	if err := c.get(ctx, fmt.Sprintf("/v1/record?from=%d", from), &in); err != nil {
		return Acts{}, err
	}
	out := Acts{Length: in.Length, Head: in.Head}
	for _, raw := range in.Acts {
		var act auth.Act
		if err := wire.Unmarshal(raw, &act); err != nil {
			return Acts{}, fleet.Errorf(fleet.Invalid, "the agent's record cannot be read: %w", err)
		}
		out.Acts = append(out.Acts, act)
	}
	return out, nil
}
