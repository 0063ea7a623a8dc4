package quorum

import (
	"testing"
	"time"
)

// A follower's age is small while it hears from the leader, grows with its silence, and is unknown after a start.
func TestAge(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fabric) {
		nodes := f.grow(3, 1)
		f.propose(nodes[0], "x")
		f.same(nodes...)
		time.Sleep(10 * time.Second)
		for n, x := range nodes {
			if age, ok := x.Age(); !ok || age > time.Second {
				t.Errorf("node %d: %v, %v", n+1, age, ok)
			}
		}
		off := nodes[3]
		f.isolate(off.id)
		f.propose(nodes[0], "y")
		cut := time.Now()
		time.Sleep(time.Minute)
		if age, ok := off.Age(); !ok || age < time.Since(cut) {
			t.Errorf("cut off: %v, %v", age, ok)
		}
		f.heal(off.id)
		f.same(nodes...)
		f.until("it is young again", func() bool { age, _ := off.Age(); return age < 2*time.Second })
		f.isolate(off.id)
		f.stop(off)
		f.start(4)
		time.Sleep(10 * time.Second)
		if age, ok := off.Age(); ok {
			t.Errorf("it has heard nobody since it was started, and says %v", age)
		}
		f.heal(off.id)
		f.until("it knows", func() bool { age, ok := off.Age(); return ok && age < 2*time.Second })
	})
}

// Whatever a replica's age is said to be, all that was acknowledged earlier shows.
func TestAgeIsNoLie(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fabric) {
		nodes := f.grow(3, 0)
		var acked []time.Time
		for n := range 300 {
			f.propose(nodes[0], "x")
			acked = append(acked, time.Now())
			time.Sleep(time.Duration(n%7) * 5 * time.Millisecond)
			if n%50 == 20 {
				f.isolate(nodes[1].id)
			}
			if n%50 == 40 {
				f.heal(nodes[1].id)
			}
			for m, x := range nodes {
				age, ok := x.Age()
				if !ok {
					continue
				}
				shown := len(x.tape.all())
				if shown < len(acked) && acked[shown].Before(time.Now().Add(-age)) {
					t.Fatalf("node %d says %v and misses what was acknowledged %v ago", m+1, age, time.Since(acked[shown]))
				}
			}
		}
	})
}

func TestWords(t *testing.T) {
	var w words
	applied := uint64(0)
	shows := func(index uint64) bool { return applied >= index }
	at := time.Unix(1000, 0)
	say := func(second int, commit uint64) {
		w.heard(word{at.Add(time.Duration(second) * time.Second), commit}, shows)
	}
	newest := func() int {
		when, ok := w.newest(shows)
		if !ok {
			return -1
		}
		return int(when.Sub(at).Seconds())
	}
	if newest() != -1 {
		t.Error("nothing was said")
	}
	say(1, 5)
	say(2, 6)
	say(3, 9) // takes the place of 2
	if newest() != -1 {
		t.Error("nothing was applied")
	}
	applied = 6
	if got := newest(); got != 1 {
		t.Errorf("%d after 6", got)
	}
	say(4, 12)
	applied = 9
	if got := newest(); got != 3 {
		t.Errorf("%d after 9", got)
	}
	applied = 12
	if got := newest(); got != 4 {
		t.Errorf("%d after 12", got)
	}
}
