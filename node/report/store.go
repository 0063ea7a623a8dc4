package report

import (
	"errors"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/bbolt"

	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

// Defaults of Options.
const (
	DefaultKeep     = 30 * 24 * time.Hour // as long as an order can be valid
	DefaultMaxBytes = 1 << 30
)

// FileName is the store's file in its folder.
const FileName = "reports.db"

// Options of a store. Zero values mean the defaults.
type Options struct {
	Keep     time.Duration    // how long after its last report a command is kept; 0: DefaultKeep
	MaxBytes int64            // disk space in use above which the oldest commands give way; 0: DefaultMaxBytes
	Now      func() time.Time // nil: time.Now
	Log      *slog.Logger     // nil: nothing is logged
}

func (o Options) filled() Options {
	if o.Keep <= 0 {
		o.Keep = DefaultKeep
	}
	if o.MaxBytes <= 0 {
		o.MaxBytes = DefaultMaxBytes
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

// Store keeps what nodes report. All methods may be called at the same time.
type Store struct {
	o    Options
	path string
	db   *bbolt.DB

	turn    chan struct{} // held by the one that commits
	mu      sync.Mutex    // guards what follows
	waiting []*write
	watch   map[fleet.UUID]map[*watcher]struct{}

	closing  sync.Once
	closed   chan struct{}
	kept     atomic.Uint64
	saidOnce sync.Once // about a value that does not match its checksum
}

// The buckets.
var (
	bucketMeta    = []byte("meta")
	bucketReports = []byte("reports")
	bucketFacts   = []byte("facts")
	bucketAge     = []byte("age")
	keyFormat     = []byte("format")
)

// format is the version of the layout in DESIGN.md.
const format = 1

// Open opens the store in dir, or makes a new one. A damaged file is moved aside with a warning. An error is a
// *fleet.Error that names the file: it is in use, of a newer version, or cannot be written or moved.
func Open(dir string, o Options) (*Store, error) {
	o = o.filled()
	path := filepath.Join(dir, FileName)
	db, err := openFile(path, o.Log)
	if err != nil {
		return nil, err
	}
	return &Store{
		o: o, path: path, db: db, turn: make(chan struct{}, 1), closed: make(chan struct{}),
		watch: map[fleet.UUID]map[*watcher]struct{}{},
	}, nil
}

// Close ends all watches, waits for what is being written, and closes the file.
func (s *Store) Close() error {
	s.closing.Do(func() { close(s.closed) })
	return s.db.Close()
}

// Of returns the newest report of each node for a command, ordered by node ID. A command nobody reported on has none.
func (s *Store) Of(command fleet.UUID) (out []auth.Envelope, err error) {
	err = s.view(func(tx *bbolt.Tx) error {
		out = nil
		return eachKey(tx.Bucket(bucketReports).Bucket(command[:]), func(k, v []byte) error {
			if e, ok := s.read(command[:], k, v); ok {
				out = append(out, e)
			}
			return nil
		})
	})
	return out, err
}

// Facts returns the newest facts statement of each node.
func (s *Store) Facts() (map[fleet.ID]auth.Envelope, error) {
	out := map[fleet.ID]auth.Envelope{}
	err := s.view(func(tx *bbolt.Tx) error {
		return eachKey(tx.Bucket(bucketFacts), func(k, v []byte) error {
			if e, ok := s.read(bucketFacts, k, v); ok {
				out[fleet.ID(k)] = e
			}
			return nil
		})
	})
	return out, err
}

// eachKey is ForEach of a bucket that may not exist.
func eachKey(b *bbolt.Bucket, each func(k, v []byte) error) error {
	if b == nil {
		return nil
	}
	return b.ForEach(each)
}

// read decodes a value. One that is damaged reads as absent, so that the node's next report replaces it.
func (s *Store) read(scope, key, value []byte) (auth.Envelope, bool) {
	if value == nil {
		return auth.Envelope{}, false
	}
	e, err := openEntry(scope, key, value)
	if err != nil {
		s.saidOnce.Do(func() {
			s.o.Log.Warn("a stored report is damaged and left out; check the disk (this is said once per start)",
				"file", s.path, "node", fleet.ID(key), "err", err)
		})
	}
	return e, err == nil
}

// view runs one read transaction. It must be short: an open one keeps pages from being used again.
func (s *Store) view(look func(*bbolt.Tx) error) error {
	return s.trouble(guarded(func() error { return s.db.View(look) }))
}

// update runs one synced write transaction. The inner guard turns a panic into an error before bbolt rolls back: after a
// panic bbolt would walk the damaged file on a goroutine where nobody can recover.
func (s *Store) update(change func(*bbolt.Tx) error) error {
	return guarded(func() error {
		return s.db.Update(func(tx *bbolt.Tx) error {
			return guarded(func() error { return change(tx) })
		})
	})
}

var errClosed = errors.New("the report store is closed")
