package session

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/muster-fleet/muster/exec/cage"
	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/session/cast"
)

// The files of a session's folder, sessions/<session UUID>, 0700. These and the socket are all that agent and supervisor share.
const (
	homeName      = "sessions"
	aboutName     = "about"          // node.SessionState as the session began, sealed; written before anything of it exists
	endName       = "end"            // zeros until the session has ended, then how, synced; locked by the supervisor as long as it lives
	socketName    = "ctl.sock"       // where the supervisor is asked
	recordingName = cast.Name        // by the supervisor
	errorsName    = "supervisor.err" // what the supervisor had to complain about
	toldName      = "told"           // empty: the agent has told of the end
)

// noteFormat is the version of the notes in a folder, of the order, and of what is said on the socket.
const noteFormat = 2

// MarkVar is the variable in the environment of everything in a session that names the session.
const MarkVar = "MUSTER_SESSION_ID"

// about is the content of the file of that name.
type about struct {
	Format int
	State  node.SessionState
	Opened string // boot ID of the host
}

// ending is the content of the end file.
type ending struct {
	Format    int
	Session   fleet.UUID
	Ended     int64 // Unix milliseconds
	Active    int64
	In        int64
	Out       int64
	Code      int32
	Signal    string
	Why       string
	Recording node.SessionRecording
	Dials     int64 // of a tunnel
	Recent    []node.SessionConnection
}

// maxWhy bounds the texts of an ending, so that it fits into its block.
const maxWhy = 512

// put fills in how a session ended.
func (e ending) put(s node.SessionState) node.SessionState {
	s.Ended, s.Active, s.In, s.Out = e.Ended, e.Active, e.In, e.Out
	s.Code, s.Signal, s.Why, s.Recording, s.Dials, s.Recent = e.Code, e.Signal, e.Why, e.Recording, e.Dials, e.Recent
	return s
}

// folder is the path of one session's folder.
type folder string

func (f folder) path(name string) string { return filepath.Join(string(f), name) }

func (f folder) alive() bool { return cage.Alive(f.path(endName)) }

// prepare makes the folder, which must not exist, with all that needs room on the disk.
func (f folder) prepare(a about) (_ *cage.Given, err error) {
	p := &cage.Given{}
	if p.End, err = f.prepareTunnel(a); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			p.Close()
			os.RemoveAll(string(f))
		}
	}()
	if p.Errors, err = f.create(errorsName); err != nil {
		return nil, err
	}
	if p.Listener, err = cage.Listen(string(f), socketName); err != nil {
		return nil, err
	}
	return p, nil
}

// prepareTunnel is prepare for a session without a supervisor. It returns the end file, locked.
func (f folder) prepareTunnel(a about) (_ *os.File, err error) {
	if err = os.Mkdir(string(f), 0o700); err != nil {
		return nil, err
	}
	var end *os.File
	defer func() {
		if err != nil {
			if end != nil {
				end.Close()
			}
			os.RemoveAll(string(f))
		}
	}()
	if end, err = f.create(endName); err != nil {
		return nil, err
	}
	if !cage.Lock(end) {
		return nil, fs.ErrExist
	}
	if _, err = end.Write(make([]byte, cage.NoteSize)); err != nil {
		return nil, err
	}
	return end, f.writeAbout(a)
}

func (f folder) create(name string) (*os.File, error) {
	return os.OpenFile(f.path(name), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
}

func (f folder) writeAbout(a about) error {
	file, err := f.create(aboutName)
	if err != nil {
		return err
	}
	defer file.Close()
	_, err = file.Write(cage.SealNote(a))
	return err
}

// settle brings what the folder was made of to the disk.
func (f folder) settle() error {
	file, err := os.Open(f.path(aboutName))
	if err != nil {
		return err
	}
	defer file.Close()
	if err := file.Sync(); err != nil {
		return err
	}
	return errors.Join(cage.SyncDir(string(f)), cage.SyncDir(filepath.Dir(string(f))))
}

func (f folder) about() (about, error) {
	var a about
	data, err := os.ReadFile(f.path(aboutName))
	if err != nil {
		return a, err
	}
	if err := cage.OpenNote(data, &a); err != nil {
		return a, err
	}
	if a.Format != noteFormat {
		return a, fleet.Errorf(fleet.Invalid, "the note of a session has format %d, this agent knows %d", a.Format, noteFormat)
	}
	return a, nil
}

// end returns how the session ended. The error is fs.ErrNotExist when it has not.
func (f folder) end() (ending, error) {
	var e ending
	data, err := os.ReadFile(f.path(endName))
	if err != nil {
		return e, err
	}
	if len(bytes.TrimLeft(data, "\x00")) == 0 {
		return e, fs.ErrNotExist
	}
	return e, cage.OpenNote(data, &e)
}

func (e ending) sealed() []byte {
	e.Format = noteFormat
	e.Why = strings.ToValidUTF8(e.Why[:min(len(e.Why), maxWhy)], "")
	return cage.SealNote(e)
}

// writeEnd records an end for a session that has no supervisor to do it.
func (f folder) writeEnd(e ending) error {
	file, err := os.OpenFile(f.path(endName), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer file.Close()
	if _, err := file.WriteAt(e.sealed(), 0); err != nil {
		return err
	}
	return file.Sync()
}

// told reports whether the end was told, and tell notes that it was.
func (f folder) told() bool {
	_, err := os.Lstat(f.path(toldName))
	return err == nil
}

func (f folder) tell() error { return os.WriteFile(f.path(toldName), nil, 0o600) }

// recorded returns what can be said of the recording by looking at it.
func (f folder) recorded() node.SessionRecording {
	info, err := os.Stat(f.path(recordingName))
	if err != nil {
		return node.SessionRecording{}
	}
	return node.SessionRecording{Bytes: info.Size()}
}

// size is what the folder takes on the disk, about.
func (f folder) size() int64 {
	entries, err := os.ReadDir(string(f))
	if err != nil {
		return 0
	}
	var sum int64
	for _, e := range entries {
		if info, err := e.Info(); err == nil && info.Mode().IsRegular() {
			sum += info.Size()
		}
	}
	return sum
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
