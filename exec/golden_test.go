package exec

import (
	"testing"

	"github.com/muster-fleet/muster/testnet/golden"
)

// Hosts of other versions read what hosts of this one write.
func TestFormatsAreKept(t *testing.T) {
	golden.Check(t, golden.Types(
		Cancel{}, Command{}, Decision{}, DocumentChange{}, Order{}, OutputHead{}, Publication{}, Report{}, cancelledBody{},
		endedBody{}, refusedBody{}, startedBody{},
	))
}
