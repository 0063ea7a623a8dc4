package consensus

import (
	"bytes"
	"crypto/ed25519"
	"maps"

	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
	"github.com/muster-fleet/muster/params"
)

// Prepared is an entry with what was found out about it before its turn came. Only Prepare makes one, from an item's own
// bytes, so that Apply may take its word. The zero Prepared is no entry and is refused.
type Prepared struct {
	entry  Entry
	now    int64
	err    error // it is no entry
	key    fleet.UUID
	known  bool // key is one
	opened opened
	asked  decisions
}

// Prepare decodes an item and does what needs no order: it verifies the signature, decodes what was signed, compares
// digests and asks policy, as far as s, any state, lets it. It takes most of the time that Apply takes; a shell may prepare
// many items at once. Whatever has changed by the time the item is applied is found out anew: it never comes to another
// result than Apply would without it.
func (s State) Prepare(item []byte) Prepared {
	e, now, err := Decode(item)
	if err != nil {
		return Prepared{err: err}
	}
	p := prepared(e, now)
	if put, ok := e.(PutParams); ok && s.Record.Charter != nil {
		p.opened, p.asked = s.prepareParams(put)
	}
	return p
}

// prepared returns an entry of which nothing was found out yet.
func prepared(e Entry, now int64) Prepared {
	p := Prepared{entry: e, now: now}
	p.key, p.known = statementKey(e)
	return p
}

// Entry returns the entry, or why the item is none.
func (p Prepared) Entry() (Entry, error) {
	if p.entry == nil && p.err == nil {
		return nil, fleet.Errorf(fleet.Internal, "nothing was prepared")
	}
	return p.entry, p.err
}

// ApplyPrepared is Apply of a prepared item, with its own stamp.
func (s State) ApplyPrepared(p Prepared) (State, Result) {
	if _, err := p.Entry(); err != nil {
		return s, Refuse(err)
	}
	return s.apply(&p)
}

// ApplyAll applies prepared items in order.
func (s State) ApplyAll(items []Prepared) (State, []Result) {
	out := make([]Result, len(items))
	for i, p := range items {
		s, out[i] = s.ApplyPrepared(p)
	}
	return s, out
}

// opened is what a change of parameters comes to under one key in one fleet. It follows from the entry and those two alone.
type opened struct {
	key    ed25519.PublicKey // that the signature was checked with; empty: nothing was opened
	fleet  fleet.ID
	change params.Change
	ops    []params.Op
	err    error
}

// under reports whether o is what the entry comes to under a key.
func (o *opened) under(key []byte, in fleet.ID) bool {
	return len(o.key) > 0 && bytes.Equal(o.key, key) && o.fleet == in
}

// open verifies and decodes a change, and compares its contents with what was signed.
func (e PutParams) open(key ed25519.PublicKey, in fleet.ID) opened {
	o := opened{key: key, fleet: in}
	o.err = o.take(e)
	return o
}

func (o *opened) take(e PutParams) error {
	if len(e.Statement.Body) > params.MaxSigned {
		return fleet.Errorf(fleet.Exhausted, "a statement on parameters of %d bytes; at most %d", len(e.Statement.Body), params.MaxSigned)
	}
	if err := e.Statement.Verify(auth.ForParams, o.fleet, o.key); err != nil {
		return err
	}
	if err := wire.Unmarshal(e.Statement.Body, &o.change); err != nil {
		return err
	}
	var err error
	if o.ops, err = o.change.Open(e.Ops); err != nil {
		return err
	}
	return o.takeContents(e.Contents)
}

func (o *opened) takeContents(contents [][]byte) error {
	size := 0
	for _, op := range o.ops {
		if len(op.Put) == 0 {
			continue
		}
		if len(contents) == 0 {
			return fleet.Errorf(fleet.Invalid, "the value of parameter %s is missing", op.Name())
		}
		if size += len(contents[0]); size > params.MaxContents {
			return fleet.Errorf(fleet.Exhausted, "a change of parameters with values of more than %d bytes", params.MaxContents).Hinted("put fewer at once")
		}
		if _, err := op.Put[0].Open(contents[0]); err != nil {
			return err
		}
		contents = contents[1:]
	}
	if len(contents) > 0 {
		return fleet.Errorf(fleet.Invalid, "%d values more than the change has", len(contents))
	}
	return nil
}

// decisions are answers of policy to one operator, under one charter. They follow from the question and the charter alone.
type decisions struct {
	charter *auth.Charter
	by      fleet.ID // key of who asked
	made    []decision
}

type decision struct {
	action auth.Action
	name   string
	tags   map[string]string
	err    error
}

// find returns the answer to a question, if it was asked.
func (d *decisions) find(charter *auth.Charter, by fleet.ID, action auth.Action, name string, tags map[string]string) (error, bool) {
	if d.charter != charter || d.by != by {
		return nil, false
	}
	for _, made := range d.made {
		if made.action == action && made.name == name && maps.Equal(made.tags, tags) {
			return made.err, true
		}
	}
	return nil, false
}

// mayParam asks policy about a parameter with tags.
func mayParam(c *auth.Charter, op auth.Operator, action auth.Action, name string, tags map[string]string) error {
	_, err := c.Policy().Decide(auth.Ask{Principal: op.AsPrincipal(), Action: action, Resource: auth.ParameterResource(name, tags)})
	return err
}

// prepareParams opens a change under the key that its signer has now, and asks policy about the tags that its parameters
// have now and would get.
func (s *State) prepareParams(e PutParams) (opened, decisions) {
	c := s.Record.Charter
	op, err := c.Current(e.Statement.Key, s.clock())
	if err != nil {
		return opened{}, decisions{}
	}
	o, d := e.open(op.Key, c.Fleet()), decisions{charter: c, by: e.Statement.Key}
	if o.err != nil {
		return o, d
	}
	for i := range o.ops {
		for _, ask := range questions(s.paramOf(&o.ops[i]), &o.ops[i]) {
			ask.err = mayParam(c, op, ask.action, ask.name, ask.tags)
			d.made = append(d.made, ask)
		}
	}
	return o, d
}

// paramOf returns the parameter that an operation is about, or nil.
func (s *State) paramOf(op *params.Op) *params.Param {
	p, _ := s.Param(op.Name())
	return p
}

// questions lists what policy is asked about an operation on was, which is nil where there is none. Of a Put, about the tags
// that the parameter has and those that it would get: nobody may take one away from those who watch over it, or push one
// under their eyes.
func questions(was *params.Param, op *params.Op) []decision {
	first := decision{action: auth.ActPutParam, name: op.Name()}
	if len(op.Delete) > 0 {
		first.action = auth.ActDeleteParam
	}
	if was != nil { // else it is asked about without tags: who may not, does not learn what there is
		first.tags = was.Newest().Put.Tags
	}
	if len(op.Put) == 0 || was != nil && maps.Equal(first.tags, op.Put[0].Tags) {
		return []decision{first}
	}
	second := first
	second.tags = op.Put[0].Tags
	if was == nil {
		return []decision{second}
	}
	return []decision{first, second}
}
