package main

import (
	"bytes"
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/muster-fleet/muster/node/auth/authtest"
	"github.com/muster-fleet/muster/node/release"
)

// TestAloneIsAskedFor: what takes minutes and a machine to itself is taken only when it is named, and then with a binary.
func TestAloneIsAskedFor(t *testing.T) {
	t.Parallel()
	for _, key := range []string{"startup", "small", "release"} {
		o, err := parseOptions([]string{"--only", key}, keys(), &bytes.Buffer{})
		if err != nil || o.wantsFleet() || !o.wantsMuster() || !o.wants(key) || (options{}).wants(key) {
			t.Errorf("%s: %+v, %v", key, o, err)
		}
	}
}

// TestReleaseOfNoise: what is measured is a release that a fleet takes, as large as scp's file.
func TestReleaseOfNoise(t *testing.T) {
	t.Parallel()
	const size = 700_000
	file, err := releaseFile(authtest.Signer("releases"), size, 1)
	if err != nil {
		t.Fatal(err)
	}
	if len(file) < size || len(file) > size+size/50 {
		t.Errorf("%d bytes for %d", len(file), size)
	}
	header, err := release.ReadHeader(bytes.NewReader(file))
	if err != nil || len(header.Seals) != 1 {
		t.Errorf("%d seals, %v", len(header.Seals), err)
	}
	other, err := releaseFile(authtest.Signer("releases"), size, 2)
	if err != nil || bytes.Equal(file, other) {
		t.Error("two rounds bring the same release: nothing would have to come")
	}
}

// TestReleaseFigures: the ratio is of the quicker scp, and the aims are the ones that were set.
func TestReleaseFigures(t *testing.T) {
	t.Parallel()
	w := town{hosts: 20, bits: 100e6, bytes: 25e6, rounds: 3}
	rounds := []spreadRound{{took: 9 * time.Second, sent: 50e6}, {took: 10 * time.Second, sent: 60e6}, {took: 30 * time.Second, sent: 80e6}}
	got := w.figures(rounds, 42*time.Second, 40*time.Second)
	ratio, copies := got[find(got, "release_ratio")], got[find(got, "release_copies_max_count")]
	if ratio.value != 0.25 || !ratio.met() || copies.value != 3.2 || copies.met() {
		t.Errorf("%+v %+v", ratio, copies)
	}
}

// alonePlace is where such figures are taken in a test, of the sources as they are.
func alonePlace(t *testing.T) place {
	t.Helper()
	if testing.Short() {
		t.Skip("it takes half a minute")
	}
	needsRoot(t)
	p := place{folder: t.TempDir(), runs: 1, say: func(string, ...any) {}}
	p.muster = filepath.Join(p.folder, "muster")
	if err := build(t.Context(), p.muster, "-s -w"); err != nil {
		t.Fatal(err)
	}
	return p
}

// TestAlone takes each of these figures once, small.
func TestAlone(t *testing.T) {
	t.Parallel()
	p := alonePlace(t)
	for key, take := range map[string]func(context.Context, place) ([]figure, error){
		"startup": func(ctx context.Context, p place) ([]figure, error) { return startupAfter(ctx, p, 3) },
		"small":   smallHost{megabytes: 128, output: 100_000, rest: time.Second}.measure,
		"release": town{hosts: 2, bits: 100_000_000, bytes: 1_000_000, rounds: 1}.measure,
	} {
		t.Run(key, func(t *testing.T) {
			figures, err := take(t.Context(), p)
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range figures {
				if !strings.HasPrefix(f.key, key+"_") || f.value < 0 || f.value == 0 && !strings.HasSuffix(f.key, "kills_count") && f.unit != octets && !strings.Contains(f.key, "cpu") {
					t.Errorf("%+v", f)
				}
			}
		})
	}
}
