package runner

import (
	"errors"
	"io"
	"os"

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
