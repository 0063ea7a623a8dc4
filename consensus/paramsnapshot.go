package consensus

import (
	"encoding/binary"
	"slices"

	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
	"github.com/muster-fleet/muster/params"
)

type snapshotParam struct {
	Name string
	Born int64
	Last uint32
	Seq  uint32
	Told []params.Told
}

// snapshotParamVersion is one version. Its statement is there where an act is named for the first time, and only there.
type snapshotParamVersion struct {
	Act       uint64
	Statement []auth.Envelope // none or one
	Op        uint32
	Body      []byte
	Content   []byte
	Operator  string
	Time      int64
}

// snapshotLabel is one label. One that came with its version has neither place nor body of its own.
type snapshotLabel struct {
	Name      string
	Label     string
	Version   uint32
	Act       uint64
	Statement []auth.Envelope // as in snapshotParamVersion
	Op        uint32
	Body      []byte
}

type snapshotTombstone struct {
	Name      string
	Tombstone tombstone
}

// writeParams writes parameters, their versions and labels, tombstones and events, each by its key, until put fails.
func (s *State) writeParams(put func(kind uint8, v any) (ok bool)) {
	written := map[uint64]bool{}
	statement := func(act uint64, e *auth.Envelope) []auth.Envelope {
		if written[act] {
			return nil
		}
		written[act] = true
		return []auth.Envelope{*e}
	}
	for _, p := range s.params.byName.all() {
		if !put(snapParam, snapshotParam{p.Name, p.Born, p.Last, p.Seq, p.Told}) {
			return
		}
	}
	for _, p := range s.params.byName.all() {
		for _, v := range p.Versions {
			if !put(snapParamVersion, snapshotParamVersion{v.Act, statement(v.Act, v.Change), v.Op, v.Body, v.Content, v.Operator, v.Time}) {
				return
			}
		}
	}
	for _, p := range s.params.byName.all() {
		for _, l := range p.Labels {
			out := snapshotLabel{Name: p.Name, Label: l.Label, Version: l.Version, Act: l.Act}
			if !withVersion(p, l) {
				out.Statement, out.Op, out.Body = statement(l.Act, l.Change), l.Op, l.Body
			}
			if !put(snapLabel, out) {
				return
			}
		}
	}
	for name, stone := range s.params.gone.all() {
		if !put(snapTombstone, snapshotTombstone{string(name), stone}) {
			return
		}
	}
	for _, e := range s.params.events.all() {
		if !put(snapEvent, *e) {
			return
		}
	}
}

// stated is a statement that a snapshot's records refer to by its act, and how many of them do.
type stated struct {
	statement *auth.Envelope
	count     uint32
}

// statement returns the statement of an act: the one that comes with this record, which must be the first of that act.
func (r *restoring) statement(act uint64, inline []auth.Envelope) (*auth.Envelope, error) {
	known, ok := r.statements[act]
	if ok && inline != nil || !ok && len(inline) != 1 {
		return nil, fleet.Errorf(fleet.Invalid, "snapshot has the statement of act %d twice, or not at all", act)
	}
	if !ok {
		known.statement = &inline[0]
	}
	known.count++
	r.statements[act] = known
	return known.statement, nil
}

func (r *restoring) takeParam(body []byte) error {
	var sp snapshotParam
	if err := wire.Unmarshal(body, &sp); err != nil {
		return err
	}
	if err := r.follows([]byte(sp.Name)); err != nil {
		return err
	}
	p := &params.Param{Name: sp.Name, Born: sp.Born, Last: sp.Last, Seq: sp.Seq, Told: sp.Told}
	r.state.params.byName = r.state.params.byName.put(r.state.params.by, paramName(p.Name), p)
	return within(r.state.params.byName.length(), MaxStandard+MaxAdvanced, "parameters")
}

func (r *restoring) takeParamVersion(body []byte) error {
	var sv snapshotParamVersion
	if err := wire.Unmarshal(body, &sv); err != nil {
		return err
	}
	op, err := params.DecodeOp(sv.Body)
	if err != nil {
		return err
	}
	if len(op.Put) != 1 || len(op.Delete)+len(op.Label) > 0 {
		return fleet.Errorf(fleet.Invalid, "snapshot has a version that no operation made")
	}
	put := &op.Put[0]
	if err := r.follows(versionKey(put.Name, put.Version)); err != nil {
		return err
	}
	p, ok := r.state.params.byName.get(paramName(put.Name))
	if !ok {
		return fleet.Errorf(fleet.Invalid, "snapshot has version %d of parameter %s, which is not there", put.Version, put.Name)
	}
	statement, err := r.statement(sv.Act, sv.Statement)
	if err != nil {
		return err
	}
	v := &params.Version{
		Number: put.Version, Op: sv.Op, Change: statement, Body: sv.Body, Operator: r.name(sv.Operator), Time: sv.Time, Act: sv.Act,
		Put: lean(put, p), Content: sv.Content,
	}
	p.Versions = append(p.Versions, v) // one reader builds it, front to back; what is wrong with the whole is found at its end
	r.state.params.bytes += weight(p.Newest())
	return r.heavy()
}

// name returns the one copy of an operator's name.
func (r *restoring) name(text string) string {
	if known, ok := r.names[text]; ok {
		return known
	}
	r.names[text] = text
	return text
}

func (r *restoring) takeLabel(body []byte) error {
	var sl snapshotLabel
	if err := wire.Unmarshal(body, &sl); err != nil {
		return err
	}
	if err := r.follows([]byte(sl.Name + "\x00" + sl.Label)); err != nil {
		return err
	}
	p, ok := r.state.params.byName.get(paramName(sl.Name))
	if !ok {
		return fleet.Errorf(fleet.Invalid, "snapshot has a label of parameter %s, which is not there", sl.Name)
	}
	v, ok := p.Version(sl.Version)
	if !ok {
		return fleet.Errorf(fleet.Invalid, "snapshot has a label of %s:%d, which is not there", sl.Name, sl.Version)
	}
	l := params.LabelAt{Label: sl.Label, Version: sl.Version, Act: sl.Act, Op: sl.Op, Body: sl.Body}
	if v.Act == sl.Act {
		if sl.Statement != nil || sl.Body != nil || sl.Op != 0 {
			return fleet.Errorf(fleet.Invalid, "snapshot has twice by what %s:%d got label %s", sl.Name, sl.Version, sl.Label)
		}
		l.Change, l.Op, l.Body = v.Change, v.Op, v.Body
	} else if err := r.ownProof(&l, sl); err != nil {
		return err
	}
	p.Labels = append(p.Labels, l)
	return r.heavy()
}

// ownProof gives a label that did not come with its version the operation that moved it there.
func (r *restoring) ownProof(l *params.LabelAt, sl snapshotLabel) error {
	op, err := params.DecodeOp(sl.Body)
	if err != nil {
		return err
	}
	if len(op.Label) != 1 || op.Name() != sl.Name || op.Label[0].Version != sl.Version || !slices.Contains(op.Label[0].Add, sl.Label) {
		return fleet.Errorf(fleet.Invalid, "snapshot has label %s of %s:%d that no operation put there", sl.Label, sl.Name, sl.Version)
	}
	r.state.params.bytes += len(l.Body)
	l.Change, err = r.statement(sl.Act, sl.Statement)
	return err
}

// heavy reports that there is more than a state may hold, or nil.
func (r *restoring) heavy() error {
	return within(r.state.params.bytes, MaxParamBytes, "bytes of parameters")
}

func (r *restoring) takeTombstone(body []byte) error {
	var st snapshotTombstone
	if err := wire.Unmarshal(body, &st); err != nil {
		return err
	}
	if err := r.follows([]byte(st.Name)); err != nil {
		return err
	}
	if _, err := params.CanonicalName(st.Name); err != nil {
		return err
	}
	ps := &r.state.params
	ps.gone = ps.gone.put(ps.by, paramName(st.Name), st.Tombstone)
	ps.fading = ps.fading.put(ps.by, paramMoment{st.Tombstone.At, st.Name}, struct{}{})
	return within(ps.gone.length(), MaxTombstones, "deleted parameters")
}

func (r *restoring) takeEvent(body []byte) error {
	var e params.Event
	if err := wire.Unmarshal(body, &e); err != nil {
		return err
	}
	if err := r.follows(binary.BigEndian.AppendUint32(key64(e.Act), e.Part)); err != nil {
		return err
	}
	ps := &r.state.params
	ps.events = ps.events.put(ps.by, eventPlace{e.Act, e.Part}, &e)
	return within(ps.events.length(), MaxParamEvents, "events of parameters")
}

// checkEvents reports an event out of place, or nil.
func (r *restoring) checkEvents() error {
	ps := &r.state.params
	first, _, some := ps.events.first()
	last, _, _ := ps.events.last()
	switch {
	case some && first.compare(eventPlace(ps.lost)) <= 0:
		return fleet.Errorf(fleet.Invalid, "snapshot keeps an event that it says is lost")
	case max(last.Act, ps.lost.Act) > r.head.Act:
		return fleet.Errorf(fleet.Invalid, "snapshot has an event of act %d, but says that it ends at %d", max(last.Act, ps.lost.Act), r.head.Act)
	}
	if newest, _, ok := ps.fading.last(); ok && newest.at > r.head.Time {
		return fleet.Errorf(fleet.Invalid, "snapshot has parameter %s deleted after its end", newest.name)
	}
	return nil
}

// finishParams makes what follows from the records: bytes, tiers and moments.
func (r *restoring) finishParams() error {
	ps := &r.state.params
	for name, p := range ps.byName.all() {
		if err := p.Check(); err != nil {
			return err
		}
		ps.tier(p, 1)
		if at, ok := p.NextDue(); ok {
			ps.due = ps.due.put(ps.by, paramMoment{at, string(name)}, struct{}{})
		}
	}
	for act, st := range r.statements {
		ps.hold(act, st.statement, st.count)
		if act > r.head.Act {
			return fleet.Errorf(fleet.Invalid, "snapshot has a parameter of act %d, but says that it ends at %d", act, r.head.Act)
		}
	}
	ps.lost, ps.floor = r.head.Lost, r.head.Floor
	if err := r.checkEvents(); err != nil {
		return err
	}
	return ps.within()
}
