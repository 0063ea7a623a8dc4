//go:build !testclock

package main

import (
	"github.com/muster-fleet/muster/cmd/host"
	"github.com/muster-fleet/muster/node/auth"
)

// clock returns what the agent takes the time from: the host's clocks. The build with the tag testclock, for tests, has
// another.
func (a *app) clock() func() auth.Instant { return host.Clock }
