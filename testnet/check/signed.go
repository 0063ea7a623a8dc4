package check

import (
	"slices"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

// Signed finds runs of what nobody asked for, on nodes that it is not for, or of something else than was asked. With a
// charter it follows the chain of signatures as well: each run is of a statement that an operator in standing signed, over
// a set that holds the node, and with the body that ran.
func Signed(h History) []Violation {
	v := violations{promise: PromiseSigned}
	statements := h.verified(&v)
	for _, r := range h.Runs {
		o, asked := h.order(r.Command)
		switch {
		case !asked:
			v.add(r.Command, r.Node, "it ran at %s, and nobody asked for it", clock(r.Began))
			continue
		case o.Ack == Refused:
			v.add(r.Command, r.Node, "it ran at %s, but was refused at %s", clock(r.Began), clock(o.Answered))
		case h.Listed != nil && !h.Listed[r.Command]:
			v.add(r.Command, r.Node, "it ran at %s, and the fleet does not know it", clock(r.Began))
		}
		if !slices.Contains(o.Nodes, r.Node) {
			v.add(r.Command, r.Node, "it ran at %s, but is for %v", clock(r.Began), o.Nodes)
		}
		if r.Did != "" && o.Does != "" && r.Did != o.Does {
			v.add(r.Command, r.Node, "it did %.80q, but was to do %.80q", r.Did, o.Does)
		}
		if h.Charter != nil {
			h.chain(&v, r, statements)
		}
	}
	return v.found
}

// verified opens the servers' statements and returns those that hold, by command.
func (h History) verified(v *violations) map[fleet.UUID]exec.Order {
	out := map[fleet.UUID]exec.Order{}
	if h.Charter == nil {
		return out
	}
	for _, s := range h.Statements {
		charter, now := s.Charter, s.Committed
		if charter == nil {
			charter = h.Charter
		}
		cmd, _, err := s.Order.Verify(charter, now)
		if err != nil {
			v.add(claimed(s), "", "the servers keep it, committed at %s, but: %v", clock(now), err)
			continue
		}
		out[cmd.Header.ID] = s.Order
	}
	return out
}

// claimed returns the ID that an unverified statement claims to have.
func claimed(s Statement) fleet.UUID {
	cmd, err := auth.Peek[exec.Command](s.Order.Statement)
	if err != nil {
		return fleet.UUID{}
	}
	return cmd.Header.ID
}

func (h History) chain(v *violations, r Run, statements map[fleet.UUID]exec.Order) {
	order, ok := statements[r.Command]
	switch {
	case !ok:
		v.add(r.Command, r.Node, "it ran at %s, and no operator in standing has signed it", clock(r.Began))
	case !order.Has(h.IDs[r.Node]):
		v.add(r.Command, r.Node, "it ran at %s, and the set that was signed does not hold the node", clock(r.Began))
	case !r.Digest.IsZero() && order.Statement.Digest(auth.ForCommand, h.Charter.Fleet()) != r.Digest:
		v.add(r.Command, r.Node, "it ran at %s, but with another body than was signed", clock(r.Began))
	}
}
