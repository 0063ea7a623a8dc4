package exec

import (
	"crypto/sha256"
	"hash"

	"github.com/muster-fleet/muster/node/fleet"
)

// MaxOutputPiece is the most bytes of output in one piece. Larger ones are no faster: with 64 KiB, the agent that takes
// eight outputs at once had 10 MB more in memory instead of 6.
const MaxOutputPiece = 32 << 10

// The names of a run's outputs.
const (
	StdoutName = "stdout"
	StderrName = "stderr"
)

// OutputAsk says which part of which output is wanted from the node that ran a command.
type OutputAsk struct {
	Stream string // StdoutName or StderrName
	From   int64  // the first byte
	To     int64  // the byte behind the last; 0: to the end
	Follow bool   // until the run has ended; else what is there now
}

// Check reports what is wrong with it, or nil.
func (a OutputAsk) Check() error {
	switch {
	case a.Stream != StdoutName && a.Stream != StderrName:
		return fleet.Errorf(fleet.Invalid, "there is no output %q: it is %s or %s", a.Stream, StdoutName, StderrName)
	case a.From < 0 || a.To < 0 || (a.To > 0 && a.To < a.From):
		return fleet.Errorf(fleet.Invalid, "output cannot be read from %d to %d", a.From, a.To)
	}
	return nil
}

// Ends returns where the part ends, when so much is kept.
func (a OutputAsk) Ends(kept int64) int64 {
	if a.To > 0 && a.To < kept {
		return a.To
	}
	return kept
}

// Whole reports whether all of the output is asked for.
func (a OutputAsk) Whole() bool { return a.From == 0 && a.To == 0 }

// OutputHead is what a node says of one output of a run.
type OutputHead struct {
	Sum   OutputSum // so far; Digest is zero until the run has ended, and where nobody could tell it
	Ended bool      // nothing is added any more
}

// Check reports what is wrong with it, or nil.
func (h OutputHead) Check() error {
	if h.Sum.Kept < 0 || h.Sum.Kept > h.Sum.Size {
		return fleet.Errorf(fleet.Invalid, "an output of %d bytes cannot have kept %d", h.Sum.Size, h.Sum.Kept)
	}
	return nil
}

// OutputPiece is one piece of what a node gives of a run's output: first a Head, then Data, then a Head as of the end.
type OutputPiece struct {
	Head *OutputHead
	Data []byte // of at most MaxOutputPiece bytes, good until the receiver returns
}

// OutputCheck verifies what comes of an output against what the node said of it. It holds nothing of the output.
type OutputCheck struct {
	ask  OutputAsk
	at   int64
	hash hash.Hash
}

// NewOutputCheck returns a check of what answers ask.
func NewOutputCheck(ask OutputAsk) *OutputCheck {
	return &OutputCheck{ask: ask, at: ask.From, hash: sha256.New()}
}

// From returns the offset of the first byte that was asked for.
func (c *OutputCheck) From() int64 { return c.ask.From }

// At returns the offset of the next byte.
func (c *OutputCheck) At() int64 { return c.at }

// Take adds the next bytes. The error says that they are none that were asked for.
func (c *OutputCheck) Take(p []byte) error {
	if len(p) == 0 || len(p) > MaxOutputPiece || (c.ask.To > 0 && int64(len(p)) > c.ask.To-c.at) {
		return fleet.Errorf(fleet.Invalid, "%d bytes of output came at %d, which nobody asked for", len(p), c.at)
	}
	c.at += int64(len(p))
	if c.ask.Whole() {
		c.hash.Write(p)
	}
	return nil
}

// End judges the whole by what the node says at the end: all that was kept must have come, and where all of an ended
// run's output was asked for, it must be what the digest names.
func (c *OutputCheck) End(last OutputHead) error {
	if err := last.Check(); err != nil {
		return err
	}
	want := c.ask.Ends(last.Sum.Kept)
	switch {
	case c.at > max(want, c.ask.From):
		return fleet.Errorf(fleet.Invalid, "more output came than the node says it keeps: up to %d, not %d", c.at, want)
	case c.at < want && (last.Ended || !c.ask.Follow):
		return fleet.Errorf(fleet.Unavailable, "the output ends at byte %d, but %d are kept", c.at, want)
	case !c.ask.Whole() || !last.Ended || last.Sum.Digest.IsZero():
		return nil
	case fleet.ID(c.hash.Sum(nil)) != last.Sum.Digest:
		return fleet.Errorf(fleet.Internal, "the output does not match its digest %s: it was changed on the node's disk after the run, or on its way", last.Sum.Digest).
			Hinted("do not trust it; muster command show says what was reported when the run ended")
	}
	return nil
}
