package consensus

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node/auth/authtest"
	"github.com/muster-fleet/muster/node/fleet"
)

func TestCommandsFor(t *testing.T) {
	q := founded("a")
	web := q.enrolled(t, "web-1")[0]
	first := q.Nodes[0]
	start := q.s.Act
	plain, both, foreign := q.command(ids(web), nil), q.command(ids(web, first), nil), q.command(ids(first), nil)
	for _, e := range []PutCommand{plain, both, foreign} {
		q.mustPut(t, e)
	}
	read := func(since uint64, n int) (out []fleet.UUID, next uint64) {
		list, next := q.s.CommandsFor(web.ID, since, n)
		for _, c := range list {
			out = append(out, c.ID())
		}
		return out, next
	}
	want := func(since uint64, n int, next uint64, want ...PutCommand) {
		t.Helper()
		got, at := read(since, n)
		if len(got) != len(want) || at != next {
			t.Fatalf("since %d: %v and %d, want %d and %d", since, got, at, len(want), next)
		}
		for i, e := range want {
			if got[i] != commandID(e) {
				t.Errorf("since %d: %d is %v", since, i, got[i])
			}
		}
	}
	want(0, 10, q.s.Act, plain, both)
	want(start, 1, start+1, plain)
	want(start, 0, start+1, plain) // never stands still
	want(start+1, 1, start+2, both)
	want(start+2, 1, q.s.Act)
	want(q.s.Act, 1, q.s.Act)
	want(q.s.Act+100, 1, q.s.Act+100) // a cursor ahead of a lagging replica stays
	want(^uint64(0), 1, ^uint64(0))   // and does not wrap

	// A cancel comes behind everything, also for those who had read all.
	cursor := q.s.Act
	q.mustPut(t, q.cancel(commandID(plain)))
	want(cursor, 10, q.s.Act, plain)
	want(0, 10, q.s.Act, both, plain)

	// A command that can no longer start is of no use; a cancel is, as long as anything may run.
	q.Advance(exec.DefaultExpires + 5*time.Minute)
	q.put(PutAct{})
	want(0, 10, q.s.Act, plain)
	q.Advance(time.Minute + time.Millisecond)
	q.put(PutAct{})
	want(0, 10, q.s.Act)
}

// However commands, cancels and reads interleave, a node that pages on learns of every command and every cancel that
// is meant for it, of each once, and comes to an end.
func TestCursorNeverSkipsNorTurnsInCircles(t *testing.T) {
	base := founded("a")
	nodes := append(base.enrolled(t, "web-1", "web-2"), base.Nodes...)
	rapid.Check(t, func(t *rapid.T) {
		q := base.clone()
		var commands []PutCommand
		cancelled := map[fleet.UUID]bool{}
		readers := make([]reader, len(nodes))
		for i := range readers {
			readers[i] = reader{node: nodes[i], page: rapid.IntRange(1, 3).Draw(t, "page"), plain: map[fleet.UUID]int{}, cancelled: map[fleet.UUID]int{}}
		}
		t.Repeat(map[string]func(*rapid.T){
			"command": func(t *rapid.T) {
				var set []fleet.ID
				for i, bits := 0, rapid.IntRange(1, 1<<len(nodes)-1).Draw(t, "set"); i < len(nodes); i++ {
					if bits>>i&1 == 1 {
						set = append(set, nodes[i].ID)
					}
				}
				e := q.command(set, nil)
				if r := q.put(e); r.Err() != nil {
					t.Fatal(r.Why)
				}
				commands = append(commands, e)
			},
			"cancel": func(t *rapid.T) {
				if len(commands) == 0 {
					t.Skip()
				}
				id := commandID(commands[rapid.IntRange(0, len(commands)-1).Draw(t, "command")])
				if r := q.put(q.cancel(id)); r.Err() != nil {
					t.Fatal(r.Why)
				}
				cancelled[id] = true
			},
			"other act": func(*rapid.T) { q.put(putAct(q.TagNode(nodes[0].ID, nil, false))) },
			"read":      func(t *rapid.T) { readers[rapid.IntRange(0, len(readers)-1).Draw(t, "reader")].read(q.s) },
		})
		for i := range readers {
			r := &readers[i]
			for turns := 0; r.cursor < q.s.Act; turns++ {
				if turns > len(commands)+1 {
					t.Fatalf("%s still reads at %d of %d", r.node.Name, r.cursor, q.s.Act)
				}
				r.read(q.s)
			}
			for _, e := range commands {
				id, meant := commandID(e), exec.Order{Nodes: e.Nodes}.Has(r.node.ID)
				plain, cancels := r.plain[id], r.cancelled[id]
				switch {
				case plain > 1 || cancels > 1 || !meant && plain+cancels > 0 || !cancelled[id] && cancels > 0:
					t.Fatalf("%s got %v %d times, and %d times cancelled", r.node.Name, id, plain, cancels)
				case meant && cancelled[id] && cancels == 0:
					t.Fatalf("%s missed the cancel of %v", r.node.Name, id)
				case meant && !cancelled[id] && plain == 0:
					t.Fatalf("%s missed %v", r.node.Name, id)
				}
			}
		}
	})
}

// reader is a node that catches up by its cursor.
type reader struct {
	node             authtest.Node
	page             int
	cursor           uint64
	plain, cancelled map[fleet.UUID]int
}

func (r *reader) read(s State) {
	list, next := s.CommandsFor(r.node.ID, r.cursor, r.page)
	r.cursor = next
	for _, c := range list {
		if c.Cancel != nil {
			r.cancelled[c.ID()]++
		} else {
			r.plain[c.ID()]++
		}
	}
}
