package exec

// Follow draws the consequences of one command's rollout for those that wait for it, and of theirs for it: gates let in
// the nodes of a wave that has ended, a gate that succeeded lets the next wave begin, one that failed stops the command,
// and a command that was stopped lets its on-stop command in. gates are in the order of p.Gates, onStop is none or one; a
// command that is not known any more is the zero Rollout, and never succeeds.
func Follow(p Pace, main Rollout, gates []Rollout, onStop []Rollout) (Rollout, []Rollout, []Rollout) {
	gates, onStop = append([]Rollout(nil), gates...), append([]Rollout(nil), onStop...)
	for main.waveEnded(p) && int(main.Wave) < len(gates) {
		g := &gates[main.Wave]
		*g = g.letIn(func(i uint32) bool { return main.State(i) == NodeOK })
		switch gateOf(main, *g) {
		case gateFailed:
			*g = g.Stop(StoppedByErrors)
			main = main.Stop(StoppedByGate)
			continue
		case gatePassed:
			g.Waits = false
			main.Wave++
			continue
		case gateOpen:
		}
		break
	}
	for k := range gates {
		if uint32(k) >= main.Wave && (main.Stopped != "" || main.Done()) {
			gates[k] = gates[k].Stop(StoppedUnneeded)
			gates[k].Waits = false
		}
	}
	for k := range onStop {
		onStop[k] = rollBack(main, onStop[k])
	}
	return main, gates, onStop
}

type gate uint8

const (
	gateOpen gate = iota
	gatePassed
	gateFailed
)

// gateOf judges the gate behind a wave that has ended: it is for every node on which main ended well, and must end well
// on each. Where main ended well on no node, nobody can say that it is well, and the gate has not succeeded.
func gateOf(main, g Rollout) gate {
	if !main.has(NodeOK) {
		return gateFailed
	}
	out := gatePassed
	for i := range main.Nodes {
		if NodeState(main.Nodes[i]) != NodeOK {
			continue
		}
		switch g.State(uint32(i)) {
		case NodeOK:
		case NodeIdle, NodeGranted, NodeBarred:
			out = gateOpen
		case NodeFailed, NodeAside, NodeFreed, NodeDeclined:
			return gateFailed
		}
	}
	if out == gateOpen && g.Stopped != "" {
		return gateFailed // what has not ended well never will
	}
	return out
}

// rollBack lets the on-stop command in wherever main was started and has ended, once main is stopped; and gives it up
// when main came to its end.
func rollBack(main, r Rollout) Rollout {
	if main.Stopped == "" {
		if main.Done() && !main.has(NodeFreed) { // a silent node may still fail, and stop it
			r = r.Stop(StoppedUnneeded)
			r.Waits = false
		}
		return r
	}
	r = r.letIn(func(i uint32) bool {
		s := main.State(i)
		return s == NodeOK || s == NodeFailed || s == NodeAside
	})
	r.Waits = r.Waits && !main.Done()
	return r
}

func (r Rollout) has(s NodeState) bool {
	for _, b := range r.Nodes {
		if NodeState(b) == s {
			return true
		}
	}
	return false
}
