package upgrade

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/fleet"
)

// Agent is the agent of this host, by its socket.
type Agent interface {
	Status(ctx context.Context) (node.Status, error)
	// Restart asks it to start its program anew in its place, as the same process.
	Restart(ctx context.Context) error
}

// Order says which agent is to have which program.
type Order struct {
	Agent   Agent
	Socket  string      // where it answers
	DataDir string      // its data folder
	Binary  string      // the new program, verified
	To      Build       // what it is; Sum is not asked for
	Arch    string      // as Go names this host's
	Level   fleet.Level // the newest that this program supports, which is the agent's
	Say     func(format string, args ...any)
	// LetGo has whoever supervises this process let go of what it leaves behind; nil: nobody supervises it.
	LetGo func() error

	wait patience // zero: usual
}

// Outcome is what came of it.
type Outcome struct {
	From, To string        // versions
	Already  bool          // nothing was to be done
	Away     time.Duration // for how long the agent did not answer
}

// Times of watching.
const (
	lookPause = 200 * time.Millisecond
	askTime   = 3 * time.Second // for one answer of the agent
)

// Carry gives the agent its new program, watches it, and confirms it or takes it back. It is to run as root, in a process that
// outlives the agent. When ctx ends while the new program is on trial, the agent judges itself (SelfAfter); where it has ended, and
// nobody would start it again, the old one is started before Carry returns.
func (o Order) Carry(ctx context.Context) (Outcome, error) {
	if o.wait == (patience{}) {
		o.wait = usual()
	}
	p, err := agentAt(o.Socket)
	if err != nil {
		return Outcome{}, err
	}
	defer p.close()
	only, err := alone(o.DataDir)
	if err != nil {
		return Outcome{}, err
	}
	defer only.Close()
	s, err := o.Agent.Status(ctx)
	if err != nil {
		return Outcome{}, err
	}
	out := Outcome{From: s.Version, To: o.To.Version}
	t, running, err := o.trial(p, ViewOf(s))
	if err != nil {
		return out, err
	}
	if t.From.Sum == t.To.Sum {
		out.Already = true
		return out, nil
	}
	if err := o.prepare(ctx, t, running); err != nil {
		return out, err
	}
	return o.see(ctx, p, t, out)
}

// alone holds others off who want to upgrade the same host now, until the file is closed.
func alone(dataDir string) (*os.File, error) {
	path := filepath.Join(dataDir, actName)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, failed("write", path, err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return nil, fleet.Errorf(fleet.Conflict, "another upgrade is under way on this host").Hinted("wait for it, and repeat this")
	}
	return f, nil
}

// trial describes what is to be tried, when it may be.
func (o Order) trial(p *process, before View) (t Trial, running string, err error) {
	running, program, err := p.running()
	if err != nil {
		return t, "", fleet.Errorf(fleet.Denied, "cannot look at the agent's program: %w", bare(err)).Hinted("the upgrade runs as root: leave --user out")
	}
	t = Trial{Format: format, ID: rand.Text(), Program: program, Stage: Ready, Before: before, To: o.To,
		From: Build{Version: before.Version, Level: o.Level}}
	t.Old, t.New = besides(program, o.DataDir)
	if t.From.Sum, err = sumOf(running); err != nil {
		return t, "", failed("read", program, err)
	}
	if t.To.Sum, err = sumOf(o.Binary); err != nil {
		return t, "", failed("read", o.Binary, err)
	}
	if last, ok, err := Read(o.DataDir); err == nil && ok && !last.Stage.Over() && last.To.Sum == t.From.Sum {
		return t, "", fleet.Errorf(fleet.Conflict, "version %s is still on trial on this host", last.To.Version).
			Hinted("in %s at most it has judged itself; then repeat it", SelfAfter)
	}
	if t.found() == Other {
		return t, "", fleet.Errorf(fleet.Conflict, "%s is not the program that the agent runs: it was replaced, by a package perhaps", program).
			Hinted("restart the agent first, so that it is clear what there is to go back to: systemctl restart muster")
	}
	return t, running, nil
}

// prepare lays both programs beside the agent's, tries whether the new one runs at all, and swaps them. On an error nothing is
// changed.
func (o Order) prepare(ctx context.Context, t Trial, running string) (err error) {
	defer func() {
		if err != nil {
			t.clear()
		}
	}()
	if err := place(o.Binary, t.New, running); err != nil {
		return err
	}
	if sum, err := sumOf(t.New); err != nil || sum != t.To.Sum {
		return failed("read back", t.New, cmp.Or(err, errors.New("it is not what was written: look into dmesg for a failing disk")))
	}
	if err := o.try(ctx, t.New); err != nil {
		return err
	}
	if err := saveOld(running, t.Program, t.Old); err != nil {
		return err
	}
	if err := syncDir(filepath.Dir(t.Program)); err != nil {
		return err
	}
	return locked(o.DataDir, func() error {
		if err := t.save(o.DataDir); err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		return t.swap()
	})
}

// see has the agent take up its new program, and watches it to the end of the trial.
func (o Order) see(ctx context.Context, p *process, t Trial, out Outcome) (Outcome, error) {
	asked, stop := context.WithTimeout(ctx, askTime)
	err := o.Agent.Restart(asked)
	stop()
	began := time.Now()
	if err != nil {
		return out, o.takeBack(ctx, p, t, "the agent does not restart: "+err.Error())
	}
	w := watcher{o: o, p: p, t: t, began: began, well: began, lived: began}
	for {
		s := w.look(ctx)
		switch v, why := s.judge(t.To.Version, o.wait); v {
		case keep:
			now, _, ok, err := change(o.DataDir, t.ID, Trial.keepIfThere)
			if err != nil || !ok {
				return out, fleet.Errorf(fleet.Internal, "version %s is well, but that cannot be written down: %w", t.To.Version, err)
			}
			if now.Stage == Kept {
				out.Away = w.away
				return out, nil
			} // it was taken back since it was looked at: look again
			if s.After >= o.wait.confirm {
				return out, o.takeBack(ctx, p, t, "it is well, but it is not what lies at its place")
			}
		case ended:
			return out, o.afterEnd(ctx, s, t)
		case goBack:
			return out, o.takeBack(ctx, p, t, why)
		case wait:
		}
		select {
		case <-time.After(lookPause):
		case <-ctx.Done():
			if !p.kept && len(p.lives()) == 0 {
				return out, o.takeBack(ctx, p, t, "it had ended when its trial was stopped")
			}
			return out, fleet.Errorf(fleet.Unavailable, "stopped while version %s is on trial", t.To.Version).
				Hinted("in %s at most the agent has judged itself: muster version", SelfAfter)
		}
	}
}

// keepIfThere keeps the new program if it is still at its place, and nobody has taken it back.
func (t Trial) keepIfThere() (Trial, Next) {
	if t.Stage.Over() || t.Stage == Back || t.found() != New {
		return t, Next{}
	}
	return t.Keep()
}

// watcher remembers what a watch over an agent goes by.
type watcher struct {
	o           Order
	p           *process
	t           Trial
	began       time.Time
	well, lived time.Time // when it was last seen unwell, and alive
	away        time.Duration
}

func (w *watcher) look(ctx context.Context) Sight {
	ctx, stop := context.WithTimeout(ctx, askTime)
	defer stop()
	var s Sight
	if t, ok, err := Read(w.o.DataDir); err == nil && ok && t.ID == w.t.ID {
		s.Stage, s.Why, s.Starts = t.Stage, t.Why, t.Starts
	}
	status, err := w.o.Agent.Status(ctx)
	now := time.Now()
	if err == nil {
		s.Said, s.Lack = status.Version, w.t.Before.Lack(ViewOf(status))
		if w.away == 0 && s.Said == w.t.To.Version {
			w.away = now.Sub(w.began)
		}
	}
	if s.Said != w.t.To.Version || s.Lack != "" || s.Stage == Ready {
		w.well = now
	}
	if s.Said != "" || len(w.p.lives()) > 0 {
		w.lived = now
	}
	s.After, s.Well, s.Gone = now.Sub(w.began), now.Sub(w.well), now.Sub(w.lived)
	return s
}

// takeBack puts the old program back, has it run, and returns the error that says so.
func (o Order) takeBack(ctx context.Context, p *process, t Trial, why string) error {
	now, _, ok, err := change(o.DataDir, t.ID, func(now Trial) (Trial, Next) {
		if now.Stage.Over() {
			return now, Next{}
		}
		if now.found() != New {
			return now.Start(now.found())
		}
		return now.GoBack(why)
	})
	switch {
	case err != nil:
		return fleet.Errorf(fleet.Internal, "version %s is no good (%s), and the old one cannot be put back: %w", t.To.Version, why, err)
	case !ok:
		return fleet.Errorf(fleet.Conflict, "version %s is no good (%s), and somebody else upgrades this host meanwhile", t.To.Version, why)
	}
	switch {
	case now.Stage == Kept: // the agent judged itself while nobody looked
		return nil
	case now.found() == Other:
		return replaced(t)
	}
	why = orElse(now.Why, why)
	if err := o.revive(ctx, p, t); err != nil {
		return fleet.Errorf(fleet.Unavailable, "version %s is taken back: %s; but %s does not answer again: %w", t.To.Version, why, t.From.Version, err).
			Hinted("on that host: systemctl status muster; its old program is at its place, %s", t.Program)
	}
	_, _, _, _ = change(o.DataDir, t.ID, func(now Trial) (Trial, Next) { // an agent that never started anew does not do it
		if now.Stage.Over() || now.found() != Old {
			return now, Next{}
		}
		return now.Start(Old)
	})
	return fleet.Errorf(fleet.Unavailable, "version %s is taken back, and %s runs again: %s", t.To.Version, t.From.Version, why)
}

func replaced(t Trial) error {
	return fleet.Errorf(fleet.Conflict, "another program was put in the place of version %s meanwhile, by a package perhaps: it stays", t.To.Version)
}

// afterEnd says what became of a trial that ended without us.
func (o Order) afterEnd(ctx context.Context, s Sight, t Trial) error {
	switch {
	case s.Stage == Kept:
		return nil
	case t.found() == Other:
		return replaced(t)
	}
	if err := o.await(ctx, t.From.Version, o.wait.back); err != nil {
		return fleet.Errorf(fleet.Unavailable, "version %s was taken back: %s; and the agent does not answer: %w", t.To.Version, s.Why, err)
	}
	return fleet.Errorf(fleet.Unavailable, "version %s was taken back: %s", t.To.Version, s.Why)
}

// revive has the program at the path run: it asks the agent, or ends it, and starts it where nobody else does. When ctx ends, it
// still does that, and does not wait for an answer.
func (o Order) revive(ctx context.Context, p *process, t Trial) error {
	if p.runs(t.From.Sum) && (o.await(ctx, t.From.Version, askTime) == nil || ctx.Err() != nil) {
		return nil // it never started anew
	}
	asked, stop := context.WithTimeout(ctx, askTime)
	err := o.Agent.Restart(asked)
	stop()
	if err == nil && o.await(ctx, t.From.Version, o.wait.manager) == nil {
		return nil
	}
	p.kill()
	for end := time.Now().Add(o.wait.manager); len(p.lives()) == 0; {
		if ctx.Err() != nil && p.kept {
			return context.Cause(ctx)
		}
		if ctx.Err() != nil || time.Now().After(end) {
			o.Say("nothing starts the agent again; starting it")
			if err := o.start(p, t.Program); err != nil {
				return err
			}
			break
		}
		select {
		case <-time.After(lookPause):
		case <-ctx.Done():
		}
	}
	return o.await(ctx, t.From.Version, o.wait.back)
}

// await waits until the agent answers with a version.
func (o Order) await(ctx context.Context, version string, most time.Duration) error {
	ctx, stop := context.WithTimeout(ctx, most)
	defer stop()
	for {
		s, err := o.Agent.Status(ctx)
		if err == nil && s.Version == version {
			return nil
		}
		select {
		case <-time.After(lookPause):
		case <-ctx.Done():
			if err == nil {
				err = fmt.Errorf("version %s answers", s.Version)
			}
			return errors.Join(err)
		}
	}
}

func orElse(a, b string) string {
	if a != "" {
		return a
	}
	return b
}
