//go:build testclock

package main

import (
	"os"
	"strings"
	"time"

	"github.com/muster-fleet/muster/cmd/host"
	"github.com/muster-fleet/muster/node/auth"
)

// clock returns the host's clocks, the wall's off by what stands in the file that MUSTER_TEST_CLOCK names, as it stands
// there now: a running agent's clock can step. No file, no offset.
func (a *app) clock() func() auth.Instant {
	path := a.getenv("MUSTER_TEST_CLOCK")
	return func() auth.Instant {
		now := host.Clock()
		text, err := os.ReadFile(path)
		if err != nil {
			return now
		}
		if offset, err := time.ParseDuration(strings.TrimSpace(string(text))); err == nil {
			now.Wall = now.Wall.Round(0).Add(offset) // Round drops the monotonic reading, which does not step
		}
		return now
	}
}
