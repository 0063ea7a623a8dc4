package outlet

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/muster-fleet/muster/exec/s3"
	"github.com/muster-fleet/muster/node/fleet"
)

// Source is one stream of a run or a session that has ended.
type Source struct {
	Command fleet.UUID // or the session
	Node    string     // its name
	Stream  string     // stdout or stderr, StreamCast or StreamLines
	Size    int64      // bytes that are kept
	// Open begins at the first byte; it may be called more than once.
	Open func() (io.ReadCloser, error)
}

// Outlet takes copies.
type Outlet interface {
	// Copy makes the copy, or says why it could not; it may be called again then.
	Copy(ctx context.Context, s Source) error
}

// Options are what outlets need beside their destination. The zero value is that of a host.
type Options struct {
	Getenv func(string) string // where credentials, endpoint and region of s3 come from; nil: there are none
	HTTP   *http.Client        // nil: one with bounds on silence
	Socket string              // of syslog; "": /dev/log
	Now    func() time.Time    // nil: time.Now
	// Pause waits, or returns the context's error; nil: a timer.
	Pause func(context.Context, time.Duration) error
}

func (o Options) filled() Options {
	if o.Getenv == nil {
		o.Getenv = func(string) string { return "" }
	}
	if o.HTTP == nil {
		o.HTTP = &http.Client{Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, TLSHandshakeTimeout: 30 * time.Second,
			ResponseHeaderTimeout: 2 * time.Minute, ForceAttemptHTTP2: true, MaxIdleConns: 4, IdleConnTimeout: 30 * time.Second}}
	}
	if o.Socket == "" {
		o.Socket = "/dev/log"
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Pause == nil {
		o.Pause = pause
	}
	return o
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

// Open returns the outlet of a destination. It connects to nothing.
func Open(to string, o Options) (Outlet, error) {
	o = o.filled()
	d, err := parse(to, s3.FindDefaults(o.Getenv))
	if err != nil {
		return nil, err
	}
	switch d := d.(type) {
	case toFolder:
		return folder(d), nil
	case toSyslog:
		return syslog{o}, nil
	case toBucket:
		keys, err := s3.FindCredentials(o.Getenv)
		if err != nil {
			return nil, err
		}
		return bucket{d.place, &s3.Client{HTTP: o.HTTP, Credentials: keys, Now: o.Now, Pause: o.Pause}}, nil
	}
	return nil, fleet.Errorf(fleet.Internal, "a destination without an outlet: %T", d)
}

// nodeName is what names of nodes look like; they become names of files.
const nodeName = fleet.Pattern(`^[a-z0-9][a-z0-9.-]{0,62}$`)

// check refuses sources whose names would lead elsewhere.
func (s Source) check() error {
	switch {
	case s.Stream != streamOut && s.Stream != streamErr && !s.ofSession():
		return fleet.Errorf(fleet.Invalid, "there is no stream %q", s.Stream)
	case !nodeName.MatchString(s.Node):
		return fleet.Errorf(fleet.Invalid, "%q is no name of a node", s.Node)
	case s.Size < 0:
		return fleet.Errorf(fleet.Invalid, "an output of %d bytes", s.Size)
	}
	return nil
}

// ofSession reports whether it is a session's, and not a run's.
func (s Source) ofSession() bool { return s.Stream == StreamCast || s.Stream == StreamLines }

// String says in words what is copied.
func (s Source) String() string {
	if s.ofSession() {
		return "the recording of session " + s.Command.String()
	}
	return "the output of command " + s.Command.String()
}

// whole is the command that shows all of it.
func (s Source) whole() string {
	if s.ofSession() {
		return fmt.Sprintf("muster session export %s --node %s --format commands", s.Command, s.Node)
	}
	return fmt.Sprintf("muster command show %s --node %s --%s --full", s.Command, s.Node, s.Stream)
}

// bucket puts objects PREFIX/COMMAND/NODE/STREAM.
type bucket struct {
	place  s3.Place
	client *s3.Client
}

// Copy puts one object.
func (b bucket) Copy(ctx context.Context, s Source) error {
	if err := s.check(); err != nil {
		return err
	}
	return b.client.Put(ctx, b.place.Below(below(s.Command, s.Node, s.Stream)), s.Size, s.Open)
}
