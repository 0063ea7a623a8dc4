package archive

import (
	"bytes"
	"cmp"
	"slices"
	"time"

	"github.com/muster-fleet/muster/node/fleet"
)

// Held is one recording that is kept, or comes, or of which a part is here.
type Held struct {
	Node    fleet.ID
	Session fleet.UUID
	Digest  fleet.ID // SHA-256; of a part, none
	Bytes   int64    // that it takes, or will take
	Started time.Time
	Ended   time.Time // of the session, by its node; of a part, when the last of it came
	Part    bool      // it broke off
}

// Room says what is kept, parts and all.
type Room struct {
	Bytes int64         // of all recordings together
	Count int           // of them
	Age   time.Duration // since the session's end
}

// partAge is how long what broke off is kept.
const partAge = 7 * 24 * time.Hour

func (r Room) tooOld(h Held, now time.Time) bool {
	age := now.Sub(h.Ended)
	return r.Age > 0 && age > r.Age || h.Part && age > partAge
}

// DefaultRoom is what a server spares for others.
func DefaultRoom() Room { return Room{Bytes: 8 << 30, Count: 20_000, Age: 90 * 24 * time.Hour} }

// Outdated returns what goes: what is too old, and then, as long as there is too much, of the node that takes most what broke
// off, and its oldest. So whatever others do, a node keeps an equal share of the room; beyond that, its oldest make way for theirs.
func (r Room) Outdated(all []Held, now time.Time) (out []Held) {
	of := map[fleet.ID][]Held{}
	size := map[fleet.ID]int64{}
	var total int64
	count := 0
	for _, h := range all {
		if r.tooOld(h, now) {
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
			return cmp.Or(partsFirst(a, b), a.Ended.Compare(b.Ended), bytes.Compare(a.Session[:], b.Session[:]))
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

func partsFirst(a, b Held) int {
	switch {
	case a.Part == b.Part:
		return 0
	case a.Part:
		return -1
	}
	return 1
}

// beside is what a recording takes beside its own bytes, at most: the note, and the files themselves. So many small ones count, too.
const beside = 32 << 10

func (h Held) weight() int64 { return h.Bytes + beside }

func largest(size map[fleet.ID]int64) (most fleet.ID) {
	top := int64(-1)
	for id, n := range size {
		if n > top || n == top && bytes.Compare(id[:], most[:]) < 0 {
			most, top = id, n
		}
	}
	return most
}
