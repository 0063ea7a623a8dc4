package quorum

import "github.com/muster-fleet/muster/node/fleet"

// ErrNotLeader says that this replica does not lead, and that nothing was written. Leader is zero if none is known.
type ErrNotLeader struct{ Leader fleet.ID }

// Error says who leads.
func (e ErrNotLeader) Error() string {
	if e.Leader.IsZero() {
		return "the quorum has no leader now"
	}
	return "this server does not lead; " + e.Leader.String() + " does"
}

// Unwrap gives the error its kind, Unavailable.
func (e ErrNotLeader) Unwrap() error {
	return &fleet.Error{Kind: fleet.Unavailable, What: e.Error(), Hint: "try again in a few seconds"}
}

// ErrUnknownOutcome says that an item may or may not have been written: leadership, process or patience ended while it
// was on its way. Proposing it again is safe only where the machine knows repeated items.
type ErrUnknownOutcome struct{ Err error }

// Error says why nobody knows.
func (e ErrUnknownOutcome) Error() string {
	return "it is unknown whether this was written: " + e.Err.Error()
}

// Unwrap returns the cause.
func (e ErrUnknownOutcome) Unwrap() []error {
	return []error{&fleet.Error{Kind: fleet.Unavailable, What: e.Error()}, e.Err}
}

func closedError() error { return fleet.Errorf(fleet.Unavailable, "the replica is closed") }
