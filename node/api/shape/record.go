package shape

import "github.com/muster-fleet/muster/node/fleet"

// Record is a part of the fleet's record. Each act is the encoding of an auth.Act, which holds what was signed.
type Record struct {
	Format int      `json:"format"`
	Length uint64   `json:"length"` // acts that the whole record has
	Head   fleet.ID `json:"head"`   // of the chain over them
	Acts   [][]byte `json:"acts"`
}
