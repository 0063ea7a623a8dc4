package exec_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node/fleet"
)

func paced(count uint32, p exec.Pace) exec.Command {
	p.Limited = true
	return exec.Command{Count: count, Pace: p}
}

// step is what a test does to a rollout: grants, or ends.
type step struct {
	grant []uint32
	ends  []exec.Ending
	want  string // states, one letter each
	room  uint32
	stop  string
	wave  uint32
}

func letters(r exec.Rollout) string {
	var out []byte
	for i := range r.Nodes {
		out = append(out, "igofaxdb"[r.State(uint32(i))])
	}
	return string(out)
}

func ok(i uint32) exec.Ending     { return exec.Ending{Node: i, As: exec.EndedOK} }
func failed(i uint32) exec.Ending { return exec.Ending{Node: i, As: exec.EndedFailed} }
func aside(i uint32) exec.Ending  { return exec.Ending{Node: i, As: exec.EndedAside} }
func unrun(i uint32) exec.Ending  { return exec.Ending{Node: i, As: exec.EndedUnrun} }
func freed(i uint32) exec.Ending  { return exec.Ending{Node: i, As: exec.EndFreed} }

func grants(nodes ...uint32) step { return step{grant: nodes} }
func ends(e ...exec.Ending) step  { return step{ends: e} }

func (s step) is(want string, room uint32) step { s.want, s.room = want, room; return s }
func (s step) stopped(why string) step          { s.stop = why; return s }
func (s step) inWave(w uint32) step             { s.wave = w; return s }

func TestRollout(t *testing.T) {
	for name, c := range map[string]struct {
		pace  exec.Pace
		steps []step
	}{
		"concurrency": {exec.Pace{Concurrency: 2, Errors: 4}, []step{
			grants(0, 1).is("ggiii", 0), ends(ok(0)).is("ogiii", 1), grants(4).is("ogiig", 0), ends(failed(1), aside(4)).is("ofiia", 2),
		}},
		"soft: what runs may still fail": {exec.Pace{Concurrency: 3, Errors: 1}, []step{
			grants(0, 1, 2).is("gggii", 0), ends(failed(0)).is("fggii", 1), ends(failed(1)).is("ffgii", 0).stopped("errors"), ends(failed(2)).is("fffii", 0).stopped("errors"),
		}},
		"errors 0 stops at the first": {exec.Pace{Concurrency: 1}, []step{grants(3).is("iiigi", 0), ends(failed(3)).is("iiifi", 0).stopped("errors")}},
		"no limit but the errors":     {exec.Pace{Errors: 5}, []step{grants(0, 1, 2, 3, 4).is("ggggg", 0), ends(failed(0), failed(1), failed(2)).is("fffgg", 0)}},
		"strict": {exec.Pace{Strict: true, Errors: 1, Concurrency: 5}, []step{
			grants(0, 1).is("ggiii", 0), ends(failed(0)).is("fgiii", 0), ends(ok(1)).is("foiii", 1), grants(2).is("fogii", 0), ends(failed(2)).is("fofii", 0).stopped("errors"),
		}},
		"strict: nobody is freed":      {exec.Pace{Strict: true, Errors: 0}, []step{grants(0).is("giiii", 0), ends(freed(0)).is("giiii", 0), ends(aside(0)).is("aiiii", 1)}},
		"strict, fewer at a time":      {exec.Pace{Strict: true, Errors: 3, Concurrency: 1}, []step{grants(0).is("giiii", 0)}},
		"freed, and back with its end": {exec.Pace{Concurrency: 1}, []step{grants(0).is("giiii", 0), ends(freed(0)).is("xiiii", 1), ends(failed(0)).is("fiiii", 0).stopped("errors")}},
		"freed, and granted again":     {exec.Pace{Concurrency: 1}, []step{grants(0).is("giiii", 0), ends(freed(0)).is("xiiii", 1), grants(0).is("giiii", 0), ends(ok(0)).is("oiiii", 1)}},
		"ends without a grant count for nothing": {exec.Pace{Concurrency: 2}, []step{
			ends(failed(0), ok(1), aside(2), freed(3)).is("dddii", 2), grants(3).is("dddgi", 1),
		}},
		"the first end stands": {exec.Pace{Errors: 5}, []step{grants(0, 1).is("ggiii", 3), ends(failed(0), ok(0), ok(1)).is("foiii", 3), ends(ok(0), failed(1), aside(1)).is("foiii", 3)}},
		"waves": {exec.Pace{Waves: []uint32{1, 3, 5}, Errors: 5}, []step{
			grants(2).is("iigii", 0), ends(ok(2)).is("iioii", 2).inWave(1), grants(0).is("gioii", 1).inWave(1), ends(ok(0)).is("oioii", 1).inWave(1),
			grants(1).is("ogoii", 0).inWave(1), ends(failed(1)).is("ofoii", 2).inWave(2),
		}},
		"a wave does not end while one runs":    {exec.Pace{Waves: []uint32{2, 5}}, []step{grants(0, 1).is("ggiii", 0), ends(ok(0)).is("ogiii", 0), ends(aside(1)).is("oaiii", 3).inWave(1)}},
		"a silent node does not hold a wave":    {exec.Pace{Waves: []uint32{2, 5}}, []step{grants(0, 1).is("ggiii", 0), ends(ok(0), freed(1)).is("oxiii", 3).inWave(1)}},
		"who declines takes no place in a wave": {exec.Pace{Waves: []uint32{1, 5}}, []step{ends(aside(0)).is("diiii", 1), grants(1).is("dgiii", 0), ends(ok(1)).is("doiii", 3).inWave(1)}},
		"who never ran takes no place in a wave": {exec.Pace{Waves: []uint32{1, 5}}, []step{
			grants(0).is("giiii", 0), ends(unrun(0)).is("diiii", 1), grants(1).is("dgiii", 0), ends(ok(1)).is("doiii", 3).inWave(1),
		}},
		"who was freed and never ran neither": {exec.Pace{Waves: []uint32{2, 5}}, []step{
			grants(0, 1).is("ggiii", 0), ends(freed(0)).is("xgiii", 0), ends(unrun(0)).is("dgiii", 1), grants(2).is("dggii", 0), ends(ok(1), ok(2)).is("dooii", 2).inWave(1),
		}},
		"a gate holds the wave":                   {exec.Pace{Waves: []uint32{1, 5}, Gates: []fleet.UUID{{7}}}, []step{grants(0).is("giiii", 0), ends(ok(0)).is("oiiii", 0)}},
		"ends of nodes that are none are ignored": {exec.Pace{Concurrency: 1}, []step{ends(ok(5), ok(1<<31), exec.Ending{Node: 0, As: 9}, exec.Ending{}).is("iiiii", 1)}},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := paced(5, c.pace)
			r := exec.NewRollout(cmd)
			for i, s := range c.steps {
				before, held := r, slices.Clone(r.Nodes)
				if s.grant != nil {
					var err error
					if r, err = r.Grant(cmd.Pace, s.grant); err != nil {
						t.Fatalf("step %d: %v", i, err)
					}
				}
				r = r.End(cmd.Pace, s.ends)
				if letters(r) != s.want || r.Room(cmd.Pace) != s.room || r.Stopped != s.stop || r.Wave != s.wave {
					t.Fatalf("step %d: %s, room %d, stopped %q, wave %d; want %s, %d, %q, %d", i, letters(r), r.Room(cmd.Pace), r.Stopped, r.Wave, s.want, s.room, s.stop, s.wave)
				}
				if err := r.Check(cmd); err != nil {
					t.Fatalf("step %d: %v", i, err)
				}
				if again := r.End(cmd.Pace, s.ends); !again.Equal(r) {
					t.Fatalf("step %d: told twice, it makes %s of %s", i, letters(again), letters(r))
				}
				if !bytes.Equal(before.Nodes, held) {
					t.Fatalf("step %d changed an old value", i)
				}
			}
		})
	}
}

func TestGrantRefuses(t *testing.T) {
	cmd := paced(5, exec.Pace{Concurrency: 2, Errors: 1})
	r := exec.NewRollout(cmd)
	r, _ = r.Grant(cmd.Pace, []uint32{0})
	for name, nodes := range map[string][]uint32{
		"nobody": {}, "twice": {1, 1}, "one that has one": {0}, "more than there is room": {1, 2}, "one that is none": {5}, "far beyond": {1<<32 - 1},
	} {
		if next, err := r.Grant(cmd.Pace, nodes); err == nil || !next.Equal(r) {
			t.Errorf("%s: %v, %s", name, err, letters(next))
		}
	}
	if _, err := r.Stop(exec.StoppedByCancel).Grant(cmd.Pace, []uint32{1}); err == nil {
		t.Error("a stopped rollout grants")
	}
	if _, err := (exec.Rollout{}).Grant(cmd.Pace, []uint32{0}); err == nil {
		t.Error("a command without limits grants")
	}
	if picked := r.Pick(cmd.Pace, []uint32{0, 9, 3, 3, 2, 1}); !slices.Equal(picked, []uint32{3}) {
		t.Errorf("picked %v", picked)
	}
}

func TestRolloutDone(t *testing.T) {
	cmd := paced(2, exec.Pace{Concurrency: 1})
	r := exec.NewRollout(cmd)
	if r.Done() || !(exec.Rollout{}).Done() {
		t.Error("done before it began, or never without limits")
	}
	r, _ = r.Grant(cmd.Pace, []uint32{0})
	stopped := r.Stop(exec.StoppedByCancel)
	if r.Done() || stopped.Done() {
		t.Error("done while a node runs")
	}
	if !stopped.End(cmd.Pace, []exec.Ending{aside(0)}).Done() {
		t.Error("stopped, and nobody runs: not done")
	}
	if r = r.End(cmd.Pace, []exec.Ending{ok(0)}); r.Done() {
		t.Error("done with a node to come")
	}
	if r = r.Withdraw(cmd.Pace, []uint32{0, 1}); !r.Done() || letters(r) != "od" {
		t.Errorf("withdrawn: %s", letters(r))
	}
	if r = r.Stop("errors"); r.Stop("gate").Stopped != "errors" {
		t.Error("the first reason does not stand")
	}
}

func TestEndKinds(t *testing.T) {
	for status, want := range map[exec.Status]exec.EndKind{
		exec.Success: exec.EndedOK, exec.Failed: exec.EndedFailed, exec.TimedOut: exec.EndedFailed, exec.Unknown: exec.EndedFailed,
		exec.Refused: exec.EndedUnrun, exec.InvalidPlatform: exec.EndedAside, exec.Undeliverable: exec.EndedUnrun, exec.DeliveryTimedOut: exec.EndedUnrun,
		exec.Cancelled: exec.EndedAside, exec.Terminated: exec.EndedUnrun, exec.Pending: 0, exec.InProgress: 0, exec.Skipped: 0, "new": 0,
	} {
		if got, ended := exec.EndKindOf(status); got != want || ended != (want != 0) {
			t.Errorf("%s: %d, %v", status, got, ended)
		}
	}
}

func TestRolloutCheckRefuses(t *testing.T) {
	cmd := paced(4, exec.Pace{Concurrency: 2, Errors: 1, Waves: []uint32{3, 4}})
	good := exec.NewRollout(cmd)
	good, _ = good.Grant(cmd.Pace, []uint32{0, 1})
	good = good.End(cmd.Pace, []exec.Ending{failed(0)})
	if err := good.Check(cmd); err != nil {
		t.Fatal(err)
	}
	for name, alter := range map[string]func(r *exec.Rollout, c *exec.Command){
		"another set":           func(r *exec.Rollout, _ *exec.Command) { r.Nodes = r.Nodes[:3]; r.Idle-- },
		"no set":                func(r *exec.Rollout, _ *exec.Command) { *r = exec.Rollout{} },
		"a state that is none":  func(r *exec.Rollout, _ *exec.Command) { r.Nodes[3] = 99 },
		"count of idle":         func(r *exec.Rollout, _ *exec.Command) { r.Idle++ },
		"count of running":      func(r *exec.Rollout, _ *exec.Command) { r.Running-- },
		"count of granted":      func(r *exec.Rollout, _ *exec.Command) { r.Granted-- },
		"count of failed":       func(r *exec.Rollout, _ *exec.Command) { r.Failed-- },
		"beyond the last wave":  func(r *exec.Rollout, _ *exec.Command) { r.Wave = 2 },
		"waits for nothing":     func(r *exec.Rollout, _ *exec.Command) { r.Waits = true },
		"a reason that is none": func(r *exec.Rollout, _ *exec.Command) { r.Stopped = "whim" },
		"barred by nobody":      func(r *exec.Rollout, _ *exec.Command) { r.Nodes[3] = byte(exec.NodeBarred); r.Idle-- },
		"freed where strict": func(r *exec.Rollout, c *exec.Command) {
			r.Nodes[1] = byte(exec.NodeFreed)
			r.Running--
			c.Pace.Strict = true
		},
		"concurrency":              func(_ *exec.Rollout, c *exec.Command) { c.Pace.Concurrency = 1 },
		"errors, and it goes on":   func(_ *exec.Rollout, c *exec.Command) { c.Pace.Errors = 0 },
		"strict":                   func(_ *exec.Rollout, c *exec.Command) { c.Pace.Errors, c.Pace.Strict = 0, true },
		"waves":                    func(_ *exec.Rollout, c *exec.Command) { c.Pace.Waves = []uint32{1, 4} },
		"of a command that is not": func(_ *exec.Rollout, c *exec.Command) { c.Pace = exec.Pace{} },
	} {
		r, c := good, cmd
		r.Nodes = slices.Clone(good.Nodes)
		if name == "concurrency" { // two at a time first
			r, _ = exec.NewRollout(cmd).Grant(cmd.Pace, []uint32{0, 1})
		}
		alter(&r, &c)
		if err := r.Check(c); err == nil {
			t.Errorf("%s: passed", name)
		}
	}
}

// anyPace draws a pace for count nodes.
func anyPace(t *rapid.T, count uint32) exec.Pace {
	p := exec.Pace{
		Limited: true, Concurrency: rapid.Uint32Range(0, count).Draw(t, "concurrency"), Errors: rapid.Uint32Range(0, count).Draw(t, "errors"),
		Strict: rapid.Bool().Draw(t, "strict"),
	}
	if rapid.Bool().Draw(t, "waves") {
		var last uint32
		for last < count && len(p.Waves) < 3 {
			last += rapid.Uint32Range(1, count-last).Draw(t, "wave")
			p.Waves = append(p.Waves, last)
		}
		p.Waves[len(p.Waves)-1] = count
	}
	return p
}

// Whatever is proposed, in whatever order, neither bound is broken: as a bystander counts who only sees which nodes were
// granted and how each first ended.
func TestBoundsHoldWhoeverProposes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		count := rapid.Uint32Range(1, 12).Draw(t, "nodes")
		p := anyPace(t, count)
		cmd := paced(count, p)
		r := exec.NewRollout(cmd)
		running, ended, granted := map[uint32]bool{}, map[uint32]exec.EndKind{}, map[uint32]bool{}
		failures := func() (n int) {
			for _, as := range ended {
				if as == exec.EndedFailed {
					n++
				}
			}
			return n
		}
		node := rapid.Uint32Range(0, count)
		t.Repeat(map[string]func(*rapid.T){
			"grant": func(t *rapid.T) {
				nodes := rapid.SliceOfN(node, 0, 4).Draw(t, "grants")
				if rapid.Bool().Draw(t, "honest") {
					nodes = r.Pick(p, nodes)
				}
				failed := failures()
				next, err := r.Grant(p, nodes)
				if err != nil {
					if !next.Equal(r) {
						t.Fatal("a refused grant left something")
					}
					return
				}
				if failed > int(p.Errors) || r.Stopped != "" {
					t.Fatal("granted after the stop")
				}
				for _, i := range nodes {
					if running[i] || ended[i] != 0 || i >= count {
						t.Fatalf("node %d was granted twice", i)
					}
					running[i], granted[i] = true, true
				}
				r = next
			},
			"end": func(t *rapid.T) {
				es := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) exec.Ending {
					return exec.Ending{Node: node.Draw(t, "node"), As: exec.EndKind(rapid.IntRange(0, 6).Draw(t, "as"))}
				}), 1, 4).Draw(t, "ends")
				r = r.End(p, es)
				for _, e := range es {
					switch {
					case e.As == exec.EndFreed && running[e.Node] && !p.Strict:
						delete(running, e.Node)
					case isEnd(e.As) && granted[e.Node] && ended[e.Node] == 0:
						ended[e.Node] = e.As
						delete(running, e.Node)
						if e.As == exec.EndedUnrun {
							delete(granted, e.Node)
						}
					case isEnd(e.As) && e.Node < count && !granted[e.Node]:
						if ended[e.Node] == 0 {
							ended[e.Node] = exec.EndedAside // declined
						}
					}
				}
			},
			"stop": func(t *rapid.T) { r = r.Stop(exec.StoppedByCancel) },
			"withdraw": func(t *rapid.T) {
				for _, i := range []uint32{node.Draw(t, "node")} {
					r = r.Withdraw(p, []uint32{i})
					if i < count && !granted[i] && ended[i] == 0 {
						ended[i] = exec.EndedAside
					}
				}
			},
			"": func(t *rapid.T) {
				failed := failures()
				switch {
				case p.Concurrency > 0 && len(running) > int(p.Concurrency):
					t.Fatalf("%d run at a time, %d may", len(running), p.Concurrency)
				case p.Strict && failed+len(running) > int(p.Errors)+1:
					t.Fatalf("%d failed and %d run, %d are borne", failed, len(running), p.Errors)
				case len(p.Waves) > 0 && len(granted) > int(p.Waves[r.Wave]):
					t.Fatalf("%d granted in wave %d of %v", len(granted), r.Wave, p.Waves)
				case int(r.Failed) != failed || int(r.Running) != len(running) || int(r.Granted) != len(granted):
					t.Fatalf("counted %+v, are %d failed, %d running, %d granted", r, failed, len(running), len(granted))
				case r.Room(p) > 0 && r.Done():
					t.Fatal("done, with room")
				}
				if err := r.Check(cmd); err != nil {
					t.Fatal(err)
				}
			},
		})
	})
}

func isEnd(as exec.EndKind) bool {
	return as == exec.EndedOK || as == exec.EndedFailed || as == exec.EndedAside || as == exec.EndedUnrun
}

// A rollout that is granted what there is room for comes to its end: every node takes part or never will, or it was stopped.
func TestRolloutComesToItsEnd(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		count := rapid.Uint32Range(1, 30).Draw(t, "nodes")
		p := anyPace(t, count)
		r := exec.NewRollout(paced(count, p))
		all := make([]uint32, count)
		for i := range all {
			all[i] = uint32(i)
		}
		for turns := 0; !r.Done(); turns++ {
			if turns > 3*int(count) {
				t.Fatalf("stands still at %s, wave %d of %+v", letters(r), r.Wave, p)
			}
			if picked := r.Pick(p, all); len(picked) > 0 {
				if uint32(len(picked)) != r.Room(p) {
					t.Fatalf("room for %d, picked %v", r.Room(p), picked)
				}
				r, _ = r.Grant(p, picked)
			}
			for i := range count {
				if r.State(i) == exec.NodeGranted {
					r = r.End(p, []exec.Ending{{Node: i, As: rapid.SampledFrom([]exec.EndKind{
						exec.EndedOK, exec.EndedFailed, exec.EndedAside, exec.EndedUnrun,
					}).Draw(t, "end")}})
				}
			}
		}
		if r.Stopped == "" && r.Granted+uint32(strings.Count(letters(r), "d")) != count || r.Stopped != "" && r.Failed <= p.Errors {
			t.Fatalf("ended as %+v", r)
		}
	})
}
