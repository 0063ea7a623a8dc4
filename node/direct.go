package node

import (
	"time"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

// rungAgain is when a direct order is rung again after it was handed in: no cursor brings it to those who missed its
// bells.
var rungAgain = [...]time.Duration{time.Second, 5 * time.Second, 20 * time.Second, time.Minute, 3 * time.Minute}

// MayDirect reports why a direct order that was handed to this host is not passed on, or nil: what all its nodes would
// refuse.
func MayDirect(o exec.Order, record auth.Record, now time.Time) error {
	cmd, _, err := o.Verify(record.Charter, now)
	if err != nil {
		return err
	}
	if cmd.Header.Mode != auth.Direct {
		return fleet.Errorf(fleet.Invalid, "the command was not signed to go without the quorum").Hinted("muster run --direct …")
	}
	return exec.MayRun(o, record, now)
}

// directOrder tells the set, and servers, which take reports of what they know only, of an order that goes without the
// quorum.
func (n *Node) directOrder(at auth.Instant, o exec.Order) []Effect {
	cmd, worth := n.weigh(o)
	if worth != genuine || cmd.Header.Mode != auth.Direct {
		return nil
	}
	bell := Bell{Kind: BellCommand, Statement: cmd.Header.ID, Holders: []fleet.ID{n.self}, Rider: []auth.Envelope{o.Statement}}
	n.orders.first(bell)
	out := []Effect{HoldOrder{Command: cmd.Header.ID, Order: o}}
	whom := o.Nodes
	for _, id := range n.servers() {
		if !o.Has(id) {
			whom = append(whom[:len(whom):len(whom)], id)
		}
	}
	out = append(out, n.ring(at, bell, whom)...)
	for _, after := range rungAgain {
		if to := n.pick(n.present(whom), directRing); len(to) > 0 {
			n.rings = append(n.rings, laterRing{at: at.Boot + after, to: to, bell: bell})
		}
	}
	if o.Has(n.self) {
		out = append(out, n.takeOrder(at, n.orders.known(cmd.Header.ID), o, cmd)...)
	}
	return out
}

// reportAsked gives this node's own word on a command to whoever may have it.
func (n *Node) reportAsked(ev ReportAsked) []Effect {
	x := n.outbox.byID[ev.Command]
	if x == nil {
		return []Effect{AnswerReport{Ticket: ev.Ticket}}
	}
	return []Effect{AnswerReport{Ticket: ev.Ticket, Report: []exec.Report{x.report}}}
}

// holdForOthers lets a server that is not meant keep a direct order: it takes reports of what it knows only, and no
// replica knows this one.
func (n *Node) holdForOthers(x *order, o exec.Order) []Effect {
	if !x.direct || !contains(n.servers(), n.self) {
		return nil
	}
	return []Effect{HoldOrder{Command: x.id, Order: o}}
}
