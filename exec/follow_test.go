package exec_test

import (
	"testing"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node/fleet"
)

// linked is a main command of five nodes in waves of 2, 4 and 5, with its gates and what is run on a stop.
type linked struct {
	t      *testing.T
	pace   exec.Pace
	follow exec.Pace
	main   exec.Rollout
	gates  []exec.Rollout
	onStop []exec.Rollout
}

func newLinked(t *testing.T) *linked {
	l := &linked{
		t:      t,
		pace:   exec.Pace{Limited: true, Errors: 2, Waves: []uint32{2, 4, 5}, Gates: []fleet.UUID{{1}, {2}}, OnStop: fleet.UUID{3}},
		follow: exec.Pace{Limited: true, Errors: 5},
	}
	l.main = exec.NewRollout(exec.Command{Count: 5, Pace: l.pace})
	waiting := exec.NewRollout(exec.Command{Count: 5, Pace: l.follow, After: exec.After{Command: fleet.UUID{9}, Wave: 1}})
	l.gates, l.onStop = []exec.Rollout{waiting, waiting}, []exec.Rollout{waiting}
	return l
}

// do grants and ends nodes of one rollout, and follows.
func (l *linked) do(r *exec.Rollout, p exec.Pace, grant []uint32, es ...exec.Ending) {
	l.t.Helper()
	if len(grant) > 0 {
		var err error
		if *r, err = r.Grant(p, grant); err != nil {
			l.t.Fatal(err)
		}
	}
	*r = r.End(p, es)
	l.main, l.gates, l.onStop = exec.Follow(l.pace, l.main, l.gates, l.onStop)
}

func (l *linked) is(main, gate1, gate2, onStop string, wave uint32, stopped string) {
	l.t.Helper()
	if letters(l.main) != main || letters(l.gates[0]) != gate1 || letters(l.gates[1]) != gate2 || letters(l.onStop[0]) != onStop || l.main.Wave != wave || l.main.Stopped != stopped {
		l.t.Fatalf("main %s wave %d %q, gates %s %s, on-stop %s; want %s wave %d %q, %s %s, %s", letters(l.main), l.main.Wave, l.main.Stopped,
			letters(l.gates[0]), letters(l.gates[1]), letters(l.onStop[0]), main, wave, stopped, gate1, gate2, onStop)
	}
}

func TestGatesLetWavesThrough(t *testing.T) {
	l := newLinked(t)
	l.do(&l.main, l.pace, []uint32{0, 1}, ok(0))
	l.is("ogiii", "bbbbb", "bbbbb", "bbbbb", 0, "")
	l.do(&l.main, l.pace, nil, failed(1)) // the gate is for those that ended well
	l.is("ofiii", "ibbbb", "bbbbb", "bbbbb", 0, "")
	if l.main.Room(l.pace) != 0 {
		t.Fatal("the next wave began before its gate")
	}
	l.do(&l.gates[0], l.follow, []uint32{0})
	l.is("ofiii", "gbbbb", "bbbbb", "bbbbb", 0, "")
	l.do(&l.gates[0], l.follow, nil, ok(0))
	l.is("ofiii", "obbbb", "bbbbb", "bbbbb", 1, "")
	if !l.gates[0].Done() || l.gates[1].Done() || l.onStop[0].Done() || l.main.Room(l.pace) != 2 {
		t.Fatalf("gate 1 is not done, or others are: %+v", l.gates[0])
	}
	l.do(&l.main, l.pace, []uint32{2, 4}, ok(2), ok(4))
	l.is("ofoio", "obbbb", "ibibi", "bbbbb", 1, "") // all that ended well so far
	l.do(&l.gates[1], l.follow, []uint32{0, 2, 4}, ok(0), ok(2), ok(4))
	l.is("ofoio", "obbbb", "obobo", "bbbbb", 2, "")
	l.do(&l.main, l.pace, []uint32{3}, ok(3))
	l.is("ofooo", "obbbb", "obobo", "bbbbb", 2, "")
	if !l.main.Done() || l.onStop[0].Stopped != exec.StoppedUnneeded || !l.onStop[0].Done() {
		t.Fatalf("at the end: %+v, %+v", l.main, l.onStop[0])
	}
}

func TestGateStopsAndRollsBack(t *testing.T) {
	for name, c := range map[string]struct {
		end  exec.Ending
		gate string
	}{
		"failed": {failed(1), "ofbbb"}, "cancelled there": {aside(1), "oabbb"}, "silent": {freed(1), "oxbbb"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLinked(t)
			l.do(&l.main, l.pace, []uint32{0, 1}, ok(0), ok(1))
			l.do(&l.gates[0], l.follow, []uint32{0, 1}, ok(0), c.end)
			l.is("ooiii", c.gate, "bbbbb", "iibbb", 0, exec.StoppedByGate)
			if l.gates[0].Stopped != exec.StoppedByErrors || l.gates[1].Stopped != exec.StoppedUnneeded || !l.main.Done() || l.onStop[0].Waits {
				t.Fatalf("gate 2 %+v, on-stop %+v", l.gates[1], l.onStop[0])
			}
			l.do(&l.onStop[0], l.follow, []uint32{0, 1}, ok(0), failed(1))
			l.is("ooiii", c.gate, "bbbbb", "ofbbb", 0, exec.StoppedByGate)
			if !l.onStop[0].Done() {
				t.Fatal("the roll-back is not done")
			}
		})
	}
	t.Run("refused there", func(t *testing.T) {
		l := newLinked(t)
		l.do(&l.gates[0], l.follow, nil, aside(1))
		l.is("iiiii", "bdbbb", "bbbbb", "bbbbb", 0, "") // not for it yet
		l.do(&l.main, l.pace, []uint32{0, 1}, ok(0), ok(1))
		l.is("ooiii", "idbbb", "bbbbb", "iibbb", 0, exec.StoppedByGate)
	})
	t.Run("cancelled", func(t *testing.T) {
		l := newLinked(t)
		l.gates[0] = l.gates[0].Stop(exec.StoppedByCancel)
		l.do(&l.main, l.pace, []uint32{0, 1}, ok(0), ok(1))
		l.is("ooiii", "iibbb", "bbbbb", "iibbb", 0, exec.StoppedByGate)
	})
	t.Run("forgotten", func(t *testing.T) {
		l := newLinked(t)
		l.gates[0] = exec.Rollout{}
		l.do(&l.main, l.pace, []uint32{0, 1}, ok(0), ok(1))
		if l.main.Wave != 0 || l.main.Room(l.pace) != 0 {
			t.Fatal("a gate that is not there lets through")
		}
	})
}

// A gate that nobody could be asked at has not succeeded.
func TestNoNodeToGate(t *testing.T) {
	l := newLinked(t)
	l.do(&l.main, l.pace, []uint32{0, 1}, failed(0), aside(1))
	l.is("faiii", "bbbbb", "bbbbb", "iibbb", 0, exec.StoppedByGate)
}

// What never ran is no canary, and there is nothing to roll back.
func TestNodesThatNeverRan(t *testing.T) {
	l := newLinked(t)
	l.do(&l.main, l.pace, []uint32{0, 1}, unrun(0), unrun(1))
	l.is("ddiii", "bbbbb", "bbbbb", "bbbbb", 0, "")
	l.do(&l.main, l.pace, []uint32{2, 3}, failed(2), failed(3))
	l.is("ddffi", "bbbbb", "bbbbb", "bbiib", 0, exec.StoppedByGate)
}

func TestOnStop(t *testing.T) {
	l := newLinked(t)
	l.pace.Gates, l.pace.Waves, l.gates = nil, nil, []exec.Rollout{{}, {}}
	follow := func(es ...exec.Ending) {
		l.main = l.main.End(l.pace, es)
		l.main, _, l.onStop = exec.Follow(l.pace, l.main, nil, l.onStop)
	}
	l.main, _ = l.main.Grant(l.pace, []uint32{0, 1, 2, 3})
	follow(ok(0))
	if letters(l.onStop[0]) != "bbbbb" {
		t.Fatal("run before the stop")
	}
	l.main = l.main.Stop(exec.StoppedByErrors)
	follow(failed(1), freed(2))
	if letters(l.onStop[0]) != "iibbb" {
		t.Fatalf("on-stop %s", letters(l.onStop[0]))
	}
	follow(aside(2), aside(4)) // the silent one speaks; another never took part
	if letters(l.onStop[0]) != "iiibb" || !l.onStop[0].Waits {
		t.Fatalf("on-stop %s", letters(l.onStop[0])) // one runs still
	}
	follow(ok(3))
	if letters(l.onStop[0]) != "iiiib" || l.onStop[0].Waits {
		t.Fatalf("on-stop %s", letters(l.onStop[0]))
	}

	// A silent node may still fail and stop a command that seems done.
	l = newLinked(t)
	l.pace = exec.Pace{Limited: true, OnStop: fleet.UUID{3}}
	l.main = exec.NewRollout(exec.Command{Count: 1, Pace: l.pace})
	l.main, _ = l.main.Grant(l.pace, []uint32{0})
	follow(freed(0))
	if !l.main.Done() || l.onStop[0].Stopped != "" {
		t.Fatalf("given up too early: %+v", l.onStop[0])
	}
	follow(failed(0))
	if l.main.Stopped != exec.StoppedByErrors || l.onStop[0].State(0) != exec.NodeIdle {
		t.Fatalf("%+v, on-stop %s", l.main, letters(l.onStop[0]))
	}
}
