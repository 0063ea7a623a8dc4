package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/muster-fleet/muster/cmd/host"
	"github.com/muster-fleet/muster/exec/action"
	"github.com/muster-fleet/muster/exec/runner"
	"github.com/muster-fleet/muster/node/api"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/folder"
)

// superviseWord is the hidden word by which this binary becomes the supervisor of one run.
const superviseWord = "supervise"

func newAgentCommand(a *app) *cobra.Command {
	var (
		flags hostFlags
		conf  configFlags
		join  string
		file  string
	)
	cmd := &cobra.Command{
		Use: "agent", Short: "Run the agent of this host", Args: noArgs,
		Long: `Run the agent of this host, in the foreground, until SIGTERM or Ctrl-C. Commands that it started go on without it.

With --join it enrols the host first, if that was not done yet, and waits for the fleet while none of its hosts answers.`,
		Example: `  muster agent
  muster agent --join-file /root/join --name web2`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if os.Getpid() == firstProcess {
				return beInit()
			}
			c, err := a.startConfig(&conf)
			if err != nil {
				return err
			}
			log := c.log
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM, os.Interrupt)
			defer stop()
			r, err := a.newRenewal(c)
			if err != nil {
				return err
			}
			if r.start(ctx) {
				_ = r.renew()
			}
			defer context.AfterFunc(ctx, func() { a.notify(stoppingNote) })()
			if file = a.givenJoinFile(join, file); join != "" || file != "" {
				if err := a.joinFirst(ctx, flags, join, file, log); err != nil {
					return err
				}
				a.useUpJoinFile(file)
			}
			for {
				err := a.runAgent(ctx, c, r)
				switch {
				case ctx.Err() != nil:
					return err
				case errors.Is(err, errAgain):
					_ = r.renew() // it says why, and this program goes on
				case errors.Is(err, host.ErrRoleChanged):
					log.Info("the agent starts anew, in another role")
				case err == nil || !r.giveUp(err.Error()):
					return err
				default: // of a version on trial
					log.Error("this version is taken back", "err", err)
					_ = r.renew()
					return err
				}
			}
		},
	}
	cmd.AddCommand(newAgentInstallCommand(a), newAgentUninstallCommand(a), newAgentPauseCommand(a), newAgentResumeCommand(a), newAgentGeneralizeCommand(a), newAgentReadmitCommand(a))
	flags.register(cmd)
	flags.registerOutbound(cmd)
	conf.register(cmd)
	flags.conf = &conf
	cmd.Flags().StringVar(&join, "join", "", "enrol with this join string first")
	cmd.Flags().StringVar(&file, "join-file", "", "the same, from a file, or - from standard input")
	return cmd
}

// joinFirst enrols the host unless it is a host already: a unit file may keep --join.
func (a *app) joinFirst(ctx context.Context, flags hostFlags, join, file string, log *slog.Logger) error {
	if folder.Exists(a.dataDir()) && file == "-" {
		return nil
	}
	var args []string
	if join != "" {
		args = []string{join}
	}
	text, err := a.joinText(args, file)
	if folder.Exists(a.dataDir()) {
		if err != nil {
			return nil // the file with the string may be gone: it has served
		}
		return sameFleet(a.dataDir(), text)
	}
	if err != nil {
		return err
	}
	n, err := flags.newHost(a)
	if err != nil {
		return err
	}
	name, err := a.enrolInTime(ctx, n, text, log)
	if err == nil {
		log.Info("enrolled", "fleet", name, "node", n.Name)
	}
	return err
}

// knockAgain is how long an agent waits before it asks the hosts of its join string again: a fleet that starts after it
// is no reason to give up.
const knockAgain = 2 * time.Second

func (a *app) enrolInTime(ctx context.Context, n host.NewHost, text string, log *slog.Logger) (string, error) {
	defer a.aliveWhile(ctx, "not enrolled yet: asks the hosts of the join string")()
	for {
		name, err := a.enrol(ctx, n, text)
		if !errors.Is(err, host.ErrNobodyAnswers) {
			return name, err
		}
		log.Warn("not enrolled yet; asking again", "err", err)
		select {
		case <-ctx.Done():
			return "", err
		case <-time.After(knockAgain):
		}
	}
}

// sameFleet refuses a join string of another fleet than the host in dir is in; one that cannot be read has served.
func sameFleet(dir, text string) error {
	join, err := auth.ParseJoinString(text)
	if err != nil {
		return nil
	}
	if id, ok := folder.FleetOf(dir); ok && id != join.Fleet {
		return fleet.Errorf(fleet.Conflict, "%s holds a host of another fleet than the join string's", dir).
			Hinted("leave --join out to start that host, or choose another folder with --data-dir")
	}
	return nil
}

func (a *app) runAgent(ctx context.Context, c *agentConfig, r *renewal) error {
	log := c.log
	if err := keepSecretsOutOfCores(); err != nil {
		log.Warn("core dumps could not be switched off", "err", err)
	}
	if err := folder.CheckHost(a.dataDir()); err != nil { // before a socket's folder is made
		return err
	}
	socket, err := filepath.Abs(a.socketPath())
	if err != nil {
		return err
	}
	l, err := api.Listen(a.socketPath()) // another agent's socket is the clearest sign of it
	if err != nil {
		return noSocket(err)
	}
	h, err := host.Start(host.Options{
		Dir: a.dataDir(), Version: version(), Config: c.now, Source: c.source(), Clock: a.clock(), Log: log,
		Supervise: []string{"/proc/self/exe", superviseWord}, Act: action.Argv([]string{"/proc/self/exe", actWord}, socket, r.dataDir), Reboot: runner.RebootHost,
		SuperviseSession: []string{"/proc/self/exe", sessionWord}, Copy: []string{"/proc/self/exe", copyWord}, Restart: r.ask, Level: r.level,
	})
	if err != nil {
		return errors.Join(err, l.Close())
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	r.begin(stop)
	r.current.Store(h)
	answered := make(chan error, 1)
	go func() {
		h.Ready(ctx) // who asks meanwhile waits in the socket's queue
		answered <- h.Answer(ctx, l)
	}()
	c.follow(ctx, h)
	log.Info("the agent runs", "node", h.Name, "id", h.ID, "socket", a.socketPath(), "version", version())
	go a.keepAlive(ctx, h.Agent, fmt.Sprintf("node %s, version %s", h.Name, version()))
	keepSmall(ctx, c.now.Preset().Small())
	err = h.Run(ctx)
	r.current.Store(nil)
	again := errors.Is(context.Cause(ctx), errAgain)
	stop(nil)
	c.now = h.Config() // for the next one of this process
	err = errors.Join(err, <-answered)
	if again {
		if err != nil {
			log.Error("the agent did not stop in order", "err", err)
		}
		return errAgain
	}
	if err != nil {
		return fmt.Errorf("the agent stopped: %w", err)
	}
	log.Info("the agent stopped; what it started goes on")
	return nil
}

// noSocket says what mends it that the agent's socket has no place.
func noSocket(err error) error {
	e, ok := errors.AsType[*fleet.Error](err)
	switch {
	case !ok || e.Hint != "":
		return err
	case errors.Is(err, syscall.EROFS):
		return e.Hinted("the file system is read-only: mount -o remount,rw, and look into dmesg for why")
	case errors.Is(err, syscall.ENOSPC):
		return e.Hinted("make room on that disk: df -h")
	}
	return e.Hinted("the agent must be able to write there; or give another place with --socket PATH, here and to every command")
}

// keepSecretsOutOfCores switches core dumps of this process off. At a limit of 1, unlike 0, the kernel feeds no pipe either
// (core_pattern). The hard limit stays as it was: what the agent runs inherits both, and may want its own dumps.
func keepSecretsOutOfCores() error {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_CORE, &limit); err != nil {
		return err
	}
	limit.Cur, limit.Max = 1, max(1, limit.Max)
	return errors.Join(
		unix.Setrlimit(unix.RLIMIT_CORE, &limit),
		unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0),
	)
}
