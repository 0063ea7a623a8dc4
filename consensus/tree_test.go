package consensus

import (
	"cmp"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

type number int

func (n number) compare(o number) int { return cmp.Compare(n, o) }

// TestTreeIsAMap: against a plain map, with trees of before that must stay what they were.
func TestTreeIsAMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		type kept struct {
			tree tree[number, int]
			was  map[number]int
		}
		var now tree[number, int]
		model := map[number]int{}
		var held []kept
		span := rapid.SampledFrom([]int{3, 50, 5_000}).Draw(t, "span")
		upwards := rapid.Bool().Draw(t, "upwards")
		for i := range rapid.IntRange(0, 400).Draw(t, "steps") {
			k := number(rapid.IntRange(0, span).Draw(t, "key"))
			if upwards {
				k = number(i)
			}
			if rapid.IntRange(0, 3).Draw(t, "what") == 0 {
				if upwards { // as a queue forgets
					if first, _, ok := now.first(); ok {
						k = first
					}
				}
				now = now.drop(k)
				delete(model, k)
			} else {
				now = now.put(k, i)
				model[k] = i
			}
			if i%50 == 0 {
				held = append(held, kept{now, maps.Clone(model)})
			}
		}
		for _, h := range append(held, kept{now, model}) {
			sameAsMap(t, h.tree, h.was, number(span/2))
		}
	})
}

func sameAsMap(t *rapid.T, got tree[number, int], want map[number]int, from number) {
	keys := slices.Sorted(maps.Keys(want))
	if got.length() != len(want) {
		t.Fatalf("%d items, want %d", got.length(), len(want))
	}
	var seen, upper []number
	for k, v := range got.all() {
		if seen = append(seen, k); want[k] != v {
			t.Fatalf("%d has %d, want %d", k, v, want[k])
		}
	}
	for k := range got.from(from) {
		upper = append(upper, k)
	}
	i, _ := slices.BinarySearch(keys, from)
	if !slices.Equal(seen, keys) || !slices.Equal(upper, keys[i:]) {
		t.Fatalf("keys %v, from %d on %v; want %v", seen, from, upper, keys)
	}
	for k := range number(60) {
		v, ok := got.get(k)
		if was, there := want[k]; ok != there || v != was {
			t.Fatalf("%d has %d, %t", k, v, ok)
		}
	}
	first, _, some := got.first()
	last, _, _ := got.last()
	if some != (len(keys) > 0) || some && (first != keys[0] || last != keys[len(keys)-1]) {
		t.Fatalf("first %d, last %d", first, last)
	}
	for range got.all() {
		break
	}
}

// Nodes that a queue leaves behind are full, and what is taken out at its front is gone.
func TestTreeAsQueue(t *testing.T) {
	var q tree[number, int]
	for i := range 10_000 {
		if q = q.put(number(i), i); i >= 1_000 {
			first, _, _ := q.first()
			q = q.drop(first)
		}
	}
	nodes := 0
	var count func(b *branch[number, int])
	count = func(b *branch[number, int]) {
		nodes++
		for _, kid := range b.kids {
			count(kid)
		}
	}
	count(q.root)
	if q.length() != 1_000 || nodes > 1_000/treeWidth+6 {
		t.Errorf("%d items in %d nodes", q.length(), nodes)
	}
}
