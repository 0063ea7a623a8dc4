package quorum

import (
	"testing"

	"github.com/muster-fleet/muster/testnet/golden"
)

// Hosts of other versions read what hosts of this one write.
func TestFormatsAreKept(t *testing.T) {
	formats := golden.Types(
		identity{},
	)
	formats["batch"] = encodeBatch([][]byte{{1}, {2, 3}})
	formats["hello"] = hello{to: 1, from: 2}.encode()
	golden.Check(t, formats)
}
