package runner

import (
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"net"
	"time"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node/fleet"

	"github.com/muster-fleet/muster/exec/cage"
)

// Frames on a run's socket: from the supervisor {u8 kind, u64, u64} big endian, from the agent single bytes. The first
// frame says the version. The end is not told here: the supervisor writes it to the end file and hangs up.
const (
	frameSize    = 17
	frameHello   = 'H' // version, 0
	frameStarted = 'S' // PID of the child, when (nanoseconds since 1970)
	frameOutput  = 'O' // bytes of stdout, of stderr
	frameStep    = 'T' // entries of the journal of steps, 0
	frameLetGo   = 'L' // 1 if it is so, 0; to who asked

	askCancel = 'c'
	askHalt   = 'h' // begin no further step; a supervisor of an older version goes on
	askLetGo  = 'l' // from the act of the step that runs: see LetGo

	// sendPatience is how long a write to the other end may take: neither side ever waits for the other.
	sendPatience = time.Second
	// dialPause is the time between two attempts to reach a supervisor that lives.
	dialPause = 50 * time.Millisecond
)

func frame(kind byte, a, b uint64) []byte {
	out := binary.BigEndian.AppendUint64([]byte{kind}, a)
	return binary.BigEndian.AppendUint64(out, b)
}

func ask(c net.Conn, what byte) {
	c.SetWriteDeadline(time.Now().Add(sendPatience))
	c.Write([]byte{what}) // if it fails the supervisor is gone, or follow dials again and repeats it
}

// follow stays with a run until it has ended or the Runner closes.
func (r *Runner) follow(run *run) {
	dir := r.folder(run.command)
	for {
		if conn, err := dir.dial(); err == nil {
			r.listen(run, conn)
		}
		if r.ctx.Err() != nil {
			return
		}
		alive := dir.alive() // asked before the end is looked for: what dies writes its end first
		note, err := dir.end()
		switch {
		case err == nil && fleet.UUID(note.Command) == run.command:
			r.end(run, note.record())
			return
		case !alive:
			if over := r.goOn(run, dir, err); over {
				return
			}
		}
		select {
		case <-time.After(dialPause):
		case <-r.ctx.Done():
			return
		}
	}
}

// listen turns the supervisor's frames into events until it hangs up.
func (r *Runner) listen(run *run, conn net.Conn) {
	defer conn.Close()
	if !r.connect(run, conn) {
		return
	}
	defer r.disconnect(run)
	buf := make([]byte, frameSize)
	for {
		if _, err := io.ReadFull(conn, buf); err != nil {
			return
		}
		a, b := binary.BigEndian.Uint64(buf[1:]), binary.BigEndian.Uint64(buf[9:])
		switch buf[0] {
		case frameStarted:
			r.events.put(Started{run.command, fromUnixNano(int64(b)), int(a)})
		case frameOutput:
			r.events.put(Output{run.command, int64(a), int64(b), r.stepsOf(run)})
		case frameStep:
			run.stepwise = true
			r.tellProgress(run)
		case frameHello: // there is one version so far; a newer supervisor keeps to these frames
		}
	}
}

func (r *Runner) connect(run *run, conn net.Conn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return false
	}
	run.conn = conn
	if run.cancelled {
		ask(conn, askCancel)
	}
	if r.cfg.Idle != "" {
		ask(conn, askHalt)
	}
	return true
}

func (r *Runner) disconnect(run *run) {
	r.mu.Lock()
	defer r.mu.Unlock()
	run.conn = nil
}

// tellProgress tells how far a run is.
func (r *Runner) tellProgress(run *run) {
	dir := r.folder(run.command)
	r.events.put(Output{run.command, dir.kept(Stdout).Kept, dir.kept(Stderr).Kept, r.stepsOf(run)})
}

// stepsOf reads the steps of a run that has a journal of them.
func (r *Runner) stepsOf(run *run) []exec.StepReport {
	if !run.stepwise {
		return nil
	}
	return r.Steps(run.command)
}

// lost ends a run whose supervisor is gone without a word: whatever it did, nobody knows. What is left of it is killed,
// because nobody would watch over it any more.
func (r *Runner) lost(run *run, dir folder, why error) {
	cage.KillLeftovers(cage.Name(string(dir)), commandIDVar+"="+run.command.String(), r.cfg.Log)
	r.end(run, r.unknown(run.command, dir, why))
}

// unknown describes a run of which only the start is known.
func (r *Runner) unknown(command fleet.UUID, dir folder, why error) exec.EndedRecord {
	return exec.EndedRecord{Command: command, Status: exec.Unknown, ExitCode: -1, Time: r.cfg.Now(),
		Stdout: dir.kept(Stdout), Stderr: dir.kept(Stderr), Detail: r.explain(command, dir, why)}
}

func (r *Runner) explain(command fleet.UUID, dir folder, why error) string {
	s, _ := r.Ledger().Get(command)
	words, where, boot := dir.lastWords(), "", ""
	if s.Started != nil {
		boot = s.Started.BootID
	}
	if _, g, err := dir.progress(command); err == nil {
		where, boot = g.Where()
	}
	switch {
	case why != nil && !errors.Is(why, fs.ErrNotExist):
		return "its end cannot be read: " + why.Error()
	case boot != "" && boot != r.boot:
		return "the host restarted during the run" + where
	case !dir.hasStart():
		return "the agent died while it started the run"
	case words != "":
		return "its supervisor died" + where + ": " + words
	}
	return "its supervisor died" + where
}
