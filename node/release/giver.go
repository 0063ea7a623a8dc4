package release

import (
	"math/rand/v2"
	"slices"
	"time"

	"github.com/muster-fleet/muster/node/fleet"
)

const (
	// Copies is how often a host gives each chunk of its own accord. So a source sends about as many copies, whatever the number
	// of hosts; three, because some of those who got a chunk are slow, or gone.
	Copies = 3
	// GivesPerPeer is how many times all chunks of a build one host gets from another: it needs them once, and once more after
	// it gave up or its disk was full.
	GivesPerPeer = 4
	// forgetAfter is how long it is remembered what a host got.
	forgetAfter = time.Hour
	// maxTakers is of how many hosts it is remembered, 64 bytes each; the one that was not heard of for longest makes room.
	maxTakers = 4096
	// maxSample is how many of them are looked at for names.
	maxSample = 4 * MaxNames
)

// Giver chooses what a host gives of one build to those who ask. It is not safe for concurrent use.
type Giver struct {
	given  []int // how often, by chunk
	takers map[fleet.ID]*taker
	order  []fleet.ID // of takers, as they came
	random *rand.Rand
}

// taker is somebody who asked.
type taker struct {
	got int           // chunks
	at  time.Duration // by boot time, when it was heard of last
}

// NewGiver returns the Giver of a build of that many chunks.
func NewGiver(chunks int, seed uint64) *Giver {
	return &Giver{given: make([]int, chunks), takers: map[fleet.ID]*taker{}, random: rand.New(rand.NewPCG(seed, 0x6769766572))}
}

// Give chooses a chunk of those that are here and wanted: the one that was given least. ok is false where none is given; spent
// says that some are here and were given often enough. An error says that nothing more is given to that host.
func (g *Giver) Give(now time.Duration, to fleet.ID, have Bits, ask Ask) (index int, ok, spent bool, err error) {
	t := g.heard(now, to)
	index, least, ties := -1, 0, 0
	for n := range g.given {
		if !have.Has(n) || !ask.Want.Has(n) {
			continue
		}
		switch count := g.given[n]; {
		case index < 0 || count < least:
			index, least, ties = n, count, 1
		case count == least:
			if ties++; g.random.IntN(ties) == 0 {
				index = n
			}
		}
	}
	switch {
	case index < 0:
		return 0, false, false, nil
	case least >= Copies && !ask.Insist:
		return 0, false, true, nil
	case t.got >= GivesPerPeer*len(g.given):
		return 0, false, true, fleet.Errorf(fleet.Exhausted, "this host was given all of the release %d times", GivesPerPeer)
	}
	g.given[index]++
	t.got++
	return index, true, false, nil
}

// Lost takes back what Give chose: it could not be read or sent.
func (g *Giver) Lost(to fleet.ID, index int) {
	if g.given[index]--; g.takers[to] != nil {
		g.takers[to].got--
	}
}

// Given returns how many chunks were given in all.
func (g *Giver) Given() (n int) {
	for _, count := range g.given {
		n += count
	}
	return n
}

// heard notes that somebody asks.
func (g *Giver) heard(now time.Duration, id fleet.ID) *taker {
	t := g.takers[id]
	if t != nil && now-t.at > forgetAfter {
		t.got = 0
	}
	if t == nil {
		g.makeRoom()
		t = &taker{}
		g.takers[id] = t
		g.order = append(g.order, id)
	}
	t.at = now
	return t
}

func (g *Giver) makeRoom() {
	if len(g.takers) < maxTakers {
		return
	}
	oldest := 0
	for i, id := range g.order {
		if g.takers[id].at < g.takers[g.order[oldest]].at {
			oldest = i
		}
	}
	delete(g.takers, g.order[oldest])
	g.order = slices.Delete(g.order, oldest, oldest+1)
}

// Names returns some who asked here, and so have or will have some of the build: those who got something first.
func (g *Giver) Names(now time.Duration, but fleet.ID) []fleet.ID {
	g.heard(now, but)
	var got, asked []fleet.ID
	for _, id := range g.some() {
		t := g.takers[id]
		switch {
		case id == but || now-t.at > forgetAfter || slices.Contains(got, id) || slices.Contains(asked, id):
		case t.got > 0:
			got = append(got, id)
		default:
			asked = append(asked, id)
		}
	}
	out := slices.Concat(got, asked)
	return out[:min(len(out), MaxNames)]
}

// some returns takers by chance: of few all, of many some, and some of them twice. It is asked for with every chunk.
func (g *Giver) some() []fleet.ID {
	if len(g.order) <= maxSample {
		out := slices.Clone(g.order)
		g.random.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
		return out
	}
	out := make([]fleet.ID, maxSample)
	for i := range out {
		out[i] = g.order[g.random.IntN(len(g.order))]
	}
	return out
}
