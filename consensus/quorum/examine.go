package quorum

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime/debug"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"
	bbolterrors "go.etcd.io/bbolt/errors"

	"github.com/muster-fleet/muster/node/fleet"
)

// damaged is the reason why a replica's files cannot be trusted. Anything else that goes wrong at opening (a lock, a
// permission) says nothing about the files and is returned as it is.
type damaged struct{ error }

func (d damaged) Unwrap() error { return d.error }

func damagef(format string, args ...any) error {
	return damaged{fleet.Errorf(fleet.Internal, format, args...)}
}

// The buckets of a raft-boltdb store.
const (
	bucketLog    = "logs"
	bucketStable = "conf"
)

// findings is what the log file holds.
type findings struct {
	tx          uint64
	first, last uint64
	after       uint64  // the highest index whose predecessor is missing; equals first where there is no gap
	sizes       []int64 // of the entries in bytes, oldest first
}

// behind returns how many bytes the entries behind a snapshot have (its index, 0 for none), which consistent has taken.
func (f findings) behind(snapshot uint64) (size int64) {
	if f.last <= snapshot {
		return 0
	}
	count := min(f.last-snapshot, uint64(len(f.sizes)))
	for _, n := range f.sizes[len(f.sizes)-int(count):] {
		size += n
	}
	return size
}

// examineLog reads the whole log file before raft or bbolt work with it: both panic on what is damaged, bbolt even on
// a goroutine of its own. Opened read-only, bbolt leaves the free pages alone and stays on this goroutine.
func examineLog(path string) (found findings, err error) {
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		return found, damagef("%s is missing", path)
	}
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true)) // a damaged page number leads out of the mapped file
	defer func() {
		if cause := recover(); cause != nil {
			err = damagef("%s is damaged: %v", path, cause)
		}
	}()
	db, err := bbolt.Open(path, 0o600, boltOptions(true))
	if err != nil {
		return found, unopened(path, err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	entries, err := raftboltdb.New(raftboltdb.Options{Path: path, BoltOptions: boltOptions(true)})
	if err != nil {
		return found, unopened(path, err)
	}
	defer func() { err = errors.Join(err, entries.Close()) }()
	return found, db.View(func(tx *bbolt.Tx) error {
		found.tx = uint64(tx.ID())
		return errors.Join(examineEntries(tx, entries, path, &found), examineStable(tx, path))
	})
}

// unopened says what it means that the log file cannot be opened.
func unopened(path string, err error) error {
	switch {
	case errors.Is(err, bbolterrors.ErrTimeout):
		return fleet.Errorf(fleet.Unavailable, "%s is in use by another process", path).
			Hinted("stop the other muster agent of this host")
	case errors.Is(err, os.ErrPermission):
		return fleet.Errorf(fleet.Unavailable, "cannot open %s: %w", path, err)
	default:
		return damagef("%s is damaged: %w", path, err)
	}
}

// examineEntries finds the entries by their keys, which raft-boltdb does not list, and reads each as raft will.
func examineEntries(tx *bbolt.Tx, entries *raftboltdb.BoltStore, path string, found *findings) error {
	bucket := tx.Bucket([]byte(bucketLog))
	if bucket == nil {
		return withoutBuckets(tx, path)
	}
	var entry raft.Log
	return bucket.ForEach(func(k, _ []byte) error {
		if len(k) != 8 {
			return damagef("%s is damaged: a key has %d bytes", path, len(k))
		}
		index := binary.BigEndian.Uint64(k)
		if index <= found.last {
			return damagef("%s is damaged: entry %d follows %d", path, index, found.last)
		}
		if err := readEntry(entries, index, &entry); err != nil {
			return damagef("%s: %w", path, err)
		}
		if found.first == 0 {
			found.first = index
		}
		if index != found.last+1 {
			found.after = index
		}
		found.last, found.sizes = index, append(found.sizes, entrySize(&entry))
		return nil
	})
}

// withoutBuckets says whether a file may be without them: after a crash between bbolt's creation of it, which is
// transaction 1, and the next.
func withoutBuckets(tx *bbolt.Tx, path string) error {
	if tx.ID() > 1 {
		return damagef("%s is damaged: a bucket is missing at transaction %d", path, tx.ID())
	}
	return nil
}

func examineStable(tx *bbolt.Tx, path string) error {
	bucket := tx.Bucket([]byte(bucketStable))
	if bucket == nil {
		return withoutBuckets(tx, path)
	}
	return bucket.ForEach(func(name, record []byte) error {
		if _, err := decodeStable(name, record); err != nil {
			return damagef("%s: %w", path, err)
		}
		return nil
	})
}

// consistent says whether log, newest snapshot (its index, 0 for none) and mark belong together.
func consistent(found findings, snapshot uint64, noted marking, incarnation uint64) error {
	switch {
	case noted.Incarnation != incarnation:
		return damagef("the mark is of incarnation %d, the replica of %d", noted.Incarnation, incarnation)
	case found.tx < noted.Tx:
		return damagef("the log was rolled back: it is at transaction %d and was at %d", found.tx, noted.Tx)
	case found.last > snapshot && found.after > snapshot+1:
		return damagef("log entries %d to %d are missing", snapshot+1, found.after-1)
	case max(found.last, snapshot) < noted.Snapshot:
		return damagef("the snapshot at %d is missing", noted.Snapshot)
	}
	return nil
}

// panicked turns a panic of a library at opening into an error.
func panicked(err *error, what string) {
	if cause := recover(); cause != nil {
		*err = fleet.Errorf(fleet.Internal, "%s: %s", what, fmt.Sprint(cause))
	}
}
