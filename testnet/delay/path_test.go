package delay

import (
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"
)

const ms = time.Millisecond

func TestLane(t *testing.T) {
	type come struct {
		at   time.Duration
		size int
	}
	for name, c := range map[string]struct {
		path Path
		come []come
		want []time.Duration // -1: it overflows
	}{
		"nothing":           {Path{}, []come{{0, 1}, {ms, 1500}}, []time.Duration{0, ms}},
		"delay":             {Path{Delay: 25 * ms}, []come{{0, 1}, {ms, 1500}}, []time.Duration{25 * ms, 26 * ms}},
		"rate":              {Path{Rate: 1e6, Delay: ms}, []come{{0, 1000}, {0, 1000}, {ms, 500}, {9 * ms, 1000}}, []time.Duration{2 * ms, 3 * ms, 3500 * time.Microsecond, 11 * ms}},
		"queue":             {Path{Rate: 1e6, Queue: 2500}, []come{{0, 1000}, {0, 1000}, {0, 1000}, {0, 500}, {ms, 1000}}, []time.Duration{ms, 2 * ms, -1, 2500 * time.Microsecond, 3500 * time.Microsecond}},
		"a packet too long": {Path{Rate: 1e6, Queue: 100}, []come{{0, 1000}}, []time.Duration{-1}},
	} {
		l := newLane(c.path, 0)
		for i, p := range c.come {
			at, f := l.next(p.at, p.size)
			if f == overflows {
				at = -1
			}
			if at != c.want[i] || f == lost {
				t.Errorf("%s: packet %d arrives at %v (%v), want %v", name, i, at, f, c.want[i])
			}
		}
	}
}

// Packets keep their order and their delay, and never leave faster than the rate.
func TestLaneProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := Path{
			Delay: time.Duration(rapid.Int64Range(0, int64(time.Second)).Draw(t, "delay")), Loss: rapid.Float64Range(0, 1).Draw(t, "loss"),
			Rate: rapid.Int64Range(0, 1e8).Draw(t, "rate"), Queue: rapid.IntRange(0, 1e6).Draw(t, "queue"), Seed: rapid.Uint64().Draw(t, "seed"),
		}
		one, two := newLane(p, 1), newLane(p, 1)
		var now, last time.Duration
		for range rapid.IntRange(0, 200).Draw(t, "packets") {
			now += time.Duration(rapid.Int64Range(0, int64(ms)).Draw(t, "gap"))
			size := rapid.IntRange(1, MTU).Draw(t, "size")
			at, f := one.next(now, size)
			if at2, f2 := two.next(now, size); at2 != at || f2 != f {
				t.Fatal("the same seed decides differently")
			}
			if f != passes {
				continue
			}
			carried := time.Duration(0)
			if p.Rate > 0 {
				carried = time.Duration(float64(size) / float64(p.Rate) * float64(time.Second))
			}
			if at < now+p.Delay+carried || at < last+carried {
				t.Fatalf("it arrives at %v, after %v, the last at %v", at, now, last)
			}
			last = at
		}
	})
}

func TestLoss(t *testing.T) {
	const n = 100_000
	same := 0
	there, back := newLane(Path{Loss: 0.05, Seed: 7}, 0), newLane(Path{Loss: 0.05, Seed: 7}, 1)
	count := 0
	for range n {
		_, f := there.next(0, 100)
		_, g := back.next(0, 100)
		if f == lost {
			count++
		}
		if f == lost && g == lost {
			same++
		}
	}
	if math.Abs(float64(count)/n-0.05) > 0.005 || same > n/200 {
		t.Errorf("%d of %d are lost, %d of them both ways", count, n, same)
	}
	for loss, want := range map[float64]fate{0: passes, 1: lost} {
		l := newLane(Path{Loss: loss}, 0)
		for range 1000 {
			if _, f := l.next(0, 1); f != want {
				t.Fatalf("at %g: %v", loss, f)
			}
		}
	}
}

func TestCheck(t *testing.T) {
	for _, good := range []Path{{}, {Delay: MaxDelay, Loss: 1, Rate: 1, Queue: 1}} {
		if err := good.Check(); err != nil {
			t.Errorf("%+v: %v", good, err)
		}
	}
	for _, bad := range []Path{{Delay: -1}, {Delay: MaxDelay + 1}, {Loss: -0.1}, {Loss: 1.1}, {Loss: math.NaN()}, {Rate: -1}, {Queue: -1}} {
		if bad.Check() == nil {
			t.Errorf("%+v is taken", bad)
		}
	}
}
