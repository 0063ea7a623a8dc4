package archive

import (
	"bytes"
	"cmp"
	"slices"
	"time"

	"github.com/muster-fleet/muster/node/fleet"
)

// Held is one recording that is kept.
type Held struct {
	Node    fleet.ID
	Session fleet.UUID
	Digest  fleet.ID // SHA-256
	Bytes   int64
	Ended   time.Time // of the session, by its node
}

// Room says what is kept.
type Room struct {
	Bytes int64         // of all recordings together
	Count int           // of them
	Age   time.Duration // since the session's end
}

// DefaultRoom is what a server spares for others.
func DefaultRoom() Room { return Room{Bytes: 8 << 30, Count: 20_000, Age: 90 * 24 * time.Hour} }

// Outdated returns what goes: what is too old, and then, as long as there is too much, the oldest of the node that takes most. So
// a node that floods a server pushes out nothing but its own.
func (r Room) Outdated(all []Held, now time.Time) (out []Held) {
	of := map[fleet.ID][]Held{}
	size := map[fleet.ID]int64{}
	var total int64
	count := 0
	for _, h := range all {
		if r.Age > 0 && now.Sub(h.Ended) > r.Age {
			out = append(out, h)
			continue
		}
		of[h.Node] = append(of[h.Node], h)
		size[h.Node] += h.weight()
		total += h.weight()
		count++
	}
	for id := range of {
		slices.SortFunc(of[id], func(a, b Held) int {
			return cmp.Or(a.Ended.Compare(b.Ended), bytes.Compare(a.Session[:], b.Session[:]))
		})
	}
	for total > r.Bytes || count > r.Count {
		most := largest(size)
		h := of[most][0]
		if of[most] = of[most][1:]; len(of[most]) == 0 {
			delete(size, most)
		} else {
			size[most] -= h.weight()
		}
		total, count = total-h.weight(), count-1
		out = append(out, h)
	}
	return out
}

// weight counts the note and the files themselves, so that many small ones count, too.
func (h Held) weight() int64 { return h.Bytes + 8<<10 }

func largest(size map[fleet.ID]int64) (most fleet.ID) {
	top := int64(-1)
	for id, n := range size {
		if n > top || n == top && bytes.Compare(id[:], most[:]) < 0 {
			most, top = id, n
		}
	}
	return most
}
