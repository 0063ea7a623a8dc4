package agent

import (
	"bytes"
	"crypto/ed25519"
	"sync"

	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/params"
)

// maxProved bounds the changes that a node remembers as verified, in bytes of their statements; decoded they take as much
// again. Who reads what came with one of them need not check its signature again: that takes most of the time of a read.
const maxProved = 2 << 20

// perProved is what a remembered change takes beside its statement, in bytes.
const perProved = 256

// proved remembers changes that were verified under one charter.
type proved struct {
	mu      sync.Mutex
	charter fleet.ID // head
	of      map[signature]provedChange
	old     map[signature]provedChange // of before of was full
	bytes   int                        // in of
}

type signature [ed25519.SignatureSize]byte

type provedChange struct {
	statement auth.Envelope
	change    params.Change
}

// by returns what verifies items by a charter.
func (p *proved) by(c *auth.Charter) func(params.Item) (params.Put, error) {
	return func(item params.Item) (params.Put, error) {
		if c == nil {
			return params.Put{}, fleet.Errorf(fleet.Unavailable, "this node has no charter yet")
		}
		return params.VerifyBy(item, func(e auth.Envelope) (params.Change, error) { return p.open(e, c) })
	}
}

func (p *proved) open(e auth.Envelope, c *auth.Charter) (params.Change, error) {
	if known, ok := p.get(e, c.Head()); ok {
		return known, nil
	}
	change, err := params.OpenStanding(e, c)
	if err == nil {
		p.put(e, change, c.Head())
	}
	return change, err
}

// get returns a change that is remembered, if all of its statement is the same.
func (p *proved) get(e auth.Envelope, charter fleet.ID) (params.Change, bool) {
	if len(e.Signature) != ed25519.SignatureSize {
		return params.Change{}, false
	}
	key := signature(e.Signature)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.charter != charter {
		return params.Change{}, false
	}
	known, ok := p.of[key]
	if !ok {
		known, ok = p.old[key]
	}
	if !ok || !sameStatement(known.statement, e) {
		return params.Change{}, false
	}
	return known.change, true
}

func sameStatement(a, b auth.Envelope) bool {
	return a.Format == b.Format && a.Algorithm == b.Algorithm && a.Key == b.Key && bytes.Equal(a.Body, b.Body) && bytes.Equal(a.Signature, b.Signature)
}

func (p *proved) put(e auth.Envelope, change params.Change, charter fleet.ID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.charter != charter {
		p.charter, p.of, p.old, p.bytes = charter, nil, nil, 0
	}
	size := perProved + len(e.Body)
	if p.bytes+size > maxProved/2 {
		p.of, p.old, p.bytes = nil, p.of, 0
	}
	if p.of == nil {
		p.of = map[signature]provedChange{}
	}
	p.of[signature(e.Signature)] = provedChange{e, change}
	p.bytes += size
}
