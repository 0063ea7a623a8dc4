package cast

import (
	"slices"
	"time"

	"github.com/muster-fleet/muster/node/fleet"
)

// Keep says which recordings of ended sessions stay.
type Keep struct {
	Age   time.Duration // since the end; 0: for ever
	Bytes int64         // of all of them together, the oldest go first; 0: any number
}

// DefaultKeep is three months, and 2 GiB of the node's disk.
func DefaultKeep() Keep { return Keep{Age: 90 * 24 * time.Hour, Bytes: 2 << 30} }

// Kept is a session's folder.
type Kept struct {
	Session fleet.UUID
	Bytes   int64
	Ended   time.Time // zero: it lives, and stays; its bytes count
}

// Outdated returns the sessions whose recordings go, the oldest first.
func (k Keep) Outdated(all []Kept, now time.Time) []fleet.UUID {
	sorted := slices.Clone(all)
	slices.SortStableFunc(sorted, func(a, b Kept) int { return a.Ended.Compare(b.Ended) })
	var total int64
	for _, s := range sorted {
		total += s.Bytes
	}
	var out []fleet.UUID
	for _, s := range sorted {
		if s.Ended.IsZero() {
			continue
		}
		old := k.Age > 0 && now.Sub(s.Ended) > k.Age
		if !old && (k.Bytes == 0 || total <= k.Bytes) {
			continue
		}
		total -= s.Bytes
		out = append(out, s.Session)
	}
	return out
}
