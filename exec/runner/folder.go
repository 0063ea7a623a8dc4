package runner

import (
	"bytes"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node/fleet"

	"github.com/muster-fleet/muster/exec/cage"
)

// The files of a run folder, runs/<command UUID>, 0700. This and the socket are all that agent and supervisor share.
const (
	runsName   = "runs"
	startName  = "start" // written by the supervisor, synced, before the child: the second witness of the start
	endName    = "end"   // zeros until the run has ended, then how, synced; locked by the supervisor as long as it lives
	socketName = "ctl.sock"
	errorsName = "supervisor.err"
	scriptName = "script"

	// noteFormat is the version of the start mark, the end record, the order and the socket's frames.
	noteFormat = 1
)

// startMark is the content of the start file.
type startMark struct {
	Format    int
	Command   [16]byte
	Digest    [32]byte
	Issued    int64 // nanoseconds since 1970, as all times here
	Expires   int64
	BootID    string
	PID       int    // of the supervisor
	StartTick uint64 // of the supervisor, in clock ticks since boot: with the PID it names one process
	Time      int64
}

// endNote is the content of the end file.
type endNote struct {
	Format   int
	Command  [16]byte
	Status   string
	ExitCode int
	Signal   int
	Stdout   outputNote
	Stderr   outputNote
	Detail   string
	Started  int64
	Ended    int64
}

type outputNote struct {
	Size   int64
	Kept   int64
	Digest [32]byte
	Cut    bool
}

func (o outputNote) sum() exec.OutputSum {
	return exec.OutputSum{Size: o.Size, Kept: o.Kept, Digest: o.Digest, Cut: o.Cut}
}

// folder is the path of one run's folder.
type folder string

func (r *Runner) folder(command fleet.UUID) folder {
	return folder(filepath.Join(r.cfg.Dir, runsName, command.String()))
}

func (f folder) path(name string) string { return filepath.Join(string(f), name) }

// hasStart reports whether the run has a start mark, readable or not.
func (f folder) hasStart() bool {
	_, err := os.Lstat(f.path(startName))
	return err == nil
}

func (f folder) start() (startMark, error) {
	var m startMark
	data, err := os.ReadFile(f.path(startName))
	if err != nil {
		return m, err
	}
	return m, cage.OpenNote(data, &m)
}

// end returns how the run ended. The error is fs.ErrNotExist when there is no end.
func (f folder) end() (endNote, error) {
	var n endNote
	data, err := os.ReadFile(f.path(endName))
	if err != nil {
		return n, err
	}
	if indexNonZero(data) < 0 {
		return n, fs.ErrNotExist
	}
	return n, cage.OpenNote(data, &n)
}

// alive reports whether the run's supervisor lives.
func (f folder) alive() bool { return cage.Alive(f.path(endName)) }

// prepare makes the folder, which must not exist, with all that needs room on the disk.
func (f folder) prepare() (_ *cage.Given, err error) {
	if err = os.Mkdir(string(f), 0o700); err != nil {
		return nil, err
	}
	p := &cage.Given{}
	defer func() {
		if err != nil {
			p.Close()
			os.RemoveAll(string(f))
		}
	}()
	if p.End, err = os.OpenFile(f.path(endName), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600); err != nil {
		return nil, err
	}
	if !cage.Lock(p.End) {
		return nil, errAlive
	}
	if _, err = p.End.Write(make([]byte, cage.NoteSize)); err != nil {
		return nil, err
	}
	return p, f.equip(p)
}

// equip opens what a supervisor gets besides the end file.
func (f folder) equip(p *cage.Given) (err error) {
	if p.Errors, err = os.OpenFile(f.path(errorsName), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600); err != nil {
		return err
	}
	p.Listener, err = f.listen()
	return err
}

// prepareAgain readies the folder for a supervisor that goes on. The error is errAlive when another one holds it.
func (f folder) prepareAgain() (_ *cage.Given, err error) {
	p := &cage.Given{}
	defer func() {
		if err != nil {
			p.Close()
		}
	}()
	if p.End, err = os.OpenFile(f.path(endName), os.O_RDWR, 0); err != nil {
		return nil, err
	}
	if !cage.Lock(p.End) {
		return nil, errAlive
	}
	if err := os.Remove(f.path(socketName)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	return p, f.equip(p)
}

var errAlive = errors.New("a supervisor lives")

func (f folder) listen() (*os.File, error) { return cage.Listen(string(f), socketName) }

func (f folder) dial() (net.Conn, error) { return cage.Dial(string(f), socketName) }

// kept returns what is on disk of a stream whose supervisor left no account of it.
func (f folder) kept(s Stream) exec.OutputSum {
	info, err := os.Stat(f.path(string(s)))
	if err != nil {
		return exec.OutputSum{}
	}
	return exec.OutputSum{Size: info.Size(), Kept: info.Size()}
}

// lastWords returns the end of what the supervisor itself complained about.
func (f folder) lastWords() string {
	data, err := os.ReadFile(f.path(errorsName))
	if err != nil || len(bytes.TrimSpace(data)) == 0 {
		return ""
	}
	line, _, _ := strings.Cut(string(data), "\n")
	return strings.ToValidUTF8(line[:min(len(line), 200)], "")
}

func bootID() (string, error) {
	data, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(data)), err
}

func (m startMark) record(now time.Time) exec.StartedRecord {
	r := exec.StartedRecord{Command: m.Command, Digest: m.Digest, Issued: fromUnixNano(m.Issued), Expires: fromUnixNano(m.Expires),
		BootID: m.BootID, Time: fromUnixNano(m.Time)}
	if r.Expires.IsZero() { // an unreadable mark: remember the command for as long as any order can be valid
		r.Expires = now.Add(exec.MaxValidity)
	}
	if r.Time.IsZero() {
		r.Time = now
	}
	return r
}

func (n endNote) record() exec.EndedRecord {
	return exec.EndedRecord{Command: n.Command, Status: exec.Status(n.Status), ExitCode: n.ExitCode, Signal: n.Signal,
		Stdout: n.Stdout.sum(), Stderr: n.Stderr.sum(), Detail: n.Detail, Time: fromUnixNano(n.Ended)}
}
