package node

import (
	"slices"
	"time"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

// How a node asks for leave to start a paced command.
const (
	// askAgain is how long a node waits for its turn before it asks by itself, a part that grows with the set not counted.
	askAgain = 15 * time.Second
	// askSpread is that part, for each node of the set: a thousand nodes ask within two seconds, not within one moment.
	askSpread = 2 * time.Millisecond
	// turnGap is how soon after a bell of its turn a node follows the next: a flood of bells brings no flood of questions.
	turnGap = 250 * time.Millisecond
)

// leave is where an order stands with its grant.
type leave struct {
	passed    bool     // verdict and documents permitted it: from here on only the grant is missing
	head      fleet.ID // of the record that they were judged by
	count     uint32   // nodes of the set
	asking    bool     // an answer is awaited
	asked     time.Duration
	nextAt    time.Duration
	rungAt    time.Duration // when a bell of its turn was followed last
	until     time.Duration // granted: it may start up to then; 0: not
	fails     int           // questions in a row to which there was no answer
	cancelled bool          // the leader says that the command was cancelled
	told      bool          // that it asks
}

// waits reports whether nothing but a grant is missing, so that nothing need be judged anew until it comes.
func (n *Node) waitsForGrant(at auth.Instant, x *order) bool {
	return x.leave.passed && x.leave.until == 0 && x.leave.head == n.record.Head && n.Now(at).UnixMilli() <= x.expires && n.clock.Suspect(at) == 0
}

// seekGrant asks for a grant when it is time to.
func (n *Node) seekGrant(at auth.Instant, x *order) []Effect {
	l := &x.leave
	if l.asking && at.Boot >= l.asked+exec.StartBy { // whatever comes now comes too late
		l.asking, l.nextAt = false, at.Boot
	}
	if l.asking {
		x.retryAt = l.asked + exec.StartBy
		return nil
	}
	if at.Boot < l.nextAt {
		x.retryAt = l.nextAt
		return nil
	}
	var out []Effect
	if !l.told { // once: it may ask every quarter of a minute for a month
		l.told = true
		out = n.note(at, x, exec.DecidedGrant, "asks the leader for leave to start, and whenever its turn may have come")
	}
	l.asking, l.asked = true, at.Boot
	x.retryAt = l.asked + exec.StartBy
	return append(out, AskGrant{Command: x.id, Asked: at.Boot})
}

// permitted notes that an order lacks nothing but a grant.
func (n *Node) permitted(at auth.Instant, x *order, cmd exec.Command) {
	if !x.leave.passed && x.leave.rungAt == 0 {
		x.leave.nextAt = at.Boot + n.spread(cmd.Count)
	}
	x.leave.passed, x.leave.head, x.leave.count = true, n.record.Head, cmd.Count
}

// spread returns a random time by which a set of that size does not do something all at once.
func (n *Node) spread(count uint32) time.Duration {
	return time.Duration(n.random.Int64N(int64(count)+1)) * askSpread
}

// mayStart reports whether a grant is here and still good; one that is over is asked for anew.
func (x *order) mayStart(at auth.Instant) bool {
	l := &x.leave
	if l.until != 0 && at.Boot > l.until {
		l.until, l.nextAt = 0, at.Boot
	}
	return l.until != 0
}

func (n *Node) grantAnswered(at auth.Instant, ev GrantAnswered) []Effect {
	x := n.orders.byID[ev.Command]
	if x == nil || !x.have || x.status != exec.Pending || x.refusing || !x.leave.passed {
		return nil
	}
	l := &x.leave
	newest := l.asking && ev.Asked == l.asked
	if newest {
		l.asking = false
	}
	out := n.note(at, x, exec.DecidedGrant, "the leader's answer: "+ev.Answer.String())
	switch ev.Answer {
	case Granted, GrantedNow: // also to an earlier question: each is good for a start-by of its own
		l.fails, l.until = 0, max(l.until, ev.Asked+exec.StartBy)
		x.retryAt = at.Boot + retryAfter // where something else keeps it from starting
		return append(out, n.judge(at, x)...)
	case GrantStopped:
		return append(out, n.refuse(at, x, stopped("the command was stopped before it started here"))...)
	case GrantEnded:
		return append(out, n.refuse(at, x, stopped("the servers say that it has ended here already"))...)
	case GrantCancelled:
		l.cancelled, x.uncut = true, false
		if newest {
			l.nextAt = at.Boot + askAgain
		}
		return append(out, n.askCancel(at, x)...)
	case GrantWait:
		if newest {
			l.fails, l.nextAt = 0, at.Boot+askAgain+n.spread(l.count)
		}
	default: // GrantFailed, or what only a newer version understands
		if newest {
			l.nextAt = at.Boot + min(retryAfter<<min(l.fails, 4), askAgain) + n.spread(l.count)
			l.fails++
		}
	}
	return append(out, n.seekGrant(at, x)...)
}

func stopped(why string) exec.Verdict { return exec.Verdict{Status: exec.Terminated, Reason: why} }

// turnRung hears that it may be this node's turn. Only the leader's answer to a question says so.
func (n *Node) turnRung(at auth.Instant, b Bell) []Effect {
	x := n.orders.hint(b.Statement)
	if x == nil {
		return nil
	}
	if !x.have {
		x.leave.rungAt = at.Boot // it asks as soon as it has the order
		return n.orderRung(at, b, false)
	}
	if x.status != exec.Pending || !x.leave.passed || x.leave.asking {
		return nil
	}
	x.leave.nextAt = min(x.leave.nextAt, max(at.Boot, x.leave.rungAt+turnGap))
	x.leave.rungAt = x.leave.nextAt
	if !n.waitsForGrant(at, x) {
		return n.judge(at, x)
	}
	return n.seekGrant(at, x)
}

// newLeader asks again for what waits: who leads now knows nobody who waits.
func (n *Node) newLeader(at auth.Instant) {
	for _, x := range n.orders.open {
		if l := &x.leave; x.status == exec.Pending && l.passed && !l.asking && l.until == 0 {
			l.nextAt = min(l.nextAt, at.Boot+n.spread(l.count))
			x.retryAt = min(x.retryAt, l.nextAt)
			n.orders.wakeAt = min(n.orders.wakeAt, x.retryAt)
		}
	}
}

// runLate takes back an order whose start came too late for its grant.
func (n *Node) runLate(at auth.Instant, ev RunLate) []Effect {
	x := n.orders.byID[ev.Command]
	if x == nil || !x.have || x.status != exec.InProgress {
		return nil
	}
	n.orders.reopen(x)
	x.leave.until, x.leave.asking, x.leave.nextAt = 0, false, at.Boot
	return append(n.note(at, x, exec.DecidedStart, "too late for its grant"), n.judge(at, x)...)
}

// reopen lets an order wait again that was handed to the runner.
func (o *orders) reopen(x *order) {
	x.settle(exec.Pending)
	if !slices.Contains(o.open, x) {
		o.open = append(o.open, x)
	}
}
