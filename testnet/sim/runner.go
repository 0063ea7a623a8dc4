package main

import (
	"time"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/fleet"
)

// run is a process on a host, with its supervisor.
type run struct {
	command fleet.UUID
	ends    time.Duration
	status  exec.Status
}

// How long the runner takes, as on a host that has other things to do.
const (
	syncFrom = 1 * time.Millisecond // one sync of the ledger
	syncTo   = 25 * time.Millisecond
)

func (h *host) fold(r exec.Record) {
	_ = h.ledger.Fold(r) // what cannot follow changes nothing
}

// startRun is the barrier and the process behind it. A host that dies while the record is being synced may or may not have
// it; the process it has not.
func (h *host) startRun(e node.StartRun) {
	w, id, life := h.w, e.Command.Header.ID, h.life
	barrier := func() {
		issued, expires := time.UnixMilli(e.Command.Header.Issued), time.UnixMilli(e.Command.Header.Expires)
		if h.ledger.MayStart(id, issued, expires) != nil {
			if known, ok := h.ledger.Get(id); ok {
				h.recall(known)
			} else {
				h.post(0, node.RunNotStarted{Command: id, Why: "the ledger refuses it"})
			}
			return
		}
		if e.By != 0 && w.instant(h).Boot > e.By && w.plant != lateStart {
			h.post(0, node.RunLate{Command: id})
			return
		}
		started := exec.StartedRecord{Command: id, Digest: e.Digest, Issued: issued, Expires: expires, Time: w.instant(h).Wall}
		w.after(w.between(syncFrom, syncTo), func() {
			switch {
			case h.life != life:
				if w.chance(0.5) {
					_ = h.ledger.Fold(started)
				}
			case h.ledger.Fold(started) != nil: // a cancel came first
				if known, ok := h.ledger.Get(id); ok {
					h.recall(known)
				}
			default:
				h.alive(life, func() { h.exec(e) })
			}
		})
	}
	w.after(w.between(0, 5*time.Millisecond), func() { h.alive(life, barrier) })
}

// startSlack is how much later than its record a process may begin.
const startSlack = 5 * time.Second

// exec begins what the ledger has, unless the agent was stopped meanwhile: then it is too late for its grant.
func (h *host) exec(e node.StartRun) {
	if e.By == 0 || h.w.instant(h).Boot <= e.By+startSlack || h.w.plant == lateStart {
		h.begin(e.Command)
		return
	}
	id := e.Command.Header.ID
	h.fold(exec.EndedRecord{Command: id, Status: exec.Terminated, ExitCode: -1, Time: h.w.instant(h).Wall})
	h.post(0, ended(id, exec.Terminated))
}

// begin is the moment from which the process is there.
func (h *host) begin(c exec.Command) {
	w, id := h.w, c.Header.ID
	takes, status := w.fate(h, c)
	x := &run{command: id, ends: w.now + takes, status: status}
	h.runs[id] = x
	w.began(h, id)
	h.post(0, node.RunStarted{Command: id, At: w.instant(h).Wall.UnixMilli()})
	w.at(x.ends, func() { h.finish(x) })
}

// finish is the end of a process: its supervisor notes it, whether or not the agent is there.
func (h *host) finish(x *run) {
	if h.runs[x.command] != x {
		return
	}
	delete(h.runs, x.command)
	h.w.ended(h, x.command, x.status)
	h.fold(exec.EndedRecord{Command: x.command, Status: x.status, ExitCode: exitOf(x.status), Time: h.w.instant(h).Wall})
	if h.up {
		h.post(h.w.between(0, 5*time.Millisecond), ended(x.command, x.status))
	}
}

// lose ends a process with its machine: nobody notes it.
func (h *host) lose(x *run) {
	delete(h.runs, x.command)
	h.w.lost(h, x.command)
}

func exitOf(s exec.Status) int {
	switch s {
	case exec.Success:
		return 0
	case exec.Failed:
		return 1
	}
	return -1
}

func ended(id fleet.UUID, s exec.Status) node.RunEnded {
	return node.RunEnded{Command: id, Status: s, ExitCode: exitOf(s), Started: 1, Ended: 2}
}

// recall tells the core what the ledger knows of a command.
func (h *host) recall(known exec.State) {
	id := known.Command
	switch {
	case known.Ended != nil:
		h.post(time.Millisecond, ended(id, known.Ended.Status))
	case known.Started != nil && h.runs[id] != nil: // its supervisor outlived the agent
		h.post(time.Millisecond, node.RunStarted{Command: id, At: 1})
	case known.Started != nil:
		h.fold(exec.EndedRecord{Command: id, Status: exec.Unknown, ExitCode: -1, Time: h.w.instant(h).Wall})
		h.post(time.Millisecond, ended(id, exec.Unknown))
	case known.Cancelled != nil:
		h.post(time.Millisecond, node.RunEnded{Command: id, Status: exec.Cancelled})
	case known.Refused != nil:
		h.post(time.Millisecond, node.RunEnded{Command: id, Status: known.Status(), Detail: known.Refused.Reason})
	}
}

// killRun notes a cancel and stops the process: it takes a moment, and the process may end by itself before.
func (h *host) killRun(e node.KillRun) {
	h.fold(exec.CancelledRecord{Command: e.Command, Time: h.w.instant(h).Wall})
	x := h.runs[e.Command]
	if x == nil {
		return
	}
	h.w.after(h.w.between(0, 200*time.Millisecond), func() {
		if h.runs[e.Command] == x {
			x.status = exec.Cancelled
			h.finish(x)
		}
	})
}

func (h *host) refuseRun(e node.RefuseRun) {
	life := h.life
	r := exec.RefusedRecord{Command: e.Command, Digest: e.Digest, Reason: e.Reason, Time: h.w.instant(h).Wall, Status: e.As}
	h.w.after(h.w.between(syncFrom, syncTo), func() {
		if h.life != life {
			return
		}
		h.fold(r)
		h.post(0, node.RefusalKept{Command: e.Command})
	})
}
