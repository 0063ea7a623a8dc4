package outlet

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/muster-fleet/muster/node/fleet"
)

// What is asked of a syslog daemon.
const (
	// perSecond keeps below journald's limit of 10,000 messages in 30 s, above which it drops them.
	perSecond = 300
	// maxMessages is how many messages one stream may become; the rest stays on the node.
	maxMessages = 100_000
	// writePatience is how long the daemon may leave its socket full.
	writePatience = 30 * time.Second
	redials       = 5
)

// syslog writes each line of a stream as a message to the host's syslog daemon.
type syslog struct{ o Options }

// Copy sends the lines. When it breaks off and is called again, lines are sent again.
func (l syslog) Copy(ctx context.Context, s Source) error {
	if err := s.check(); err != nil {
		return err
	}
	in, err := s.Open()
	if err != nil {
		return err
	}
	defer in.Close()
	w := &speaker{syslog: l, source: s}
	defer w.hangUp()
	lines := bufio.NewReaderSize(io.LimitReader(in, s.Size), 64<<10)
	for cont := false; ; {
		line, more, err := lines.ReadLine()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fleet.Errorf(fleet.Unavailable, "%s cannot be read: %w", s, err)
		}
		for _, text := range pieces(line) {
			if w.sent == maxMessages {
				return w.cut(ctx)
			}
			if err := w.send(ctx, text, cont); err != nil {
				return err
			}
			cont = true
		}
		cont = more
	}
}

// speaker sends the messages of one stream.
type speaker struct {
	syslog
	source Source
	conn   net.Conn
	sent   int
}

func (w *speaker) hangUp() {
	if w.conn != nil {
		w.conn.Close()
		w.conn = nil
	}
}

// cut says that the rest is not here.
func (w *speaker) cut(ctx context.Context) error {
	return w.send(ctx, fmt.Sprintf("[only %d messages are sent; all of it: %s]", maxMessages, w.source.whole()), false)
}

// send sends one message, at the pace that the daemon keeps all of.
func (w *speaker) send(ctx context.Context, text string, cont bool) error {
	w.sent++
	if w.sent%perSecond == 0 {
		if err := w.o.Pause(ctx, time.Second); err != nil {
			return err
		}
	}
	m := message(w.o.Now(), w.source, text, cont)
	var err error
	for try := range redials {
		if try > 0 {
			if err := w.o.Pause(ctx, time.Second<<(try-1)); err != nil {
				return err
			}
		}
		if err = w.write(m); err == nil {
			return nil
		}
		w.hangUp()
		if ctx.Err() != nil {
			break
		}
	}
	return fleet.Errorf(fleet.Unavailable, "no syslog at %s: %w", w.o.Socket, bareNet(err))
}

func (w *speaker) write(m []byte) error {
	if w.conn == nil {
		conn, err := dial(w.o.Socket)
		if err != nil {
			return err
		}
		w.conn = conn
	}
	w.conn.SetWriteDeadline(time.Now().Add(writePatience))
	if w.conn.LocalAddr().Network() == "unix" { // a stream needs ends of messages
		m = append(m, 0)
	}
	_, err := w.conn.Write(m)
	return err
}

// dial connects to the daemon: most have a datagram socket, some a stream.
func dial(path string) (net.Conn, error) {
	conn, err := net.Dial("unixgram", path)
	if errors.Is(err, syscall.EPROTOTYPE) {
		return net.Dial("unix", path)
	}
	return conn, err
}

func bareNet(err error) error {
	if oe, ok := errors.AsType[*net.OpError](err); ok {
		err = oe.Err
	}
	if se, ok := errors.AsType[*os.SyscallError](err); ok {
		err = se.Err
	}
	return err
}
