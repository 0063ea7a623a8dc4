package copy

import (
	"context"
	"errors"
	"io"
	"os"
	"path"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/session/copy/talk"
)

// settlers is how many files are put on the disk at a time. The kernel makes one write of many syncs.
const settlers = 32

// receiving is one copy at the end where the files come to be. One goroutine hears and writes; others put whole files in
// place behind it.
type receiving struct {
	line   *line
	bounds *bounds // nil: at a person's end
	inbox  talk.Inbox
	watch  Watch

	place   talk.Place
	top     *folder
	placed  bool      // something has taken place.Name
	stack   []*folder // the folders that were begun; nil: one that failed, with all that is in it
	pending map[uint64]*incoming
	body    *incoming // whose content comes now

	turns    chan struct{} // who puts a file in place holds one
	settling sync.WaitGroup

	mu    sync.Mutex
	total Total // what this end did
	fatal error // the first error after which going on is of no use

	theirs uint64 // entries that the sender could not read
	left   int64  // bytes of the part that was left behind
}

// incoming is a file on its way.
type incoming struct {
	n     uint64
	m     talk.File
	in    *folder
	path  string
	part  *part
	have  int64 // bytes that are there of it
	whole bool  // the file is in place already, if the sender finds it the same
	dead  bool  // it failed; what comes of it is passed over
	got   int64 // bytes that came, or were there
}

// receive takes what the sender at the other end of l sends, to what there is at a path.
func receive(l *line, b *bounds, o Order, inbox talk.Inbox, into bool) (Total, error) {
	r := &receiving{line: l, bounds: b, inbox: inbox, watch: o.Watch, pending: map[uint64]*incoming{}, turns: make(chan struct{}, settlers)}
	err := r.land(o.To, into)
	if err == nil {
		err = r.hear()
	}
	if err != nil {
		r.abandon()
	}
	total := r.total
	if err == nil {
		err = l.now(talk.Finished{Total: total})
	} else if e, ok := errors.AsType[*Elsewhere](err); ok && r.bounds != nil {
		_ = l.now(talk.Elsewhere{Paths: e.Paths})
	} else if !errors.Is(err, errBrokenOff) {
		_ = l.now(talk.Fatal{Problem: talk.ProblemOf(err)})
	}
	total.Failed += r.theirs
	if r.left > 0 {
		err = goesOn(err, r.left)
	}
	return total, err
}

// goesOn says that a copy need not begin anew.
func goesOn(err error, left int64) error {
	return fleet.Errorf(fleet.KindOf(err), "%w", err).Hinted("repeat with --resume: %d bytes of the file are there", left)
}

// land opens the folder that the copy lands in.
func (r *receiving) land(to string, into bool) error {
	is := talk.Missing
	if info, err := os.Stat(to); err == nil || to == "" {
		switch {
		case to == "" || info.IsDir():
			is = talk.AFolder
		case info.Mode().IsRegular():
			is = talk.AFile
		default:
			is = talk.Another
		}
	} else if errors.Is(err, unix.ENOTDIR) {
		return fleet.Errorf(fleet.Conflict, "%s: there is a file where a folder should be", to)
	} else if !errors.Is(err, os.ErrNotExist) {
		return troubleAt(to, err)
	}
	var err error
	if r.place, err = talk.PlaceOf(to, is, into); err != nil {
		return err
	}
	if r.top, err = openFolder(filepath.Clean(r.place.Folder)); err != nil {
		return err
	}
	return r.bounds.check(r.top.fd, r.place.Name, to)
}

// hear takes messages until the End, and waits until all is in place.
func (r *receiving) hear() error {
	for {
		m, err := r.line.hear()
		if err != nil {
			return err
		}
		n, err := r.inbox.Take(m)
		if err == nil {
			err = r.take(n, m)
		}
		if err == nil {
			err = r.hopeless()
		}
		if err != nil {
			return err
		}
		if _, ok := m.(talk.End); ok {
			return r.finish()
		}
	}
}

func (r *receiving) hopeless() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.fatal
}

func (r *receiving) finish() error {
	r.settling.Wait()
	r.release(r.top)
	r.top = nil
	return r.hopeless()
}

// take does what a message says. Its error ends the copy; one entry's failure does not.
func (r *receiving) take(n uint64, m talk.Message) error {
	switch m := m.(type) {
	case talk.Folder:
		return r.enter(n, m)
	case talk.File:
		return r.name(n, m)
	case talk.Link:
		return r.link(n, m)
	case talk.Leave:
		last := len(r.stack) - 1
		if f := r.stack[last]; f != nil {
			r.release(f)
		}
		r.stack = r.stack[:last]
	case talk.Body:
		r.begin(m)
	case talk.Data:
		r.write(m)
	case talk.Done:
		return r.done(m)
	case talk.Skipped:
		r.theirs++
		r.watch.trouble(true, m.Problem.Error())
	case talk.Fatal:
		return m.Problem.Error()
	case talk.Elsewhere:
		return &Elsewhere{Paths: m.Paths}
	}
	return nil
}

// fail says that an entry failed, here and there.
func (r *receiving) fail(n uint64, path string, err error) {
	trouble := troubleAt(path, err)
	r.mu.Lock()
	if r.fatal == nil && (isFull(err) || n == 0) {
		r.fatal = trouble
	}
	r.total.Failed++
	r.mu.Unlock()
	if n == 0 {
		return
	}
	r.watch.trouble(false, trouble)
	_ = r.line.now(talk.Failed{N: n, Problem: talk.ProblemOf(trouble)}) // a line that is gone shows when it is heard
}

func (r *receiving) release(f *folder) {
	if failed, err := f.release(); err != nil {
		r.fail(failed.n, failed.path, err)
	}
}

// here returns the folder that entries go to now, and the name of one in it; no folder, where that has failed.
func (r *receiving) here(name string) (*folder, string, error) {
	if len(r.stack) > 0 {
		return r.stack[len(r.stack)-1], name, nil
	}
	if r.place.Name == "" {
		return r.top, name, nil
	}
	if r.placed {
		return nil, "", fleet.Errorf(fleet.Conflict, "more than one thing is copied, and %s/%s is no folder", r.place.Folder, r.place.Name)
	}
	r.placed = true
	return r.top, r.place.Name, nil
}

func (r *receiving) enter(n uint64, m talk.Folder) error {
	in, name, err := r.here(m.Name)
	if err != nil {
		return err
	}
	if in != nil && name == "" { // what is in it goes to where the copy lands
		in.keep()
		r.stack = append(r.stack, in)
		return nil
	}
	var f *folder
	if m.Name = name; in != nil {
		if f, err = in.enter(n, m); err != nil {
			r.fail(n, path.Join(in.path, name), err)
		} else {
			r.count(func(t *Total) { t.Folders++ })
		}
	}
	r.stack = append(r.stack, f)
	return nil
}

func (r *receiving) count(f func(*Total)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f(&r.total)
}

func (r *receiving) link(n uint64, m talk.Link) error {
	in, name, err := r.here(m.Name)
	if err != nil || in == nil {
		return err
	}
	m.Name = name
	if err := placeLink(in, m); err != nil {
		r.fail(n, path.Join(in.path, name), err)
		return nil
	}
	r.count(func(t *Total) { t.Links++ })
	return nil
}

// name takes note of a file, and says what there is of it when copies are resumed.
func (r *receiving) name(n uint64, m talk.File) error {
	in, name, err := r.here(m.Name)
	if err != nil {
		return err
	}
	m.Name = name
	f := &incoming{n: n, m: m, in: in, dead: in == nil}
	r.pending[n] = f
	if !f.dead {
		in.keep()
		f.path = path.Join(in.path, name)
	}
	if !r.inbox.Resume {
		return nil
	}
	have := talk.Have{N: n}
	if !f.dead {
		if have.Size, have.Sum, err = f.examine(); err != nil {
			r.bury(f, err)
			have = talk.Have{N: n}
		}
		f.have = have.Size
	}
	return r.line.now(have)
}

// examine looks at what is there of a file: all of it in place, or a part.
func (f *incoming) examine() (size int64, sum [32]byte, err error) {
	if f.m.Size == 0 {
		return 0, sum, nil
	}
	if size, sum, err = f.examineWhole(); err != nil || f.whole {
		return size, sum, err
	}
	if f.part, err = findPart(f.in, f.m); err != nil || f.part == nil {
		return 0, sum, err
	}
	info, err := f.part.file.Stat()
	if err != nil {
		return 0, sum, err
	}
	if size = min(info.Size(), f.m.Size); size == 0 {
		return 0, sum, nil
	}
	sum, err = sumOf(f.part.file, size)
	return size, sum, err
}

// examineWhole looks whether a file of the same size and time is in place. Its content is compared as well.
func (f *incoming) examineWhole() (size int64, sum [32]byte, err error) {
	fd, err := again(func() (int, error) {
		return unix.Openat(f.in.fd, f.m.Name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return 0, sum, nil //nolint:nilerr // none that can be read: it is sent
	}
	file := os.NewFile(uintptr(fd), f.path)
	defer file.Close()
	info, err := file.Stat()
	if err != nil || !info.Mode().IsRegular() || info.Size() != f.m.Size || info.ModTime().UnixNano() != f.m.Time {
		return 0, sum, nil //nolint:nilerr // another one
	}
	if sum, err = sumOf(file, f.m.Size); err != nil {
		return 0, sum, nil //nolint:nilerr // it changed meanwhile
	}
	f.whole = true
	return f.m.Size, sum, nil
}

// begin prepares for content.
func (r *receiving) begin(m talk.Body) {
	f := r.pending[m.N]
	delete(r.pending, m.N)
	r.body = f
	if f.dead {
		return
	}
	r.watch.entry(f.path, f.m.Size)
	f.got = m.From
	r.watch.moved(m.From)
	if f.whole && m.From == f.m.Size {
		return
	}
	f.whole = false
	if err := r.prepare(f, m.From); err != nil {
		r.bury(f, err)
	}
	f.have = m.From
}

func (r *receiving) prepare(f *incoming, from int64) (err error) {
	if from > 0 && (f.part == nil || from != f.have) {
		return fleet.Errorf(fleet.Invalid, "the other end goes on with a part of %s that is not there", f.path)
	}
	if f.part != nil {
		return f.part.goOn(from)
	}
	var is unix.Stat_t
	if unix.Fstatat(f.in.fd, f.m.Name, &is, unix.AT_SYMLINK_NOFOLLOW) == nil && is.Mode&unix.S_IFMT == unix.S_IFDIR {
		return unix.EISDIR // said now rather than when all of it is here
	}
	f.part, err = newPart(f.in, f.m)
	return err
}

// bury ends a file that failed here. What still comes of it is passed over.
func (r *receiving) bury(f *incoming, err error) {
	if f.part != nil {
		f.part.remove()
		f.part = nil
	}
	f.dead = true
	r.fail(f.n, f.path, err)
	r.release(f.in)
}

func (r *receiving) write(data talk.Data) {
	f := r.body
	if f.dead || f.whole {
		return
	}
	if _, err := f.part.file.Write(data); err != nil {
		r.bury(f, err)
		return
	}
	f.got += int64(len(data))
	r.watch.moved(int64(len(data)))
	r.count(func(t *Total) { t.Bytes += uint64(len(data)) })
}

// done ends a file's content, and has it put in place.
func (r *receiving) done(m talk.Done) error {
	f := r.body
	r.body = nil
	switch {
	case f.dead:
		return nil
	case len(m.Why) > 0:
		r.theirs++
		r.watch.trouble(true, m.Why[0].Error())
		if f.part != nil {
			f.part.remove()
		}
		r.release(f.in)
		return nil
	case f.got < f.m.Size:
		r.abort(f)
		return fleet.Errorf(fleet.Invalid, "the other end sends less of %s than it said", f.path)
	case f.whole:
		r.count(func(t *Total) { t.Files++; t.Kept++; t.Reused += uint64(f.m.Size) })
		r.release(f.in)
		return nil
	}
	r.turns <- struct{}{}
	r.settling.Go(func() {
		defer func() { <-r.turns }()
		r.settle(f)
	})
	return nil
}

func (r *receiving) settle(f *incoming) {
	if err := f.part.settle(f.m); err != nil {
		r.fail(f.n, f.path, err)
	} else {
		r.count(func(t *Total) { t.Files++; t.Reused += uint64(f.have) })
	}
	r.release(f.in)
}

// abort closes a file that does not come to its end.
func (r *receiving) abort(f *incoming) {
	if f.dead {
		return
	}
	f.dead = true
	if f.part != nil {
		r.left = max(r.left, f.part.leave(r.inbox.Resume))
	}
	r.release(f.in)
}

// abandon closes all that is open after a copy broke off.
func (r *receiving) abandon() {
	r.settling.Wait()
	if r.body != nil {
		r.abort(r.body)
	}
	for _, f := range r.pending {
		if f.dead {
			continue
		}
		if f.part != nil {
			f.part.file.Close() // as it was found
		}
		r.release(f.in)
	}
	for i := len(r.stack) - 1; i >= 0; i-- {
		if r.stack[i] != nil {
			r.release(r.stack[i])
		}
	}
	if r.top != nil {
		r.release(r.top)
	}
}

// Get takes sources of the other end of stream to a local path, and closes the stream. Entries that failed are told to
// order.Watch and counted; an error is of the whole.
func Get(ctx context.Context, stream io.ReadWriteCloser, order Order) (Total, error) {
	defer ending(ctx, stream)()
	l := newLine(stream, stream)
	ask := talk.Ask{Version: talk.Version, Paths: order.Sources, Deep: order.Deep, Resume: order.Resume}
	if err := l.now(ask); err != nil {
		return Total{}, err
	}
	inbox := talk.Inbox{Deep: order.Deep, Resume: order.Resume, Sources: order.Sources}
	total, err := receive(l, nil, order, inbox, talk.Several(order.Sources))
	return total, ended(ctx, err)
}
