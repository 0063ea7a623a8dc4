package agent

import (
	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node/fleet"
)

// maxHeld is how many orders a node keeps for peers who ask. Servers answer for older ones.
const maxHeld = 128

// held keeps the newest orders.
type held struct {
	newest uint64 // act of the newest
	byID   map[fleet.UUID]exec.Order
	age    []fleet.UUID
}

func newHeld() held { return held{byID: map[fleet.UUID]exec.Order{}} }

func (h *held) put(id fleet.UUID, act uint64, o exec.Order) {
	h.newest = max(h.newest, act)
	if _, ok := h.byID[id]; ok {
		return
	}
	if len(h.age) == maxHeld {
		delete(h.byID, h.age[0])
		h.age = h.age[1:]
	}
	h.byID[id] = o
	h.age = append(h.age, id)
}

func (h *held) get(id fleet.UUID) (exec.Order, bool) {
	o, ok := h.byID[id]
	return o, ok
}
