package archive

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"iter"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
)

// The files of a node's folder: SESSION.cast is a recording, SESSION.note what its node says of it, SESSION.part what has come so
// far. A recording without a note does not count.
const (
	castSuffix = ".cast"
	noteSuffix = ".note"
	partSuffix = ".part"
	newSuffix  = ".new" // behind another: a file that is being written
)

const (
	// atOnce is how many recordings may come at a time, and fromOne from one node.
	atOnce  = 16
	fromOne = 2
	// leastFree is what is left free on the disk, in bytes: a server's own work goes before.
	leastFree = 1 << 30
	maxNote   = beside - 8<<10 // bytes of a note's file
)

// Config says where copies are kept.
type Config struct {
	Dir  string           // made if missing; 0700
	Room func() Room      // nil: DefaultRoom
	Now  func() time.Time // nil: time.Now
	Log  *slog.Logger
	// Free returns how many bytes are free on the disk; nil: by asking it.
	Free func(dir string) (int64, error)
}

// Archive is the copies that a server keeps. Its methods may be called from any goroutine.
type Archive struct {
	cfg Config

	mu    sync.Mutex
	held  map[key]Held
	parts map[key]part

	listing sync.Mutex // held by whoever reads notes, one at a time
}

// part is what is here of a recording that is not whole.
type part struct {
	bytes int64     // that it takes; while it comes, that it will take
	at    time.Time // when the last of it came; while it comes, when the session ended
	whose fleet.ID  // the operator's; of one that broke off, nobody's
	by    *Incoming // that brings it; nil: it broke off
}

type key struct {
	node    fleet.ID
	session fleet.UUID
}

// Open reads what is kept.
func Open(cfg Config) (*Archive, error) {
	if cfg.Room == nil {
		cfg.Room = DefaultRoom
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Free == nil {
		cfg.Free = freeOn
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fleet.Errorf(fleet.Unavailable, "the folder of recordings cannot be made: %w", err)
	}
	a := &Archive{cfg: cfg, held: map[key]Held{}, parts: map[key]part{}}
	folders, err := os.ReadDir(cfg.Dir)
	if err != nil {
		return nil, fleet.Errorf(fleet.Unavailable, "the folder of recordings cannot be read: %w", err)
	}
	for _, f := range folders {
		if id, err := fleet.ParseID(f.Name()); err == nil {
			a.look(id)
		}
	}
	a.Prune()
	return a, nil
}

func freeOn(dir string) (int64, error) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil {
		return 0, err
	}
	return int64(s.Bavail) * int64(s.Bsize), nil
}

// look takes up a node's folder, and clears away what a crash left.
func (a *Archive) look(id fleet.ID) {
	entries, err := os.ReadDir(a.folder(id))
	if err != nil {
		a.cfg.Log.Warn("recordings of a node cannot be listed", "node", id, "err", err)
		return
	}
	for _, e := range entries {
		name := filepath.Ext(e.Name())
		if name == newSuffix {
			_ = os.Remove(filepath.Join(a.folder(id), e.Name()))
			continue
		}
		session, err := fleet.ParseUUID(strings.TrimSuffix(e.Name(), name))
		if err != nil {
			continue
		}
		k := key{id, session}
		switch name {
		case noteSuffix:
			if h, err := a.heldOf(k); err == nil {
				a.held[k] = h
				continue
			}
			a.cfg.Log.Warn("a copy of a recording is damaged, and goes", "node", id, "session", session)
			a.remove(k)
		case castSuffix:
			if _, err := os.Lstat(a.path(k, noteSuffix)); errors.Is(err, fs.ErrNotExist) {
				a.remove(k)
			}
		case partSuffix:
			if info, err := e.Info(); err == nil {
				a.parts[k] = part{bytes: info.Size(), at: info.ModTime()}
			}
		}
	}
}

func (a *Archive) folder(id fleet.ID) string { return filepath.Join(a.cfg.Dir, id.Text()) }

func (a *Archive) path(k key, suffix string) string {
	return filepath.Join(a.folder(k.node), k.session.String()+suffix)
}

// heldOf reads what is kept of a recording, and looks that it is there.
func (a *Archive) heldOf(k key) (Held, error) {
	kept, err := a.read(k)
	if err != nil {
		return Held{}, err
	}
	info, err := os.Stat(a.path(k, castSuffix))
	s := kept.Note.Session
	if err == nil && info.Size() != s.Recording.Bytes {
		err = fleet.Errorf(fleet.Invalid, "it has %d bytes, not %d", info.Size(), s.Recording.Bytes)
	}
	return heldAs(kept.Note), err
}

func heldAs(n node.RecordingNote) Held {
	s := n.Session
	return Held{Node: n.Node, Session: s.ID, By: s.By, Digest: s.Recording.Digest, Bytes: s.Recording.Bytes, Started: time.UnixMilli(s.Started), Ended: time.UnixMilli(s.Ended)}
}

// read reads a note, which was verified before it was kept.
func (a *Archive) read(k key) (node.CopyKept, error) {
	var kept node.CopyKept
	f, err := os.Open(a.path(k, noteSuffix))
	if err != nil {
		return kept, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxNote))
	if err == nil {
		err = wire.Unmarshal(data, &kept.Copy)
	}
	if err == nil {
		kept.Note, err = auth.Peek[node.RecordingNote](kept.Copy.Note)
	}
	if err == nil && (kept.Note.Node != k.node || kept.Note.Session.ID != k.session) {
		err = fleet.Errorf(fleet.Invalid, "it is about another recording")
	}
	return kept, err
}

// remove forgets a recording, the note first, or what is here of it. mu is held, or nobody else is there.
func (a *Archive) remove(k key) {
	if p := a.parts[k]; p.by != nil {
		p.by.ousted.Store(true)
	}
	delete(a.held, k)
	delete(a.parts, k)
	for _, suffix := range []string{noteSuffix, castSuffix, partSuffix} {
		if err := os.Remove(a.path(k, suffix)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			a.cfg.Log.Warn("a copy of a recording cannot be removed", "node", k.node, "session", k.session, "err", err)
		}
	}
	_ = os.Remove(a.folder(k.node)) // if it was the last
}

// Prune lets go of what is too old, or too much.
func (a *Archive) Prune() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.prune()
}

func (a *Archive) prune() { a.letGo(a.cfg.Room().Outdated(a.all(), a.cfg.Now())) }

func (a *Archive) letGo(outdated []Held) {
	for _, h := range outdated {
		a.cfg.Log.Info("a copy of a recording goes", "node", h.Node, "session", h.Session, "bytes", h.Bytes, "part", h.Part)
		a.remove(key{h.Node, h.Session})
	}
}

// all lists what takes room, or will.
func (a *Archive) all() []Held {
	all := make([]Held, 0, len(a.held)+len(a.parts)+1)
	for _, h := range a.held {
		all = append(all, h)
	}
	for k, p := range a.parts {
		all = append(all, Held{Node: k.node, Session: k.session, By: p.whose, Bytes: p.bytes, Ended: p.at, Part: p.by == nil})
	}
	return all
}

// makeRoom lets go of what goes for one more, or says that there is no room for it. The room is also what the disk has, so that
// who filled it up first makes way for the others.
func (a *Archive) makeRoom(one Held) error {
	room := a.cfg.Room()
	all := slices.DeleteFunc(a.all(), func(h Held) bool { return h.Node == one.Node && h.Session == one.Session }) // what is here of it counts as all of it
	if free, err := a.cfg.Free(a.cfg.Dir); err == nil {
		room.Bytes = min(room.Bytes, a.taken()+free-leastFree)
	}
	out := room.Outdated(append(all, one), a.cfg.Now())
	if slices.Contains(out, one) {
		return fleet.Errorf(fleet.Exhausted, "there is no room for one more recording of %d bytes of this node", one.Bytes)
	}
	a.letGo(out)
	return nil
}

// taken is how many bytes are taken now.
func (a *Archive) taken() (n int64) {
	for _, h := range a.held {
		n += h.weight()
	}
	for _, p := range a.parts {
		if p.by != nil {
			p.bytes = p.by.have.Load()
		}
		n += Held{Bytes: p.bytes}.weight()
	}
	return n
}

// List returns what is kept of one session, or of all (the zero ID), the newest first. Each is read when it is its turn, and no
// two of those who list read at a time: what is kept is far more than fits into memory.
func (a *Archive) List(session fleet.UUID) iter.Seq[node.CopyKept] {
	return func(yield func(node.CopyKept) bool) {
		a.listing.Lock()
		defer a.listing.Unlock()
		for _, h := range a.newestFirst(session) {
			kept, err := a.read(key{h.Node, h.Session})
			if err != nil {
				continue // it has gone meanwhile
			}
			if !yield(kept) {
				return
			}
		}
	}
}

func (a *Archive) newestFirst(session fleet.UUID) (out []Held) {
	a.mu.Lock()
	for k, h := range a.held {
		if session.IsZero() || k.session == session {
			out = append(out, h)
		}
	}
	a.mu.Unlock()
	slices.SortFunc(out, func(a, b Held) int {
		return cmp.Or(b.Started.Compare(a.Started), bytes.Compare(a.Session[:], b.Session[:]), bytes.Compare(a.Node[:], b.Node[:]))
	})
	return out
}

// Read opens a recording. NotFound: it is not kept here.
func (a *Archive) Read(id fleet.ID, session fleet.UUID) (io.ReadCloser, error) {
	f, err := os.Open(a.path(key{id, session}, castSuffix))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fleet.Errorf(fleet.NotFound, "no copy of the recording of session %s here", session)
	case err != nil:
		return nil, fleet.Errorf(fleet.Unavailable, "the copy of the recording of session %s cannot be read: %w", session, err)
	}
	return f, nil
}

// Incoming is a recording that comes. It is one goroutine's.
type Incoming struct {
	archive *Archive
	kept    node.CopyKept
	key     key
	file    *os.File // nil: it is kept already
	have    atomic.Int64
	ousted  atomic.Bool // it had to make way
}

// Take begins to keep a recording whose note was verified. Errors are Exhausted where there is no room, or too many come,
// Conflict where this one is coming already, Denied where another one is kept of that session. Close it.
func (a *Archive) Take(kept node.CopyKept) (*Incoming, error) {
	n := kept.Note
	in := &Incoming{archive: a, kept: kept, key: key{n.Node, n.Session.ID}}
	a.mu.Lock()
	defer a.mu.Unlock()
	if h, have := a.held[in.key]; have {
		if h.Digest != n.Session.Recording.Digest {
			return nil, fleet.Errorf(fleet.Denied, "another recording of session %s is kept here: a node says once what it recorded", n.Session.ID)
		}
		in.have.Store(h.Bytes)
		return in, nil
	}
	coming, mine := a.coming(n.Node)
	switch room := a.cfg.Room(); {
	case a.parts[in.key].by != nil:
		return nil, fleet.Errorf(fleet.Conflict, "the recording of session %s is coming already", n.Session.ID)
	case coming >= atOnce || mine >= fromOne:
		return nil, fleet.Errorf(fleet.Exhausted, "too many recordings come at a time")
	case n.Session.Recording.Bytes > room.Bytes/4:
		return nil, fleet.Errorf(fleet.Exhausted, "a recording of %d bytes takes too much of the %d that there are for all", n.Session.Recording.Bytes, room.Bytes)
	case a.cfg.Now().Sub(time.UnixMilli(n.Session.Ended)) > room.Age && room.Age > 0:
		return nil, fleet.Errorf(fleet.Expired, "the recording of session %s is older than what is kept", n.Session.ID)
	}
	whole := heldAs(n)
	if err := a.makeRoom(whole); err != nil {
		return nil, err
	}
	if err := in.open(); err != nil {
		return nil, diskError(err)
	}
	a.parts[in.key] = part{bytes: whole.Bytes, at: whole.Ended, whose: whole.By, by: in}
	return in, nil
}

// coming counts the recordings that come now, and those of one node.
func (a *Archive) coming(id fleet.ID) (all, of int) {
	for k, p := range a.parts {
		if p.by == nil {
			continue
		}
		all++
		if k.node == id {
			of++
		}
	}
	return all, of
}

func (in *Incoming) open() error {
	a := in.archive
	if err := os.Mkdir(a.folder(in.key.node), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	f, err := os.OpenFile(a.path(in.key, partSuffix), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	have, err := f.Seek(0, io.SeekEnd)
	if err == nil && have > in.kept.Note.Session.Recording.Bytes {
		if err = f.Truncate(0); err == nil {
			have, err = f.Seek(0, io.SeekStart)
		}
	}
	if err != nil {
		f.Close()
		return err
	}
	in.file = f
	in.have.Store(have)
	return nil
}

// Have returns how many bytes are here, and whether that is all and on the disk.
func (in *Incoming) Have() (n int64, kept bool) { return in.have.Load(), in.file == nil }

// Write takes what comes next.
func (in *Incoming) Write(p []byte) (int, error) {
	if in.file == nil || in.have.Load()+int64(len(p)) > in.kept.Note.Session.Recording.Bytes {
		return 0, fleet.Errorf(fleet.Invalid, "more comes than the recording has")
	}
	if in.ousted.Load() {
		return 0, errOusted
	}
	n, err := in.file.Write(p)
	in.have.Add(int64(n))
	if err != nil {
		return n, diskError(err)
	}
	return n, nil
}

var errOusted = fleet.Errorf(fleet.Exhausted, "others needed the room that the recording was to have")

// Commit keeps the recording: it is on the disk when it returns nil. Invalid: it is not the one that the note is about; what came
// is thrown away.
func (in *Incoming) Commit() error {
	if in.file == nil {
		return nil
	}
	a, r := in.archive, in.kept.Note.Session.Recording
	if have := in.have.Load(); have != r.Bytes {
		return fleet.Errorf(fleet.Invalid, "%d of the recording's %d bytes came", have, r.Bytes)
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, io.NewSectionReader(in.file, 0, r.Bytes)); err != nil {
		return diskError(err)
	}
	if !bytes.Equal(sum.Sum(nil), r.Digest[:]) {
		_ = in.file.Truncate(0)
		in.have.Store(0)
		return fleet.Errorf(fleet.Invalid, "what came is not the recording that its node signed: its digest differs")
	}
	if err := in.file.Sync(); err != nil {
		return diskError(err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if in.ousted.Load() {
		return errOusted
	}
	if err := in.name(); err != nil {
		return diskError(err)
	}
	delete(a.parts, in.key)
	a.held[in.key] = heldAs(in.kept.Note)
	a.prune()
	return nil
}

// name gives the recording its name, and then its note.
func (in *Incoming) name() error {
	a := in.archive
	if err := os.Rename(a.path(in.key, partSuffix), a.path(in.key, castSuffix)); err != nil {
		return err
	}
	if err := writeSynced(a.path(in.key, noteSuffix), wire.Marshal(in.kept.Copy)); err != nil {
		return err
	}
	return errors.Join(syncFolder(a.folder(in.key.node)), syncFolder(a.cfg.Dir))
}

// Close ends the coming; what came stays for the next time.
func (in *Incoming) Close() {
	if in.file == nil {
		return
	}
	in.file.Close()
	a := in.archive
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.parts[in.key].by != in { // it is kept, or had to make way
		return
	}
	if in.have.Load() == 0 {
		a.remove(in.key)
		return
	}
	a.parts[in.key] = part{bytes: in.have.Load(), at: a.cfg.Now()}
}

func writeSynced(path string, data []byte) error {
	temp := path + newSuffix
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(temp, path)
	}
	if err != nil {
		os.Remove(temp)
	}
	return err
}

func syncFolder(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

func diskError(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fleet.Errorf(fleet.Exhausted, "no room for a recording: %w", err)
	}
	return fleet.Errorf(fleet.Unavailable, "a recording cannot be kept: %w", err)
}
