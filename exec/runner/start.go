package runner

import (
	"context"
	"errors"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"

	"github.com/muster-fleet/muster/exec/account"
	"github.com/muster-fleet/muster/exec/cage"
)

// crossedError marks errors of Start behind the barrier.
type crossedError struct{ error }

func (e *crossedError) Unwrap() error { return e.error }

// Crossed reports whether an error of Start came after the command was, or may have been, recorded as started. It can
// then never be started again; an Ended event or the ledger of the next Open says what became of it. When false, nothing
// was recorded, and the command may still be started.
func Crossed(err error) bool {
	_, ok := errors.AsType[*crossedError](err)
	return ok
}

var errLate = fleet.Errorf(fleet.Expired, "the time by which it was to start has passed")

// Late reports whether an error of Start says that Spec.By had passed before the start was recorded. It may be started
// later, with another By.
func Late(err error) bool { return errors.Is(err, errLate) }

// Start runs a command. It waits for a free place (until ctx ends), and returns once the start is on disk and the
// supervisor lives; the rest comes as Events. See Crossed for its errors. Of a command that was cancelled first, also
// while it waited, an Ended event tells.
func (r *Runner) Start(ctx context.Context, spec Spec) error {
	if err := r.enter(); err != nil {
		return err
	}
	defer r.wg.Done()
	err := r.startInTurn(ctx, spec)
	if err != nil && !Crossed(err) {
		r.tellCancelled(spec.Command)
	}
	return err
}

func (r *Runner) startInTurn(ctx context.Context, spec Spec) error {
	cancelled, leave := r.queueUp(spec.Command)
	defer leave()
	o, err := r.order(spec)
	if err != nil {
		return err
	}
	secrets, err := r.openFirst(ctx, o, cancelled)
	if err != nil {
		return err
	}
	if err := r.takeSlot(ctx, cancelled); err != nil {
		return err
	}
	o.Opened = len(secrets) > 0
	defer wipe(secrets) // the supervisor has its own
	if spec.May != nil {
		if err := spec.May(); err != nil {
			<-r.slots
			return err
		}
	}
	run := newRun(spec.Command)
	run.slot, run.by = true, spec.By
	err = r.start(run, spec, o, secrets)
	if err != nil && !Crossed(err) {
		r.freeSlot(run)
	}
	return err
}

// queueUp returns a channel that is closed when the ledger has the command's cancel.
func (r *Runner) queueUp(command fleet.UUID) (cancelled <-chan struct{}, leave func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.starting[command]
	if c == nil {
		c = make(chan struct{})
		r.starting[command] = c
	}
	return c, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.starting[command] == c {
			delete(r.starting, command)
		}
	}
}

// wakeCancelled lets a start that waits for its turn look at the ledger.
func (r *Runner) wakeCancelled(command fleet.UUID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c := r.starting[command]; c != nil {
		close(c)
		delete(r.starting, command)
	}
}

// tellCancelled tells the end of a command that was cancelled before it started: no supervisor will.
func (r *Runner) tellCancelled(command fleet.UUID) {
	s, ok := r.Ledger().Get(command)
	if !ok || s.Cancelled == nil || s.Started != nil {
		return
	}
	r.events.put(Ended{command, Result{Status: exec.Cancelled, Detail: "cancelled before it started"}})
}

// order checks all that can be checked before the barrier.
func (r *Runner) order(spec Spec) (order, error) {
	if err := spec.check(); err != nil {
		return order{}, err
	}
	if err := r.mayStart(spec); err != nil {
		return order{}, err
	}
	who, drop, err := account.Resolve(spec.User)
	if err != nil {
		return order{}, err
	}
	o := makeOrder(spec, who, drop, r.boot)
	if err := r.knowsActs(spec); err != nil {
		return order{}, err
	}
	dir := r.folder(spec.Command)
	o.Grace, o.Contain, o.Cgroup, o.Act = int64(r.cfg.grace), r.cfg.contain, cage.Name(string(dir)), r.cfg.Act
	if !spec.Plan.Plain() {
		o.Downloads = downloadsOf(dir, drop)
	}
	return o, nil
}

func (r *Runner) knowsActs(spec Spec) error {
	for _, step := range spec.Plan.Steps {
		if step.Act != "" && len(r.cfg.Act) == 0 {
			return fleet.Errorf(fleet.Unavailable, "this agent has no actions of its own, and command %s needs %q", spec.Command, step.Act)
		}
	}
	return nil
}

func (r *Runner) mayStart(spec Spec) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ledger.MayStart(spec.Command, spec.Issued, spec.Expires)
}

// takeSlot waits for a place. While the host is about to restart there is none for a run that has not begun.
func (r *Runner) takeSlot(ctx context.Context, cancelled <-chan struct{}) error {
	if r.held() == nil {
		select {
		case r.slots <- struct{}{}:
			return nil
		default:
		}
	}
	if r.queued.Add(1) > int64(r.cfg.MaxQueued) {
		r.queued.Add(-1)
		return fleet.Errorf(fleet.Exhausted, "%d runs are going and %d wait on this node", r.cfg.MaxRunning, r.cfg.MaxQueued).
			Hinted("send the command again later")
	}
	defer r.queued.Add(-1)
	for {
		slots, held := r.slots, r.held()
		if held != nil {
			slots = nil
		}
		select {
		case slots <- struct{}{}:
			if r.held() == nil {
				return nil
			}
			<-r.slots
		case <-held:
		case <-cancelled:
			return fleet.Errorf(fleet.Conflict, "the command was cancelled while it waited for its turn")
		case <-ctx.Done():
			return fleet.Errorf(fleet.Unavailable, "the command got no place among %d runs: %w", r.cfg.MaxRunning, context.Cause(ctx))
		case <-r.ctx.Done():
			return fleet.Errorf(fleet.Unavailable, "the runner is closed")
		}
	}
}

func (r *Runner) freeSlot(run *run) {
	if run.slot {
		<-r.slots
	}
}

func (r *Runner) start(run *run, spec Spec, o order, secrets [][]byte) error {
	dir := r.folder(spec.Command)
	if !r.register(run) {
		return fleet.Errorf(fleet.Conflict, "command %s is being started", spec.Command)
	}
	p, err := dir.prepare()
	if err != nil {
		r.unregister(run)
		return r.notPrepared(spec, dir, err)
	}
	defer p.Close()
	at := r.cfg.Now()
	err = r.journal.append(exec.StartedRecord{Command: spec.Command, Digest: spec.Digest, Issued: spec.Issued, Expires: spec.Expires,
		BootID: r.boot, Time: at})
	if _, doubt := errors.AsType[*doubtError](err); doubt {
		r.unregister(run)
		r.freeSlot(run)
		return &crossedError{err}
	}
	if err != nil {
		r.unregister(run)
		return errors.Join(err, os.RemoveAll(string(dir)))
	}
	// The barrier is crossed.
	if r.cfg.afterBarrier != nil {
		r.cfg.afterBarrier()
	}
	if r.isCancelled(run) {
		p.Close() // the lock goes before the end is told
		r.end(run, exec.EndedRecord{Command: spec.Command, Status: exec.Cancelled, ExitCode: -1, Time: r.cfg.Now(),
			Detail: "cancelled before it was launched"})
		return nil
	}
	if err := r.launch(dir, p, o, secrets); err != nil {
		p.Close()
		r.end(run, exec.EndedRecord{Command: spec.Command, Status: exec.Failed, ExitCode: -1, Time: r.cfg.Now(),
			Detail: "its supervisor could not be launched: " + err.Error()})
		return &crossedError{fleet.Errorf(fleet.Unavailable, "cannot launch the supervisor of command %s: %w", spec.Command, err)}
	}
	p.Close()
	r.wg.Go(func() { r.follow(run) })
	return nil
}

// notPrepared explains why there is no run folder. One that exists bears witness of a start that the ledger has lost:
// Open removes those of starts that were never recorded.
func (r *Runner) notPrepared(spec Spec, dir folder, err error) error {
	switch {
	case errors.Is(err, os.ErrExist):
		return fleet.Errorf(fleet.Conflict, "command %s was already started on this node: it has a run folder", spec.Command)
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return fleet.Errorf(fleet.Exhausted, "no room on the disk for a run: %w", err).Hinted("free space on the disk of %s", r.cfg.Dir)
	}
	return fleet.Errorf(fleet.Internal, "cannot make the run folder: %w", err)
}

// register claims the command among concurrent starts.
func (r *Runner) register(run *run) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.running[run.command] != nil {
		return false
	}
	r.running[run.command] = run
	return true
}

func (r *Runner) unregister(run *run) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.running, run.command)
}

func (r *Runner) isCancelled(run *run) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return run.cancelled
}

// secretsFD is the supervisor's, of an order with Opened.
const secretsFD = cage.MoreFD

// launch starts the supervisor, with no secret in its arguments.
func (r *Runner) launch(dir folder, p *cage.Given, o order, secrets [][]byte) error {
	var more []*os.File
	if o.Opened {
		values, err := cage.MemoryFile("secrets", wire.Marshal(secrets))
		if err != nil {
			return err
		}
		defer values.Close()
		more = append(more, values)
	}
	process, err := p.Start(append(slices.Clone(r.cfg.Self), fleet.UUID(o.Command).String()), string(dir), o, more...)
	if err != nil {
		return err
	}
	go process.Wait() // it may outlive the Runner, so nobody waits for this goroutine
	return nil
}

// Refuse records that this node will not run a command, and as what that is told, so that no later delivery of it is
// judged anew.
func (r *Runner) Refuse(command fleet.UUID, digest fleet.ID, as exec.Status, reason string) error {
	if err := r.enter(); err != nil {
		return err
	}
	defer r.wg.Done()
	if s, ok := r.Ledger().Get(command); ok && s.Refused != nil {
		return nil
	}
	return r.journal.append(exec.RefusedRecord{Command: command, Digest: digest, Reason: reason, Time: r.cfg.Now(), Status: as})
}

// Cancel stops a command: all that it started dies, first asked (SIGTERM), then killed. A cancel of a command not yet
// seen is kept and refuses it for good; of one that has ended, it changes nothing.
func (r *Runner) Cancel(command fleet.UUID) error {
	if err := r.enter(); err != nil {
		return err
	}
	defer r.wg.Done()
	r.stopRun(command) // before the disk is asked
	s, _ := r.Ledger().Get(command)
	if s.Cancelled != nil || s.Ended != nil {
		return nil
	}
	err := r.journal.append(exec.CancelledRecord{Command: command, Time: r.cfg.Now()})
	r.stopRun(command) // once more: it may have been recorded as started between
	if err == nil {
		r.wakeCancelled(command)
	}
	return err
}

func (r *Runner) stopRun(command fleet.UUID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	run := r.running[command]
	if run == nil {
		return
	}
	if !run.cancelled {
		run.cancelled = true
		close(run.called)
	}
	if run.conn != nil {
		ask(run.conn, askCancel)
	}
}

// end records and tells how a run ended.
func (r *Runner) end(run *run, record exec.EndedRecord) {
	if err := r.folder(record.Command).clearAfter(); err != nil {
		r.cfg.Log.Warn("what a run leaves cannot be removed", "command", record.Command.String(), "err", err)
	}
	if err := r.journal.append(record); err != nil {
		r.cfg.Log.Error("the end of a run could not be recorded", "command", record.Command.String(), "status", string(record.Status), "err", err)
	}
	s, _ := r.Ledger().Get(record.Command)
	var began time.Time
	if s.Started != nil {
		began = s.Started.Time
	}
	r.unregister(run)
	r.freeSlot(run)
	r.roomNeeded(record.Stdout.Kept + record.Stderr.Kept + 2*cage.NoteSize)
	r.events.put(Ended{record.Command, Result{Status: record.Status, ExitCode: record.ExitCode, Signal: record.Signal,
		Started: began, Ended: record.Time, Stdout: record.Stdout, Stderr: record.Stderr, Detail: record.Detail, Steps: r.Steps(record.Command)}})
}
