package account

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
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

// Program finds a program as a shell does: a name with a slash is a path (relative to dir), others are searched in env's
// PATH. The error is a *NoProgram.
func Program(name, dir string, env []string) (string, error) {
	path, no := program(name, dir, env)
	if no != nil {
		return "", no
	}
	return path, nil
}

func program(name, dir string, env []string) (string, *NoProgram) {
	if strings.Contains(name, "/") {
		if !filepath.IsAbs(name) {
			name = filepath.Join(dir, name)
		}
		return name, executable(name)
	}
	found := &NoProgram{"command not found: " + name, ExitNotFound}
	for _, d := range filepath.SplitList(lookUp(env, "PATH")) {
		if d == "" || !filepath.IsAbs(d) { // a relative PATH entry would run what lies in the working folder
			continue
		}
		path := filepath.Join(d, name)
		no := executable(path)
		if no == nil {
			return path, nil
		}
		if no.Code == ExitNotExecutable {
			found = no
		}
	}
	return "", found
}

func executable(path string) *NoProgram {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return &NoProgram{"command not found: " + path, ExitNotFound}
	case err != nil:
		return &NoProgram{"cannot run " + path + ": " + err.Error(), ExitNotExecutable}
	case info.IsDir() || info.Mode()&0o111 == 0:
		return &NoProgram{"cannot run " + path + ": it is not executable", ExitNotExecutable}
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
