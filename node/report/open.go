package report

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.etcd.io/bbolt"
	bbolterrors "go.etcd.io/bbolt/errors"
	"golang.org/x/sys/unix"

	"github.com/muster-fleet/muster/node/fleet"
)

const (
	lockTries  = 40 // for an agent that is just ending: 2 s
	lockPause  = 50 * time.Millisecond
	maxDamaged = 3 // damaged files kept; they may be as large as the store
)

// damaged is what is wrong with the file itself. Anything else (a lock, a permission) says nothing about its content.
type damaged struct{ error }

func (d damaged) Unwrap() error { return d.error }

func damagef(format string, args ...any) error { return damaged{fmt.Errorf(format, args...)} }

// guarded runs do, and turns bbolt's panics about bad pages, and faults where a bad page leads out of the mapped file,
// into damage.
func guarded(do func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if cause := recover(); cause != nil {
			err = damagef("%v", cause)
		}
	}()
	return do()
}

// openFile opens the file, after moving a damaged one aside.
func openFile(path string, log *slog.Logger) (*bbolt.DB, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, trouble(path, err)
	}
	db, err := tryOpen(path)
	if d, is := errors.AsType[damaged](err); is {
		if err := moveAside(path, d, log); err != nil {
			return nil, err
		}
		db, err = tryOpen(path)
	}
	return db, trouble(path, err)
}

// tryOpen opens or makes the file and its buckets. The file is examined under the lock, or what another process is just
// writing would look like damage.
func tryOpen(path string) (*bbolt.DB, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err = lock(f); err == nil {
		err = examine(f)
	}
	var db *bbolt.DB
	if err == nil {
		err = guarded(func() (err error) {
			db, err = bbolt.Open(path, 0o600, boltOptions(f))
			return err
		})
	}
	if err != nil {
		f.Close() // where bbolt failed it is closed already; where it panicked, this frees the lock
		return nil, classify(err)
	}
	if err := errors.Join(makeBuckets(db), syncDir(filepath.Dir(path))); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

// lock takes the lock that bbolt takes: bbolt then takes it again on the same open file, which changes nothing.
func lock(f *os.File) error {
	for range lockTries {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return err
		}
		time.Sleep(lockPause)
	}
	return bbolterrors.ErrTimeout
}

// boltOptions: a freelist that is not written costs a walk over the pages at opening and saves 8 bytes per free page and
// commit; the map type does not fragment.
func boltOptions(f *os.File) *bbolt.Options {
	return &bbolt.Options{
		NoFreelistSync: true, FreelistType: bbolt.FreelistMapType,
		OpenFile: func(string, int, os.FileMode) (*os.File, error) { return f, nil },
	}
}

func makeBuckets(db *bbolt.DB) error {
	there := false
	_ = db.View(func(tx *bbolt.Tx) error {
		there = tx.Bucket(bucketMeta) != nil
		return nil
	})
	if there {
		return nil
	}
	return db.Update(func(tx *bbolt.Tx) error {
		for _, name := range [][]byte{bucketMeta, bucketReports, bucketFacts, bucketAge} {
			if _, err := tx.CreateBucketIfNotExists(name); err != nil {
				return err
			}
		}
		return tx.Bucket(bucketMeta).Put(keyFormat, []byte{format})
	})
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// classify tells damage from trouble around the file.
func classify(err error) error {
	for _, bad := range []error{bbolterrors.ErrInvalid, bbolterrors.ErrChecksum, bbolterrors.ErrVersionMismatch} {
		if errors.Is(err, bad) {
			return damaged{err}
		}
	}
	return err
}

// moveAside renames a damaged file to reports.db.damaged-N and keeps the newest few of those.
func moveAside(path string, cause error, log *slog.Logger) error {
	old, err := damagedFiles(path)
	next := 1
	if len(old) > 0 {
		next = old[len(old)-1] + 1
	}
	to := damagedName(path, next)
	if err == nil {
		err = os.Rename(path, to)
	}
	if err != nil {
		return fleet.Errorf(fleet.Unavailable, "%s is damaged (%v) and cannot be moved aside: %w", path, cause, err).
			Hinted("mv %s %s, then start muster again; the store begins empty, other servers and the nodes keep theirs", path, to)
	}
	log.Warn("the report store is damaged; it was moved aside and begins empty. Reports are kept by another server and by their nodes too",
		"file", path, "moved", to, "err", cause)
	for i := 0; i+maxDamaged-1 < len(old); i++ {
		if err := os.Remove(damagedName(path, old[i])); err == nil {
			log.Warn("removed an older damaged report store", "file", damagedName(path, old[i]))
		}
	}
	return nil
}

func damagedName(path string, n int) string { return fmt.Sprintf("%s.damaged-%d", path, n) }

// damagedFiles lists the numbers of the damaged files that were kept, ascending.
func damagedFiles(path string) (out []int, err error) {
	entries, err := os.ReadDir(filepath.Dir(path))
	for _, e := range entries {
		if text, ok := strings.CutPrefix(e.Name(), filepath.Base(path)+".damaged-"); ok {
			if n, err := strconv.Atoi(text); err == nil && n > 0 {
				out = append(out, n)
			}
		}
	}
	slices.Sort(out)
	return out, err
}

func (s *Store) trouble(err error) error { return trouble(s.path, err) }

// trouble says what went wrong with the file at path, and how to mend it.
func trouble(path string, err error) error {
	_, isDamage := errors.AsType[damaged](err)
	known, isKnown := errors.AsType[*fleet.Error](err)
	switch {
	case err == nil:
		return nil
	case isDamage:
		return fleet.Errorf(fleet.Internal, "the report store %s is damaged: %w", path, err).
			Hinted("restart muster: it moves the file aside and begins an empty one; other servers and the nodes keep theirs")
	case isKnown:
		if strings.Contains(known.What, path) {
			return known
		}
		return &fleet.Error{Kind: known.Kind, What: "the report store " + path + ": " + known.What, Hint: known.Hint, Err: known.Err}
	case isFull(err):
		return fleet.Errorf(fleet.Exhausted, "no space to write the report store %s: %w", path, err).
			Hinted("df -h %s; free space there, nodes send their reports again", filepath.Dir(path))
	case errors.Is(err, errClosed), errors.Is(err, bbolterrors.ErrDatabaseNotOpen):
		return fleet.Errorf(fleet.Unavailable, "the report store %s is closed", path)
	case errors.Is(err, bbolterrors.ErrTimeout):
		return fleet.Errorf(fleet.Unavailable, "the report store %s is in use by another process", path).
			Hinted("stop the other muster agent of this host")
	case errors.Is(err, os.ErrPermission):
		return fleet.Errorf(fleet.Unavailable, "cannot open the report store %s: %w", path, err).
			Hinted("ls -ld %s; it must belong to the account that the agent runs as", filepath.Dir(path))
	}
	return fleet.Errorf(fleet.Unavailable, "the report store %s: %w", path, err).Hinted("check the disk: dmesg, df -h %s", filepath.Dir(path))
}

// isFull also knows the errors that bbolt passes on as text only.
func isFull(err error) bool {
	for _, full := range []error{unix.ENOSPC, unix.EDQUOT, unix.EFBIG, bbolterrors.ErrMaxSizeReached} {
		if errors.Is(err, full) || strings.Contains(err.Error(), full.Error()) {
			return true
		}
	}
	return false
}
