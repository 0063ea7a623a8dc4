package main

import (
	"slices"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node"
)

// Pages of answers, as in the agent.
const (
	actsPage   = 256
	ordersPage = 16
)

// perform does what the core decided, as the agent's shells would.
func (h *host) perform(e node.Effect) {
	w := h.w
	switch e := e.(type) {
	case node.Ring:
		h.ring(e)
	case node.ExchangeBeacons:
		if with := w.byID[e.With]; with != nil {
			h.exchange(with)
		}
	case node.FetchActs:
		h.fetchActs(e)
	case node.FetchOrder:
		h.fetchOrder(e)
	case node.FetchOrders:
		h.fetchOrders(e)
	case node.FetchCancel:
		h.fetchCancel(e)
	case node.KeepActs:
		h.record = e.Record
	case node.KeepFloor:
		h.floor = e.Floor
	case node.KeepBeacon:
		h.beacon, h.envelope, h.clock = e.Beacon, e.Envelope, e.Clock
	case node.HoldOrder:
		h.hold(e)
	case node.StartRun:
		h.startRun(e)
	case node.KillRun:
		h.killRun(e)
	case node.RefuseRun:
		h.refuseRun(e)
	case node.SendReport:
		h.sendReport(e)
	case node.AskGrant:
		h.askGrant(e)
	case node.AnswerGrant:
		h.answerGrant(e)
	case node.ProposeGrants:
		h.proposeGrants(e)
	case node.ProposeEndings:
		h.proposeEndings(e)
	}
}

func (h *host) fetchActs(e node.FetchActs) {
	failed := node.ActsFetched{From: e.From, Failed: true}
	peer := h.w.byID[e.From]
	if peer == nil {
		h.post(askTimeout, failed)
		return
	}
	h.request(peer, acts, 60, askTimeout, func(reply func(any, int)) {
		all := h.w.quorum.acts()
		to := min(peer.record.Length, uint64(len(all)))
		from := min(e.Position, to)
		answer := node.ActsFetched{From: e.From, Acts: all[from:min(from+actsPage, to)]}
		size := 60
		for _, act := range answer.Acts {
			size += len(act.Data) + 20
		}
		reply(answer, size)
	}, func(answer any) { h.w.step(h, orElse(answer, node.Event(failed))) })
}

// orElse returns an answer as an event, or what is said when there was none.
func orElse(answer any, failed node.Event) node.Event {
	if ev, ok := answer.(node.Event); ok {
		return ev
	}
	return failed
}

func (h *host) fetchOrder(e node.FetchOrder) {
	failed := node.OrderFetched{From: e.From, Command: e.Command, Failed: true}
	peer := h.w.byID[e.From]
	if peer == nil {
		h.post(askTimeout, failed)
		return
	}
	h.request(peer, orders, 80, askTimeout, func(reply func(any, int)) {
		o, ok := peer.held[e.Command]
		if !ok && peer.server() {
			if c, found := peer.replica.state().Command(e.Command); found {
				o, ok = c.Order, true
			}
		}
		if !ok || !o.Has(h.id) && !h.server() {
			reply(failed, 60)
			return
		}
		reply(node.OrderFetched{From: e.From, Command: e.Command, Order: o}, orderSize(o))
	}, func(answer any) { h.w.step(h, orElse(answer, failed)) })
}

func orderSize(o exec.Order) int { return 180 + len(o.Statement.Body) + 34*len(o.Nodes) }

func (h *host) fetchOrders(e node.FetchOrders) {
	failed := node.OrdersFetched{From: e.From, Failed: true}
	peer := h.w.byID[e.From]
	if peer == nil {
		h.post(askTimeout, failed)
		return
	}
	h.request(peer, orders, 70, askTimeout, func(reply func(any, int)) {
		if !peer.server() {
			reply(failed, 60)
			return
		}
		commands, next := peer.replica.state().CommandsFor(h.id, e.Since, ordersPage)
		answer, size := node.OrdersFetched{From: e.From, Next: next}, 60
		for _, c := range commands {
			if of := committedFor(c, h.id); len(of.Cancel) > 0 || !slices.Contains(e.Known, c.ID()) {
				answer.Orders = append(answer.Orders, of)
				size += orderSize(c.Order)
			}
		}
		reply(answer, size)
	}, func(answer any) { h.w.step(h, orElse(answer, failed)) })
}

// fetchCancel asks the leader, who makes sure that it is one.
func (h *host) fetchCancel(e node.FetchCancel) {
	failed := node.CancelFetched{Command: e.Command, Failed: true}
	h.atLeader(orders, 80, askTimeout, func(leader *host, reply func(any, int)) {
		h.w.quorum.read(leader, func(err any) {
			if err != nil {
				reply(err, 60)
				return
			}
			state := leader.replica.state()
			c, ok := state.Command(e.Command)
			if !ok {
				reply(failed, 60)
				return
			}
			reply(node.CancelFetched{Command: e.Command, Cancel: committedFor(c, h.id).Cancel, RecordLen: state.Record.Length}, 120)
		})
	}, func(answer any) { h.w.step(h, orElse(answer, failed)) })
}

func (h *host) sendReport(e node.SendReport) {
	lost := node.ReportLost{Command: e.Report.Command, Seq: e.Report.Seq, Server: e.To}
	peer := h.w.byID[e.To]
	if peer == nil || !peer.server() {
		h.post(askTimeout, lost)
		return
	}
	h.request(peer, reports, 350+len(e.Report.Detail)+len(e.Report.Rule), askTimeout, func(reply func(any, int)) {
		peer.replica.take(e.Report, behindWait, func(taken bool) {
			if !taken {
				reply(lost, 60)
				return
			}
			reply(node.ReportTaken{Command: e.Report.Command, Seq: e.Report.Seq, Server: e.To}, 40)
		})
	}, func(answer any) { h.w.step(h, orElse(answer, lost)) })
}
