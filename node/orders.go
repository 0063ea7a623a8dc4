package node

import (
	"slices"
	"time"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

// Bounds of what a node remembers of orders. An order beyond them is fetched again when it is needed.
const (
	maxOrders   = 1024 // known at once
	maxHearings = 4096 // bells remembered, so that an echo costs nothing
)

// order is what this node knows of one command that names it.
type order struct {
	id       fleet.UUID
	order    exec.Order
	have     bool // order is complete
	backed   bool // a server says that the quorum committed it
	act      uint64
	holders  []fleet.ID
	asking   bool
	retryAt  time.Duration // boot time
	tries    int
	status   exec.Status // Pending until judged; InProgress once handed to the runner; then final
	cancel   *auth.Envelope
	verdict  exec.Verdict
	received int64
	expires  int64
}

type orders struct {
	byID    map[fleet.UUID]*order
	age     []fleet.UUID
	heard   map[hearing]bool
	echoes  []hearing
	cursor  uint64 // commands up to this act index are known here
	asking  bool
	retryAt time.Duration
	silent  fleet.ID
}

type hearing struct {
	kind BellKind
	id   fleet.UUID
	act  uint64
}

func newOrders() orders {
	return orders{byID: map[fleet.UUID]*order{}, heard: map[hearing]bool{}}
}

// waiting reports whether some order waits for bytes, for the record, or for time.
func (o *orders) waiting() bool {
	for _, x := range o.byID {
		if x.status == exec.Pending {
			return true
		}
	}
	return false
}

// first reports whether a bell is heard for the first time.
func (o *orders) first(b Bell) bool {
	h := hearing{b.Kind, b.Statement, b.Act}
	if o.heard[h] {
		return false
	}
	o.heard[h] = true
	o.echoes = append(o.echoes, h)
	if len(o.echoes) > maxHearings {
		delete(o.heard, o.echoes[0])
		o.echoes = o.echoes[1:]
	}
	return true
}

func (o *orders) get(id fleet.UUID) *order {
	x := o.byID[id]
	if x == nil {
		o.forget()
		x = &order{id: id, status: exec.Pending}
		o.byID[id] = x
		o.age = append(o.age, id)
	}
	return x
}

// forget makes room: the oldest order that is decided goes, else the oldest that is a mere hint. What the quorum
// committed and is not decided yet stays; the quorum's own bound is theirs.
func (o *orders) forget() {
	if len(o.age) < maxOrders {
		return
	}
	i := slices.IndexFunc(o.age, func(id fleet.UUID) bool { return o.byID[id].status.Final() })
	if i < 0 {
		i = slices.IndexFunc(o.age, func(id fleet.UUID) bool { return !o.byID[id].backed })
	}
	if i >= 0 {
		o.drop(o.age[i])
	}
}

func (o *orders) drop(id fleet.UUID) {
	delete(o.byID, id)
	o.age = slices.DeleteFunc(o.age, func(a fleet.UUID) bool { return a == id })
}

func (n *Node) bellHeard(at auth.Instant, b Bell) []Effect {
	if !n.orders.first(b) {
		return nil
	}
	switch b.Kind {
	case BellRecord:
		return n.recordRung(at, b)
	case BellCancel:
		return n.cancelRung(at, b)
	case BellCommand:
	}
	x := n.orders.get(b.Statement)
	if x.have || x.status.Final() {
		return nil
	}
	x.act = b.Act
	x.holders = b.Holders
	if len(b.Rider) == 1 {
		if o, ok := n.complete(b.Rider[0]); ok {
			return n.takeOrder(at, x, o)
		}
	}
	return n.fetchOrder(at, x)
}

func (n *Node) recordRung(at auth.Instant, b Bell) []Effect {
	if b.Act <= n.record.Act || len(b.Holders) == 0 {
		return nil
	}
	out := n.fetchActs(at, b.Holders[0])
	if len(n.online) > directRing {
		out = append(out, n.spreadBell(at, b, n.online)...)
	}
	return out
}

// complete finds the frozen set of a statement from this node's own roster: the target without facts selects it, and
// the signed digest tells whether it does. Then nothing needs to be fetched.
func (n *Node) complete(statement auth.Envelope) (exec.Order, bool) {
	if len(statement.Body) > exec.MaxCommand || n.record.Charter == nil {
		return exec.Order{}, false
	}
	cmd, err := auth.Peek[exec.Command](statement)
	if err != nil || len(cmd.Target) > fleet.MaxTarget {
		return exec.Order{}, false
	}
	target, err := fleet.ParseTarget(cmd.Target)
	if err != nil || target.UsesFacts() {
		return exec.Order{}, false
	}
	var ids []fleet.ID
	for entry := range n.record.Roster.All() {
		m := Describe(entry, Sighting{}, fleet.Facts{}, n.beacon)
		if target.Match(&m) {
			ids = append(ids, entry.ID)
		}
	}
	ids = exec.SortIDs(ids)
	if len(ids) != int(cmd.Count) || exec.SetDigest(ids) != cmd.Set {
		return exec.Order{}, false
	}
	return exec.Order{Statement: statement, Nodes: ids}, true
}

func (n *Node) fetchOrder(at auth.Instant, x *order) []Effect {
	if x.asking || x.have || at.Boot < x.retryAt {
		return nil
	}
	from, ok := fleet.ID{}, false
	if x.tries < len(x.holders) {
		from, ok = x.holders[x.tries], true
	} else {
		from, ok = n.aServer(fleet.ID{})
	}
	if !ok || from == n.self {
		x.retryAt = at.Boot + retryAfter
		x.tries++
		return nil
	}
	x.asking = true
	x.tries++
	return []Effect{FetchOrder{From: from, Command: x.id}}
}

func (n *Node) orderFetched(at auth.Instant, ev OrderFetched) []Effect {
	x := n.orders.byID[ev.Command]
	if x == nil {
		return nil
	}
	x.asking = false
	if ev.Failed || !isCommand(ev.Order, ev.Command) {
		x.retryAt = at.Boot + retryAfter
		return nil
	}
	return n.takeOrder(at, x, ev.Order)
}

func isCommand(o exec.Order, id fleet.UUID) bool {
	cmd, err := auth.Peek[exec.Command](o.Statement)
	return err == nil && cmd.Header.ID == id
}

// maxTries is how often an order that is a mere hint is asked for before it is forgotten. What was missed comes with
// the next exchange of beacons.
const maxTries = 5

func (n *Node) ordersFetched(at auth.Instant, ev OrdersFetched) []Effect {
	n.orders.asking = false
	if ev.Failed {
		n.orders.silent, n.orders.retryAt = ev.From, at.Boot+retryAfter
		return nil
	}
	n.orders.silent = fleet.ID{}
	var out []Effect
	for _, c := range ev.Orders {
		out = append(out, n.committed(at, c)...)
	}
	n.orders.cursor = max(n.orders.cursor, ev.Next)
	return out
}

// committed takes an order that a server says was committed.
func (n *Node) committed(at auth.Instant, c Committed) []Effect {
	cmd, err := auth.Peek[exec.Command](c.Order.Statement)
	if err != nil {
		return nil
	}
	x := n.orders.get(cmd.Header.ID)
	x.act, x.backed = c.Act, true
	var out []Effect
	if len(c.Cancel) == 1 {
		out = append(out, n.takeCancel(at, x, c.Cancel[0])...)
	}
	return append(out, n.takeOrder(at, x, c.Order)...)
}

// orderCommitted runs on the leader: it rings, and takes the order itself if it is meant.
func (n *Node) orderCommitted(at auth.Instant, c Committed) []Effect {
	cmd, err := auth.Peek[exec.Command](c.Order.Statement)
	if err != nil {
		return nil
	}
	bell := Bell{Kind: BellCommand, Statement: cmd.Header.ID, Act: c.Act, Holders: []fleet.ID{n.self}, Rider: []auth.Envelope{c.Order.Statement}}
	if len(c.Cancel) == 1 {
		bell.Kind, bell.Rider = BellCancel, c.Cancel
	}
	n.orders.first(bell)
	out := []Effect{HoldOrder{Command: cmd.Header.ID, Order: c.Order}}
	out = append(out, n.ring(at, bell, c.Order.Nodes)...)
	if c.Order.Has(n.self) {
		out = append(out, n.committed(at, c)...)
	}
	return out
}

func (n *Node) takeOrder(at auth.Instant, x *order, o exec.Order) []Effect {
	if x.have {
		return nil
	}
	x.order, x.have, x.received = o, true, n.clock.Now(at).UnixMilli()
	return n.judge(at, x)
}

// judge decides an order that is complete, and says what follows.
func (n *Node) judge(at auth.Instant, x *order) []Effect {
	self, ok := n.member()
	if !ok || !x.have || x.status != exec.Pending {
		return nil
	}
	now := n.clock.Now(at)
	verdict, err := exec.Judge(x.order, n.record, self, now)
	x.expires = verdict.Command.Header.Expires
	if err != nil { // behind: fetch the record, judge again
		return n.fetchActs(at, firstOf(x.holders))
	}
	if !x.order.Has(n.self) {
		x.status = exec.Refused // not meant: nothing to report
		return nil
	}
	if off := n.clock.Suspect(at); off != 0 && verdict.Status == exec.Pending {
		return n.suspect(at, x, off)
	}
	x.verdict = verdict
	out := []Effect{HoldOrder{Command: x.id, Order: x.order}}
	out = append(out, n.spread(at, x)...)
	digest := x.order.Statement.Digest(auth.ForCommand, n.record.Charter.Fleet())
	switch {
	case verdict.Status != exec.Pending:
		x.status = verdict.Status
		out = append(out, RefuseRun{Command: x.id, Digest: digest, Reason: verdict.Reason})
		out = append(out, n.report(at, x, n.blank(x, verdict.Status, verdict.Reason))...)
	case x.cancel != nil:
		x.status = exec.Cancelled
		out = append(out, n.report(at, x, n.blank(x, exec.Cancelled, "cancelled before it started"))...)
	default:
		x.status = exec.InProgress
		out = append(out, StartRun{Command: verdict.Command, Digest: digest})
	}
	return out
}

// suspect keeps an order waiting while this host's clock cannot be trusted, and says so.
func (n *Node) suspect(at auth.Instant, x *order, off time.Duration) []Effect {
	text := "waits: this host's clock is " + off.Round(time.Second).Abs().String() + " " + aheadOrBehind(off) + " the fleet's"
	if x.verdict.Reason == text {
		return nil
	}
	x.verdict.Reason = text
	return append(n.report(at, x, n.blank(x, exec.Pending, text)), Warn{text})
}

func aheadOrBehind(off time.Duration) string {
	if off < 0 {
		return "behind"
	}
	return "ahead of"
}

// rejudge looks again at orders that waited for the record.
func (n *Node) rejudge(at auth.Instant) []Effect {
	var out []Effect
	for _, id := range slices.Clone(n.orders.age) {
		if x := n.orders.byID[id]; x != nil && x.have && x.status == exec.Pending {
			out = append(out, n.judge(at, x)...)
		}
	}
	return out
}

func (n *Node) dueOrders(at auth.Instant) []Effect {
	var out []Effect
	for _, id := range slices.Clone(n.orders.age) {
		x := n.orders.byID[id]
		switch {
		case x == nil || x.status != exec.Pending:
		case x.have && at.Boot >= x.retryAt:
			x.retryAt = at.Boot + retryAfter
			out = append(out, n.judge(at, x)...)
		case !x.have && x.tries >= maxTries:
			x.status = exec.Undeliverable // a hint that nobody can back; a commit would come by the cursor
			n.orders.drop(id)
		case !x.have:
			out = append(out, n.fetchOrder(at, x)...)
		}
	}
	return out
}

func (n *Node) cancelRung(at auth.Instant, b Bell) []Effect {
	if len(b.Rider) != 1 {
		return nil // a cancel always fits; the cursor brings it otherwise
	}
	return n.takeCancel(at, n.orders.get(b.Statement), b.Rider[0])
}

// takeCancel obeys a cancel, also one of a command that this node has not seen yet.
func (n *Node) takeCancel(at auth.Instant, x *order, statement auth.Envelope) []Effect {
	self, ok := n.member()
	if !ok || x.cancel != nil {
		return nil
	}
	cancel, err := exec.JudgeCancel(statement, n.record, self, n.clock.Now(at))
	if err != nil || cancel.Command != x.id {
		return []Effect{Warn{"a cancel of command " + x.id.String() + " was refused"}}
	}
	x.cancel = &statement
	if x.status.Final() {
		return nil
	}
	return []Effect{KillRun{Command: x.id}}
}

func firstOf(ids []fleet.ID) fleet.ID {
	if len(ids) == 0 {
		return fleet.ID{}
	}
	return ids[0]
}
