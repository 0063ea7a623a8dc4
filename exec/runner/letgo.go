package runner

import (
	"encoding/binary"
	"io"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/muster-fleet/muster/node/fleet"
)

// letGoPatience is how long an act waits for its supervisor's word.
const letGoPatience = 3 * time.Second

// LetGo is for an act that starts what is no part of its run, as the host's agent is none. The supervisor of the run below the data
// folder dir adopts nothing from then on, until the act has ended: what the act leaves behind has the parent that it would have without
// any run, and no stop of the run finds it there. The run's cgroup the act has to leave by itself.
func LetGo(dir string, command fleet.UUID) error {
	conn, err := folder(filepath.Join(dir, runsName, command.String())).dial()
	if err != nil {
		return fleet.Errorf(fleet.Unavailable, "the run's supervisor does not answer: %w", bare(err))
	}
	defer conn.Close()
	ask(conn, askLetGo)
	conn.SetReadDeadline(time.Now().Add(letGoPatience))
	buf := make([]byte, frameSize)
	for {
		if _, err := io.ReadFull(conn, buf); err != nil {
			return fleet.Errorf(fleet.Unavailable, "the run's supervisor does not answer: %w", bare(err))
		}
		switch {
		case buf[0] != frameLetGo:
		case binary.BigEndian.Uint64(buf[1:]) == 0:
			return fleet.Errorf(fleet.Denied, "the run's supervisor lets nothing go")
		default:
			return nil
		}
	}
}

// family is whose orphans a supervisor adopts.
type family struct {
	mu  sync.Mutex
	act bool // an act of ours runs, or was not seen to have ended
}

// adopt takes in all orphans from now on. act: a step begins that may ask to be let go of.
//
// It comes after the end of the last act was taken: by then the kernel has given away what that left.
func (f *family) adopt(act bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.act = act
	_ = subreaper(true) // as it did when the supervisor started
}

// letGo takes in nobody until the step has ended. Scripts do not get that.
func (f *family) letGo() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.act && subreaper(false) == nil
}

func subreaper(on bool) error {
	var value uintptr
	if on {
		value = 1
	}
	return unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, value, 0, 0, 0)
}
