package transport

import (
	"sync"

	"github.com/muster-fleet/muster/node/fleet"
)

// party is on whose account something is held: a peer that proved itself, and whom it says it does so for. Nobody can tell
// whether that is true, so no bound may rest on from alone. Zero in either place stands for all.
type party struct{ by, from fleet.ID }

// claim is one place on a party's account, of which it has at most so many.
type claim struct {
	party
	most int
}

// places counts what is held on whose account. Whoever keeps it locks it.
type places map[party]int

// take takes one place on every account, or on none; full is the first that has none left.
func (p places) take(claims []claim) (full party, ok bool) {
	for _, c := range claims {
		if p[c.party] >= c.most {
			return c.party, false
		}
	}
	for _, c := range claims {
		p[c.party]++
	}
	return party{}, true
}

func (p places) give(claims []claim) {
	for _, c := range claims {
		if p[c.party]--; p[c.party] <= 0 {
			delete(p, c.party)
		}
	}
}

// lend is take for places that mu guards; leave gives them back, however often it is called.
func (p places) lend(mu *sync.Mutex, claims []claim) (leave func(), ok bool) {
	mu.Lock()
	defer mu.Unlock()
	if _, ok := p.take(claims); !ok {
		return nil, false
	}
	return sync.OnceFunc(func() {
		mu.Lock()
		defer mu.Unlock()
		p.give(claims)
	}), true
}
