package runner

import (
	"crypto/sha256"
	"errors"
	"hash"
	"io"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/muster-fleet/muster/exec/steps"
	"github.com/muster-fleet/muster/node/fleet"
)

// drainTime is how long after its end a step's pipes are read on: daemons that hold them do not keep it from ending.
const drainTime = 200 * time.Millisecond

// capture copies one stream of the run to its file, through a pipe per step. The run is never held up for the disk's
// sake: what cannot be kept is counted and dropped.
type capture struct {
	pipe *os.File // read end of the step's pipe, non-blocking
	file *os.File // nil once nothing more is kept
	most int64
	hash hash.Hash
	mask *masker     // of the run's secrets; nil: there are none
	dim  *maskStream // of the step's pipe; nil without a mask
	size int64
	kept atomic.Int64
	why  string // why output was cut
	done chan struct{}
}

func newCapture(name string, most int64, mask *masker) *capture {
	c := &capture{most: most, hash: sha256.New(), mask: mask}
	var err error
	if c.file, err = os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600); err != nil {
		c.why = name + " cannot be kept: " + err.Error()
	}
	return c
}

// reopenCapture goes on with a stream that an earlier supervisor left. was is what the journal says of it.
func reopenCapture(name string, most int64, was steps.Written, mask *masker) *capture {
	c := &capture{most: most, hash: sha256.New(), mask: mask}
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		c.size, c.why = was.Size, name+" cannot be kept: "+err.Error()
		return c
	}
	c.file = f
	kept, err := io.Copy(c.hash, f)
	c.kept.Store(kept)
	c.size = max(was.Size, kept)
	switch {
	case err != nil:
		c.stop("cannot be read: " + err.Error())
	case kept < c.size && was.Kept < was.Size:
		c.stop("is longer than the limit, or the disk was full")
	case kept < c.size:
		c.stop("has lost its end when the host went down")
	}
	return c
}

// attach copies from a pipe until the last writer has closed it, or detach was called and its time is over.
func (c *capture) attach(pipe *os.File) {
	c.pipe, c.done = pipe, make(chan struct{})
	if c.mask != nil {
		c.dim = c.mask.stream()
	}
	go c.run()
}

func (c *capture) run() {
	defer close(c.done)
	defer c.letGo()
	buf := make([]byte, 64<<10)
	for {
		n, err := c.pipe.Read(buf)
		c.take(buf[:n])
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
		c.take(buf[:n])
		taken += n
	}
}

// take keeps what the step has written, with the run's secrets masked.
func (c *capture) take(p []byte) {
	if c.dim != nil {
		p = c.dim.write(p)
	}
	c.keep(p)
}

// letGo keeps what was held back because it looked like the beginning of a secret.
func (c *capture) letGo() {
	if c.dim != nil {
		c.keep(c.dim.flush())
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

// detach gives the step's pipe its last time to drain and waits for it.
func (c *capture) detach() {
	c.pipe.SetReadDeadline(time.Now().Add(drainTime))
	<-c.done
	c.pipe.Close()
}

// sync puts on the disk what is about to be vouched for.
func (c *capture) sync() {
	if c.file == nil || c.kept.Load() == 0 {
		return
	}
	if err := c.file.Sync(); err != nil {
		c.why = c.file.Name() + " cannot be written: " + err.Error()
	}
}

// close may be called between steps only.
func (c *capture) close() {
	c.sync()
	if c.file != nil {
		c.file.Close()
	}
}

// written may be called between steps only.
func (c *capture) written() steps.Written { return steps.Written{Size: c.size, Kept: c.kept.Load()} }

// sum may be called between steps only.
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
