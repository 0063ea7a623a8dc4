package auth

import (
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/muster-fleet/muster/node/fleet"
)

func TestBeaconsAreServers(t *testing.T) {
	w := newTown(t)
	w.must(ActEnrol, w.enrolment("n2", "n2", w.token("third", func(tk *Token) { tk.Server = false })).Encode())
	beacon := func(by string, b Beacon) error {
		got, err := OpenBeacon(w.record, key(by).Sign(ForBeacon, w.fleetID(), b))
		if err == nil && got.Act != b.Act {
			t.Errorf("opened %+v", got)
		}
		return err
	}
	full := Beacon{Time: start, Act: 7, Voters: make([]fleet.ID, MaxVoters), Spares: make([]fleet.ID, MaxSpares)}
	if err := beacon("n1", full); err != nil {
		t.Error(err)
	}
	refused(t, beacon("n2", full), fleet.Denied, "no operator made it a server")
	refused(t, beacon("alice", full), fleet.Denied, "not enrolled")
	refused(t, beacon("mallory", full), fleet.Denied, "not enrolled")
	refused(t, beacon("n1", Beacon{Voters: make([]fleet.ID, MaxVoters+1)}), fleet.Invalid, "too many servers")
	refused(t, beacon("n1", Beacon{Spares: make([]fleet.ID, MaxSpares+1)}), fleet.Invalid, "too many servers")
	refused(t, beacon("n1", Beacon{Time: -1}), fleet.Invalid, "none")
	refused(t, beacon("n1", Beacon{Time: math.MaxInt64}), fleet.Invalid, "none")
	_, err := OpenBeacon(w.record, key("n1").Sign(ForReport, w.fleetID(), full))
	refused(t, err, fleet.Denied, "does not hold")
	w.enrol("n3")
	w.must(ActNodeRemove, w.removal("alice", "n1"))
	refused(t, beacon("n1", full), fleet.Denied, "removed")
	if _, err := OpenBeacon(NewRecord(), key("n1").Sign(ForBeacon, fleet.ID{}, full)); err == nil {
		t.Error("a beacon without a charter")
	}
}

// Newer is a strict order.
func TestNewer(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		some := rapid.Custom(func(t *rapid.T) Beacon {
			n := rapid.Uint64Range(0, 2)
			return Beacon{Epoch: n.Draw(t, "epoch"), Term: n.Draw(t, "term"), Act: n.Draw(t, "act"), Time: int64(n.Draw(t, "time"))}
		})
		a, b, c := some.Draw(t, "a"), some.Draw(t, "b"), some.Draw(t, "c")
		same := a.Epoch == b.Epoch && a.Term == b.Term && a.Act == b.Act && a.Time == b.Time
		if a.Newer(b) && b.Newer(a) || same == (a.Newer(b) || b.Newer(a)) {
			t.Fatalf("%+v and %+v", a, b)
		}
		if a.Newer(b) && b.Newer(c) && !a.Newer(c) {
			t.Fatal("not transitive")
		}
	})
	if !(Beacon{Epoch: 2}).Newer(Beacon{Epoch: 1, Term: 9, Act: 9, Time: 9}) || !(Beacon{Term: 2}).Newer(Beacon{Term: 1, Act: 9, Time: 9}) {
		t.Error("epoch goes before term, and term before act")
	}
}

func instant(wall, boot int64) Instant {
	return Instant{Wall: at(wall), Boot: time.Duration(boot) * time.Millisecond}
}

func TestClock(t *testing.T) {
	skew := MaxSkew.Milliseconds()
	heard := Clock{}.Hear(start, instant(start, 1000))
	restarted := Clock{Floor: heard.Floor}
	stale := restarted.Overhear(start+10, instant(start+5*hour, 1000)) // a neighbour that is cut off as well
	// Straight from a server, but three hours on the way (a paused host): only what was counted since is to be believed.
	late := heard.Hear(start+hour, instant(start+4*hour, 1000+4*hour))
	older := restarted.Hear(start-hour, instant(start+5*hour, 1000)) // older than what was known before the restart
	level := restarted.Hear(start, instant(start, 1000))
	for name, tc := range map[string]struct {
		c       Clock
		at      Instant
		now     int64
		suspect int64 // milliseconds
	}{
		"never heard":                   {Clock{}, instant(0, 1), 0, 0},
		"never heard, far off":          {Clock{}, instant(start*2, 1), start * 2, 0},
		"right":                         {heard, instant(start+5000, 6000), start + 5000, 0},
		"behind within skew":            {heard, instant(start-skew, 1000), start, 0},
		"behind":                        {heard, instant(start-skew-1, 1000), start, -skew - 1},
		"in 1970":                       {heard, instant(0, 1000), start, -start},
		"ahead within skew":             {heard, instant(start+skew, 1000), start + skew, 0},
		"ahead":                         {heard, instant(start+skew+1, 1000), start + skew + 1, skew + 1},
		"behind what boot time says":    {heard, instant(start, 1000+2*skew), start, -2 * skew},
		"stood still in suspend":        {heard, instant(start+hour, 1000+hour), start + hour, 0},
		"restarted, behind":             {restarted, instant(start-skew-1, 10), start, -skew - 1},
		"restarted, later":              {restarted, instant(start+1000*hour, 10), start + 1000*hour, 0},
		"overheard what is old":         {stale, instant(start+5*hour, 1000), start + 5*hour, 0},
		"overheard, behind":             {stale, instant(start-hour, 1000), start + 10, -hour - 10},
		"heard late":                    {late, instant(start+4*hour, 1000+4*hour), start + 4*hour, 0},
		"heard late, ahead":             {late, instant(start+5*hour, 1000+4*hour), start + 5*hour, hour},
		"heard what is older":           {older, instant(start+5*hour, 1000), start + 5*hour, 0},
		"heard what was known, ahead":   {level, instant(start+hour, 1000), start + hour, hour},
		"heard in another boot":         {heard, instant(start+9*hour, 999), start + 9*hour, 0},
		"heard in another boot, behind": {heard, instant(start-hour, 999), start, -hour},
		"floor at the end of time":      {Clock{Floor: MaxTime, Heard: 1}, instant(start, 1<<40), MaxTime, start - MaxTime - 1<<40},
	} {
		if got := tc.c.Now(tc.at).UnixMilli(); got != tc.now {
			t.Errorf("%s: now %d, want %d", name, got, tc.now)
		}
		want := at(tc.suspect).Sub(at(0)) // saturates, as Suspect does
		if got := tc.c.Suspect(tc.at).Truncate(time.Millisecond); got != want.Truncate(time.Millisecond) {
			t.Errorf("%s: suspect by %s, want %s", name, got, want)
		}
	}
}

// The floor never goes back and takes no time that is none, and a late beacon never makes a good clock suspect.
func TestHearing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var c Clock
		skew := MaxSkew.Milliseconds()
		boot := rapid.Int64Range(1, 1000).Draw(t, "boot")
		wrong := rapid.Int64Range(-skew/2, skew/2).Draw(t, "this clock is off by")
		anchored := false
		for range rapid.IntRange(1, 20).Draw(t, "beacons") {
			boot += rapid.Int64Range(0, hour).Draw(t, "later")
			truth := start + boot
			late := rapid.Int64Range(0, 3*hour).Draw(t, "late")
			here := instant(truth+wrong, boot)
			floor := c.Floor
			switch rapid.IntRange(0, 2).Draw(t, "how") {
			case 0: // straight from a server whose clock is good
				c, anchored = c.Hear(truth, here), true
			case 1:
				c = c.Overhear(truth-late, here)
			case 2: // late though straight: only after a good one can it be told
				if anchored {
					c = c.Hear(truth-late, here)
				}
			}
			if c.Floor < floor {
				t.Fatalf("the floor went back from %d to %d", floor, c.Floor)
			}
			if c.Floor > truth {
				t.Fatalf("the floor is ahead of the truth by %d", c.Floor-truth)
			}
			if off := c.Suspect(here); off != 0 {
				t.Fatalf("a clock that is off by %d ms is suspect by %s", wrong, off)
			}
			odd := instant(truth+3*skew, boot)
			if anchored && c.Suspect(odd) == 0 {
				t.Fatalf("a clock that is %d ms ahead is not suspect: %+v", 3*skew, c)
			}
		}
		for _, ms := range []int64{math.MaxInt64, MaxTime + 1, -1, math.MinInt64, 0} {
			if c.Hear(ms, instant(start, boot)) != c || c.Overhear(ms, instant(start, boot)) != c {
				t.Fatalf("took %d for a time", ms)
			}
		}
	})
}
