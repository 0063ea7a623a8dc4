package main

import (
	"fmt"
	"sync"

	"github.com/muster-fleet/muster/consensus"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/auth/authtest"
)

// town is a founded fleet. It is never changed, so that every world of its size begins with the same one: to enrol ten
// thousand nodes takes a few seconds.
type town struct {
	*authtest.Fleet
	state   consensus.State
	servers int // the first so many nodes are eligible, and vote
}

// towns are the towns of this process, by size. The zero towns are ready.
type towns struct{ bySize sync.Map } // size → func() *town

// of returns the town of that many nodes.
func (t *towns) of(nodes int) *town {
	found, _ := t.bySize.LoadOrStore(nodes, sync.OnceValue(func() *town { return foundTown(nodes) }))
	return found.(func() *town)()
}

// serversOf is how many servers a fleet of that size has: as the quorum grows by itself.
func serversOf(nodes int) int {
	switch {
	case nodes < 3:
		return 1
	case nodes < 20:
		return 3
	}
	return 5
}

func foundTown(nodes int) *town {
	f := authtest.Empty("sim")
	t := &town{Fleet: f, state: consensus.NewState(), servers: serversOf(nodes)}
	for _, p := range f.Founding() {
		t.take(consensus.PutAct{Kind: p.Kind, Data: p.Data})
	}
	eligible := f.NewToken(auth.MaxTokenUses, func(t *auth.Token) { t.Server = true })
	web := f.NewToken(auth.MaxTokenUses, func(t *auth.Token) { t.Tags = map[string]string{"role": "web"} })
	db := f.NewToken(auth.MaxTokenUses, func(t *auth.Token) { t.Tags = map[string]string{"role": "db"} })
	for _, token := range []authtest.Token{eligible, web, db} {
		t.take(consensus.PutToken{Statement: token.Statement})
	}
	for i := 1; i < nodes; i++ {
		n := f.NewNode(fmt.Sprintf("node-%d", i))
		token := web
		switch {
		case i < t.servers:
			token = eligible
		case i%4 == 0:
			token = db
		}
		p := authtest.Enrol(f.Enrolment(token, n, f.Nodes[0]))
		t.take(consensus.PutAct{Kind: p.Kind, Data: p.Data})
		f.Nodes = append(f.Nodes, n)
	}
	f.Acts = t.state.Acts(0, nodes+100)
	return t
}

// take takes an entry into the town's state, which must accept it.
func (t *town) take(e consensus.Entry) {
	next, result := t.state.Apply(e, t.Now.UnixMilli())
	if err := result.Err(); err != nil {
		panic("sim: the town cannot be founded: " + err.Error())
	}
	t.state, t.Record = next, next.Record
}
