package runner

import (
	"context"
	"os"
	osexec "os/exec"
	"strings"
	"time"

	"github.com/muster-fleet/muster/exec/steps"
	"github.com/muster-fleet/muster/node/fleet"
)

const (
	// rebootPatience is how long other runs on this host may take to end before it is restarted for one that waits.
	rebootPatience = 5 * time.Minute
	// rebootAgain is how long after it was asked a host may take to go down.
	rebootAgain = 5 * time.Minute
	// rebootAsks is how often it is asked before the runs that wait for it fail.
	rebootAsks = 3
	// rebootPause is how often it is looked whether the other runs have ended.
	rebootPause = 100 * time.Millisecond
	// rebootNews is how often a run that waits is told to be there: who grants places by signs of life hears of it.
	rebootNews = 30 * time.Second
	// rebootCommandTime is how long the command that restarts the host may take.
	rebootCommandTime = time.Minute
)

// vigil is how the wait for a restart stands, for all runs that wait.
type vigil struct {
	others int           // runs that are going and do not wait
	waited time.Duration // since the first run began to wait
	asks   int           // how often the host was asked
	asked  time.Duration // since the last time
}

// patience is how long to wait for what.
type patience struct{ others, again time.Duration }

type vigilMove int

const (
	keepWaiting vigilMove = iota
	askHost
	giveUpWaiting
)

// next decides about a wait: ask when nothing else runs or the others had their time; ask again when nothing came of it;
// and give up at last.
func (v vigil) next(p patience) vigilMove {
	switch {
	case v.asks == 0 && v.others > 0 && v.waited < p.others, v.asks > 0 && v.asked < p.again:
		return keepWaiting
	case v.asks == rebootAsks:
		return giveUpWaiting
	}
	return askHost
}

// wait is what the Runner keeps while runs wait for the host's restart. Runner.mu guards it.
type wait struct {
	runs  int
	over  chan struct{} // closed when no run waits any more: new ones may start
	began time.Time
	asks  int
	asked time.Time
	why   string // what came of the last ask
}

// held returns a channel that is closed when the host is no longer about to restart, or nil when it is not.
func (r *Runner) held() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.wait.over
}

// awaitReboot waits until the host is restarted, which ends this process, or the wait ends otherwise: then it returns how
// the run is to be stopped. It reports false when the Runner closes.
func (r *Runner) awaitReboot(run *run) (steps.Stopped, bool) {
	r.beginWait()
	defer r.endWait()
	r.tellProgress(run)
	news := time.NewTicker(rebootNews)
	defer news.Stop()
	r.cfg.Log.Warn("a run waits for the host's restart", "command", run.command.String())
	tick := time.NewTicker(rebootPause)
	defer tick.Stop()
	for !r.isCancelled(run) {
		switch move, why := r.waitOn(time.Now()); move {
		case keepWaiting:
		case giveUpWaiting:
			return steps.Stopped{Status: steps.Failed, Why: "it asked for a reboot, but " + why}, true
		case askHost:
			r.askHost()
		}
		select {
		case <-tick.C:
		case <-news.C:
			r.tellProgress(run)
		case <-run.called:
		case <-r.ctx.Done():
			return steps.Stopped{}, false
		}
	}
	return steps.Stopped{Status: steps.Cancelled, Why: "cancelled while it waited for the host's restart"}, true
}

// beginWait keeps new runs from starting.
func (r *Runner) beginWait() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.wait.runs++; r.wait.runs == 1 {
		r.wait = wait{runs: 1, over: make(chan struct{}), began: time.Now()}
	}
}

func (r *Runner) endWait() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.wait.runs--; r.wait.runs == 0 {
		close(r.wait.over)
		r.wait = wait{}
	}
}

// waitOn looks at the wait. Who is told to ask the host is the only one.
func (r *Runner) waitOn(now time.Time) (vigilMove, string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	w := &r.wait
	v := vigil{others: len(r.running) - w.runs, waited: now.Sub(w.began), asks: w.asks, asked: now.Sub(w.asked)}
	move := v.next(patience{r.cfg.patience, r.cfg.again})
	switch {
	case move == askHost && r.cfg.Reboot == nil:
		return giveUpWaiting, "this agent may not restart the host"
	case move == askHost:
		w.asks, w.asked = w.asks+1, now
	}
	return move, w.why
}

// askHost asks the host to restart.
func (r *Runner) askHost() {
	r.cfg.Log.Warn("the host is asked to restart")
	err, why := r.cfg.Reboot(r.ctx), "the host did not restart"
	if err != nil {
		why += ": " + err.Error()
		r.cfg.Log.Error("the host cannot be restarted", "err", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.wait.why = why
}

// RebootHost restarts this host: by systemd where it runs, else by shutdown or reboot. An agent in a network of its own is
// not the host, and is refused.
func RebootHost(ctx context.Context) error {
	own, err1 := os.Readlink("/proc/self/ns/net")
	first, err2 := os.Readlink("/proc/1/ns/net")
	if err1 == nil && err2 == nil && own != first {
		return fleet.Errorf(fleet.Denied, "this agent lives in a network namespace of its own, and does not restart the whole machine")
	}
	argv, err := rebootCommand(osexec.LookPath, systemdRuns())
	if err != nil {
		return err
	}
	ctx, stop := context.WithTimeout(ctx, rebootCommandTime)
	defer stop()
	out, err := osexec.CommandContext(ctx, argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		return fleet.Errorf(fleet.Unavailable, "%s: %w: %s", strings.Join(argv, " "), err, strings.TrimSpace(string(out[:min(len(out), 200)])))
	}
	return nil
}

func systemdRuns() bool {
	_, err := os.Stat("/run/systemd/system")
	return err == nil
}

// rebootCommand picks the command that restarts the host.
func rebootCommand(find func(string) (string, error), systemd bool) ([]string, error) {
	known := [][]string{{"shutdown", "-r", "now"}, {"reboot"}}
	if systemd {
		known = append([][]string{{"systemctl", "reboot"}}, known...)
	}
	for _, argv := range known {
		if path, err := find(argv[0]); err == nil {
			return append([]string{path}, argv[1:]...), nil
		}
	}
	return nil, fleet.Errorf(fleet.Unavailable, "this host has neither shutdown nor reboot")
}
