package action

import (
	"context"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/muster-fleet/muster/exec/document"
	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/release"
)

// held is an agent that holds releases and runs a version.
type held struct {
	version  string
	level    fleet.Level
	releases []release.Release
	asked    []fleet.ID // sources of the last fetch
}

func (h *held) Status(context.Context) (node.Status, error) {
	return node.Status{Version: h.version}, nil
}
func (h *held) Restart(context.Context) error                       { return nil }
func (h *held) Level(context.Context) (fleet.Level, error)          { return h.level, nil }
func (h *held) Releases(context.Context) ([]release.Release, error) { return h.releases, nil }
func (h *held) FetchRelease(_ context.Context, digest fleet.ID, sources []fleet.ID, _ func(release.Progress)) (release.Fetched, error) {
	h.asked = sources
	for _, r := range h.releases {
		if r.Digest == digest {
			return release.Fetched{Release: r, Bytes: 10_500_000, Peers: 3}, nil
		}
	}
	return release.Fetched{}, fleet.Errorf(fleet.NotFound, "nobody has it")
}

func TestUpgrade(t *testing.T) {
	id := func(text string) fleet.ID { return fleet.Sum([]byte(text)) }
	agent := &held{version: "1.1.0", level: 2, releases: []release.Release{
		{Digest: id("1.2.0"), Version: "1.2.0", Level: 2}, {Digest: id("1.3.0"), Version: "1.3.0", Level: 2}, {Digest: id("1.0.0"), Version: "1.0.0", Level: 1},
		{Digest: id("1.0.5"), Version: "1.0.5", Level: 2},
	}}
	for _, c := range []struct {
		name string
		in   document.Upgrade
		want string
		fail bool
	}{
		{"by digest", document.Upgrade{Release: id("1.2.0").Text(), Sources: id("a").Text() + "," + id("b").Text(), DownloadOnly: true}, "release 1.2.0 is on this host: 10.5 MB from 3 nodes, ", false},
		{"by version", document.Upgrade{TargetVersion: "1.2.0", DownloadOnly: true}, "release 1.2.0 is on this host", false},
		{"the newest", document.Upgrade{DownloadOnly: true}, "release 1.3.0 is on this host", false},
		{"unknown", document.Upgrade{TargetVersion: "9.9.9"}, "has no release 9.9.9", true},
		{"older", document.Upgrade{TargetVersion: "1.0.5"}, "release 1.0.5 is older than 1.1.0", true},
		{"below the fleet's level", document.Upgrade{TargetVersion: "1.0.0", AllowDowngrade: true}, "this fleet is at level 2", true},
		{"no such digest", document.Upgrade{Release: id("x").Text()}, "nobody has it", true},
		{"no digest", document.Upgrade{Release: "x"}, "not a full ID", true},
		{"no node", document.Upgrade{Release: id("1.2.0").Text(), Sources: "x"}, "sources: ", true},
		{"AWS's", document.Upgrade{Source: "https://x"}, "source is for agents of AWS's", true},
	} {
		var out strings.Builder
		h := host{stdout: &out, stderr: io.Discard, now: time.Now, ways: Ways{Agent: func(string) Agent { return agent }}, socket: "/s", dataDir: t.TempDir()}
		err := h.upgrade(t.Context(), c.in)
		text := out.String()
		if err != nil {
			text = err.Error()
		}
		if (err != nil) != c.fail || !strings.Contains(text, c.want) {
			t.Errorf("%s: %q, %v", c.name, out.String(), err)
		}
		if c.name == "by digest" && len(agent.asked) != 2 {
			t.Errorf("asked %v", agent.asked)
		}
	}
}

func TestArgv(t *testing.T) {
	argv := Argv([]string{"muster", "act"}, "/run/a b.sock", "/var/lib/x")
	var h host
	if left := h.cutOptions(append(argv[2:], "upgrade")); len(left) != 1 || left[0] != "upgrade" || h.socket != "/run/a b.sock" || h.dataDir != "/var/lib/x" {
		t.Errorf("%q, %+v", left, h)
	}
}
