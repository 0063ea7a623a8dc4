package agent

import (
	"runtime"
	"sync"

	"github.com/muster-fleet/muster/consensus"
	"github.com/muster-fleet/muster/node/fleet"
)

// ApplyBatch takes the items of one committed entry, in order. The quorum calls it as it calls Apply.
//
// What needs no order, signatures above all, is done for many items at once, and by the leader before it proposed them. The
// state is shown once, when all are taken: nobody asks for what is between.
func (r *Replica) ApplyBatch(_ uint64, items [][]byte) []any {
	state := r.State()
	out := make([]any, len(items))
	var told []step
	params := false
	for i, p := range r.prepare(state, items) {
		entry, err := p.Entry()
		if beyond := state.Beyond(entry); beyond != nil { // a replica that left it out would differ from the others for ever
			r.halted.CompareAndSwap(nil, &beyond)
		}
		if halted := r.Halted(); halted != nil {
			out[i] = consensus.Refuse(halted)
			continue
		}
		if err != nil {
			out[i] = consensus.Refuse(err)
			continue
		}
		next, result := state.ApplyPrepared(p)
		moved := result.Why == "" && next.Taken != state.Taken
		switch entry.(type) {
		case consensus.PutParams, consensus.ParamsDue:
			params = params || moved
		default:
			if moved {
				told = append(told, step{entry, state, next})
			}
		}
		state, out[i] = next, result
	}
	r.state.Store(&state)
	r.tell()
	if params {
		r.tellWatches()
	}
	for _, s := range told {
		r.follow(s.entry, s.before, s.after)
	}
	return out
}

// step is an entry with the states around it.
type step struct {
	entry         consensus.Entry
	before, after consensus.State
}

// prepare prepares items that are not prepared yet, on all processors.
func (r *Replica) prepare(s consensus.State, items [][]byte) []consensus.Prepared {
	out := make([]consensus.Prepared, len(items))
	var left []int
	for i, item := range items {
		var ok bool
		if out[i], ok = r.readied.take(item); !ok {
			left = append(left, i)
		}
	}
	workers := min(runtime.GOMAXPROCS(0), len(left))
	if workers < 2 {
		for _, i := range left {
			out[i] = s.Prepare(items[i])
		}
		return out
	}
	var work sync.WaitGroup
	for w := range workers {
		work.Go(func() {
			for at := w; at < len(left); at += workers {
				out[left[at]] = s.Prepare(items[left[at]])
			}
		})
	}
	work.Wait()
	return out
}

// maxReadied bounds the items that a leader has prepared and proposed and that have not come back; the quorum holds their
// bytes anyway. One beyond it is prepared again.
const maxReadied = 4096

// readied are items that this server has prepared before it proposed them.
type readied struct {
	mu sync.Mutex
	of map[fleet.ID]consensus.Prepared // by SHA-256 of the item
}

// put keeps a prepared item, until gone is called.
func (r *readied) put(item []byte, p consensus.Prepared) (gone func()) {
	key := fleet.Sum(item)
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.of) >= maxReadied {
		return func() {}
	}
	if r.of == nil {
		r.of = map[fleet.ID]consensus.Prepared{}
	}
	r.of[key] = p
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.of, key)
	}
}

// take returns an item as it was prepared.
func (r *readied) take(item []byte) (consensus.Prepared, bool) {
	r.mu.Lock()
	none := len(r.of) == 0
	r.mu.Unlock()
	if none {
		return consensus.Prepared{}, false
	}
	key := fleet.Sum(item)
	r.mu.Lock()
	defer r.mu.Unlock()
	p, ok := r.of[key]
	return p, ok
}
