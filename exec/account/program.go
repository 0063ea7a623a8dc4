package account

import (
	"errors"
	"path/filepath"
	"strings"
	"syscall"
)

// Path is the PATH of what is started: the host's own, whatever the agent was started with.
const Path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// Environment is what a process of the account starts with: these five, and extra. A later entry wins over an earlier one
// of the same name.
func (a Account) Environment(extra ...string) []string {
	base := []string{"PATH=" + Path, "HOME=" + a.Home, "USER=" + a.Name, "LOGNAME=" + a.Name, "SHELL=" + a.Shell}
	return LastOfEach(append(base, extra...))
}

// LastOfEach drops the entries NAME=value whose name comes again.
func LastOfEach(all []string) []string {
	last := map[string]int{}
	for i, e := range all {
		name, _, _ := strings.Cut(e, "=")
		last[name] = i
	}
	var out []string
	for i, e := range all {
		if name, _, _ := strings.Cut(e, "="); last[name] == i {
			out = append(out, e)
		}
	}
	return out
}

// Exit codes of what could not be executed, as shells have them.
const (
	ExitNotExecutable = 126
	ExitNotFound      = 127
)

// NoProgram says why a program cannot be run, and with which exit code a shell would say so.
type NoProgram struct {
	Detail string
	Code   int
}

// Error returns the detail.
func (e *NoProgram) Error() string { return e.Detail }

// Candidates lists the paths at which a program may be, as a shell looks for it: a name with a slash is a path (relative to
// dir), others are searched in env's PATH. Which of them can be executed only execve knows, in a process of the account: what
// this process sees is not what the account sees.
func Candidates(name, dir string, env []string) []string {
	if strings.Contains(name, "/") {
		if !filepath.IsAbs(name) {
			name = filepath.Join(dir, name)
		}
		return []string{name}
	}
	var out []string
	for _, d := range filepath.SplitList(lookUp(env, "PATH")) {
		if d != "" && filepath.IsAbs(d) { // a relative PATH entry would run what lies in the working folder
			out = append(out, filepath.Join(d, name))
		}
	}
	return out
}

// NotRun says why a program cannot be run, of which execve said err at a path; at none of the candidates, it is ENOENT.
func NotRun(name, path string, err error) *NoProgram {
	switch {
	case errors.Is(err, syscall.ENOENT), errors.Is(err, syscall.ENOTDIR):
		return &NoProgram{"command not found: " + name, ExitNotFound}
	case errors.Is(err, syscall.EACCES):
		return &NoProgram{"cannot run " + path + ": it is not executable, or the account may not run it", ExitNotExecutable}
	}
	return &NoProgram{"cannot run " + path + ": " + err.Error(), ExitNotExecutable}
}

func lookUp(env []string, name string) string {
	for _, e := range env {
		if v, ok := strings.CutPrefix(e, name+"="); ok {
			return v
		}
	}
	return ""
}
