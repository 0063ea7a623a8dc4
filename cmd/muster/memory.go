package main

import (
	"context"
	"math"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	// collectAt is GOGC: an agent's live heap is 2 to 6 MiB, and it makes a few kB of garbage a second when idle. At Go's
	// own 100 the heap grows to twice that, and to 4 MiB at least, before anybody looks.
	collectAt = 50
	// spare is how much garbage a busy agent may gather before it looks, whatever lives: at collectAt a server that orders
	// thousands of writes a second would spend a third of its time on looking. An agent is busy while its collections
	// follow each other within busyWithin.
	spare      = 32 << 20
	spareSmall = 4 << 20 // on a host with little memory, which orders no thousands of writes
	busyWithin = 2 * time.Second
	// Memory of the start, and later of what was done, is given back then.
	firstShed = 20 * time.Second // when a host that joined has been told of all the others
	shedEvery = 10 * time.Minute
	shedSmall = time.Minute // on a host with little memory
)

// keepSmall makes this process collect its garbage early, later while it is busy, and gives back from time to time what an
// idle agent does not need, until ctx ends; small: on a host with little memory. The environment's GOGC is respected.
func keepSmall(ctx context.Context, small bool) {
	garbage, every := uint64(spare), shedEvery
	if small {
		garbage, every = spareSmall, shedSmall
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(collectAt)
		followLoad(ctx, garbage)
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
			next.Reset(every)
		}
	}()
}

// followLoad sets GOGC anew after each collection, if it is far from what it was; garbage is how many bytes of it a busy agent may
// gather.
func followLoad(ctx context.Context, garbage uint64) {
	last, now := time.Now(), collectAt
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	var collected func(*[32]byte)
	collected = func(sentinel *[32]byte) { // which nobody holds: the next collection finds it again
		if ctx.Err() != nil {
			return
		}
		metrics.Read(live)
		want := percent(time.Since(last), live[0].Value.Uint64(), garbage)
		if last = time.Now(); want > now*5/4 || want < now*3/4 {
			now = want
			debug.SetGCPercent(now)
		}
		runtime.SetFinalizer(sentinel, collected)
	}
	runtime.SetFinalizer(new([32]byte), collected)
}

// percent is GOGC after a collection that came so long after the one before, and left so many bytes alive, where a busy agent may
// gather so much garbage.
func percent(since time.Duration, live, garbage uint64) int {
	if since > busyWithin {
		return collectAt
	}
	return int(min(max(collectAt, 100*garbage/max(1, live)), 1000))
}

// memoryLimit returns at which size of its heap Go collects whatever GOGC says: enough below a budget of resident memory for
// what is no heap (the binary's pages, stacks). 0: none.
func memoryLimit(budget int64) int64 { return budget * 3 / 4 }

// setMemoryLimit tells Go's collector of a budget of the agent's memory; 0: it has none. The environment's GOMEMLIMIT is
// respected.
func setMemoryLimit(budget int64) {
	if os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	limit := memoryLimit(budget)
	if limit <= 0 {
		limit = math.MaxInt64
	}
	debug.SetMemoryLimit(limit)
}
