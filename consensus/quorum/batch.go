package quorum

import (
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
)

// The data of a raft log entry: u8 format 1, then a msgpack array of items (binary).
const batchFormat = 1

func encodeBatch(items [][]byte) []byte {
	return append([]byte{batchFormat}, wire.Marshal(items)...)
}

func decodeBatch(data []byte) (items [][]byte, err error) {
	if len(data) == 0 || data[0] != batchFormat {
		return nil, fleet.Errorf(fleet.Invalid, "a log entry has a format that this muster does not know")
	}
	if err := wire.Unmarshal(data[1:], &items); err != nil {
		return nil, err
	}
	return items, nil
}

// fits returns how many of the first waiting items, given by size, go into one batch: at least one, then no more than
// batchItems and batchBytes.
func fits(sizes func(int) int, waiting int) int {
	total := 0
	for n := range min(waiting, batchItems) {
		total += sizes(n)
		if n > 0 && total > batchBytes {
			return n
		}
	}
	return min(waiting, batchItems)
}
