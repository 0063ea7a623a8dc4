package quorum

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/muster-fleet/muster/node/fleet"
)

func TestThreeVotersAgree(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fabric) {
		nodes := f.grow(3, 0)
		f.propose(nodes[0], "a", "b", "c")
		if err := nodes[0].Read(t.Context()); err != nil {
			t.Fatal(err)
		}
		f.same(nodes...)
		if got := len(nodes[2].tape.all()); got != 3 {
			t.Fatalf("%d items on a follower, want 3", got)
		}
		_, err := nodes[1].Propose(t.Context(), []byte("x"))
		refused, ok := errors.AsType[ErrNotLeader](err)
		if !ok || refused.Leader != nodes[0].id || fleet.KindOf(err) != fleet.Unavailable {
			t.Fatalf("a follower answers %v, want ErrNotLeader naming the leader", err)
		}
		if err := nodes[1].Read(t.Context()); !errors.As(err, &refused) {
			t.Fatalf("a follower's Read answers %v", err)
		}
	})
}

func TestLeaderCutOff(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fabric) {
		nodes := f.grow(3, 0)
		f.propose(nodes[0], "before")
		old := nodes[0]
		f.isolate(old.id)
		began := time.Now()
		// The old leader may believe in itself for its lease, but must not serve a read.
		if err := old.Read(t.Context()); err == nil {
			t.Fatal("a leader that was cut off served a read")
		}
		rest := without(nodes, old)
		leader := f.leader(rest...)
		f.propose(leader, "after")
		t.Logf("failover: first write on a survivor after %v", time.Since(began))
		if err := leader.Read(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := old.Propose(t.Context(), []byte("lost")); err == nil {
			t.Fatal("the old leader took a write")
		}
		f.heal(old.id)
		f.same(nodes...)
		if err := old.Read(t.Context()); err == nil {
			t.Fatal("the old leader serves reads after it is back")
		}
	})
}

// Writes that were on their way when the leader was cut off have an unknown outcome, and say so.
func TestUnknownOutcome(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fabric) {
		nodes := f.grow(3, 0)
		f.isolate(nodes[0].id)
		_, err := nodes[0].Propose(t.Context(), []byte("x"))
		if _, ok := errors.AsType[ErrUnknownOutcome](err); !ok {
			t.Fatalf("got %v, want ErrUnknownOutcome", err)
		}
		if fleet.KindOf(err) != fleet.Unavailable {
			t.Fatalf("kind %v", fleet.KindOf(err))
		}
	})
}

func TestRestartKeepsAcknowledged(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fabric) {
		nodes := f.grow(3, 0)
		f.propose(nodes[0], "a", "b")
		incarnation := nodes[0].Incarnation()
		for _, x := range nodes {
			f.stop(x)
		}
		for n := range nodes {
			f.start(n + 1)
		}
		leader := f.leader(nodes...)
		if err := leader.Read(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := len(leader.tape.all()); got != 2 {
			t.Fatalf("%d items after the restart, want 2", got)
		}
		if nodes[0].Incarnation() != incarnation || nodes[0].Status().Restarted != "" {
			t.Fatal("a sound replica came back as another incarnation")
		}
		f.propose(leader, "c")
		f.same(nodes...)
	})
}

// A single server needs no timeout to lead again.
func TestSingleVoter(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fabric) {
		x := f.grow(1, 0)[0]
		f.propose(x, "a")
		if err := x.Bootstrap(); fleet.KindOf(err) != fleet.Conflict {
			t.Fatalf("a second Bootstrap answers %v", err)
		}
		f.stop(x)
		f.start(1)
		began := time.Now()
		f.leader(x)
		if waited := time.Since(began); waited > time.Second { // virtual time
			t.Fatalf("it took %v to lead alone", waited)
		}
		if err := x.Read(t.Context()); err != nil {
			t.Fatal(err)
		}
		if len(x.tape.all()) != 1 {
			t.Fatal("the item is gone")
		}
	})
}

// flip changes one bit of the n-th place in the file where the text stands.
func flip(t *testing.T, path, text string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(data), text) {
		t.Fatalf("%q is not in %s", text, path)
	}
	flipped := strings.ReplaceAll(string(data), text, string(text[0]^1)+text[1:]) // bbolt may hold old pages too
	if err := os.WriteFile(path, []byte(flipped), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestBitFlipRejoinsAsNewIncarnation(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fabric) {
		nodes := f.grow(3, 0)
		f.propose(nodes[0], "first entry", "second entry", "third entry")
		f.same(nodes...)
		hurt := nodes[1]
		before := Replica{hurt.id, hurt.Incarnation()}
		f.stop(hurt)
		flip(t, logPath(hurt.dir), "second entry")
		f.start(2)
		status := hurt.Status()
		if status.Self.Incarnation <= before.Incarnation || !strings.Contains(status.Restarted, "checksum") {
			t.Fatalf("the damage went unnoticed: %+v", status)
		}
		if _, err := os.Stat(filepath.Join(hurt.dir, "damaged-1", "replica", "raft.db")); err != nil {
			t.Fatal(err)
		}
		if len(status.Voters) != 0 || hurt.Bootstrap() == nil {
			t.Fatal("the new replica has a configuration, or may found a fleet of its own")
		}
		// The leader goes on asking the lost one, and the new one must not answer for it.
		f.propose(nodes[0], "fourth entry")
		time.Sleep(10 * time.Second)
		if n := len(hurt.tape.all()); n != 0 {
			t.Fatalf("the new replica took %d items before it was added", n)
		}
		f.changeReplica(nodes[0], Remove, before)
		f.join(nodes[0], hurt, true)
		f.same(nodes...)
		f.propose(nodes[0], "fifth entry")
		f.same(nodes...)
	})
}

func TestRolledBackCopyIsNoticed(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fabric) {
		nodes := f.grow(3, 0)
		f.propose(nodes[0], "a")
		f.same(nodes...)
		hurt := nodes[2]
		incarnation := hurt.Incarnation()
		f.stop(hurt)
		old, err := os.ReadFile(logPath(hurt.dir))
		if err != nil {
			t.Fatal(err)
		}
		f.start(3)
		f.propose(nodes[0], "b")
		f.same(nodes...)
		f.stop(hurt)
		if err := os.WriteFile(logPath(hurt.dir), old, 0o600); err != nil {
			t.Fatal(err)
		}
		f.start(3)
		if status := hurt.Status(); status.Self.Incarnation <= incarnation || !strings.Contains(status.Restarted, "rolled back") {
			t.Fatalf("the rolled-back copy went unnoticed: %+v", status)
		}
	})
}

func TestWipedReplicaIsNoticed(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fabric) {
		nodes := f.grow(3, 0)
		hurt := nodes[2]
		for i, path := range []string{replicaPath(hurt.dir), logPath(hurt.dir), markPath(hurt.dir)} {
			before := Replica{hurt.id, hurt.Incarnation()}
			f.stop(hurt)
			if err := os.RemoveAll(path); err != nil {
				t.Fatal(err)
			}
			f.start(3)
			if status := hurt.Status(); status.Self.Incarnation <= before.Incarnation || status.Restarted == "" {
				t.Fatalf("the loss of %s went unnoticed: %+v", path, status)
			}
			f.changeReplica(nodes[0], Remove, before)
			f.join(nodes[0], hurt, true)
			f.propose(nodes[0], fmt.Sprint("item ", i))
			f.same(nodes...)
		}
		kept, _ := filepath.Glob(filepath.Join(hurt.dir, "damaged-*"))
		if len(kept) > damagedKept {
			t.Fatalf("%d folders put aside are kept", len(kept))
		}
	})
}

func TestOnlyVoterIsNotRestartedEmpty(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fabric) {
		x := f.grow(1, 1)[0]
		f.propose(x, "all there is")
		f.stop(x)
		flip(t, logPath(x.dir), "all there is")
		_, err := Open(f.config(x.id, x.dir, &tape{}))
		e, ok := errors.AsType[*fleet.Error](err)
		if !ok || e.Hint == "" || !strings.Contains(err.Error(), logPath(x.dir)) {
			t.Fatalf("got %v, want a refusal that names the file and what to do", err)
		}
		if _, err := os.Stat(logPath(x.dir)); err != nil {
			t.Fatal("the refused replica was touched")
		}
		if err := os.Remove(identityPath(x.dir)); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(f.config(x.id, x.dir, &tape{})); err == nil {
			t.Fatal("a replica of unknown standing was opened")
		}
	})
}

func TestSparesDoNotConfirmReads(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fabric) {
		nodes := f.grow(3, 2)
		f.propose(nodes[0], "a")
		if err := nodes[0].Read(t.Context()); err != nil {
			t.Fatal(err)
		}
		f.isolate(nodes[1].id)
		f.isolate(nodes[2].id)
		if nodes[0].Status().State != Leading {
			t.Fatal("it should still believe that it leads")
		}
		if err := nodes[0].Read(t.Context()); err == nil {
			t.Fatal("two spares confirmed a read that no other voter did")
		}
	})
}

// A round asks as many voters as it needs. One that is silent costs a moment once; then others are asked first.
func TestRoundsAskWhomTheyNeed(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fabric) {
		nodes := f.grow(5, 0)
		f.propose(nodes[0], "a")
		read := func() (asked int64, took time.Duration) {
			t.Helper()
			before, began := f.confirms.Load(), time.Now()
			if err := nodes[0].Read(t.Context()); err != nil {
				t.Fatal(err)
			}
			return f.confirms.Load() - before, time.Since(began)
		}
		for range 10 {
			if asked, took := read(); asked != 2 || took > 0 {
				t.Fatalf("%d of 4 were asked, in %s", asked, took)
			}
		}
		f.isolate(nodes[1].id)
		f.isolate(nodes[2].id)
		slow := 0
		for range 10 {
			if _, took := read(); took > askRest {
				t.Fatalf("a read took %s", took)
			} else if took > 0 {
				slow++
			}
		}
		if slow > 1 {
			t.Errorf("%d reads waited for somebody who was silent before", slow)
		}
	})
}

func TestSnapshotTravelsOnBulk(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fabric) {
		small := func(c *Config) { c.SnapshotBytes = 1 << 20 }
		nodes := f.grow(1, 0, small)
		leader := nodes[0]
		big := strings.Repeat("x", 200<<10)
		for i := range 100 { // 20 MB: more than is kept behind a snapshot
			f.propose(leader, fmt.Sprint(i, big))
		}
		f.until("the log is cut", func() bool {
			first, _ := leader.store.FirstIndex()
			return first > 1
		})
		x := f.start(2, small)
		before := f.bulk.Load()
		f.join(leader, x, false)
		f.same(leader, x)
		if f.bulk.Load() == before {
			t.Fatal("the snapshot did not travel on the bulk plane")
		}
		f.propose(leader, "later")
		f.same(leader, x)
		f.stop(x)
		f.start(2, small)
		f.same(leader, x)
		if status := x.Status(); status.Restarted != "" {
			t.Fatalf("a sound replica with a snapshot was refused: %s", status.Restarted)
		}
		// Damage to the snapshot is noticed too.
		f.stop(x)
		found, _ := filepath.Glob(filepath.Join(snapshotDir(x.dir), "*", "meta.json"))
		flip(t, found[0], "Index")
		f.start(2, small)
		if !strings.Contains(x.Status().Restarted, "meta.json") {
			t.Fatalf("got %q", x.Status().Restarted)
		}
	})
}

func TestAcceptRefusesStrangers(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fabric) {
		nodes := f.grow(2, 0)
		try := func(q *node, peer fleet.ID, target uint64) error {
			ours, theirs := newPipe()
			_, err := ours.Write(hello{to: target, from: 1}.encode())
			if err != nil {
				t.Fatal(err)
			}
			err = q.Accept(theirs, peer, false)
			_ = ours.Close()
			return err
		}
		leader, follower := nodes[0], nodes[1]
		if err := try(follower, stranger, follower.Incarnation()); fleet.KindOf(err) != fleet.Denied {
			t.Fatalf("a stranger got %v", err)
		}
		if err := try(follower, id(9), follower.Incarnation()); fleet.KindOf(err) != fleet.Denied {
			t.Fatalf("an eligible node outside the configuration got %v", err)
		}
		if err := try(follower, leader.id, follower.Incarnation()+1); fleet.KindOf(err) != fleet.Conflict {
			t.Fatalf("a stream for another incarnation got %v", err)
		}
		if err := try(follower, leader.id, follower.Incarnation()); err != nil {
			t.Fatal(err)
		}
		empty := f.start(3)
		if err := try(empty, stranger, empty.Incarnation()); fleet.KindOf(err) != fleet.Denied {
			t.Fatalf("an empty replica let a stranger in: %v", err)
		}
		if err := try(empty, id(9), empty.Incarnation()); err != nil {
			t.Fatalf("an empty replica refused an eligible node: %v", err)
		}
		silent, theirs := newPipe()
		if err := follower.Accept(theirs, leader.id, false); err == nil {
			t.Fatal("a peer that says nothing was taken")
		}
		_ = silent.Close()
	})
}

func TestStreamLimits(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fabric) {
		x := f.start(1)
		var open []*end
		for range streamsPerPeer {
			ours, theirs := newPipe()
			open = append(open, ours)
			_, _ = ours.Write(hello{to: x.Incarnation(), from: 1}.encode())
			if err := x.Accept(theirs, id(2), false); err != nil {
				t.Fatal(err)
			}
		}
		_, theirs := newPipe()
		if err := x.Accept(theirs, id(2), false); fleet.KindOf(err) != fleet.Exhausted {
			t.Fatalf("one stream too many got %v", err)
		}
		for _, c := range open {
			_ = c.Close()
		}
	})
	p := newPlumbing(Replica{}, nil)
	ours, theirs := newPipe()
	s := &stream{Conn: theirs, plumbing: p, accepted: true, budget: 8}
	if err := p.keep(s); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		_, _ = ours.Write([]byte("1234"))
		_, err := s.Read(make([]byte, 16))
		if i < 2 && err != nil || i == 2 && fleet.KindOf(err) != fleet.Exhausted {
			t.Fatalf("read %d: %v", i, err)
		}
	}
}

func TestEachItemGetsItsOwnResult(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fabric) {
		nodes := f.grow(3, 0)
		before := nodes[0].Status().Commit
		const clients, each = 32, 10
		var work sync.WaitGroup
		for c := range clients {
			work.Go(func() {
				for i := range each {
					item := fmt.Sprintf("%d-%d", c, i)
					got, err := nodes[0].Propose(t.Context(), []byte(item))
					if err != nil || !strings.HasSuffix(got.(string), ":"+item) {
						t.Errorf("%s got %v, %v", item, got, err)
					}
				}
			})
		}
		work.Wait()
		f.same(nodes...)
		if n := len(nodes[1].tape.all()); n != clients*each {
			t.Fatalf("%d items, want %d", n, clients*each)
		}
		if entries := nodes[0].Status().Commit - before; entries >= clients*each {
			t.Fatalf("%d log entries for %d items: nothing was batched", entries, clients*each)
		}
		if _, err := nodes[0].Propose(t.Context(), make([]byte, MaxItem)); err != nil {
			t.Fatal(err)
		}
		if _, err := nodes[0].Propose(t.Context(), make([]byte, MaxItem+1)); fleet.KindOf(err) != fleet.Exhausted {
			t.Fatalf("an item over the limit got %v", err)
		}
	})
}

func TestProposeGivesUp(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fabric) {
		nodes := f.grow(3, 0)
		f.isolate(nodes[1].id)
		f.isolate(nodes[2].id)
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		var work sync.WaitGroup
		work.Go(func() {
			_, err := nodes[0].Propose(ctx, []byte("sent"))
			if _, ok := errors.AsType[ErrUnknownOutcome](err); !ok {
				t.Errorf("what was sent got %v", err)
			}
		})
		time.Sleep(10 * time.Millisecond)
		work.Go(func() {
			_, err := nodes[0].Propose(ctx, []byte("waiting"))
			if _, ok := errors.AsType[ErrUnknownOutcome](err); ok || err == nil {
				t.Errorf("what only waited got %v", err)
			}
		})
		work.Wait()
	})
}

func TestTransferLeadership(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fabric) {
		nodes := f.grow(3, 0)
		for len(nodes[0].Changes()) > 0 {
			<-nodes[0].Changes()
		}
		// Taking the leader's own vote hands leadership over.
		err := nodes[0].Change(t.Context(), Change{Do: Remove, Replica: nodes[0].Status().Self, Prev: nodes[0].Status().Index})
		if _, ok := errors.AsType[ErrNotLeader](err); !ok {
			t.Fatalf("got %v", err)
		}
		select {
		case <-nodes[0].Changes():
		case <-time.After(time.Minute):
			t.Fatal("nobody said that the leader changed")
		}
		leader := f.leader(nodes[1:]...)
		f.change(leader, Remove, nodes[0])
		f.propose(leader, "without the first")
		err = leader.Change(t.Context(), Change{Do: Demote, Replica: nodes[0].self, Prev: 1})
		if fleet.KindOf(err) != fleet.Conflict {
			t.Fatalf("a change decided for an old configuration got %v", err)
		}
	})
}

// A leader whose disk hangs falls silent, the others elect, and it follows when its disk is back.
func TestStalledDisk(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fabric) {
		nodes := f.grow(3, 0)
		began := time.Now()
		nodes[0].store.busy.Store(&began)
		leader := f.leader(nodes[1:]...)
		t.Logf("failover from a stalled disk: %v", time.Since(began))
		if !nodes[0].Status().Stalled {
			t.Fatal("the status does not say that the disk is stalled")
		}
		nodes[0].store.busy.Store(nil)
		f.propose(leader, "a")
		f.same(nodes...)
	})
}

// A replica that was away while all servers it knows were replaced is found by the new ones.
func TestReturnAfterAllOthersWereReplaced(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fabric) {
		nodes := f.grow(3, 0)
		away := nodes[2]
		f.stop(away)
		leader := nodes[0]
		for _, n := range []int{4, 5} {
			f.join(leader, f.start(n), true)
		}
		all := []*node{nodes[0], nodes[1], f.nodes[id(4)], f.nodes[id(5)]}
		f.change(leader, Remove, nodes[1])
		_ = leader.TransferLeadership(t.Context())
		leader = f.leader(all[2:]...)
		f.change(leader, Remove, nodes[0])
		f.propose(leader, "new times")
		f.stop(nodes[0])
		f.stop(nodes[1])
		f.start(3)
		f.same(leader, away)
	})
}
