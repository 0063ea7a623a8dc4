package main

import (
	"context"
	"os"
	"runtime/debug"
	"time"
)

const (
	// collectAt is GOGC: an agent's live heap is 2 to 6 MiB, and it makes a few kB of garbage a second when idle. At Go's
	// own 100 the heap grows to twice that, and to 4 MiB at least, before anybody looks.
	collectAt = 50
	// Memory of the start, and later of what was done, is given back then.
	firstShed = 20 * time.Second // when a host that joined has been told of all the others
	shedEvery = 10 * time.Minute
)

// keepSmall makes this process collect its garbage early, and gives back from time to time what an idle agent does not
// need, until ctx ends. The environment's GOGC is respected.
func keepSmall(ctx context.Context) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(collectAt)
	}
	debug.FreeOSMemory() // start-up leaves garbage that an idle agent would carry for long
	go func() {
		next := time.NewTimer(firstShed)
		defer next.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-next.C:
			}
			debug.FreeOSMemory()
			next.Reset(shedEvery)
		}
	}()
}
