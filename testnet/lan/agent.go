package lan

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/api"
)

// Start starts the host's agent, with more arguments for it, and waits until it answers. It switches the host on, too.
func (h *Host) Start(args ...string) error {
	if err := h.Launch(args...); err != nil {
		return err
	}
	ctx, stop := context.WithTimeout(context.Background(), Patience)
	defer stop()
	return h.answers(ctx)
}

// Launch is Start without waiting. An agent that runs is left as it is.
func (h *Host) Launch(args ...string) error {
	if err := h.PowerOn(); err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.agent.alive() {
		return nil
	}
	h.agent, h.args = nil, slices.Clone(args)
	inside, err := h.launch(args)
	if err != nil {
		return err
	}
	pid, err := h.outside(inside)
	if err != nil {
		return h.ended()
	}
	if h.agent, err = hold(pid); err != nil {
		return h.ended()
	}
	return nil
}

// launcher starts the agent as a child of the host's first process: whoever runs this script may end. It says the number
// of the agent.
const launcher = `"$@" 1>&2 < /dev/null & echo $!`

func (h *Host) launch(args []string) (inside int, err error) {
	log, err := os.OpenFile(h.Log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return 0, err
	}
	defer log.Close()
	argv := slices.Concat([]string{"/bin/sh", "-c", launcher, "launch"}, h.limits.wrap(), []string{"muster", "agent"}, args)
	cmd := h.command(context.Background(), argv...)
	if group, err := h.cgroup(); err != nil {
		return 0, err
	} else if group != "" {
		argv := append([]string{"sh", "-c", `echo $$ > "$0"/cgroup.procs && exec "$@"`, group}, cmd.Args...)
		cmd.Path, cmd.Args = "/bin/sh", argv
	}
	cmd.Env = append(cmd.Env, h.clockVariable())
	cmd.Stderr = log
	out, err := cmd.Output()
	if err != nil {
		return 0, fmt.Errorf("start the agent of %s: %w", h.name, err)
	}
	return strconv.Atoi(strings.TrimSpace(string(out)))
}

// outside finds the process that has a number on the host.
func (h *Host) outside(inside int) (int, error) {
	in, err := pidsIn(h.init.pid)
	if err != nil {
		return 0, err
	}
	for _, pid := range in {
		if n, ok := insidePID(pid); ok && n == inside && !zombie(pid) {
			return pid, nil
		}
	}
	return 0, errors.New("it has ended")
}

// adopt finds the agent that somebody else has started.
func (h *Host) adopt() error {
	in, err := pidsIn(h.init.pid)
	if err != nil {
		return err
	}
	for _, pid := range in {
		w := words(pid, "cmdline")
		if len(w) < 2 || filepath.Base(w[0]) != "muster" || w[1] != "agent" || zombie(pid) {
			continue
		}
		h.agent, err = hold(pid)
		return err
	}
	return nil
}

// answers waits until the agent answers.
func (h *Host) answers(ctx context.Context) error {
	return h.until(ctx, "the agent answers", func() (bool, error) {
		if !h.Running() {
			return false, h.ended()
		}
		s, err := h.Status(ctx)
		return err == nil && !s.Fleet.IsZero(), nil
	})
}

// until waits for something to come true on the host.
func (h *Host) until(ctx context.Context, what string, holds func() (bool, error)) error {
	for {
		if ok, err := holds(); ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %s: %w\n%s", h.name, what, context.Cause(ctx), h.logTail())
		case <-time.After(5 * nap):
		}
	}
}

// ended says that the agent is gone, with what it said last.
func (h *Host) ended() error {
	return fmt.Errorf("the agent of %s has ended:\n%s", h.name, h.logTail())
}

// Log returns the file of what the host's agents said.
func (h *Host) Log() string { return filepath.Join(h.dir(), "agent.log") }

// logTailBytes bounds what an error repeats of the log.
const logTailBytes = 2 << 10

func (h *Host) logTail() string {
	raw, err := os.ReadFile(h.Log())
	if err != nil {
		return err.Error()
	}
	return string(raw[max(0, len(raw)-logTailBytes):])
}

// Status asks the agent how it is, over its socket, without starting a command line.
func (h *Host) Status(ctx context.Context) (node.Status, error) {
	c, err := h.Client()
	if err != nil {
		return node.Status{}, err
	}
	defer c.Close()
	ctx, stop := context.WithTimeout(ctx, statusWait)
	defer stop()
	return c.Status(ctx)
}

// statusWait is how long one question to an agent may take: a paused one never answers.
const statusWait = 5 * time.Second

// Client returns a client of the host's agent.
func (h *Host) Client() (*api.Client, error) {
	path, err := h.Path("run/muster/agent.sock")
	if err != nil {
		return nil, err
	}
	return api.Dial(path), nil
}

// Running reports whether the agent runs; a paused one does.
func (h *Host) Running() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.agent.alive()
}

// PID returns the process ID of the agent, or 0.
func (h *Host) PID() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.agent.alive() {
		return 0
	}
	return h.agent.pid
}

// Kill ends the agent with SIGKILL. What it has started goes on.
func (h *Host) Kill() error { return h.end(unix.SIGKILL) }

// Stop ends the agent with SIGTERM, also a paused one.
func (h *Host) Stop() error { return h.end(unix.SIGTERM) }

func (h *Host) end(sig unix.Signal) error {
	p := h.takeAgent()
	if !p.alive() {
		return nil
	}
	if err := p.signal(sig); err != nil || sig == unix.SIGKILL {
		return errors.Join(err, p.end(sig))
	}
	return p.end(unix.SIGCONT)
}

// takeAgent returns the agent's process, without holding the lock while somebody waits for its end.
func (h *Host) takeAgent() *process {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.agent
}

// Restart ends the agent with SIGTERM, starts it with the arguments that it had, and waits until it answers.
func (h *Host) Restart() error {
	if err := h.Stop(); err != nil {
		return err
	}
	h.mu.Lock()
	args := h.args
	h.mu.Unlock()
	return h.Start(args...)
}

// Pause stops the agent's process where it is; Resume lets it go on.
func (h *Host) Pause() error { return h.tell(unix.SIGSTOP) }

// Resume lets a paused agent go on.
func (h *Host) Resume() error { return h.tell(unix.SIGCONT) }

func (h *Host) tell(sig unix.Signal) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.agent.alive() {
		return fmt.Errorf("no agent runs on %s", h.name)
	}
	return h.agent.signal(sig)
}

// Paused reports whether the agent's process is stopped.
func (h *Host) Paused() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.agent.alive() && stateOf(h.agent.pid) == 'T'
}
