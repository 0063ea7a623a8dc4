package cast

import (
	"bytes"
	"slices"
	"time"

	"github.com/muster-fleet/muster/node/fleet"
)

// Keep says which recordings of ended sessions stay.
type Keep struct {
	Age   time.Duration // since the end; 0: for ever
	Bytes int64         // of all of them together; 0: any number
}

// DefaultKeep is three months, and 2 GiB of the node's disk.
func DefaultKeep() Keep { return Keep{Age: 90 * 24 * time.Hour, Bytes: 2 << 30} }

// Kept is a session's folder.
type Kept struct {
	Session fleet.UUID
	By      fleet.ID // its operator
	Bytes   int64
	Ended   time.Time // zero: it lives, and stays; its bytes count
}

// Outdated returns the sessions whose recordings go: those that are too old, and then, as long as there is too much, the oldest of
// the operator whose recordings take most. So whatever one of them pours out, the others keep an equal share.
func (k Keep) Outdated(all []Kept, now time.Time) (out []fleet.UUID) {
	sorted := slices.Clone(all)
	slices.SortStableFunc(sorted, func(a, b Kept) int { return a.Ended.Compare(b.Ended) })
	var total int64
	size, ended := map[fleet.ID]int64{}, map[fleet.ID][]Kept{}
	for _, s := range sorted {
		if !s.Ended.IsZero() && k.Age > 0 && now.Sub(s.Ended) > k.Age {
			out = append(out, s.Session)
			continue
		}
		total += s.Bytes
		size[s.By] += s.Bytes
		if !s.Ended.IsZero() {
			ended[s.By] = append(ended[s.By], s)
		}
	}
	for k.Bytes > 0 && total > k.Bytes && len(ended) > 0 {
		by := largest(size, ended)
		s := ended[by][0]
		if ended[by] = ended[by][1:]; len(ended[by]) == 0 {
			delete(ended, by)
		}
		size[by] -= s.Bytes
		total -= s.Bytes
		out = append(out, s.Session)
	}
	return out
}

// largest returns whose recordings take most, of those of whom one may go.
func largest(size map[fleet.ID]int64, ended map[fleet.ID][]Kept) (most fleet.ID) {
	top := int64(-1)
	for by := range ended {
		if n := size[by]; n > top || n == top && bytes.Compare(by[:], most[:]) < 0 {
			most, top = by, n
		}
	}
	return most
}
