package agent

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
	"github.com/muster-fleet/muster/node/release"
)

const (
	// releaseAsked is for how long a manifest is asked for, and releaseAskAgain how long after every source failed.
	releaseAsked    = time.Minute
	releaseAskAgain = 2 * time.Second
	// maxSources is how many hosts are asked for a manifest, by name or of their own accord.
	maxSources = 16
	// progressEvery is how often a caller hears how far a fetch is.
	progressEvery = 250 * time.Millisecond
)

// fetch is a release on its way to this host. Callers come and go; when the last is gone it ends.
type fetch struct {
	stop    context.CancelFunc
	over    chan struct{} // closed when it has ended, and fetched and err are there
	heard   chan fleet.ID // hosts that fetch the same
	callers int           // releases.mu guards it
	fetched release.Fetched
	err     error

	mu       sync.Mutex
	progress release.Progress
	sources  []fleet.ID // hosts of which callers say that they have it
}

// meet adds hosts of which a caller says that they have the release.
func (f *fetch) meet(sources []fleet.ID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, id := range sources {
		if len(f.sources) >= maxSources || slices.Contains(f.sources, id) {
			continue
		}
		f.sources = append(f.sources, id)
		select {
		case f.heard <- id:
		default: // only who comes late is not heard of
		}
	}
}

func (f *fetch) named() []fleet.ID {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.sources)
}

func (f *fetch) tell(p release.Progress) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.progress = p
}

func (f *fetch) told() release.Progress {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.progress
}

// FetchRelease brings a release to this host, from others unless it is here, and returns the path of its binary for this host.
func (a *Agent) FetchRelease(ctx context.Context, digest fleet.ID, sources []fleet.ID, each func(release.Progress) error) (release.Fetched, error) {
	if err := a.needReleases(); err != nil {
		return release.Fetched{}, err
	}
	f := a.joinFetch(digest, sources)
	defer a.leaveFetch(f)
	tick := time.NewTicker(progressEvery)
	defer tick.Stop()
	for {
		select {
		case <-f.over:
			return f.fetched, f.err
		case <-ctx.Done():
			return release.Fetched{}, ctx.Err()
		case <-tick.C:
			if p := f.told(); p.Chunks > 0 {
				if err := each(p); err != nil {
					return release.Fetched{}, err
				}
			}
		}
	}
}

// joinFetch returns the fetch of a release that is under way, or begins it.
func (a *Agent) joinFetch(digest fleet.ID, sources []fleet.ID) *fetch {
	r := &a.releases
	r.mu.Lock()
	defer r.mu.Unlock()
	f, over := r.fetches[digest], make(chan struct{})
	close(over)
	if f != nil && f.callers == 0 { // it is ending, for nobody wanted it: what follows is another one
		over, f = f.over, nil
	}
	if f == nil {
		ctx, stop := context.WithCancel(context.Background()) // it belongs to all its callers, and ends with the last
		f = &fetch{stop: stop, over: make(chan struct{}), heard: make(chan fleet.ID, maxSources)}
		r.fetches[digest] = f
		f.meet(sources) // before it looks whom to ask
		go func() {
			<-over
			f.fetched, f.err = a.fetchRelease(ctx, f, digest)
			r.mu.Lock()
			if r.fetches[digest] == f {
				delete(r.fetches, digest)
			}
			r.mu.Unlock()
			stop()
			close(f.over)
		}()
	}
	f.callers++
	f.meet(sources) // who joins may know others
	return f
}

func (a *Agent) leaveFetch(f *fetch) {
	a.releases.mu.Lock()
	defer a.releases.mu.Unlock()
	if f.callers--; f.callers == 0 {
		f.stop()
	}
}

func (a *Agent) fetchRelease(ctx context.Context, f *fetch, digest fleet.ID) (release.Fetched, error) {
	began := a.cfg.Clock().Boot
	signed, m, err := a.findManifest(ctx, f, digest)
	if err != nil {
		return release.Fetched{}, err
	}
	build, done, err := a.releases.shell.Take(signed, m, a.releases.arch)
	if err != nil {
		return release.Fetched{}, err
	}
	defer done()
	had := build.Have().Count()
	out := release.Fetched{Release: release.Of(digest, m), Chunks: len(build.Of().Chunks), Resumed: had, FromDisk: had == len(build.Of().Chunks)}
	l := newLines(a, f, build, digest)
	if !out.FromDisk {
		if err := l.run(ctx, a.sourcesOf(f)); err != nil {
			return out, err
		}
	}
	out.Bytes, out.Peers = l.bytes, len(l.gave)
	out.Path, err = build.Unpack()
	out.Millis = (a.cfg.Clock().Boot - began).Milliseconds()
	return out, err
}

// sourcesOf returns who is asked for a release: the hosts that were named; if none were, some of those that are there, servers first.
func (a *Agent) sourcesOf(f *fetch) []fleet.ID {
	out := f.named()
	if len(out) > 0 {
		return out
	}
	take := func(id fleet.ID) {
		if len(out) < maxSources && id != a.self && a.alive(id) && !slices.Contains(out, id) {
			out = append(out, id)
		}
	}
	for _, id := range a.servers() {
		take(id)
	}
	for n := range a.record().Roster.All() {
		take(n.ID)
	}
	return out
}

// findManifest returns a release's manifest, which was verified: from the disk, or from a source. What one source says decides
// nothing as long as another may have the release with signatures that the fleet takes.
func (a *Agent) findManifest(ctx context.Context, f *fetch, digest fleet.ID) (release.Signed, release.Manifest, error) {
	signed, m, here := a.heldManifest(digest)
	if here == nil {
		return signed, m, nil
	} // one with more signatures may be elsewhere
	ctx, cancel := context.WithTimeout(ctx, releaseAsked)
	defer cancel()
	why, denied := here, error(nil)
	for {
		all := true // of those who were asked said what is final
		for _, from := range a.sourcesOf(f) {
			if from == a.self {
				continue
			}
			signed, m, err := a.askManifest(ctx, from, digest)
			switch {
			case err == nil:
				return signed, m, nil
			case final(err):
				denied = err
				continue
			case ctx.Err() == nil: // what is cut off at the end says nothing
				why = fleet.Errorf(fleet.KindOf(err), "%s: %w", a.nameOf(from), err)
			}
			all = false
		}
		if len(f.named()) == 0 {
			return signed, release.Manifest{}, cmp.Or(denied, here)
		}
		if all && denied != nil {
			return signed, release.Manifest{}, denied
		}
		select {
		case <-ctx.Done():
			return signed, release.Manifest{}, cmp.Or(denied, error(fleet.Errorf(fleet.Unavailable, "nobody of those who have the release gives it: %w", why).
				Hinted("is the node that it was brought to up? muster node list")))
		case <-time.After(releaseAskAgain):
		}
	}
}

// heldManifest returns the manifest that lies on this host's disk.
func (a *Agent) heldManifest(digest fleet.ID) (release.Signed, release.Manifest, error) {
	signed, err := a.releases.shell.Signed(digest)
	if err != nil {
		return signed, release.Manifest{}, err
	}
	return a.verifyRelease(signed)
}

// final reports whether another try would come to the same: the fleet does not take the release as it was given.
func final(err error) bool { return fleet.KindOf(err) == fleet.Denied }

func (a *Agent) askManifest(ctx context.Context, from, digest fleet.ID) (release.Signed, release.Manifest, error) {
	signed, err := a.receiveManifest(ctx, from, digest)
	if err != nil {
		return signed, release.Manifest{}, fleet.Errorf(fleet.Unavailable, "%w", err) // whatever that host says, it decides nothing here
	}
	return a.verifyRelease(signed)
}

func (a *Agent) receiveManifest(ctx context.Context, from, digest fleet.ID) (signed release.Signed, err error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	s, err := a.peers.OpenBulk(ctx, from)
	if err != nil {
		return signed, err
	}
	defer s.Close()
	defer context.AfterFunc(ctx, func() { s.Close() })()
	if err := s.WriteFrame(askRelease, wire.Marshal(releaseAsk{digest})); err != nil {
		return signed, saidInstead(s, err)
	}
	kind, body, err := s.ReadFrame()
	if err != nil {
		return signed, err
	}
	if kind != releaseSigned {
		return signed, fleet.Errorf(fleet.Invalid, "frame of kind %d in place of a manifest", kind)
	}
	if signed, err = release.DecodeSigned(body); err != nil {
		return signed, err
	}
	if signed.Digest() != digest {
		return signed, fleet.Errorf(fleet.Denied, "it gave the manifest of another release")
	}
	return signed, nil
}
