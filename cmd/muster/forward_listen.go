package main

import (
	"context"
	"errors"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/muster-fleet/muster/node/fleet"
)

// tunnelConns is how many connections one muster forward carries at a time; more wait to be accepted. A node lets one
// operator have 1,024 streams.
const tunnelConns = 512

// reach connects from the node to HOST:PORT.
type reach func(ctx context.Context, to string) (half, error)

// listenTunnel opens the local end. A socket that somebody left behind is taken over, one that is in use is not.
func listenTunnel(t tunnel) (net.Listener, error) {
	l, err := listenPrivate(t)
	if t.network == "unix" && errors.Is(err, syscall.EADDRINUSE) && deserted(t.local) {
		if err = os.Remove(t.local); err == nil {
			l, err = listenPrivate(t)
		}
	}
	if err != nil {
		return nil, cannotListen(t, err)
	}
	return l, nil
}

// listenPrivate keeps a unix socket to its owner, from the moment it exists.
func listenPrivate(t tunnel) (net.Listener, error) {
	if t.network == "unix" {
		defer syscall.Umask(syscall.Umask(0o177))
	}
	return net.Listen(t.network, t.local)
}

// deserted reports whether path is a socket at which nobody listens.
func deserted(path string) bool {
	info, err := os.Lstat(path)
	if err != nil || info.Mode().Type() != os.ModeSocket {
		return false
	}
	conn, err := net.Dial("unix", path)
	if err == nil {
		conn.Close()
	}
	return errors.Is(err, syscall.ECONNREFUSED)
}

func cannotListen(t tunnel, err error) error {
	kind, hint := fleet.Invalid, "another LOCAL; with port 0 a free one is taken"
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		kind = fleet.Conflict
	case errors.Is(err, os.ErrPermission):
		kind, hint = fleet.Denied, "a port of 1024 or above"
	}
	return fleet.Errorf(kind, "cannot listen at %s: %w", t.local, err).Hinted("%s", hint)
}

// carry takes connections at l to what dial reaches, until ctx ends; then it ends them all. What goes wrong with one
// connection is told, and the others go on.
func carry(ctx context.Context, l net.Listener, to string, dial reach, tell func(error)) {
	var open sync.WaitGroup
	defer open.Wait()
	defer context.AfterFunc(ctx, func() { l.Close() })()
	slots := make(chan struct{}, tunnelConns)
	for {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return
		}
		near, err := l.Accept()
		if err != nil {
			<-slots
			if ctx.Err() != nil {
				return
			}
			tell(fleet.Errorf(fleet.Exhausted, "%s takes no connection: %w", l.Addr(), err))
			if !restWell(ctx) {
				return
			}
			continue
		}
		open.Go(func() {
			defer func() { <-slots }()
			if err := carryOne(ctx, near.(half), to, dial); err != nil && ctx.Err() == nil {
				tell(err)
			}
		})
	}
}

// restWell waits a moment before a listener that had no room is asked again; false when there is no need any more.
func restWell(ctx context.Context) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(100 * time.Millisecond):
		return true
	}
}

// carryOne carries one connection. One that cannot be carried is reset, so that its program sees a failure, not an end.
func carryOne(ctx context.Context, near half, to string, dial reach) error {
	far, err := dial(ctx, to)
	if err != nil {
		breakOff(near)
		return err
	}
	defer context.AfterFunc(ctx, func() { breakOff(near); breakOff(far) })()
	_ = splice(near, far) // how a connection ends is between its two programs
	return nil
}
