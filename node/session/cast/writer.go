package cast

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/muster-fleet/muster/node/fleet"
)

// Options say how a session is recorded.
type Options struct {
	Input    bool             // record what is typed, too: passwords among it
	Auditors [][]byte         // public keys (HPKE, as operators have them) that alone can read it; none: it is plain
	Limit    int64            // bytes of the file from which on it grows slowly, see ration; 0: DefaultLimit
	Now      func() time.Time // nil: time.Now
}

// Name is what a recording's file is called in the folder of its session.
const Name = "cast"

// DefaultLimit is where a recording is large, in bytes: weeks of a shell. What is poured out never takes all of it.
const DefaultLimit = 256 << 20

const (
	flushAt = 64 << 10  // bytes that wait in memory before Output writes by itself
	holdAt  = 256 << 10 // bytes that wait while the file takes nothing; what comes then is lost
)

// File is what a recording is written to; an *os.File opened to append is one.
type File interface {
	io.WriteCloser
	Sync() error
}

// Writer writes one recording. Its methods may be called at once from several goroutines; none of them waits for another's Sync,
// but for Close.
//
// An error of any method but Close is no end: what fits in memory waits, the rest is counted as lost, and the next
// call tries again. Once the file takes bytes again, a marker says what is missing there. Errors are Exhausted (full disk, or quota)
// or Unavailable (the disk fails).
//
// What is poured out is no error either: of it the beginning and the end are recorded, and how much was between them (gap).
type Writer struct {
	syncing sync.Mutex // held around fsync; taken before mu
	mu      sync.Mutex
	file    File
	seal    *sealer // nil: plain
	now     func() time.Time
	origin  time.Time     // when the writer began, by the clock that is not set
	before  time.Duration // from the header's start until then
	input   bool
	ration  ration
	typed   time.Duration // when something was typed last; before the start: never
	gaps    [3]*gap       // what is left out of each stream just now; nil: nothing
	unsaid  [MarkEnd]int  // remarks that there was no room for, by their kind
	resized bool          // a size of the terminal, likewise

	last   time.Duration
	lines  *commands // reads entered lines off the terminal; nil: there is none
	halves [3][]byte // an unfinished character of each stream: output, errors, input
	rows   uint16
	cols   uint16

	buf     []byte // events that wait, in the clear
	out     []byte // bytes that the file is to take next,
	taken   int    // of which it took so many already
	size    int64  // that it took
	digest  hash.Hash
	dirty   bool  // some of them are not synced
	lost    int64 // bytes of the session that the disk did not take since the last marker
	missing int64 // all of them
	omitted int64 // bytes of the session that were left out of what was poured
	fault   error // why the file takes nothing; nil: it does
	unsure  error // why what it took may not be on the disk; nil: the last fsync went well
	closed  bool
}

// streams of a session, as places in Writer.halves.
const (
	streamOutput = iota
	streamErrors
	streamInput
)

// Create makes the file of a recording, for its owner alone, and writes the header to the disk. A file that exists is refused
// (Conflict). The other errors are New's.
func Create(path string, h Header, o Options) (*Writer, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, os.ErrExist) {
		return nil, fleet.Errorf(fleet.Conflict, "a recording stands there already: %w", err)
	}
	if err != nil {
		return nil, faultOf(err)
	}
	w, err := New(f, h, o)
	if err == nil {
		err = syncFolder(filepath.Dir(path))
	}
	if err != nil {
		f.Close()
		os.Remove(path)
		return nil, err
	}
	return w, nil
}

func syncFolder(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return faultOf(err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return faultOf(err)
	}
	return nil
}

// New begins a recording in an empty file, and syncs the header. h.Start zero is now; h.Input is as the options say. Errors are Exhausted,
// Unavailable or, for a bad auditor's key, Invalid; the file is the caller's again then.
func New(f File, h Header, o Options) (*Writer, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Limit == 0 {
		o.Limit = DefaultLimit
	}
	if h.Start.IsZero() {
		h.Start = o.Now()
	}
	h.Input = o.Input
	w := &Writer{file: f, now: o.Now, input: o.Input, ration: newRation(o.Limit, h.Terminal != ""), typed: -time.Hour, digest: sha256.New(), rows: h.Rows, cols: h.Cols}
	w.origin = o.Now()
	w.before = max(w.origin.Sub(h.Start), 0)
	if len(o.Auditors) > 0 {
		var err error
		if w.seal, w.out, err = newSealer(h, o.Auditors); err != nil {
			return nil, err
		}
	}
	if h.Terminal != "" {
		w.lines = newCommands(h.Rows, h.Cols)
	}
	w.buf = h.encode()
	if err := w.Sync(); err != nil {
		return nil, err
	}
	return w, nil
}

// Output records what the program wrote: to its terminal, or to standard output. Call Flush, or Sync, before it is shown. The
// error says that the recording does not take it now.
func (w *Writer) Output(p []byte) error { return w.data(streamOutput, p) }

// ErrorOutput records what a program without a terminal wrote to standard error.
func (w *Writer) ErrorOutput(p []byte) error { return w.data(streamErrors, p) }

// Input takes what was typed. It is recorded only where the options say so; that a line was entered counts in any case.
func (w *Writer) Input(p []byte) error { return w.data(streamInput, p) }

// Resize records a new size of the terminal.
func (w *Writer) Resize(rows, cols uint16) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rows, w.cols = rows, cols
	if w.lines != nil {
		w.lines.resize(rows, cols)
	}
	w.closeGaps(inOrder)
	w.resized = true
	w.catchUp()
	return w.state()
}

// Mark records a remark of muster's own. What text is beyond 4 KiB is cut.
func (w *Writer) Mark(m Mark, text string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mark(m, text)
	return w.state()
}

// state is why the recording is not as it should be, or nil. Every method tells it, so that a failure ends when it has ended and
// not when something else went well.
func (w *Writer) state() error {
	if w.fault != nil {
		return w.fault
	}
	return w.unsure
}

// Gaps reports whether something is left out just now whose end is in memory only: call Sync again soon, though nothing comes.
func (w *Writer) Gaps() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.gaps != [3]*gap{}
}

// Flush hands everything so far to the file: what is shown then is kept though the process dies, but not though the host does.
func (w *Writer) Flush() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return nil
	}
	_ = w.flush() // which state has
	return w.state()
}

// Sync brings everything so far to the disk.
func (w *Writer) Sync() error {
	w.syncing.Lock()
	defer w.syncing.Unlock()
	w.mu.Lock()
	w.closeGaps(settled)
	w.catchUp()
	err, dirty := w.flush(), w.dirty
	w.dirty = false
	w.mu.Unlock()
	if dirty { // also what came before an error
		if later := w.sync(); err == nil {
			err = later
		}
	}
	return err
}

// sync calls fsync with only w.syncing held: it may take long, and what is typed meanwhile does not wait for it. After a
// failure the kernel may have forgotten what it could not write, so the recording says so.
func (w *Writer) sync() error {
	err := w.file.Sync()
	w.mu.Lock()
	defer w.mu.Unlock()
	if err == nil {
		w.unsure = nil
		return nil
	}
	w.dirty = true
	fault := faultOf(err)
	w.unsure = fault
	if !w.closed {
		w.add(0, markEvent(MarkNotice, "the disk failed: some of what stands before this may be missing"))
	}
	return fault
}

// End is what became of a session.
type End struct {
	Code   int32
	Signal string // that ended the program; then Code does not count
	Why    string // who or what ended it, if not the program
}

// Sum is what a recording came to.
type Sum struct {
	Digest  fleet.ID // SHA-256 of the file
	Bytes   int64    // of the file
	Missing int64    // bytes of the session that are not in it, because the disk did not take them
	Omitted int64    // bytes that are not in it, because more was poured out than is recorded
	Length  time.Duration
}

// Close records the end, syncs and closes the file. The sum is that of what the file took, also with an error. A second call does
// nothing.
func (w *Writer) Close(e End) (Sum, error) {
	w.syncing.Lock()
	defer w.syncing.Unlock()
	w.mu.Lock()
	if w.closed {
		defer w.mu.Unlock()
		return w.sum(), nil
	}
	for stream, half := range w.halves {
		if len(half) > 0 {
			w.piece(stream, half)
		}
	}
	w.closeAll()
	err := w.flush() // before the end is noted: it is to say what is missing
	w.buf = appendMark(w.buf, w.at(), MarkEnd, e.text(w.missing+w.omitted))
	if later := w.drain(true); err == nil {
		err = later
	}
	w.closed = true
	sum := w.sum()
	w.mu.Unlock()
	if later := w.sync(); err == nil {
		err = later
	}
	if later := w.file.Close(); err == nil && later != nil {
		err = faultOf(later)
	}
	return sum, err
}

func (w *Writer) sum() Sum {
	return Sum{Digest: fleet.ID(w.digest.Sum(nil)), Bytes: w.size, Missing: w.missing, Omitted: w.omitted, Length: w.last}
}

// at is the time since the start; it never runs back.
func (w *Writer) at() time.Duration {
	w.last = max(w.last, w.before+w.now().Sub(w.origin))
	return w.last
}

func (w *Writer) data(stream int, p []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if stream == streamInput && !w.closed {
		w.typed = w.at()
		w.closeGaps(answered)
		if w.lines != nil {
			w.lines.input(w.typed, p)
		}
	}
	if stream == streamInput && !w.input {
		return w.state()
	}
	shown := p
	if half := w.halves[stream]; len(half) > 0 {
		p = append(half, p...)
	}
	held := unfinished(p)
	w.halves[stream] = append([]byte(nil), p[len(p)-held:]...)
	p = p[:len(p)-held]
	for len(p) > 0 {
		piece := p[:min(len(p), maxPiece)]
		if len(piece) < len(p) {
			piece = piece[:len(piece)-unfinished(piece)]
		}
		w.piece(stream, piece)
		p = p[len(piece):]
	}
	if stream == streamOutput && w.lines != nil && !w.closed {
		for _, entered := range w.lines.output(w.at(), shown) {
			w.mark(MarkCommand, entered)
		}
	}
	if len(w.buf) >= flushAt {
		w.flush()
	}
	return w.state()
}

// add appends events that hold n bytes of the session, whatever they cost, or counts the bytes as lost, and reports whether it
// did append. Once something is lost, all is, until a marker has said so: what is missing is in one place.
func (w *Writer) add(n int64, events eventsOf) bool {
	if w.closed {
		return false
	}
	if w.lost > 0 || len(w.buf) >= holdAt {
		w.lost += n
		w.missing += n
		return false
	}
	w.buf = events(w.buf, w.at())
	return true
}

// eventsOf appends events of a moment.
type eventsOf func(dst []byte, at time.Duration) []byte

func markEvent(m Mark, text string) eventsOf {
	return func(dst []byte, at time.Duration) []byte { return appendMark(dst, at, m, text) }
}

func (w *Writer) flush() error {
	if w.closed {
		return nil
	}
	if err := w.drain(false); err != nil {
		return err
	}
	if w.lost == 0 {
		return nil
	}
	w.buf = appendMark(w.buf, w.at(), MarkNotice, strconv.FormatInt(w.lost, 10)+" bytes of the session are missing here")
	w.buf = appendEvent(w.buf, w.at(), codeResize, sizeText(w.rows, w.cols))
	w.lost = 0
	return w.drain(false)
}

// drain writes what waits. What was encrypted is written as it is, however often that takes: no nonce serves twice.
func (w *Writer) drain(last bool) error {
	for {
		if w.taken == len(w.out) && (len(w.buf) > 0 || last) {
			last = w.fill(last)
		}
		if w.taken == len(w.out) {
			break
		}
		n, err := w.file.Write(w.out[w.taken:])
		w.digest.Write(w.out[w.taken : w.taken+n])
		w.size += int64(n)
		w.dirty = w.dirty || n > 0
		w.taken += n
		if err != nil {
			w.fault = faultOf(err)
			return w.fault
		}
	}
	w.fault = nil
	return nil
}

// fill moves what waits, or a chunk of it, to what is written next. It returns whether a last chunk is still to come.
func (w *Writer) fill(last bool) bool {
	w.taken = 0
	if w.seal == nil {
		w.out, w.buf = w.buf, w.out[:0]
		return false
	}
	n := min(len(w.buf), maxChunk)
	ends := last && n == len(w.buf)
	w.out = w.seal.seal(w.out[:0], w.buf[:n], ends)
	w.buf = append(w.buf[:0], w.buf[n:]...)
	return last && !ends
}

func faultOf(err error) error {
	for _, full := range []error{syscall.ENOSPC, syscall.EDQUOT, syscall.EFBIG} {
		if errors.Is(err, full) {
			return fleet.Errorf(fleet.Exhausted, "the session's recording cannot be written: %w", err).Hinted("make room on the node's disk")
		}
	}
	return fleet.Errorf(fleet.Unavailable, "the session's recording cannot be written: %w", err)
}

func sizeText(rows, cols uint16) []byte { return fmt.Appendf(nil, "%dx%d", cols, rows) }
