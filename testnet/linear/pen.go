package main

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/muster-fleet/muster/consensus"
	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/params"
)

// pen signs for an operator what clients ask.
type pen struct {
	fleet  fleet.ID
	signer auth.Signer
}

// facts is what a statement says about the fleet that its signer saw.
type facts struct {
	now  time.Time
	head fleet.ID
	act  uint64
}

func (f facts) header(random *rand.Rand, life time.Duration) auth.Header {
	return auth.Header{
		ID: uuid(random), Issued: f.now.UnixMilli(), Expires: f.now.Add(life).UnixMilli(), Charter: f.head, Act: f.act, Mode: auth.ByQuorum,
	}
}

func uuid(random *rand.Rand) (id fleet.UUID) {
	for i := range id {
		id[i] = byte(random.Uint32())
	}
	return id
}

// changeLife is how long a change may be taken.
const changeLife = 5 * time.Minute

// change signs what is asked. A Put of version 1 without a birth gets the statement's.
func (p pen) change(f facts, random *rand.Rand, a *ask) consensus.PutParams {
	header := f.header(random, changeLife)
	o := params.Op{Salt: uuid(random)}
	var contents [][]byte
	switch a.op {
	case opPut:
		if a.version == 1 {
			a.born = header.Issued
		}
		content := params.PlainContent([]byte(a.value)).Encode()
		contents = [][]byte{content}
		o.Put = []params.Put{{
			Name: a.key, Born: a.born, Version: a.version, Type: params.String, DataType: params.DataText, Digest: fleet.Sum(content),
			Size: uint32(len(a.value)), Tier: params.Standard,
		}}
	case opDelete:
		o.Delete = []params.Delete{{Name: a.key, Born: a.born, Version: a.version}}
	case opLabel:
		o.Label = []params.Label{{Name: a.key, Born: a.born, Seq: a.seq, Version: a.version, Add: []string{a.label}}}
	case opGet:
	}
	body, bodies := params.Commit(header, []params.Op{o})
	return consensus.PutParams{Statement: p.signer.Sign(auth.ForParams, p.fleet, body), Ops: bodies, Contents: contents}
}

// read asks for a parameter.
func (p pen) read(f facts, random *rand.Rand, a ask, stale bool) node.ParamsAsk {
	signed := p.signer.Sign(auth.ForRequest, p.fleet, node.Read{Header: f.header(random, node.ReadLife), What: node.ReadParams, Name: a.key})
	selector := params.Selector{Name: a.key, Version: a.version, Label: a.label}
	return node.ParamsAsk{Signed: []auth.Envelope{signed}, Ask: params.Ask{Get: []params.Selector{selector}, Values: true}, Stale: stale}
}

// readAnswer tells what was read.
func readAnswer(a params.Answer) (answer, error) {
	if len(a.Items) == 0 {
		return answer{}, nil
	}
	item := a.Items[0]
	op, err := params.DecodeOp(item.Body)
	if err != nil || len(op.Put) != 1 || len(item.Content) != 1 {
		return answer{}, fmt.Errorf("an item that is none: %w", err)
	}
	content, err := op.Put[0].Open(item.Content[0])
	if err != nil || len(content.Plain) != 1 {
		return answer{}, fmt.Errorf("an item without its value: %w", err)
	}
	labels := ""
	for _, label := range item.Labels {
		if labels != "" {
			labels += " "
		}
		labels += label
	}
	return answer{
		found: true, born: op.Put[0].Born, version: op.Put[0].Version, newest: item.Newest, seq: item.Seq, value: string(content.Plain[0]), labels: labels,
	}, nil
}
