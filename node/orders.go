package node

import (
	"cmp"
	"slices"
	"time"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

// Bounds of what a node remembers of orders. An order beyond them is fetched again when it is needed.
const (
	maxOrders   = 1024 // known at once, beside those that an operator signed and that are not decided yet
	maxHearings = 4096 // bells remembered, so that an echo costs nothing
	maxAsking   = 16   // questions for orders at a time: a flood of bells brings no flood of questions
	// maxTries is how often an order that is a mere hint is asked for before it is forgotten. What was missed comes with
	// the next exchange of beacons.
	maxTries = 5
)

// order is what this node knows of one command.
type order struct {
	id       fleet.UUID
	order    exec.Order // empty again once it is decided for good
	have     bool       // an operator signed order, and it is complete
	rung     bool       // a bell brought it, so it is passed on
	act      uint64
	holders  []fleet.ID
	retryAt  time.Duration // boot time
	tries    int
	status   exec.Status // Pending until judged; InProgress once handed to the runner; then final
	set      fleet.ID    // digest of its frozen set, as soon as that is known
	obeyed   bool        // a cancel by somebody who may
	asking   bool        // the leader whether it was cancelled
	uncut    bool        // the leader said, after it came here, that it was not
	needs    uint64      // length of the record that the leader had then
	refusing bool        // the ledger is asked to note verdict
	verdict  exec.Verdict
	warned   bool // of a clock that keeps it waiting, or of a cancel without right
	received int64
	issued   int64
	expires  int64
	since    time.Duration // boot time at which it was complete
	judged   judgement
	direct   bool   // it goes without the quorum
	texts    texts  // what is awaited of its documents
	leave    leave  // to start, of a paced command
	noted    string // what was decided last
}

// judgement is what an order was judged by.
type judgement struct {
	head fleet.ID
	act  uint64
	rule string
}

type orders struct {
	byID    map[fleet.UUID]*order
	age     []fleet.UUID
	open    []*order            // Pending: they wait for bytes, for the record, or for time
	wakeAt  time.Duration       // boot time at which an open one is looked at again
	asked   map[fleet.UUID]bool // questions under way, also those for orders that were forgotten meanwhile
	heard   map[hearing]bool
	echoes  []hearing
	cursor  uint64        // commands up to this act index are known here
	newest  uint64        // act of the newest order that was taken here
	hintAt  time.Duration // boot time before which no hint counts
	hinted  bool          // a peer has one that is newer: look once
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
	return orders{byID: map[fleet.UUID]*order{}, asked: map[fleet.UUID]bool{}, heard: map[hearing]bool{}}
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

// hint returns the order of that ID, for somebody who merely claims that there is one; nil when there is no room.
func (o *orders) hint(id fleet.UUID) *order {
	if x := o.byID[id]; x != nil {
		return x
	}
	if !o.makeRoom() {
		return nil
	}
	return o.add(id)
}

// known returns the order of that ID, which is no mere claim. It finds room: operators and this host's own ledger bound
// how many there are.
func (o *orders) known(id fleet.UUID) *order {
	if x := o.byID[id]; x != nil {
		return x
	}
	o.makeRoom()
	return o.add(id)
}

func (o *orders) add(id fleet.UUID) *order {
	x := &order{id: id, status: exec.Pending}
	o.byID[id] = x
	o.age = append(o.age, id)
	o.open = append(o.open, x)
	return x
}

// makeRoom forgets, at the bound, the oldest mere hint, else the oldest that is decided, else the oldest that is known
// by its cancel alone (the ledger has that). What an operator signed and this node has not decided stays.
func (o *orders) makeRoom() bool {
	if len(o.age) < maxOrders {
		return true
	}
	for _, dispensable := range []func(*order) bool{
		func(x *order) bool { return x.status == exec.Pending && !x.have && !x.obeyed },
		func(x *order) bool { return x.status.Final() },
		func(x *order) bool { return x.status == exec.Pending && !x.have },
	} {
		if i := slices.IndexFunc(o.age, func(id fleet.UUID) bool { return dispensable(o.byID[id]) }); i >= 0 {
			o.drop(o.byID[o.age[i]])
			return true
		}
	}
	return false
}

func (o *orders) drop(x *order) {
	delete(o.byID, x.id)
	if i := slices.Index(o.age, x.id); i >= 0 {
		o.age = slices.Delete(o.age, i, i+1)
	}
	if i := slices.Index(o.open, x); i >= 0 {
		o.open = slices.Delete(o.open, i, i+1)
	}
}

// maxKnown is how many orders a question names that need not come again.
const maxKnown = 64

// behind lists orders beyond a cursor that are here, as far as their bells said where they are: an operator signed them,
// so that to be wrong about it costs no order, only a cancel could be missed, and a server leaves out none.
func (o *orders) behind(cursor uint64) (out []fleet.UUID) {
	for i := len(o.age) - 1; i >= 0 && len(out) < maxKnown; i-- {
		if x := o.byID[o.age[i]]; x.act > cursor && (x.have || x.status.Final()) {
			out = append(out, x.id)
		}
	}
	return out
}

// settle gives an order its status. What can never change again needs no bytes.
func (x *order) settle(s exec.Status) {
	x.status = s
	if s.Final() {
		x.order = exec.Order{}
	}
}

// waits reports whether something is still to be done about an order. One of which only the cancel could be had does not
// wait: the cancel is what counts.
func (x *order) waits() bool {
	return x.status == exec.Pending && (x.have || x.tries < maxTries || !x.obeyed)
}

func (n *Node) bellHeard(at auth.Instant, b Bell) []Effect {
	if b.Kind == BellTurn { // may come again and again
		return n.turnRung(at, b)
	}
	if !n.orders.first(b) {
		return nil
	}
	switch b.Kind {
	case BellRecord:
		return n.recordRung(at, b)
	case BellCancel:
		return n.cancelRung(at, b)
	case BellCommand:
		return n.orderRung(at, b, true)
	case BellSeed:
		return n.seedRung(at, b)
	case BellTurn:
	}
	return nil
}

// orderRung hears of an order. One whose bell is for this node alone is not passed on.
func (n *Node) orderRung(at auth.Instant, b Bell, passOn bool) []Effect {
	x := n.orders.hint(b.Statement)
	if x == nil || x.have || x.status != exec.Pending {
		return nil
	}
	x.rung, x.act = x.rung || passOn, b.Act
	x.holders = n.addHolders(x.holders, b.Holders)
	out := n.note(at, x, exec.DecidedBell, "heard of it by a bell"+n.byWhom(x.holders))
	if len(b.Rider) == 1 {
		if o, cmd, ok := n.complete(b.Rider[0], b.Statement); ok {
			return append(out, n.takeOrder(at, x, o, cmd)...)
		}
	}
	return append(out, n.fetchOrder(at, x)...)
}

func (n *Node) byWhom(holders []fleet.ID) string {
	if len(holders) == 0 {
		return ""
	}
	return "; " + n.name(holders[0]) + " has it"
}

// addHolders adds nodes that can be asked, a few at most: a bell names nodes, and whoever rings it could name anybody.
func (n *Node) addHolders(have, more []fleet.ID) []fleet.ID {
	for _, id := range more {
		if _, err := n.record.Roster.Enrolled(id); err == nil && id != n.self && !contains(have, id) && len(have) < 2*maxHolders {
			have = append(have, id)
		}
	}
	return have
}

func (n *Node) fetchOrder(at auth.Instant, x *order) []Effect {
	if n.orders.asked[x.id] || x.have || at.Boot < x.retryAt || len(n.orders.asked) >= maxAsking {
		return nil
	}
	var from fleet.ID
	ok := x.tries < len(x.holders)
	if ok {
		from = x.holders[x.tries]
	} else {
		from, ok = n.aServer(fleet.ID{})
	}
	x.tries++
	if !ok {
		x.retryAt = at.Boot + retryAfter
		return nil
	}
	n.orders.asked[x.id] = true
	return append(n.note(at, x, exec.DecidedFetch, "asks "+n.name(from)+" for the order"), FetchOrder{From: from, Command: x.id})
}

func (n *Node) orderFetched(at auth.Instant, ev OrderFetched) []Effect {
	delete(n.orders.asked, ev.Command)
	x := n.orders.byID[ev.Command]
	if x == nil {
		return nil
	}
	x.retryAt = at.Boot + retryAfter
	if ev.Failed || x.have {
		return nil
	}
	switch cmd, worth := n.weigh(ev.Order); {
	case worth == unsure:
		return n.hintedActs(at, ev.From)
	case worth == genuine && cmd.Header.ID == x.id:
		return n.takeOrder(at, x, ev.Order, cmd)
	}
	return n.note(at, x, exec.DecidedSignature, "what came from "+n.name(ev.From)+" is not what an operator signed") // the next one is asked
}

func (n *Node) ordersFetched(at auth.Instant, ev OrdersFetched) []Effect {
	o := &n.orders
	o.asking, o.hinted = false, false
	if ev.Failed {
		o.silent, o.retryAt = ev.From, at.Boot+retryAfter
		return nil
	}
	var out []Effect
	for _, c := range ev.Orders {
		effects, ok := n.committed(at, c)
		out = append(out, effects...)
		if !ok { // it says that the record grew: look again when it is here
			o.silent, o.retryAt = ev.From, at.Boot+retryAfter
			return append(out, n.hintedActs(at, ev.From)...)
		}
	}
	o.silent = fleet.ID{}
	// Not beyond what a beacon tells of: a server that says more could make this node look away from then on.
	if next := min(ev.Next, n.beacon.Act); next > o.cursor {
		o.cursor = next
	} else if n.missesOrders() { // that server is behind its fleet
		o.silent, o.retryAt = ev.From, at.Boot+retryAfter
	}
	return out
}

// committed takes an order, and its cancel, that a server says were committed. It is false when the record is too old
// to tell whether an operator signed them.
func (n *Node) committed(at auth.Instant, c Committed) ([]Effect, bool) {
	cmd, worth := n.weigh(c.Order)
	if worth != genuine {
		return nil, worth != unsure
	}
	x := n.orders.known(cmd.Header.ID)
	x.act = c.Act
	out, ok := n.takeCancels(at, x, c.Cancel) // first: what is cancelled does not start
	if !ok {
		return nil, false
	}
	return append(out, n.takeOrder(at, x, c.Order, cmd)...), true
}

// orderCommitted runs on the leader: it rings, and takes the order itself if it is meant.
func (n *Node) orderCommitted(at auth.Instant, c Committed) []Effect {
	cmd, err := auth.Peek[exec.Command](c.Order.Statement)
	if err != nil {
		return nil
	}
	if !cmd.After.Command.IsZero() && len(c.Cancel) == 0 { // nobody is to have it before its turn
		return []Effect{HoldOrder{Command: cmd.Header.ID, Order: c.Order}}
	}
	bell := Bell{Kind: BellCommand, Statement: cmd.Header.ID, Act: c.Act, Holders: []fleet.ID{n.self}, Rider: []auth.Envelope{c.Order.Statement}}
	whom := c.Order.Nodes
	if len(c.Cancel) > 0 {
		bell.Kind, bell.Rider = BellCancel, c.Cancel[:1]
		whom = meant(c.Cancel[0], whom)
	}
	n.orders.first(bell)
	out := []Effect{HoldOrder{Act: c.Act, Command: cmd.Header.ID, Order: c.Order}}
	out = append(out, n.ring(at, bell, whom)...)
	if contains(whom, n.self) {
		effects, ok := n.committed(at, c)
		if x := n.orders.hint(cmd.Header.ID); x != nil && !ok { // the loop's record is behind the replica's: a moment later
			x.retryAt = at.Boot + retryAfter
		}
		out = append(out, effects...)
	}
	return out
}

// takeOrder takes an order that an operator signed and that is complete.
func (n *Node) takeOrder(at auth.Instant, x *order, o exec.Order, cmd exec.Command) []Effect {
	if x.have || x.status.Final() {
		return nil
	}
	o.Nodes = n.sets.share(cmd.Set, o.Nodes)
	x.order, x.have, x.set = o, true, cmd.Set
	n.orders.newest = max(n.orders.newest, x.act)
	x.received, x.issued, x.expires = n.Now(at).UnixMilli(), cmd.Header.Issued, cmd.Header.Expires
	x.since, x.retryAt = at.Boot, at.Boot+retryAfter
	x.direct = cmd.Header.Mode == auth.Direct
	if !o.Has(n.self) {
		x.settle(exec.Refused) // not meant: nothing to run, to pass on or to report
		return n.holdForOthers(x, o)
	}
	out := n.note(at, x, exec.DecidedSignature, "signed by "+n.signer(o.Statement.Key))
	out = append(out, n.note(at, x, exec.DecidedSet, "this node is one of the "+plural(len(o.Nodes), "node")+" that were signed")...)
	out = append(out, HoldOrder{Act: x.heldAct(cmd), Command: x.id, Order: o})
	if x.rung {
		out = append(out, n.passOn(at, x, BellCommand, o.Statement, o.Nodes)...)
	}
	return append(out, n.judge(at, x)...)
}

// signer names who signed, for people.
func (n *Node) signer(key fleet.ID) string {
	if op, err := n.record.Charter.Standing(key, 0); err == nil {
		return op.Name
	}
	return "an operator"
}

// heldAct is the place of an order as peers are told that it is here: what comes by its turn alone has none, for nobody
// misses it.
func (x *order) heldAct(cmd exec.Command) uint64 {
	if !cmd.After.Command.IsZero() {
		return 0
	}
	return x.act
}

// judge decides an order that is complete, and says what follows.
func (n *Node) judge(at auth.Instant, x *order) []Effect {
	if !x.have || x.status != exec.Pending || x.refusing {
		return nil
	}
	now := n.Now(at)
	late := now.UnixMilli() > x.expires+auth.MaxSkew.Milliseconds()
	self, ok := n.member()
	switch {
	case !ok && late:
		x.settle(exec.Refused) // the roster never named this node
		return nil
	case !ok:
		return nil
	case x.obeyed:
		return n.decide(at, x, exec.Verdict{Status: exec.Cancelled, Reason: "cancelled before it started"})
	case n.waitsForGrant(at, x):
		return n.seekGrant(at, x)
	}
	verdict, err := exec.Judge(x.order, n.record, self, now)
	if err == nil {
		verdict = verdict.Withheld(n.own, self.Tags)
	}
	switch {
	case err != nil && late:
		return n.decide(at, x, exec.Verdict{Status: exec.DeliveryTimedOut, Reason: "it expired while this node could not catch up: " + err.Error()})
	case err != nil: // behind: fetch the record, judge again
		return append(n.note(at, x, exec.DecidedTime, "waits for the record: "+err.Error()), n.catchUpFor(at, x)...)
	case n.clock.Suspect(at) != 0 && verdict.Status == exec.Pending:
		return n.suspect(at, x, n.clock.Suspect(at))
	case n.mayBeWrong(at, x):
		return n.note(at, x, exec.DecidedTime, "waits for a server's word on the time: "+verdict.Reason)
	case verdict.Status == exec.Pending && n.mayBeCancelled(at, x):
		return n.askCancel(at, x)
	case verdict.Status == exec.Pending && n.record.Length < x.needs && at.Boot < x.since+cancelWait:
		return n.catchUpFor(at, x) // its operator may be none any more
	case verdict.Status == exec.Pending:
		return n.proceed(at, x, verdict, self)
	case verdict.Status == exec.DeliveryTimedOut && x.texts.tries > 0:
		verdict.Reason += ": what it runs could not be fetched"
	}
	return n.decide(at, x, verdict)
}

// proceed takes an order that is permitted to its start: its documents, its grant, the ledger.
func (n *Node) proceed(at auth.Instant, x *order, v exec.Verdict, self fleet.Member) []Effect {
	out := n.note(at, x, exec.DecidedPolicy, "permitted by "+v.Rule)
	v, texts, more, ok := n.read(at, x, v, self)
	out = append(out, more...)
	if !ok {
		return out
	}
	if v.Status != exec.Pending {
		return append(out, n.decide(at, x, v)...)
	}
	if v.Command.Pace.Limited {
		n.permitted(at, x, v.Command)
		if !x.mayStart(at) {
			return append(out, n.seekGrant(at, x)...)
		}
	}
	x.judge(n.record, v)
	x.settle(exec.InProgress)
	out = append(out, n.note(at, x, exec.DecidedStart, "hands it to the ledger and the runner")...)
	return append(out, StartRun{Command: v.Command, Digest: n.digestOf(x), Documents: texts, By: x.leave.until})
}

// ledgerWait is how long an order waits for a ledger that could not be written before it is tried again.
const ledgerWait = 5 * time.Second

// clockWait is how long an order that seems to be from another time waits for a server's word on this host's clock.
const clockWait = time.Minute

// mayBeWrong reports whether an order is out of its time by a clock that no server has spoken of since this agent
// started. It may be the clock that is wrong, and a refusal is for good.
func (n *Node) mayBeWrong(at auth.Instant, x *order) bool {
	now := n.Now(at)
	out := now.UnixMilli() > x.expires || now.Add(auth.MaxSkew).UnixMilli() < x.issued
	return out && n.clock.Heard == 0 && at.Boot < x.since+clockWait
}

// catchUpFor fetches the record that an order needs: from who had the order, else from a server.
func (n *Node) catchUpFor(at auth.Instant, x *order) []Effect {
	if len(x.holders) > 0 {
		if out := n.hintedActs(at, x.holders[0]); out != nil {
			return out
		}
	}
	if at.Boot < n.acts.retryAt {
		return nil
	}
	peer, _ := n.askable(n.acts.silent)
	return n.askActs(peer)
}

// judge notes by what an order was judged.
func (x *order) judge(r auth.Record, v exec.Verdict) {
	x.judged = judgement{head: r.Charter.Head(), act: r.Act, rule: v.Rule}
}

// decide acts on a verdict that says no.
func (n *Node) decide(at auth.Instant, x *order, v exec.Verdict) []Effect {
	x.judge(n.record, v)
	if v.Status == exec.Cancelled { // the servers keep the cancel, and the ledger if it can
		x.settle(v.Status)
		return append(n.note(at, x, exec.DecidedCancel, v.Reason), n.tell(at, n.blank(x, v.Status, v.Reason))...)
	}
	return n.refuse(at, x, v)
}

func (n *Node) digestOf(x *order) fleet.ID {
	return x.order.Statement.Digest(auth.ForCommand, n.fleetID())
}

// refuse has the ledger note that an order never runs here. Only then that is told: what a node has said is final, and
// after a restart it would know nothing of it.
func (n *Node) refuse(at auth.Instant, x *order, v exec.Verdict) []Effect {
	x.refusing, x.verdict = true, v
	out := n.note(at, x, aboutOf(v), v.Reason)
	return append(out, RefuseRun{Command: x.id, Digest: n.digestOf(x), As: v.Status, Reason: v.Reason})
}

// aboutOf says what a verdict that says no was about.
func aboutOf(v exec.Verdict) string {
	if v.Consent {
		return exec.DecidedConsent
	}
	switch v.Status {
	case exec.DeliveryTimedOut:
		return exec.DecidedTime
	case exec.Terminated:
		return exec.DecidedGrant
	case exec.Failed:
		return exec.DecidedStart
	}
	return exec.DecidedPolicy
}

func (n *Node) refusalKept(at auth.Instant, ev RefusalKept) []Effect {
	x := n.orders.byID[ev.Command]
	if x == nil || !x.refusing {
		return nil
	}
	x.refusing = false
	x.settle(x.verdict.Status)
	out := n.note(at, x, exec.DecidedLedger, "noted that it never runs here: "+string(x.verdict.Status))
	return append(out, n.tell(at, n.blank(x, x.verdict.Status, x.verdict.Reason))...)
}

// refusalLost lets an order wait until the ledger can be written: then it is judged anew.
func (n *Node) refusalLost(at auth.Instant, ev RefusalLost) []Effect {
	x := n.orders.byID[ev.Command]
	if x == nil || !x.refusing {
		return nil
	}
	x.refusing, x.retryAt = false, at.Boot+ledgerWait
	out := n.note(at, x, exec.DecidedLedger, "cannot be written: "+ev.Why)
	if x.warned {
		return out
	}
	x.warned = true
	return append(out, n.tell(at, n.blank(x, exec.Pending, "waits: "+ev.Why))...)
}

// runNotStarted takes back an order that this host could not start.
func (n *Node) runNotStarted(at auth.Instant, ev RunNotStarted) []Effect {
	x := n.orders.byID[ev.Command]
	if x == nil || !x.have || x.status != exec.InProgress {
		return nil
	}
	n.orders.reopen(x)
	return n.refuse(at, x, exec.Verdict{Status: cmp.Or(ev.As, exec.Failed), Reason: ev.Why})
}

// suspect keeps an order waiting while this host's clock cannot be trusted, and says so.
func (n *Node) suspect(at auth.Instant, x *order, off time.Duration) []Effect {
	if x.warned {
		return nil
	}
	x.warned = true
	text := "waits: this host's clock is " + off.Round(time.Second).Abs().String() + " " + aheadOrBehind(off) + " the fleet's"
	out := append(n.note(at, x, exec.DecidedTime, text), n.tell(at, n.blank(x, exec.Pending, text))...)
	if n.clockWarned {
		return out
	}
	n.clockWarned = true
	return append(out, Warn{"a command " + text})
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
	for _, x := range slices.Clone(n.orders.open) {
		out = append(out, n.judge(at, x)...)
	}
	return out
}

// dueOrders asks again for what is not here, judges again what waits, and forgets what nobody can back.
func (n *Node) dueOrders(at auth.Instant) []Effect {
	if n.clock.Suspect(at) == 0 {
		n.clockWarned = false
	}
	if len(n.orders.open) == 0 {
		return nil
	}
	var out []Effect
	for _, x := range slices.Clone(n.orders.open) {
		switch {
		case x.status != exec.Pending || at.Boot < x.retryAt:
		case x.have:
			x.retryAt = at.Boot + retryAfter
			out = append(out, n.judge(at, x)...)
		case x.tries < maxTries:
			out = append(out, n.fetchOrder(at, x)...)
		case !n.orders.asked[x.id] && !x.obeyed:
			n.orders.drop(x)
		}
	}
	o := &n.orders
	o.open = slices.DeleteFunc(o.open, func(x *order) bool { return !x.waits() })
	o.wakeAt = at.Boot + askAgain
	for _, x := range o.open {
		if x.leave.passed && x.retryAt > at.Boot { // its turn is rung; until then only this counts
			o.wakeAt = min(o.wakeAt, x.retryAt)
			continue
		}
		o.wakeAt = soonest(at, min(o.wakeAt, at.Boot+retryAfter), x.retryAt)
	}
	return out
}
