package quorum

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/muster-fleet/muster/node/fleet"
)

// snapshots is raft's file store, which checks a snapshot's state when it opens it, with two things added: a checksum
// of the snapshot's metadata (index, term, configuration), and a note in the mark of how far snapshots have come.
type snapshots struct {
	*raft.FileSnapshotStore
	dir    string
	mark   *mark
	stored func(configuration raft.Configuration, configurationIndex uint64)
	newest atomic.Uint64 // index
}

const checkFile = "check" // beside meta.json: SHA-256 of it

func snapshotDir(dir string) string { return filepath.Join(replicaPath(dir), "snapshots") }

func openSnapshots(dir string, mark *mark, log hclog.Logger) (*snapshots, error) {
	files, err := raft.NewFileSnapshotStoreWithLogger(replicaPath(dir), snapshotsKept, log)
	if err != nil {
		return nil, fleet.Errorf(fleet.Unavailable, "cannot open the snapshots in %s: %w", replicaPath(dir), err)
	}
	return &snapshots{FileSnapshotStore: files, dir: snapshotDir(dir), mark: mark}, nil
}

// Create begins a snapshot, whether taken here or received.
func (s *snapshots) Create(version raft.SnapshotVersion, index, term uint64, configuration raft.Configuration,
	configurationIndex uint64, transport raft.Transport,
) (raft.SnapshotSink, error) {
	sink, err := s.FileSnapshotStore.Create(version, index, term, configuration, configurationIndex, transport)
	if err != nil {
		return nil, err
	}
	return &snapshotSink{SnapshotSink: sink, done: func() error {
		if err := s.seal(sink.ID()); err != nil {
			return err
		}
		s.newest.Store(index)
		s.stored(configuration, configurationIndex)
		return s.mark.stored(index)
	}}, nil
}

type snapshotSink struct {
	raft.SnapshotSink
	done func() error
}

// Close makes the snapshot durable.
func (s *snapshotSink) Close() error {
	if err := s.SnapshotSink.Close(); err != nil {
		return err
	}
	return s.done()
}

func (s *snapshots) seal(id string) error {
	meta, err := os.ReadFile(filepath.Join(s.dir, id, "meta.json"))
	if err != nil {
		return err
	}
	sum := sha256.Sum256(meta)
	return writeDurably(filepath.Join(s.dir, id, checkFile), sum[:])
}

// sweep deletes snapshots that were never finished.
func (s *snapshots) sweep() error {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if strings.HasSuffix(entry.Name(), ".tmp") {
			err = errors.Join(err, os.RemoveAll(filepath.Join(s.dir, entry.Name())))
		}
	}
	return err
}

// examine returns the newest snapshot, nil if there is none, after checking it. Any snapshot whose metadata cannot be
// trusted is damage, because it might be the newest.
func (s *snapshots) examine() (*raft.SnapshotMeta, error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, err
	}
	for _, entry := range entries {
		if !entry.IsDir() || strings.HasSuffix(entry.Name(), ".tmp") {
			continue
		}
		if err := s.examineMeta(entry.Name()); err != nil {
			return nil, err
		}
	}
	list, err := s.List()
	if err != nil || len(list) == 0 {
		return nil, err
	}
	_, content, err := s.Open(list[0].ID)
	if err != nil {
		return nil, fleet.Errorf(fleet.Internal, "snapshot %s is damaged: %w", filepath.Join(s.dir, list[0].ID), err)
	}
	return list[0], content.Close()
}

func (s *snapshots) examineMeta(id string) error {
	meta, err := os.ReadFile(filepath.Join(s.dir, id, "meta.json"))
	if err != nil {
		return fleet.Errorf(fleet.Internal, "snapshot %s is damaged: %w", filepath.Join(s.dir, id), err)
	}
	want, err := os.ReadFile(filepath.Join(s.dir, id, checkFile))
	if errors.Is(err, os.ErrNotExist) {
		return s.seal(id) // a crash between raft's rename and ours
	}
	if err != nil {
		return err
	}
	if sum := sha256.Sum256(meta); !bytes.Equal(sum[:], want) {
		return fleet.Errorf(fleet.Internal, "snapshot %s is damaged: the checksum of meta.json is wrong", filepath.Join(s.dir, id))
	}
	return nil
}
