package agent

import (
	"sync"

	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
	"github.com/muster-fleet/muster/params"
)

// maxProved is how many items a node remembers as verified, 32 bytes of each. Who reads the same again need not have its
// signature checked again: that takes most of the time of a read.
const maxProved = 32_768

// proved remembers items that were verified, by all of their bytes, under one charter.
type proved struct {
	mu      sync.Mutex
	charter fleet.ID // head
	of      map[fleet.ID]struct{}
	old     map[fleet.ID]struct{} // of before of was full
}

// by returns what verifies items by a charter.
func (p *proved) by(c *auth.Charter) func(params.Item) (params.Put, error) {
	return func(item params.Item) (params.Put, error) {
		if c == nil {
			return params.Put{}, fleet.Errorf(fleet.Unavailable, "this node has no charter yet")
		}
		key := fleet.Sum(wire.Marshal(item))
		if p.has(key, c.Head()) {
			op, err := params.DecodeOp(item.Body)
			if err == nil && len(op.Put) == 1 {
				return op.Put[0], nil
			}
		}
		put, err := params.Verify(item, c)
		if err == nil {
			p.put(key, c.Head())
		}
		return put, err
	}
}

func (p *proved) has(key, charter fleet.ID) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.charter != charter {
		return false
	}
	_, ok := p.of[key]
	if !ok {
		_, ok = p.old[key]
	}
	return ok
}

func (p *proved) put(key, charter fleet.ID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.charter != charter {
		p.charter, p.of, p.old = charter, nil, nil
	}
	if len(p.of) >= maxProved/2 {
		p.of, p.old = nil, p.of
	}
	if p.of == nil {
		p.of = map[fleet.ID]struct{}{}
	}
	p.of[key] = struct{}{}
}
