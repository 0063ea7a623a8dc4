package copy

import (
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/session/copy/talk"
)

// Watch is told how a copy goes. Each may be nil; any two may be called at the same time, and once more when a copy that was
// broken off has returned.
type Watch struct {
	Entry   func(path string, size int64)        // a file begins
	Moved   func(bytes int64)                    // so many more bytes of it crossed the line, or were there already
	Trouble func(far bool, trouble *fleet.Error) // one entry failed, at the far end or here; the others go on
}

func (w Watch) entry(path string, size int64) {
	if w.Entry != nil {
		w.Entry(path, size)
	}
}

func (w Watch) moved(bytes int64) {
	if w.Moved != nil {
		w.Moved(bytes)
	}
}

func (w Watch) trouble(far bool, trouble *fleet.Error) {
	if w.Trouble != nil {
		w.Trouble(far, trouble)
	}
}

// Total counts what was copied.
type Total = talk.Total
