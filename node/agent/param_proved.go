package agent

import (
	"sync"

	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
	"github.com/muster-fleet/muster/params"
)

// maxProved is how many items a node remembers as verified. Who reads the same again need not have its signature checked
// again: that takes most of the time of a read. A Put has some 300 bytes.
const maxProved = 2048

// proved remembers items that were verified, by all of their bytes, under one charter.
type proved struct {
	mu      sync.Mutex
	charter fleet.ID // head
	of      map[fleet.ID]params.Put
	old     map[fleet.ID]params.Put // of before of was full
}

// by returns what verifies items by a charter.
func (p *proved) by(c *auth.Charter) func(params.Item) (params.Put, error) {
	return func(item params.Item) (params.Put, error) {
		if c == nil {
			return params.Put{}, fleet.Errorf(fleet.Unavailable, "this node has no charter yet")
		}
		key := fleet.Sum(wire.Marshal(item))
		if put, ok := p.get(key, c.Head()); ok {
			return put, nil
		}
		put, err := params.Verify(item, c)
		if err == nil {
			p.put(key, c.Head(), put)
		}
		return put, err
	}
}

func (p *proved) get(key, charter fleet.ID) (params.Put, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.charter != charter {
		return params.Put{}, false
	}
	put, ok := p.of[key]
	if !ok {
		put, ok = p.old[key]
	}
	return put, ok
}

func (p *proved) put(key, charter fleet.ID, put params.Put) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.charter != charter {
		p.charter, p.of, p.old = charter, nil, nil
	}
	if len(p.of) >= maxProved/2 {
		p.of, p.old = nil, p.of
	}
	if p.of == nil {
		p.of = map[fleet.ID]params.Put{}
	}
	p.of[key] = put
}
