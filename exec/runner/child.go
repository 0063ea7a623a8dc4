package runner

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/muster-fleet/muster/exec/steps"

	"github.com/muster-fleet/muster/exec/account"
	"github.com/muster-fleet/muster/exec/cage"
)

const shell = "/bin/sh"

// interpreter returns the words to put before a script's path: those of its #! line (the rest of the line is one
// argument, as the kernel has it) or the shell. The script file itself is never executed, so the data folder may be
// mounted noexec.
func interpreter(script []byte) []string {
	rest, ok := bytes.CutPrefix(script, []byte("#!"))
	if !ok {
		return []string{shell}
	}
	line, _, _ := bytes.Cut(rest, []byte("\n"))
	program, arg, _ := strings.Cut(strings.Trim(strings.ReplaceAll(string(line), "\t", " "), " \r"), " ")
	if program == "" {
		return []string{shell}
	}
	if arg = strings.TrimSpace(arg); arg != "" {
		return []string{program, arg}
	}
	return []string{program}
}

// commandLine returns the argv to execute; script is the path of the step's script, if it has one.
func commandLine(o order, step steps.Step, script string) []string {
	switch {
	case step.Act != "":
		return append(slices.Clone(o.Act), step.Act)
	case len(step.Script) > 0 && len(step.Interpreter) > 0:
		return slices.Concat(step.Interpreter, []string{script}, step.Argv)
	case len(step.Script) > 0:
		return slices.Concat(interpreter(step.Script), []string{script}, step.Argv)
	case len(step.Argv) == 1:
		return []string{shell, "-c", step.Argv[0]}
	}
	return step.Argv
}

// startError says why a child could not be started, and with which exit code a shell would say so.
type startError struct {
	detail  string
	code    int
	foreign bool // this host lacks what the step is made for
}

func (e *startError) Error() string { return e.detail }

// workingFolder returns the folder to start a step in, or why it cannot be. A relative one lies below the downloads,
// wherever its dots lead.
func workingFolder(o order, step steps.Step) (string, error) {
	dir, home := o.Dir, o.DirIsHome
	switch {
	case filepath.IsAbs(step.Dir):
		dir, home = step.Dir, false
	case step.Dir != "":
		dir, home = filepath.Join(o.Downloads, filepath.Join("/", step.Dir)), false
	}
	info, err := os.Stat(dir)
	switch {
	case err == nil && info.IsDir():
		return dir, nil
	case home:
		return "/", nil
	case err == nil:
		return "", &startError{detail: "cannot enter " + dir + ": it is not a folder", code: -1}
	}
	return "", &startError{detail: "cannot enter " + dir + ": " + bare(err).Error(), code: -1}
}

// bare strips the operation and path that os puts before an error.
func bare(err error) error {
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		return pe.Err
	}
	return err
}

// child is a run's process, ready to be forked.
type child struct {
	paths []string // where its program may be; see account.Candidates
	argv  []string
	attr  syscall.ProcAttr
	made  bool       // the step is made for an interpreter that its host may lack
	close []*os.File // the supervisor's copies of what the child gets
}

func (c *child) closeFiles() {
	for _, f := range c.close {
		f.Close()
	}
}

// makeChild prepares everything but the fork. The working directory of the supervisor is the run folder. What it opens
// for the child is closed when it fails; stdout and stderr are the caller's until then.
func makeChild(o order, i int, stdout, stderr *os.File) (*child, error) {
	step := o.Plan.Steps[i]
	dir, err := workingFolder(o, step)
	if err != nil {
		return nil, err
	}
	stdin, err := cage.MemoryFile("stdin", input(o, i))
	if err != nil {
		return nil, err
	}
	c := &child{close: []*os.File{stdin}}
	env := o.stepEnvironment(step)
	c.attr = syscall.ProcAttr{Dir: dir, Env: env, Files: []uintptr{stdin.Fd(), stdout.Fd(), stderr.Fd()},
		Sys: &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}}
	if o.Drop {
		c.attr.Sys.Credential = account.Account{UID: o.UID, GID: o.GID, Groups: o.Groups}.Credential()
	}
	script, err := c.writeScript(o, i)
	if err != nil {
		c.closeFiles()
		return nil, err
	}
	c.argv = commandLine(o, step, script)
	c.paths = account.Candidates(c.argv[0], dir, env)
	c.made = len(step.Script) > 0 && len(step.Interpreter) > 0
	c.close = append(c.close, stdout, stderr)
	return c, nil
}

// input is what a step's process reads.
func input(o order, i int) []byte {
	switch {
	case o.Plan.Steps[i].Act != "":
		return o.Plan.Steps[i].Inputs
	case i == 0:
		return o.Stdin
	}
	return nil
}

// start forks the child into its cgroup and returns its PID. The calling thread must live as long as the supervisor: the
// child dies with it (Pdeathsig).
func (c *child) start(in cage.Cage) (int, error) {
	pid, path, err := in.StartFirst(c.paths, c.argv, &c.attr)
	if err != nil {
		no := account.NotRun(c.argv[0], path, err)
		if errors.Is(err, syscall.EACCES) && c.attr.Dir != "/" {
			no.Detail += ", or not enter " + c.attr.Dir
		}
		return 0, &startError{detail: no.Detail, code: no.Code, foreign: c.made}
	}
	return pid, nil
}
