package quorum

import (
	"testing"

	"pgregory.net/rapid"
)

// A read is never served by a round that began before it, and always by the next that does.
func TestRounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var r rounds
		waiting := map[uint64]int{} // reads per round
		running := false
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			if rapid.Bool().Draw(t, "read") {
				number, start := r.join()
				if number != r.begun+1 {
					t.Fatalf("a read in round %d, while %d have begun", number, r.begun)
				}
				if start == running {
					t.Fatalf("start is %v while a round runs: %v", start, running)
				}
				waiting[number]++
				if start {
					running = true
					delete(waiting, r.begin())
				}
				continue
			}
			if !running {
				continue
			}
			running = r.end()
			if running != (len(waiting) > 0) {
				t.Fatalf("another round: %v, reads waiting: %v", running, waiting)
			}
			if running {
				delete(waiting, r.begin())
			}
		}
	})
}

func TestBallot(t *testing.T) {
	a, b, c, d, e := rid(1), rid(2), rid(3), rid(4), rid(5)
	for name, x := range map[string]struct {
		voters    []Replica
		answers   []bool
		won, lost bool
	}{
		"alone":                         {[]Replica{a}, nil, true, false},
		"two, nobody answers":           {[]Replica{a, b}, nil, false, false},
		"two, refused":                  {[]Replica{a, b}, []bool{false}, false, true},
		"two, confirmed":                {[]Replica{a, b}, []bool{true}, true, false},
		"three, one of two":             {[]Replica{a, b, c}, []bool{false, true}, true, false},
		"three, one refuses":            {[]Replica{a, b, c}, []bool{false}, false, false},
		"three, both refuse":            {[]Replica{a, b, c}, []bool{false, false}, false, true},
		"five, one confirms":            {[]Replica{a, b, c, d, e}, []bool{true}, false, false},
		"five, two confirm":             {[]Replica{a, b, c, d, e}, []bool{true, true}, true, false},
		"the leader has no vote":        {[]Replica{b, c}, []bool{true}, false, false},
		"the leader has no vote, both":  {[]Replica{b, c}, []bool{true, true}, true, false},
		"an older copy of the leader":   {[]Replica{{ID: a.ID, Incarnation: 9}}, nil, false, false},
		"no voters, no majority at all": {nil, nil, false, true},
	} {
		ballot, others := openBallot(x.voters, a)
		if len(others)+ballot.confirmed != len(x.voters) {
			t.Errorf("%s: %d others", name, len(others))
		}
		for _, answer := range x.answers {
			ballot.count(answer)
		}
		if ballot.won() != x.won || ballot.lost() != x.lost {
			t.Errorf("%s: won %v, lost %v", name, ballot.won(), ballot.lost())
		}
	}
}
