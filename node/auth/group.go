package auth

import (
	"slices"
	"strings"

	"github.com/muster-fleet/muster/node/fleet"
)

// MaxGroups bounds the saved groups, and, apart from them, the deleted ones that are remembered.
const MaxGroups = 1_000

// Group is a saved target.
type Group struct {
	Name    string
	Target  string // in canonical form; empty: it was deleted, and is only remembered
	Changed int64  // Unix milliseconds, leader's stamp
	By      string // operator's name
	Act     uint64 // act index of the change
}

// GroupChange saves a target under a name. Purpose ForGroup.
type GroupChange struct {
	Header Header
	Name   string
	Target string // empty: the group is deleted
}

// Check reports what is wrong with a change on the face of it, or nil.
func (c GroupChange) Check() error {
	if err := fleet.CheckName(c.Name); err != nil {
		return err
	}
	if c.Target == "" {
		return nil
	}
	target, err := fleet.ParseTarget(c.Target)
	switch {
	case err != nil:
		return err
	case target.String() != c.Target:
		return fleet.Errorf(fleet.Invalid, "the target of group @%s is not in canonical form: %s", c.Name, target)
	case len(target.Groups()) > 0:
		return fleet.Errorf(fleet.Invalid, "group @%s uses group @%s; groups are plain expressions", c.Name, target.Groups()[0]).
			Hinted("write out what muster group show %s says", target.Groups()[0])
	}
	return nil
}

// Groups is the fleet's saved groups: an immutable value.
type Groups struct {
	sorted []Group // by name, deleted ones included
	floor  uint64  // act index of the newest deletion that is not remembered by name any more
}

// Get returns the group of that name.
func (g Groups) Get(name string) (Group, bool) {
	i, ok := g.at(name)
	if !ok || g.sorted[i].Target == "" {
		return Group{}, false
	}
	return g.sorted[i], true
}

func (g Groups) at(name string) (int, bool) {
	return slices.BinarySearchFunc(g.sorted, name, func(a Group, n string) int { return strings.Compare(a.Name, n) })
}

// All lists the groups by name.
func (g Groups) All() []Group {
	return slices.DeleteFunc(slices.Clone(g.sorted), func(a Group) bool { return a.Target == "" })
}

// Len returns the number of groups.
func (g Groups) Len() int { return len(g.All()) }

// Lookup returns a group's target, for fleet.Target.Resolve.
func (g Groups) Lookup(name string) (fleet.Target, bool) {
	group, ok := g.Get(name)
	if !ok {
		return fleet.Target{}, false
	}
	target, err := fleet.ParseTarget(group.Target)
	return target, err == nil
}

// changed returns the act index of the last change of a name, at the least.
func (g Groups) changed(name string) uint64 {
	if i, ok := g.at(name); ok {
		return g.sorted[i].Act
	}
	return g.floor
}

// put takes a change. A signer who had not seen the last change of that name is refused: so a change cannot be put once
// more when another has followed, and nobody overwrites what he has not seen.
func (g Groups) put(c GroupChange, new Group) (Groups, error) {
	if last := g.changed(c.Name); c.Header.Act < last {
		return g, fleet.Errorf(fleet.Conflict, "group @%s was changed at act %d; this was signed at act %d", c.Name, last, c.Header.Act).
			Hinted("look at muster group show %s, and repeat", c.Name)
	}
	_, there := g.Get(c.Name)
	switch {
	case c.Target == "" && !there:
		return g, fleet.Errorf(fleet.NotFound, "no group @%s", c.Name).Hinted("muster group list")
	case c.Target != "" && !there && g.Len() >= MaxGroups:
		return g, fleet.Errorf(fleet.Exhausted, "%d groups, the limit", MaxGroups).Hinted("muster group list; muster group delete NAME")
	}
	i, ok := g.at(c.Name)
	sorted := slices.Clone(g.sorted)
	if ok {
		sorted[i] = new
	} else {
		sorted = slices.Insert(sorted, i, new)
	}
	return Groups{sorted, g.floor}.forget(), nil
}

// forget drops the deletion that is longest ago when too many are remembered.
func (g Groups) forget() Groups {
	deleted, oldest := 0, -1
	for i, a := range g.sorted {
		if a.Target != "" {
			continue
		}
		if deleted++; oldest < 0 || a.Act < g.sorted[oldest].Act {
			oldest = i
		}
	}
	if deleted > MaxGroups {
		g.floor = g.sorted[oldest].Act
		g.sorted = slices.Delete(g.sorted, oldest, oldest+1)
	}
	return g
}
