package params

import (
	"slices"
	"strings"

	"github.com/muster-fleet/muster/node/fleet"
)

func errNotFound(name string) error {
	return fleet.Errorf(fleet.NotFound, "parameter %s not found (ParameterNotFound)", name).Hinted("muster param list")
}

func (p *Param) errVersion(number uint32) error {
	return fleet.Errorf(fleet.NotFound, "parameter %s has no version %d (ParameterVersionNotFound)", p.Name, number).Hinted("muster param history %s", p.Name)
}

// Newest returns the newest version.
func (p *Param) Newest() *Version { return p.Versions[len(p.Versions)-1] }

// Version returns the version of that number, if it is kept.
func (p *Param) Version(number uint32) (*Version, bool) {
	i, ok := slices.BinarySearchFunc(p.Versions, number, func(v *Version, n uint32) int { return int(int64(v.Number) - int64(n)) })
	if !ok {
		return nil, false
	}
	return p.Versions[i], true
}

// Label returns where a label is.
func (p *Param) Label(label string) (*LabelAt, bool) {
	i, ok := slices.BinarySearchFunc(p.Labels, label, func(at LabelAt, l string) int { return strings.Compare(at.Label, l) })
	if !ok {
		return nil, false
	}
	return &p.Labels[i], true
}

// LabelsOf lists the labels of a version.
func (p *Param) LabelsOf(number uint32) (out []string) {
	for _, at := range p.Labels {
		if at.Version == number {
			out = append(out, at.Label)
		}
	}
	return out
}

// Find returns the version that a selector names, and the label by which it did, or nil. p may be nil. Errors are NotFound.
func (p *Param) Find(s Selector) (*Version, *LabelAt, error) {
	switch {
	case p == nil || p.Name != s.Name:
		return nil, nil, errNotFound(s.Name)
	case s.Version != 0:
		v, ok := p.Version(s.Version)
		if !ok {
			return nil, nil, p.errVersion(s.Version)
		}
		return v, nil, nil
	case s.Label != "":
		at, ok := p.Label(s.Label)
		if !ok {
			return nil, nil, fleet.Errorf(fleet.NotFound, "parameter %s has no label %s (ParameterVersionNotFound)", p.Name, s.Label).Hinted("muster param history %s", p.Name)
		}
		v, ok := p.Version(at.Version)
		if !ok {
			return nil, nil, p.errVersion(at.Version)
		}
		return v, at, nil
	}
	return p.Newest(), nil, nil
}

// Item returns the answer's item for a version that Find gave, without its content: whether that may be told is policy's to say.
func (p *Param) Item(s Selector, v *Version, at *LabelAt) Item {
	i := Item{
		Selector: s.Suffix(), Change: *v.Change, Op: v.Op, Body: v.Body, Newest: p.Last, Seq: p.Seq,
		Operator: v.Operator, Time: v.Time, Act: v.Act, Labels: p.LabelsOf(v.Number),
	}
	if at != nil {
		i.Proof = []LabelProof{{Change: *at.Change, Op: at.Op, Body: at.Body}}
	}
	return i
}
