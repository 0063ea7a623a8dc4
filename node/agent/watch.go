package agent

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/muster-fleet/muster/consensus"
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
	if err == nil && read.What != node.ReadCommand {
		err = fleet.Errorf(fleet.Invalid, "the request to read %q is none to watch a command", read.What)
	}
	if err != nil {
		return err
	}
	state := a.replica.State()
	if c, ok := state.Command(read.Arg); ok {
		info := watchInfo{Order: c.Order, Operator: c.Operator, Act: c.Act, Committed: c.Committed, Now: movedOf(state, c)}
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
	var one sync.Mutex // each takes one thing at a time
	each = func(each func(watchBody) error) func(watchBody) error {
		return func(w watchBody) error {
			one.Lock()
			defer one.Unlock()
			return each(w)
		}
	}(each)
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var moving sync.WaitGroup
	defer moving.Wait()
	defer stop(nil)
	moving.Go(func() {
		if err := a.watchMoves(ctx, read.Arg, state, each); err != nil {
			stop(err)
		}
	})
	err = a.reports.Watch(ctx, read.Arg, func(e auth.Envelope) error { return each(watchBody{Report: []auth.Envelope{e}}) })
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

// movedEvery is how often news of a command's rollout is told, at most.
const movedEvery = 250 * time.Millisecond

// watchMoves tells of a command's cancels and of its rollout as they change.
func (a *Agent) watchMoves(ctx context.Context, id fleet.UUID, told consensus.State, each func(watchBody) error) error {
	look := time.NewTicker(movedEvery)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-look.C:
		}
		state := a.replica.State()
		was, _ := told.Command(id)
		c, ok := state.Command(id)
		if !ok || c == was {
			continue
		}
		told = state
		body := watchBody{Moved: []movedInfo{movedOf(state, c)}}
		if was == nil { // it came to this replica only now
			body = watchBody{Info: []watchInfo{{Order: c.Order, Operator: c.Operator, Act: c.Act, Committed: c.Committed, Now: movedOf(state, c)}}}
		}
		if err := each(body); err != nil {
			return err
		}
	}
}

func movedOf(s consensus.State, c *consensus.Command) movedInfo {
	return movedInfo{Taken: s.Taken, Cancelled: c.Cancelled, Cancels: c.Cancels, Rollout: c.Rollout}
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
	taken  uint64    // by which info is how it stands
	shown  time.Time // when info was passed on last
	later  bool      // info has changed since
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
			w.flush()
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
		if w.info == nil {
			w.info, w.taken = &info, b.Info[0].Now.Taken
			u.Info = w.show(true)
		} else {
			u.Info = w.moved(b.Info[0].Now)
		}
	}
	if len(b.Moved) == 1 {
		u.Info = w.moved(b.Moved[0])
	}
	if len(b.Report) == 1 {
		r, err := exec.OpenReport(record, b.Report[0])
		if err != nil {
			return err
		}
		if old, had := w.newest[r.Node]; !had || exec.Supersedes(old, r) {
			w.newest[r.Node] = r
			u.Report, u.Signed = &r, &b.Report[0]
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

// moved takes how a command stands, if that is newer than what is known, and returns what to pass on of it now: a rollout
// may move a thousand times a second.
func (w *watching) moved(m movedInfo) *node.CommandInfo {
	if w.info == nil || m.Taken <= w.taken || m.Rollout.Check(w.info.Body) != nil {
		return nil
	}
	before := *w.info
	next := before
	next.Cancelled, next.Cancels, next.Rollout = m.Cancelled, node.CancelledNodes(m.Cancels), m.Rollout
	w.info, w.taken = &next, m.Taken
	turn := next.Cancelled != before.Cancelled || next.Rollout.Stopped != before.Rollout.Stopped || next.Rollout.Wave != before.Rollout.Wave || next.Rollout.Done()
	return w.show(turn)
}

// show returns the info to pass on, or nil when it was passed on a moment ago and may wait.
func (w *watching) show(now bool) *node.CommandInfo {
	if w.later = !now && time.Since(w.shown) < movedEvery; w.later {
		return nil
	}
	w.shown = time.Now()
	return w.info
}

// flush passes on what waits.
func (w *watching) flush() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.later {
		return
	}
	if err := w.each(node.Update{Info: w.show(true), Servers: w.open}); err != nil {
		w.stop(err)
	}
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
	if err == nil {
		err = i.Now.Rollout.Check(body)
	}
	return node.CommandInfo{
		ID: body.Header.ID, Body: body, Operator: i.Operator, Act: i.Act, Committed: i.Committed, Nodes: i.Order.Nodes,
		Cancelled: i.Now.Cancelled, Cancels: node.CancelledNodes(i.Now.Cancels), Rollout: i.Now.Rollout,
	}, err
}
