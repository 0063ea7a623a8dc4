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
	By      fleet.ID // its operator, by its node; of a part, none
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
// off, and then the oldest of the operator who takes most of that. So whatever others do, a node keeps an equal share of the room,
// and an operator of his node's; beyond that, the oldest make way.
func (r Room) Outdated(all []Held, now time.Time) (out []Held) {
	sorted := slices.Clone(all)
	slices.SortFunc(sorted, func(a, b Held) int {
		return cmp.Or(a.Ended.Compare(b.Ended), bytes.Compare(a.Session[:], b.Session[:]))
	})
	nodes, size := map[fleet.ID]*share{}, map[fleet.ID]int64{}
	var total int64
	count := 0
	for _, h := range sorted {
		if r.tooOld(h, now) {
			out = append(out, h)
			continue
		}
		if nodes[h.Node] == nil {
			nodes[h.Node] = &share{by: map[fleet.ID][]Held{}, size: map[fleet.ID]int64{}}
		}
		nodes[h.Node].add(h)
		size[h.Node] += h.weight()
		total += h.weight()
		count++
	}
	for total > r.Bytes || count > r.Count {
		most := largest(size)
		h := nodes[most].letGo()
		if size[most] -= h.weight(); size[most] == 0 {
			delete(size, most)
		}
		total, count = total-h.weight(), count-1
		out = append(out, h)
	}
	return out
}

// share is what one node takes, the oldest first.
type share struct {
	parts []Held              // what broke off
	by    map[fleet.ID][]Held // the rest, by operator
	size  map[fleet.ID]int64  // of these
}

func (s *share) add(h Held) {
	if h.Part {
		s.parts = append(s.parts, h)
		return
	}
	s.by[h.By] = append(s.by[h.By], h)
	s.size[h.By] += h.weight()
}

// letGo takes out what goes first.
func (s *share) letGo() (h Held) {
	if len(s.parts) > 0 {
		h, s.parts = s.parts[0], s.parts[1:]
		return h
	}
	most := largest(s.size)
	h, s.by[most] = s.by[most][0], s.by[most][1:]
	if s.size[most] -= h.weight(); s.size[most] == 0 {
		delete(s.size, most)
	}
	return h
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
