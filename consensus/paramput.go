package consensus

import (
	"bytes"
	"maps"
	"time"

	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/params"
)

// taken says that a statement was taken before, by an act that is long past.
type taken struct{ first Result }

func (taken) Error() string { return "taken before" }

// putParams takes all operations of a change, or none.
func (s *State) putParams(e PutParams, p *Prepared) error {
	before := *s
	err := s.changeParams(e, p)
	if err == nil {
		return nil
	}
	if first, ok := before.tookBefore(e); ok { // not s, in which the first operations may stand

		return taken{first}
	}
	return err
}

// tookBefore finds the act by which the very same statement was taken when that is not remembered any more: a version that
// it made is still there.
func (s *State) tookBefore(e PutParams) (Result, bool) {
	for _, body := range e.Ops[:min(len(e.Ops), params.MaxOps)] {
		op, err := params.DecodeOp(body)
		if err != nil || len(op.Put) == 0 {
			continue
		}
		p, ok := s.Param(op.Name())
		if !ok {
			continue
		}
		v, ok := p.Version(op.Put[0].Version)
		if ok && v.Change.Key == e.Statement.Key && bytes.Equal(v.Change.Body, e.Statement.Body) {
			return Result{Act: v.Act, Time: v.Time}, true
		}
	}
	return Result{}, false
}

func (s *State) changeParams(e PutParams, prepared *Prepared) error {
	c := s.Record.Charter
	op, err := c.Current(e.Statement.Key, s.clock())
	if err != nil {
		return err
	}
	o := &prepared.opened
	if !o.under(op.Key, c.Fleet()) {
		anew := e.open(op.Key, c.Fleet())
		o = &anew
	}
	if o.err != nil {
		return o.err
	}
	if err := s.checkHeader(o.change.Header); err != nil {
		return err
	}
	statement := e.Statement // alone, so that a version does not keep all of the entry in memory
	w := changing{state: s, op: op, statement: &statement, asked: &prepared.asked, issued: o.change.Header.Issued}
	contents := e.Contents
	for i := range o.ops {
		w.signed = params.Signed{
			Change: w.statement, Op: uint32(i), Body: e.Ops[i], Operator: op.Name, Issued: w.issued, Time: s.Time, Act: s.Act,
		}
		if len(o.ops[i].Put) > 0 {
			w.signed.Content, contents = contents[0], contents[1:]
		}
		if err := w.take(&o.ops[i]); err != nil {
			return err
		}
	}
	s.params.hold(s.Act, w.statement, w.kept.count)
	return s.params.within()
}

// checkHeader reports why a change cannot be taken now, or nil.
func (s *State) checkHeader(h auth.Header) error {
	if err := h.CheckTime(s.clock()); err != nil {
		return err
	}
	switch {
	case !s.Record.Charter.Knows(h.Charter):
		return fleet.Errorf(fleet.Unavailable, "it was signed under charter %s, which this node has not got", h.Charter)
	case h.Act > s.Record.Act:
		return fleet.Errorf(fleet.Conflict, "it was signed at act %d, but the fleet's record ends at act %d", h.Act, s.Record.Act).
			Hinted("repeat it; if the fleet was restored from a backup, on a host that has caught up")
	case h.Mode != auth.ByQuorum:
		return fleet.Errorf(fleet.Invalid, "a change of parameters that was signed for the direct way is not ordered by the quorum")
	}
	return nil
}

// changing is a change that is being taken.
type changing struct {
	state     *State
	op        auth.Operator
	statement *auth.Envelope
	asked     *decisions
	issued    int64         // Unix milliseconds
	signed    params.Signed // of the running operation
	kept      references
	part      uint32 // events said
	standing  map[string]auth.Operator
}

func (w *changing) take(op *params.Op) error {
	was := w.find(op.Name())
	for _, ask := range questions(was, op) {
		if err := w.may(ask); err != nil {
			return err
		}
	}
	switch {
	case len(op.Put) > 0:
		return w.put(was, &op.Put[0])
	case len(op.Delete) > 0:
		return w.delete(was, op.Delete[0])
	default:
		return w.label(was, op.Label[0])
	}
}

// find returns the parameter of that name, or nil. One that has expired is swept first, as ParamsDue would do.
func (w *changing) find(name string) *params.Param {
	p, ok := w.state.params.byName.get(paramName(name))
	if !ok {
		return nil
	}
	if p.Expired(w.state.Time) {
		w.state.sweep(p, &w.part)
		return nil
	}
	return p
}

// may asks policy, unless it has answered already.
func (w *changing) may(ask decision) error {
	c := w.state.Record.Charter
	if err, asked := w.asked.find(c, w.statement.Key, ask.action, ask.name, ask.tags); asked {
		return err
	}
	return mayParam(c, w.op, ask.action, ask.name, ask.tags)
}

func (w *changing) put(was *params.Param, put *params.Put) error {
	if was == nil {
		if err := w.checkBirth(put); err != nil {
			return err
		}
	}
	if err := w.checkReaders(put); err != nil {
		return err
	}
	next, events, err := was.Put(lean(put, was), w.signed)
	if err != nil {
		return err
	}
	w.replace(was, next, events)
	return nil
}

func (w *changing) label(was *params.Param, l params.Label) error {
	next, events, err := was.Labelled(l, w.signed)
	if err != nil {
		return err
	}
	w.replace(was, next, events)
	return nil
}

func (w *changing) delete(was *params.Param, d params.Delete) error {
	if err := was.MayDelete(d); err != nil {
		return err
	}
	w.replace(was, nil, []params.Event{was.Deleted(w.signed)})
	w.state.params.bury(was, w.state.Time)
	return nil
}

func (w *changing) replace(was, next *params.Param, events []params.Event) {
	w.state.params.swap(was, next, &w.kept)
	w.state.params.say(w.state.Act, w.state.Time, &w.part, events)
}

// checkBirth reports why a parameter cannot begin another life, or nil: what was signed before the last one began cannot
// bring it back.
func (w *changing) checkBirth(put *params.Put) error {
	stone, ok := w.state.params.gone.get(paramName(put.Name))
	switch {
	case ok && put.Born <= stone.Born:
		return fleet.Errorf(fleet.Conflict, "parameter %s was deleted since this was signed", put.Name).Hinted("put it anew: muster param put %s VALUE", put.Name)
	case put.Born <= w.state.params.floor:
		return fleet.Errorf(fleet.Conflict, "parameter %s cannot be made by what was signed before %s: more than %d parameters were deleted just now", put.Name,
			time.UnixMilli(w.state.params.floor).UTC().Format(time.RFC3339Nano), MaxTombstones).Hinted("put it anew; if that does not help, compare the clocks of both hosts: date -u")
	}
	return nil
}

// sweep does what is due with a parameter. Of one that has expired nothing is left.
func (s *State) sweep(p *params.Param, part *uint32) {
	next, events := p.Due(s.Time)
	s.params.swap(p, next, &references{})
	if next == nil {
		s.params.bury(p, s.Time)
	}
	s.params.say(s.Act, s.Time, part, events)
}

// paramsDue does what time does: notices are given, and what has expired is gone. Nobody signs it.
func (s *State) paramsDue() error {
	if !s.ParamsDue(s.Time) {
		return fleet.Errorf(fleet.Conflict, "nothing is due")
	}
	part := uint32(0)
	for range MaxDueAtOnce {
		first, _, ok := s.params.due.first()
		if !ok || first.at > s.Time {
			return nil
		}
		p, ok := s.params.byName.get(paramName(first.name))
		if !ok {
			return fleet.Errorf(fleet.Internal, "parameter %s is due, and not there", first.name)
		}
		s.sweep(p, &part)
	}
	return nil
}

// lean returns put with what is equal in the version before taken from there: of ten thousand versions most have the name,
// type of data, description, pattern and tags of another. put itself may be prepared, and is not changed.
func lean(put *params.Put, was *params.Param) *params.Put {
	out := *put
	before := &params.Put{DataType: params.DataText}
	if was != nil && len(was.Versions) > 0 {
		before = was.Newest().Put
	}
	if was != nil {
		out.Name = was.Name
	}
	for _, text := range []struct{ is, was *string }{
		{&out.DataType, &before.DataType}, {&out.Description, &before.Description}, {&out.Pattern, &before.Pattern},
	} {
		if *text.is == *text.was {
			*text.is = *text.was // the same text, in one place
		}
	}
	if maps.Equal(out.Tags, before.Tags) && (out.Tags == nil) == (before.Tags == nil) {
		out.Tags = before.Tags
	}
	return &out
}
