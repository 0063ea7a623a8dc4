package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/muster-fleet/muster/node/fleet"
)

// Session is what a trace begins with.
type Session struct {
	Seed  uint64 `json:"seed"`
	Shape Shape  `json:"shape"`
}

// Line is one line of a trace: what the session is, a step with what came of it, or the end of a round.
type Line struct {
	Session *Session  `json:"session,omitempty"`
	Step    *Step     `json:"step,omitempty"`
	Began   time.Time `json:"began,omitzero"`
	TookMS  int64     `json:"took_ms,omitempty"`
	Came    string    `json:"came,omitempty"` // what came of it, for people
	Ended   *Ended    `json:"ended,omitempty"`
}

// Ended is how a round ended.
type Ended struct {
	Round      int      `json:"round"`
	HealMS     int64    `json:"heal_ms"` // from the storm's end until the fleet was at rest
	Violations []string `json:"violations"`
}

// trace writes lines as things happen. Without a file it writes nothing.
type trace struct {
	mu   sync.Mutex
	out  io.Writer
	path string
}

func (t *trace) line(l Line) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.out == nil {
		return
	}
	raw, err := json.Marshal(l)
	if err == nil {
		_, _ = t.out.Write(append(raw, '\n')) // a trace that cannot be written is noticed by who wants to read it
	}
}

// readTrace reads the session of a trace, and its steps by round.
func readTrace(r io.Reader) (s Session, steps map[int][]Step, err error) {
	steps = map[int][]Step{}
	found := false
	in := bufio.NewScanner(r)
	in.Buffer(nil, 1<<20)
	for in.Scan() {
		var l Line
		if err := json.Unmarshal(in.Bytes(), &l); err != nil {
			return s, nil, fleet.Errorf(fleet.Invalid, "the trace has a line that is none: %w", err)
		}
		switch {
		case l.Session != nil:
			s, found = *l.Session, true
		case l.Step != nil:
			steps[l.Step.Round] = append(steps[l.Step.Round], *l.Step)
		}
	}
	if err := in.Err(); err != nil {
		return s, nil, fmt.Errorf("the trace cannot be read: %w", err)
	}
	if !found {
		return s, nil, fleet.Errorf(fleet.Invalid, "the trace does not say of what session it is")
	}
	return s, steps, nil
}

func readTraceFile(path string) (Session, map[int][]Step, error) {
	f, err := os.Open(path)
	if err != nil {
		return Session{}, nil, err
	}
	defer f.Close()
	return readTrace(f)
}
