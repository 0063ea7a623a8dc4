package consensus

import (
	"bytes"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

func grant(e PutCommand, nodes ...uint32) PutGrants { return PutGrants{commandID(e), nodes} }

func end(e PutCommand, as exec.EndKind, nodes ...uint32) PutEndings {
	out := PutEndings{Command: commandID(e)}
	for _, i := range nodes {
		out.Ends = append(out.Ends, exec.Ending{Node: i, As: as})
	}
	return out
}

// town returns a quorum with five nodes, and their IDs.
func town(t testing.TB) (*quorum, []fleet.ID) {
	q := founded("town")
	nodes := append(q.enrolled(t, "web-1", "web-2", "web-3", "web-4"), q.Nodes...)
	return q, exec.SortIDs(ids(nodes...))
}

func TestGrantsAndEndings(t *testing.T) {
	q, nodes := town(t)
	e := q.command(nodes, limited(exec.Pace{Concurrency: 2, Errors: 1}))
	plain := q.command(nodes, nil)
	q.mustPut(t, e)
	q.mustPut(t, plain)
	wantKind(t, q.put(grant(plain, 0)).Err(), fleet.Invalid)
	wantKind(t, q.put(end(plain, exec.EndedOK, 0)).Err(), fleet.Invalid)
	wantKind(t, q.put(PutGrants{q.NewID(), []uint32{0}}).Err(), fleet.NotFound)
	wantKind(t, q.put(PutEndings{q.NewID(), nil}).Err(), fleet.NotFound)

	act, taken, cursor := q.s.Act, q.s.Taken, q.s.Act
	r := q.mustPut(t, grant(e, 0, 1))
	if r.Act != act || q.s.Act != act || q.s.Taken != taken+1 {
		t.Errorf("a grant took act %d after %d", r.Act, act)
	}
	if list, next := q.s.CommandsFor(nodes[0], cursor, 10); len(list) != 0 || next != cursor {
		t.Error("nodes have to catch up on a grant")
	}
	wantKind(t, q.put(grant(e, 2)).Err(), fleet.Conflict)
	wantKind(t, q.put(grant(e, 0, 1)).Err(), fleet.Conflict) // again
	wantKind(t, q.put(PutEndings{commandID(e), nil}).Err(), fleet.Conflict)
	q.mustPut(t, end(e, exec.EndedFailed, 0))
	wantKind(t, q.put(end(e, exec.EndedFailed, 0)).Err(), fleet.Conflict)
	q.mustPut(t, grant(e, 2))
	q.mustPut(t, end(e, exec.EndedFailed, 1, 2))
	if got := q.rollout(t, e); got.Stopped != exec.StoppedByErrors || got.Failed != 3 || !got.Done() {
		t.Errorf("%+v", got)
	}
	wantKind(t, q.put(grant(e, 3)).Err(), fleet.Conflict)
	if got := restore(t, snapshot(t, q.s)); got.Digest() != q.s.Digest() {
		t.Error("read back as another state")
	}
}

func TestGrantsEndWithTheCommand(t *testing.T) {
	q, nodes := town(t)
	e := q.command(nodes, limited(exec.Pace{Errors: 5}))
	q.mustPut(t, e)
	q.Advance(exec.DefaultExpires + auth.MaxSkew - time.Millisecond)
	q.mustPut(t, grant(e, 0))
	if len(q.s.Paced()) != 1 {
		t.Error("not listed among the paced")
	}
	q.Advance(time.Millisecond)
	wantKind(t, q.put(grant(e, 1)).Err(), fleet.Expired)
	q.mustPut(t, end(e, exec.EndedOK, 0)) // what ran may end later
	q.Advance(time.Minute + time.Second)
	q.put(PutAct{})
	if len(q.s.Paced()) != 0 {
		t.Error("what is over is listed among the paced")
	}
	q.Advance(KeepCommands)
	q.mustPut(t, q.command(nodes, nil))
	if q.s.paced.Len() != 0 {
		t.Error("a forgotten command is paced")
	}
}

func TestCancelStopsTheRollout(t *testing.T) {
	q, nodes := town(t)
	e := q.command(nodes, limited(exec.Pace{Errors: 5}))
	q.mustPut(t, e)
	q.mustPut(t, grant(e, 0))
	q.mustPut(t, q.cancel(commandID(e)))
	if got := q.rollout(t, e); got.Stopped != exec.StoppedByCancel || got.Running != 1 {
		t.Errorf("%+v", got)
	}
	wantKind(t, q.put(grant(e, 1)).Err(), fleet.Conflict)
	q.mustPut(t, end(e, exec.EndedAside, 0))
	if !q.rollout(t, e).Done() {
		t.Error("not done")
	}
}

func TestCancelOfSingleNodes(t *testing.T) {
	q, nodes := town(t)
	e := q.command(nodes, limited(exec.Pace{Errors: 5, Concurrency: 1}))
	q.mustPut(t, e)
	id := commandID(e)
	q.mustPut(t, grant(e, 1))
	cursor := q.s.Act
	r := q.mustPut(t, q.cancelOn(id, nodes[0], nodes[1]))
	c, _ := q.s.Command(id)
	if c.Cancel != nil || c.Cancelled != 0 || len(c.Cancels) != 1 || c.Act != r.Act {
		t.Fatalf("%+v", c)
	}
	if s := c.Rollout; s.State(0) != exec.NodeDeclined || s.State(1) != exec.NodeGranted || s.State(2) != exec.NodeIdle || s.Stopped != "" {
		t.Errorf("rollout %v", s.Nodes) // what runs there ends by its own word
	}
	for i, node := range nodes {
		_, cancelled := c.CancelFor(node)
		list, _ := q.s.CommandsFor(node, cursor, 10)
		if cancelled != (i < 2) || len(list) != 1 {
			t.Errorf("node %d: cancelled %v, %d commands to catch up on", i, cancelled, len(list))
		}
	}
	q.mustPut(t, q.cancelOn(id, nodes[1])) // covered
	if again, _ := q.s.Command(id); again != c {
		t.Error("a cancel of what is cancelled changed something")
	}
	for i := 1; i < MaxNodeCancels; i++ { // no node is named twice alone, but every list differs
		q.s = forgetCancel(q.s, id, nodes[2])
		q.mustPut(t, q.cancelOn(id, nodes[2]))
	}
	wantKind(t, q.put(q.cancelOn(id, nodes[3])).Err(), fleet.Exhausted)
	q.mustPut(t, q.cancel(id))
	if c, _ := q.s.Command(id); c.Cancel == nil || len(c.Cancels) != MaxNodeCancels || c.Rollout.Stopped != exec.StoppedByCancel {
		t.Errorf("%+v", c)
	}
	q.mustPut(t, q.cancelOn(id, nodes[3])) // cancelled is cancelled
	if got := restore(t, snapshot(t, q.s)); got.Digest() != q.s.Digest() {
		t.Error("read back as another state")
	}

	// After its expiry, only those whom a cancel concerns hear of it.
	other := q.command(nodes, nil)
	q.mustPut(t, other)
	cursor = q.s.Act
	q.mustPut(t, q.cancelOn(commandID(other), nodes[0]))
	q.Advance(exec.DefaultExpires + auth.MaxSkew)
	q.put(PutAct{})
	for i, node := range nodes {
		if list, _ := q.s.CommandsFor(node, cursor, 10); len(list) != map[bool]int{true: 1}[i == 0] {
			t.Errorf("node %d has %d commands to catch up on", i, len(list))
		}
	}
}

// forgetCancel makes the state forget that a node is cancelled, so that it can be cancelled again.
func forgetCancel(s State, id fleet.UUID, node fleet.ID) State {
	c, _ := s.Command(id)
	next := *c
	next.cancelled = append([][]fleet.ID(nil), c.cancelled...)
	for i, nodes := range next.cancelled {
		if len(nodes) == 1 && nodes[0] == node {
			next.cancelled[i] = nil
		}
	}
	s.keep(&next)
	return s
}

func TestCancelOfSingleNodesRefusals(t *testing.T) {
	q, nodes := town(t)
	bob := bobOf(q)
	q.mustPut(t, putAct(q.Charter(auth.CharterPutPolicy, auth.PutPolicy{Policy: auth.FirstPolicy +
		`permit (principal in Team::"web", action == Action::"cancel", resource == Node::"web-1");`})))
	e := q.command(nodes[:4], nil)
	q.mustPut(t, e)
	web1, _ := q.s.Record.Roster.ByName("web-1")
	web2, _ := q.s.Record.Roster.ByName("web-2")
	by := func(nodes ...fleet.ID) PutCancel {
		return PutCancel{bob.Sign(auth.ForCancel, q.ID(), exec.Cancel{Header: q.Header(time.Hour), Command: commandID(e), Nodes: nodes})}
	}
	wantKind(t, q.put(by(exec.SortIDs([]fleet.ID{web1.ID, web2.ID})...)).Err(), fleet.Denied)
	wantKind(t, q.put(by()).Err(), fleet.Denied)
	wantKind(t, q.put(q.cancelOn(commandID(e), nodes[4])).Err(), fleet.NotFound)
	wantKind(t, q.put(by(fleet.ID{2}, fleet.ID{1})).Err(), fleet.Invalid)
	if (exec.Order{Nodes: nodes[:4]}).Has(web1.ID) {
		q.mustPut(t, by(web1.ID))
	}
}

// linkedCommands puts a main command in waves of 2, 3 and 5 with its gates and what is run on a stop.
func linkedCommands(t testing.TB, q *quorum, nodes []fleet.ID, errors uint32) (main PutCommand, gates []PutCommand, onStop PutCommand) {
	t.Helper()
	id := q.NewID()
	follower := func(wave uint32) PutCommand {
		e := q.command(nodes, func(c *exec.Command) {
			c.Pace, c.After = exec.Pace{Limited: true, Errors: 5}, exec.After{Command: id, Wave: wave}
		})
		if r := q.put(e); r.Err() != nil {
			t.Fatal(r.Why)
		}
		return e
	}
	gates, onStop = []PutCommand{follower(1), follower(2)}, follower(0)
	main = q.command(nodes, func(c *exec.Command) {
		c.Header.ID = id
		c.Pace = exec.Pace{
			Limited: true, Errors: errors, Waves: []uint32{2, 3, 5}, Gates: []fleet.UUID{commandID(gates[0]), commandID(gates[1])}, OnStop: commandID(onStop),
		}
	})
	if r := q.put(main); r.Err() != nil {
		t.Fatal(r.Why)
	}
	return main, gates, onStop
}

func TestLinkedCommands(t *testing.T) {
	q, nodes := town(t)
	start := q.s.Act
	main, gates, onStop := linkedCommands(t, q, nodes, 1)
	if list, _ := q.s.CommandsFor(nodes[0], start, 10); len(list) != 1 || list[0].ID() != commandID(main) {
		t.Error("commands that wait for another are brought before their turn")
	}
	wantKind(t, q.put(grant(gates[0], 0)).Err(), fleet.Conflict)
	q.mustPut(t, grant(main, 0, 1))
	q.mustPut(t, end(main, exec.EndedOK, 0, 1))
	wantKind(t, q.put(grant(main, 2)).Err(), fleet.Conflict)
	wantKind(t, q.put(grant(gates[1], 0)).Err(), fleet.Conflict)
	restarted := func(node int) int {
		list, _ := q.s.CommandsFor(nodes[node], start, 10)
		return len(list)
	}
	if restarted(0) != 2 || restarted(2) != 1 {
		t.Error("a host that was restarted does not find the gate that is for it, or another does")
	}
	q.mustPut(t, grant(gates[0], 0, 1))
	if restarted(0) != 2 {
		t.Error("a host that was restarted does not find what it was granted")
	}
	q.mustPut(t, end(gates[0], exec.EndedOK, 0, 1))
	if restarted(0) != 1 {
		t.Error("a gate that has ended is brought")
	}
	if got := q.rollout(t, main); got.Wave != 1 {
		t.Fatalf("the gate does not open: %+v", got)
	}
	q.mustPut(t, grant(main, 2))
	q.mustPut(t, end(main, exec.EndedOK, 2))
	q.mustPut(t, grant(gates[1], 0, 1, 2))
	q.mustPut(t, end(gates[1], exec.EndedFailed, 2))
	if got := q.rollout(t, main); got.Stopped != exec.StoppedByGate {
		t.Fatalf("a failed gate does not stop: %+v", got)
	}
	q.mustPut(t, grant(onStop, 0, 1, 2))
	wantKind(t, q.put(grant(onStop, 3)).Err(), fleet.Conflict)
	if got := restore(t, snapshot(t, q.s)); got.Digest() != q.s.Digest() {
		t.Error("read back as another state")
	}
	// A cancel of a command that waits is brought, too: it may be running.
	cursor := q.s.Act
	q.mustPut(t, q.cancel(commandID(gates[1])))
	if list, _ := q.s.CommandsFor(nodes[0], cursor, 10); len(list) != 1 || list[0].ID() != commandID(gates[1]) {
		t.Error("the cancel of a gate is not brought")
	}
}

func TestCancelRollsBack(t *testing.T) {
	q, nodes := town(t)
	main, gates, onStop := linkedCommands(t, q, nodes, 1)
	q.mustPut(t, grant(main, 0, 1))
	q.mustPut(t, end(main, exec.EndedOK, 0))
	q.mustPut(t, q.cancel(commandID(main)))
	if got := q.rollout(t, onStop); got.State(0) != exec.NodeIdle || got.State(1) != exec.NodeBarred {
		t.Errorf("%v", got.Nodes)
	}
	q.mustPut(t, end(main, exec.EndedAside, 1))
	if got := q.rollout(t, onStop); got.State(1) != exec.NodeIdle || q.rollout(t, gates[0]).Stopped != exec.StoppedUnneeded {
		t.Errorf("%v", got.Nodes)
	}
}

func TestLinksAreChecked(t *testing.T) {
	for name, c := range map[string]struct {
		want  fleet.Kind
		alter func(q *quorum, nodes []fleet.ID, gate, main *exec.Command)
	}{
		"good":              {fleet.Internal, func(*quorum, []fleet.ID, *exec.Command, *exec.Command) {}},
		"not there":         {fleet.NotFound, func(q *quorum, _ []fleet.ID, _, main *exec.Command) { main.Pace.Gates[0] = q.NewID() }},
		"for another":       {fleet.Invalid, func(q *quorum, _ []fleet.ID, gate, _ *exec.Command) { gate.After.Command = q.NewID() }},
		"for another wave":  {fleet.Invalid, func(_ *quorum, _ []fleet.ID, gate, _ *exec.Command) { gate.After.Wave = 2 }},
		"waits for nothing": {fleet.Invalid, func(_ *quorum, _ []fleet.ID, gate, _ *exec.Command) { gate.After = exec.After{} }},
		"as roll-back": {fleet.Invalid, func(_ *quorum, _ []fleet.ID, _, main *exec.Command) {
			main.Pace.Gates, main.Pace.OnStop = nil, main.Pace.Gates[0]
		}},
		"another set": {fleet.Invalid, func(_ *quorum, nodes []fleet.ID, gate, _ *exec.Command) {
			gate.Count, gate.Set = 1, exec.SetDigest(nodes[:1])
		}},
		"another operator's": {fleet.Denied, nil},
		"cancelled":          {fleet.Conflict, nil},
	} {
		t.Run(name, func(t *testing.T) {
			q, nodes := town(t)
			bob := bobOf(q)
			gateSet, gateBy := nodes, q.Operator
			var gate, main exec.Command
			draft := func(into *exec.Command) func(*exec.Command) { return func(c *exec.Command) { *into = *c } }
			q.command(nodes, draft(&gate))
			q.command(nodes, draft(&main))
			gate.Pace, gate.After = exec.Pace{Limited: true}, exec.After{Command: main.Header.ID, Wave: 1}
			main.Pace = exec.Pace{Limited: true, Waves: []uint32{1, 5}, Gates: []fleet.UUID{gate.Header.ID}}
			if c.alter != nil {
				c.alter(q, nodes, &gate, &main)
			}
			if gate.Count == 1 {
				gateSet = nodes[:1]
			}
			if c.want == fleet.Denied {
				gateBy = bob
			}
			put := func(by auth.Signer, nodes []fleet.ID, body exec.Command) Result {
				return q.put(q.commandBy(by, nodes, func(c *exec.Command) { *c = body }))
			}
			if r := put(gateBy, gateSet, gate); r.Err() != nil {
				t.Fatal(r.Why)
			}
			if c.want == fleet.Conflict {
				q.mustPut(t, q.cancel(gate.Header.ID))
			}
			r := put(q.Operator, nodes, main)
			if c.want == fleet.Internal {
				if r.Err() != nil {
					t.Fatal(r.Why)
				}
				// Behind its command nothing can be hung on it.
				q.command(nodes, draft(&gate))
				gate.Pace, gate.After = exec.Pace{Limited: true}, exec.After{Command: main.Header.ID}
				wantKind(t, put(q.Operator, nodes, gate).Err(), fleet.Conflict)
				return
			}
			wantKind(t, r.Err(), c.want)
		})
	}
}

func TestDirectCommandsAreNotOrdered(t *testing.T) {
	q, nodes := town(t)
	wantKind(t, q.put(q.command(nodes, func(c *exec.Command) {
		c.Header.Mode, c.Header.Expires = auth.Direct, c.Header.Issued+60_000
	})).Err(), fleet.Invalid)
}

func TestRecordsKeep(t *testing.T) {
	q, nodes := town(t)
	q.mustPut(t, q.setting(auth.SettingRecordsKeep, "2d"))
	e := q.command(nodes, nil)
	q.mustPut(t, e)
	q.Advance(48 * time.Hour)
	q.mustPut(t, q.command(nodes, nil))
	if _, ok := q.s.Command(commandID(e)); !ok {
		t.Error("forgotten before its time")
	}
	q.Advance(time.Millisecond)
	q.mustPut(t, q.command(nodes, nil))
	if _, ok := q.s.Command(commandID(e)); ok {
		t.Error("kept beyond its time")
	}
}

// Servers that propose whatever they like break no bound that the operator signed: neither of the command, nor of its
// gates, nor of what is run on a stop. A bystander counts, who sees only which grants and which first ends were taken.
func TestNoProposerBreaksARollout(t *testing.T) {
	base := founded("adversary")
	nodes := exec.SortIDs(ids(append(base.enrolled(t, "web-1", "web-2", "web-3", "web-4"), base.Nodes...)...))
	rapid.Check(t, func(rt *rapid.T) {
		q := base.clone()
		strict := rapid.Bool().Draw(rt, "strict")
		concurrency, errors := rapid.Uint32Range(0, 3).Draw(rt, "concurrency"), rapid.Uint32Range(0, 3).Draw(rt, "errors")
		id := q.NewID()
		var all []PutCommand
		put := func(e PutCommand) {
			if r := q.put(e); r.Err() != nil {
				rt.Fatal(r.Why)
			}
			all = append(all, e)
		}
		for _, wave := range []uint32{1, 2, 0} {
			put(q.command(nodes, func(c *exec.Command) {
				c.Pace, c.After = exec.Pace{Limited: true, Errors: errors, Concurrency: concurrency, Strict: strict}, exec.After{Command: id, Wave: wave}
			}))
		}
		put(q.command(nodes, func(c *exec.Command) {
			c.Header.ID = id
			c.Pace = exec.Pace{
				Limited: true, Errors: errors, Concurrency: concurrency, Strict: strict, Waves: []uint32{1, 3, 5},
				Gates: []fleet.UUID{commandID(all[0]), commandID(all[1])}, OnStop: commandID(all[2]),
			}
		}))
		seen := map[fleet.UUID]*bystander{}
		for _, e := range all {
			seen[commandID(e)] = &bystander{state: map[uint32]exec.EndKind{}}
		}
		gate1, gate2, onStop, main := seen[commandID(all[0])], seen[commandID(all[1])], seen[commandID(all[2])], seen[id]
		place := rapid.Uint32Range(0, 5)
		rt.Repeat(map[string]func(*rapid.T){
			"grant": func(t *rapid.T) {
				e := PutGrants{commandID(pick(t, "command", all)), rapid.SliceOfN(place, 1, 3).Draw(t, "nodes")}
				if rapid.Bool().Draw(t, "honest") {
					c, _ := q.s.Command(e.Command)
					if e.Nodes = c.Rollout.Pick(c.Body.Pace, []uint32{4, 3, 2, 1, 0}); len(e.Nodes) == 0 {
						t.Skip()
					}
				}
				if r := q.put(e); r.Err() != nil {
					return
				}
				b := seen[e.Command]
				for _, i := range e.Nodes {
					b.grant(t, i)
					switch b {
					case main:
						if n := main.took(); n > 1 && !gate1.passed() || n > 3 && !gate2.passed() {
							t.Fatalf("node %d was granted before the gate: %d granted", i, n)
						}
					case gate1, gate2:
						if main.state[i] != exec.EndedOK {
							t.Fatalf("gate on node %d, which came to %d", i, main.state[i])
						}
					case onStop:
						if s := main.state[i]; s != exec.EndedOK && s != exec.EndedFailed && s != exec.EndedAside {
							t.Fatalf("roll-back on node %d, which came to %d", i, s)
						}
						if c, _ := q.s.Command(id); c.Rollout.Stopped == "" {
							t.Fatal("roll-back without a stop")
						}
					}
				}
			},
			"end": func(t *rapid.T) {
				e := PutEndings{Command: commandID(pick(t, "command", all))}
				for range rapid.IntRange(1, 3).Draw(t, "ends") {
					e.Ends = append(e.Ends, exec.Ending{Node: place.Draw(t, "node"), As: exec.EndKind(rapid.IntRange(0, 6).Draw(t, "as"))})
				}
				if r := q.put(e); r.Err() == nil {
					for _, x := range e.Ends {
						seen[e.Command].end(x, strict)
					}
				}
			},
			"snapshot": func(t *rapid.T) {
				if rapid.IntRange(0, 3).Draw(t, "now") > 0 { // it verifies the whole record
					t.Skip()
				}
				back := restoreIn(t, q.s)
				if back.Digest() != q.s.Digest() {
					t.Fatal("read back as another state")
				}
				q.s = back
			},
			"cancel":      func(t *rapid.T) { q.put(q.cancel(commandID(pick(t, "command", all)))) },
			"cancel node": func(t *rapid.T) { q.put(q.cancelOn(commandID(pick(t, "command", all)), pick(t, "node", nodes))) },
			"": func(t *rapid.T) {
				for id, b := range seen {
					c, _ := q.s.Command(id)
					b.check(t, c)
				}
			},
		})
	})
}

func restoreIn(t *rapid.T, s State) State {
	var out bytes.Buffer
	if err := s.WriteSnapshot(&out); err != nil {
		t.Fatal(err)
	}
	back, err := ReadSnapshot(&out)
	if err != nil {
		t.Fatal(err)
	}
	return back
}

// bystander notes what became of the nodes of one command: 0 while it runs.
type bystander struct {
	state map[uint32]exec.EndKind // of those granted
}

func (b *bystander) grant(t *rapid.T, i uint32) {
	if s, had := b.state[i]; had && s != exec.EndFreed {
		t.Fatalf("node %d was granted twice", i)
	}
	b.state[i] = 0
}

func (b *bystander) end(e exec.Ending, strict bool) {
	s, granted := b.state[e.Node]
	switch {
	case !granted || s != 0 && s != exec.EndFreed || e.As == 0 || e.As > exec.EndedUnrun:
	case e.As == exec.EndFreed && (strict || s != 0):
	default:
		b.state[e.Node] = e.As
	}
}

func (b *bystander) count(as exec.EndKind) (n int) {
	for _, s := range b.state {
		if s == as {
			n++
		}
	}
	return n
}

// took counts the nodes that were granted and did not say that nothing ever ran there.
func (b *bystander) took() int { return len(b.state) - b.count(exec.EndedUnrun) }

// passed reports whether this gate ended well wherever it was granted, and was granted somewhere.
func (b *bystander) passed() bool {
	return b.count(exec.EndedOK) > 0 && b.count(exec.EndedOK) == len(b.state)
}

func (b *bystander) check(t *rapid.T, c *Command) {
	p, running, failed := c.Body.Pace, b.count(0), b.count(exec.EndedFailed)
	switch {
	case p.Concurrency > 0 && running > int(p.Concurrency):
		t.Fatalf("%d run, %d may", running, p.Concurrency)
	case p.Strict && running+failed > int(p.Errors)+1:
		t.Fatalf("%d run and %d failed, %d are borne", running, failed, p.Errors)
	case len(p.Waves) > 0 && b.took() > int(p.Waves[c.Rollout.Wave]):
		t.Fatalf("%d granted in wave %d", b.took(), c.Rollout.Wave)
	case int(c.Rollout.Failed) != failed || int(c.Rollout.Running) != running:
		t.Fatalf("counted %+v, are %d running, %d failed", c.Rollout, running, failed)
	}
	if err := c.Rollout.Check(c.Body); err != nil {
		t.Fatal(err)
	}
}

func BenchmarkApplyGrantsOf10000Nodes(b *testing.B) {
	q, set := crowd(b, exec.MaxTargets)
	e, now := q.command(set, limited(exec.Pace{Concurrency: 5_000, Errors: 10})), q.Now.UnixMilli()
	q.mustPut(b, e)
	g := grant(e)
	for i := range uint32(50) {
		g.Nodes = append(g.Nodes, i*100)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, r := q.s.Apply(g, now); r.Err() != nil {
			b.Fatal(r.Why)
		}
	}
}
