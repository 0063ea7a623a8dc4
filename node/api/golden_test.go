package api

import (
	"testing"

	"github.com/muster-fleet/muster/testnet/golden"
)

// Hosts of other versions read what hosts of this one write.
func TestFormatsAreKept(t *testing.T) {
	golden.Check(t, golden.Types(
		laneAnswers{}, laneAsks{},
	))
}
