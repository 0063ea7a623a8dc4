package main

import (
	"flag"
	"testing"
	"testing/synctest"
	"time"
)

var (
	wanted = flag.Int("linear.histories", 2, "how many histories are judged")
	seed   = flag.Uint64("linear.seed", 1, "of all histories")
	from   = flag.Int("linear.from", 1, "the first of them")
	done   = flag.String("linear.done", "", "file of histories that were judged before, and of those that are now")
)

// perFleet is how many histories one fleet lives through.
const perFleet = 5

// TestHistories judges histories of whole agents in virtual time.
func TestHistories(t *testing.T) {
	before, err := openJudged(*done)
	if err != nil {
		t.Fatal(err)
	}
	left := before.left(*seed, *from, *wanted)
	began := time.Now()
	var all counts
	for first := 0; first < len(left) && !t.Failed(); first += perFleet {
		synctest.Test(t, func(t *testing.T) {
			b := newBubble(t)
			for _, number := range left[first:min(first+perFleet, len(left))] {
				n, err := runHistory(t.Context(), b, *seed, number, false)
				if err != nil {
					t.Errorf("history %d of seed %d: %v\n%s", number, *seed, err, n.dump(*seed, number))
					return
				}
				if wrong := n.wrong(); len(wrong) > 0 {
					t.Errorf("history %d of seed %d: %q\n%s", number, *seed, wrong, n.dump(*seed, number))
					return
				}
				all.add(n.counts)
				if err := before.add(*seed, number); err != nil {
					t.Error(err)
				}
			}
		})
	}
	t.Logf("%d histories of seed %d, in %s: %s", len(left), *seed, time.Since(began).Round(time.Second), all)
}
