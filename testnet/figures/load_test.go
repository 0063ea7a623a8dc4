package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// TestMain lets this binary be a replica of a trio, as the command itself is.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == replicaVerb {
		if err := runReplica(os.Stdin, os.Stdout); err != nil {
			os.Exit(complain(os.Stderr, err, 1))
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func TestDrive(t *testing.T) {
	t.Parallel()
	var asked, at, most atomic.Int64
	r, err := drive(t.Context(), 3, 20*time.Millisecond, func(context.Context, int, int) error {
		for now := at.Add(1); ; {
			if had := most.Load(); now <= had || most.CompareAndSwap(had, now) {
				break
			}
		}
		asked.Add(1)
		at.Add(-1)
		return nil
	})
	if err != nil || int64(r.Done) != asked.Load() || r.Done == 0 || r.Rate <= 0 || r.P99 < r.P50 || most.Load() > 3 {
		t.Errorf("%+v of %d asked, %d at a time, %v", r, asked.Load(), most.Load(), err)
	}
	broken := errors.New("broken")
	if _, err := drive(t.Context(), 3, time.Minute, func(ctx context.Context, client, i int) error {
		if client == 1 && i == 2 {
			return broken
		}
		return ctx.Err()
	}); !errors.Is(err, broken) {
		t.Errorf("an error under load is %v", err)
	}
}

// TestQuorumAlone: three processes under a short load; every figure is there.
func TestQuorumAlone(t *testing.T) {
	t.Parallel()
	got, err := measureQuorum(t.Context(), place{folder: shortDir(t), over: 100 * time.Millisecond, clients: []int{1, 8}})
	if err != nil {
		t.Fatal(err)
	}
	checkLoad(t, got, "quorum")
}

// TestParamsAlone: three agents under a short load of signed writes and of reads, beside nobody.
func TestParamsAlone(t *testing.T) {
	t.Parallel()
	p := place{folder: shortDir(t), over: 100 * time.Millisecond, clients: []int{1, 8}}
	p.muster = filepath.Join(p.folder, "muster")
	if err := build(t.Context(), p.muster, ""); err != nil {
		t.Fatal(err)
	}
	f, err := startPlain(t.Context(), p, trioSize)
	t.Cleanup(func() {
		if err := f.end(); err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	b, err := newParamBench(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	defer b.close()
	var got []figure
	for _, clients := range p.clients {
		for _, op := range []loadOp{loadPut, loadGet, loadStale} {
			r, cost, err := b.load(t.Context(), op, clients, p.over)
			if err != nil {
				t.Fatalf("%s, %d clients: %v", op, clients, err)
			}
			got = append(got, compared(op, clients, r, rates{Rate: 1, P99: 1}, cost)...)
		}
	}
	checkLoad(t, got, "params")
}

// shortDir makes a folder with a short path: unix sockets have 108 bytes.
func shortDir(t *testing.T) string {
	dir, err := os.MkdirTemp("", "mf-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func checkLoad(t *testing.T, got []figure, key string) {
	t.Helper()
	for _, want := range []string{"_put_1", "_put_8", "_get_1", "_get_8", "_stale_1", "_stale_8"} {
		for _, what := range []string{"_per_second", "_p50_seconds", "_p99_seconds"} {
			i := slices.IndexFunc(got, func(f figure) bool { return f.key == key+want+what })
			if i < 0 || got[i].value <= 0 {
				t.Errorf("%s is not measured: %+v", key+want+what, got)
			}
		}
	}
	for _, f := range got {
		if strings.Contains(f.key, "_cpu_") && f.value > 1 {
			t.Errorf("%s is %v s", f.key, f.value)
		}
	}
}
