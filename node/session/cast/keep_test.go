package cast

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/muster-fleet/muster/node/fleet"
)

func TestKeep(t *testing.T) {
	id := func(n byte) fleet.UUID { return fleet.UUID{n} }
	day := func(n int) time.Time { return began.AddDate(0, 0, -n) }
	all := []Kept{{Session: id(1), Bytes: 10, Ended: day(1)}, {Session: id(2), Bytes: 20}, {Session: id(3), Bytes: 30, Ended: day(3)}, {Session: id(4), Bytes: 40, Ended: day(2)}}
	for _, c := range []struct {
		name string
		keep Keep
		want []fleet.UUID
	}{
		{"for ever", Keep{}, nil},
		{"old ones", Keep{Age: 36 * time.Hour}, []fleet.UUID{id(3), id(4)}},
		{"room for all", Keep{Bytes: 100}, nil},
		{"the oldest goes", Keep{Bytes: 99}, []fleet.UUID{id(3)}},
		{"those that live stay", Keep{Bytes: 1}, []fleet.UUID{id(3), id(4), id(1)}},
		{"both", Keep{Age: 60 * time.Hour, Bytes: 40}, []fleet.UUID{id(3), id(4)}},
	} {
		if got := c.keep.Outdated(all, began); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

// Whoever pours out more than there is room for pushes out his own, however young it is.
func TestKeepIsFair(t *testing.T) {
	ann, bob := fleet.ID{1}, fleet.ID{2}
	all := []Kept{{fleet.UUID{1}, bob, 100, began.Add(-time.Hour)}, {fleet.UUID{2}, bob, 100, began.Add(-time.Minute)}}
	for i := range byte(50) {
		all = append(all, Kept{fleet.UUID{10 + i}, ann, 100, began.Add(time.Duration(i) * time.Millisecond)})
	}
	out := Keep{Bytes: 1000}.Outdated(all, began)
	if len(out) != 42 || out[0] != (fleet.UUID{10}) || slices.Contains(out, fleet.UUID{1}) || slices.Contains(out, fleet.UUID{2}) {
		t.Errorf("%v", out)
	}
}

// What stays fits and is young, or lives; and no more goes than must.
func TestKeepProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var all []Kept
		for i := range rapid.IntRange(0, 20).Draw(t, "n") {
			s := Kept{Session: fleet.UUID{byte(i)}, By: fleet.ID{byte(rapid.IntRange(0, 3).Draw(t, "by"))}, Bytes: rapid.Int64Range(0, 100).Draw(t, "bytes")}
			if rapid.IntRange(0, 3).Draw(t, "ended") > 0 {
				s.Ended = began.Add(-time.Duration(rapid.Int64Range(0, 1000).Draw(t, "ago")))
			}
			all = append(all, s)
		}
		k := Keep{Age: time.Duration(rapid.Int64Range(0, 1000).Draw(t, "age")), Bytes: rapid.Int64Range(0, 1000).Draw(t, "room")}
		out := k.Outdated(all, began)
		var total, ended int64
		for _, s := range all {
			if slices.Contains(out, s.Session) {
				if s.Ended.IsZero() {
					t.Fatal("one that lives went")
				}
				continue
			}
			if k.Age > 0 && !s.Ended.IsZero() && began.Sub(s.Ended) > k.Age {
				t.Fatal("an old one stays")
			}
			total += s.Bytes
			if !s.Ended.IsZero() {
				ended += s.Bytes
			}
		}
		if k.Bytes > 0 && total > k.Bytes && ended > 0 {
			t.Fatalf("%d bytes stay, of which %d could go", total, ended)
		}
	})
}
