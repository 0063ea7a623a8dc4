package fleet

import (
	"slices"
	"strings"
)

// Limits of targets.
const (
	MaxTarget      = 4096 // bytes of a target's text
	maxTargetDepth = 32   // of parentheses, nots and groups within groups
	minIDPrefix    = 4    // characters; shorter words are names only
)

// Target selects nodes: tag.role=web and os.name=debian and not web13. It is an immutable value; ParseTarget makes it and
// String gives text that parses to the same. The zero Target selects nothing.
type Target struct {
	root node
	text string
}

// node is one part of a target.
//
//sumtype:decl
type node interface {
	match(m *Member) bool
	write(b *strings.Builder)
}

type (
	everyNode struct{}               // *
	groupNode struct{ name string }  // @canary
	notNode   struct{ of node }      // not …
	andNode   struct{ of []node }    // … and …
	orNode    struct{ of []node }    // … or …
	namesNode struct{ items []item } // web01,web[02-20],db*
	testNode  struct {               // tag.role=web, arch not in (amd64, arm64)
		key    string
		negate bool
		values []value
	}
)

// item is one bare word: a name or the beginning of an ID, a nodeset, or a glob on names.
type item struct {
	text string
	glob bool
	set  map[string]struct{} // a nodeset's names
}

// value is what a key is compared with.
type value struct {
	text string
	glob bool
}

// All selects every node.
func All() Target { return newTarget(everyNode{}) }

func newTarget(root node) Target {
	var b strings.Builder
	root.write(&b)
	return Target{root, b.String()}
}

// String returns the canonical text.
func (t Target) String() string { return t.text }

// IsZero reports whether t is the zero Target, which selects nothing.
func (t Target) IsZero() bool { return t.root == nil }

// Equal reports whether both are written the same in canonical text.
func (t Target) Equal(other Target) bool { return t.text == other.text }

// MarshalText lets targets stand in JSON.
func (t Target) MarshalText() ([]byte, error) { return []byte(t.text), nil }

// UnmarshalText reads a target from JSON; empty text is the zero Target.
func (t *Target) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*t = Target{}
		return nil
	}
	parsed, err := ParseTarget(string(text))
	if err == nil {
		*t = parsed
	}
	return err
}

// Match reports whether t selects m. A group that was not resolved selects nothing and, under not, everything else: call
// Resolve first. Facts (UsesFacts) bind only on the node itself; elsewhere the answer is a hint.
func (t Target) Match(m *Member) bool { return t.root != nil && t.root.match(m) }

// UsesFacts reports whether what nodes say of themselves (os.name, os.version, arch, version) decides.
func (t Target) UsesFacts() bool {
	return t.any(func(n node) bool {
		test, ok := n.(testNode)
		return ok && isFact(test.key)
	})
}

// Keys returns the keys that decide, sorted: "name" for nodes that are named, "id" only for whole IDs, "name" for the
// beginning of one.
func (t Target) Keys() []string {
	var keys []string
	t.any(func(n node) bool {
		switch n := n.(type) {
		case namesNode:
			keys = append(keys, "name")
		case testNode:
			keys = append(keys, n.key)
			if n.key == "id" && slices.ContainsFunc(n.values, func(v value) bool { return v.glob || len(v.text) < ScreenLen }) {
				keys = append(keys, "name")
			}
		case everyNode, groupNode, notNode, andNode, orNode:
		}
		return false
	})
	slices.Sort(keys)
	return slices.Compact(keys)
}

// WithIDs writes named nodes as the IDs of those members that have the names now, so that no other node can take a name and
// be meant. A name that nobody has is an error.
func (t Target) WithIDs(members []*Member) (Target, error) {
	if t.root == nil {
		return t, nil
	}
	root, err := identify(t.root, members)
	if err != nil {
		return Target{}, err
	}
	return ParseTarget(newTarget(root).text)
}

func identify(n node, members []*Member) (node, error) {
	switch n := n.(type) {
	case namesNode:
		return idsOf(n, members)
	case testNode:
		if slices.Contains(Target{root: n}.Keys(), "name") {
			return idsOf(n, members)
		}
		return n, nil
	case notNode:
		of, err := identify(n.of, members)
		return notNode{of}, err
	case andNode:
		of, err := identifyAll(n.of, members)
		return joinAnd(of), err
	case orNode:
		of, err := identifyAll(n.of, members)
		return joinOr(of), err
	case everyNode, groupNode:
		return n, nil
	}
	panic("fleet: unknown part of a target")
}

func identifyAll(of []node, members []*Member) ([]node, error) {
	out := make([]node, len(of))
	for i, n := range of {
		var err error
		if out[i], err = identify(n, members); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func idsOf(n node, members []*Member) (node, error) {
	out := testNode{key: "id"}
	for _, m := range members {
		if n.match(m) {
			out.values = append(out.values, value{text: m.ID.Text()[:ScreenLen]})
		}
	}
	if len(out.values) == 0 {
		return nil, Errorf(NotFound, "no node is %s", newTarget(n).text).Hinted("muster node list")
	}
	slices.SortFunc(out.values, func(a, b value) int { return strings.Compare(a.text, b.text) })
	return out, nil
}

// Groups returns the names of the saved groups in t, sorted, without @.
func (t Target) Groups() []string {
	var names []string
	t.any(func(n node) bool {
		if g, ok := n.(groupNode); ok {
			names = append(names, g.name)
		}
		return false
	})
	slices.Sort(names)
	return slices.Compact(names)
}

// any reports whether found holds for a part of t.
func (t Target) any(found func(node) bool) bool {
	if t.root == nil {
		return false
	}
	todo := []node{t.root}
	for len(todo) > 0 {
		n := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if found(n) {
			return true
		}
		todo = append(todo, parts(n)...)
	}
	return false
}

func parts(n node) []node {
	switch n := n.(type) {
	case notNode:
		return []node{n.of}
	case andNode:
		return n.of
	case orNode:
		return n.of
	case everyNode, groupNode, namesNode, testNode:
		return nil
	}
	panic("fleet: unknown part of a target")
}

// Resolve puts the saved groups in their places. lookup returns a group's target and whether there is one. Unknown
// groups, groups that hold themselves, and results over the limits of ParseTarget are errors.
func (t Target) Resolve(lookup func(name string) (Target, bool)) (Target, error) {
	if len(t.Groups()) == 0 {
		return t, nil
	}
	r := resolver{lookup: lookup, done: make(map[string]node), open: make(map[string]bool)}
	root, err := r.resolve(t.root)
	if err != nil {
		return Target{}, err
	}
	return ParseTarget(newTarget(root).text) // the limits hold for the whole
}

// resolver replaces groups; every group is resolved once, so groups of groups cannot blow the work up.
type resolver struct {
	lookup func(string) (Target, bool)
	done   map[string]node
	open   map[string]bool // the groups we are inside of
}

func (r resolver) resolve(n node) (node, error) {
	switch n := n.(type) {
	case groupNode:
		return r.group(n.name)
	case notNode:
		of, err := r.resolve(n.of)
		return notNode{of}, err
	case andNode:
		of, err := r.all(n.of)
		return joinAnd(of), err
	case orNode:
		of, err := r.all(n.of)
		return joinOr(of), err
	case everyNode, namesNode, testNode:
		return n, nil
	}
	panic("fleet: unknown part of a target")
}

func (r resolver) all(of []node) ([]node, error) {
	out := make([]node, len(of))
	for i, n := range of {
		var err error
		if out[i], err = r.resolve(n); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (r resolver) group(name string) (node, error) {
	if n, ok := r.done[name]; ok {
		return n, nil
	}
	if r.open[name] {
		return nil, Errorf(Invalid, "group @%s holds itself", name).Hinted("write one of them out")
	}
	if len(r.open) >= maxTargetDepth {
		return nil, Errorf(Exhausted, "groups within groups deeper than %d", maxTargetDepth)
	}
	saved, ok := r.lookup(name)
	if !ok || saved.root == nil {
		return nil, Errorf(NotFound, "no group @%s", name).Hinted("muster group list")
	}
	r.open[name] = true
	n, err := r.resolve(saved.root)
	delete(r.open, name)
	if err != nil {
		return nil, err
	}
	if len(newTarget(n).text) > MaxTarget {
		return nil, Errorf(Exhausted, "group @%s is longer than %d bytes with its groups written out", name, MaxTarget)
	}
	r.done[name] = n
	return n, nil
}

// joinAnd and joinOr flatten: (a and b) and c is a and b and c.
func joinAnd(of []node) node {
	var flat []node
	for _, n := range of {
		if inner, ok := n.(andNode); ok {
			flat = append(flat, inner.of...)
			continue
		}
		flat = append(flat, n)
	}
	return andNode{flat}
}

func joinOr(of []node) node {
	var flat []node
	for _, n := range of {
		if inner, ok := n.(orNode); ok {
			flat = append(flat, inner.of...)
			continue
		}
		flat = append(flat, n)
	}
	return orNode{flat}
}
