package quorum

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
)

// hang makes a node's disk hang; what it returns mends it.
func hang(x *node) (mend func()) {
	x.store.writing <- struct{}{}
	return func() { <-x.store.writing }
}

func last(x *node) uint64 {
	index, _ := x.store.LastIndex()
	return index
}

// A leader's entry goes to the followers while it is still being written here, but counts for nothing until it is.
func TestNothingIsCommittedBeforeTheLeaderHasIt(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fabric) {
		nodes := f.grow(3, 0)
		leader := nodes[0]
		f.propose(leader, "before")
		f.same(nodes...)
		commit := leader.Status().Commit
		mend := hang(leader)
		done := make(chan error, 1)
		go func() { _, err := leader.Propose(t.Context(), []byte("x")); done <- err }()
		f.until("the followers have it", func() bool { return last(nodes[1]) > commit && last(nodes[2]) > commit })
		time.Sleep(time.Second)
		if now := leader.Status().Commit; now != commit {
			t.Errorf("%d is committed, which the leader has not on its disk", now)
		}
		for _, x := range nodes {
			if len(x.tape.all()) != 1 {
				t.Error("it was applied")
			}
		}
		mend()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		f.same(nodes...)
	})
}

// A leader whose disk hangs with entries ahead of it falls silent. As a follower it says that it has them only once they are
// on its disk.
func TestDeposedWithEntriesAhead(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fabric) {
		nodes := f.grow(3, 0)
		old, rest := nodes[0], nodes[1:]
		f.propose(old, "before")
		f.same(nodes...)
		index := last(old) + 1
		mend := hang(old)
		go func() { _, _ = old.Propose(t.Context(), []byte("x")) }()
		f.until("the followers have it", func() bool { return last(rest[0]) == index && last(rest[1]) == index })
		next := f.leader(rest...)
		f.propose(next, "after")
		f.until("the old leader follows", func() bool { return old.Status().State == Follower })
		read := make(chan error, 1)
		go func() {
			var entry raft.Log
			read <- old.store.GetLog(index, &entry)
		}()
		time.Sleep(time.Second)
		if len(read) > 0 {
			t.Error("an entry that is not on the disk was read as a follower")
		}
		mend()
		if err := <-read; err != nil {
			t.Error(err)
		}
		f.same(nodes...)
		if got := len(old.tape.all()); got != 3 {
			t.Errorf("%d items", got)
		}
	})
}

// The only voter commits on its own word: it has everything on its disk first.
func TestAloneNothingRunsAhead(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fabric) {
		nodes := f.grow(1, 1)
		mend := hang(nodes[0])
		done := make(chan error, 1)
		go func() { _, err := nodes[0].Propose(t.Context(), []byte("x")); done <- err }()
		time.Sleep(time.Second)
		if _, _, ahead := nodes[0].store.ahead.bounds(); ahead || len(nodes[0].tape.all()) > 0 {
			t.Error("an entry runs ahead of the only voter's disk")
		}
		mend()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		f.same(nodes...)
	})
}

// What runs ahead is in the log for all who ask about the log.
func TestAheadIsInTheLog(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fabric) {
		nodes := f.grow(3, 0)
		mend := hang(nodes[0])
		before := last(nodes[0])
		for range 3 {
			go func() { _, _ = nodes[0].Propose(t.Context(), []byte("x")) }()
		}
		f.until("it runs ahead", func() bool { return last(nodes[0]) > before })
		var entry raft.Log
		if err := nodes[0].store.GetLog(before+1, &entry); err != nil || entry.Index != before+1 || sealed(&entry) != nil {
			t.Errorf("read %+v, %v", entry, err)
		}
		mend()
		f.until("all three came", func() bool { return len(nodes[0].tape.all()) == 3 })
		f.same(nodes...)
	})
}

// Nothing is on the disk before what came earlier is.
func TestTheLogHasNoGap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := newStore(t)
		entry := func(index uint64) []*raft.Log { return []*raft.Log{{Index: index, Term: 1, Type: raft.LogCommand}} }
		run := func(index uint64) {
			e := entry(index)
			if taken, err := s.runAhead(e, sizeOf(e)); !taken || err != nil {
				t.Fatal(taken, err)
			}
		}
		s.writing <- struct{}{}
		run(1)
		synctest.Wait() // its write waits for the disk
		run(2)
		behind := make(chan error, 1)
		go func() { behind <- s.StoreLogs(entry(3)) }()
		synctest.Wait()
		go func() { <-s.writing }()
		for range 3 {
			s.writing <- struct{}{} // between two writes
			last, err := s.bolt.LastIndex()
			for index := uint64(1); err == nil && index <= last; index++ {
				var e raft.Log
				err = s.bolt.GetLog(index, &e)
			}
			if err != nil {
				t.Errorf("up to %d: %v", last, err)
			}
			<-s.writing
		}
		if err := <-behind; err != nil {
			t.Error(err)
		}
		if last, err := s.bolt.LastIndex(); last != 3 || err != nil {
			t.Error(last, err)
		}
		s.release()
		if err := s.close(); err != nil {
			t.Error(err)
		}
	})
}

// A disk that takes nothing: who waits for an entry is told, raft gets no more of them, and nothing is forgotten.
func TestAheadOfADeadDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := newStore(t)
		if err := s.bolt.Close(); err != nil {
			t.Fatal(err)
		}
		entries := []*raft.Log{{Index: 1, Term: 1, Type: raft.LogCommand}}
		if taken, err := s.runAhead(entries, 1); !taken || err != nil {
			t.Fatal(taken, err)
		}
		if err := s.durable(1); err == nil {
			t.Error("an entry is durable on a disk that takes nothing")
		}
		if err := s.durable(0); err != nil {
			t.Error(err)
		}
		if taken, err := s.runAhead([]*raft.Log{{Index: 2}}, 1); !taken || err == nil {
			t.Error("a leader without a disk goes on", taken, err)
		}
		time.Sleep(time.Minute)
		if late := s.stalled(time.Now()); late < time.Minute {
			t.Errorf("it has waited for %v", late)
		}
		if first, last, ok := s.ahead.bounds(); first != 1 || last != 1 || !ok {
			t.Error(first, last, ok)
		}
		s.release()
		_ = s.close()
	})
}
