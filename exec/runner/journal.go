package runner

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node/fleet"
)

const (
	ledgerName = "ledger"
	spareName  = "ledger.spare" // as large as the ledger: compaction never asks the disk for room
	newName    = "ledger.new"

	// ledgerStep is the size of the ledger and of its spare when they are made, and by which they grow: together the
	// 16 MiB that a node sets aside, enough for 30,000 records between compactions.
	ledgerStep = 8 << 20
	// markDelay is how long after the last append the mark is moved. A burst of appends moves it once.
	markDelay = 50 * time.Millisecond
	// journalQueue is how many appends may wait for the sync in flight before their callers block.
	journalQueue = 512
)

// file is what the journal needs of the ledger file; tests count and break it.
type file interface {
	io.ReaderAt
	io.WriterAt
	Datasync() error
	Close() error
}

type osFile struct{ *os.File }

func (f osFile) Datasync() error { return unix.Fdatasync(int(f.Fd())) }

// book is the ledger in memory as the journal uses it.
type book interface {
	check(exec.Record) error                    // may it be appended now?
	fold([]exec.Record)                         // these are on disk
	live() (records []exec.Record, h time.Time) // what a compacted ledger must hold, and its horizon
}

// journal appends records to the ledger file. One goroutine writes; whatever waited during one sync shares the next.
type journal struct {
	dir          string
	wrap         func(file) file
	book         book
	f            file
	header       header
	mark         mark  // what the file's newest mark will say; End and Chain are where the next record goes
	failed       error // the disk failed: nothing more is written
	spareTrouble error // why there is no spare; compaction may then fail on a full disk
	in           chan *entry
	done         chan struct{}
}

type entry struct {
	record exec.Record
	result chan error
}

// openLedger reads the ledger in dir, or makes the first one. fresh says whether there may be none: a node that has run
// anything and lost its ledger must not begin another one in silence.
func openLedger(dir string, size int64, wrap func(file) file, fresh bool, newHeader header) (*journal, []exec.Record, error) {
	path := filepath.Join(dir, ledgerName)
	_, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		if _, err := os.Lstat(filepath.Join(dir, spareName)); err == nil || !fresh {
			return nil, nil, ledgerGone(path)
		}
		newHeader.Capacity = size
		err = createLedger(dir, newHeader)
	}
	if err != nil {
		return nil, nil, ledgerTrouble(path, err)
	}
	raw, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, nil, ledgerTrouble(path, err)
	}
	j := &journal{dir: dir, wrap: wrap, f: wrap(osFile{raw}), in: make(chan *entry, journalQueue), done: make(chan struct{})}
	records, err := j.load(raw)
	if err != nil {
		j.f.Close()
		return nil, nil, ledgerTrouble(path, err)
	}
	return j, records, nil
}

func (j *journal) load(raw *os.File) ([]exec.Record, error) {
	info, err := raw.Stat()
	if err != nil {
		return nil, err
	}
	s, err := scan(j.f, info.Size())
	if err != nil {
		return nil, err
	}
	j.header, j.mark = s.Header, mark{s.Mark.Seq, s.End, s.Chain}
	if s.Torn > 0 {
		if err := j.clear(s.Torn); err != nil {
			return nil, err
		}
	}
	j.spareTrouble = ensureSpare(j.dir, s.Header.Capacity)
	return s.Records, nil
}

// clear zeroes the remains of a torn append, so that the next one lies on clean ground.
func (j *journal) clear(from int64) error {
	if _, err := j.f.WriteAt(make([]byte, roundUp(from+1)-from), from); err != nil {
		return err
	}
	return j.f.Datasync()
}

// run serves appends until in is closed.
func (j *journal) run() {
	defer close(j.done)
	var waiting []*entry
	markDue := time.NewTimer(markDelay)
	defer markDue.Stop()
	for open := true; open || len(waiting) > 0; {
		if len(waiting) == 0 {
			select {
			case e, ok := <-j.in:
				if open = ok; ok {
					waiting = append(waiting, e)
				}
			case <-markDue.C:
				j.writeMark()
			}
		}
		waiting = append(waiting, j.drain()...)
		if len(waiting) > 0 {
			waiting = j.commit(waiting)
			markDue.Reset(markDelay)
		}
	}
	j.writeMark()
	j.f.Close()
}

// drain takes what waits already, without waiting.
func (j *journal) drain() []*entry {
	var out []*entry
	for {
		select {
		case e, ok := <-j.in:
			if !ok {
				return out
			}
			out = append(out, e)
		default:
			return out
		}
	}
}

// append returns once the record is synced. After a *doubtError it may or may not be on disk.
func (j *journal) append(r exec.Record) error {
	e := &entry{r, make(chan error, 1)}
	j.in <- e
	return <-e.result
}

func (j *journal) close() {
	close(j.in)
	<-j.done
}

// commit writes as many of the waiting records as belong in one page with one sync, and returns the rest. A record that
// may not follow what is on disk is refused here, and nowhere else, so none ever reaches the file.
func (j *journal) commit(waiting []*entry) (rest []*entry) {
	batch, rest := j.choose(waiting)
	if len(batch) == 0 {
		return rest
	}
	at, data, chain := j.lay(&batch, &rest)
	err := j.failed
	if err == nil {
		err = j.write(at, data)
	}
	if err == nil {
		j.mark = mark{j.mark.Seq, at + int64(len(data)), chain}
		records := make([]exec.Record, len(batch))
		for i, e := range batch {
			records[i] = e.record
		}
		j.book.fold(records)
	}
	for _, e := range batch {
		e.result <- err
	}
	return rest
}

// choose answers what may not be appended, and takes at most one record of each command: the next of it can only be
// judged when this one is on disk.
func (j *journal) choose(waiting []*entry) (batch, rest []*entry) {
	seen := map[fleet.UUID]bool{}
	for _, e := range waiting {
		command := e.record.CommandID()
		if seen[command] {
			rest = append(rest, e)
			continue
		}
		seen[command] = true
		if err := j.book.check(e.record); err != nil {
			e.result <- err
			continue
		}
		if err := j.makeRoom(e.record); err != nil {
			e.result <- err
			continue
		}
		batch = append(batch, e)
	}
	return batch, rest
}

// lay encodes the batch for the page that its first record falls in; what does not fit there moves to the front of rest.
func (j *journal) lay(batch, rest *[]*entry) (at int64, data []byte, chain fleet.ID) {
	chain = j.mark.Chain
	for i, e := range *batch {
		more, sum := exec.AppendRecord(nil, chain, e.record)
		if i == 0 {
			at = place(j.mark.End, len(more))
		} else if end := at + int64(len(data)); place(end, len(more)) != end {
			*rest = append(append([]*entry(nil), (*batch)[i:]...), *rest...)
			*batch = (*batch)[:i]
			break
		}
		data, chain = append(data, more...), sum
	}
	return at, data, chain
}

// write writes and syncs. After a failure nothing more is written until the agent restarts and reads what is really
// there: a second fsync after a failed one can claim success for data that is lost.
func (j *journal) write(at int64, data []byte) error {
	_, err := j.f.WriteAt(data, at)
	if err == nil {
		err = j.f.Datasync()
	}
	if err != nil {
		j.failed = fleet.Errorf(fleet.Unavailable, "the ledger %s cannot be written: %w", filepath.Join(j.dir, ledgerName), err).
			Hinted("check the disk, then restart the agent; it starts nothing until then")
		return &doubtError{j.failed}
	}
	return nil
}

// doubtError says that a record may or may not be on disk.
type doubtError struct{ error }

func (e *doubtError) Unwrap() error { return e.error }

// writeMark notes how far the file is synced. It needs no sync of its own: it is written after what it covers was
// synced, so whenever it reaches the disk it is true.
func (j *journal) writeMark() {
	if j.failed != nil {
		return
	}
	j.mark.Seq++
	_, sum := j.header.encode()
	if _, err := j.f.WriteAt(j.mark.encode(sum), markOffsets[j.mark.Seq%2]); err != nil {
		j.failed = err
	}
}

// fits reports whether there is a page for the record. A quarter of the file is kept from starts, so that refusing,
// cancelling and ending always find room.
func (j *journal) fits(r exec.Record) bool {
	limit := j.header.Capacity
	if _, start := r.(exec.StartedRecord); start {
		limit -= limit / 4
	}
	return roundUp(j.mark.End)+pageSize <= limit
}

func (j *journal) makeRoom(r exec.Record) error {
	if j.failed != nil || j.fits(r) {
		return j.failed
	}
	err := j.compact()
	if err == nil && j.fits(r) {
		return nil
	}
	return fleet.Errorf(fleet.Exhausted, "the ledger in %s is full: %w", j.dir, errors.Join(err)).
		Hinted("free space on the disk of %s; ended runs are forgotten a day after their orders expire", j.dir)
}

func ledgerGone(path string) error {
	return fleet.Errorf(fleet.Invalid, "the ledger %s is gone, but this node has run commands", path).
		Hinted("restore the file; or, to begin a new one that refuses every order issued until now, move %s and %s away",
			filepath.Join(filepath.Dir(path), spareName), filepath.Join(filepath.Dir(path), runsName))
}

func ledgerTrouble(path string, err error) error {
	if d, ok := errors.AsType[*damage](err); ok {
		return (&fleet.Error{Kind: fleet.Internal, What: fmt.Sprintf("the ledger %s is damaged at %v", path, d), Err: nil}).
			Hinted("nothing was changed and nothing will run; restore the file, or, to begin a new one that refuses every order "+
				"issued until now, move it, %s and %s away", filepath.Join(filepath.Dir(path), spareName),
				filepath.Join(filepath.Dir(path), runsName))
	}
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return fleet.Errorf(fleet.Exhausted, "no room for the ledger %s: %w", path, err).
			Hinted("free %d MiB on its disk", 2*ledgerStep>>20)
	}
	return fleet.Errorf(fleet.Internal, "cannot open the ledger %s: %w", path, err)
}
