package quorum

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/muster-fleet/muster/node/fleet"
)

func TestTarget(t *testing.T) {
	for _, c := range []struct{ servers, nodes, want int }{
		{1, 1, 1}, {2, 100, 1}, {3, 3, 3}, {19, 19, 3}, {4, 100, 3}, {5, 19, 3}, {5, 20, 5}, {100, 10_000, 5},
	} {
		if got := Target(c.servers, c.nodes); got != c.want {
			t.Errorf("Target(%d servers, %d nodes) = %d, want %d", c.servers, c.nodes, got, c.want)
		}
	}
}

// scene describes a configuration in short: voters, spares, and eligible nodes outside, by number. Nodes in dead are
// silent since quiet and dead in gossip; nodes in mute are silent only.
type scene struct {
	voters, spares, others []int
	dead, mute, behind     []int
	ineligible             []int
	reborn                 []int // have a newer incarnation
	drained                []int
	zones                  map[int]string
	quiet                  time.Duration
	nodes                  int
	demoted                time.Duration // ago
}

func (s scene) inputs() Inputs {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	in := Inputs{Now: now, Nodes: s.nodes, Index: 7}
	if s.demoted > 0 {
		in.Demoted = now.Add(-s.demoted)
	}
	all := slices.Concat(s.voters, s.spares, s.others)
	for i, n := range all {
		server := Server{Replica: rid(n), Voter: i < len(s.voters), LastContact: now, CaughtUp: !slices.Contains(s.behind, n)}
		if slices.Contains(s.dead, n) || slices.Contains(s.mute, n) {
			server.LastContact, server.CaughtUp = now.Add(-s.quiet), false
		}
		if i < len(s.voters)+len(s.spares) {
			in.Members = append(in.Members, server)
		}
		if slices.Contains(s.ineligible, n) {
			continue
		}
		node := Candidate{ID: rid(n).ID, Incarnation: 1, Alive: !slices.Contains(s.dead, n), Zone: s.zones[n], Drained: slices.Contains(s.drained, n)}
		if slices.Contains(s.reborn, n) {
			node.Incarnation = 2
		}
		in.Servers = append(in.Servers, node)
	}
	in.Self = rid(s.voters[0])
	return in
}

// rid orders like the numbers, so that tables can say which of equals is chosen.
func rid(n int) Replica { return Replica{ID: fleet.ID{byte(n)}, Incarnation: 1} }

func TestNextChange(t *testing.T) {
	minute := time.Minute
	for name, c := range map[string]struct {
		scene
		do Action
		n  int
	}{
		"alone":                         {scene{voters: []int{1}}, Keep, 0},
		"second server becomes a spare": {scene{voters: []int{1}, others: []int{2}}, AddSpare, 2},
		"two servers rest at one voter": {scene{voters: []int{1}, spares: []int{2}}, Keep, 0},
		"third server":                  {scene{voters: []int{1}, spares: []int{2}, others: []int{3}}, AddSpare, 3},
		"growth waits for two":          {scene{voters: []int{1}, spares: []int{2, 3}, behind: []int{3}}, Keep, 0},
		"growth to three":               {scene{voters: []int{1}, spares: []int{2, 3}}, Promote, 2},
		"growth from an even number":    {scene{voters: []int{1, 2}, spares: []int{3}}, Promote, 3},
		"growth waits for a voter":      {scene{voters: []int{1, 2}, spares: []int{3}, behind: []int{2}}, Keep, 0},
		"growth waits for a mute voter": {scene{voters: []int{1, 2, 3}, spares: []int{4, 5}, mute: []int{3}, quiet: 10 * time.Second, nodes: 20}, Keep, 0},
		"a second lost voter is not waited for": {
			scene{voters: []int{1, 2, 3, 4}, spares: []int{5, 6, 7}, dead: []int{4, 7}, quiet: minute, nodes: 20, demoted: minute / 2}, Promote, 5,
		},
		"spares fill up":               {scene{voters: []int{1, 2, 3}, spares: []int{4}, others: []int{5, 6}}, AddSpare, 5},
		"at rest":                      {scene{voters: []int{1, 2, 3}, spares: []int{4, 5}, others: []int{6}, nodes: 19}, Keep, 0},
		"five from twenty nodes":       {scene{voters: []int{1, 2, 3}, spares: []int{4, 5}, nodes: 20}, Promote, 4},
		"a dead node is not added":     {scene{voters: []int{1}, others: []int{2}, dead: []int{2}}, Keep, 0},
		"lost voter, too early":        {scene{voters: []int{1, 2, 3}, spares: []int{4, 5}, dead: []int{3}, quiet: minute/2 - 1}, Keep, 0},
		"lost voter":                   {scene{voters: []int{1, 2, 3}, spares: []int{4, 5}, dead: []int{3}, quiet: minute / 2}, Demote, 3},
		"lost voter, one a minute":     {scene{voters: []int{1, 2, 3}, spares: []int{4, 5}, dead: []int{3}, quiet: minute, demoted: minute / 2}, Keep, 0},
		"mute voter, alive in gossip":  {scene{voters: []int{1, 2, 3}, spares: []int{4, 5}, mute: []int{3}, quiet: minute}, Keep, 0},
		"lost voter, no spare ready":   {scene{voters: []int{1, 2, 3}, spares: []int{4}, behind: []int{4}, dead: []int{3}, quiet: minute}, Keep, 0},
		"replacement after demotion":   {scene{voters: []int{1, 2}, spares: []int{3, 4, 5}, dead: []int{3}, quiet: minute}, Promote, 4},
		"lost spare makes room":        {scene{voters: []int{1, 2, 3}, spares: []int{4, 5, 6}, dead: []int{4}, quiet: minute}, Remove, 4},
		"lost spare is replaced first": {scene{voters: []int{1, 2, 3}, spares: []int{4, 5}, others: []int{6}, dead: []int{4}, quiet: minute}, AddSpare, 6},
		"stale voter leaves":           {scene{voters: []int{1, 2, 3}, spares: []int{4, 5}, mute: []int{2}, reborn: []int{2}, quiet: 10 * time.Second}, Remove, 2},
		"stale, but it answers":        {scene{voters: []int{1, 2, 3}, spares: []int{4, 5}, reborn: []int{2}}, Keep, 0},
		"stale voter, no majority without it": {
			scene{voters: []int{1, 2, 3}, mute: []int{2, 3}, reborn: []int{2}, quiet: minute}, Keep, 0,
		},
		"removed voter leaves at once":   {scene{voters: []int{1, 2, 3}, spares: []int{4, 5}, others: []int{6}, ineligible: []int{2}}, Remove, 2},
		"removed spare leaves at once":   {scene{voters: []int{1, 2, 3}, spares: []int{4, 5}, ineligible: []int{5}}, Remove, 5},
		"removed leader leaves":          {scene{voters: []int{1, 2, 3}, ineligible: []int{1}}, Remove, 1},
		"removed only voter waits":       {scene{voters: []int{1}, spares: []int{2}, behind: []int{2}, ineligible: []int{1}}, Keep, 0},
		"removed only voter is followed": {scene{voters: []int{1}, spares: []int{2}, ineligible: []int{1}}, Promote, 2},
		"removed, but others are silent": {scene{voters: []int{1, 2, 3}, spares: []int{4}, mute: []int{3, 4}, ineligible: []int{2}, quiet: minute}, Keep, 0},
		"shrink to three":                {scene{voters: []int{1, 2, 3, 4, 5}, nodes: 10}, Demote, 5},
		"shrink takes the silent first":  {scene{voters: []int{1, 2, 3, 4, 5}, mute: []int{2}, quiet: minute, nodes: 10}, Demote, 2},
		"shrink to one":                  {scene{voters: []int{1, 2}}, Demote, 2},
		"drained voter":                  {scene{voters: []int{1, 2, 3}, spares: []int{4, 5}, drained: []int{2}}, Demote, 2},
		"drained, and so are all spares": {scene{voters: []int{1, 2, 3}, spares: []int{4, 5}, drained: []int{2, 4, 5}}, Keep, 0},
		"drained, no spare ready":        {scene{voters: []int{1, 2, 3}, spares: []int{4}, behind: []int{4}, drained: []int{2}}, Keep, 0},
		"drained, others are silent":     {scene{voters: []int{1, 2, 3}, spares: []int{4, 5}, mute: []int{3}, drained: []int{2}, quiet: minute}, Keep, 0},
		"drained leader keeps its vote":  {scene{voters: []int{1, 2, 3}, spares: []int{4, 5}, drained: []int{1}}, Keep, 0},
		"another than the drained one":   {scene{voters: []int{1, 2}, spares: []int{3, 4}, drained: []int{3}}, Promote, 4},
		"better drained than too few":    {scene{voters: []int{1}, spares: []int{2, 3}, drained: []int{2}}, Promote, 3},
		"drained for want of others":     {scene{voters: []int{1, 3}, spares: []int{2}, drained: []int{2}}, Promote, 2},
		"a spare that is not drained":    {scene{voters: []int{1, 2, 3}, spares: []int{4}, others: []int{5, 6}, drained: []int{5}}, AddSpare, 6},
		"surplus spare":                  {scene{voters: []int{1, 2, 3}, spares: []int{4, 5, 6}}, Remove, 6},
		"zones: voter elsewhere": {
			scene{voters: []int{1, 2}, spares: []int{3, 4}, zones: map[int]string{1: "a", 2: "a", 3: "a", 4: "b"}}, Promote, 4,
		},
		"zones: spare elsewhere": {
			scene{voters: []int{1, 2, 3}, others: []int{4, 5}, zones: map[int]string{1: "a", 2: "b", 3: "c", 4: "a", 5: "d"}}, AddSpare, 5,
		},
	} {
		if c.nodes == 0 {
			c.nodes = 10
		}
		got, why := NextChange(c.inputs())
		want := Change{Do: c.do}
		if c.do != Keep {
			want.Replica, want.Prev = rid(c.n), 7
		}
		if got != want || (why == "") != (c.do == Keep) {
			t.Errorf("%s: %s %v (%s), want %s %v", name, got.Do, got.Replica.ID[0], why, c.do, c.n)
		}
	}
}

// world applies changes as a quorum would.
type world struct {
	in    Inputs
	alive map[fleet.ID]bool
}

func (w *world) apply(change Change) {
	at := slices.IndexFunc(w.in.Members, func(s Server) bool { return s.Replica == change.Replica })
	switch change.Do {
	case AddSpare:
		w.in.Members = append(w.in.Members, Server{Replica: change.Replica})
	case Promote:
		w.in.Members[at].Voter = true
	case Demote:
		w.in.Members[at].Voter = false
	case Remove:
		w.in.Members = slices.Delete(w.in.Members, at, at+1)
		if change.Replica == w.in.Self { // another takes the lead first
			for _, s := range w.in.Members {
				if s.Voter && w.lives(s) {
					w.in.Self = s.Replica
				}
			}
		}
	case Keep:
	}
	w.in.Index++
	w.in.Now = w.in.Now.Add(61 * time.Second)
	if change.Do == Demote {
		w.in.Demoted = w.in.Now
	}
	for i, s := range w.in.Members {
		if w.lives(s) {
			w.in.Members[i].LastContact, w.in.Members[i].CaughtUp = w.in.Now, true
		} else {
			w.in.Members[i].CaughtUp = false
		}
	}
}

func (w *world) lives(s Server) bool {
	if !w.alive[s.ID] {
		return false
	}
	for _, node := range w.in.Servers {
		if node.ID == s.ID {
			return node.Incarnation == s.Incarnation
		}
	}
	return true
}

func (w *world) votersAlive() (voters, alive int) {
	for _, s := range w.in.Members {
		if s.Voter {
			voters++
			if w.lives(s) {
				alive++
			}
		}
	}
	return voters, alive
}

func TestNextChangeConverges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		w := &world{alive: map[fleet.ID]bool{}}
		w.in = Inputs{Now: start, Self: rid(1)}
		count := rapid.IntRange(1, 12).Draw(t, "nodes")
		w.in.Nodes = rapid.IntRange(count, 30).Draw(t, "fleet")
		for n := 1; n <= count; n++ {
			w.alive[rid(n).ID] = n == 1 || rapid.Bool().Draw(t, fmt.Sprint("alive ", n))
			if n == 1 || rapid.IntRange(0, 5).Draw(t, fmt.Sprint("eligible ", n)) > 0 {
				w.in.Servers = append(w.in.Servers, Candidate{
					ID: rid(n).ID, Alive: w.alive[rid(n).ID],
					Incarnation: uint64(rapid.IntRange(1, 2).Draw(t, fmt.Sprint("incarnation ", n))),
					Zone:        rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, fmt.Sprint("zone ", n)),
					Drained:     rapid.IntRange(0, 3).Draw(t, fmt.Sprint("drained ", n)) == 0,
				})
			}
			role := rapid.IntRange(0, 2).Draw(t, fmt.Sprint("role ", n))
			if n == 1 || role > 0 {
				w.in.Members = append(w.in.Members, Server{Replica: rid(n), Voter: n == 1 || role == 2})
			}
		}
		w.in.Servers[0].Incarnation = 1
		voters, alive := w.votersAlive()
		if alive <= voters/2 {
			t.Skip("there is no leader without a majority")
		}
		w.apply(Change{})
		for step := 0; ; step++ {
			change, why := NextChange(w.in)
			if change.Do == Keep {
				w.apply(change) // one lost voter is replaced a minute: the next may have been waiting for that
				if change, why = NextChange(w.in); change.Do == Keep {
					break
				}
			}
			if step > 60 {
				t.Fatalf("no rest after %d steps; now %s %v: %s", step, change.Do, change.Replica, why)
			}
			w.apply(change)
			voters, alive := w.votersAlive()
			if alive <= voters/2 {
				t.Fatalf("%s %v leaves %d of %d voters alive", change.Do, change.Replica, alive, voters)
			}
		}
		w.checkRest(t)
	})
}

func (w *world) checkRest(t *rapid.T) {
	voters, alive := w.votersAlive()
	usable := 0
	for _, node := range w.in.Servers {
		if node.Alive {
			usable++
		}
	}
	target := Target(len(w.in.Servers), w.in.Nodes)
	if usable >= target && alive < target {
		t.Fatalf("%d voters live, though %d servers do and the target is %d", alive, usable, target)
	}
	eligible := 0 // voters; one that is not may have to stay for the majority's sake
	for _, s := range w.in.Members {
		if s.Voter && slices.ContainsFunc(w.in.Servers, func(c Candidate) bool { return c.ID == s.ID }) {
			eligible++
		}
	}
	if eligible > target && alive > voters/2+1 {
		t.Fatalf("%d voters, target %d", voters, target)
	}
	v := newVoting(w.in)
	for _, s := range v.voters {
		if ready := v.promotable(); s.Replica != w.in.Self && v.drained(s) == 1 && v.spared(s) && len(ready) > 0 && v.drained(ready[0]) == 0 {
			t.Fatalf("%v is drained and votes, though %v could", s.Replica, ready[0].Replica)
		}
	}
	spares := len(w.in.Members) - voters
	if spares > spareCount+target-eligible {
		t.Fatalf("%d spares", spares)
	}
	if want := min(usable-alive, spareCount); spares < want {
		t.Fatalf("%d spares, though %d more servers live", spares, usable-alive)
	}
}

func TestRelieved(t *testing.T) {
	for name, c := range map[string]struct {
		scene
		want bool
	}{
		"not drained":             {scene{voters: []int{1, 2, 3}}, false},
		"drained":                 {scene{voters: []int{1, 2, 3}, drained: []int{1}}, true},
		"alone":                   {scene{voters: []int{1}, spares: []int{2}, drained: []int{1}}, false},
		"all are drained":         {scene{voters: []int{1, 2, 3}, drained: []int{1, 2, 3}}, false},
		"the others are silent":   {scene{voters: []int{1, 2, 3}, drained: []int{1}, mute: []int{2, 3}, quiet: time.Minute}, false},
		"the other is ineligible": {scene{voters: []int{1, 2, 3}, drained: []int{1, 2}, ineligible: []int{3}}, false},
	} {
		if got := Relieved(c.inputs()); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
