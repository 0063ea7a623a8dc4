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
)

const shell = "/bin/sh"

// Exit codes of what could not be executed, as shells have them.
const (
	exitNotExecutable = 126
	exitNotFound      = 127
)

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

// findProgram looks for a program as a shell does: a name with a slash is a path (relative to dir), others are searched
// in the run's own PATH.
func findProgram(name, dir string, env []string) (string, error) {
	if strings.Contains(name, "/") {
		if !filepath.IsAbs(name) {
			name = filepath.Join(dir, name)
		}
		return name, executable(name)
	}
	found := &startError{detail: "command not found: " + name, code: exitNotFound}
	for _, d := range filepath.SplitList(lookUp(env, "PATH")) {
		if d == "" || !filepath.IsAbs(d) { // a relative PATH entry would run what lies in the working folder
			continue
		}
		path := filepath.Join(d, name)
		err := executable(path)
		if err == nil {
			return path, nil
		}
		if se := err.(*startError); se.code == exitNotExecutable {
			found = se
		}
	}
	return "", found
}

func executable(path string) error {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return &startError{detail: "command not found: " + path, code: exitNotFound}
	case err != nil:
		return &startError{detail: "cannot run " + path + ": " + err.Error(), code: exitNotExecutable}
	case info.IsDir() || info.Mode()&0o111 == 0:
		return &startError{detail: "cannot run " + path + ": it is not executable", code: exitNotExecutable}
	}
	return nil
}

func lookUp(env []string, name string) string {
	for _, e := range env {
		if v, ok := strings.CutPrefix(e, name+"="); ok {
			return v
		}
	}
	return ""
}

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
	path  string
	argv  []string
	attr  syscall.ProcAttr
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
	stdin, err := memoryFile("stdin", input(o, i))
	if err != nil {
		return nil, err
	}
	c := &child{close: []*os.File{stdin}}
	env := o.stepEnvironment(step)
	c.attr = syscall.ProcAttr{Dir: dir, Env: env, Files: []uintptr{stdin.Fd(), stdout.Fd(), stderr.Fd()},
		Sys: &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}}
	if o.Drop {
		c.attr.Sys.Credential = &syscall.Credential{Uid: uint32(o.UID), Gid: uint32(o.GID), Groups: unsigned(o.Groups)}
	}
	script, err := c.writeScript(o, i)
	if err == nil {
		c.argv = commandLine(o, step, script)
		c.path, err = findProgram(c.argv[0], dir, env)
	}
	if se, ok := errors.AsType[*startError](err); ok && len(step.Script) > 0 && len(step.Interpreter) > 0 {
		se.foreign = true
	}
	if err != nil {
		c.closeFiles()
		return nil, err
	}
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

func unsigned(ids []int) []uint32 {
	out := make([]uint32, len(ids))
	for i, id := range ids {
		out[i] = uint32(id)
	}
	return out
}

// start forks the child into its cgroup and returns its PID. The calling thread must live as long as the supervisor: the
// child dies with it (Pdeathsig).
func (c *child) start(cage container) (int, error) {
	restore := plainOOMScore()
	defer restore()
	pid, err := c.fork(cage)
	if errors.Is(err, syscall.ENOEXEC) { // a script without a #! line, which shells run by themselves
		c.argv = append([]string{shell, c.path}, c.argv[1:]...)
		c.path = shell
		pid, err = c.fork(cage)
	}
	if err != nil {
		return 0, &startError{detail: "cannot run " + c.path + " in " + c.attr.Dir + ": " + err.Error(), code: exitNotExecutable}
	}
	return pid, nil
}

func (c *child) fork(cage container) (int, error) {
	if !cage.exists() {
		return syscall.ForkExec(c.path, c.argv, &c.attr)
	}
	if cage.v2 && !cage.worn {
		if dir, err := os.Open(cage.path); err == nil {
			defer dir.Close()
			c.attr.Sys.UseCgroupFD, c.attr.Sys.CgroupFD = true, int(dir.Fd())
			pid, err := syscall.ForkExec(c.path, c.argv, &c.attr)
			c.attr.Sys.UseCgroupFD = false
			if err == nil || errors.Is(err, syscall.ENOEXEC) {
				return pid, err
			}
		}
	}
	// Before Linux 5.7, on v1, and where others were killed before: be in the cgroup while forking, so that the child is never outside it.
	if err := joinCgroup(cage.path); err != nil {
		return syscall.ForkExec(c.path, c.argv, &c.attr)
	}
	defer joinCgroup(cage.outside())
	return syscall.ForkExec(c.path, c.argv, &c.attr)
}

// plainOOMScore gives the next child the score of an ordinary process; the supervisor keeps the agent's.
func plainOOMScore() (restore func()) {
	const name = "/proc/self/oom_score_adj"
	was, err := os.ReadFile(name)
	if err != nil || string(bytes.TrimSpace(was)) == "0" {
		return func() {}
	}
	os.WriteFile(name, []byte("0"), 0)
	return func() { os.WriteFile(name, was, 0) }
}
