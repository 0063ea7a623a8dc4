package host

import (
	"context"
	"io/fs"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/api"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/decisions"
	"github.com/muster-fleet/muster/node/release/store"
	"github.com/muster-fleet/muster/node/session/archive"
	"github.com/muster-fleet/muster/node/session/cast"
)

// Folders of the data folder that have an owner of their own.
const (
	raftName      = "raft"
	reportsName   = "reports"
	decisionsName = "decisions"
	copiesName    = "copies"
	sessionsName  = "sessions"
	leavingName   = "recordings-leaving"
	archiveName   = "recordings"
	releasesName  = "releases"
	documentsName = "documents"
	paramsName    = "params"
)

// keepEvery is how often the fleet's settings are looked at for what this host keeps.
const keepEvery = 10 * time.Second

// keepAsSet makes the runner keep as much output as the fleet's settings say, whenever they change.
func (h *Host) keepAsSet(ctx context.Context) {
	if h.runner == nil {
		return
	}
	tick := time.NewTicker(keepEvery)
	defer tick.Stop()
	for {
		h.runner.KeepBytes(h.outputKeep(h.Agent.Record().Settings))
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// Policy returns the text of the policy that this host judges by.
func (d desk) Policy(context.Context) string {
	if c := d.Record().Charter; c != nil {
		return c.Policy().Text()
	}
	return ""
}

func (d desk) Groups(context.Context) []auth.Group { return d.Record().Groups.All() }

func (d desk) Settings(context.Context) []auth.Setting { return d.Record().Settings.All() }

// Usage says what the parts of the data folder take of their disk, the largest keepers first.
func (d desk) Usage(context.Context) []api.Store {
	dir := d.host.opts.Dir
	free := freeBytes(dir)
	var out []api.Store
	if d.host.runner != nil {
		u := d.host.runner.Usage()
		out = append(out,
			api.Store{What: "runs and their output", Path: u.Path, Bytes: u.Bytes, Bound: u.Bound, Items: int64(u.Runs), Free: free},
			api.Store{What: "ledger", Path: dir, Bytes: u.Ledger, Free: free})
	}
	for _, part := range []struct {
		what, name string
		bound      int64
	}{
		{"reports", reportsName, 0}, {"replicated state", raftName, 0}, {"decisions", decisionsName, decisions.DefaultMaxBytes},
		{"documents", documentsName, 0}, {"parameters read here", paramsName, node.MaxCopyBytes}, {"output to be copied", copiesName, 0},
		{"sessions and their recordings", sessionsName, cast.DefaultKeep().Bytes}, {"recordings of other nodes", archiveName, archive.DefaultRoom().Bytes},
		{"releases", releasesName, store.MaxBytes},
	} {
		path := filepath.Join(dir, part.name)
		if bytes, files := taken(path); files > 0 {
			out = append(out, api.Store{What: part.what, Path: path, Bytes: bytes, Bound: part.bound, Items: files, Free: free})
		}
	}
	return out
}

func freeBytes(dir string) int64 {
	var disk unix.Statfs_t
	if unix.Statfs(dir, &disk) != nil {
		return 0
	}
	return int64(disk.Bavail) * int64(disk.Bsize)
}

// taken counts the bytes on the disk and the files below a folder. What vanishes meanwhile is not counted.
func taken(path string) (bytes, files int64) {
	_ = filepath.WalkDir(path, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return nil
		}
		info, err := entry.Info()
		if err != nil {
			return nil
		}
		files++
		if stat, ok := info.Sys().(*syscall.Stat_t); ok {
			bytes += stat.Blocks * 512
		}
		return nil
	})
	return bytes, files
}
