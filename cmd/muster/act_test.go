package main

import (
	"testing"

	"github.com/muster-fleet/muster/node/api/shape"
	"github.com/muster-fleet/muster/node/fleet"
)

// TestTakenReleases: what lies on the disk and is signed by nobody whose releases the fleet takes any more hides nothing else.
func TestTakenReleases(t *testing.T) {
	all := []shape.Release{
		{Digest: fleet.Sum([]byte("a")), Version: "9.9.9"},
		{Digest: fleet.Sum([]byte("b")), Version: "1.2.0", Trusted: true},
	}
	if got := taken(all); len(got) != 1 || got[0].Version != "1.2.0" {
		t.Errorf("%+v", got)
	}
}
