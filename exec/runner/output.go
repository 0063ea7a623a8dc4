package runner

import (
	"errors"
	"io"
	"os"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node/fleet"
)

// Stream names one of a run's two outputs, and its file.
type Stream string

// The streams.
const (
	Stdout Stream = "stdout"
	Stderr Stream = "stderr"
)

// MaxRead is the most bytes that one read of output returns.
const MaxRead = 4 << 20

// Head returns the first n bytes that are kept of a stream.
func (r *Runner) Head(command fleet.UUID, stream Stream, n int) ([]byte, error) {
	return r.Output(command, stream, 0, n)
}

// Tail returns the last n bytes that are kept of a stream so far.
func (r *Runner) Tail(command fleet.UUID, stream Stream, n int) ([]byte, error) {
	return r.read(command, stream, func(size int64) int64 { return max(0, size-int64(min(n, MaxRead))) }, n)
}

// Output returns at most n bytes (and at most MaxRead) of a stream from offset on, also while the run is going. Behind
// the end of what is there it returns nothing.
func (r *Runner) Output(command fleet.UUID, stream Stream, offset int64, n int) ([]byte, error) {
	return r.read(command, stream, func(int64) int64 { return offset }, n)
}

func (r *Runner) read(command fleet.UUID, stream Stream, from func(size int64) int64, n int) ([]byte, error) {
	if stream != Stdout && stream != Stderr {
		return nil, fleet.Errorf(fleet.Invalid, "there is no stream %q", string(stream))
	}
	f, err := os.Open(r.folder(command).path(string(stream)))
	if errors.Is(err, os.ErrNotExist) {
		return nil, r.noOutput(command)
	}
	if err != nil {
		return nil, fleet.Errorf(fleet.Internal, "cannot read the output of command %s: %w", command, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fleet.Errorf(fleet.Internal, "cannot read the output of command %s: %w", command, err)
	}
	off := from(info.Size())
	if off < 0 || n < 0 {
		return nil, fleet.Errorf(fleet.Invalid, "cannot read %d bytes at %d", n, off)
	}
	buf := make([]byte, max(0, min(int64(min(n, MaxRead)), info.Size()-off)))
	got, err := f.ReadAt(buf, off)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fleet.Errorf(fleet.Internal, "cannot read the output of command %s: %w", command, err)
	}
	return buf[:got], nil
}

// noOutput tells a run that has none (yet) from one whose output is gone.
func (r *Runner) noOutput(command fleet.UUID) error {
	s, ok := r.Ledger().Get(command)
	if !ok || s.Started == nil {
		return fleet.Errorf(fleet.NotFound, "command %s did not run on this node", command)
	}
	if s.Ended != nil && s.Ended.Stdout.Kept+s.Ended.Stderr.Kept > 0 {
		return fleet.Errorf(fleet.NotFound, "the output of command %s is no longer kept", command)
	}
	return nil
}

// OutputFile is one stream of a run, open for reading also while the run is going.
type OutputFile struct {
	r       *Runner
	command fleet.UUID
	stream  Stream
	f       *os.File // nil while the run has written nothing
}

// OpenOutput opens a stream of a run. The error is fleet.NotFound for a command that did not run here, and fleet.Expired
// for one whose output is no longer kept.
func (r *Runner) OpenOutput(command fleet.UUID, stream Stream) (*OutputFile, error) {
	if stream != Stdout && stream != Stderr {
		return nil, fleet.Errorf(fleet.Invalid, "there is no stream %q", string(stream))
	}
	s, ok := r.Ledger().Get(command)
	if !ok || s.Started == nil {
		return nil, fleet.Errorf(fleet.NotFound, "command %s did not run on this node", command)
	}
	o := &OutputFile{r: r, command: command, stream: stream}
	f, err := os.Open(r.folder(command).path(string(stream)))
	switch {
	case err == nil:
		o.f = f
	case !errors.Is(err, os.ErrNotExist):
		return nil, fleet.Errorf(fleet.Internal, "cannot read the output of command %s: %w", command, err)
	case s.Ended != nil && o.recorded(s).Kept > 0:
		return nil, fleet.Errorf(fleet.Expired, "the output of command %s is no longer kept on this node (retention)", command)
	}
	return o, nil
}

func (o *OutputFile) recorded(s exec.State) exec.OutputSum {
	if o.stream == Stderr {
		return s.Ended.Stderr
	}
	return s.Ended.Stdout
}

// Sum says how much there is to read: so far, or, once the run has ended, what the ledger says of it.
func (o *OutputFile) Sum() (sum exec.OutputSum, ended bool) {
	if s, _ := o.r.Ledger().Get(o.command); s.Ended != nil {
		return o.recorded(s), true
	}
	return o.r.folder(o.command).kept(o.stream), false
}

// ReadAt reads what is there already; behind it is io.EOF. It is not for several goroutines at a time.
func (o *OutputFile) ReadAt(p []byte, off int64) (int, error) {
	if o.f == nil { // the first of it may have come since
		f, err := os.Open(o.r.folder(o.command).path(string(o.stream)))
		if errors.Is(err, os.ErrNotExist) {
			return 0, io.EOF
		}
		if err != nil {
			return 0, err
		}
		o.f = f
	}
	return o.f.ReadAt(p, off)
}

// Close closes the file.
func (o *OutputFile) Close() error {
	if o.f == nil {
		return nil
	}
	return o.f.Close()
}
