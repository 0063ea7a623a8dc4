package fleet

import (
	"cmp"
	"iter"
	"slices"
	"strings"
)

// View is an immutable snapshot of the fleet's members, sorted by name. Copies are cheap and share the members; whoever
// makes a View gives its maps and slices away.
type View struct {
	members []Member
	byID    map[ID]int
	byName  map[string]int
	version uint64
}

// NewView makes the first version of a view.
func NewView(members []Member) View {
	sorted := slices.Clone(members)
	slices.SortFunc(sorted, func(a, b Member) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), a.ID.Compare(b.ID))
	})
	v := View{members: sorted, byID: make(map[ID]int, len(sorted)), byName: make(map[string]int, len(sorted)), version: 1}
	for i := range sorted {
		v.byID[sorted[i].ID] = i
		if _, taken := v.byName[sorted[i].Name]; !taken {
			v.byName[sorted[i].Name] = i
		}
	}
	return v
}

// Next makes the version after v, with other members.
func (v View) Next(members []Member) View {
	next := NewView(members)
	next.version = v.version + 1
	return next
}

// Version counts the views of one process; a higher one is newer. The zero View has version 0.
func (v View) Version() uint64 { return v.version }

// Len returns the number of members.
func (v View) Len() int { return len(v.members) }

// All yields the members by name.
func (v View) All() iter.Seq[Member] { return slices.Values(v.members) }

// ByID returns the member with this ID.
func (v View) ByID(id ID) (Member, bool) {
	i, ok := v.byID[id]
	if !ok {
		return Member{}, false
	}
	return v.members[i], true
}

// ByName returns the member with this name.
func (v View) ByName(name string) (Member, bool) {
	i, ok := v.byName[name]
	if !ok {
		return Member{}, false
	}
	return v.members[i], true
}

// Select returns the members that t selects, by name.
func (v View) Select(t Target) []Member {
	var hits []int // members are large: copy each once
	for i := range v.members {
		if t.Match(&v.members[i]) {
			hits = append(hits, i)
		}
	}
	out := make([]Member, len(hits))
	for to, from := range hits {
		out[to] = v.members[from]
	}
	return out
}

// Find returns the one member that text means: its name, its ID, or the beginning of one of them that no other member
// shares.
func (v View) Find(text string) (Member, error) {
	if m, ok := v.ByName(text); ok {
		return m, nil
	}
	if text == "" {
		return Member{}, Errorf(Invalid, "expected a node's name or ID").Hinted("muster node list")
	}
	found := v.startingWith(text)
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return Member{}, v.unknown(text)
	}
	return Member{}, Errorf(Invalid, "%q may be any of %d nodes: %s", clip(text), len(found), listed(found)).
		Hinted("give more of the name or the ID")
}

func (v View) startingWith(text string) []Member {
	var found []Member
	ids := likeID(text)
	for i := range v.members {
		m := &v.members[i]
		if strings.HasPrefix(m.Name, text) || (ids && strings.HasPrefix(m.ID.Text(), text)) {
			found = append(found, *m)
		}
	}
	return found
}

func (v View) unknown(text string) *Error {
	names := make([]string, len(v.members))
	for i := range v.members {
		names[i] = v.members[i].Name
	}
	err := Errorf(NotFound, "no node %q", clip(text))
	if near := nearest(text, names, 3); len(near) > 0 {
		return err.Hinted("did you mean %s?", strings.Join(near, ", "))
	}
	return err.Hinted("muster node list")
}

// Pin replaces the beginnings of IDs in t by the names of the members they mean, so that t selects the same nodes
// wherever it is read. A bare word that means no member, or more than one, is an error, as in Find; nodesets and globs
// may name nodes that are not there.
func (v View) Pin(t Target) (Target, error) {
	var first error
	pinned := v.pin(t.root, &first)
	if first != nil || t.root == nil {
		return Target{}, first
	}
	return ParseTarget(newTarget(pinned).text)
}

func (v View) pin(n node, first *error) node {
	all := func(of []node) []node {
		out := make([]node, len(of))
		for i := range of {
			out[i] = v.pin(of[i], first)
		}
		return out
	}
	switch n := n.(type) {
	case notNode:
		return notNode{v.pin(n.of, first)}
	case andNode:
		return andNode{all(n.of)}
	case orNode:
		return orNode{all(n.of)}
	case namesNode:
		return v.pinNames(n, first)
	}
	return n
}

func (v View) pinNames(n namesNode, first *error) node {
	items := slices.Clone(n.items)
	for i, it := range items {
		if _, known := v.byName[it.text]; known || it.glob || it.set != nil {
			continue
		}
		m, err := v.onlyID(it.text)
		if err != nil && *first == nil {
			*first = err
		}
		items[i].text = m.Name
	}
	slices.SortFunc(items, func(a, b item) int { return strings.Compare(a.text, b.text) })
	return namesNode{slices.CompactFunc(items, func(a, b item) bool { return a.text == b.text })}
}

// onlyID returns the one member whose ID begins with word.
func (v View) onlyID(word string) (Member, error) {
	var found []Member
	for i := range v.members {
		if matchID(word, &v.members[i]) {
			found = append(found, v.members[i])
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return Member{}, v.unknown(word)
	}
	return Member{}, Errorf(Invalid, "%q may be any of %d nodes: %s", clip(word), len(found), listed(found)).
		Hinted("give more of the ID")
}

// listed names members, the first few with the beginning of their IDs.
func listed(members []Member) string {
	const most = 5
	var names []string
	for _, m := range members[:min(len(members), most)] {
		names = append(names, m.Name+" ("+m.ID.String()[:8]+")")
	}
	text := strings.Join(names, ", ")
	if len(members) > most {
		text += ", …"
	}
	return text
}
