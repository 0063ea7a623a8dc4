package slowlink

import (
	"slices"
	"testing"
	"time"
)

const ms = time.Millisecond

func TestSchedule(t *testing.T) {
	every := func(step time.Duration, n int) []time.Duration {
		var out []time.Duration
		for i := range n {
			out = append(out, time.Duration(i)*step)
		}
		return out
	}
	for name, c := range map[string]struct {
		params Params
		come   []time.Duration
		check  func(leave [][]time.Duration) bool
	}{
		"nothing": {Params{}, every(ms, 9), func(l [][]time.Duration) bool { return slices.Equal(flat(l), every(ms, 9)) }},
		"delay": {Params{Delay: 5 * ms}, []time.Duration{0, ms, 7 * ms}, func(l [][]time.Duration) bool {
			return slices.Equal(flat(l), []time.Duration{5 * ms, 6 * ms, 12 * ms})
		}},
		"doubled": {Params{Delay: ms, Duplicate: 100}, every(ms, 3), func(l [][]time.Duration) bool {
			return slices.Equal(flat(l), []time.Duration{ms, ms, 2 * ms, 2 * ms, 3 * ms, 3 * ms})
		}},
		"some doubled": {Params{Duplicate: 30}, every(ms, 1000), func(l [][]time.Duration) bool {
			more := len(flat(l)) - 1000
			return more > 250 && more < 350
		}},
		"jitter keeps the order and its bounds": {Params{Delay: 10 * ms, Jitter: 20 * ms}, every(ms, 1000), func(l [][]time.Duration) bool {
			differ := false
			for i, at := range flat(l) {
				waits := at - time.Duration(i)*ms
				differ = differ || waits != flat(l)[0]
				if waits < 10*ms || waits >= 30*ms {
					return false
				}
			}
			return differ && slices.IsSorted(flat(l))
		}},
		"some overtake": {Params{Delay: 50 * ms, Reorder: 20}, every(ms, 1000), func(l [][]time.Duration) bool {
			ahead := 0
			for i, at := range flat(l) {
				switch at - time.Duration(i)*ms {
				case 0:
					ahead++
				case 50 * ms:
				default:
					return false
				}
			}
			return ahead > 150 && ahead < 250
		}},
		"all overtake": {Params{Delay: 50 * ms, Reorder: 100}, every(ms, 9), func(l [][]time.Duration) bool { return slices.Equal(flat(l), every(ms, 9)) }},
	} {
		t.Run(name, func(t *testing.T) {
			first, second := leave(c.params, c.come), leave(c.params, c.come)
			if !slices.EqualFunc(first, second, slices.Equal) {
				t.Error("the same seed decides differently")
			}
			if !c.check(first) {
				t.Errorf("they leave at %v", first)
			}
		})
	}
}

func TestSeed(t *testing.T) {
	come := make([]time.Duration, 100)
	one, two := leave(Params{Duplicate: 50, Seed: 1}, come), leave(Params{Duplicate: 50, Seed: 2}, come)
	if slices.EqualFunc(one, two, slices.Equal) {
		t.Error("two seeds decide alike")
	}
}

func leave(p Params, come []time.Duration) [][]time.Duration {
	s := NewSchedule(p)
	var out [][]time.Duration
	for _, now := range come {
		out = append(out, s.Next(now))
	}
	return out
}

func flat(l [][]time.Duration) []time.Duration { return slices.Concat(l...) }

func TestCheck(t *testing.T) {
	for _, good := range []Params{{}, {Delay: MaxDelay}, {Jitter: ms}, {Duplicate: 100}, {Delay: ms, Reorder: 100}} {
		if err := good.Check(); err != nil {
			t.Errorf("%+v: %v", good, err)
		}
	}
	for _, bad := range []Params{{Delay: -1}, {Jitter: -1}, {Delay: MaxDelay, Jitter: 1}, {Duplicate: 101}, {Duplicate: -1}, {Delay: ms, Reorder: 101}, {Reorder: 1}} {
		if bad.Check() == nil {
			t.Errorf("%+v is taken", bad)
		}
	}
	if (Params{Jitter: 1}).None() || !(Params{Seed: 1}).None() {
		t.Error("None")
	}
}
