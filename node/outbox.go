package node

import (
	"encoding/binary"
	"slices"
	"time"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

// Bounds of what a node owes.
const (
	copies       = 2                      // servers that shall keep each report, while there are two
	maxOutbox    = 1024                   // reports kept for servers to come; the oldest delivered goes first
	keepReports  = 24 * time.Hour         // how long a delivered one is kept for new servers
	progressGap  = 500 * time.Millisecond // between reports of a run that goes on
	maxRetryWait = 30 * time.Second
)

// owed is the newest report of one command and who has it.
type owed struct {
	report  exec.Report
	taken   map[fleet.ID]uint32 // server → the Seq it has
	asked   map[fleet.ID]bool   // in flight
	retryAt time.Duration       // boot time
	wait    time.Duration
	since   time.Duration
}

type outbox struct {
	byID map[fleet.UUID]*owed
	age  []fleet.UUID
	look bool // something may be owed
}

func newOutbox() outbox { return outbox{byID: map[fleet.UUID]*owed{}} }

func (o *outbox) owing() bool { return o.look }

func (o *outbox) serversChanged() { o.look = true }

func (o *outbox) put(r exec.Report, at time.Duration) {
	x := o.byID[r.Command]
	if x == nil {
		o.forget(at)
		x = &owed{taken: map[fleet.ID]uint32{}, asked: map[fleet.ID]bool{}}
		o.byID[r.Command] = x
		o.age = append(o.age, r.Command)
	}
	r.Seq = x.report.Seq + 1
	x.report, x.retryAt, x.wait, x.since = r, 0, 0, at
	o.look = true
}

// forget makes room. What no server has yet goes last.
func (o *outbox) forget(at time.Duration) {
	gone := func(id fleet.UUID) bool {
		x := o.byID[id]
		return x.report.Status.Final() && x.has() > 0 && at-x.since > keepReports
	}
	drop := func(i int) {
		delete(o.byID, o.age[i])
		o.age = slices.Delete(o.age, i, i+1)
	}
	for len(o.age) > 0 && gone(o.age[0]) {
		drop(0)
	}
	if len(o.age) >= maxOutbox {
		i := slices.IndexFunc(o.age, func(id fleet.UUID) bool { return o.byID[id].has() > 0 })
		drop(max(i, 0))
	}
}

// has counts the servers that have the newest report.
func (x *owed) has() int {
	count := 0
	for _, seq := range x.taken {
		if seq == x.report.Seq {
			count++
		}
	}
	return count
}

func (o *outbox) taken(ev ReportTaken) {
	if x := o.byID[ev.Command]; x != nil {
		delete(x.asked, ev.Server)
		x.taken[ev.Server] = max(x.taken[ev.Server], ev.Seq)
		x.wait = 0
		o.look = true
	}
}

func (o *outbox) lost(ev ReportLost, at time.Duration) {
	if x := o.byID[ev.Command]; x != nil {
		delete(x.asked, ev.Server)
		x.wait = min(max(retryAfter, 2*x.wait), maxRetryWait)
		x.retryAt = at + x.wait
		o.look = true
	}
}

// dueReports sends what is owed to servers that lack it: two of the current ones shall have each report.
func (n *Node) dueReports(at auth.Instant) []Effect {
	if !n.outbox.look {
		return nil
	}
	var out []Effect
	waiting := false
	for _, id := range n.outbox.age {
		x := n.outbox.byID[id]
		effects, done := n.deliver(at, x)
		out = append(out, effects...)
		waiting = waiting || !done
	}
	n.outbox.look = waiting
	return out
}

func (n *Node) deliver(at auth.Instant, x *owed) (out []Effect, done bool) {
	servers := n.ranked(x.report.Command)
	need := min(copies, len(servers))
	have := 0
	for _, id := range servers {
		if x.taken[id] == x.report.Seq || x.asked[id] {
			have++
		}
	}
	settled := have >= need && len(x.asked) == 0 && need > 0
	if have >= need || at.Boot < x.retryAt {
		return nil, settled
	}
	for _, id := range servers {
		if have == need {
			break
		}
		if x.taken[id] == x.report.Seq || x.asked[id] {
			continue
		}
		x.asked[id] = true
		have++
		out = append(out, SendReport{To: id, Report: x.report})
	}
	return out, false
}

// ranked orders the servers for one command, present ones first, so that commands spread over them.
func (n *Node) ranked(command fleet.UUID) []fleet.ID {
	servers := slices.Clone(n.servers())
	weight := func(id fleet.ID) uint64 {
		sum := fleet.Sum(append(id[:], command[:]...))
		return binary.BigEndian.Uint64(sum[:8])
	}
	gone := func(id fleet.ID) int {
		if id == n.self || n.seen[id].Status == fleet.Online {
			return 0
		}
		return 1
	}
	slices.SortFunc(servers, func(a, b fleet.ID) int {
		if d := gone(a) - gone(b); d != 0 {
			return d
		}
		if weight(a) < weight(b) {
			return -1
		}
		return 1
	})
	return servers
}

// blank is a report that needs no run.
func (n *Node) blank(x *order, status exec.Status, detail string) exec.Report {
	return exec.Report{
		Command: x.id, Node: n.self, Status: status, Detail: clip(detail), Received: x.received,
		Charter: n.record.Charter.Head(), Act: n.record.Act, Rule: x.verdict.Rule,
	}
}

func clip(text string) string {
	if len(text) > exec.MaxDetail {
		return text[:exec.MaxDetail]
	}
	return text
}

func (n *Node) report(at auth.Instant, _ *order, r exec.Report) []Effect {
	n.outbox.put(r, at.Boot)
	return nil // dueReports sends
}

func (n *Node) runStarted(at auth.Instant, ev RunStarted) []Effect {
	x := n.orders.get(ev.Command)
	if x.status.Final() {
		return nil
	}
	x.status = exec.InProgress
	r := n.blank(x, exec.InProgress, "")
	r.Started = ev.At
	return n.report(at, x, r)
}

func (n *Node) runWrote(at auth.Instant, ev RunWrote) []Effect {
	x, owing := n.orders.byID[ev.Command], n.outbox.byID[ev.Command]
	if x == nil || owing == nil || x.status != exec.InProgress || at.Boot-owing.since < progressGap || len(owing.asked) > 0 {
		return nil
	}
	r := owing.report
	r.Stdout, r.Stderr = ev.Stdout, ev.Stderr
	return n.report(at, x, r)
}

func (n *Node) runEnded(at auth.Instant, ev RunEnded) []Effect {
	x := n.orders.get(ev.Command)
	x.status = ev.Status
	r := n.blank(x, ev.Status, ev.Detail)
	r.ExitCode, r.Signal, r.Started, r.Ended = ev.ExitCode, ev.Signal, ev.Started, ev.Ended
	r.Stdout, r.Stderr = ev.Stdout, ev.Stderr
	return n.report(at, x, r)
}
