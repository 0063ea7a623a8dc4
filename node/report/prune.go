package report

import (
	"errors"

	"go.etcd.io/bbolt"
	bbolterrors "go.etcd.io/bbolt/errors"
)

// sweepMost bounds how many commands one transaction looks at, so that puts need not wait long.
const sweepMost = 256

// slackParts: a store over its size is brought down to (1 - 1/slackParts) of it, so that not every put has to.
const slackParts = 16

// Prune removes the reports of commands that nobody reported on for Keep, then those of the oldest commands until the
// store is within MaxBytes; the newest command always stays. It returns how many reports it removed, also beside an error.
func (s *Store) Prune() (removed int, err error) {
	cutoff := s.o.Now().Add(-s.o.Keep).UnixMilli()
	for {
		var got swept
		err := s.pruneStep(func(tx *bbolt.Tx) (err error) {
			got, err = sweep(tx, func(heard int64, _ swept) bool { return heard < cutoff })
			return err
		})
		if err != nil {
			return removed, err
		}
		removed += got.reports
		if got.finished {
			break
		}
	}
	more, err := s.shrink(s.pruneStep)
	return removed + more, err
}

func (s *Store) pruneStep(change func(*bbolt.Tx) error) error {
	w := &write{}
	w.change = func(tx *bbolt.Tx) error {
		w.changed = true
		return change(tx)
	}
	return s.commit(w)
}

// shrink removes the oldest commands until the store is within its size or holds one command only.
func (s *Store) shrink(run func(func(*bbolt.Tx) error) error) (removed int, err error) {
	for excess := s.excess(); excess > 0; excess = s.excess() {
		var got swept
		err := run(func(tx *bbolt.Tx) (err error) {
			got, err = sweep(tx, func(_ int64, so swept) bool { return so.bytes < excess && so.left > 1 })
			return err
		})
		if err != nil {
			return removed, err
		}
		removed += got.reports
		if got.finished && got.reports == 0 {
			break
		}
	}
	return removed, nil
}

// excess returns how many bytes have to go; 0 while the store is within its size.
func (s *Store) excess() int64 {
	var size int64
	if err := s.view(func(tx *bbolt.Tx) error { size = tx.Size(); return nil }); err != nil {
		return 0 // closed or damaged: the write that follows says so
	}
	stats := s.db.Stats()
	used := size - int64(stats.FreePageN+stats.PendingPageN)*int64(s.db.Info().PageSize)
	if used <= s.o.MaxBytes {
		return 0
	}
	return used - s.o.MaxBytes + s.o.MaxBytes/slackParts
}

// swept is what a sweep did.
type swept struct {
	reports  int   // removed
	bytes    int64 // about what they took
	left     int   // commands that are still there, counted up to 2
	finished bool  // the oldest command that is left stays
}

// sweep removes commands, the oldest first, while gone(when it was last heard of, what was swept so far) says so. gone
// must say of a younger command no more than of an older one. An index entry may be too old, because reports after the
// first do not move it: then it is moved here, and the next oldest is looked at.
func sweep(tx *bbolt.Tx, gone func(heard int64, so swept) bool) (out swept, err error) {
	reports, age := tx.Bucket(bucketReports), tx.Bucket(bucketAge)
	for range sweepMost {
		c := age.Cursor()
		k, _ := c.First()
		if k == nil {
			out.finished = true
			return out, nil
		}
		if out.left = 1; nextKey(c) != nil {
			out.left = 2
		}
		heard, command := openAgeKey(k)
		if !gone(heard, out) {
			out.finished = true
			return out, nil
		}
		newest, count, bytes := weigh(reports.Bucket(command))
		entry, id := append([]byte(nil), k...), append([]byte(nil), command...) // k ends with the first change
		if err := age.Delete(entry); err != nil {
			return out, err
		}
		if newest > heard {
			if err := age.Put(ageKey(newest, id), nil); err != nil {
				return out, err
			}
			continue
		}
		if err := reports.DeleteBucket(id); err != nil && !errors.Is(err, bbolterrors.ErrBucketNotFound) {
			return out, err // an index entry that damage made up goes, and nothing with it
		}
		out.reports += count
		out.bytes += bytes
	}
	return out, nil
}

func nextKey(c *bbolt.Cursor) []byte {
	k, _ := c.Next()
	return k
}

// weigh returns when the newest report of a command came, how many there are, and about how many bytes they take.
func weigh(b *bbolt.Bucket) (newest int64, count int, bytes int64) {
	_ = eachKey(b, func(k, v []byte) error {
		newest = max(newest, receivedAt(v))
		bytes += int64(len(k) + len(v))
		count++
		return nil
	})
	return newest, count, bytes
}
