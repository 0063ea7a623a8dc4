package action

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"time"

	"github.com/muster-fleet/muster/exec/document"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/release"
	"github.com/muster-fleet/muster/node/upgrade"
)

// upgrade brings the agent of this host to another version (aws:updateSsmAgent).
func (h host) upgrade(ctx context.Context, in document.Upgrade) error {
	if in.Source != "" {
		return fleet.Errorf(fleet.Invalid, "source is for agents of AWS's; releases of muster come from the fleet").Hinted("muster upgrade --to FILE")
	}
	agent, err := h.theAgent()
	if err != nil {
		return err
	}
	began := h.now()
	digest, sources, err := which(ctx, agent, in)
	if err != nil {
		return err
	}
	status, err := agent.Status(ctx)
	if err != nil {
		return err
	}
	got, err := agent.FetchRelease(ctx, digest, sources, h.tellProgress())
	if err != nil {
		return err
	}
	level, err := agent.Level(ctx)
	if err == nil {
		err = upgrade.May(status.Version, level, got.Release, in.AllowDowngrade)
	}
	if err != nil {
		return err
	}
	if in.DownloadOnly {
		h.sayOut("release %s is on this host: %s", got.Release.Version, brought(got, h.now().Sub(began)))
		return nil
	}
	return h.carry(ctx, agent, got, began)
}

// carry has the agent take up the release that was fetched.
func (h host) carry(ctx context.Context, agent Agent, got release.Fetched, began time.Time) error {
	order := upgrade.Order{
		Agent: agent, Socket: h.socket, DataDir: h.dataDir, Binary: got.Path, Arch: runtime.GOARCH,
		To: upgrade.Build{Version: got.Release.Version, Level: fleet.Level(got.Release.Level)}, Level: fleet.LevelNewest, Say: h.say,
		LetGo: h.letGo,
	}
	out, err := order.Carry(ctx)
	if err != nil {
		return err
	}
	if out.Already {
		h.sayOut("%s runs here already", out.To)
		return nil
	}
	h.sayOut("%s → %s: %s; the agent was away for %s", out.From, out.To, brought(got, h.now().Sub(began)), out.Away.Round(100*time.Millisecond))
	return nil
}

// letGo has the run's supervisor let go of what this act leaves behind: the agent is no part of the run.
func (h host) letGo() error {
	command, err := fleet.ParseUUID(h.getenv(commandIDVariable))
	if err != nil || h.ways.LetGo == nil { // nobody supervises this
		return nil
	}
	return h.ways.LetGo(h.dataDir, command)
}

// which finds out which release is meant, and who has it.
func which(ctx context.Context, agent Agent, in document.Upgrade) (digest fleet.ID, sources []fleet.ID, err error) {
	for word := range strings.SplitSeq(in.Sources, ",") {
		if word == "" {
			continue
		}
		id, err := fleet.ParseID(word)
		if err != nil {
			return digest, nil, fleet.Errorf(fleet.Invalid, "sources: %w", err)
		}
		sources = append(sources, id)
	}
	if in.Release != "" {
		digest, err = fleet.ParseID(in.Release)
		return digest, sources, err
	}
	known, err := agent.Releases(ctx)
	if err != nil {
		return digest, nil, err
	}
	r, err := choose(known, in.TargetVersion)
	return r.Digest, sources, err
}

// choose picks the release of a version, or the newest.
func choose(known []release.Release, version string) (release.Release, error) {
	var best release.Release
	for _, r := range known {
		switch {
		case version != "" && r.Version != version:
		case best.Version == "" || release.NotOlder(best.Version, r) == nil:
			best = r
		}
	}
	switch {
	case best.Version != "":
		return best, nil
	case version == "":
		return best, fleet.Errorf(fleet.NotFound, "the agent of this host has no release that the fleet takes").Hinted("muster upgrade --to FILE brings one")
	}
	return best, fleet.Errorf(fleet.NotFound, "the agent of this host has no release %s that the fleet takes", version).Hinted("muster upgrade --to FILE brings one")
}

// progressEvery is how often an upgrade says how far its download is.
const progressEvery = 10 * time.Second

func (h host) tellProgress() func(release.Progress) {
	last := h.now()
	return func(p release.Progress) {
		if now := h.now(); now.Sub(last) >= progressEvery {
			last = now
			h.say("%d of %d pieces are here, %s from %s", p.Have, p.Chunks, megabytes(p.Bytes), nodes(p.Peers))
		}
	}
}

// brought says how a release came.
func brought(got release.Fetched, took time.Duration) string {
	if got.FromDisk {
		return fmt.Sprintf("it was here before, %.1f s", took.Seconds())
	}
	return fmt.Sprintf("%s from %s, %.1f s", megabytes(got.Bytes), nodes(got.Peers), took.Seconds())
}

func nodes(n int) string {
	if n == 1 {
		return "1 node"
	}
	return fmt.Sprintf("%d nodes", n)
}

func megabytes(n int64) string { return fmt.Sprintf("%.1f MB", float64(n)/1e6) }
