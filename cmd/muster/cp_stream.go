package main

import (
	"context"
	"io"
	"time"

	"github.com/muster-fleet/muster/node/api"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/session/attach"
	"github.com/muster-fleet/muster/node/session/copy"
	"github.com/muster-fleet/muster/node/session/flow"
)

// farewellWait is how long the far end of a copy has to end by itself when all is said.
const farewellWait = 3 * time.Second

// courier copies between here and one node, in one session.
type courier struct {
	end  *sessionEnd
	at   api.Node
	tell func(format string, args ...any)

	id    fleet.UUID
	first io.ReadWriteCloser // the connection that opened the session; nil once it was taken

	over chan struct{} // closed when the session has ended
	exit flow.Exit
	err  error
}

// carry opens a session and copies in it. Whatever comes of it, the session has ended when it returns, or the node was told.
func (c *courier) carry(ctx context.Context, s auth.Session, put bool, order copy.Order) (copy.Total, error) {
	signed, id, err := c.end.sign(c.at, s)
	if err != nil {
		return copy.Total{}, err
	}
	conn, _, err := c.end.open(ctx, c.at, signed)
	if err != nil {
		return copy.Total{}, err
	}
	c.id, c.first, c.over = id, conn, make(chan struct{})
	work, stop := context.WithCancel(context.WithoutCancel(ctx)) // the far end is to hear of the end of ctx in its own language
	defer stop()
	stream := c.attachment(work)
	var total copy.Total
	if put {
		total, err = copy.Put(ctx, stream, order)
	} else {
		total, err = copy.Get(ctx, stream, order)
	}
	c.part(stop)
	return total, err
}

// part waits until the session has ended; if it does not, it is ended.
func (c *courier) part(stop func()) {
	select {
	case <-c.over:
	case <-time.After(farewellWait):
		stop()
		<-c.over
	}
	if c.err != nil {
		c.end.leave(c.at, c.id)
	}
}

// attachment runs the session, and returns its input and output as one stream.
func (c *courier) attachment(ctx context.Context) io.ReadWriteCloser {
	inRead, inWrite := io.Pipe()
	outRead, outWrite := io.Pipe()
	client := attach.Client{Open: c.connect, Stdin: inRead, Stdout: outWrite, Stderr: io.Discard, Notice: c.notice, Line: c.line}
	go func() {
		defer close(c.over)
		c.exit, c.err = client.Run(ctx)
		why := c.ending()
		inRead.CloseWithError(why)
		outWrite.CloseWithError(why)
	}()
	return &duplex{outRead, inWrite}
}

// ending is what a copy sees that has not ended before its session.
func (c *courier) ending() error {
	switch {
	case c.err != nil:
		return c.err
	case c.exit.Why != "":
		return fleet.Errorf(fleet.Expired, "the session on %s was ended: %s", c.at.Name, c.exit.Why).Hinted("muster session show %s --node %s", c.id, c.at.Name)
	case c.exit.Signal != "":
		return fleet.Errorf(fleet.Unavailable, "the copy on %s was ended by SIG%s", c.at.Name, c.exit.Signal)
	}
	return io.EOF
}

// connect gives the attachment its first connection, and others when that was lost.
func (c *courier) connect(ctx context.Context, have uint64) (io.ReadWriteCloser, uint64, error) {
	if conn := c.first; conn != nil {
		c.first = nil
		return conn, 0, nil
	}
	conn, theirs, err := c.end.attach(ctx, c.at, c.id, have)
	if err != nil {
		return nil, 0, err
	}
	return conn, theirs, nil
}

func (c *courier) notice(text string) { c.tell("%s: %s", c.at.Name, text) }

// line tells of a node that is not heard.
func (c *courier) line(s attach.State) {
	if s.Silent {
		c.tell("nothing is heard from %s; the copy goes on when it is back", c.at.Name)
		return
	}
	c.tell("%s is back", c.at.Name)
}

// duplex is a session's output and input as one stream.
type duplex struct {
	*io.PipeReader
	to *io.PipeWriter
}

func (d *duplex) Write(p []byte) (int, error) { return d.to.Write(p) }

// Close ends the input of the far end, and drops what it still says.
func (d *duplex) Close() error {
	_ = d.to.Close()
	return d.PipeReader.Close()
}
