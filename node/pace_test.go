package node

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/muster-fleet/muster/consensus"
	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

// office is the core of a leader with a paced command for all, and a quorum that agrees at once.
type office struct {
	*host
	c      *consensus.Command
	ticket uint64
	mute   bool // the quorum does not answer
	asked  map[uint64]int
	heard  []AnswerGrant
	grants [][]uint32
	ends   [][]exec.Ending
}

func newOffice(t testing.TB, w *town, pace exec.Pace, change func(*exec.Command)) *office {
	pace.Limited = true
	order := w.command("*", w.ids(0, len(w.Nodes)), func(c *exec.Command) {
		c.Pace = pace
		if change != nil {
			change(c)
		}
	})
	o := &office{host: w.settled(t, 0), asked: map[uint64]int{}}
	o.c = command(order)
	o.do(Office{Leading: true, Term: 1})
	o.do(CommandChanged{o.c})
	return o
}

func command(order exec.Order) *consensus.Command {
	body, err := auth.Peek[exec.Command](order.Statement)
	if err != nil {
		panic(err)
	}
	return &consensus.Command{Order: order, Body: body, Act: 9, Rollout: exec.NewRollout(body)}
}

// do takes a step and lets the quorum answer.
func (o *office) do(ev Event) (out []Effect) {
	o.Helper()
	return o.agree(o.step(ev))
}

func (o *office) wait(d time.Duration) (out []Effect) {
	o.Helper()
	for end := o.at.Boot + d; o.at.Boot < end; {
		out = append(out, o.agree(o.pass(min(100*time.Millisecond, end-o.at.Boot)))...)
	}
	return out
}

// agree lets the quorum answer what was proposed, and what is proposed then.
func (o *office) agree(effects []Effect) (all []Effect) {
	o.Helper()
	for _, e := range effects {
		all = append(all, e)
		switch e := e.(type) {
		case AnswerGrant:
			o.asked[e.Ticket]--
			o.heard = append(o.heard, e)
		case ProposeGrants:
			o.grants = append(o.grants, e.Nodes)
			if o.mute {
				continue
			}
			next, err := o.c.Rollout.Grant(o.c.Body.Pace, e.Nodes)
			if err != nil {
				o.Fatalf("it proposes what is refused: %v", err)
			}
			all = append(all, o.move(next)...)
			all = append(all, o.agree(o.step(GrantsProposed{Command: e.Command}))...)
		case ProposeEndings:
			o.ends = append(o.ends, e.Ends)
			if o.mute {
				continue
			}
			all = append(all, o.move(o.c.Rollout.End(o.c.Body.Pace, e.Ends))...)
			all = append(all, o.agree(o.step(EndingsProposed{Command: e.Command}))...)
		}
	}
	return all
}

// move makes another rollout the agreed one.
func (o *office) move(r exec.Rollout) []Effect {
	o.Helper()
	next := *o.c
	next.Rollout = r
	o.c = &next
	if err := r.Check(next.Body); err != nil {
		o.Fatal(err)
	}
	return o.agree(o.step(CommandChanged{o.c}))
}

// ask lets the node at a place of the set ask, and returns the answer that it gets by then.
func (o *office) ask(place int) GrantAnswer {
	o.Helper()
	o.ticket++
	o.asked[o.ticket]++
	o.do(GrantAsked{Command: o.c.ID(), Node: o.c.Order.Nodes[place], Ticket: o.ticket})
	return o.answerTo(o.ticket)
}

const noAnswer GrantAnswer = 99

func (o *office) answerTo(ticket uint64) GrantAnswer {
	for _, a := range o.heard {
		if a.Ticket == ticket {
			return a.Answer
		}
	}
	return noAnswer
}

func (o *office) report(place int, s exec.Status) []Effect {
	o.Helper()
	return o.do(ReportKept{Command: o.c.ID(), Node: o.c.Order.Nodes[place], Status: s})
}

// rung lists the places that are told to ask.
func (o *office) rung(effects []Effect) (out []int) {
	for _, r := range of[Ring](effects) {
		if r.Bell.Kind != BellTurn || r.Bell.Statement != o.c.ID() {
			continue
		}
		for _, id := range r.To {
			out = append(out, slices.Index(o.c.Order.Nodes, id))
		}
	}
	return out
}

// others lists the places of the set without the leader's own, which rings itself otherwise.
func (o *office) others() (out []int) {
	for i, id := range o.c.Order.Nodes {
		if id != o.me {
			out = append(out, i)
		}
	}
	return out
}

func want[T comparable](t testing.TB, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

func TestGrantsInTurn(t *testing.T) {
	o := newOffice(t, newTown(5, 3), exec.Pace{Concurrency: 1}, nil)
	them := o.others()
	a, b, c := them[0], them[1], them[2]
	want(t, "the first", o.ask(b), GrantedNow)
	want(t, "another", o.ask(c), GrantWait)
	want(t, "another", o.ask(a), GrantWait)
	want(t, "asked again", o.ask(b), Granted) // its answer may have been lost
	if len(o.grants) != 1 {
		t.Errorf("%d proposals", len(o.grants))
	}
	if got := o.rung(o.report(b, exec.Success)); !slices.Equal(got, []int{a}) {
		t.Errorf("rings %v, want %v: of those that asked, the first in the order of the set", got, a)
	}
	want(t, "who has ended", o.ask(b), GrantEnded)
	want(t, "whose turn it is", o.ask(a), GrantedNow)
	if got := o.rung(o.report(a, exec.Failed)); len(got) != 0 || o.c.Rollout.Stopped == "" {
		want(t, "after the first failure", o.c.Rollout.Stopped, exec.StoppedByErrors)
	}
}

// Who asks while the quorum is busy waits for it, and all of them go into the next proposal.
func TestGrantsAreBatched(t *testing.T) {
	o := newOffice(t, newTown(5, 3), exec.Pace{Concurrency: 3}, nil)
	them := o.others()
	o.mute = true
	for _, i := range them {
		want(t, "while the quorum is busy", o.ask(i), noAnswer)
	}
	want(t, "proposals", len(o.grants), 1)
	o.mute = false
	next, err := o.c.Rollout.Grant(o.c.Body.Pace, o.grants[0])
	if err != nil {
		t.Fatal(err)
	}
	o.move(next)
	o.do(GrantsProposed{Command: o.c.ID()})
	want(t, "proposals", len(o.grants), 2)
	want(t, "in the second", len(o.grants[1]), 2)
	for k, i := range them {
		answer := GrantedNow
		if o.c.Rollout.State(uint32(i)) != exec.NodeGranted {
			answer = GrantWait
		}
		want(t, fmt.Sprint("node ", k), o.answerTo(uint64(k+1)), answer)
	}
	want(t, "granted", o.c.Rollout.Running, 3)
}

func TestQuorumDoesNotTakeGrants(t *testing.T) {
	o := newOffice(t, newTown(5, 3), exec.Pace{Concurrency: 1}, nil)
	a := o.others()[0]
	o.mute = true
	o.ask(a)
	o.do(GrantsProposed{Command: o.c.ID(), Failed: true})
	want(t, "its answer", o.answerTo(1), GrantFailed)
	want(t, "at once", o.ask(a), noAnswer)
	want(t, "proposals", len(o.grants), 1)
	o.mute = false
	o.wait(proposeAgain + 100*time.Millisecond)
	want(t, "a moment later", o.answerTo(2), GrantedNow)
	t.Run("but took them all the same", func(t *testing.T) {
		o := newOffice(t, newTown(5, 3), exec.Pace{Concurrency: 1}, nil)
		o.mute = true
		o.ask(a)
		next, _ := o.c.Rollout.Grant(o.c.Body.Pace, o.grants[0])
		o.move(next)
		o.do(GrantsProposed{Command: o.c.ID(), Failed: true})
		want(t, "its answer", o.answerTo(1), Granted) // the shell makes sure
	})
	t.Run("and says nothing", func(t *testing.T) {
		o := newOffice(t, newTown(5, 3), exec.Pace{Concurrency: 1}, nil)
		o.mute = true
		o.ask(a)
		o.wait(ticketWait + paceEvery)
		want(t, "its answer", o.answerTo(1), GrantFailed)
		want(t, "asked again", o.ask(a), noAnswer)
		want(t, "proposals", len(o.grants), 1)
	})
}

func TestNotTheLeader(t *testing.T) {
	o := newOffice(t, newTown(5, 3), exec.Pace{Concurrency: 1}, nil)
	them := o.others()
	o.mute = true
	o.ask(them[0])
	o.do(Office{Leading: false, Term: 2})
	want(t, "who waited", o.answerTo(1), GrantFailed)
	want(t, "who asks", o.ask(them[1]), GrantFailed)
	none[Ring](t, o.wait(10*time.Second))
	o.mute = false
	o.do(Office{Leading: true, Term: 3})
	want(t, "back in office", o.ask(them[1]), GrantedNow)
	want(t, "of a command that is not known", func() GrantAnswer {
		out := o.step(GrantAsked{Command: uuid(1), Node: o.me, Ticket: 77})
		return one[AnswerGrant](t, out).Answer
	}(), GrantFailed)
	want(t, "of a node that is not meant", one[AnswerGrant](t, o.step(GrantAsked{Command: o.c.ID(), Node: fleet.Sum(nil), Ticket: 78})).Answer, GrantFailed)
}

// A place that nobody takes goes to the next.
func TestTurnsNotTaken(t *testing.T) {
	o := newOffice(t, newTown(5, 3), exec.Pace{Concurrency: 1}, nil)
	them := o.others()
	o.ask(them[0])
	for _, i := range them[1:] {
		want(t, "no room", o.ask(i), GrantWait)
	}
	got := o.rung(append(o.report(them[0], exec.Success), o.wait(turnWait+2*paceEvery)...))
	if len(got) < 3 || got[0] != them[1] || got[1] != them[1] || got[2] != them[2] { // each twice: a bell may be lost
		t.Errorf("rings %v of %v", got, them)
	}
	t.Run("who is away is not rung first", func(t *testing.T) {
		o := newOffice(t, newTown(5, 3), exec.Pace{Concurrency: 2}, nil) // one for the leader's own
		var members []Sighting
		for _, s := range o.sightings(fleet.Online) {
			if s.ID != o.c.Order.Nodes[them[3]] {
				s.Status = fleet.ConnectionLost
			}
			members = append(members, s)
		}
		o.do(Gossiped{members})
		none[Ring](t, o.wait(silentAfter-paceEvery)) // they ask by themselves
		if got := o.rung(o.wait(2 * paceEvery)); !slices.Equal(got, []int{them[3], them[3]}) {
			t.Errorf("rings %v, want %v", got, them[3])
		}
	})
}

// The leader's own node is told without a bell.
func TestLeaderGrantsItself(t *testing.T) {
	w := newTown(5, 3)
	h := w.settled(t, 0)
	order := w.command("*", w.ids(0, 5), paced1)
	h.step(Office{Leading: true, Term: 1})
	h.step(CommandChanged{command(order)})
	out := append(h.step(OrderCommitted{Committed{Act: 9, Order: order}}), h.pass(20*time.Millisecond)...)
	asked := one[AskGrant](t, out)
	h.step(GrantAnswered{Command: asked.Command, Asked: asked.Asked, Answer: GrantWait})
	h.step(Gossiped{w.sightings(fleet.ConnectionLost)}) // nobody else is there
	one[AskGrant](t, h.pass(silentAfter+paceEvery))
}

func TestSilentNodes(t *testing.T) {
	timeout := func(c *exec.Command) { c.Run.Timeout = (10 * time.Second).Milliseconds() }
	patience := exec.StartBy + 10*time.Second + exec.SlotMargin
	t.Run("soft: its place goes to another", func(t *testing.T) {
		o := newOffice(t, newTown(5, 3), exec.Pace{Concurrency: 1}, timeout)
		them := o.others()
		o.ask(them[0])
		o.ask(them[1])
		o.wait(patience)
		want(t, "places", o.c.Rollout.Running, 1)
		out := o.wait(2 * freeEvery)
		if len(o.ends) != 1 || o.ends[0][0] != (exec.Ending{Node: uint32(them[0]), As: exec.EndFreed}) {
			t.Fatalf("ends %v", o.ends)
		}
		if got := one[ProposeEndings](t, out).Term; got != 1 { // no other office may give it away
			t.Errorf("in term %d", got)
		}
		if got := o.rung(out); !slices.Contains(got, them[1]) {
			t.Errorf("rings %v", got)
		}
		want(t, "the silent one, back", o.ask(them[0]), GrantedNow) // its ledger knows whether it may
		want(t, "another", o.ask(them[1]), GrantWait)
	})
	t.Run("a word from it begins its time anew", func(t *testing.T) {
		for name, word := range map[string]func(o *office, i int){
			"it asks again": func(o *office, i int) { want(t, "asked again", o.ask(i), Granted) },
			"it reports":    func(o *office, i int) { o.report(i, exec.InProgress) },
		} {
			o := newOffice(t, newTown(5, 3), exec.Pace{Concurrency: 1}, timeout)
			i := o.others()[0]
			o.ask(i)
			o.wait(patience - time.Second)
			word(o, i)
			o.wait(patience - time.Second)
			if len(o.ends) != 0 {
				t.Errorf("%s: %v", name, o.ends)
			}
			o.wait(2 * freeEvery)
			want(t, name, len(o.ends), 1)
		}
	})
	t.Run("while its place is being given away it waits", func(t *testing.T) {
		o := newOffice(t, newTown(5, 3), exec.Pace{Concurrency: 1}, timeout)
		i := o.others()[0]
		o.ask(i)
		o.mute = true
		o.wait(patience + 2*freeEvery)
		want(t, "its answer", o.ask(i), GrantWait)
	})
	t.Run("a new leader counts from its own first look", func(t *testing.T) {
		o := newOffice(t, newTown(5, 3), exec.Pace{Concurrency: 1}, timeout)
		o.ask(o.others()[0])
		o.wait(patience - time.Second)
		o.do(Office{Leading: true, Term: 2})
		o.wait(patience)
		want(t, "endings", len(o.ends), 0)
		o.wait(3 * freeEvery)
		want(t, "endings", len(o.ends), 1)
	})
	t.Run("not by who does not lead", func(t *testing.T) {
		o := newOffice(t, newTown(5, 3), exec.Pace{Concurrency: 1}, timeout)
		o.ask(o.others()[0])
		o.do(Office{Leading: false, Term: 2})
		o.wait(3 * patience)
		want(t, "endings", len(o.ends), 0)
	})
	t.Run("strict: never", func(t *testing.T) {
		o := newOffice(t, newTown(5, 3), exec.Pace{Concurrency: 1, Strict: true}, timeout)
		o.ask(o.others()[0])
		o.wait(5 * patience)
		want(t, "endings", len(o.ends), 0)
	})
}

func TestStopped(t *testing.T) {
	t.Run("by failures: who waits is told", func(t *testing.T) {
		o := newOffice(t, newTown(5, 3), exec.Pace{Concurrency: 1}, nil)
		them := o.others()
		o.ask(them[0])
		o.ask(them[1])
		o.ask(them[2])
		if got := o.rung(o.report(them[0], exec.Failed)); !slices.Equal(got, them[1:3]) {
			t.Errorf("tells %v", got)
		}
		want(t, "who asks", o.ask(them[1]), GrantStopped)
		want(t, "who never asked", o.ask(them[3]), GrantStopped)
		o.wait(time.Second)
		none[Ring](t, o.wait(time.Minute))
		if o.node.pacing.waiters != 0 {
			t.Errorf("%d places are kept", o.node.pacing.waiters)
		}
	})
	t.Run("while it waits for the quorum", func(t *testing.T) {
		o := newOffice(t, newTown(5, 3), exec.Pace{Concurrency: 1}, nil)
		o.mute = true
		o.ask(o.others()[0])
		o.move(o.c.Rollout.Stop(exec.StoppedByGate))
		want(t, "its answer", o.answerTo(1), GrantStopped)
		o.do(GrantsProposed{Command: o.c.ID(), Failed: true})
	})
	t.Run("while a granted node has not started", func(t *testing.T) {
		o := newOffice(t, newTown(5, 3), exec.Pace{Concurrency: 2}, nil)
		them := o.others()
		o.ask(them[0])
		o.ask(them[1])
		o.report(them[1], exec.Failed)
		want(t, "it asks again", o.ask(them[0]), GrantStopped)
		o.report(them[0], exec.Terminated)
		want(t, "running", o.c.Rollout.Running, 0)
	})
	t.Run("by a cancel", func(t *testing.T) {
		o := newOffice(t, newTown(5, 3), exec.Pace{Concurrency: 1}, nil)
		o.move(o.c.Rollout.Stop(exec.StoppedByCancel))
		want(t, "its answer", o.ask(o.others()[0]), GrantCancelled)
	})
}

// A node that was given leave and does not say that it runs may have forgotten it: it is rung again. One that runs is
// left alone.
func TestQuietNodesAreNudged(t *testing.T) {
	for _, strict := range []bool{false, true} {
		o := newOffice(t, newTown(5, 3), exec.Pace{Concurrency: 2, Errors: 1, Strict: strict}, nil)
		them := o.others()
		o.ask(them[0])
		o.ask(them[1])
		o.report(them[1], exec.InProgress)
		none[Ring](t, o.wait(exec.StartBy-time.Second))
		got := o.rung(o.wait(4 * exec.StartBy))
		if len(got) < 4 || len(got) > 8 || slices.Contains(got, them[1]) {
			t.Errorf("strict %v: rings %v in a minute; %d runs", strict, got, them[1])
		}
		o.do(Office{Leading: false, Term: 2})
		o.wait(time.Second)
		none[Ring](t, o.wait(4*exec.StartBy))
	}
}

// Followers: barred nodes wait, those let in are rung at once, and those that nothing lets in any more hear so.
func TestFollowers(t *testing.T) {
	after := func(c *exec.Command) { c.After = exec.After{Command: uuid(5)} }
	o := newOffice(t, newTown(5, 3), exec.Pace{Concurrency: 5}, after)
	them := o.others()
	none[Ring](t, o.wait(time.Second))
	want(t, "barred", o.ask(them[0]), GrantWait)
	r := o.c.Rollout
	r.Nodes = slices.Clone(r.Nodes)
	for _, i := range them[:2] {
		r.Nodes[i] = byte(exec.NodeIdle)
		r.Idle++
	}
	if got := o.rung(o.move(r)); !slices.Equal(got, them[:2]) {
		t.Errorf("rings %v, want %v", got, them[:2])
	}
	want(t, "let in", o.ask(them[1]), GrantedNow)
	r = o.c.Rollout
	r.Waits = false
	o.move(r)
	want(t, "never let in", o.ask(them[3]), GrantStopped)
}

func TestEndings(t *testing.T) {
	t.Run("the leader at once, in batches", func(t *testing.T) {
		o := newOffice(t, newTown(5, 3), exec.Pace{Concurrency: 5, Errors: 9}, nil)
		for i := range 5 {
			o.ask(i)
		}
		o.mute = true
		o.report(0, exec.Success)
		o.report(1, exec.Failed)
		o.report(2, exec.Unknown)
		want(t, "proposals", len(o.ends), 1)
		o.mute = false
		o.move(o.c.Rollout.End(o.c.Body.Pace, o.ends[0]))
		o.do(EndingsProposed{Command: o.c.ID()})
		want(t, "proposals", len(o.ends), 2)
		want(t, "in the second", len(o.ends[1]), 2)
		want(t, "failed", o.c.Rollout.Failed, 2)
		o.report(0, exec.Success) // told by another server too
		want(t, "proposals", len(o.ends), 2)
	})
	t.Run("another server after a while, if it is still open", func(t *testing.T) {
		for _, open := range []bool{true, false} {
			o := newOffice(t, newTown(5, 3), exec.Pace{Concurrency: 5}, nil)
			o.ask(0)
			o.do(Office{Leading: false, Term: 2})
			o.report(0, exec.Success)
			o.wait(othersWait - 100*time.Millisecond)
			want(t, "proposals", len(o.ends), 0)
			if !open {
				o.move(o.c.Rollout.End(o.c.Body.Pace, []exec.Ending{{Node: 0, As: exec.EndedOK}}))
			}
			o.wait(time.Second)
			if (len(o.ends) == 1) != open {
				t.Errorf("%d proposals", len(o.ends))
			}
		}
	})
	t.Run("not taken", func(t *testing.T) {
		o := newOffice(t, newTown(5, 3), exec.Pace{Concurrency: 5}, nil)
		o.ask(0)
		o.mute = true
		o.report(0, exec.Success)
		o.do(EndingsProposed{Command: o.c.ID(), Failed: true})
		want(t, "at once", len(o.ends), 1)
		o.mute = false
		o.wait(proposeAgain + 100*time.Millisecond)
		want(t, "a moment later", len(o.ends), 2)
		want(t, "state", o.c.Rollout.State(0), exec.NodeOK)
	})
	t.Run("what the quorum has no use for is not repeated", func(t *testing.T) {
		o := newOffice(t, newTown(5, 3), exec.Pace{Concurrency: 5}, nil)
		o.mute = true
		o.report(0, exec.Success)
		o.do(EndingsProposed{Command: o.c.ID()})
		o.wait(time.Minute)
		want(t, "proposals", len(o.ends), 1)
	})
	t.Run("a real end takes the place of a silent one", func(t *testing.T) {
		o := newOffice(t, newTown(5, 3), exec.Pace{Concurrency: 1}, func(c *exec.Command) { c.Run.Timeout = 1000 })
		o.ask(0)
		o.mute = true
		o.wait(time.Minute)
		o.do(EndingsProposed{Command: o.c.ID(), Failed: true})
		o.report(0, exec.Success)
		o.mute = false
		o.wait(2 * proposeAgain)
		want(t, "state", o.c.Rollout.State(0), exec.NodeOK)
	})
}

// What is remembered is bounded, whoever asks how often.
func TestPacingIsBounded(t *testing.T) {
	w := newTown(5, 3)
	o := newOffice(t, w, exec.Pace{Concurrency: 1}, nil)
	o.mute = true
	for range 1000 {
		for i := range 5 {
			o.ask(i)
		}
	}
	p := o.node.pacing.byID[o.c.ID()]
	if len(p.tickets) > 5 || len(p.waiting) != 5 {
		t.Errorf("%d tickets, %d waiters", len(p.tickets), len(p.waiting))
	}
	o.mute = false
	o.node.pacing.waiters = maxWaiters
	o2 := &office{host: o.host, c: command(w.command("*", w.ids(0, 5), paced1)), asked: map[uint64]int{}, ticket: 10_000}
	o2.do(CommandChanged{o2.c})
	want(t, "one too many", o2.ask(0), GrantWait)
	want(t, "in the right moment", o2.ask(0), Granted)
	h := o.c.Body.Header
	o.to(o.at.Boot + time.Duration(h.Expires-h.Issued)*time.Millisecond + time.Hour)
	o.node.wakePacing(o.at.Boot)
	o.step(Tick{})
	want(t, "commands that are over", len(o.node.pacing.order)+len(o.node.pacing.byID), 0)
}

// Whatever nodes and the quorum do: no proposal is one that Apply refuses, there is one at a time, every question is
// answered once, and a rollout that may go on does.
func TestPacingHolds(t *testing.T) {
	w := newTown(8, 3)
	rapid.Check(t, func(r *rapid.T) {
		pace := exec.Pace{Concurrency: uint32(rapid.IntRange(0, 4).Draw(r, "concurrency")), Errors: uint32(rapid.IntRange(0, 3).Draw(r, "errors")), Strict: rapid.Bool().Draw(r, "strict")}
		if rapid.Bool().Draw(r, "waves") {
			pace.Waves = []uint32{1, 3, 8}
		}
		o := newOffice(t, w, pace, func(c *exec.Command) { c.Run.Timeout = 5000 })
		running := map[int]bool{}
		open := map[uint64]int{}
		for range rapid.IntRange(10, 120).Draw(r, "steps") {
			switch rapid.IntRange(0, 6).Draw(r, "what") {
			case 0, 1, 2:
				i := rapid.IntRange(0, 7).Draw(r, "node")
				if o.ask(i) == noAnswer {
					open[o.ticket] = i
				}
			case 3, 4:
				i := rapid.IntRange(0, 7).Draw(r, "node")
				o.report(i, rapid.SampledFrom([]exec.Status{exec.Success, exec.Success, exec.Failed, exec.Unknown, exec.Refused, exec.InProgress}).Draw(r, "status"))
			case 5:
				o.wait(time.Duration(rapid.IntRange(1, 60_000).Draw(r, "ms")) * time.Millisecond)
			case 6:
				o.do(Office{Leading: true, Term: o.node.pacing.term + 1})
			}
			for i := range 8 {
				running[i] = o.c.Rollout.State(uint32(i)) == exec.NodeGranted
			}
		}
		o.wait(10 * time.Second)
		for ticket, n := range o.asked {
			if n != 0 {
				r.Fatalf("question %d has %d answers too few", ticket, n)
			}
		}
		// From here on everybody asks when it is rung and ends well: what may go on comes to its end.
		for range 60 {
			if o.c.Rollout.Done() {
				break
			}
			for i := range 8 {
				if o.ask(i); o.c.Rollout.State(uint32(i)) == exec.NodeGranted {
					o.report(i, exec.Success)
				}
			}
			o.wait(6 * time.Second)
		}
		if !o.c.Rollout.Done() {
			r.Fatalf("it does not come to its end: %+v", o.c.Rollout)
		}
	})
}

// A real end that is told while the leader's freeing of the same place is under way comes to the quorum.
func TestEndWhileItsPlaceIsFreed(t *testing.T) {
	w := newTown(5, 3)
	o := newOffice(t, w, exec.Pace{Concurrency: 1}, nil)
	them := o.others()
	want(t, "first", o.ask(them[0]), GrantedNow)
	o.mute = true
	out := o.wait(exec.StartBy + time.Duration(o.c.Body.Run.Timeout)*time.Millisecond + exec.SlotMargin + 30*time.Second)
	freed := of[ProposeEndings](out)
	if len(freed) == 0 {
		t.Fatal("never freed")
	}
	o.report(them[0], exec.Failed) // the silent node speaks, just then
	o.mute = false
	o.move(o.c.Rollout.End(o.c.Body.Pace, freed[len(freed)-1].Ends)) // the quorum took the freeing
	o.do(EndingsProposed{Command: o.c.ID()})
	o.wait(time.Minute)
	if r := o.c.Rollout; r.Failed != 1 || r.State(uint32(them[0])) != exec.NodeFailed {
		t.Errorf("the failure was lost, and the rollout goes on past Errors: %v, %d failed, stopped %q", r.State(uint32(them[0])), r.Failed, r.Stopped)
	}
}
