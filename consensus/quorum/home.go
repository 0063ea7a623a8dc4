package quorum

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/muster-fleet/muster/node/fleet"
)

// home is a replica's folder, opened and found good.
type home struct {
	identity  identity
	store     *store
	snapshots *snapshots
	newest    *raft.SnapshotMeta // nil if there is none
	restarted string             // why this is a new incarnation; empty if it is not
}

// openHome opens the replica in the folder, or begins one. What cannot be trusted is put aside where others hold the
// state, and refused where they do not.
func openHome(cfg Config, raftLog hclog.Logger) (*home, error) {
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fleet.Errorf(fleet.Unavailable, "cannot create %s: %w", cfg.Dir, err)
	}
	id, found, err := loadIdentity(cfg.Dir)
	if err != nil {
		return nil, err
	}
	if !found {
		return beginHome(cfg, raftLog, identity{}, "")
	}
	h, err := resumeHome(cfg, raftLog, id)
	if err == nil {
		return h, nil
	}
	cause, ok := errors.AsType[damaged](err)
	if !ok {
		return nil, err
	}
	if id.afterLoss(cfg.Self) == refuse {
		return nil, fleet.Errorf(fleet.Internal, "the replica of the fleet's only voter is unusable: %w", cause).
			Hinted("it is all there is, so nothing was changed; stop the agent, restore %s from a backup, start the agent", cfg.Dir)
	}
	aside, err := putAside(cfg.Dir)
	if err != nil {
		return nil, fleet.Errorf(fleet.Unavailable, "the replica is unusable (%w) and cannot be put aside: %s", cause, err)
	}
	h, err = beginHome(cfg, raftLog, id, cause.Error())
	if err != nil {
		return nil, err
	}
	cfg.Log.Warn("the replica is unusable; this node rejoins as a new incarnation",
		"why", cause.Error(), "moved", aside, "incarnation", h.identity.Incarnation)
	return h, nil
}

// beginHome starts an empty replica as an incarnation above the former.
func beginHome(cfg Config, raftLog hclog.Logger, former identity, reason string) (*home, error) {
	id := identity{Format: identityFormat, Incarnation: nextIncarnation(former.Incarnation, time.Now().Unix())}
	if former.Incarnation != 0 {
		id.Earlier = former.Earlier + 1
	}
	if err := os.MkdirAll(replicaPath(cfg.Dir), 0o700); err != nil {
		return nil, fleet.Errorf(fleet.Unavailable, "cannot create %s: %w", replicaPath(cfg.Dir), err)
	}
	// The identity comes first: should we die before the files exist, they count as lost and the next number is taken.
	if err := id.save(cfg.Dir); err != nil {
		return nil, err
	}
	mark, err := createMark(markPath(cfg.Dir), id.Incarnation)
	if err != nil {
		return nil, err
	}
	if err := syncDir(cfg.Dir); err != nil {
		return nil, errors.Join(fleet.Errorf(fleet.Unavailable, "cannot sync %s: %w", cfg.Dir, err), mark.close())
	}
	h := &home{identity: id, restarted: reason}
	if err := h.open(cfg, raftLog, mark); err != nil {
		return nil, err
	}
	if err := syncDir(replicaPath(cfg.Dir)); err != nil {
		return nil, errors.Join(fleet.Errorf(fleet.Unavailable, "cannot sync %s: %w", cfg.Dir, err), h.store.close())
	}
	return h, nil
}

// resumeHome examines and opens the replica that is there.
func resumeHome(cfg Config, raftLog hclog.Logger, id identity) (*home, error) {
	found, err := examineLog(logPath(cfg.Dir))
	if err != nil {
		return nil, err
	}
	mark, ok, err := openMark(markPath(cfg.Dir))
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, damagef("%s is missing or damaged", markPath(cfg.Dir))
	}
	newest, err := examineSnapshots(cfg.Dir, raftLog)
	if err != nil {
		return nil, errors.Join(err, mark.close())
	}
	var base uint64
	if newest != nil {
		base = newest.Index
	}
	if err := consistent(found, base, mark.now, id.Incarnation); err != nil {
		return nil, errors.Join(err, mark.close())
	}
	h := &home{identity: id, newest: newest}
	if err := h.open(cfg, raftLog, mark); err != nil {
		return nil, err
	}
	h.store.grown.Store(found.behind(base)) // or who starts often would never have grown enough for a snapshot
	return h, nil
}

func examineSnapshots(dir string, raftLog hclog.Logger) (*raft.SnapshotMeta, error) {
	files, err := openSnapshots(dir, nil, raftLog)
	if err != nil {
		return nil, err
	}
	if err := files.sweep(); err != nil {
		return nil, fleet.Errorf(fleet.Unavailable, "cannot delete unfinished snapshots: %w", err)
	}
	newest, err := files.examine()
	if err != nil {
		return nil, damaged{err}
	}
	return newest, nil
}

func (h *home) open(cfg Config, raftLog hclog.Logger, mark *mark) (err error) {
	defer panicked(&err, "cannot open "+logPath(cfg.Dir))
	h.store, err = openStore(logPath(cfg.Dir), mark, cfg.Log)
	if err != nil {
		return errors.Join(err, mark.close())
	}
	h.snapshots, err = openSnapshots(cfg.Dir, mark, raftLog)
	if err != nil {
		return errors.Join(err, h.store.close())
	}
	return nil
}

// putAside moves the replica's files to damaged-<n> for people to look at, and deletes what was put aside long ago.
func putAside(dir string) (aside string, err error) {
	if err := forget(dir); err != nil {
		return "", err
	}
	for n := range damageTries {
		aside = filepath.Join(dir, fmt.Sprintf("damaged-%d", n+1))
		err = os.Mkdir(aside, 0o700)
		if !errors.Is(err, os.ErrExist) {
			break
		}
	}
	if err != nil {
		return "", err
	}
	for _, path := range []string{replicaPath(dir), markPath(dir)} {
		err := os.Rename(path, filepath.Join(aside, filepath.Base(path)))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return "", err
		}
	}
	return aside, syncDir(dir)
}

// forget deletes folders put aside until there is room for one more.
func forget(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	type old struct {
		path string
		at   time.Time
	}
	var kept []old
	for _, entry := range entries {
		info, err := entry.Info()
		if err == nil && entry.IsDir() && strings.HasPrefix(entry.Name(), "damaged-") {
			kept = append(kept, old{filepath.Join(dir, entry.Name()), info.ModTime()})
		}
	}
	for len(kept) >= damagedKept {
		oldest := 0
		for i := range kept {
			if kept[i].at.Before(kept[oldest].at) {
				oldest = i
			}
		}
		err = errors.Join(err, os.RemoveAll(kept[oldest].path))
		kept = append(kept[:oldest], kept[oldest+1:]...)
	}
	return err
}
