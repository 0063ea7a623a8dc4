package agent

import (
	"context"
	"io"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/muster-fleet/muster/exec/document"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/release"
)

// Releases go from host to host on the bulk plane. askRelease there brings the manifest as it was signed; askChunks is followed
// by a release.Hello, and then by a chunk or a none for every want.
const (
	askRelease byte = 38 // releaseAsk → releaseSigned
	askChunks  byte = 39 // release.BuildAsk → releaseHello

	releaseSigned byte = 0x49 // release.Signed
	releaseHello  byte = 0x4a // release.Hello
	releaseWant   byte = 0x4b // release.Ask → releaseChunk or releaseNone
	releaseChunk  byte = 0x4c // release.Chunk
	releaseNone   byte = 0x4d // release.None
)

type releaseAsk struct{ Digest fleet.ID }

// Releases keeps releases on this host's disk.
type Releases interface {
	// List returns what is kept, the newest in use first.
	List(keys auth.ReleaseKeys, trusted bool) []release.Held
	// Signed returns a manifest as it was signed. NotFound: there is none.
	Signed(digest fleet.ID) (release.Signed, error)
	// Build returns what is here of a build. NotFound: nothing is.
	Build(digest fleet.ID, arch string) (KeptBuild, error)
	// Take begins, or goes on, to keep a build of a release that was verified, until done is called.
	Take(signed release.Signed, m release.Manifest, arch string) (b KeptBuild, done func(), err error)
	// Import reads a release file in; verify judges its signatures before anything else is read, and returns those to keep. What was
	// given to others lately makes way for it only where evict says so.
	Import(r io.Reader, evict bool, verify func(release.Signed) (release.Signed, release.Manifest, error)) (release.Release, error)
	// Drop lets a build go of which not all is here. NotFound: nothing is.
	Drop(digest fleet.ID, arch string) error
}

// KeptBuild is what is here of a build. Its methods may be called from any goroutine.
type KeptBuild interface {
	Of() release.Build
	Have() release.Bits
	// Read reads a chunk, which it verifies, into data.
	Read(index int, data []byte) error
	// Write keeps a chunk if it is the manifest's.
	Write(index int, data []byte) error
	// Unpack returns the path of the binary, which may be run.
	Unpack() (string, error)
}

// releases is what an agent knows of releases beside what lies on the disk.
type releases struct {
	shell Releases // nil: none are kept here
	arch  string   // of this host
	seed  uint64
	sent  atomic.Int64 // bytes of chunks
	got   atomic.Int64
	// sending holds one for each chunk that is being sent.
	sending chan struct{}

	mu      sync.Mutex
	givers  map[buildKey]*release.Giver
	slots   []*slot
	fetches map[fleet.ID]*fetch
}

// buildKey names one build of a release.
type buildKey = release.BuildAsk

func newReleases(seed uint64) releases {
	return releases{
		arch: runtime.GOARCH, seed: seed, sending: make(chan struct{}, releaseSending), givers: map[buildKey]*release.Giver{}, fetches: map[fleet.ID]*fetch{},
	}
}

// ReleaseStats is what went from and to this host of releases since the agent started, in bytes.
type ReleaseStats struct{ Sent, Got int64 }

// ReleaseStats returns it.
func (a *Agent) ReleaseStats() ReleaseStats {
	return ReleaseStats{Sent: a.releases.sent.Load(), Got: a.releases.got.Load()}
}

func (a *Agent) needReleases() error {
	if a.releases.shell == nil {
		return fleet.Errorf(fleet.Unavailable, "%s keeps no releases", a.cfg.Name).Hinted("its log says why; its data folder must be writable")
	}
	return nil
}

// verifyRelease judges a release by the fleet's setting, as this host's own record has it, and returns it with what was verified.
func (a *Agent) verifyRelease(s release.Signed) (release.Signed, release.Manifest, error) {
	return s.Take(a.record().Settings.ReleaseKeys())
}

// PutRelease reads a release file in, for this host's root, or for an operator whom policy lets bring it.
func (a *Agent) PutRelease(_ context.Context, file io.Reader, by release.Bringer) (release.Release, error) {
	if err := a.needReleases(); err != nil {
		return release.Release{}, err
	}
	asked, evict, err := a.mayBring(by)
	if err != nil {
		return release.Release{}, err
	}
	got, err := a.releases.shell.Import(file, evict, func(s release.Signed) (release.Signed, release.Manifest, error) {
		if len(by.Signed) > 0 && s.Digest() != asked {
			return s, release.Manifest{}, fleet.Errorf(fleet.Denied, "the operator signed for another release than this one")
		}
		return a.verifyRelease(s)
	})
	if err == nil {
		a.log.Info("a release was brought here", "release", got.Digest, "version", got.Version)
	}
	return got, err
}

// mayBring asks policy of whoever brings a release, unless it is this host's root. asked is the release that an operator signed
// for, and evict whether one that is given to others may make way.
func (a *Agent) mayBring(by release.Bringer) (asked fleet.ID, evict bool, err error) {
	record := a.record()
	var op auth.Operator
	switch {
	case len(by.Signed) > 0:
		var ask release.PutAsk
		ask, op, err = release.OpenPut(record.Charter, by.Signed[0], a.now())
		asked = ask.Digest
	case len(by.Key) > 0:
		op, err = record.Charter.Current(by.Key[0], a.now())
	default:
		return asked, true, nil
	}
	if err == nil {
		evict, err = release.MayPut(record, a.self, op, document.UpgradeName)
	}
	return asked, evict, err
}

// Releases lists what lies on this host.
func (a *Agent) Releases(context.Context) []release.Held {
	if a.releases.shell == nil {
		return nil
	}
	all := a.releases.shell.List(a.record().Settings.ReleaseKeys())
	a.releases.mu.Lock()
	defer a.releases.mu.Unlock()
	for _, h := range all {
		for i, b := range h.Builds {
			if g := a.releases.givers[buildKey{Digest: h.Digest, Arch: b.Arch}]; g != nil {
				h.Builds[i].Given = g.Given()
			}
		}
	}
	return all
}

// GiveUpRelease ends the fetch of a release and lets go of what came of it. What is here whole stays.
func (a *Agent) GiveUpRelease(_ context.Context, digest fleet.ID) error {
	if err := a.needReleases(); err != nil {
		return err
	}
	a.releases.mu.Lock()
	f := a.releases.fetches[digest]
	a.releases.mu.Unlock()
	if f != nil {
		f.stop()
		<-f.over
	}
	return a.releases.shell.Drop(digest, a.releases.arch)
}
