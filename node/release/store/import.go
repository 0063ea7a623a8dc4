package store

import (
	"bytes"
	"errors"
	"io"
	"os"

	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/release"
)

// Import reads a release file in. verify judges the signatures, before anything else is read, and returns those that are kept
// (release.Signed.Take); every chunk is judged before it is kept. What was not here before and is not whole when it fails does not
// stay. evict lets a release make way that was given to others lately.
func (s *Store) Import(r io.Reader, evict bool, verify func(release.Signed) (release.Signed, release.Manifest, error)) (release.Release, error) {
	signed, err := release.ReadHeader(r)
	if err != nil {
		return release.Release{}, err
	}
	signed, m, err := verify(signed)
	if err != nil {
		return release.Release{}, err
	}
	out := release.Of(signed.Digest(), m)
	k, builds, err := s.take(signed, m, evict)
	if err != nil {
		return out, err
	}
	before := k.whole()
	err = release.ReadBuilds(r, m, func(b release.Build, index int, data []byte) error {
		if builds[b.Arch].Have().Has(index) {
			return nil
		}
		return builds[b.Arch].Write(index, data)
	})
	for _, b := range builds {
		if err == nil {
			err = b.sync()
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.taken = false
	k.inUse--
	if err != nil {
		if k.inUse == 0 && !before {
			s.remove(k)
		}
		return out, s.explain(err)
	}
	return out, nil
}

// take opens all builds of a release for writing. One file is read in at a time.
func (s *Store) take(signed release.Signed, m release.Manifest, evict bool) (*kept, map[string]*Build, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.taken {
		return nil, nil, fleet.Errorf(fleet.Conflict, "another release file is being read in").Hinted("wait for it, and repeat this")
	}
	k, err := s.begin(signed, m, m.Builds, false, evict)
	if err != nil {
		return nil, nil, err
	}
	err = s.moreSeals(k, signed)
	builds := map[string]*Build{}
	for _, b := range m.Builds {
		var build *Build
		if err == nil {
			build, err = s.buildOf(k, b.Arch)
		}
		if err == nil {
			err = build.make()
		}
		builds[b.Arch] = build
	}
	if err != nil {
		return nil, nil, s.failed(k, err)
	}
	s.taken = true
	k.inUse++
	return k, builds, nil
}

// moreSeals keeps the signatures of both, where the same release comes again with others. Of one key that which comes now counts:
// all of these were verified. mu is held.
func (s *Store) moreSeals(k *kept, signed release.Signed) error {
	all, err := signed.Join(k.signed)
	if err != nil { // too many
		all = signed
	}
	if bytes.Equal(all.Encode(), k.signed.Encode()) {
		return nil
	}
	k.signed = all
	return s.writeManifest(k)
}

// whole reports whether some build is whole: then others may rely on it.
func (k *kept) whole() bool {
	for _, b := range k.builds {
		if b.Have().Count() == len(b.of.Chunks) {
			return true
		}
	}
	return false
}

// sync brings what was written to the disk.
func (b *Build) sync() error {
	b.mu.Lock()
	file := b.file
	b.mu.Unlock()
	if file == nil {
		return fleet.Errorf(fleet.Conflict, "the release was given up").Hinted("repeat it")
	}
	if err := file.Sync(); err != nil && !errors.Is(err, os.ErrClosed) {
		return b.failed(err)
	}
	return nil
}
