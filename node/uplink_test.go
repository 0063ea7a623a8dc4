package node

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/muster-fleet/muster/node/fleet"
)

func relayID(n int) fleet.ID { return fleet.Sum([]byte{byte(n), byte(n >> 8)}) }

// relays makes candidates out of words: "on" or "off", then "server", then a zone.
func relays(texts ...string) (out []UplinkCandidate) {
	for i, text := range texts {
		c := UplinkCandidate{ID: relayID(i)}
		for _, word := range strings.Fields(text) {
			switch word {
			case "on":
				c.Online = true
			case "off":
			case "server":
				c.Server = true
			default:
				c.Zone = word
			}
		}
		out = append(out, c)
	}
	return out
}

func TestUplinkChoice(t *testing.T) {
	self := fleet.Sum([]byte("self"))
	for name, c := range map[string]struct {
		candidates []UplinkCandidate
		fails      []int // these failed just now
		want       [][]int
	}{
		"nobody":                         {nil, nil, [][]int{{}}},
		"one":                            {relays("on"), nil, [][]int{{0}}},
		"who is there before who is not": {relays("off server a", "on b", "off server c", "on b"), nil, [][]int{{1, 3}}},
		"who is lost before nobody":      {relays("off", "on"), nil, [][]int{{0, 1}}},
		"servers":                        {relays("on", "on server", "on", "on server"), nil, [][]int{{1, 3}}},
		"zones before servers":           {relays("on a", "on server b", "on server b", "on server b"), nil, [][]int{{0, 1}, {0, 2}, {0, 3}}},
		"no zone is no zone in common":   {relays("on server", "on server", "on a"), nil, [][]int{{0, 1}}},
		"who failed comes later":         {relays("on server", "on server", "on", "on"), []int{0, 1}, [][]int{{2, 3}}},
	} {
		t.Run(name, func(t *testing.T) {
			u, at := NewUplinks(self), time.Hour
			for _, i := range c.fails {
				u.Stands(at-time.Minute, relayID(i))
				u.Ended(at-time.Minute, relayID(i))
			}
			plan := u.Plan(at, c.candidates)
			var got []int
			for _, id := range plan.Dial {
				got = append(got, slices.IndexFunc(c.candidates, func(c UplinkCandidate) bool { return c.ID == id }))
			}
			slices.Sort(got)
			if !slices.ContainsFunc(c.want, func(w []int) bool { return slices.Equal(w, got) }) || len(plan.Drop) > 0 || plan.Wake <= at {
				t.Errorf("%+v, %v", plan, got)
			}
		})
	}
}

// TestUplinkSpread: many nodes choose different relays.
func TestUplinkSpread(t *testing.T) {
	candidates := relays("on", "on", "on", "on", "on", "on", "on", "on", "on", "on")
	load := map[fleet.ID]int{}
	for n := range 1000 {
		for _, id := range NewUplinks(fleet.Sum([]byte{1, byte(n), byte(n >> 8)})).Plan(time.Hour, candidates).Dial {
			load[id]++
		}
	}
	for _, c := range candidates {
		if load[c.ID] < 120 || load[c.ID] > 280 {
			t.Errorf("%d of 1,000 nodes chose one of ten relays", load[c.ID])
		}
	}
}

func TestUplinkLife(t *testing.T) {
	u, at := NewUplinks(fleet.Sum([]byte("self"))), time.Hour
	candidates := relays("on", "on", "on", "on")
	first := u.Plan(at, candidates).Dial
	if len(first) != 2 {
		t.Fatalf("%v", first)
	}
	if again := u.Plan(at+time.Millisecond, candidates); len(again.Dial) > 0 {
		t.Fatalf("others are tried at once: %+v", again)
	}
	slow := u.Plan(at+uplinkPatience, candidates)
	if len(slow.Dial) != 2 {
		t.Fatalf("nobody is tried beside the two that do not answer: %+v", slow)
	}
	if more := u.Plan(at+2*uplinkPatience, candidates); len(more.Dial) > 0 {
		t.Fatalf("more than %d at a time: %+v", maxUplinkTrials, more)
	}
	u.Stands(at+2*time.Second, first[0])
	u.Stands(at+3*time.Second, slow.Dial[0])
	if plan := u.Plan(at+3*time.Second, candidates); len(plan.Dial)+len(plan.Drop) > 0 {
		t.Fatalf("two stand: %+v", plan)
	}
	u.Stands(at+4*time.Second, first[1]) // late, but there
	if plan := u.Plan(at+4*time.Second, candidates); !slices.Equal(plan.Drop, first[1:]) || len(plan.Dial) > 0 {
		t.Fatalf("of three, the newest goes: %+v", plan)
	}
	u.Ended(at+4*time.Second, first[1])
	if again := u.Plan(at+4*time.Second, candidates); len(again.Dial)+len(again.Drop) > 0 || u.links[first[1]].failures > 0 {
		t.Fatalf("it was not its fault: %+v", again)
	}
	u.Ended(at+4*time.Second, slow.Dial[1])
	if want := []fleet.ID{first[0], slow.Dial[0]}; !slices.Equal(u.Via(), want) {
		t.Fatalf("%v", u.Via())
	}
	u.Ended(at+time.Minute, first[0])
	if next := u.Plan(at+time.Minute, candidates); len(next.Dial) != 1 || next.Dial[0] == first[0] || next.Dial[0] == slow.Dial[0] {
		t.Fatalf("the lost one is replaced by another: %+v", next)
	}
	gone := slices.DeleteFunc(candidates, func(c UplinkCandidate) bool { return c.ID == slow.Dial[0] })
	if plan := u.Plan(at+time.Minute, gone); !slices.Equal(plan.Drop, slow.Dial[:1]) || len(plan.Dial) != 1 {
		t.Fatalf("one that was removed from the fleet is dropped, and replaced: %+v", plan)
	}
}

// TestUplinkBackoff: who fails waits ever longer; while nothing stands it waits some seconds, and nothing is held against it.
func TestUplinkBackoff(t *testing.T) {
	u, at := NewUplinks(fleet.Sum([]byte("self"))), time.Hour
	candidates := relays("on")
	var waits []time.Duration
	for range 8 {
		plan := u.Plan(at, candidates)
		if len(plan.Dial) != 1 {
			t.Fatalf("%+v", plan)
		}
		u.Ended(at, plan.Dial[0])
		wake := u.Plan(at, candidates).Wake
		waits = append(waits, wake-at)
		at = wake
	}
	for i, w := range waits {
		if w < maxLonelyWait/2 || w > maxLonelyWait {
			t.Errorf("after failure %d it waits %s", i+1, w)
		}
	}
	if !u.steady(at, candidates[0].ID) {
		t.Error("it is held against the relay that this node was cut off")
	}
	other := relays("on", "on")
	u.Stands(at, other[1].ID)
	for range 8 {
		u.Ended(at, other[0].ID)
	}
	if wait := u.links[other[0].ID].after - at; wait < maxUplinkWait/2 || wait > maxUplinkWait {
		t.Errorf("beside one that stands it waits %s", wait)
	}
	u.Ended(at, other[1].ID)
	if wait := u.links[other[0].ID].after - at; wait > maxLonelyWait {
		t.Errorf("when nothing stands any more it still waits %s", wait)
	}
}

// TestUplinkRezoned: when both stand in one zone for long, one goes where another zone is.
func TestUplinkRezoned(t *testing.T) {
	u, at := NewUplinks(fleet.Sum([]byte("self"))), time.Hour
	candidates := relays("on a", "on a", "off b")
	u.Stands(at, relayID(0))
	u.Stands(at+1, relayID(1))
	candidates[2].Online = true
	if plan := u.Plan(at+spreadAfter-1, candidates); len(plan.Dial) > 0 {
		t.Fatalf("at once: %+v", plan)
	}
	at += spreadAfter + 1
	if plan := u.Plan(at, candidates); !slices.Equal(plan.Dial, []fleet.ID{relayID(2)}) || len(plan.Drop) > 0 {
		t.Fatalf("%+v", plan)
	}
	u.Stands(at, relayID(2))
	if plan := u.Plan(at, candidates); !slices.Equal(plan.Drop, []fleet.ID{relayID(1)}) || len(plan.Dial) > 0 {
		t.Fatalf("%+v", plan)
	}
	if via := u.Via(); len(via) != 2 {
		t.Errorf("%v", via)
	}
}

// TestUplinksProperty: whatever happens, no more than so many are tried, nobody is tried twice or early, and as long as
// there is somebody who may be tried, two stand or are tried, or the next time is soon.
func TestUplinksProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		u, at := NewUplinks(fleet.Sum([]byte("self"))), time.Hour
		n := rapid.IntRange(0, 6).Draw(t, "members")
		all := make([]UplinkCandidate, n)
		for i := range all {
			all[i] = UplinkCandidate{ID: relayID(i), Online: rapid.Bool().Draw(t, "online"), Server: rapid.Bool().Draw(t, "server"),
				Zone: rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, "zone")}
		}
		state := map[fleet.ID]string{} // tried or stands
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			at += time.Duration(rapid.Int64Range(0, int64(40*time.Second)).Draw(t, "pause"))
			candidates := slices.DeleteFunc(slices.Clone(all), func(UplinkCandidate) bool { return rapid.IntRange(0, 9).Draw(t, "removed") == 0 })
			plan := u.Plan(at, candidates)
			for _, id := range plan.Dial {
				if state[id] != "" || slices.Contains(plan.Drop, id) {
					t.Fatalf("%s is %q and dialled", id, state[id])
				}
				if !slices.ContainsFunc(candidates, func(c UplinkCandidate) bool { return c.ID == id }) {
					t.Fatal("a stranger is dialled")
				}
				state[id] = "tried"
			}
			for _, id := range plan.Drop {
				if state[id] != "tried" && state[id] != "stands" {
					t.Fatalf("what is %q is dropped", state[id])
				}
				state[id] = "dropped"
			}
			tried, stand := 0, 0
			for _, s := range state {
				switch s {
				case "tried":
					tried++
				case "stands":
					stand++
				}
			}
			if tried > maxUplinkTrials+1 || len(u.Via()) > UplinkCount || len(u.Via()) != min(stand, UplinkCount) {
				t.Fatalf("%d tried, %d stand, via %d", tried, stand, len(u.Via()))
			}
			if plan.Wake <= at && len(candidates) > 0 && stand < UplinkCount && len(plan.Dial) == 0 {
				t.Fatalf("it wakes at once and does nothing: %+v", plan)
			}
			for _, c := range all {
				switch what := rapid.IntRange(0, 5).Draw(t, "what"); {
				case (state[c.ID] == "tried" || state[c.ID] == "dropped") && what == 0:
					if state[c.ID] == "tried" {
						state[c.ID] = "stands"
					}
					u.Stands(at, c.ID) // of one that was dropped this comes too late
				case state[c.ID] != "" && what == 1:
					delete(state, c.ID)
					u.Ended(at, c.ID)
				}
			}
		}
	})
}

func TestWays(t *testing.T) {
	addr := func(n int) []netip.AddrPort {
		return []netip.AddrPort{netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(n)}), 7980)}
	}
	self, plain, hidden := relayID(0), relayID(1), relayID(2)
	r1, r2, lost, dark := relayID(3), relayID(4), relayID(5), relayID(6)
	addrs := map[fleet.ID][]netip.AddrPort{plain: append(addr(1), addr(9)...), r1: addr(3), r2: addr(4), lost: addr(5)}
	seen := func(via ...fleet.ID) map[fleet.ID]Sighting {
		return map[fleet.ID]Sighting{
			hidden: {ID: hidden, Via: via}, r1: {ID: r1, Status: fleet.Online}, r2: {ID: r2, Status: fleet.Online},
			lost: {ID: lost, Status: fleet.ConnectionLost}, dark: {ID: dark, Status: fleet.Online, Via: []fleet.ID{r1}},
		}
	}
	via := func(id fleet.ID, n int) Way { return Way{To: hidden, Addr: addr(n)[0], Relay: id} }
	for name, c := range map[string]struct {
		to   fleet.ID
		via  []fleet.ID
		want []Way
	}{
		"dialled":                  {plain, nil, []Way{{To: plain, Addr: addr(1)[0]}}},
		"unknown":                  {relayID(9), nil, nil},
		"two relays":               {hidden, []fleet.ID{r1, r2}, []Way{via(r1, 3), via(r2, 4)}},
		"who is there first":       {hidden, []fleet.ID{lost, r2}, []Way{via(r2, 4), via(lost, 5)}},
		"its uplink to this node":  {hidden, []fleet.ID{r1, self}, []Way{{To: hidden, Relay: self}, via(r1, 3)}},
		"a relay without a way":    {hidden, []fleet.ID{dark, r1}, []Way{via(r1, 3)}},
		"a relay nobody has heard": {hidden, []fleet.ID{relayID(9)}, nil},
	} {
		if got := Ways(self, c.to, seen(c.via...), addrs); !slices.Equal(got, c.want) {
			t.Errorf("%s: %+v", name, got)
		}
	}
}
