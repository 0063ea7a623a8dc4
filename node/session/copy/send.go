package copy

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/session/copy/talk"
)

// sending is one copy at the end where the files are. One goroutine walks and reads; another hears what the receiver says.
type sending struct {
	line   *line
	bounds *bounds // nil: at a person's end, where a shell has written out ~ and patterns
	deep   bool
	resume bool
	watch  Watch

	mu      sync.Mutex
	replies talk.Replies
	live    map[uint64]*branch // entries that are open or wait for their turn
	total   Total              // what this end counts: what it could not read

	waiting []*source // files that were named, in order; their content is due
	haves   chan talk.Have
	over    chan struct{} // closed when the receiver has said its last, or is gone
	last    talk.Total    // its last words, if err is nil
	err     error

	frame []byte
}

// send copies the sources of o to the receiver at the other end of l, and returns what came of it.
func send(l *line, b *bounds, o Order) (Total, error) {
	s := &sending{
		line: l, bounds: b, deep: o.Deep, resume: o.Resume, watch: o.Watch, replies: talk.Replies{Resume: o.Resume}, live: map[uint64]*branch{},
		haves: make(chan talk.Have, talk.Window), over: make(chan struct{}), frame: make([]byte, frameSize),
	}
	go s.listen()
	walked := make(chan error, 1)
	go func() {
		err := s.all(o.Sources)
		s.forget()
		walked <- err
	}()
	err := s.await(walked)
	var total Total
	select {
	case <-s.over:
		total = s.last
	default: // nothing was said
	}
	s.mu.Lock()
	total.Failed += s.total.Failed
	s.mu.Unlock()
	return total, err
}

// await waits for the end of the walk and of what the receiver says. A walk that still writes to a receiver which has
// ended the copy is not waited for: it ends with the stream.
func (s *sending) await(walked <-chan error) error {
	select {
	case err := <-walked:
		if err != nil {
			return s.reason(err)
		}
		<-s.over
	case <-s.over:
	}
	return s.err
}

// lastWords is how long a receiver that takes no more has to say why.
const lastWords = 10 * time.Second

// reason prefers what the receiver said to what its silence looks like from here.
func (s *sending) reason(err error) error {
	if errors.Is(err, errBrokenOff) || errors.Is(err, errStopped) {
		select {
		case <-s.over: // the listener has heard why, or will at once: both streams end together
			if s.err != nil {
				return s.err
			}
		case <-time.After(lastWords):
		}
		return err
	}
	_ = s.line.now(talk.Fatal{Problem: talk.ProblemOf(err)}) // it is over either way
	return err
}

// forget closes what waits for a turn that does not come.
func (s *sending) forget() {
	for _, f := range s.waiting {
		f.in.release()
	}
	s.waiting = nil
}

// errStopped ends the walk when the receiver has ended the copy.
var errStopped = fleet.Errorf(fleet.Unavailable, "the copy was ended by the other end")

// listen takes what the receiver says until its last word.
func (s *sending) listen() {
	defer close(s.over)
	for {
		m, err := s.line.hear()
		if err == nil {
			s.mu.Lock()
			err = s.replies.Take(m)
			s.mu.Unlock()
		}
		if err != nil {
			s.err = err
			return
		}
		switch m := m.(type) {
		case talk.Have:
			s.haves <- m // never blocks: no more files wait than it holds
		case talk.Failed:
			s.noteFailed(m)
		case talk.Finished:
			s.last = m.Total
			return
		case talk.Fatal:
			s.err = m.Problem.Error()
			return
		case talk.Elsewhere:
			s.err = &Elsewhere{Paths: m.Paths}
			return
		}
	}
}

func (s *sending) noteFailed(m talk.Failed) {
	s.mu.Lock()
	if b := s.live[m.N]; b != nil {
		b.failed = true
	}
	s.mu.Unlock()
	s.watch.trouble(true, m.Problem.Error())
}

// branch is an entry that was named, and the folder that it is in.
type branch struct {
	n      uint64
	up     *branch
	failed bool // the receiver could not take it; sending.mu guards it
}

// named says an entry. The branch is live until it is done.
func (s *sending) named(m talk.Message, up *branch) (*branch, error) {
	_, isFile := m.(talk.File)
	s.mu.Lock()
	b := &branch{n: s.replies.Named(isFile), up: up}
	s.live[b.n] = b
	s.mu.Unlock()
	return b, s.line.say(m)
}

func (s *sending) done(b *branch) {
	s.mu.Lock()
	delete(s.live, b.n)
	s.mu.Unlock()
}

// isDead reports whether the receiver could not take an entry or a folder that it is in: the rest of it is of no use.
func (s *sending) isDead(b *branch) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for ; b != nil; b = b.up {
		if b.failed {
			return true
		}
	}
	return false
}

// stopped is the error that the walk ends with when the receiver has said its last.
func (s *sending) stopped() error {
	select {
	case <-s.over:
		return errStopped
	default:
		return nil
	}
}

// skip says what could not be read, here and there.
func (s *sending) skip(trouble *fleet.Error) error {
	s.mu.Lock()
	s.total.Failed++
	s.mu.Unlock()
	s.watch.trouble(false, trouble)
	return s.line.say(talk.Skipped{Problem: talk.ProblemOf(trouble)})
}

func (s *sending) all(sources []string) error {
	for _, source := range sources {
		if err := s.source(source); err != nil {
			return err
		}
	}
	for len(s.waiting) > 0 {
		if err := s.next(); err != nil {
			return err
		}
	}
	s.mu.Lock()
	s.replies.Ended()
	s.mu.Unlock()
	return s.line.now(talk.End{})
}

// file names a file; its content follows at once, or when the receiver has said what it has of it.
func (s *sending) file(f *source) error {
	if err := s.stopped(); err != nil {
		return err
	}
	var up *branch
	if f.in != nil {
		up = f.in.branch
	}
	var err error
	if f.branch, err = s.named(talk.File{Name: f.as, Mode: f.mode, Time: f.time, Size: f.size}, up); err != nil {
		return err
	}
	f.in.keep()
	s.waiting = append(s.waiting, f)
	if s.resume && len(s.waiting) < talk.Window {
		return nil
	}
	return s.next()
}

// next sends the content of the file whose turn it is.
func (s *sending) next() error {
	f := s.waiting[0]
	s.waiting = s.waiting[1:]
	defer f.in.release()
	defer s.done(f.branch)
	var have talk.Have
	if s.resume {
		if err := s.line.flush(); err != nil {
			return err
		}
		select {
		case have = <-s.haves:
		case <-s.over:
			return errStopped
		}
	}
	s.watch.entry(f.path, f.size)
	return s.body(f, have)
}

// body sends a file's content, from where the receiver's own ends if that is the same.
func (s *sending) body(f *source, have talk.Have) error {
	file, err := f.open()
	if err != nil {
		return s.broken(f, 0, true, troubleAt(f.path, err))
	}
	defer file.Close()
	from, err := s.agrees(file, f.size, have)
	if err != nil {
		return s.broken(f, 0, true, troubleAt(f.path, err))
	}
	if err := s.line.say(talk.Body{N: f.branch.n, From: from}); err != nil {
		return err
	}
	s.watch.moved(from)
	trouble, err := s.content(file, f, from)
	if err != nil {
		return err
	}
	if trouble != nil {
		return s.broken(f, from, false, trouble)
	}
	return s.line.say(talk.Done{})
}

// broken ends a file that could not be read to its end; begin says that its content was not even begun.
func (s *sending) broken(f *source, from int64, begin bool, trouble *fleet.Error) error {
	s.watch.trouble(false, trouble)
	s.mu.Lock()
	s.total.Failed++
	s.mu.Unlock()
	if begin {
		if err := s.line.say(talk.Body{N: f.branch.n, From: from}); err != nil {
			return err
		}
	}
	return s.line.say(talk.Done{Why: []talk.Problem{talk.ProblemOf(trouble)}})
}

// content sends what is in file from an offset on. A file that has a size is sent up to it: what is appended meanwhile is
// not of the copy, or the copy of a log that is written to would never end.
func (s *sending) content(file io.Reader, f *source, from int64) (*fleet.Error, error) {
	if f.size > 0 {
		file = io.LimitReader(file, f.size-from)
	}
	sent := from
	for {
		if err := s.stopped(); err != nil {
			return nil, err
		}
		if s.isDead(f.branch) {
			return nil, nil //nolint:nilnil // the receiver has said why
		}
		n, err := io.ReadFull(file, s.frame[talk.HeaderSize:])
		if n > 0 {
			if err := s.line.data(s.frame[:talk.HeaderSize+n]); err != nil {
				return nil, err
			}
			sent += int64(n)
			s.watch.moved(int64(n))
		}
		switch {
		case err == nil:
			continue
		case !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF):
			return troubleAt(f.path, err), nil
		case sent < f.size:
			return fleet.Errorf(fleet.Conflict, "%s became shorter while it was read", f.path), nil
		}
		return nil, nil
	}
}

// agrees returns from where on a file is to be sent: behind what the receiver has, if that is how the file begins.
func (s *sending) agrees(file io.ReadSeeker, size int64, have talk.Have) (int64, error) {
	if have.Size == 0 || have.Size > size {
		return 0, nil
	}
	sum, err := sumOf(file, have.Size)
	if err == nil && sum == have.Sum {
		return have.Size, nil
	}
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return 0, err
	}
	_, err = file.Seek(0, io.SeekStart)
	return 0, err
}

// Put sends local sources over stream to what is at its other end, and closes the stream. Entries that failed are told to
// order.Watch and counted; an error is of the whole.
func Put(ctx context.Context, stream io.ReadWriteCloser, order Order) (Total, error) {
	defer ending(ctx, stream)()
	l := newLine(stream, stream)
	ask := talk.Ask{
		Version: talk.Version, Put: true, Paths: []string{order.To}, Into: talk.Several(order.Sources), Deep: order.Deep, Resume: order.Resume,
	}
	if err := l.say(ask); err != nil {
		return Total{}, err
	}
	total, err := send(l, nil, order)
	return total, ended(ctx, err)
}
