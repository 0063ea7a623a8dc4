package shape

import (
	"time"

	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/release"
)

// Release is a release as a host has it.
type Release struct {
	Digest  fleet.ID       `json:"digest"`
	Version string         `json:"version"`
	Level   fleet.Level    `json:"level"`
	Date    time.Time      `json:"date"`
	Arches  []string       `json:"arches"`
	Signers []fleet.ID     `json:"signers"` // IDs of the keys that seem to have signed
	Trusted bool           `json:"trusted"` // as many of the fleet's keys have as the fleet asks for
	Builds  []ReleaseBuild `json:"builds"`
}

// ReleaseBuild is what a host has of a build.
type ReleaseBuild struct {
	Arch   string `json:"arch"`
	Packed int64  `json:"packed_bytes"`
	Chunks int    `json:"chunks"`
	Have   int    `json:"have_chunks"`
	Given  int    `json:"given_chunks"` // to others, since the agent started
}

// ReleaseFetch is the body of POST /v1/releases/DIGEST/fetch.
type ReleaseFetch struct {
	Sources []fleet.ID `json:"sources"` // nodes that have it
}

// ReleaseNews is one line of the answer.
type ReleaseNews struct {
	Chunks int             `json:"chunks,omitzero"`
	Have   int             `json:"have_chunks,omitzero"`
	Bytes  int64           `json:"bytes,omitzero"`
	Peers  int             `json:"peers,omitzero"`
	Open   int             `json:"open,omitzero"`
	Done   *ReleaseFetched `json:"done,omitempty"` // of the last line
}

// ReleaseFetched is what a fetch came to.
type ReleaseFetched struct {
	Release  Release `json:"release"`
	Path     string  `json:"path"`
	Bytes    int64   `json:"bytes"`
	Peers    int     `json:"peers"`
	Millis   int64   `json:"millis"`
	Chunks   int     `json:"chunks"`
	Resumed  int     `json:"resumed_chunks"`
	FromDisk bool    `json:"from_disk"`
}

// OfRelease returns the shape of r.
func OfRelease(r release.Release) Release {
	return Release{
		Digest: r.Digest, Version: r.Version, Level: r.Level, Date: At(r.Date), Arches: append([]string{}, r.Arches...),
		Signers: []fleet.ID{}, Builds: []ReleaseBuild{},
	}
}

// Release returns what OfRelease was given.
func (r Release) Release() release.Release {
	return release.Release{Digest: r.Digest, Version: r.Version, Level: r.Level, Date: Milli(r.Date), Arches: r.Arches}
}

// OfReleases returns the shape of all.
func OfReleases(all []release.Held) []Release {
	out := make([]Release, 0, len(all))
	for _, h := range all {
		r := OfRelease(h.Release)
		r.Trusted = h.Trusted
		for _, seal := range h.Signed.Seals {
			r.Signers = append(r.Signers, seal.Key)
		}
		for _, b := range h.Builds {
			r.Builds = append(r.Builds, ReleaseBuild(b))
		}
		out = append(out, r)
	}
	return out
}

// OfReleaseProgress returns the shape of p.
func OfReleaseProgress(p release.Progress) ReleaseNews {
	return ReleaseNews{Chunks: p.Chunks, Have: p.Have, Bytes: p.Bytes, Peers: p.Peers, Open: p.Open}
}

// Progress returns what OfReleaseProgress was given.
func (n ReleaseNews) Progress() release.Progress {
	return release.Progress{Chunks: n.Chunks, Have: n.Have, Bytes: n.Bytes, Peers: n.Peers, Open: n.Open}
}

// OfReleaseFetched returns the last line.
func OfReleaseFetched(f release.Fetched) ReleaseNews {
	return ReleaseNews{Done: &ReleaseFetched{
		Release: OfRelease(f.Release), Path: f.Path, Bytes: f.Bytes, Peers: f.Peers, Millis: f.Millis, Chunks: f.Chunks,
		Resumed: f.Resumed, FromDisk: f.FromDisk,
	}}
}

// Fetched returns what OfReleaseFetched was given.
func (f ReleaseFetched) Fetched() release.Fetched {
	return release.Fetched{
		Release: f.Release.Release(), Path: f.Path, Bytes: f.Bytes, Peers: f.Peers, Millis: f.Millis, Chunks: f.Chunks,
		Resumed: f.Resumed, FromDisk: f.FromDisk,
	}
}
