package agent

import (
	"errors"
	"io"
	"os"
	"time"
)

// A copying buffer begins small, because most sessions wait for a key to be pressed, and grows with what passes.
const (
	leastPour = 1 << 10
	mostPour  = 64 << 10
)

// pour copies src to dst until src ends (nil) or either fails. count, which may be nil, is told of all that was written.
func pour(dst io.Writer, src io.Reader, count func(n int)) error {
	buf := make([]byte, leastPour)
	for {
		n, err := src.Read(buf)
		if n > 0 {
			if _, err := dst.Write(buf[:n]); err != nil {
				return err
			}
			if count != nil {
				count(n)
			}
		}
		switch {
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		case n == len(buf) && n < mostPour:
			buf = make([]byte, 2*n)
		}
	}
}

// stuckWait is how long nothing may be taken of what is left of a session that is over.
const stuckWait = 30 * time.Second

var errStuck = errors.New("the operator's end takes nothing")

// patient writes to an operator's end that may read as slowly as it likes (somebody pages through the output), until whoever
// it hears of is gone: then for as long as it still takes something.
type patient struct {
	to   SessionStream
	gone func() bool
}

// Write is io.Writer's.
func (w *patient) Write(p []byte) (n int, err error) {
	for {
		_ = w.to.SetWriteDeadline(time.Now().Add(stuckWait)) // where it cannot be set, it was broken off
		took, err := w.to.Write(p[n:])
		n += took
		switch {
		case err == nil || !errors.Is(err, os.ErrDeadlineExceeded):
			return n, err
		case took == 0 && w.gone():
			return n, errStuck
		}
	}
}

// isGone reports whether a connection's other end has hung up, also while what it said before is not read.
func isGone(conn any) bool {
	g, ok := conn.(interface{ Gone() bool })
	return ok && g.Gone()
}
