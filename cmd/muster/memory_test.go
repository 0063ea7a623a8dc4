package main

import (
	"context"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"testing"
	"time"
)

// TestPercent: an agent that collects seldom is small; one that collects often gathers as much garbage as spare, whatever
// lives, within bounds.
func TestPercent(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		since time.Duration
		live  uint64
		want  int
	}{
		{busyWithin + 1, 4 << 20, collectAt},
		{time.Hour, 0, collectAt},
		{time.Hour, 1 << 40, collectAt},
		{busyWithin, 4 << 20, 800},
		{time.Millisecond, 0, 1000},
		{0, 1 << 20, 1000},
		{0, spare, 100},
		{0, 2 * spare, collectAt},
		{0, 1 << 40, collectAt},
		{0, 1<<64 - 1, collectAt},
	} {
		if got := percent(tc.since, tc.live, spare); got != tc.want {
			t.Errorf("%s since the last, %d bytes live: %d, want %d", tc.since, tc.live, got, tc.want)
		}
	}
}

// TestFollowLoad: GOGC rises while collections follow each other with little alive, and falls when much is.
func TestFollowLoad(t *testing.T) {
	was := debug.SetGCPercent(collectAt)
	ctx, stop := context.WithCancel(t.Context())
	t.Cleanup(func() {
		stop()
		debug.SetGCPercent(was)
	})
	followLoad(ctx, spare)
	collect := func(until func(gogc uint64) bool) bool {
		now := []metrics.Sample{{Name: "/gc/gogc:percent"}}
		for range 2000 { // finalizers run when they run
			runtime.GC()
			if metrics.Read(now); until(now[0].Value.Uint64()) {
				return true
			}
		}
		return false
	}
	if !collect(func(gogc uint64) bool { return gogc > collectAt }) {
		t.Error("a busy process keeps its GOGC")
	}
	much := make([]byte, 4*spare) // never touched, so it takes no memory
	if !collect(func(gogc uint64) bool { return gogc == collectAt }) {
		t.Error("GOGC stays up when much is alive")
	}
	runtime.KeepAlive(much)
}
