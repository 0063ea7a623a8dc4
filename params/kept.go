package params

import (
	"slices"

	"github.com/muster-fleet/muster/node/fleet"
)

// Check reports why a parameter that was kept elsewhere (a snapshot, a copy) is none that Put, Labelled and Due could have
// made, or nil. Signatures are not judged: readers do.
func (p *Param) Check() error {
	if err := checkPlace(p.Name, p.Born); err != nil {
		return err
	}
	if len(p.Versions) == 0 || len(p.Versions) > MaxVersions || p.Newest().Number != p.Last {
		return p.errKept("versions")
	}
	for i, v := range p.Versions {
		if i > 0 && v.Number != p.Versions[i-1].Number+1 {
			return p.errKept("numbers of versions")
		}
		if err := p.checkVersion(v); err != nil {
			return err
		}
	}
	if err := p.checkLabels(); err != nil {
		return err
	}
	for i, t := range p.Told {
		told := slices.ContainsFunc(p.Told[:i], func(o Told) bool { return o.Policy == t.Policy })
		if told || int64(t.Policy) >= int64(len(p.Newest().Put.Policies)) {
			return p.errKept("notices")
		}
	}
	return nil
}

func (p *Param) checkLabels() error {
	if len(p.Labels) > 0 && p.Seq == 0 {
		return p.errKept("count of label changes")
	}
	count := map[uint32]int{}
	for i, at := range p.Labels {
		_, ok := p.Version(at.Version)
		count[at.Version]++
		if !ok || count[at.Version] > MaxVersionLabels || CheckLabel(at.Label) != nil || at.Change == nil || i > 0 && at.Label <= p.Labels[i-1].Label {
			return p.errKept("labels")
		}
	}
	return nil
}

func (p *Param) checkVersion(v *Version) error {
	put := v.Put
	if put == nil || v.Change == nil || put.Name != p.Name || put.Born != p.Born || put.Version != v.Number || put.Seq > p.Seq || put.Type != p.Versions[0].Put.Type {
		return p.errKept("versions")
	}
	if err := put.Check(); err != nil {
		return err
	}
	return put.CheckContent(v.Content)
}

func (p *Param) errKept(what string) error {
	return fleet.Errorf(fleet.Invalid, "what is kept of parameter %s contradicts itself: its %s", p.Name, what)
}
