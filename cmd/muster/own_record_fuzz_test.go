package main

import (
	"testing"

	"github.com/muster-fleet/muster/node/fleet"
)

// FuzzOwnRecord: whatever the file holds, what is taken of it is a part of it from the beginning on, and verifies again.
func FuzzOwnRecord(f *testing.F) {
	w, err := newTown(1)
	if err != nil {
		f.Fatal(err)
	}
	whole := encodeOwn(w.acts, true)
	f.Add(whole)
	f.Add(whole[:len(whole)-7])
	f.Add([]byte(ownTitle + "\xff\xff\xff\xff"))
	f.Add([]byte("muster"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		c, size, err := replayOwn(raw, w.who.Fleet)
		if err != nil {
			return
		}
		if size < 0 || size > int64(len(raw)) || uint64(len(c.heads)) != c.record.Length {
			t.Fatal(size, len(raw), c.record.Length)
		}
		again, same, err := replayOwn(raw[:size], w.who.Fleet)
		if err != nil || same != size || again.record.Head != c.record.Head {
			t.Fatal(err, same, size)
		}
		if c.record.Charter != nil && c.record.Charter.Fleet() != w.who.Fleet || c.record.Charter == nil && c.record.Head != (fleet.ID{}) {
			t.Fatal("another fleet's record is taken")
		}
	})
}
