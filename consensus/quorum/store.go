package quorum

import (
	"encoding/binary"
	"errors"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"

	"github.com/muster-fleet/muster/node/fleet"
)

// store keeps raft's log and its stable values (term, vote) in a raft-boltdb store, which checks nothing: here each
// gets a checksum that is looked at whenever it is read, and each commit leaves its number in the mark. It implements
// raft.LogStore and raft.StableStore.
type store struct {
	bolt    *raftboltdb.BoltStore
	path    string
	file    *os.File      // bolt's own, to read the transaction number from
	writing chan struct{} // holds one while a transaction is written
	mark    *mark
	log     *slog.Logger
	busy    atomic.Pointer[time.Time] // when the write under way began
	grown   atomic.Int64              // bytes of entries written since the last snapshot
	stored  func()                    // called when entries were stored; set it before raft has the store
	closing chan struct{}             // closed when nobody can hear this replica any more
	raft    atomic.Pointer[raft.Raft] // set once it runs: before that nothing runs ahead
	ahead   ahead
	work    sync.WaitGroup // catching up

	commands atomic.Uint64 // index of the newest command in the log, or a higher one
	begun    atomic.Pointer[begun]
}

// boltOptions: a freelist that is not written costs a walk over the pages at opening and saves 8 bytes per free page
// and commit; the map type does not fragment. NoSync stays false: what raft acknowledges is synced.
func boltOptions(readOnly bool) *bbolt.Options {
	return &bbolt.Options{
		Timeout:        lockTimeout,
		NoFreelistSync: true,
		FreelistType:   bbolt.FreelistMapType,
		ReadOnly:       readOnly,
	}
}

func openStore(path string, mark *mark, log *slog.Logger) (*store, error) {
	s := &store{path: path, mark: mark, log: log, stored: func() {}, writing: make(chan struct{}, 1), closing: make(chan struct{}), ahead: ahead{moved: make(chan struct{})}}
	options := boltOptions(false)
	options.OpenFile = func(path string, flag int, mode os.FileMode) (file *os.File, err error) {
		s.file, err = os.OpenFile(path, flag, mode)
		return s.file, err
	}
	var err error
	s.bolt, err = raftboltdb.New(raftboltdb.Options{Path: path, BoltOptions: options}) // one transaction, always
	if err != nil {
		return nil, fleet.Errorf(fleet.Unavailable, "cannot open %s: %w", path, err)
	}
	if _, err := newestTx(s.file); err != nil { // later this is only logged
		return nil, errors.Join(fleet.Errorf(fleet.Internal, "cannot open %s: %w", path, err), s.bolt.Close())
	}
	s.note()
	s.commands.Store(s.newestCommand())
	s.begun.Store(s.newestTerm())
	return s, nil
}

// begun says where the newest term in the log begins, or, after a start, where it has begun by.
type begun struct{ term, index uint64 }

// newestTerm looks at the newest entry.
func (s *store) newestTerm() *begun {
	var entry raft.Log
	last, err := s.bolt.LastIndex()
	if err != nil || last == 0 || s.bolt.GetLog(last, &entry) != nil {
		return &begun{}
	}
	return &begun{entry.Term, last}
}

// newestCommand looks for the newest command in the log. Behind it lies little else: what elections and changes of the
// configuration leave.
func (s *store) newestCommand() uint64 {
	last, err := s.bolt.LastIndex()
	for index := last; err == nil && index > 0 && last-index < behindCommand; index-- {
		var entry raft.Log
		if s.bolt.GetLog(index, &entry) != nil {
			return 0 // the log begins behind it, with a snapshot that holds the rest
		}
		if entry.Type == raft.LogCommand {
			return index
		}
	}
	return last - min(last, behindCommand)
}

// behindCommand bounds how many entries are looked at for the newest command.
const behindCommand = 1024

// noteKinds notes where commands lie among entries that are about to be stored, and where terms begin.
func (s *store) noteKinds(entries []*raft.Log) {
	for _, entry := range entries {
		if entry.Type == raft.LogCommand {
			s.commands.Store(entry.Index)
		}
		if entry.Term != s.begun.Load().term {
			s.begun.Store(&begun{entry.Term, entry.Index})
		}
	}
}

// write runs one synced transaction and notes its number beside. One at a time: the number that is read must be of a
// transaction that is synced, not of another's that is still being written.
func (s *store) write(transaction func() error) error {
	s.writing <- struct{}{}
	defer func() { <-s.writing }()
	began := time.Now()
	s.busy.Store(&began)
	defer s.busy.Store(nil)
	if err := transaction(); err != nil {
		return err
	}
	s.note()
	return nil
}

// note marks the newest transaction. Where that fails the transaction itself is safe: an error would be a lie.
func (s *store) note() {
	tx, err := newestTx(s.file)
	if err == nil {
		err = s.mark.committed(tx)
	}
	if err != nil {
		s.log.Warn("cannot note the log's progress", "file", s.path, "err", err)
	}
}

// stalled says for how long the write under way has been going on, or what runs ahead has waited; zero if there is none.
func (s *store) stalled(now time.Time) time.Duration {
	late := s.ahead.late(now)
	if began := s.busy.Load(); began != nil {
		late = max(late, now.Sub(*began))
	}
	return late
}

// release lets writes that wait for disk space give up; call it once nobody can hear this replica.
func (s *store) release() { close(s.closing) }

// close ends the store; release must have been called.
func (s *store) close() error {
	s.work.Wait()
	return errors.Join(s.bolt.Close(), s.mark.close())
}

// FirstIndex returns the index of the oldest entry, 0 if there is none.
func (s *store) FirstIndex() (uint64, error) {
	first, _, ahead := s.ahead.bounds() // before the file is looked at: an entry is in at least one of the two
	index, err := s.bolt.FirstIndex()
	if err == nil && index == 0 && ahead {
		return first, nil
	}
	return index, err
}

// LastIndex returns the index of the newest entry, 0 if there is none.
func (s *store) LastIndex() (uint64, error) {
	if _, last, ok := s.ahead.bounds(); ok {
		return last, nil
	}
	return s.bolt.LastIndex()
}

// GetLog reads an entry and checks its seal. One that runs ahead is given to the leader as it is, which sends it; to raft as
// a follower, which would acknowledge it, once it is durable.
func (s *store) GetLog(index uint64, entry *raft.Log) error {
	if running, ok := s.ahead.find(index); ok {
		if r := s.raft.Load(); r != nil && r.State() == raft.Leader {
			*entry = *running
			return nil
		}
		if err := s.durable(index); err != nil {
			return err
		}
	}
	err := readEntry(s.bolt, index, entry)
	if _, bad := errors.AsType[damaged](err); bad {
		s.log.Error("the replica's log is damaged; it will be rebuilt at the next start", "file", s.path, "err", err)
	}
	return err
}

// StoreLog stores one entry.
func (s *store) StoreLog(entry *raft.Log) error { return s.StoreLogs([]*raft.Log{entry}) }

// StoreLogs stores entries in one synced transaction, or lets them run ahead of one: the leader's own get their seal here,
// where index and term are known; those from the leader have their seal checked.
func (s *store) StoreLogs(entries []*raft.Log) error {
	for _, entry := range entries {
		if err := sealed(entry); err != nil {
			return err
		}
	}
	s.noteKinds(entries)
	size := sizeOf(entries)
	if s.mayRunAhead(entries) {
		if taken, err := s.runAhead(entries, size); taken {
			if err == nil {
				s.stored()
			}
			return err
		}
	}
	if err := s.settled(); err != nil {
		return err
	}
	err := s.write(func() error { return s.bolt.StoreLogs(entries) })
	if err == nil {
		s.grown.Add(size)
		s.stored()
	}
	return err
}

// DeleteRange deletes the entries from lowest to highest, both included.
func (s *store) DeleteRange(lowest, highest uint64) error {
	if err := s.durable(highest); err != nil {
		return err
	}
	if highest >= s.commands.Load() && lowest > 0 {
		s.commands.Store(lowest - 1) // or a lower one
	}
	return s.write(func() error { return s.bolt.DeleteRange(lowest, highest) })
}

// trailing returns how many of the newest entries fit into the bytes kept behind a snapshot.
func (s *store) trailing() (entries uint64) {
	last, err := s.bolt.LastIndex()
	if err != nil {
		return 0
	}
	var size int64
	for index := last; index > 0 && last-index < trailingEntries; index-- {
		var entry raft.Log
		err := s.bolt.GetLog(index, &entry)
		if errors.Is(err, raft.ErrLogNotFound) && entries == 0 {
			continue // a new leader's entries are just replacing the newest ones
		}
		if size += entrySize(&entry); err != nil || size > trailingBytes {
			break
		}
		entries++
	}
	return entries
}

// Set stores a stable value.
func (s *store) Set(name, value []byte) error {
	return s.write(func() error { return s.bolt.Set(name, encodeStable(name, value)) })
}

// Get returns a stable value, nil if there is none.
func (s *store) Get(name []byte) ([]byte, error) {
	record, err := s.bolt.Get(name)
	if errors.Is(err, raftboltdb.ErrKeyNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return decodeStable(name, record)
}

// SetUint64 stores a number. raft panics when it cannot store its term, which would end the agent on a full disk; so
// this waits until there is space. Nothing is promised meanwhile, and a leader that waits falls silent.
func (s *store) SetUint64(name []byte, value uint64) error {
	encoded := binary.BigEndian.AppendUint64(nil, value)
	if old, err := s.Get(name); err == nil && string(old) == string(encoded) {
		return nil
	}
	for {
		err := s.Set(name, encoded)
		if err == nil {
			return nil
		}
		s.log.Warn("cannot store; trying again", "file", s.path, "key", string(name), "err", err)
		select {
		case <-s.closing:
			return nil // all streams are closed, so what is not stored is not promised to anybody
		case <-time.After(diskRetry):
		}
	}
}

// GetUint64 returns a number, 0 if there is none.
func (s *store) GetUint64(name []byte) (uint64, error) {
	value, err := s.Get(name)
	if err != nil || value == nil {
		return 0, err
	}
	if len(value) != 8 {
		return 0, fleet.Errorf(fleet.Internal, "the stored %s is damaged", name)
	}
	return binary.BigEndian.Uint64(value), nil
}
