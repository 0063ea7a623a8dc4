package quorum

import (
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// A follower's age is small while there are writes, grows where it hears of none, and is unknown after a start.
func TestAge(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fabric) {
		nodes := f.grow(3, 1)
		young := func(what string) {
			t.Helper()
			for n, x := range nodes {
				if age, ok := x.Age(); !ok || age > time.Second {
					t.Errorf("%s: node %d: %v, %v", what, n+1, age, ok)
				}
			}
		}
		write := func() {
			for range 3 {
				f.propose(nodes[0], "x")
				time.Sleep(100 * time.Millisecond)
			}
			f.same(nodes...)
		}
		write()
		young("written a moment ago")
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
		write()
		young("healed")
		f.isolate(off.id)
		f.stop(off)
		f.start(4)
		time.Sleep(10 * time.Second)
		if age, ok := off.Age(); ok {
			t.Errorf("it has heard nobody since it was started, and says %v", age)
		}
		f.heal(off.id)
		f.until("it hears", func() bool { return len(off.tape.all()) == len(nodes[0].tape.all()) })
		write()
		young("back")
	})
}

// A word that was under way for long is no newer than what its leader knew when it said it.
func TestLateWord(t *testing.T) {
	at := func(second int) time.Time { return time.Unix(1000+int64(second), 0) }
	request := func(term, prev uint64, entries int, commit uint64) *raft.AppendEntriesRequest {
		return &raft.AppendEntriesRequest{Term: term, PrevLogEntry: prev, LeaderCommitIndex: commit, Entries: make([]*raft.Log, entries)}
	}
	for name, c := range map[string]struct {
		before []*raft.AppendEntriesRequest // one a second
		said   *raft.AppendEntriesRequest   // ten seconds later
		want   int                          // second; -1: nobody can tell
	}{
		"the first word":                 {nil, request(3, 7, 0, 7), -1},
		"behind nothing that was sent":   {[]*raft.AppendEntriesRequest{request(3, 7, 0, 7)}, request(3, 7, 0, 7), -1},
		"behind entries":                 {[]*raft.AppendEntriesRequest{request(3, 7, 2, 7)}, request(3, 9, 1, 9), 0},
		"the same entries again":         {[]*raft.AppendEntriesRequest{request(3, 7, 2, 7)}, request(3, 7, 2, 7), -1},
		"behind entries that came twice": {[]*raft.AppendEntriesRequest{request(3, 7, 2, 7), request(3, 7, 2, 7)}, request(3, 9, 0, 9), 0},
		"entries of before, late":        {[]*raft.AppendEntriesRequest{request(3, 7, 2, 7), request(3, 9, 2, 7), request(3, 7, 2, 7)}, request(3, 11, 0, 9), 1},
		"another term":                   {[]*raft.AppendEntriesRequest{request(3, 7, 2, 7)}, request(4, 9, 1, 9), -1},
	} {
		t.Run(name, func(t *testing.T) {
			var come coming
			for second, r := range c.before {
				come.hears(r, at(second))
			}
			known, ok := come.hears(c.said, at(10))
			if ok != (c.want >= 0) || ok && !known.Equal(at(c.want)) {
				t.Errorf("%v, %v", known, ok)
			}
		})
	}
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
	shows := func(_, commit uint64) bool { return applied >= commit }
	at := time.Unix(1000, 0)
	last := uint64(0)
	say := func(second int, commit uint64) { // what is known a second later
		when := at.Add(time.Duration(second) * time.Second)
		last++
		w.heard(&raft.AppendEntriesRequest{Term: 1, PrevLogEntry: last - 1, LeaderCommitIndex: commit, Entries: make([]*raft.Log, 1)}, when, shows)
	}
	newest := func() int {
		when, ok := w.newest(shows)
		if !ok {
			return -1
		}
		return int(when.Sub(at).Seconds())
	}
	say(0, 1)
	if newest() != -1 {
		t.Error("nothing is known")
	}
	say(1, 5) // known since 0
	say(2, 6)
	say(3, 9) // takes the place of what was said at 2
	if newest() != -1 {
		t.Error("nothing was applied")
	}
	applied = 6
	if got := newest(); got != 0 {
		t.Errorf("%d after 6", got)
	}
	say(4, 12)
	applied = 9
	if got := newest(); got != 2 {
		t.Errorf("%d after 9", got)
	}
	applied = 12
	if got := newest(); got != 3 {
		t.Errorf("%d after 12", got)
	}
}

// slow is a tape that takes its time.
type slow struct{ *tape }

func (s slow) Apply(index uint64, item []byte) any {
	time.Sleep(2 * time.Millisecond)
	return s.tape.Apply(index, item)
}

// A replica that catches up after a restart does not say that it is up to date before it is.
func TestAgeWhileCatchingUp(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fabric) {
		slowly := func(c *Config) { c.Machine = slow{c.Machine.(*tape)} }
		nodes := f.grow(3, 1, slowly)
		var acked []time.Time
		propose := func() {
			f.propose(nodes[0], "x")
			acked = append(acked, time.Now())
		}
		for range 50 {
			propose()
		}
		for _, n := range []int{2, 3} {
			x := nodes[n]
			f.stop(x)
			for range 100 {
				propose()
			}
			f.start(n+1, slowly)
			for range 1000 {
				time.Sleep(time.Millisecond)
				if len(acked)%3 == 0 {
					propose()
				}
				age, ok := x.Age() // before the tape is looked at
				shown := len(x.tape.all())
				if ok && shown < len(acked) && acked[shown].Before(time.Now().Add(-age)) {
					t.Fatalf("node %d says %v and misses what was acknowledged %v ago: it has %d of %d", n+1, age, time.Since(acked[shown]), shown, len(acked))
				}
			}
			if age, ok := x.Age(); !ok || age > time.Second {
				t.Errorf("node %d: %v, %v", n+1, age, ok)
			}
		}
	})
}

// A new leader's first word is behind what the one before it had acknowledged: nobody counts on it.
func TestFirstWordOfALeader(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fabric) {
		nodes := f.grow(3, 0)
		f.propose(nodes[0], "x")
		f.same(nodes...)
		q := nodes[1].Quorum
		begun := q.store.begun.Load()
		f.until("the term's own entry is committed", func() bool { return q.raft.CommitIndex() >= begun.index })
		if !q.shows(begun.term, q.raft.CommitIndex()) {
			t.Error("what is committed in this term does not show")
		}
		if q.shows(begun.term, begun.index-1) || q.shows(begun.term+1, q.raft.CommitIndex()) {
			t.Error("a word is believed whose leader does not know what was committed before it")
		}
	})
}
