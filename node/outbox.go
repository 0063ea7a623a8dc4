package node

import (
	"encoding/binary"
	"slices"
	"strings"
	"time"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

// Bounds of what a node owes.
const (
	copies       = 2                      // servers that shall keep each report, while there are two
	maxOutbox    = 4096                   // reports kept; beyond it the oldest that some server has goes first
	maxOutput    = 8 << 20                // bytes of output in all of them; the node keeps the whole of it elsewhere
	keepReports  = 24 * time.Hour         // how long a delivered one is kept for servers to come
	progressGap  = 500 * time.Millisecond // between reports of a run that goes on
	maxRetryWait = 30 * time.Second
)

// owed is the newest report of one command and who has it.
type owed struct {
	report  exec.Report
	taken   map[fleet.ID]uint32 // server → the Seq it has
	asked   map[fleet.ID]bool   // in flight
	failed  map[fleet.ID]int    // server → how often it did not take it
	retryAt time.Duration       // boot time
	wait    time.Duration
	since   time.Duration
	open    bool       // listed in outbox.open
	news    []RunWrote // none or one: what came too soon after the last report
}

type outbox struct {
	byID   map[fleet.UUID]*owed
	age    []fleet.UUID
	open   []*owed       // those that too few servers have, or of which an answer is awaited
	wakeAt time.Duration // boot time at which an open one is looked at again
	output int           // bytes of output in all reports
	news   []*owed       // those with news, which wait for progressGap
}

func newOutbox() outbox { return outbox{byID: map[fleet.UUID]*owed{}} }

func (o *outbox) owing() bool { return len(o.open) > 0 }

// serversChanged looks at everything again: other servers may have to get it.
func (o *outbox) serversChanged() {
	for _, id := range o.age {
		o.reopen(o.byID[id])
	}
}

func (o *outbox) reopen(x *owed) {
	if !x.open {
		x.open = true
		o.open = append(o.open, x)
	}
}

// tell makes r the newest report of its command. dueReports sends it.
func (n *Node) tell(at auth.Instant, r exec.Report) []Effect {
	return n.outbox.put(at.Boot, seqAt(n.sequenceTime(at)), r)
}

// sequenceTime returns a time that goes on over restarts: the host's, unless that is known to be wrong. The floor, which
// Now respects, does not: what is on disk of it lags behind.
func (n *Node) sequenceTime(at auth.Instant) time.Time {
	switch off := n.clock.Suspect(at); {
	case off > 0:
		return at.Wall.Add(-off)
	case off < 0: // a host without a clock of its own, perhaps
		return n.clock.Now(at)
	}
	return at.Wall
}

// seqAt returns a Seq that is higher than those given before, also before a restart: half-seconds since 2020, for
// progress comes no faster. Otherwise servers would take what a restarted node says for older than what they have.
func seqAt(now time.Time) uint32 {
	const since = 1_577_836_800 // Unix seconds of 2020-01-01; uint32 lasts until 2088
	return uint32(max(1, now.UnixMilli()/progressGap.Milliseconds()-since*time.Second.Milliseconds()/progressGap.Milliseconds()))
}

func (o *outbox) put(at time.Duration, seq uint32, r exec.Report) []Effect {
	var out []Effect
	x := o.byID[r.Command]
	if x == nil {
		out = o.forget(at)
		x = &owed{taken: map[fleet.ID]uint32{}, asked: map[fleet.ID]bool{}, failed: map[fleet.ID]int{}}
		o.byID[r.Command] = x
		o.age = append(o.age, r.Command)
	}
	r.Seq = max(x.report.Seq+1, seq)
	o.output += outputOf(r) - outputOf(x.report)
	if r.Status != x.report.Status { // progress waits as long as what it replaces
		x.retryAt, x.wait = 0, 0
	}
	x.report, x.since = r, at
	o.reopen(x)
	o.shed(x)
	return out
}

// forget makes room for one more. What no server has yet goes last, and not without a word.
func (o *outbox) forget(at time.Duration) []Effect {
	for len(o.age) > 0 {
		x := o.byID[o.age[0]]
		if !x.report.Status.Final() || x.has() == 0 || at-x.since <= keepReports {
			break
		}
		o.drop(0)
	}
	if len(o.age) < maxOutbox {
		return nil
	}
	if i := slices.IndexFunc(o.age, func(id fleet.UUID) bool { return o.byID[id].has() > 0 }); i >= 0 {
		o.drop(i)
		return nil
	}
	lost := o.age[0]
	o.drop(0)
	return []Effect{Warn{"no server took the report of command " + lost.String() + ", and newer ones need its place"}}
}

func (o *outbox) drop(i int) {
	x := o.byID[o.age[i]]
	o.output -= outputOf(x.report)
	delete(o.byID, o.age[i])
	o.age = slices.Delete(o.age, i, i+1)
	if i := slices.Index(o.open, x); i >= 0 {
		o.open = slices.Delete(o.open, i, i+1)
	}
}

// shed keeps the output in all reports within its bound: it is taken from the oldest that some server has whole, then
// from the oldest. The status is what must be told; the output is whole on this node's disk.
func (o *outbox) shed(newest *owed) {
	for _, delivered := range []bool{true, false} {
		for _, id := range o.age {
			if o.output <= maxOutput {
				return
			}
			if x := o.byID[id]; x != newest && (!delivered || x.has() > 0) {
				o.output -= outputOf(x.report)
				x.report.Stdout.Head, x.report.Stdout.Tail = nil, nil
				x.report.Stderr.Head, x.report.Stderr.Tail = nil, nil
			}
		}
	}
}

func outputOf(r exec.Report) int {
	return len(r.Stdout.Head) + len(r.Stdout.Tail) + len(r.Stderr.Head) + len(r.Stderr.Tail)
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
		delete(x.failed, ev.Server)
		x.taken[ev.Server] = max(x.taken[ev.Server], min(ev.Seq, x.report.Seq))
		x.wait = 0
		o.reopen(x)
	}
}

func (o *outbox) lost(ev ReportLost, at time.Duration) {
	if x := o.byID[ev.Command]; x != nil {
		delete(x.asked, ev.Server)
		x.failed[ev.Server]++
		x.wait = min(max(retryAfter, 2*x.wait), maxRetryWait)
		x.retryAt = at + x.wait
		o.reopen(x)
	}
}

// dueReports sends what is owed to servers that lack it: two of the current ones shall have each report.
func (n *Node) dueReports(at auth.Instant) []Effect {
	out := n.dueNews(at)
	o := &n.outbox
	o.wakeAt = at.Boot + retryAfter
	servers := n.servers()
	if len(o.open) == 0 || len(servers) == 0 {
		return out
	}
	open := o.open[:0]
	for _, x := range o.open {
		if at.Boot < x.retryAt {
			o.wakeAt = min(o.wakeAt, x.retryAt)
			open = append(open, x)
			continue
		}
		out = append(out, n.deliver(x, servers)...)
		x.open = false // until there is an answer
	}
	clear(o.open[len(open):])
	o.open = open
	return out
}

// deliver sends one report to servers that lack it, until two have it or are being given it.
func (n *Node) deliver(x *owed, servers []fleet.ID) (out []Effect) {
	need := min(copies, len(servers))
	have := 0
	for _, id := range servers {
		if x.taken[id] == x.report.Seq || x.asked[id] {
			have++
		}
	}
	if have >= need {
		return nil
	}
	for _, id := range n.ranked(x, servers) {
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
	return out
}

// ranked orders servers for one command: present ones first, then those that failed least, then so that commands
// spread over them.
func (n *Node) ranked(x *owed, servers []fleet.ID) []fleet.ID {
	type place struct {
		id     fleet.ID
		gone   bool
		failed int
		weight uint64
	}
	places := make([]place, len(servers))
	for i, id := range servers {
		sum := fleet.Sum(append(id[:], x.report.Command[:]...))
		places[i] = place{
			id: id, gone: id != n.self && n.seen[id].Status != fleet.Online, failed: x.failed[id],
			weight: binary.BigEndian.Uint64(sum[:8]),
		}
		if id == n.beacon.Leader { // it knows the command first; others take the report when they have caught up with it
			places[i].weight = 0
		}
	}
	slices.SortFunc(places, func(a, b place) int {
		switch {
		case a.gone != b.gone && b.gone, a.gone == b.gone && a.failed < b.failed:
			return -1
		case a.gone != b.gone, a.failed > b.failed:
			return 1
		case a.weight < b.weight:
			return -1
		}
		return 1
	})
	out := make([]fleet.ID, len(places))
	for i, p := range places {
		out[i] = p.id
	}
	return out
}

// blank is a report that needs no run.
func (n *Node) blank(x *order, status exec.Status, detail string) exec.Report {
	return exec.Report{
		Command: x.id, Node: n.self, Status: status, Detail: clip(detail, exec.MaxDetail), Received: x.received,
		Charter: x.judged.head, Act: x.judged.act, Rule: x.judged.rule,
	}
}

func clip(text string, most int) string {
	if len(text) > most {
		return strings.ToValidUTF8(text[:most], "")
	}
	return text
}

func (n *Node) runStarted(at auth.Instant, ev RunStarted) []Effect {
	x := n.orders.known(ev.Command)
	if x.status.Final() || n.ended(ev.Command) {
		return nil
	}
	x.settle(exec.InProgress)
	r := n.blank(x, exec.InProgress, "")
	r.Started = ev.At
	return append(n.note(at, x, exec.DecidedStart, "it runs"), n.tell(at, r)...)
}

// dueNews tells what runs wrote too soon after what was told before.
func (n *Node) dueNews(at auth.Instant) (out []Effect) {
	o := &n.outbox
	all := o.news
	o.news = nil
	for _, x := range all {
		if at.Boot < x.since+progressGap {
			o.news = append(o.news, x)
			continue
		}
		news := x.news
		if x.news = nil; len(news) == 1 {
			out = append(out, n.runWrote(at, news[0])...)
		}
	}
	return out
}

// ended reports whether a final report of a command is kept. It never changes.
func (n *Node) ended(command fleet.UUID) bool {
	x := n.outbox.byID[command]
	return x != nil && x.report.Status.Final()
}

func (n *Node) runWrote(at auth.Instant, ev RunWrote) []Effect {
	x, owing := n.orders.byID[ev.Command], n.outbox.byID[ev.Command]
	if x == nil || owing == nil || x.status != exec.InProgress {
		return nil
	}
	if at.Boot < owing.since+progressGap { // it may be the last for long: told when its time has come
		if len(owing.news) == 0 {
			n.outbox.news = append(n.outbox.news, owing)
		}
		owing.news = []RunWrote{ev}
		return nil
	}
	r := owing.report
	r.Stdout, r.Stderr, r.Steps = ev.Stdout, ev.Stderr, ev.Steps
	return append(n.noteSteps(at, x, ev.Steps), n.tell(at, r)...)
}

func (n *Node) runEnded(at auth.Instant, ev RunEnded) []Effect {
	x := n.orders.known(ev.Command)
	if n.ended(ev.Command) {
		return nil
	}
	x.refusing = false
	x.settle(ev.Status)
	r := n.blank(x, ev.Status, ev.Detail)
	r.ExitCode, r.Signal, r.Started, r.Ended = ev.ExitCode, clip(ev.Signal, exec.MaxSignal), ev.Started, ev.Ended
	r.Stdout, r.Stderr, r.Steps = ev.Stdout, ev.Stderr, ev.Steps
	out := append(n.noteSteps(at, x, ev.Steps), n.note(at, x, exec.DecidedEnd, endText(ev))...)
	return append(out, n.tell(at, r)...)
}
