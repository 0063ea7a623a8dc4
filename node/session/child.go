package session

import (
	"errors"
	"os"
	"syscall"

	"github.com/muster-fleet/muster/exec/account"
	"github.com/muster-fleet/muster/exec/cage"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

// child is the session's program, and our ends of what it reads and writes.
type child struct {
	pid    int
	input  *os.File
	output []*os.File // its output, and its error output where that is apart
	screen *terminal  // nil: three pipes
	theirs []*os.File // until it runs
}

func (c *child) close() {
	c.handedOver()
	if c.screen != nil {
		c.screen.close()
		return
	}
	for _, f := range append(c.output, c.input) {
		f.Close()
	}
}

func (c *child) handedOver() {
	if c.screen != nil {
		c.screen.handedOver()
	}
	for _, f := range c.theirs {
		f.Close()
	}
	c.theirs = nil
}

// startChild forks the program. The error is *account.NoProgram when there is nothing to execute, else a *fleet.Error. The
// calling thread must live as long as the supervisor: the child dies with it.
func startChild(o order, in cage.Cage) (_ *child, err error) {
	env, what := o.environment(), o.program()
	c, err := openEnds(o)
	if err != nil {
		return nil, err
	}
	attr := &syscall.ProcAttr{Env: env, Sys: &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}}
	if c.screen != nil {
		attr.Sys.Setctty, attr.Sys.Ctty = true, 0
	}
	for _, f := range c.theirs {
		attr.Files = append(attr.Files, f.Fd())
	}
	if o.Drop {
		attr.Sys.Credential = o.Account.Credential()
	}
	c.pid, err = fork(in, what, attr, o.dir())
	if err == nil {
		c.handedOver()
		return c, nil
	}
	c.close()
	if o.Session.Kind == auth.SessionShell {
		return nil, fleet.Errorf(fleet.NotFound, "the login shell of user %q cannot be run: %w", o.Account.Name, err).
			Hinted("see /etc/passwd on the node")
	}
	return nil, err
}

// fork starts the program in its folder, or in / where the account may not enter that. The error is a *account.NoProgram.
func fork(in cage.Cage, what program, attr *syscall.ProcAttr, dir string) (int, error) {
	paths := account.Candidates(what.name, dir, attr.Env)
	attr.Dir = dir
	pid, path, err := in.StartFirst(paths, what.argv, attr)
	if err != nil && dir != "/" { // that the folder cannot be entered looks the same
		attr.Dir = "/"
		pid, path, err = in.StartFirst(paths, what.argv, attr)
	}
	if err != nil {
		return 0, account.NotRun(what.name, path, err)
	}
	return pid, nil
}

// dir is the account's home, if there is one.
func (o order) dir() string {
	if info, err := os.Stat(o.Account.Home); err == nil && info.IsDir() {
		return o.Account.Home
	}
	return "/"
}

// openEnds opens a terminal or three pipes.
func openEnds(o order) (*child, error) {
	if o.terminal() {
		return openScreen(o)
	}
	c := &child{}
	for i := range 3 {
		r, w, err := os.Pipe()
		if err != nil {
			c.close()
			return nil, fleet.Errorf(fleet.Exhausted, "no pipe for a session: %w", err)
		}
		if i == 0 {
			c.input, c.theirs = w, append(c.theirs, r)
			continue
		}
		c.output, c.theirs = append(c.output, r), append(c.theirs, w)
	}
	if !o.Drop {
		return c, nil
	}
	for _, f := range c.theirs { // else it could not open its own /dev/stderr
		if err := f.Chown(o.Account.UID, o.Account.GID); err != nil {
			c.close()
			return nil, fleet.Errorf(fleet.Internal, "the pipes of a session cannot be given to user %q: %w", o.Account.Name, err)
		}
	}
	return c, nil
}

func openScreen(o order) (*child, error) {
	uid := -1
	if o.Drop {
		uid = o.Account.UID
	}
	screen, err := openTerminal(o.Session.Terminal[0], uid)
	if err != nil {
		return nil, err
	}
	file := screen.theirs
	screen.theirs = nil
	return &child{input: screen.ours, output: []*os.File{screen.ours}, screen: screen, theirs: []*os.File{file, file, file}}, nil
}

// statusOf reads how the program ended; nil: nobody saw it.
func statusOf(status *syscall.WaitStatus) (code int32, signal string) {
	switch {
	case status == nil:
		return -1, ""
	case status.Signaled():
		return -1, signalName(status.Signal())
	}
	return int32(status.ExitStatus()), ""
}

// notStarted is the end of a session whose program could not be executed: what a shell would say.
func notStarted(err error) (code int32, why string, ok bool) {
	no, ok := errors.AsType[*account.NoProgram](err)
	if !ok {
		return 0, "", false
	}
	return int32(no.Code), no.Detail, true
}
