package attach

import (
	"errors"
	"time"

	"github.com/muster-fleet/muster/node/fleet"
)

const (
	giveUp   = 10 * time.Minute // after the loss: longer than a supervisor waits for its client
	disown   = 30 * time.Second // of refusals in a row, after which they are believed
	steady   = 5 * time.Second  // a connection that lasted so long begins the count anew
	shortest = 100 * time.Millisecond
	longest  = 2 * time.Second // a session is back so soon after the network is
)

// tries decides when a lost connection is tried again, and when no more.
type tries struct {
	first   time.Time // the loss
	count   int
	refused time.Time // since when each attempt was refused; zero: the last was not
}

func newTries(now time.Time) tries { return tries{first: now} }

// pause returns how long to wait before the next attempt: not at all at first, for maybe only the network has changed; then
// doubling. chance, 0 to 1, spreads those who lost their connections together.
func (t *tries) pause(chance float64) time.Duration {
	t.count++
	if t.count == 1 {
		return 0
	}
	pause := min(longest, shortest<<min(t.count-2, 10))
	return time.Duration(float64(pause) * (0.75 + chance/2))
}

// judge returns nil if another attempt may fare better than one that failed now, else the error for the person.
func (t *tries) judge(err error, now time.Time) error {
	kind, hint := fleet.Unavailable, ""
	if e, ok := errors.AsType[*fleet.Error](err); ok {
		kind, hint = e.Kind, e.Hint
	}
	switch kind {
	case fleet.NotFound, fleet.Expired, fleet.Conflict: // only the node itself, asked for this session, says so
		return &fleet.Error{Kind: kind, What: "the connection was lost, and the session did not wait", Hint: hint, Err: err}
	case fleet.Denied, fleet.Invalid: // may be said by a stranger at the same address of another network, or at a start
		if t.refused.IsZero() {
			t.refused = now
		}
		if now.Sub(t.refused) >= disown {
			return &fleet.Error{Kind: kind, What: "the connection was lost, and no other is granted", Hint: hint, Err: err}
		}
	case fleet.Unavailable, fleet.Exhausted, fleet.Internal:
		t.refused = time.Time{}
	}
	if now.Sub(t.first) >= giveUp {
		return &fleet.Error{Kind: fleet.Unavailable, What: "the connection was lost 10 minutes ago and is not back", Hint: hint, Err: err}
	}
	return nil
}
