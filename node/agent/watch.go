package agent

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
)

// serveWatch streams what this server has of a command, and what comes, until the peer goes.
func (a *Agent) serveWatch(s Stream, body []byte) error {
	var signed auth.Envelope
	if err := errors.Join(wire.Unmarshal(body, &signed), a.needReplica()); err != nil {
		return err
	}
	return a.watchHere(s.Context(), signed, func(w watchBody) error { return s.WriteFrame(done, wire.Marshal(w)) })
}

func (a *Agent) watchHere(ctx context.Context, signed auth.Envelope, each func(watchBody) error) error {
	read, err := node.OpenRead(a.record(), signed, a.now())
	if err != nil {
		return err
	}
	if c, ok := a.replica.State().Command(read.Arg); ok {
		info := watchInfo{Order: c.Order, Operator: c.Operator, Act: c.Act, Committed: c.Committed, Cancelled: c.Cancelled}
		if err := each(watchBody{Info: []watchInfo{info}}); err != nil {
			return err
		}
	}
	kept, err := a.reports.Of(read.Arg)
	if err != nil {
		return err
	}
	for _, e := range kept {
		if err := each(watchBody{Report: []auth.Envelope{e}}); err != nil {
			return err
		}
	}
	if err := each(watchBody{Synced: true}); err != nil {
		return err
	}
	return a.reports.Watch(ctx, read.Arg, func(e auth.Envelope) error { return each(watchBody{Report: []auth.Envelope{e}}) })
}

// reopenAfter is how soon a server that went silent is asked again.
const reopenAfter = time.Second

// watching folds what all servers say of one command.
type watching struct {
	mu     sync.Mutex
	each   func(node.Update) error
	stop   context.CancelCauseFunc
	newest map[fleet.ID]exec.Report
	info   *node.CommandInfo
	open   int
	refuse error
	behind map[fleet.ID]bool // servers that have not told all they had yet; nil when Synced was said
}

// Watch streams a command's info and every node's newest report, folded from all servers, until ctx ends or each fails.
// When no server answers for a while it returns why.
func (a *Agent) Watch(ctx context.Context, signed auth.Envelope, each func(node.Update) error) error {
	ctx, stop := context.WithCancelCause(ctx)
	var streams sync.WaitGroup
	defer streams.Wait()
	defer stop(nil)
	w := &watching{each: each, stop: stop, newest: map[fleet.ID]exec.Report{}, behind: map[fleet.ID]bool{}}
	for _, id := range a.servers() {
		if a.alive(id) {
			w.behind[id] = true
		}
	}
	running := map[fleet.ID]bool{}
	ended := make(chan fleet.ID)
	again := time.NewTicker(reopenAfter)
	defer again.Stop()
	silent := 0
	for {
		for _, id := range a.servers() {
			if !running[id] {
				running[id] = true
				streams.Go(func() {
					a.watchServer(ctx, w, id, signed)
					select {
					case ended <- id:
					case <-ctx.Done():
					}
				})
			}
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case id := <-ended:
			delete(running, id)
			select { // do not spin on a server that answers no
			case <-ctx.Done():
			case <-time.After(retryLeader):
			}
		case <-again.C:
		}
		if silent = w.silence(silent); silent > 5 {
			return w.why()
		}
	}
}

// silence counts rounds in which no server had a stream open.
func (w *watching) silence(rounds int) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.open > 0 {
		return 0
	}
	return rounds + 1
}

func (w *watching) why() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.refuse != nil {
		return w.refuse
	}
	return fleet.Errorf(fleet.Unavailable, "no server answers").Hinted("muster quorum status")
}

func (a *Agent) watchServer(ctx context.Context, w *watching, id fleet.ID, signed auth.Envelope) {
	err := a.streamFrom(ctx, w, id, signed)
	if ctx.Err() == nil {
		_ = w.caughtUp(id) // it will tell nothing more
	}
	if err != nil && ctx.Err() == nil {
		a.log.Debug("a watch ended", "peer", id, "err", err)
		w.mu.Lock()
		w.refuse = err
		w.mu.Unlock()
	}
}

func (a *Agent) streamFrom(ctx context.Context, w *watching, id fleet.ID, signed auth.Envelope) error {
	if id == a.self {
		if err := a.needReplica(); err != nil {
			return err
		}
		defer w.opened()()
		return a.watchHere(ctx, signed, func(b watchBody) error { return w.take(a.record(), id, b) })
	}
	dial, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	s, err := a.peers.Open(dial, id)
	if err != nil {
		return err
	}
	defer s.Close()
	defer context.AfterFunc(ctx, func() { s.Close() })()
	if err := s.WriteFrame(askWatch, wire.Marshal(signed)); err != nil {
		return err
	}
	defer w.opened()()
	for {
		_, body, err := s.ReadFrame()
		if err != nil {
			return err
		}
		var b watchBody
		if err := wire.Unmarshal(body, &b); err != nil {
			return err
		}
		if err := w.take(a.record(), id, b); err != nil {
			return err
		}
	}
}

func (w *watching) opened() (closed func()) {
	w.mu.Lock()
	w.open++
	w.mu.Unlock()
	return func() {
		w.mu.Lock()
		w.open--
		w.mu.Unlock()
	}
}

// take folds one piece of news and passes on what is new in it.
func (w *watching) take(record auth.Record, from fleet.ID, b watchBody) error {
	if b.Synced {
		return w.caughtUp(from)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	u := node.Update{Servers: w.open}
	if len(b.Info) == 1 {
		info, err := readInfo(b.Info[0])
		if err != nil {
			return err
		}
		if w.info == nil || (info.Cancelled != 0 && w.info.Cancelled == 0) {
			w.info, u.Info = &info, &info
		}
	}
	if len(b.Report) == 1 {
		r, err := exec.OpenReport(record, b.Report[0])
		if err != nil {
			return err
		}
		if old, had := w.newest[r.Node]; !had || exec.Supersedes(old, r) {
			w.newest[r.Node] = r
			u.Report = &r
		}
	}
	if u.Info == nil && u.Report == nil {
		return nil
	}
	if err := w.each(u); err != nil {
		w.stop(err)
		return err
	}
	return nil
}

// caughtUp notes that a server has told all it had; with the last of them, Synced is said.
func (w *watching) caughtUp(id fleet.ID) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.behind == nil {
		return nil
	}
	delete(w.behind, id)
	if len(w.behind) > 0 || w.info == nil {
		return nil
	}
	w.behind = nil
	err := w.each(node.Update{Servers: w.open, Synced: true})
	if err != nil {
		w.stop(err)
	}
	return err
}

func readInfo(i watchInfo) (node.CommandInfo, error) {
	body, err := auth.Peek[exec.Command](i.Order.Statement)
	return node.CommandInfo{
		ID: body.Header.ID, Body: body, Operator: i.Operator, Act: i.Act, Committed: i.Committed, Cancelled: i.Cancelled, Nodes: i.Order.Nodes,
	}, err
}
