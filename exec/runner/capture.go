package runner

import (
	"crypto/sha256"
	"errors"
	"hash"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/muster-fleet/muster/node/fleet"
)

// drainTime is how long after its end a run's pipes are read on: daemons that hold them do not keep the run from ending.
const drainTime = 200 * time.Millisecond

// capture copies one stream of the run to its file. The run is never held up for the disk's sake: what cannot be kept is
// counted and dropped.
type capture struct {
	pipe *os.File // read end, non-blocking
	file *os.File // nil once nothing more is kept
	most int64
	hash hash.Hash
	size int64
	kept atomic.Int64
	why  string // why output was cut
	done chan struct{}
}

func newCapture(pipe *os.File, name string, most int64) *capture {
	c := &capture{pipe: pipe, most: most, hash: sha256.New(), done: make(chan struct{})}
	var err error
	if c.file, err = os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600); err != nil {
		c.why = name + " cannot be kept: " + err.Error()
	}
	return c
}

// run copies until the last writer has closed the pipe, or finish was called and its time is over.
func (c *capture) run() {
	defer close(c.done)
	buf := make([]byte, 64<<10)
	for {
		n, err := c.pipe.Read(buf)
		c.keep(buf[:n])
		if errors.Is(err, os.ErrDeadlineExceeded) {
			c.rest(buf)
			return
		}
		if err != nil {
			return
		}
	}
}

// rest takes what lies in the pipe already: it was written before the drain ended, however slow the disk is. A daemon
// that writes on and on is cut off after a pipe's worth.
func (c *capture) rest(buf []byte) {
	raw, err := c.pipe.SyscallConn()
	if err != nil {
		return
	}
	c.pipe.SetReadDeadline(time.Time{})
	for taken := 0; taken < 1<<20; {
		n := 0
		raw.Read(func(fd uintptr) bool {
			n, _ = readNow(int(fd), buf)
			return true
		})
		if n <= 0 {
			return
		}
		c.keep(buf[:n])
		taken += n
	}
}

func (c *capture) keep(p []byte) {
	c.size += int64(len(p))
	if c.file == nil {
		return
	}
	room := c.most - c.kept.Load()
	fit := p[:min(int64(len(p)), room)]
	n, err := c.file.Write(fit)
	c.hash.Write(fit[:n])
	c.kept.Add(int64(n))
	switch {
	case err != nil:
		c.stop("cannot be written: " + err.Error())
	case len(fit) < len(p):
		c.stop("is longer than the limit")
	}
}

func (c *capture) stop(why string) {
	c.why = c.file.Name() + " " + why
	c.file.Close()
	c.file = nil
}

// finish gives the stream its last time to drain and waits for it.
func (c *capture) finish() {
	c.pipe.SetReadDeadline(time.Now().Add(drainTime))
	<-c.done
	c.pipe.Close()
	if c.file == nil {
		return
	}
	if c.kept.Load() > 0 { // the end will vouch for these bytes, so they go to the disk first
		if err := c.file.Sync(); err != nil {
			c.why = c.file.Name() + " cannot be written: " + err.Error()
		}
	}
	c.file.Close()
}

// sum may be called after finish.
func (c *capture) sum() outputNote {
	return outputNote{Size: c.size, Kept: c.kept.Load(), Digest: fleet.ID(c.hash.Sum(nil)), Cut: c.why != ""}
}

// readNow reads what is there without waiting.
func readNow(fd int, buf []byte) (int, error) {
	for {
		n, err := unix.Read(fd, buf)
		if !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}
