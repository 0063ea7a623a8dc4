package quorum

import (
	"encoding/binary"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
	"go.etcd.io/bbolt"

	"github.com/muster-fleet/muster/node/fleet"
)

// store keeps raft's log and its stable values (term, vote) in one bbolt file, each with a checksum that is looked at
// whenever it is read. It implements raft.LogStore and raft.StableStore.
type store struct {
	db      *bbolt.DB
	mark    *mark
	log     *slog.Logger
	busy    atomic.Pointer[time.Time] // when the write under way began
	grown   atomic.Int64              // bytes of entries written since the last snapshot
	closing chan struct{}             // closed when nobody can hear this replica any more
}

const (
	bucketLog    = "log"
	bucketStable = "stable"
)

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
	db, err := bbolt.Open(path, 0o600, boltOptions(false))
	if err != nil {
		return nil, fleet.Errorf(fleet.Unavailable, "cannot open %s: %w", path, err)
	}
	s := &store{db: db, mark: mark, log: log, closing: make(chan struct{})}
	missing := false
	_ = db.View(func(tx *bbolt.Tx) error {
		missing = tx.Bucket([]byte(bucketLog)) == nil || tx.Bucket([]byte(bucketStable)) == nil
		return nil
	})
	if !missing {
		return s, nil
	}
	err = s.update(func(tx *bbolt.Tx) error {
		_, errLog := tx.CreateBucketIfNotExists([]byte(bucketLog))
		_, errStable := tx.CreateBucketIfNotExists([]byte(bucketStable))
		return errors.Join(errLog, errStable)
	})
	if err != nil {
		return nil, errors.Join(fleet.Errorf(fleet.Unavailable, "cannot write %s: %w", path, err), db.Close())
	}
	return s, nil
}

// update runs one synced transaction and notes its number beside.
func (s *store) update(change func(*bbolt.Tx) error) error {
	began := time.Now()
	s.busy.Store(&began)
	defer s.busy.Store(nil)
	var number int
	err := s.db.Update(func(tx *bbolt.Tx) error {
		number = tx.ID()
		return change(tx)
	})
	if err != nil {
		return err
	}
	if err := s.mark.committed(uint64(number)); err != nil { // the entry itself is safe: saying otherwise would be a lie
		s.log.Warn("cannot note the log's progress", "err", err)
	}
	return nil
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

func (s *store) close() error { return errors.Join(s.db.Close(), s.mark.close()) }

func key(index uint64) []byte { return binary.BigEndian.AppendUint64(nil, index) }

// FirstIndex returns the index of the oldest entry, 0 if there is none.
func (s *store) FirstIndex() (uint64, error) {
	return s.edge((*bbolt.Cursor).First)
}

// LastIndex returns the index of the newest entry, 0 if there is none.
func (s *store) LastIndex() (uint64, error) {
	return s.edge((*bbolt.Cursor).Last)
}

func (s *store) edge(move func(*bbolt.Cursor) ([]byte, []byte)) (index uint64, err error) {
	err = s.db.View(func(tx *bbolt.Tx) error {
		if k, _ := move(tx.Bucket([]byte(bucketLog)).Cursor()); k != nil {
			index = binary.BigEndian.Uint64(k)
		}
		return nil
	})
	return index, err
}

// GetLog reads an entry and checks its seal.
func (s *store) GetLog(index uint64, entry *raft.Log) error {
	return s.db.View(func(tx *bbolt.Tx) error {
		record := tx.Bucket([]byte(bucketLog)).Get(key(index))
		if record == nil {
			return raft.ErrLogNotFound
		}
		err := decodeRecord(index, record, entry)
		if err != nil {
			s.log.Error("the replica's log is damaged; it will be rebuilt at the next start", "file", s.db.Path(), "err", err)
		}
		return err
	})
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
		size += int64(recordHead + len(entry.Data))
	}
	err := s.update(func(tx *bbolt.Tx) error {
		bucket := tx.Bucket([]byte(bucketLog))
		bucket.FillPercent = 1 // keys only grow
		for _, entry := range entries {
			if err := bucket.Put(key(entry.Index), encodeRecord(entry)); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		s.grown.Add(size)
	}
	return err
}

// DeleteRange deletes the entries from lowest to highest, both included.
func (s *store) DeleteRange(lowest, highest uint64) error {
	return s.update(func(tx *bbolt.Tx) error {
		bucket := tx.Bucket([]byte(bucketLog))
		var gone [][]byte // a cursor that deletes while it walks skips keys
		cursor := bucket.Cursor()
		for k, _ := cursor.Seek(key(lowest)); k != nil && binary.BigEndian.Uint64(k) <= highest; k, _ = cursor.Next() {
			gone = append(gone, append([]byte(nil), k...))
		}
		for _, k := range gone {
			if err := bucket.Delete(k); err != nil {
				return err
			}
		}
		return nil
	})
}

// trailing returns how many of the newest entries fit into the bytes kept behind a snapshot.
func (s *store) trailing() (entries uint64) {
	_ = s.db.View(func(tx *bbolt.Tx) error {
		size := 0
		cursor := tx.Bucket([]byte(bucketLog)).Cursor()
		for k, v := cursor.Last(); k != nil && entries < trailingEntries; k, v = cursor.Prev() {
			if size += len(v); size > trailingBytes {
				break
			}
			entries++
		}
		return nil
	})
	return entries
}

// Set stores a stable value.
func (s *store) Set(name, value []byte) error {
	return s.update(func(tx *bbolt.Tx) error {
		return tx.Bucket([]byte(bucketStable)).Put(name, encodeStable(name, value))
	})
}

// Get returns a stable value, nil if there is none.
func (s *store) Get(name []byte) (value []byte, err error) {
	err = s.db.View(func(tx *bbolt.Tx) error {
		record := tx.Bucket([]byte(bucketStable)).Get(name)
		if record == nil {
			return nil
		}
		value, err = decodeStable(name, record)
		return err
	})
	return value, err
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
		s.log.Warn("cannot store; trying again", "file", s.db.Path(), "key", string(name), "err", err)
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
