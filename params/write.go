package params

import (
	"slices"
	"strings"

	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

// Signed is where an operation comes from: the change that it is part of, which was verified, and what the quorum says
// about it.
type Signed struct {
	Change   *auth.Envelope
	Op       uint32 // place of the operation
	Body     []byte // the encoded Op
	Operator string // who signed
	Issued   int64  // Unix milliseconds: Header.Issued
	Time     int64  // Unix milliseconds, leader's stamp
	Act      uint64
	Content  []byte // of a Put: the encoded Content, which Put.Open has taken
}

// event begins the event of an operation. Part is the caller's to count over all operations of the act.
func (by Signed) event(kind EventKind, p *Param, version uint32, labels []string) Event {
	return Event{
		Act: by.Act, Time: by.Time, Kind: kind, Name: p.Name, Born: p.Born, Version: version, Labels: labels, By: by.Operator, Tags: p.Newest().Put.Tags,
	}
}

// Put returns the parameter with one version more; p is nil where there is none of that name. It refuses every Put that was
// made for another place: that is why none can be taken twice. The Put has passed Check, and is kept. Errors are Conflict where a newer
// look at the parameter may help, else Invalid or Exhausted.
func (p *Param) Put(put *Put, by Signed) (*Param, []Event, error) {
	if p == nil {
		return create(put, by)
	}
	switch {
	case put.Name != p.Name:
		return nil, nil, p.errName(put.Name)
	case put.Version == 1:
		return nil, nil, fleet.Errorf(fleet.Conflict, "parameter %s is there already, with version %d (ParameterAlreadyExists)", p.Name, p.Last).
			Hinted("to make another version: --overwrite")
	case put.Born != p.Born:
		return nil, nil, p.errBorn()
	case put.Version != p.Last+1:
		return nil, nil, fleet.Errorf(fleet.Conflict, "parameter %s has version %d; this would be version %d (TooManyUpdates)", p.Name, p.Last, put.Version).
			Hinted("muster param history %s", p.Name)
	case put.Type != p.Newest().Put.Type:
		return nil, nil, fleet.Errorf(fleet.Invalid, "parameter %s is a %s and cannot become a %s (HierarchyTypeMismatchException)", p.Name, p.Newest().Put.Type, put.Type).
			Hinted("muster param delete %s, and make it anew", p.Name)
	case put.Tier < p.Newest().Put.Tier:
		return nil, nil, fleet.Errorf(fleet.Invalid, "parameter %s is in tier %s, and there is no way down (ValidationException)", p.Name, p.Newest().Put.Tier)
	case len(put.Labels) > 0 && put.Seq != p.Seq+1:
		return nil, nil, p.errSeq(put.Seq)
	}
	next := *p
	next.Last, next.Told = put.Version, p.stillTold(put)
	next.Versions = append(slices.Clip(p.Versions), newVersion(put, by))
	if len(put.Labels) > 0 {
		next.Seq, next.Labels = put.Seq, moved(p.Labels, put.Labels, nil, put.Version, by)
	}
	if len(next.Versions) > MaxVersions {
		oldest := next.Versions[0].Number
		if labels := next.LabelsOf(oldest); len(labels) > 0 {
			return nil, nil, fleet.Errorf(fleet.Exhausted, "parameter %s has %d versions, and the oldest, %d, is labelled %s (ParameterMaxVersionLimitExceeded)",
				p.Name, len(p.Versions), oldest, strings.Join(labels, ", ")).Hinted("move the label: muster param label %s VERSION %s", p.Name, labels[0])
		}
		next.Versions = slices.Clone(next.Versions[1:]) // so that the dropped one is not kept in memory
	}
	return &next, []Event{by.event(EventUpdated, &next, put.Version, put.Labels)}, nil
}

func create(put *Put, by Signed) (*Param, []Event, error) {
	switch {
	case put.Version != 1:
		return nil, nil, fleet.Errorf(fleet.Conflict, "there is no parameter %s any more; this would be its version %d (ParameterNotFound)", put.Name, put.Version)
	case put.Born != by.Issued:
		return nil, nil, fleet.Errorf(fleet.Invalid, "parameter %s: its first version is born when its change is issued", put.Name)
	case len(put.Labels) > 0 && put.Seq != 1:
		return nil, nil, (&Param{Name: put.Name}).errSeq(put.Seq)
	}
	p := &Param{Name: put.Name, Born: put.Born, Last: 1, Seq: put.Seq, Versions: []*Version{newVersion(put, by)}}
	p.Labels = moved(nil, put.Labels, nil, 1, by)
	return p, []Event{by.event(EventCreated, p, 1, put.Labels)}, nil
}

func newVersion(put *Put, by Signed) *Version {
	return &Version{
		Number: put.Version, Op: by.Op, Body: by.Body, Change: by.Change, Operator: by.Operator, Time: by.Time, Act: by.Act, Put: put, Content: by.Content,
	}
}

func (p *Param) errName(name string) error {
	return fleet.Errorf(fleet.Internal, "what is for parameter %s came to parameter %s", name, p.Name)
}

func (p *Param) errBorn() error {
	return fleet.Errorf(fleet.Conflict, "parameter %s was deleted and made anew since (ParameterNotFound)", p.Name).Hinted("muster param history %s", p.Name)
}

func (p *Param) errSeq(seq uint32) error {
	return fleet.Errorf(fleet.Conflict, "the labels of parameter %s have changed %d times; this would be change %d (TooManyUpdates)", p.Name, p.Seq, seq).
		Hinted("muster param history %s", p.Name)
}

// Labelled returns the parameter with labels moved to a version, or removed. The Label has passed Check.
func (p *Param) Labelled(l Label, by Signed) (*Param, []Event, error) {
	switch {
	case p == nil:
		return nil, nil, errNotFound(l.Name)
	case l.Name != p.Name:
		return nil, nil, p.errName(l.Name)
	case l.Born != p.Born:
		return nil, nil, p.errBorn()
	case l.Seq != p.Seq+1:
		return nil, nil, p.errSeq(l.Seq)
	}
	if _, ok := p.Version(l.Version); l.Version != 0 && !ok {
		return nil, nil, p.errVersion(l.Version)
	}
	for _, label := range l.Remove {
		if at, ok := p.Label(label); !ok || l.Version != 0 && at.Version != l.Version {
			return nil, nil, fleet.Errorf(fleet.Invalid, "parameter %s: there is no label %s to remove (InvalidLabels)", p.Name, label)
		}
	}
	next := *p
	next.Seq, next.Labels = l.Seq, moved(p.Labels, l.Add, l.Remove, l.Version, by)
	if l.Version != 0 && len(next.LabelsOf(l.Version)) > MaxVersionLabels {
		return nil, nil, errLabelCount(p.Name, l.Version)
	}
	return &next, []Event{by.event(EventLabelled, &next, l.Version, slices.Concat(l.Add, l.Remove))}, nil
}

// moved returns labels, by label, after some went to a version and some were removed.
func moved(labels []LabelAt, add, remove []string, version uint32, by Signed) []LabelAt {
	next := slices.DeleteFunc(slices.Clone(labels), func(at LabelAt) bool {
		return slices.Contains(add, at.Label) || slices.Contains(remove, at.Label)
	})
	for _, label := range add {
		next = append(next, LabelAt{Label: label, Version: version, Op: by.Op, Body: by.Body, Change: by.Change, Act: by.Act})
	}
	slices.SortFunc(next, func(a, b LabelAt) int { return strings.Compare(a.Label, b.Label) })
	return next
}

// MayDelete reports why a deletion does not fit, or nil.
func (p *Param) MayDelete(d Delete) error {
	switch {
	case p == nil:
		return errNotFound(d.Name)
	case d.Name != p.Name:
		return p.errName(d.Name)
	case d.Born != p.Born:
		return p.errBorn()
	case d.Version != p.Last:
		return fleet.Errorf(fleet.Conflict, "parameter %s has version %d; who deletes it saw version %d (TooManyUpdates)", p.Name, p.Last, d.Version).
			Hinted("muster param history %s", p.Name)
	}
	return nil
}

// Deleted returns the event of a deletion that MayDelete lets through.
func (p *Param) Deleted(by Signed) Event { return by.event(EventDeleted, p, p.Last, nil) }
