package action

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/muster-fleet/muster/exec/steps"
)

const shell = "/bin/sh"

// attempt runs one attempt of a nested document's step to its end.
func (h host) attempt(ctx context.Context, step steps.Step, m steps.Start) steps.Ended {
	limit, cancel := context.WithTimeout(ctx, time.Duration(m.Timeout)*time.Millisecond)
	defer cancel()
	began := h.now()
	end := steps.Ended{Step: m.Step, Attempt: m.Attempt}
	err := h.work(limit, step)
	switch {
	case err == nil:
		end.Status = steps.Success
	case ctx.Err() != nil:
		end.Status, end.ExitCode = steps.Cancelled, -1
	case limit.Err() != nil:
		end.Status, end.ExitCode, end.Detail = steps.TimedOut, -1, "its time was over"
	default:
		failed(&end, step, err)
		if _, spoke := errors.AsType[*exitError](err); !spoke || step.Act != "" {
			h.explain(err)
		}
	}
	now := h.now()
	end.At, end.Ran = now.UnixMilli(), max(0, now.Sub(began).Milliseconds())
	return end
}

// failed fills in how a step failed that nobody stopped.
func failed(end *steps.Ended, step steps.Step, err error) {
	end.Status, end.ExitCode, end.Detail = steps.Failed, -1, err.Error()
	if _, ok := errors.AsType[*wrongHost](err); ok {
		end.Status = steps.InvalidPlatform
		return
	}
	if s, ok := errors.AsType[*signalError](err); ok {
		end.Signal = int(s.signal)
		return
	}
	e, ran := errors.AsType[*exitError](err)
	switch {
	case !ran && step.Act != "":
		end.ExitCode = exitCode(err)
	case !ran:
	case step.Act != "":
		end.ExitCode = plainCode(e.code)
	case e.code == steps.ExitReboot:
		end.Detail = "it asked for a reboot by exit code 194, which a step of a nested document may not"
	default:
		end.ExitCode = e.code
	}
}

// work does what a step is for.
func (h host) work(ctx context.Context, step steps.Step) error {
	inner, err := h.inside(step)
	if err != nil {
		return err
	}
	if step.Act != "" {
		return inner.act(ctx, step.Act, step.Inputs)
	}
	scripts, remove, err := h.privateFolder()
	if err != nil {
		return err
	}
	defer remove()
	argv, err := argvOf(step, scripts)
	if err != nil {
		return err
	}
	path, err := inner.lookUp(argv[0], len(step.Interpreter) > 0)
	if err != nil {
		return err
	}
	return inner.runStep(ctx, path, argv)
}

// inside returns the host as the step sees it. What the run says of itself wins over what the document sets.
func (h host) inside(step steps.Step) (host, error) {
	env := append(h.env[:len(h.env):len(h.env)], step.Env...)
	for _, name := range []string{DownloadsVariable, commandIDVariable, "SSM_COMMAND_ID", "MUSTER_NODE"} {
		if value := h.getenv(name); value != "" {
			env = append(env, name+"="+value)
		}
	}
	h.env = env
	if step.Dir != "" {
		h.dir = place(h.downloads, step.Dir).path
		if info, err := os.Stat(h.dir); err != nil {
			return h, troubleAt(h.dir, err)
		} else if !info.IsDir() {
			return h, troubleAt(h.dir, syscall.ENOTDIR)
		}
	}
	return h, nil
}

// argvOf returns the words to execute; a script is written into the folder first.
func argvOf(step steps.Step, folder string) ([]string, error) {
	switch {
	case len(step.Script) > 0:
		name := step.ScriptName
		if name == "" {
			name = "script"
		}
		file := filepath.Join(folder, name)
		if err := os.WriteFile(file, step.Script, 0o700); err != nil {
			return nil, troubleAt(folder, err)
		}
		words := step.Interpreter
		if len(words) == 0 {
			words = interpreter(step.Script)
		}
		return append(append(words[:len(words):len(words)], file), step.Argv...), nil
	case len(step.Argv) == 1:
		return []string{shell, "-c", step.Argv[0]}, nil
	}
	return step.Argv, nil
}

// interpreter returns the words before a script's path: those of its #! line, where the rest of the line is one argument,
// or the shell.
func interpreter(script []byte) []string {
	line, _, _ := bytes.Cut(script, []byte("\n"))
	rest, ok := bytes.CutPrefix(line, []byte("#!"))
	program, arg, _ := strings.Cut(strings.Trim(strings.ReplaceAll(string(rest), "\t", " "), " \r"), " ")
	if !ok || program == "" {
		return []string{shell}
	}
	if arg = strings.TrimSpace(arg); arg != "" {
		return []string{program, arg}
	}
	return []string{program}
}

// lookUp finds a program as a shell does. Where the step names an interpreter that this host lacks, the host is the
// wrong one.
func (h host) lookUp(name string, needed bool) (string, error) {
	if !strings.Contains(name, "/") {
		if path, ok := h.find(name); ok {
			return path, nil
		}
	} else if path := name; filepath.IsAbs(path) || needed {
		return path, nil
	} else {
		return filepath.Join(h.dir, path), nil
	}
	if needed {
		return "", invalidPlatform("this host has no %s", name)
	}
	h.say("command not found: %s", name)
	return "", &exitError{"command not found: " + name, 127}
}

// runStep runs a program in a process group of its own, and leaves nothing alive that it started when its time is over.
func (h host) runStep(ctx context.Context, path string, argv []string) error {
	before := children()
	cmd := exec.CommandContext(ctx, path)
	cmd.Args, cmd.Env, cmd.Dir, cmd.Stdout, cmd.Stderr = argv, h.env, h.dir, h.stdout, h.stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error {
		syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM)
		return syscall.Kill(-cmd.Process.Pid, syscall.SIGCONT) // what is stopped cannot hear the SIGTERM
	}
	cmd.WaitDelay = mercy
	err := cmd.Run()
	if ctx.Err() != nil && cmd.Process != nil {
		h.killRest(cmd.Process.Pid, before)
	}
	name := filepath.Base(argv[0])
	if ee, ok := errors.AsType[*exec.ExitError](err); ok {
		if s, ok := ee.Sys().(syscall.WaitStatus); ok && s.Signaled() {
			return &signalError{name, s.Signal()}
		}
		return &exitError{name, ee.ExitCode()}
	}
	if err != nil && !errors.Is(err, exec.ErrWaitDelay) {
		h.say("cannot run %s: %s", path, bare(err))
		return &exitError{"cannot run " + path, 126}
	}
	return nil
}
