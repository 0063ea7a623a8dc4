package main

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"slices"

	"github.com/muster-fleet/muster/node/fleet"
)

// sample picks n of the members by a seed. The same seed picks the same nodes wherever it is asked, in any order of
// members; a larger sample holds every smaller one, so that 1% and then 5% with one seed meets no node for nothing.
func sample(members []fleet.Member, n int, seed uint64) []fleet.Member {
	type ticket struct {
		draw   [sha256.Size]byte
		member int
	}
	tickets := make([]ticket, len(members))
	for i, m := range members {
		tickets[i] = ticket{sha256.Sum256(append(binary.BigEndian.AppendUint64(nil, seed), m.ID[:]...)), i}
	}
	slices.SortFunc(tickets, func(a, b ticket) int { return slices.Compare(a.draw[:], b.draw[:]) })
	tickets = tickets[:min(n, len(tickets))]
	slices.SortFunc(tickets, func(a, b ticket) int { return cmp.Compare(a.member, b.member) }) // as they were listed
	out := make([]fleet.Member, 0, len(tickets))
	for _, t := range tickets {
		out = append(out, members[t.member])
	}
	return out
}
