package runner

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
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

// commandLine returns the argv to execute; script is the path of the order's script, if it has one.
func commandLine(o order, script string) []string {
	switch {
	case len(o.Script) > 0:
		return append(append(interpreter(o.Script), script), o.Argv...)
	case len(o.Argv) == 1:
		return []string{shell, "-c", o.Argv[0]}
	}
	return o.Argv
}

// startError says why a child could not be started, and with which exit code a shell would say so.
type startError struct {
	detail string
	code   int
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
	found := &startError{"command not found: " + name, exitNotFound}
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
		return &startError{"command not found: " + path, exitNotFound}
	case err != nil:
		return &startError{"cannot run " + path + ": " + err.Error(), exitNotExecutable}
	case info.IsDir() || info.Mode()&0o111 == 0:
		return &startError{"cannot run " + path + ": it is not executable", exitNotExecutable}
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

// workingFolder returns the folder to start in, or why it cannot be.
func workingFolder(o order) (string, error) {
	info, err := os.Stat(o.Dir)
	switch {
	case err == nil && info.IsDir():
		return o.Dir, nil
	case o.DirIsHome:
		return "/", nil
	case err == nil:
		return "", &startError{"cannot enter " + o.Dir + ": it is not a folder", -1}
	}
	return "", &startError{"cannot enter " + o.Dir + ": " + bare(err).Error(), -1}
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

// scriptFD is where a script is open in a process of another user: it can read the file through the descriptor, but not
// enter the run folder.
const scriptFD = 3

// makeChild prepares everything but the fork. The working directory of the supervisor is the run folder.
func makeChild(o order, stdout, stderr *os.File) (*child, error) {
	dir, err := workingFolder(o)
	if err != nil {
		return nil, err
	}
	stdin, err := memoryFile("stdin", o.Stdin)
	if err != nil {
		return nil, err
	}
	c := &child{close: []*os.File{stdin, stdout, stderr}}
	c.attr = syscall.ProcAttr{Dir: dir, Env: o.Env, Files: []uintptr{stdin.Fd(), stdout.Fd(), stderr.Fd()},
		Sys: &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}}
	if o.Drop {
		c.attr.Sys.Credential = &syscall.Credential{Uid: uint32(o.UID), Gid: uint32(o.GID), Groups: unsigned(o.Groups)}
	}
	script, err := c.writeScript(o)
	if err != nil {
		return nil, err
	}
	c.argv = commandLine(o, script)
	c.path, err = findProgram(c.argv[0], dir, o.Env)
	return c, err
}

// writeScript writes the order's script into the run folder and returns the path by which the child finds it.
func (c *child) writeScript(o order) (string, error) {
	if len(o.Script) == 0 {
		return "", nil
	}
	if err := os.WriteFile(scriptName, o.Script, 0o500); err != nil {
		return "", err
	}
	if !o.Drop {
		return filepath.Abs(scriptName)
	}
	if err := os.Chown(scriptName, o.UID, o.GID); err != nil {
		return "", err
	}
	f, err := os.Open(scriptName)
	if err != nil {
		return "", err
	}
	c.close = append(c.close, f)
	c.attr.Files = append(c.attr.Files, f.Fd())
	return "/proc/self/fd/" + string(rune('0'+scriptFD)), nil
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
		return 0, &startError{"cannot run " + c.path + " in " + c.attr.Dir + ": " + err.Error(), exitNotExecutable}
	}
	return pid, nil
}

func (c *child) fork(cage container) (int, error) {
	if !cage.exists() {
		return syscall.ForkExec(c.path, c.argv, &c.attr)
	}
	if cage.v2 {
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
	// Before Linux 5.7, and on v1: be in the cgroup while forking, so that the child is never outside it.
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
