package upgrade

import (
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/release"
)

// May reports why a host that runs one version may not be given a release, or nil. written is the fleet's level, in which what
// lies in the host's data folder may be written; downgrade gives leave to go back.
func May(from string, written fleet.Level, to release.Release, downgrade bool) error {
	if fleet.Level(to.Level) < written {
		return fleet.Errorf(fleet.Denied, "release %s reads what levels up to %d write, and this fleet is at level %d: it could not read this host's data",
			to.Version, to.Level, written).Hinted("a level is never taken back; upgrade to a newer release instead")
	}
	if downgrade {
		return nil
	}
	return release.NotOlder(from, to)
}
