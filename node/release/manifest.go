package release

import (
	"slices"
	"time"

	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

// Bounds of a release.
const (
	// ChunkSize is the size of all chunks of a packed binary but the last, in bytes: 25 MB are a hundred of them, so that hosts
	// have something to swap soon, and a digest of each takes little of the manifest.
	ChunkSize = 256 << 10
	// MaxChunks is how many chunks one packed binary has at most: 64 MiB, six times what muster packs to.
	MaxChunks = 256
	// MaxPacked is how many bytes one packed binary has at most.
	MaxPacked = MaxChunks * ChunkSize
	// MaxBinary is how many bytes it unpacks to at most.
	MaxBinary = 128 << 20
	// MaxBuilds is how many architectures a release has at most.
	MaxBuilds = 4
	// MaxVersion bounds the text of a version, in bytes.
	MaxVersion = 64
	// MaxManifest bounds the encoded manifest, in bytes: MaxBuilds times MaxChunks digests take 36 KiB.
	MaxManifest = 48 << 10
)

// Build is the program for one architecture.
type Build struct {
	Arch   string     // as Go names it: amd64, arm64, arm
	Size   int64      // of the binary, bytes
	Sum    fleet.ID   // SHA-256 of the binary
	Packed int64      // of the binary in gzip's form, bytes
	Chunks []fleet.ID // SHA-256 of each ChunkSize bytes of that, in order
}

// Manifest is what a release's signatures stand for. Purpose auth.ForRelease, fleet ID zero.
//
// Header.ID is made of the rest, Header.Issued is the release's date; the other fields of Header are zero. So the same sources
// make the same manifest and, Ed25519 being deterministic, the same file.
type Manifest struct {
	Header  auth.Header
	Version string      // as muster version says it
	Level   fleet.Level // the newest that the program knows
	Builds  []Build
}

// NewManifest makes the manifest of builds, which it sorts.
func NewManifest(version string, level fleet.Level, date time.Time, builds []Build) (Manifest, error) {
	builds = slices.Clone(builds)
	slices.SortFunc(builds, func(a, b Build) int { return compareText(a.Arch, b.Arch) })
	m := Manifest{Header: auth.Header{Issued: date.UnixMilli()}, Version: version, Level: level, Builds: builds}
	m.Header.ID = m.ownID()
	return m, m.Check()
}

// Check reports what is wrong with a manifest, or nil. Who signed it may be mistaken or mean no good, too: nothing behind this
// looks again.
func (m Manifest) Check() error {
	h := m.Header
	switch {
	case h.ID != m.ownID() || h.Expires != 0 || !h.Charter.IsZero() || h.Act != 0 || h.Mode != 0:
		return damaged("its header is not that of a release")
	case h.Issued <= 0 || h.Issued > auth.MaxTime:
		return damaged("its date is none")
	case m.Level == 0:
		return damaged("it names no fleet level")
	case len(m.Builds) == 0 || len(m.Builds) > MaxBuilds:
		return damaged("it is for %d architectures; from 1 to %d are possible", len(m.Builds), MaxBuilds)
	}
	if _, err := ParseVersion(m.Version); err != nil {
		return err
	}
	for i, b := range m.Builds {
		if i > 0 && m.Builds[i-1].Arch >= b.Arch {
			return damaged("its architectures are not in order")
		}
		if err := b.check(); err != nil {
			return err
		}
	}
	return nil
}

func (b Build) check() error {
	switch {
	case !slices.Contains(Arches(), b.Arch):
		return damaged("%q is no architecture of this program", cut(b.Arch))
	case b.Size <= 0 || b.Size > MaxBinary:
		return damaged("its binary for %s would have %d bytes; at most %d are possible", b.Arch, b.Size, MaxBinary)
	case b.Packed <= 0 || b.Packed > MaxPacked:
		return damaged("its binary for %s would be packed into %d bytes; at most %d are possible", b.Arch, b.Packed, MaxPacked)
	case int64(len(b.Chunks)) != (b.Packed+ChunkSize-1)/ChunkSize:
		return damaged("it has %d chunks for %d bytes of %s", len(b.Chunks), b.Packed, b.Arch)
	}
	return nil
}

// Arches lists the architectures that releases are made for, as Go names them.
func Arches() []string { return []string{"amd64", "arm", "arm64"} }

// ChunkLen returns the size of a chunk, in bytes.
func (b Build) ChunkLen(index int) int {
	return int(min(ChunkSize, b.Packed-int64(index)*ChunkSize))
}

// Holds reports whether data is the chunk of that number.
func (b Build) Holds(index int, data []byte) bool {
	return 0 <= index && index < len(b.Chunks) && len(data) == b.ChunkLen(index) && fleet.Sum(data) == b.Chunks[index]
}

// Build returns what a release has for an architecture, or why it has nothing.
func (m Manifest) Build(arch string) (Build, error) {
	for _, b := range m.Builds {
		if b.Arch == arch {
			return b, nil
		}
	}
	return Build{}, fleet.Errorf(fleet.Invalid, "release %s has no binary for %s", m.Version, cut(arch)).
		Hinted("it is for %s: upgrade hosts of these (--target 'arch=…'), or make a release with --arch %s", joined(m.Arches()), cut(arch))
}

// Arches lists what a release is for.
func (m Manifest) Arches() []string {
	var out []string
	for _, b := range m.Builds {
		out = append(out, b.Arch)
	}
	return out
}

// Packed returns how many bytes all its builds have.
func (m Manifest) Packed() (n int64) {
	for _, b := range m.Builds {
		n += b.Packed
	}
	return n
}

// Release is what one has to know of a release.
type Release struct {
	Digest  fleet.ID // of the signed bytes: it names the release, whoever signed
	Version string
	Level   fleet.Level
	Date    int64 // Unix milliseconds
	Arches  []string
}

// Of returns what one has to know of a manifest whose digest is known.
func Of(digest fleet.ID, m Manifest) Release {
	return Release{Digest: digest, Version: m.Version, Level: m.Level, Date: m.Header.Issued, Arches: m.Arches()}
}

// ownID is the statement ID of a manifest: a hash, so that making it anew makes it the same.
func (m Manifest) ownID() fleet.UUID {
	m.Header.ID = fleet.UUID{}
	sum := digestOf(m)
	return fleet.UUID(sum[:16])
}
