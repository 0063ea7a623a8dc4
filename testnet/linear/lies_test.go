package main

import (
	"strings"
	"testing"
	"testing/synctest"
)

// TestStaleReadsAreCaught plants a bug: what any replica has is taken for the newest. The checker says so.
func TestStaleReadsAreCaught(t *testing.T) {
	caught := false
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(t)
		for number := 1; number <= 3 && !caught; number++ {
			n, err := runHistory(t.Context(), b, 1, number, true)
			if n == nil {
				t.Fatal(err)
			}
			caught = strings.Contains(strings.Join(n.wrong(), "\n"), "not linearizable")
		}
	})
	if !caught {
		t.Error("stale reads were taken for linearizable")
	}
}
