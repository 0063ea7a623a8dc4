package main

import (
	"crypto/ed25519"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/muster-fleet/muster/consensus"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	releases "github.com/muster-fleet/muster/node/release"
)

// scriptRelease writes a release file of a program that is none: release FILE VERSION ARCH [unsigned]. $RELEASE_KEY is who signs.
func scriptRelease(ts *testscript.TestScript, _ bool, args []string) {
	signer := auth.NewSigner(ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)))
	ts.Setenv("RELEASE_KEY", auth.FormatReleaseKey(signer.Public()))
	keys := []auth.Signer{signer}
	if slices.Contains(args, "unsigned") {
		keys = nil
	}
	build, packed, err := releases.Pack(args[2], []byte("program of "+args[1]))
	ts.Check(err)
	m, err := releases.NewManifest(args[1], fleet.LevelNewest, time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC), []releases.Build{build})
	ts.Check(err)
	signed, err := releases.Sign(m, keys...)
	ts.Check(err)
	f, err := os.Create(filepath.Join(ts.Getenv("WORK"), args[0]))
	ts.Check(err)
	ts.Check(releases.WriteFile(f, signed, m, map[string][]byte{build.Arch: packed}))
	ts.Check(f.Close())
}

// scriptLevel raises the town's level to the newest, as its leader does when all support it.
func scriptLevel(ts *testscript.TestScript, _ bool, _ []string) {
	w := *ts.Value("town").(**town)
	w.mu.Lock()
	defer w.mu.Unlock()
	ts.Check(w.apply(consensus.SetLevel{Level: fleet.LevelNewest}))
}

func TestUpgradePace(t *testing.T) {
	for _, c := range []struct {
		given, want limits
	}{
		{limits{}, limits{canary: "1,100%", concurrency: "10%", errors: "0"}},
		{limits{concurrency: "5"}, limits{concurrency: "5", errors: "0"}},
		{limits{canary: "2,50%,100%", errors: "1"}, limits{canary: "2,50%,100%", errors: "1"}},
	} {
		f := upgradeFlags{to: "x"}
		f.all, f.limits = true, c.given
		if err := f.check(); err != nil || f.limits != c.want {
			t.Errorf("%+v becomes %+v, %v", c.given, f.limits, err)
		}
	}
	f := upgradeFlags{to: "x", atOnce: true}
	f.all = true
	if err := f.check(); err != nil || f.limits.any() {
		t.Errorf("--at-once: %+v, %v", f.limits, err)
	}
}

func TestUpgradable(t *testing.T) {
	nodes := []fleet.Member{
		{Name: "a", Facts: fleet.Facts{Version: "1.1.0", Arch: "amd64"}}, {Name: "b", Facts: fleet.Facts{Version: "1.2.0", Arch: "amd64"}},
		{Name: "c", Facts: fleet.Facts{Version: "1.0.0", Arch: "arm64"}}, {Name: "d"},
	}
	r := releases.Release{Version: "1.2.0", Level: 2, Arches: []string{"amd64", "arm64"}}
	var said strings.Builder
	a := &app{stderr: &said, getenv: func(string) string { return "" }}
	names := func(all []fleet.Member) (out string) {
		for _, m := range all {
			out += m.Name
		}
		return out
	}
	left, err := a.upgradable(nodes, r, 2, upgradeFlags{})
	if err != nil || names(left) != "acd" || !strings.Contains(said.String(), "1.2.0 on 1 node already") {
		t.Errorf("%s, %v, %s", names(left), err, said.String())
	}
	if left, err = a.upgradable(nodes, r, 2, upgradeFlags{downloadOnly: true}); err != nil || names(left) != "abcd" {
		t.Errorf("%s, %v", names(left), err)
	}
	r.Arches = []string{"amd64"}
	if _, err = a.upgradable(nodes, r, 2, upgradeFlags{}); err == nil || !strings.Contains(err.Error(), "c is arm64") {
		t.Errorf("%v", err)
	}
	older := releases.Release{Version: "1.0.0", Level: 1, Arches: []string{"amd64", "arm64"}}
	if _, err = a.upgradable(nodes[:2], older, 1, upgradeFlags{}); fleet.KindOf(err) != fleet.Denied || hintOf(err) == "" {
		t.Errorf("%v", err)
	}
	if _, err = a.upgradable(nodes[:2], older, 1, upgradeFlags{downgrade: true}); err != nil {
		t.Errorf("%v", err)
	}
	if _, err = a.upgradable(nodes[:2], older, 2, upgradeFlags{downgrade: true}); fleet.KindOf(err) != fleet.Denied {
		t.Errorf("below the level of what lies there: %v", err)
	}
}
