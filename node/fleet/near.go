package fleet

import "slices"

// Nearest returns up to most of the words that are a slip of the keyboard away from text, closest first.
func Nearest(text string, words []string, most int) []string { return nearest(text, words, most) }

// nearest returns up to most of the words that are a slip of the keyboard away from text, closest first.
func nearest(text string, words []string, most int) []string {
	type scored struct {
		word string
		away int
	}
	limit := 1 + min(len(text), 24)/4 // one slip in short names, more in long ones
	var near []scored
	for _, word := range words {
		if len(word)-len(text) > limit || len(text)-len(word) > limit {
			continue
		}
		if away := distance(text, word); away <= limit {
			near = append(near, scored{word, away})
		}
	}
	slices.SortStableFunc(near, func(a, b scored) int { return a.away - b.away })
	var out []string
	for _, n := range near[:min(len(near), most)] {
		out = append(out, n.word)
	}
	return out
}

// distance is the edit distance of two short words; swapping neighbours counts once, as fingers do.
func distance(a, b string) int {
	before := make([]int, len(b)+1)
	last := make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row := make([]int, len(b)+1)
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last = last, row
	}
	return last[len(b)]
}
