package main

import (
	"context"

	"github.com/muster-fleet/muster/exec/action"
	"github.com/muster-fleet/muster/node/api"
	"github.com/muster-fleet/muster/node/api/shape"
	"github.com/muster-fleet/muster/node/fleet"
	releases "github.com/muster-fleet/muster/node/release"
)

// actAgent is the agent of this host, as one of a document's own actions asks it.
type actAgent struct{ *api.Client }

func dialAgent(socket string) action.Agent { return actAgent{api.Dial(socket)} }

// Level returns the level that the fleet is at.
func (a actAgent) Level(ctx context.Context) (fleet.Level, error) {
	s, err := a.Status(ctx)
	return s.Quorum.Level.Level, err
}

// Releases lists the releases that lie on the host and may be installed.
func (a actAgent) Releases(ctx context.Context) ([]releases.Release, error) {
	all, err := a.Client.Releases(ctx)
	return taken(all), err
}

// taken returns those of the releases on a host that the fleet takes now: one whose key was withdrawn stays on the disk, and may
// have the highest version.
func taken(all []shape.Release) (out []releases.Release) {
	for _, r := range all {
		if r.Trusted {
			out = append(out, r.Release())
		}
	}
	return out
}
