package agent

import (
	"sync"

	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/params"
)

const (
	// maxFloors bounds how many names a node remembers the newest version of.
	maxFloors = 20_000
	// floorSteps is how many floors of one name are remembered, for readers that began before the last were seen.
	floorSteps = 4
)

// floors is the newest that this node has seen of parameters. A reader is judged by what had been seen when it began to ask:
// what others see meanwhile does not make its answer a lie.
type floors struct {
	mu   sync.Mutex
	turn uint64                   // of the newest step
	of   map[fleet.ID][]floorStep // by SHA-256 of the name, oldest first
	old  map[fleet.ID][]floorStep // of before of was full
}

type floorStep struct {
	turn  uint64
	floor params.Floor
}

// picture returns what has been seen by now.
func (f *floors) picture() node.Floors {
	f.mu.Lock()
	defer f.mu.Unlock()
	turn := f.turn
	return func(name string) (params.Floor, bool) { return f.at(copyKey(name), turn) }
}

// at returns what had been seen of a name at a turn.
func (f *floors) at(key fleet.ID, turn uint64) (params.Floor, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	steps := f.steps(key)
	for i := len(steps) - 1; i >= 0; i-- {
		if steps[i].turn <= turn {
			return steps[i].floor, true
		}
	}
	return params.Floor{}, false
}

// knows reports whether anything is remembered of a name.
func (f *floors) knows(name string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.steps(copyKey(name))) > 0
}

func (f *floors) steps(key fleet.ID) []floorStep {
	if steps, ok := f.of[key]; ok {
		return steps
	}
	return f.old[key]
}

// put remembers what was seen. Answers may come out of order: what is higher stays.
func (f *floors) put(seen map[string]params.Floor) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for name, floor := range seen {
		key := copyKey(name)
		steps := f.steps(key)
		if len(steps) > 0 {
			last := steps[len(steps)-1].floor
			if len(floor.Labels) == 0 && (floor.Born < last.Born || floor.Born == last.Born && floor.Version <= last.Version && floor.Seq <= last.Seq) {
				continue
			}
			floor = last.Higher(floor)
		}
		f.turn++
		if len(f.of) >= maxFloors/2 {
			f.of, f.old = nil, f.of
		}
		if f.of == nil {
			f.of = map[fleet.ID][]floorStep{}
		}
		kept := steps[max(0, len(steps)-floorSteps+1):]
		f.of[key] = append(kept[:len(kept):len(kept)], floorStep{f.turn, floor})
	}
}
