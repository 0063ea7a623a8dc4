package action

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/muster-fleet/muster/exec/steps"
	"github.com/muster-fleet/muster/node/fleet"
)

// DownloadsVariable names the folder that relative destinations are below. Where it is not set, it is the working
// directory.
const DownloadsVariable = "MUSTER_DOWNLOADS"

// commandIDVariable holds the ID of the command that the act belongs to.
const commandIDVariable = "MUSTER_COMMAND_ID"

// Bounds of what acts do.
const (
	// maxDownload is the most that one download brings, in bytes, also unpacked.
	maxDownload = 16 << 30
	// maxFiles is how many files and folders one download may make.
	maxFiles = 200_000
	// mercy is how long a tool that was asked to end is waited for.
	mercy = 3 * time.Second
)

// host is this host as the act finds it. It is a value: nested acts get a changed copy.
type host struct {
	env       []string
	dir       string // the working directory
	downloads string
	private   []string // where folders for secrets are made: the first that can be
	stdout    io.Writer
	stderr    io.Writer
	now       func() time.Time
	pause     func(context.Context, time.Duration) error

	ways            Ways
	socket, dataDir string // of the agent that has this act done; "": nobody said
}

func newHost(env []string, stdout, stderr io.Writer) (host, error) {
	h := host{env: env, private: steps.PrivateParents(), stdout: stdout, stderr: stderr, now: time.Now, pause: pause}
	dir, err := os.Getwd()
	if err != nil {
		return h, fleet.Errorf(fleet.Unavailable, "there is no working directory: %w", err)
	}
	h.dir, h.downloads = dir, dir
	if d := h.getenv(DownloadsVariable); filepath.IsAbs(d) {
		h.downloads = d
	}
	return h, nil
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// getenv returns the last of a name's values, as processes see it.
func (h host) getenv(name string) string {
	value := ""
	for _, kv := range h.env {
		if k, v, _ := strings.Cut(kv, "="); k == name {
			value = v
		}
	}
	return value
}

// say writes a line for people on stderr.
func (h host) say(format string, args ...any) { fmt.Fprintf(h.stderr, format+"\n", args...) }

// sayOut writes a line on stdout: what the act did.
func (h host) sayOut(format string, args ...any) { fmt.Fprintf(h.stdout, format+"\n", args...) }

// find looks for a program in the run's PATH.
func (h host) find(name string) (string, bool) {
	for _, dir := range filepath.SplitList(h.getenv("PATH")) {
		if !filepath.IsAbs(dir) { // a relative one would run what lies in the working folder
			continue
		}
		path := filepath.Join(dir, name)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return path, true
		}
	}
	return "", false
}

// tool is a program to call.
type tool struct {
	path   string
	args   []string
	env    []string // beside the run's own
	dir    string   // "": the working directory
	stdout io.Writer
	stderr io.Writer
}

// call runs a tool to its end. Its error is an *exitError if it ran.
func (h host) call(ctx context.Context, t tool) error {
	cmd := exec.CommandContext(ctx, t.path, t.args...)
	cmd.Env = append(h.env[:len(h.env):len(h.env)], t.env...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = h.dir, t.stdout, t.stderr
	if t.dir != "" {
		cmd.Dir = t.dir
	}
	// It stays in this process's group: whoever ends the step by a signal to the group ends it too.
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = mercy
	err := cmd.Run()
	name := filepath.Base(t.path)
	if ee, ok := errors.AsType[*exec.ExitError](err); ok {
		if s, ok := ee.Sys().(syscall.WaitStatus); ok && s.Signaled() {
			return &exitError{name + " was ended by a signal", 128 + int(s.Signal())}
		}
		return &exitError{name, ee.ExitCode()}
	}
	if errors.Is(err, exec.ErrWaitDelay) { // it ended well, and something that it left holds its output
		return nil
	}
	if err != nil {
		return fleet.Errorf(fleet.Unavailable, "%s cannot be run: %w", name, bare(err))
	}
	return nil
}

// bare strips operation and path that os puts before an error.
func bare(err error) error {
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		return pe.Err
	}
	return err
}

// privateFolder makes a folder for secrets, 0700, that remove deletes with all in it: in memory where that is possible. Of an
// act that is killed before, whoever supervises the run finds it by the command's ID and the run's downloads.
func (h host) privateFolder() (dir string, remove func(), err error) {
	for _, parent := range h.private {
		if dir, err = os.MkdirTemp(parent, steps.PrivatePrefix(h.getenv(commandIDVariable), h.getenv(DownloadsVariable))); err == nil {
			return dir, func() { os.RemoveAll(dir) }, nil
		}
	}
	return "", nil, fleet.Errorf(fleet.Unavailable, "no private folder can be made: %w", err)
}
