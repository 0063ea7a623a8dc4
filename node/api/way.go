package api

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"

	"github.com/muster-fleet/muster/node/fleet"
)

// way is how a client reaches its agent.
type way interface {
	// check reports why there can be no connection, whatever the agent does.
	check() error
	dial(ctx context.Context) (net.Conn, error)
	// unreached says for people why a request was not answered.
	unreached(err error) error
}

// socketWay is the path of a unix socket.
type socketWay string

func (w socketWay) check() error { return checkPath(string(w)) }

func (w socketWay) dial(ctx context.Context) (net.Conn, error) {
	var dialer net.Dialer
	return dialer.DialContext(ctx, "unix", string(w))
}

func (w socketWay) unreached(err error) error {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return fleet.Errorf(fleet.Denied, "may not open %s", string(w)).Hinted("repeat it with sudo")
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return fleet.Errorf(fleet.Unavailable, "no agent answers at %s", string(w)).Hinted("%s", start(string(w), isThere))
	}
	return fleet.Errorf(fleet.Unavailable, "the agent at %s: %w", string(w), err)
}

// start returns the command that starts the agent that should be at path, in the words of what starts services here.
func start(path string, there func(path string) bool) string {
	if filepath.Dir(path) != "/run/muster" {
		return "muster agent --data-dir " + filepath.Dir(path)
	}
	command := "sudo muster agent"
	switch {
	case there("/run/systemd/system"):
		command = "sudo systemctl start muster"
	case there("/run/openrc/softlevel"):
		command = "sudo rc-service muster start"
	}
	return command + "; if this host is in no fleet yet: muster init or muster join; from a laptop that is no node: --via HOST:PORT"
}

func isThere(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// otherWay is a connection that somebody else opens.
type otherWay struct {
	who  string
	open func(context.Context) (net.Conn, error)
}

func (otherWay) check() error { return nil }

func (w otherWay) dial(ctx context.Context) (net.Conn, error) { return w.open(ctx) }

func (w otherWay) unreached(err error) error {
	if e, ok := errors.AsType[*fleet.Error](err); ok {
		return e
	}
	return fleet.Errorf(fleet.Unavailable, "the agent at %s: %w", w.who, err)
}
