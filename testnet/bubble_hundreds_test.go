package testnet

import (
	"runtime/debug"
	"testing"
	"time"
)

// TestTownsOfHundreds are whole hosts too. Forming such a fleet is most of the work: everybody verifies everybody, and
// passes on a dozen times what it learns of everybody. So the run of every day is one bad network, on which a command
// spreads while a host dies and comes back. It stands first among the towns, so that the others pass beside it.
func TestTownsOfHundreds(t *testing.T) {
	t.Parallel()
	defer debug.SetGCPercent(debug.SetGCPercent(200)) // a tenth less work, for half a gigabyte
	towns(t, chosen(
		size{nodes: 100, loss: 0.10, brief: true},
		size{nodes: 200, loss: 0, commands: 4, rest: time.Minute, long: true},
		size{nodes: 200, loss: 0.10, commands: 4, rest: time.Minute, long: true},
		size{nodes: 200, loss: 0.25, commands: 4, rest: time.Minute, long: true},
	))
}
