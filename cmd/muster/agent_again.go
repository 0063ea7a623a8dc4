package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/muster-fleet/muster/cmd/host"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/upgrade"
)

// errAgain ends an agent whose program is started anew in its place.
var errAgain = errors.New("the agent's program is started anew in its place")

// againTime is how long an agent that is to start anew has to stop in order. One that hangs is replaced as it is: for what it runs
// and keeps that is no worse than a crash.
const againTime = 20 * time.Second

// renewal starts the agent's program anew as the same process: same number, arguments and environment, the program that lies
// at its path by now. What it runs, being other processes, does not notice, and neither does a service manager.
type renewal struct {
	program string // as it was when this process started
	dataDir string
	log     *slog.Logger
	// mistaken reports why the program's next start would fail, or nil.
	mistaken func() error
	exec     func(program string, argv, env []string) error
	trial    string // ID of the one that this process was started in; "": none

	current atomic.Pointer[host.Host] // the host that runs now

	mu   sync.Mutex
	stop context.CancelCauseFunc // of the host that runs now; nil: none does
	late *time.Timer             // replaces this process where it does not stop in order
	due  bool
}

func (a *app) newRenewal(c *agentConfig) (*renewal, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	dir, err := filepath.Abs(a.dataDir())
	return &renewal{
		program: program, dataDir: dir, log: c.log, exec: syscall.Exec,
		mistaken: func() error {
			_, err := a.startConfig(c.flags)
			return err
		},
	}, err
}

// begin is told of a host that is about to run, and how to stop it.
func (r *renewal) begin(stop context.CancelCauseFunc) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stop = stop
	if r.due {
		stop(errAgain)
	}
}

// ask has the agent start anew. It is host.Options.Restart.
func (r *renewal) ask(reason string) {
	if err := r.mistaken(); err != nil && !r.taken() {
		r.log.Error("the agent does not start anew: its next start would fail", "why", reason, "err", err)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.due {
		return
	}
	r.due = true
	r.log.Info("the agent starts anew in its place", "why", reason)
	if r.stop != nil {
		r.stop(errAgain)
	}
	r.late = time.AfterFunc(againTime, func() {
		r.log.Warn("the agent does not stop in order, and is started anew as it is")
		_ = r.renew()
	})
}

// renew replaces this process. It returns only where that failed; then the program that failed is taken out of its place again.
func (r *renewal) renew() error {
	err := r.exec(r.program, os.Args, os.Environ())
	r.log.Error("the agent's program cannot be started; this one goes on", "program", r.program, "err", err)
	r.giveUp("it cannot be started: " + err.Error())
	r.mu.Lock()
	defer r.mu.Unlock()
	r.due = false
	if r.late != nil {
		r.late.Stop() // this program goes on, and shall not be replaced later on
	}
	return err
}

// taken reports whether the program that this process runs was taken back: the old one, which is next, may know what this one does
// not.
func (r *renewal) taken() bool {
	t, ok, err := upgrade.Read(r.dataDir)
	return err == nil && ok && t.ID == r.trial && (t.Stage == upgrade.Back || t.Stage == upgrade.Undone)
}

// giveUp ends the upgrade that is under way, if one is, and returns whether the old program is at its place again.
func (r *renewal) giveUp(why string) bool {
	back, err := upgrade.GiveUp(r.dataDir, why)
	if err != nil {
		r.log.Error("the old program cannot be put back", "err", err)
	}
	return back
}

// takeBack ends the upgrade that is under way where this program does not even take its arguments or its configuration, and starts
// the old one in its place: that may know what this one does not.
func takeBack(args []string, getenv func(string) string) {
	a := &app{getenv: getenv, euid: os.Geteuid()}
	for i, arg := range args {
		if dir, ok := strings.CutPrefix(arg, "--data-dir="); ok {
			a.flags.dataDir = dir
		} else if arg == "--data-dir" && i+1 < len(args) {
			a.flags.dataDir = args[i+1]
		}
	}
	dir, err := filepath.Abs(a.dataDir())
	if err != nil || upgrade.Runs(dir) { // a slip of somebody's beside an agent that runs
		return
	}
	t, ok, err := upgrade.Read(dir)
	if back, _ := upgrade.GiveUp(dir, "it does not start: its arguments or its configuration mean nothing to it"); back && ok && err == nil {
		_ = syscall.Exec(t.Program, os.Args, os.Environ())
	}
}

// start judges what this start of the agent means for an upgrade that is under way. It returns whether another program was put
// in this one's place, which is to be started.
func (r *renewal) start(ctx context.Context) (again bool) {
	adopt(ctx)
	s, err := upgrade.Start(r.dataDir, r.program)
	if err != nil {
		r.log.Error("an upgrade that was under way cannot be ended", "err", err)
	}
	if s.Note != "" {
		r.log.Warn(s.Note)
	}
	if s.Again != "" {
		r.program = s.Again
		return true
	}
	if s.InTrial() {
		r.trial = s.Trial.ID
		go r.prove(ctx, s.Trial)
	}
	return false
}

// level is what the fleet may count on this host for: no more than what the program supports that it may go back to.
func (r *renewal) level() fleet.Level { return upgrade.Supports(r.dataDir, fleet.LevelNewest) }

// prove ends the trial of this program where nobody else does.
func (r *renewal) prove(ctx context.Context, t upgrade.Trial) {
	view := func() upgrade.View {
		h := r.current.Load()
		if h == nil {
			return upgrade.View{}
		}
		return upgrade.ViewOf(h.Agent.Status(ctx))
	}
	if upgrade.Prove(ctx, r.dataDir, t, view, r.log) {
		r.ask("the upgrade is taken back")
	}
}

// adopt takes the ends of children that this process has from before its program was started anew: nobody else asks for them.
func adopt(ctx context.Context) {
	left := childrenOf(os.Getpid())
	if len(left) == 0 {
		return
	}
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGCHLD)
	go func() {
		defer signal.Stop(ended)
		for {
			left = slices.DeleteFunc(left, func(pid int) bool {
				got, err := syscall.Wait4(pid, nil, syscall.WNOHANG, nil)
				return got == pid || errors.Is(err, syscall.ECHILD)
			})
			if len(left) == 0 {
				return
			}
			select {
			case <-ended:
			case <-ctx.Done():
				return
			}
		}
	}()
}

// childrenOf lists the children of a process.
func childrenOf(parent int) (out []int) {
	all, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	for _, entry := range all {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		raw, err := os.ReadFile("/proc/" + entry.Name() + "/stat")
		if err != nil {
			continue
		}
		_, rest, _ := strings.Cut(string(raw), ") ")
		if fields := strings.Fields(rest); len(fields) > 1 && fields[1] == strconv.Itoa(parent) {
			out = append(out, pid)
		}
	}
	return out
}
