package node

import (
	"slices"
	"time"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node/auth"
)

// How endings come to the quorum.
const (
	// othersWait is how long a server that does not lead leaves an ending to the leader, who keeps most reports itself.
	othersWait = 2 * time.Second
	// freeEvery is how often the leader looks for silent nodes that hold a place.
	freeEvery = 5 * time.Second
)

// endings are ends of nodes that this server knows of and the quorum does not yet.
type endings struct {
	pending   map[uint32]ending
	proposing []exec.Ending // nil: no proposal is under way
	retryAt   time.Duration
	touched   map[uint32]time.Duration // of a soft command: when a node that holds a place gave its last sign of life in this office
	lookAt    time.Duration            // when silent nodes are looked for again
	started   map[uint32]bool          // nodes that hold a place and said that they run
	quiet     map[uint32]bool          // nodes that held a place and had not said so when they were looked for last
	nudgeAt   time.Duration
}

type ending struct {
	as    exec.EndKind
	since time.Duration
}

// newOffice forgets what only the leader of that office could know.
func (e *endings) newOffice() {
	e.touched, e.quiet, e.lookAt, e.retryAt = nil, nil, 0, 0
	for i, x := range e.pending {
		if x.as == exec.EndFreed {
			delete(e.pending, i)
		}
	}
}

// forget drops what the quorum knows.
func (e *endings) forget(known func(i uint32) bool) {
	for i := range e.pending {
		if known(i) {
			delete(e.pending, i)
		}
	}
}

// frees reports whether a node's place is being given to another.
func (e *endings) frees(i uint32) bool { return e.pending[i].as == exec.EndFreed }

// touch notes a sign of life of a node that holds a place. Its time begins anew: it may start within exec.StartBy of
// having asked.
func (p *paced) touch(i uint32, at time.Duration) {
	if p.pace().Strict {
		return
	}
	if p.endings.touched == nil {
		p.endings.touched = map[uint32]time.Duration{}
	}
	p.endings.touched[i] = at
}

func (e *endings) add(i uint32, as exec.EndKind, at time.Duration) {
	if e.pending == nil {
		e.pending = map[uint32]ending{}
	}
	e.pending[i] = ending{as: as, since: at}
}

// reportKept hears of a report that this server keeps.
func (n *Node) reportKept(at auth.Instant, ev ReportKept) []Effect {
	p := n.pacing.byID[ev.Command]
	if p == nil {
		return nil
	}
	i, ok := Place(p.c.Order, ev.Node)
	if !ok || hasEnded(p.rollout().State(i)) {
		return nil
	}
	as, ended := exec.EndKindOf(ev.Status)
	if !ended {
		n.signOfLife(at, p, i, ev.Status)
		return nil
	}
	p.endings.add(i, as, at.Boot)
	return n.proposeEndings(at, p)
}

func (n *Node) signOfLife(at auth.Instant, p *paced, i uint32, s exec.Status) {
	if s == exec.InProgress && p.rollout().State(i) == exec.NodeGranted {
		if p.endings.started == nil {
			p.endings.started = map[uint32]bool{}
		}
		p.endings.started[i] = true
	}
	if n.pacing.leading && !p.endings.frees(i) {
		p.touch(i, at.Boot)
	}
}

// nudge rings nodes that were given leave to start and have not said for a while that they did. One that was restarted
// before its ledger had anything may have forgotten that there is something to start.
func (n *Node) nudge(at auth.Instant, p *paced) []Effect {
	e := &p.endings
	if !n.pacing.leading || p.rollout().Running == 0 || at.Boot < e.nudgeAt {
		return nil
	}
	e.nudgeAt = at.Boot + exec.StartBy
	quiet := map[uint32]bool{}
	var turns []uint32
	for k, id := range p.c.Order.Nodes {
		i := uint32(k)
		if p.rollout().State(i) != exec.NodeGranted || e.started[i] {
			continue
		}
		if quiet[i] = true; e.quiet[i] && n.isThere(id) {
			turns = append(turns, i)
		}
	}
	e.quiet = quiet
	return n.ringTurn(at, p, turns)
}

// proposeEndings brings the quorum what it does not know: the leader at once, others when the leader had time to.
func (n *Node) proposeEndings(at auth.Instant, p *paced) []Effect {
	e := &p.endings
	if e.proposing != nil || len(e.pending) == 0 {
		return nil
	}
	if at.Boot < e.retryAt {
		n.wakePacing(e.retryAt)
		return nil
	}
	wait := othersWait
	if n.pacing.leading {
		wait = 0
	}
	var ends []exec.Ending
	for i, x := range e.pending {
		if at.Boot >= x.since+wait {
			ends = append(ends, exec.Ending{Node: i, As: x.as})
		} else {
			n.wakePacing(x.since + wait)
		}
	}
	if len(ends) == 0 {
		return nil
	}
	slices.SortFunc(ends, func(a, b exec.Ending) int { return int(a.Node) - int(b.Node) })
	e.proposing = ends
	return []Effect{ProposeEndings{Command: p.id(), Ends: ends, Term: n.pacing.term}}
}

// endingsProposed hears what became of a proposal. What the quorum took and did not want is not proposed again. A node may
// have told its real end while the freeing of its place was under way: that end is still to come to the quorum.
func (n *Node) endingsProposed(at auth.Instant, ev EndingsProposed) []Effect {
	p := n.pacing.byID[ev.Command]
	if p == nil || p.endings.proposing == nil {
		return nil
	}
	e := &p.endings
	if ev.Failed {
		e.retryAt = at.Boot + proposeAgain
	} else {
		for _, x := range e.proposing {
			if e.pending[x.Node].as == x.As {
				delete(e.pending, x.Node)
			}
		}
	}
	e.proposing = nil
	return n.pace(at, p)
}

// freeSilent gives the places of nodes that have been silent for longer than they can run to others; of soft commands
// only.
func (n *Node) freeSilent(at auth.Instant, p *paced) {
	e := &p.endings
	if !n.pacing.leading || p.pace().Strict || p.rollout().Running == 0 || at.Boot < e.lookAt {
		return
	}
	e.lookAt = at.Boot + freeEvery
	patience := exec.StartBy + time.Duration(p.c.Body.Run.Timeout)*time.Millisecond + exec.SlotMargin
	for k := range p.c.Order.Nodes {
		i := uint32(k)
		if p.rollout().State(i) != exec.NodeGranted {
			delete(e.touched, i)
			delete(e.started, i)
			continue
		}
		last, seen := e.touched[i]
		switch _, told := e.pending[i]; {
		case !seen:
			p.touch(i, at.Boot)
		case !told && at.Boot > last+patience:
			e.add(i, exec.EndFreed, at.Boot)
		}
	}
}
