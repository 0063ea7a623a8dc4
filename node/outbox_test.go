package node

import (
	"slices"
	"testing"
	"time"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

func ended(n int, output int) RunEnded {
	return RunEnded{
		Command: uuid(n), Status: exec.Success, Started: 5, Ended: 6,
		Stdout: exec.Stream{Size: int64(output), Kept: int64(output), Head: make([]byte, output)},
	}
}

func to(effects []Effect) (out []fleet.ID) {
	for _, s := range of[SendReport](effects) {
		out = append(out, s.To)
	}
	return out
}

func TestTwoCopies(t *testing.T) {
	for servers, want := range map[int]int{0: 0, 1: 1, 2: 2, 3: 2, 5: 2} {
		w := newTown(8, max(servers, 1))
		h := w.host(t, 7)
		h.step(Gossiped{w.sightings(fleet.Online)})
		if servers > 0 {
			h.step(BeaconHeard{From: w.Nodes[0].ID, Envelope: w.beacon(0, nil)})
		}
		out := h.step(ended(1, 10))
		if got := to(out); len(got) != want || len(slices.Compact(got)) != want {
			t.Errorf("%d servers: sent to %v", servers, got)
		}
		for _, id := range to(out) {
			h.step(ReportTaken{Command: uuid(1), Seq: h.seq(uuid(1)), Server: id})
		}
		if h.node.outbox.owing() != (servers == 0) {
			t.Errorf("%d servers: owing %v", servers, h.node.outbox.owing())
		}
		none[SendReport](t, h.pass(time.Minute))
		if servers == 0 { // the first beacon tells where it goes
			if got := to(h.step(BeaconHeard{From: w.Nodes[0].ID, Envelope: w.beacon(0, nil)})); len(got) != 1 {
				t.Errorf("later sent to %v", got)
			}
		}
	}
}

func TestCommandsSpreadOverServers(t *testing.T) {
	h := newTown(8, 5).settled(t, 7)
	count := map[fleet.ID]int{}
	for i := range 100 {
		for _, id := range to(h.step(ended(i, 1))) {
			count[id]++
			h.step(ReportTaken{Command: uuid(i), Seq: h.seq(uuid(i)), Server: id})
		}
	}
	leader := h.node.beacon.Leader // it knows every command first, so it gets the first copy of each report
	if count[leader] != 100 {
		t.Errorf("the leader gets %d of 100 reports", count[leader])
	}
	delete(count, leader)
	for id, n := range count {
		if n < 10 || n > 50 {
			t.Errorf("%s gets %d of 100 second copies", id, n)
		}
	}
}

func TestServerLost(t *testing.T) {
	w := newTown(8, 3)
	h := w.settled(t, 7)
	first := to(h.step(ended(1, 1)))
	h.step(ReportTaken{Command: uuid(1), Seq: h.seq(uuid(1)), Server: first[0]})
	h.step(ReportLost{Command: uuid(1), Seq: h.seq(uuid(1)), Server: first[1]}) // gossip still sees it
	second := to(h.pass(retryAfter))
	if len(second) != 1 || contains(first, second[0]) {
		t.Fatalf("then sent to %v", second)
	}
	h.step(ReportTaken{Command: uuid(1), Seq: h.seq(uuid(1)), Server: second[0]})
	if h.node.outbox.owing() {
		t.Error("still owed")
	}
	// A server that had it is replaced: another gets it.
	stay := w.ids(0, 3)
	stay = slices.DeleteFunc(stay, func(id fleet.ID) bool { return id == first[0] })
	out := h.step(BeaconHeard{From: stay[0], Envelope: beaconOf(w, stay[0], func(b *auth.Beacon) { b.Term, b.Voters = 2, stay })})
	if got := to(out); len(got) != 1 || got[0] != first[1] {
		t.Errorf("after the change sent to %v", got)
	}
}

func beaconOf(w *town, server fleet.ID, change func(*auth.Beacon)) auth.Envelope {
	return w.beacon(slices.IndexFunc(w.ids(0, len(w.Nodes)), func(id fleet.ID) bool { return id == server }), change)
}

func TestRetriesBackOff(t *testing.T) {
	w := newTown(5, 1)
	h := w.settled(t, 4)
	out := h.step(ended(1, 1))
	var waits []time.Duration
	for range 8 {
		sent := one[SendReport](t, out)
		h.step(ReportLost{Command: uuid(1), Seq: sent.Report.Seq, Server: sent.To})
		began := h.at.Boot
		for out = nil; len(of[SendReport](out)) == 0; {
			out = h.pass(100 * time.Millisecond)
		}
		waits = append(waits, (h.at.Boot - began).Round(time.Second))
	}
	want := []time.Duration{1, 2, 4, 8, 16, 30, 30, 30}
	for i := range want {
		if waits[i] != want[i]*time.Second {
			t.Fatalf("waits %v, want %v s", waits, want)
		}
	}
	h.step(ended(2, 1)) // news of another command does not wait
	h.step(ReportTaken{Command: uuid(1), Seq: h.seq(uuid(1)), Server: w.Nodes[0].ID})
}

func TestProgressIsCoalesced(t *testing.T) {
	w := newTown(5, 3)
	h := w.settled(t, 3)
	o := w.command("tag.role=web", w.ids(3, 5), nil)
	id := idOf(o)
	h.step(bell(o, 9, true))
	answer := func(out []Effect) (n int) {
		for _, s := range of[SendReport](out) {
			n++
			h.step(ReportTaken{Command: id, Seq: s.Report.Seq, Server: s.To})
		}
		return n
	}
	answer(h.step(RunStarted{Command: id, At: 5}))
	sent := 0
	for i := range 400 { // 4 s of news, a hundred a second
		sent += answer(h.step(RunWrote{Command: id, Stdout: exec.Stream{Size: int64(i), Kept: int64(i)}}))
		sent += answer(h.pass(10 * time.Millisecond))
	}
	if sent < 10 || sent > 18 {
		t.Errorf("%d copies of progress in 4 s", sent)
	}
	// What came too soon is told when its time has come, though nothing follows it.
	answer(h.pass(2 * progressGap))
	answer(h.step(RunWrote{Command: id, Stdout: exec.Stream{Size: 500, Kept: 500}}))
	wantSays(t, h.step(RunWrote{Command: id, Stdout: exec.Stream{Size: 501, Kept: 501}}))
	if last := of[SendReport](h.pass(progressGap)); len(last) != 2 || last[0].Report.Stdout.Size != 501 {
		t.Errorf("the last of it: %d reports", len(last))
	} else {
		answer([]Effect{last[0], last[1]})
	}
	h.pass(progressGap)
	held := h.step(RunWrote{Command: id, Stdout: exec.Stream{Size: 1000, Kept: 1000}})
	h.pass(time.Second)
	held = append(held, h.step(RunWrote{Command: id, Stdout: exec.Stream{Size: 1001, Kept: 1001}})...) // under way: the first is not answered
	if n := len(of[SendReport](held)); n != 2 {
		t.Errorf("%d copies under way", n)
	}
	out := h.step(RunEnded{Command: id, Status: exec.Success, Started: 5})
	for _, s := range of[SendReport](held) {
		out = append(out, h.step(ReportTaken{Command: id, Seq: s.Report.Seq, Server: s.To})...)
	}
	wantSays(t, out, exec.Success)
	wantSays(t, h.step(RunWrote{Command: id, Stdout: exec.Stream{Size: 2000, Kept: 2000}}))
}

func TestOutboxIsBounded(t *testing.T) {
	w := newTown(5, 1)
	h := w.settled(t, 4)
	warned := 0
	for i := range maxOutbox + 10 {
		out := h.node.Step(h.at, ended(i, exec.ReportHead))
		warned += len(of[Warn](out))
		if i%2 == 0 && i < 100 {
			h.node.Step(h.at, ReportTaken{Command: uuid(i), Seq: h.seq(uuid(i)), Server: w.Nodes[0].ID})
		}
	}
	o := &h.node.outbox
	total := 0
	for _, x := range o.byID {
		total += outputOf(x.report)
	}
	if len(o.byID) != maxOutbox || len(o.age) != maxOutbox || o.output > maxOutput || o.output != total || len(o.open) > maxOutbox {
		t.Errorf("%d reports, %d bytes (counted %d), %d open", len(o.byID), total, o.output, len(o.open))
	}
	for i := range 20 { // those that the server has went first, without a word
		if gone := o.byID[uuid(i)] == nil; gone != (i%2 == 0) {
			t.Errorf("report %d is gone: %v", i, gone)
		}
	}
	if warned != 0 {
		t.Errorf("warned %d times", warned)
	}
	cut := o.byID[uuid(1)].report
	if len(cut.Stdout.Head) != 0 || cut.Stdout.Size != exec.ReportHead || cut.Check() != nil {
		t.Errorf("a report without its output: %+v, %v", cut, cut.Check())
	}
	last := o.byID[uuid(maxOutbox+9)].report
	if len(last.Stdout.Head) != exec.ReportHead {
		t.Error("the newest lost its output")
	}
	for i := range maxOutbox {
		warned += len(of[Warn](h.node.Step(h.at, ended(maxOutbox+10+i, 0))))
	}
	if warned == 0 {
		t.Error("reports that nobody has were dropped without a word")
	}
}

func TestDeliveredReportsAreForgotten(t *testing.T) {
	w := newTown(5, 1)
	h := w.settled(t, 4)
	h.step(ended(1, 1))
	h.step(ReportTaken{Command: uuid(1), Seq: h.seq(uuid(1)), Server: w.Nodes[0].ID})
	h.step(ended(2, 1)) // not delivered
	h.to(h.at.Boot + keepReports + time.Second)
	h.step(ended(3, 1))
	if h.node.outbox.byID[uuid(1)] != nil || h.node.outbox.byID[uuid(2)] == nil {
		t.Error("the wrong ones are kept")
	}
}

// An answer about a report that nobody owes changes nothing.
func TestStrayAnswers(t *testing.T) {
	w := newTown(5, 3)
	h := w.settled(t, 3)
	for _, ev := range []Event{
		ReportTaken{Command: uuid(1), Seq: 7, Server: w.Nodes[0].ID}, ReportLost{Command: uuid(1), Seq: 7, Server: w.Nodes[0].ID},
		OrderFetched{Command: uuid(1)}, RunWrote{Command: uuid(1)}, PeerSilent{w.Nodes[0].ID}, KeyKept{Epoch: 9},
	} {
		if out := h.step(ev); len(out) != 0 {
			t.Errorf("%T causes %s", ev, kinds(out))
		}
	}
	out := h.step(ended(1, 1))
	none[SendReport](t, h.step(ReportTaken{Command: uuid(1), Seq: 1<<32 - 1, Server: to(out)[0]})) // more than was ever sent
	again := h.step(ReportLost{Command: uuid(1), Seq: h.seq(uuid(1)), Server: to(out)[1]})
	if len(to(append(again, h.pass(retryAfter)...))) != 1 {
		t.Error("one copy is enough")
	}
}

func TestBareNodeTakesEverything(t *testing.T) {
	events := []Event{
		Tick{}, Gossiped{}, BellHeard{Bell{Kind: BellCommand, Statement: uuid(1), Rider: []auth.Envelope{{}}}}, BellHeard{Bell{Kind: BellCancel, Statement: uuid(1), Rider: []auth.Envelope{{}}}},
		BellHeard{Bell{Kind: BellRecord, Act: 5, Holders: []fleet.ID{{1}}, Rider: []auth.Envelope{{}}}}, BeaconHeard{}, BeaconMade{}, PeerSilent{}, ActsFetched{Acts: []auth.Act{{Kind: 1}}},
		RecordCommitted{}, OrderFetched{}, OrdersFetched{Orders: []Committed{{}}}, OrderCommitted{}, RunStarted{Command: uuid(2)}, RunWrote{}, RunNotStarted{}, RefusalKept{}, RefusalLost{}, CancelFetched{}, RunEnded{Command: uuid(2), Status: exec.Failed},
		ReportTaken{}, ReportLost{}, KeyKept{},
	}
	n := New(Config{Self: fleet.ID{9}, Record: auth.NewRecord()})
	for i := range 3 {
		for _, ev := range events {
			n.Step(auth.Instant{Wall: time.UnixMilli(1e12), Boot: time.Duration(i) * time.Minute}, ev)
		}
	}
}
