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
	file    *os.File // bolt's own, to read the transaction number from
	writing sync.Mutex
	mark    *mark
	log     *slog.Logger
	busy    atomic.Pointer[time.Time] // when the write under way began
	grown   atomic.Int64              // bytes of entries written since the last snapshot
	stored  func()                    // called when entries were stored; set it before raft has the store
	closing chan struct{}             // closed when nobody can hear this replica any more
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
	s := &store{path: path, mark: mark, log: log, stored: func() {}, closing: make(chan struct{})}
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
	return s, nil
}

// write runs one synced transaction and notes its number beside. One at a time: the number that is read must be of a
// transaction that is synced, not of another's that is still being written.
func (s *store) write(transaction func() error) error {
	s.writing.Lock()
	defer s.writing.Unlock()
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

// stalled says for how long the write under way has been going on; zero if there is none.
func (s *store) stalled(now time.Time) time.Duration {
	if began := s.busy.Load(); began != nil {
		return now.Sub(*began)
	}
	return 0
}

// release lets writes that wait for disk space give up; call it once nobody can hear this replica.
func (s *store) release() { close(s.closing) }

func (s *store) close() error { return errors.Join(s.bolt.Close(), s.mark.close()) }

// FirstIndex returns the index of the oldest entry, 0 if there is none.
func (s *store) FirstIndex() (uint64, error) { return s.bolt.FirstIndex() }

// LastIndex returns the index of the newest entry, 0 if there is none.
func (s *store) LastIndex() (uint64, error) { return s.bolt.LastIndex() }

// GetLog reads an entry and checks its seal.
func (s *store) GetLog(index uint64, entry *raft.Log) error {
	err := readEntry(s.bolt, index, entry)
	if _, bad := errors.AsType[damaged](err); bad {
		s.log.Error("the replica's log is damaged; it will be rebuilt at the next start", "file", s.path, "err", err)
	}
	return err
}

// StoreLog stores one entry.
func (s *store) StoreLog(entry *raft.Log) error { return s.StoreLogs([]*raft.Log{entry}) }

// StoreLogs stores entries in one synced transaction: the leader's own get their seal here, where index and term are
// known; those from the leader have their seal checked.
func (s *store) StoreLogs(entries []*raft.Log) error {
	var size int64
	for _, entry := range entries {
		if err := sealed(entry); err != nil {
			return err
		}
		size += entrySize(entry)
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
