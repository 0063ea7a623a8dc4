package fleet

import "slices"

// DrainTag is the reserved tag by which operators drain a node: it starts nothing new, and what runs goes on. The tag's value
// says why. Being a tag, it is signed, ordered and judged by policy as every other, and each node keeps it.
const DrainTag = "muster.drain"

// DrainOf returns why a node with those roster tags starts nothing new, for people; empty: it is not drained.
func DrainOf(tags map[string]string) string {
	return drainText("operators have drained this node", tags)
}

// DrainNote is DrainOf in a few words, for lists of nodes.
func DrainNote(tags map[string]string) string { return drainText("drained", tags) }

func drainText(that string, tags map[string]string) string {
	why, drained := tags[DrainTag]
	switch {
	case !drained:
		return ""
	case why == "" || why == "true":
		return that
	}
	return that + ": " + why
}

// MeansDrained reports whether a target says in so many words what of drained nodes: whoever signs that means them where they
// match. Text that is no target does not.
func MeansDrained(target string) bool {
	t, err := ParseTarget(target)
	return err == nil && t.uses(DrainTag)
}

// uses reports whether a target tests a tag.
func (t Target) uses(tag string) bool {
	var in func(node) bool
	in = func(n node) bool {
		switch n := n.(type) {
		case notNode:
			return in(n.of)
		case andNode:
			return slices.ContainsFunc(n.of, in)
		case orNode:
			return slices.ContainsFunc(n.of, in)
		case testNode:
			return n.key == tagPrefix+tag
		case everyNode, groupNode, namesNode:
		}
		return false
	}
	return t.root != nil && in(t.root)
}

// WithoutDrained returns a target that leaves drained nodes out, and says so in the text that is signed.
func (t Target) WithoutDrained() Target {
	return t.and(notNode{testNode{key: tagPrefix + DrainTag, values: []value{{text: "*", glob: true}}}})
}

// WithDrained returns a target that means drained nodes as well, in the text that is signed.
func (t Target) WithDrained() Target {
	return t.and(orNode{[]node{testNode{key: tagPrefix + DrainTag, values: []value{{text: "*", glob: true}}}, everyNode{}}})
}

func (t Target) and(more node) Target {
	if t.root == nil {
		return t
	}
	if all, ok := t.root.(andNode); ok {
		return newTarget(andNode{append(slices.Clone(all.of), more)})
	}
	return newTarget(andNode{[]node{t.root, more}})
}
