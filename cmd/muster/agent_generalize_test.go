package main

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/fleet"
)

// imaged is a host of systemd with a used data folder, and who types on it.
func imaged(t *testing.T) (*bareHost, *app) {
	t.Helper()
	h := newBareHost(t, "/run/systemd/system/", "/usr/lib/systemd/system/muster.service", "/etc/muster/join", "/etc/muster/config.yaml",
		"/var/lib/muster/identity", "/var/lib/muster/ledger", "/var/lib/muster/runs/a/end", "/run/muster/agent.sock")
	h.write(t, "/etc/passwd", "root:x:0:0:root:/root:/bin/bash\nann:x:1000:1000::/srv/ann:/bin/sh\n")
	a := &app{euid: 0, stdout: &h.out, stderr: &h.out, stdin: strings.NewReader(""), getenv: func(name string) string {
		return map[string]string{"HOME": "/root"}[name]
	}}
	return h, a
}

// TestGeneralize: the service is stopped, the folder is empty, and what an image needs stays.
func TestGeneralize(t *testing.T) {
	t.Parallel()
	h, a := imaged(t)
	if err := a.generalize(t.Context(), h.system, generalizeFlags{}); fleet.KindOf(err) != fleet.Denied {
		t.Errorf("with nobody to ask: %v", err)
	}
	h.took(t)
	if err := a.generalize(t.Context(), h.system, generalizeFlags{yes: true}); err != nil {
		t.Fatal(err)
	}
	h.took(t, "systemctl stop muster")
	for name, want := range map[string]bool{
		"/var/lib/muster": true, "/var/lib/muster/identity": false, "/var/lib/muster/runs": false, "/run/muster/agent.sock": false,
		"/etc/muster/join": true, "/etc/muster/config.yaml": true, "/usr/lib/systemd/system/muster.service": true,
	} {
		if h.has(name) != want {
			t.Errorf("%s is there: %v", name, !want)
		}
	}
	if said := h.out.String(); !strings.Contains(said, "removed  3 files") || !strings.Contains(said, "the next start joins with it") {
		t.Errorf("said %s", said)
	}
	if err := a.generalize(t.Context(), h.system, generalizeFlags{yes: true}); fleet.KindOf(err) != fleet.NotFound {
		t.Errorf("once more: %v", err)
	}
}

// TestGeneralizeRefuses: people's keys are not removed with a host's, and what runs is not cut off; nothing has changed then.
func TestGeneralizeRefuses(t *testing.T) {
	t.Parallel()
	h, a := imaged(t)
	refused := func(what, want string) {
		t.Helper()
		err := a.generalize(t.Context(), h.system, generalizeFlags{yes: true})
		if fleet.KindOf(err) != fleet.Conflict || !strings.Contains(err.Error(), want) || !h.has("/var/lib/muster/identity") {
			t.Errorf("%s: %v", what, err)
		}
		h.took(t)
	}
	end, err := os.OpenFile(h.at("/var/lib/muster/runs/a/end"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Flock(int(end.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	refused("a run goes on", "run a")
	if err := end.Close(); err != nil {
		t.Fatal(err)
	}
	h.write(t, "/srv/ann/.config/muster/operator.key", "secret")
	refused("ann's key", "/srv/ann/.config/muster/operator.key")
	if err := a.generalize(t.Context(), h.system, generalizeFlags{yes: true, keepKeys: true}); err != nil || !h.has("/srv/ann/.config/muster/operator.key") {
		t.Errorf("told to leave it: %v", err)
	}
	a.euid = 1000
	a.flags.dataDir = systemData
	if err := a.generalize(t.Context(), h.system, generalizeFlags{yes: true}); fleet.KindOf(err) != fleet.Denied {
		t.Errorf("without root: %v", err)
	}
}

// TestGeneralizeElsewhere: a folder that is not the system's may hold other things, and they stay.
func TestGeneralizeElsewhere(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, name := range []string{"identity", "ledger", "thesis.txt"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := system{root: t.TempDir(), out: io.Discard, run: func(context.Context, ...string) error { t.Error("it runs something"); return nil }}
	a := &app{euid: 1000, stdout: io.Discard, stderr: io.Discard, getenv: func(string) string { return "" }}
	a.flags.dataDir = dir
	if err := a.generalize(t.Context(), s, generalizeFlags{yes: true}); fleet.KindOf(err) != fleet.Conflict || !strings.Contains(err.Error(), "thesis.txt") {
		t.Errorf("with a thesis in it: %v", err)
	}
	if err := os.Rename(filepath.Join(dir, "thesis.txt"), filepath.Join(t.TempDir(), "thesis.txt")); err != nil {
		t.Fatal(err)
	}
	if err := a.generalize(t.Context(), s, generalizeFlags{yes: true}); err != nil {
		t.Error(err)
	}
}

func TestNeededFor(t *testing.T) {
	t.Parallel()
	ids := func(n byte) fleet.ID { return fleet.ID{n} }
	voters := func(online ...bool) (out []node.ServerStatus) {
		for i, on := range online {
			out = append(out, node.ServerStatus{ID: ids(byte(i + 1)), Online: on})
		}
		return out
	}
	for name, test := range map[string]struct {
		status node.Status
		want   string
	}{
		"no voter":            {node.Status{Self: fleet.Member{ID: ids(9)}, Online: 4, Quorum: node.QuorumStatus{Voters: voters(true, true, true)}}, ""},
		"one of three":        {node.Status{Self: fleet.Member{ID: ids(1)}, Online: 4, Quorum: node.QuorumStatus{Voters: voters(true, true, true)}}, ""},
		"one of the last two": {node.Status{Self: fleet.Member{ID: ids(1)}, Online: 4, Quorum: node.QuorumStatus{Voters: voters(true, false, true)}}, "1 of 3 voters are there"},
		"the only one":        {node.Status{Self: fleet.Member{ID: ids(1)}, Online: 2, Quorum: node.QuorumStatus{Voters: voters(true)}}, "no voter is there"},
		"the only host":       {node.Status{Self: fleet.Member{ID: ids(1)}, Online: 1, Quorum: node.QuorumStatus{Voters: voters(true)}}, ""},
	} {
		if got := neededFor(test.status); got != test.want {
			t.Errorf("%s: %q", name, got)
		}
	}
	lost := node.Status{Self: fleet.Member{ID: ids(1), Name: "a"}, Quorum: node.QuorumStatus{Voters: voters(false, true, true)}}
	if err := mayReadmit(lost); fleet.KindOf(err) != fleet.Conflict {
		t.Errorf("readmitted where others can write: %v", err)
	}
	lost.Quorum.Voters = voters(false)
	if err := mayReadmit(lost); err != nil {
		t.Error(err)
	}
}

// TestGeneralizeWaitsForVoters: a vote does not go with a key while the others could not write without it, unless another server
// votes soon.
func TestGeneralizeWaitsForVoters(t *testing.T) {
	self, peer, next := fleet.ID{1}, fleet.ID{2}, fleet.ID{3}
	voters := func(ids ...fleet.ID) node.Status {
		s := node.Status{Online: 3}
		s.Self.ID, s.Self.Name = self, "web3"
		for _, id := range ids {
			s.Quorum.Voters = append(s.Quorum.Voters, node.ServerStatus{ID: id, Online: true})
		}
		return s
	}
	quarantined := voters(self, peer)
	quarantined.Self.Plight = node.ClonePlight
	for name, c := range map[string]struct {
		now, later node.Status
		err        error
		want       fleet.Kind // zero: it may
	}{
		"others are enough":   {now: voters(self, peer, next)},
		"it has no vote":      {now: voters(peer)},
		"another comes":       {now: voters(self, peer), later: voters(self, peer, next)},
		"none comes":          {now: voters(self, peer), later: voters(self, peer), want: fleet.Conflict},
		"it is in quarantine": {now: quarantined},
		"no agent answers":    {err: fleet.Errorf(fleet.Unavailable, "no agent")},
	} {
		synctest.Test(t, func(t *testing.T) {
			began, said := time.Now(), 0
			err := awaitVoters(t.Context(), func(context.Context) (node.Status, error) {
				if time.Since(began) > voteWait/2 {
					return c.later, c.err
				}
				return c.now, c.err
			}, func(string, ...any) { said++ })
			if waited := time.Since(began) > 0; waited != (said == 1) || said > 1 {
				t.Errorf("%s: it says %d times that it waits", name, said)
			}
			if (err != nil) != (c.want != 0) || err != nil && fleet.KindOf(err) != c.want {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
}
