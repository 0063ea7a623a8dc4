package host

import (
	"path/filepath"

	"github.com/muster-fleet/muster/node/agent"
	"github.com/muster-fleet/muster/node/api"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/release"
	"github.com/muster-fleet/muster/node/release/store"
)

var _ api.ReleasesBackend = desk{}

// makeReleases opens where releases lie. A host can do without: then it cannot be upgraded from peer to peer.
func (h *Host) makeReleases(shells *agent.Shells) {
	var err error
	h.releases, err = store.Open(store.Config{Dir: filepath.Join(h.opts.Dir, releasesName), Log: h.opts.Log})
	if err != nil {
		h.opts.Log.Warn("no releases are kept here: this host cannot be upgraded by the fleet", "err", err)
		return
	}
	shells.Releases = shelved{h.releases}
}

// shelved lets the agent use the store.
type shelved struct{ *store.Store }

// Build is the store's.
func (s shelved) Build(digest fleet.ID, arch string) (agent.KeptBuild, error) {
	b, err := s.Store.Build(digest, arch)
	if err != nil {
		return nil, err
	}
	return b, nil
}

// Take is the store's.
func (s shelved) Take(signed release.Signed, m release.Manifest, arch string) (agent.KeptBuild, func(), error) {
	b, done, err := s.Store.Take(signed, m, arch)
	if err != nil {
		return nil, nil, err
	}
	return b, done, nil
}
