package main

import (
	"crypto/rand"
	"time"

	"github.com/muster-fleet/muster/consensus"
	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/api"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/params"
)

// paramPen signs what is asked about parameters. Every write has a signature of its own.
type paramPen struct {
	signer auth.Signer
	fleet  fleet.ID
	head   fleet.ID // of the charter
	act    uint64   // of the record
}

func newParamPen(p pen, s node.Status) paramPen {
	return paramPen{signer: p.signer, fleet: s.Fleet, head: s.CharterHead, act: s.Act}
}

func (p paramPen) header(life time.Duration) auth.Header {
	now := time.Now()
	h := auth.Header{Issued: now.UnixMilli(), Expires: now.Add(life).UnixMilli(), Charter: p.head, Act: p.act, Mode: auth.ByQuorum}
	_, _ = rand.Read(h.ID[:])
	return h
}

// written is what a writer knows of a parameter that nobody else writes.
type written struct {
	name    string
	born    int64
	version uint32
}

// put signs the versions that follow those that were written, in one act.
func (p paramPen) put(tier params.Tier, value []byte, had ...*written) consensus.PutParams {
	header := p.header(10 * time.Minute)
	var ops []params.Op
	var contents [][]byte
	for _, now := range had {
		op, content := now.next(tier, value)(header.Issued)
		ops, contents = append(ops, op), append(contents, content...)
	}
	change, bodies := params.Commit(header, ops)
	return consensus.PutParams{Statement: p.signer.Sign(auth.ForParams, p.fleet, change), Ops: bodies, Contents: contents}
}

// next makes the version that follows what was written.
func (w *written) next(tier params.Tier, value []byte) api.Operation {
	w.version++
	return func(issued int64) (params.Op, [][]byte) {
		if w.version == 1 {
			w.born = issued
		}
		content := params.PlainContent(value).Encode()
		o := params.Op{Put: []params.Put{{
			Name: w.name, Born: w.born, Version: w.version, Type: params.String, DataType: params.DataText, Digest: fleet.Sum(content),
			Size: uint32(len(value)), Tier: tier,
		}}}
		_, _ = rand.Read(o.Salt[:])
		return o, [][]byte{content}
	}
}

// mayRead signs a request to read whatever there is.
func (p paramPen) mayRead() auth.Envelope {
	return p.signer.Sign(auth.ForRequest, p.fleet, node.Read{Header: p.header(node.ReadLife), What: node.ReadParams, Name: node.Everything})
}
