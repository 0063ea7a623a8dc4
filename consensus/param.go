package consensus

import (
	"cmp"
	"strings"
	"time"

	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/params"
)

// Bounds of parameters. How many there may be is SSM's, by tier.
const (
	MaxStandard    = 10_000
	MaxAdvanced    = 100_000
	MaxParamBytes  = 512 << 20 // of contents, operations and the statements that they came with
	MaxParamEvents = 20_000
	MaxTombstones  = 20_000
	// MaxDueAtOnce bounds the parameters that one ParamsDue is for.
	MaxDueAtOnce = 100
	// KeepTombstones is how long a deleted parameter is remembered: no statement that could bring it back is valid longer.
	KeepTombstones = params.ChangeLife*time.Millisecond + 2*auth.MaxSkew
)

// perStatement is what a statement weighs beside its body and signature: key and lengths.
const perStatement = 64

// parameters is the part of the state that Parameter Store is.
type parameters struct {
	byName   tree[paramName, *params.Param]
	due      tree[paramMoment, struct{}] // parameters with which time has something to do, by when
	gone     tree[paramName, tombstone]
	fading   tree[paramMoment, struct{}] // tombstones by when they were put up
	shared   tree[actIndex, uint32]      // statements that more than one version or label came with: by how many
	events   tree[eventPlace, *params.Event]
	lost     params.EventPos // of the newest event that is not kept any more
	floor    int64           // the greatest Born of tombstones that were forgotten early, for there were too many
	standard int             // parameters by tier
	advanced int
	bytes    int
	by       work // the running act's; a place in the order of what was taken, so that no two have one
}

// tombstone remembers a deleted parameter.
type tombstone struct {
	Born int64
	At   int64 // Unix milliseconds, of its deletion
}

type (
	paramName   string
	eventPlace  params.EventPos
	paramMoment struct {
		at   int64 // Unix milliseconds
		name string
	}
)

func (a paramName) compare(b paramName) int { return cmp.Compare(a, b) }

func (a eventPlace) compare(b eventPlace) int {
	return cmp.Or(cmp.Compare(a.Act, b.Act), cmp.Compare(a.Part, b.Part))
}

func (a paramMoment) compare(b paramMoment) int {
	return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.name, b.name))
}

// Param returns the parameter of that canonical name. One that has expired is gone, whether or not it was swept.
func (s State) Param(name string) (*params.Param, bool) {
	p, ok := s.params.byName.get(paramName(name))
	if !ok || p.Expired(s.Time) {
		return nil, false
	}
	return p, true
}

// Params shows the parameters behind the name after, in order, until each returns false.
func (s State) Params(after string, each func(*params.Param) bool) { s.ParamsBelow("/", after, each) }

// ParamsBelow shows the parameters below a path ("/" is all, "/a" has "/a/b" and "/a/b/c") that stand behind the name
// after, in order, until each returns false.
func (s State) ParamsBelow(path, after string, each func(*params.Param) bool) {
	prefix := ""
	if path != "/" {
		prefix = path + "/"
	}
	for name, p := range s.params.byName.from(paramName(max(prefix, after))) {
		if !strings.HasPrefix(string(name), prefix) {
			return
		}
		if string(name) != after && !p.Expired(s.Time) && !each(p) {
			return
		}
	}
}

// ParamCount returns how many parameters there are, with those that have expired and were not swept yet.
func (s State) ParamCount() int { return s.params.byName.length() }

// ParamBytes returns how many bytes all versions weigh together, as MaxParamBytes counts them.
func (s State) ParamBytes() int { return s.params.bytes }

// ParamEvents returns up to n events behind a position, oldest first. ok is false if events behind it are not kept any
// more: who watches must look at what there is, and go on from there. A position behind the newest event has none yet.
func (s State) ParamEvents(after params.EventPos, n int) (events []params.Event, ok bool) {
	if eventPlace(after).compare(eventPlace(s.params.lost)) < 0 {
		return nil, false
	}
	for at, e := range s.params.events.from(eventPlace(after)) {
		if len(events) >= n {
			break
		}
		if at != eventPlace(after) {
			events = append(events, *e)
		}
	}
	return events, true
}

// ParamsDue reports whether at now (Unix milliseconds) time has something to do with a parameter: ParamsDue is then to be
// proposed.
func (s State) ParamsDue(now int64) bool {
	first, _, ok := s.params.due.first()
	return ok && first.at <= now
}

// references counts what came with the statement of the running act and is kept.
type references struct{ count uint32 }

// swap puts next in the place of was: either may be nil. What it says about acts, it says of names, counts, bytes and
// moments alike.
func (ps *parameters) swap(was, next *params.Param, added *references) {
	if was != nil {
		ps.tier(was, -1)
		if at, ok := was.NextDue(); ok {
			ps.due = ps.due.drop(ps.by, paramMoment{at, was.Name})
		}
	}
	ps.weighVersions(versionsOf(was), versionsOf(next), added)
	ps.weighLabels(was, next, added)
	if next == nil {
		ps.byName = ps.byName.drop(ps.by, paramName(was.Name))
		return
	}
	ps.tier(next, 1)
	if at, ok := next.NextDue(); ok {
		ps.due = ps.due.put(ps.by, paramMoment{at, next.Name}, struct{}{})
	}
	ps.byName = ps.byName.put(ps.by, paramName(next.Name), next)
}

func (ps *parameters) tier(p *params.Param, by int) {
	if p.Newest().Put.Tier == params.Advanced {
		ps.advanced += by
	} else {
		ps.standard += by
	}
}

func versionsOf(p *params.Param) []*params.Version {
	if p == nil {
		return nil
	}
	return p.Versions
}

func labelsOf(p *params.Param) []params.LabelAt {
	if p == nil {
		return nil
	}
	return p.Labels
}

// weighVersions counts the versions that go and those that come; both lists are by number.
func (ps *parameters) weighVersions(was, next []*params.Version, added *references) {
	for len(was) > 0 || len(next) > 0 {
		switch {
		case len(was) > 0 && len(next) > 0 && was[0] == next[0]:
			was, next = was[1:], next[1:]
		case len(was) > 0 && (len(next) == 0 || was[0].Number <= next[0].Number):
			ps.bytes -= weight(was[0])
			ps.release(was[0].Act, was[0].Change)
			was = was[1:]
		default:
			ps.bytes += weight(next[0])
			added.count++
			next = next[1:]
		}
	}
}

// weighLabels counts the labels that go and those that come, but those that came with their version; both lists are by
// label.
func (ps *parameters) weighLabels(from, to *params.Param, added *references) {
	was, next := labelsOf(from), labelsOf(to)
	for len(was) > 0 || len(next) > 0 {
		switch {
		case len(was) > 0 && len(next) > 0 && was[0].Label == next[0].Label && was[0].Act == next[0].Act:
			was, next = was[1:], next[1:]
		case len(was) > 0 && (len(next) == 0 || was[0].Label <= next[0].Label):
			if !withVersion(from, was[0]) {
				ps.bytes -= len(was[0].Body)
				ps.release(was[0].Act, was[0].Change)
			}
			was = was[1:]
		default:
			if !withVersion(to, next[0]) {
				ps.bytes += len(next[0].Body)
				added.count++
			}
			next = next[1:]
		}
	}
}

// withVersion reports whether a label came with the version that has it, and so weighs nothing of its own.
func withVersion(p *params.Param, l params.LabelAt) bool {
	v, ok := p.Version(l.Version)
	return ok && v.Act == l.Act
}

func weight(v *params.Version) int { return len(v.Body) + len(v.Content) }

func statementWeight(e *auth.Envelope) int { return len(e.Body) + len(e.Signature) + perStatement }

// hold counts the statement of an act from which count versions and labels were taken.
func (ps *parameters) hold(act uint64, e *auth.Envelope, count uint32) {
	if count == 0 {
		return
	}
	ps.bytes += statementWeight(e)
	if count > 1 {
		ps.shared = ps.shared.put(ps.by, actIndex(act), count)
	}
}

// release counts one version or label less that came with the statement of an act.
func (ps *parameters) release(act uint64, e *auth.Envelope) {
	switch count, shared := ps.shared.get(actIndex(act)); {
	case !shared:
		ps.bytes -= statementWeight(e)
	case count == 2:
		ps.shared = ps.shared.drop(ps.by, actIndex(act))
	default:
		ps.shared = ps.shared.put(ps.by, actIndex(act), count-1)
	}
}

// bury remembers a deleted parameter, and forgets those that nothing valid could bring back.
func (ps *parameters) bury(p *params.Param, now int64) {
	if old, ok := ps.gone.get(paramName(p.Name)); ok {
		ps.fading = ps.fading.drop(ps.by, paramMoment{old.At, p.Name})
	}
	ps.gone = ps.gone.put(ps.by, paramName(p.Name), tombstone{p.Born, now})
	ps.fading = ps.fading.put(ps.by, paramMoment{now, p.Name}, struct{}{})
	ps.fade(now)
}

func (ps *parameters) fade(now int64) {
	for {
		oldest, _, ok := ps.fading.first()
		over := ok && oldest.at+KeepTombstones.Milliseconds() < now
		if !over && ps.fading.length() <= MaxTombstones {
			return
		}
		if !over { // what it would have refused is refused for all names, for as long
			stone, _ := ps.gone.get(paramName(oldest.name))
			ps.floor = max(ps.floor, stone.Born)
		}
		ps.gone, ps.fading = ps.gone.drop(ps.by, paramName(oldest.name)), ps.fading.drop(ps.by, oldest)
	}
}

// say keeps events of an act, of which part were said before, and forgets the oldest.
func (ps *parameters) say(act uint64, now int64, part *uint32, events []params.Event) {
	for _, e := range events {
		e.Act, e.Part, e.Time = act, *part, now
		*part++
		ps.events = ps.events.put(ps.by, eventPlace{e.Act, e.Part}, &e)
	}
	for ps.events.length() > MaxParamEvents {
		oldest, _, _ := ps.events.first()
		ps.lost = params.EventPos(oldest)
		ps.events = ps.events.drop(ps.by, oldest)
	}
}

// within reports which bound of parameters was passed, or nil.
func (ps *parameters) within() error {
	switch {
	case ps.standard > MaxStandard:
		return fleet.Errorf(fleet.Exhausted, "%d parameters of tier Standard, the limit (ParameterLimitExceeded)", MaxStandard).
			Hinted("muster param put --tier Advanced; muster param list; muster param delete NAME")
	case ps.advanced > MaxAdvanced:
		return fleet.Errorf(fleet.Exhausted, "%d parameters of tier Advanced, the limit (ParameterLimitExceeded)", MaxAdvanced).
			Hinted("muster param list; muster param delete NAME")
	case ps.bytes > MaxParamBytes:
		return fleet.Errorf(fleet.Exhausted, "parameters would weigh %d bytes in all; at most %d (ParameterLimitExceeded)", ps.bytes, MaxParamBytes).
			Hinted("muster param list; muster param delete NAME")
	}
	return nil
}
