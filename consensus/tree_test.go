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
		by := work(0)
		span := rapid.SampledFrom([]int{3, 50, 5_000}).Draw(t, "span")
		way := rapid.SampledFrom([]string{"anywhere", "upwards", "downwards"}).Draw(t, "way")
		for i := range rapid.IntRange(0, 400).Draw(t, "steps") {
			k := number(rapid.IntRange(0, span).Draw(t, "key"))
			switch way {
			case "upwards":
				k = number(i)
			case "downwards": // with some of those above
				k = number(400-i) + k%5*(k%40)
			}
			if rapid.IntRange(0, 3).Draw(t, "what") == 0 {
				if way == "upwards" { // as a queue forgets
					if first, _, ok := now.first(); ok {
						k = first
					}
				}
				now = now.drop(by, k)
				delete(model, k)
			} else {
				now = now.put(by, k, i)
				model[k] = i
			}
			if i%50 == 0 { // one work ends; another is begun, given up, and begun again
				held = append(held, kept{now, maps.Clone(model)})
				by = work(rapid.IntRange(0, 1).Draw(t, "in place") * (i + 1))
				given := now
				for j := range number(20) {
					given = given.put(by, j, -1).drop(by, 3*j%60)
				}
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
		if q = q.put(work(i/3), number(i), i); i >= 1_000 {
			first, _, _ := q.first()
			q = q.drop(work(i/3), first)
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

// TestTreeDownwards puts items below all that there are, and looks for each: what its first child gives off must not come to
// stand out of order, where an item is not found and is then put a second time.
func TestTreeDownwards(t *testing.T) {
	var down tree[number, int]
	const n = 5_000
	for i := n; i > 0; i-- {
		down = down.put(work(i/7), number(i), i)
		for _, again := range []int{i, min(i+treeWidth/2, n), min(i+treeWidth, n)} {
			if v, ok := down.get(number(again)); !ok || v != again {
				t.Fatalf("of the items from %d on, %d is not found", i, again)
			}
			down = down.put(work(i/7), number(again), again)
		}
	}
	next := number(1)
	for k := range down.all() {
		if k != next {
			t.Fatalf("%d in the place of %d", k, next)
		}
		next++
	}
	if down.length() != n || next != n+1 {
		t.Errorf("%d items, the last %d", down.length(), next-1)
	}
}
