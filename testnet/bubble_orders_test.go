package testnet

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/muster-fleet/muster/consensus"
	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
)

func newUUID() (id fleet.UUID) {
	_, _ = rand.Read(id[:])
	return id
}

// header begins a statement as the command line does on that host.
func (h *townHost) header(life time.Duration) auth.Header {
	s := h.status()
	out := auth.Header{ID: newUUID(), Issued: s.Now.UnixMilli(), Charter: s.CharterHead, Act: s.Act, Mode: auth.ByQuorum}
	if life != 0 {
		out.Expires = s.Now.Add(life).UnixMilli()
	}
	return out
}

func (h *townHost) propose(e consensus.Entry) error {
	_, err := h.host.Agent.Propose(h.town.Context(), e)
	h.town.noteAnswer(e, err)
	return err
}

// amend changes the charter.
func (h *townHost) amend(kind auth.CharterKind, content any) {
	w := h.town
	w.Helper()
	s := h.status()
	entry := auth.SignCharterAt(w.fleet, s.CharterHead, s.CharterLen, h.header(0), kind, content, w.root)
	w.must(h.propose(consensus.PutAct{Kind: auth.ActCharter, Data: wire.Marshal(entry)}))
}

// remove takes a node out of the fleet.
func (h *townHost) remove(gone *townHost) {
	w := h.town
	w.Helper()
	entry, _ := h.host.Agent.Record().Roster.Node(gone.id)
	statement := w.tester.Sign(auth.ForNodeRemove, w.fleet, auth.NodeRemove{Header: h.header(0), Node: gone.id, Seq: entry.Seq + 1})
	w.must(h.propose(consensus.PutAct{Kind: auth.ActNodeRemove, Data: wire.Marshal(statement)}))
}

// order signs a command for some hosts, all that the roster names if none is given.
func (h *townHost) order(by auth.Signer, to ...*townHost) (fleet.UUID, consensus.PutCommand) {
	w := h.town
	target := fleet.All()
	var ids []fleet.ID
	for _, t := range to {
		ids = append(ids, t.id)
	}
	if len(to) == 0 {
		for entry := range h.host.Agent.Record().Roster.All() {
			ids = append(ids, entry.ID)
		}
	} else {
		var names []string
		for _, t := range to {
			names = append(names, t.name)
		}
		var err error
		if target, err = fleet.ParseTarget(strings.Join(names, " or ")); err != nil {
			w.Fatal(err)
		}
	}
	ids = exec.SortIDs(ids)
	body := exec.Command{
		Header: h.header(w.life), Target: target.String(), Count: uint32(len(ids)), Set: exec.SetDigest(ids),
		Run: exec.Run{Argv: []string{"echo done"}, Timeout: exec.DefaultTimeout.Milliseconds()},
	}
	w.noteOrder(body, ids)
	return body.Header.ID, consensus.PutCommand{Statement: by.Sign(auth.ForCommand, w.fleet, body), Nodes: ids}
}

// send brings a command to the fleet.
func (h *townHost) send(to ...*townHost) fleet.UUID {
	h.town.Helper()
	id, entry := h.order(h.town.tester, to...)
	if err := h.propose(entry); err != nil {
		h.town.Fatalf("%s cannot send: %v", h.name, err)
	}
	return id
}

// sendThrough is send on a network so bad that a try may fail: the same statement is proposed until somebody has it.
func (h *townHost) sendThrough(to ...*townHost) fleet.UUID {
	h.town.Helper()
	id, entry := h.order(h.town.tester, to...)
	h.town.until("somebody takes the command", 2*time.Minute, func() bool { return h.propose(entry) == nil })
	return id
}

// cancelThrough cancels a command, in the same way.
func (h *townHost) cancelThrough(command fleet.UUID) {
	w := h.town
	w.Helper()
	entry := consensus.PutCancel{Statement: w.tester.Sign(auth.ForCancel, w.fleet, exec.Cancel{Header: h.header(w.life), Command: command})}
	w.until("somebody takes the cancel", 2*time.Minute, func() bool { return h.propose(entry) == nil })
	w.noteCancel(command)
}

func (h *townHost) read(what node.ReadWhat, arg fleet.UUID) auth.Envelope {
	return h.town.tester.Sign(auth.ForRequest, h.town.fleet, node.Read{Header: h.header(node.ReadLife), What: what, Arg: arg})
}

// reports returns what the servers tell a host of a command's nodes: all that they have, and what comes within a moment
// until all of some hosts have ended.
func (h *townHost) reports(command fleet.UUID, of ...*townHost) map[string]exec.Report {
	ctx, enough := context.WithTimeout(h.town.Context(), 2*time.Second)
	defer enough()
	out, synced := map[string]exec.Report{}, false
	_ = h.host.Agent.Watch(ctx, h.read(node.ReadCommand, command), func(u node.Update) error {
		if u.Report != nil {
			out[h.town.nameOf(u.Report.Node)] = *u.Report
		}
		synced = synced || u.Synced
		if synced && len(of) > 0 && !slices.ContainsFunc(of, func(o *townHost) bool { return !out[o.name].Status.Final() }) {
			enough()
		}
		return nil
	})
	if !synced { // a server that knows less may have spoken first; who counts on it would count on what nobody has noted
		return nil
	}
	for _, r := range out {
		h.town.noteReport(h, r)
	}
	return out
}

func (w *town) nameOf(id fleet.ID) string {
	for _, h := range w.hosts {
		if h.id == id {
			return h.name
		}
	}
	return id.String()
}

// awaitStatus waits until the servers have a status of a command from every one of some hosts.
func (h *townHost) awaitStatus(command fleet.UUID, status exec.Status, most time.Duration, of ...*townHost) {
	h.town.Helper()
	h.town.until(fmt.Sprintf("%s reports of %d hosts", status, len(of)), most, func() bool {
		got := h.reports(command, of...)
		return !slices.ContainsFunc(of, func(o *townHost) bool { return got[o.name].Status != status })
	})
}
