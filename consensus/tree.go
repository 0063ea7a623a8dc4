package consensus

import (
	"iter"
	"slices"
)

// treeWidth bounds the items of a node. A put copies one node per level, so that wide nodes cost time and narrow ones
// memory; between 16 and 64 neither changes by much.
const treeWidth = 32

// key is what a tree is ordered by.
type key[K any] interface{ compare(K) int }

// tree is an immutable ordered map: what changes one returns another, and both share all nodes but those on the way to
// what changed. The zero tree is empty. It takes a tenth of the memory of a radix tree with a watch for every node, which
// counts where there are 100,000 items of a few hundred bytes.
type tree[K key[K], V any] struct {
	root *branch[K, V]
	size int
}

// branch is a node: a leaf has values, another has children. keys are those of the values, or the least that each child
// was made with: nothing in a child is below its key but in the first.
type branch[K key[K], V any] struct {
	by     work
	keys   []K
	values []V
	kids   []*branch[K, V]
}

// work is a piece of work that changes trees, and which nobody sees before it is done: what it has made itself it may change
// again in place. Of a change of sixty parameters most of the time would else go into copies that only the next one sees.
// 0 is none, and changes nothing in place.
type work uint64

// length returns the number of items.
func (t tree[K, V]) length() int { return t.size }

// search returns the first place whose key is not below k, and whether it is k's.
func (b *branch[K, V]) search(k K) (int, bool) {
	return slices.BinarySearchFunc(b.keys, k, func(at, k K) int { return at.compare(k) })
}

// way returns the child that k is in, or would be.
func (b *branch[K, V]) way(k K) int {
	i, found := b.search(k)
	if found || i == 0 {
		return i
	}
	return i - 1
}

// get returns the value of k.
func (t tree[K, V]) get(k K) (v V, ok bool) {
	b := t.root
	if b == nil {
		return v, false
	}
	for b.kids != nil {
		b = b.kids[b.way(k)]
	}
	i, found := b.search(k)
	if !found {
		return v, false
	}
	return b.values[i], true
}

// put returns the tree with v for k, as the work of by; t is of no use any more where it was by's work too.
func (t tree[K, V]) put(by work, k K, v V) tree[K, V] {
	if t.root == nil {
		return tree[K, V]{&branch[K, V]{by: by, keys: []K{k}, values: []V{v}}, 1}
	}
	left, right, added := t.root.put(by, k, v)
	if right != nil {
		left = &branch[K, V]{by: by, keys: []K{left.keys[0], right.keys[0]}, kids: []*branch[K, V]{left, right}}
	}
	if added {
		t.size++
	}
	return tree[K, V]{left, t.size}
}

// put returns the one or two nodes that take the place of b.
func (b *branch[K, V]) put(by work, k K, v V) (left, right *branch[K, V], added bool) {
	if b.kids == nil {
		i, found := b.search(k)
		if found {
			next := b.of(by)
			next.values[i] = v
			return next, nil, false
		}
		next := b
		if by == 0 || b.by != by {
			next = &branch[K, V]{by: by}
		}
		next.keys, next.values = inserted(b.keys, i, k), inserted(b.values, i, v)
		left, right = next.split(i)
		return left, right, true
	}
	i := b.way(k)
	kid, more, added := b.kids[i].put(by, k, v)
	next := b.of(by)
	next.kids[i] = kid
	if more == nil {
		return next, nil, added
	}
	next.keys, next.kids = inserted(next.keys, i+1, more.keys[0]), inserted(next.kids, i+1, more)
	if least := kid.keys[0]; least.compare(next.keys[i]) < 0 { // the first child has what is below its key, and may give that off
		next.keys[i] = least
	}
	left, right = next.split(i + 1)
	return left, right, added
}

// of returns b if it is by's own, else a copy that is: its values and children may be replaced. Its keys are shared.
func (b *branch[K, V]) of(by work) *branch[K, V] {
	if by != 0 && b.by == by {
		return b
	}
	return &branch[K, V]{by: by, keys: b.keys, values: slices.Clone(b.values), kids: slices.Clone(b.kids)}
}

// split returns b, or the two that it becomes if it is too wide; the newest item is at. What only grows at its end leaves
// full nodes behind.
func (b *branch[K, V]) split(at int) (left, right *branch[K, V]) {
	if len(b.keys) <= treeWidth {
		return b, nil
	}
	cut := len(b.keys) / 2
	if at == len(b.keys)-1 {
		cut = at
	}
	left, right = &branch[K, V]{by: b.by, keys: slices.Clone(b.keys[:cut])}, &branch[K, V]{by: b.by, keys: slices.Clone(b.keys[cut:])}
	if b.kids == nil {
		left.values, right.values = slices.Clone(b.values[:cut]), slices.Clone(b.values[cut:])
	} else {
		left.kids, right.kids = slices.Clone(b.kids[:cut]), slices.Clone(b.kids[cut:])
	}
	return left, right
}

// drop returns the tree without k, as the work of by; t is of no use any more where it was by's work too. Nodes that become
// empty go; others are not joined, for every node is only as large as what is in it.
func (t tree[K, V]) drop(by work, k K) tree[K, V] {
	if _, ok := t.get(k); !ok {
		return t
	}
	root := t.root.drop(by, k)
	for root != nil && len(root.kids) == 1 {
		root = root.kids[0]
	}
	return tree[K, V]{root, t.size - 1}
}

// drop returns what b is without k, which it has; nil if that is nothing.
func (b *branch[K, V]) drop(by work, k K) *branch[K, V] {
	if len(b.keys) == 1 && b.kids == nil {
		return nil
	}
	if b.kids == nil {
		i, _ := b.search(k)
		return &branch[K, V]{by: by, keys: without(b.keys, i), values: without(b.values, i)}
	}
	i := b.way(k)
	switch kid := b.kids[i].drop(by, k); {
	case kid != nil:
		next := b.of(by)
		next.kids[i] = kid
		return next
	case len(b.kids) == 1:
		return nil
	}
	return &branch[K, V]{by: by, keys: without(b.keys, i), kids: without(b.kids, i)}
}

// first returns the least item.
func (t tree[K, V]) first() (k K, v V, ok bool) {
	b := t.root
	if b == nil {
		return k, v, false
	}
	for b.kids != nil {
		b = b.kids[0]
	}
	return b.keys[0], b.values[0], true
}

// last returns the greatest item.
func (t tree[K, V]) last() (k K, v V, ok bool) {
	b := t.root
	if b == nil {
		return k, v, false
	}
	for b.kids != nil {
		b = b.kids[len(b.kids)-1]
	}
	return b.keys[len(b.keys)-1], b.values[len(b.values)-1], true
}

// all yields all items in order.
func (t tree[K, V]) all() iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		if t.root != nil {
			t.root.each(nil, yield)
		}
	}
}

// from yields the items that are not below k, in order.
func (t tree[K, V]) from(k K) iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		if t.root != nil {
			t.root.each(&k, yield)
		}
	}
}

// each yields what is not below from; all of it if that is nil. It returns false when it was told to stop.
func (b *branch[K, V]) each(from *K, yield func(K, V) bool) bool {
	if b.kids == nil {
		i := 0
		if from != nil {
			i, _ = b.search(*from)
		}
		for ; i < len(b.keys); i++ {
			if !yield(b.keys[i], b.values[i]) {
				return false
			}
		}
		return true
	}
	i := 0
	if from != nil {
		i = b.way(*from)
	}
	for ; i < len(b.kids); i++ {
		if !b.kids[i].each(from, yield) {
			return false
		}
		from = nil
	}
	return true
}

func inserted[T any](in []T, i int, v T) []T {
	out := make([]T, len(in)+1)
	copy(out, in[:i])
	out[i] = v
	copy(out[i+1:], in[i:])
	return out
}

func without[T any](in []T, i int) []T {
	out := make([]T, len(in)-1)
	copy(out, in[:i])
	copy(out[i:], in[i+1:])
	return out
}
