package runner

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/exec/steps"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
)

const (
	// secretStart is how long a run that has not been started waits for its secrets.
	secretStart = 15 * time.Second
	// secretPatience is how long a run that goes on behind a restart waits for its secrets: the host has just come up, and
	// may have no network yet.
	secretPatience = 10 * time.Minute
	// secretPause is the time between two attempts to open them.
	secretPause = 2 * time.Second
)

// noSecretError marks errors of Start about secrets that this host cannot open.
type noSecretError struct{ error }

func (e *noSecretError) Unwrap() error { return e.error }

// Sealed reports whether an error of Start says that a secret of the run could not be opened. Nothing was recorded.
func Sealed(err error) bool {
	_, ok := errors.AsType[*noSecretError](err)
	return ok
}

func (s Spec) checkSecrets() error {
	plan := steps.Plan{Steps: append(slices.Clone(s.Plan.Steps), steps.Step{Name: "environment", Secrets: s.EnvSecrets})}
	if err := plan.CheckSecrets(len(s.Secrets)); err != nil {
		return fleet.Errorf(fleet.Invalid, "command %s cannot be run: %w", s.Command, err)
	}
	return nil
}

// openFirst opens the secrets of a run that has not been started. It waits a little where another moment may help: a host
// that has just joined a keyring gets its key within seconds.
func (r *Runner) openFirst(ctx context.Context, o order, cancelled <-chan struct{}) ([][]byte, error) {
	if len(o.Secrets) == 0 {
		return nil, nil
	}
	began := time.Now()
	pause := time.NewTicker(r.cfg.secretPause)
	defer pause.Stop()
	for {
		values, err := r.openAll(o)
		if err == nil {
			return values, nil
		}
		if fleet.KindOf(err) != fleet.Unavailable || time.Since(began) > r.cfg.secretStart {
			return nil, &noSecretError{err}
		}
		select {
		case <-pause.C:
		case <-cancelled:
			return nil, fleet.Errorf(fleet.Conflict, "the command was cancelled while its secrets were opened")
		case <-ctx.Done():
			return nil, fleet.Errorf(fleet.Unavailable, "the secrets could not be opened in time: %w", err)
		case <-r.ctx.Done():
			return nil, fleet.Errorf(fleet.Unavailable, "the runner is closed")
		}
	}
}

// opened returns the order with the secrets of one step and of the environment put in: for its process, and nobody else.
func (o order) opened(step int, secrets [][]byte) (order, error) {
	more, err := steps.Environment(o.Filled, secrets)
	if err != nil {
		return o, err
	}
	one, err := o.Plan.Steps[step].Open(secrets)
	if err != nil {
		return o, err
	}
	o.Env = slices.Concat(o.Env, more)
	o.Plan.Steps = slices.Clone(o.Plan.Steps)
	o.Plan.Steps[step] = one
	return o, nil
}

// takeSecrets reads the values that the agent hands over, and closes what they came in. From then on nothing of this process or
// of any that it starts is dumped; readable by others it is not from the beginning.
func (s *supervision) takeSecrets() error {
	if !s.o.Opened {
		return nil
	}
	if err := dumpNothing(); err != nil {
		return fmt.Errorf("core dumps cannot be switched off: %w", err)
	}
	f := os.NewFile(secretsFD, "secrets")
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, 2*exec.MaxSecretValues))
	if err == nil {
		err = wire.Unmarshal(data, &s.secrets)
	}
	if err == nil && len(s.secrets) != len(s.o.Secrets) {
		err = fmt.Errorf("%d of %d are there", len(s.secrets), len(s.o.Secrets))
	}
	if err != nil {
		return fmt.Errorf("the secrets cannot be read: %w", err)
	}
	s.mask = newMasker(s.secrets)
	return nil
}

// dumpNothing keeps this process and all that it starts from being dumped when they crash. The limit is 1 and not 0: where
// core_pattern is a pipe, the kernel starts the program behind it whatever the limit is, and systemd-coredump writes the
// process' environment into the journal; at exactly 1 it does not (do_coredump in fs/coredump.c, core(5)). Where cores are
// files, a limit below a page means none.
func dumpNothing() error {
	err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{Cur: 1, Max: 1})
	if !errors.Is(err, unix.EPERM) {
		return err
	}
	// The hard limit is 0 and this is not root's process. That is enough but for pipes.
	if pattern, unread := os.ReadFile("/proc/sys/kernel/core_pattern"); unread == nil && !bytes.HasPrefix(pattern, []byte("|")) {
		return nil
	}
	return fmt.Errorf("%w (the hard limit is 0, and the host's core_pattern is a pipe, which only a limit of 1 closes)", err)
}

func wipe(secrets [][]byte) {
	for _, value := range secrets {
		clear(value)
	}
}

// openAgain opens the secrets of a run that goes on, for its next supervisor. It waits where another moment may help; what
// cannot be opened stops the run. It reports false when the Runner closes.
func (r *Runner) openAgain(run *run, dir folder, stop steps.Stopped) (values [][]byte, _ steps.Stopped, ok bool) {
	o, err := dir.order()
	if err != nil || len(o.Secrets) == 0 || stop.Status != "" {
		return nil, stop, true // relaunch says what is wrong with the order
	}
	began := time.Now()
	pause := time.NewTicker(r.cfg.secretPause)
	defer pause.Stop()
	for told := began; ; {
		values, err := r.openAll(o)
		switch {
		case err == nil:
			return values, stop, true
		case r.isCancelled(run):
			return nil, steps.Stopped{Status: steps.Cancelled, Why: "the run was cancelled"}, true
		case fleet.KindOf(err) != fleet.Unavailable || time.Since(began) > r.cfg.secretPatience:
			r.cfg.Log.Error("a run cannot go on without its secrets", "command", run.command.String(), "err", err)
			return nil, steps.Stopped{Status: steps.Failed, Why: "its secrets cannot be opened again: " + err.Error()}, true
		}
		if time.Since(told) > rebootNews {
			told = time.Now()
			r.tellProgress(run)
		}
		select {
		case <-pause.C:
		case <-run.called:
		case <-r.ctx.Done():
			return nil, stop, false
		}
	}
}

func (r *Runner) openAll(o order) ([][]byte, error) {
	if r.cfg.Secret == nil {
		return nil, fleet.Errorf(fleet.Denied, "this agent opens no secrets")
	}
	values, size := make([][]byte, 0, len(o.Secrets)), 0
	for _, ref := range o.Secrets {
		value, err := r.cfg.Secret(r.ctx, ref)
		if err != nil {
			wipe(values)
			return nil, err
		}
		if size += len(value); size > exec.MaxSecretValues || bytes.IndexByte(value, 0) >= 0 {
			return nil, fleet.Errorf(fleet.Invalid, "secrets that together have more than %d bytes, or one with a NUL byte, are not handed to a run", exec.MaxSecretValues)
		}
		values = append(values, value)
	}
	return values, nil
}
