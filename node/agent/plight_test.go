package agent

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
)

// TestPlights: a server believes a node about itself, for a while, within bounds, and tells whoever asks.
func TestPlights(t *testing.T) {
	d := newDesk(t)
	at := time.Hour
	d.cfg.Clock = func() auth.Instant { return auth.Instant{Wall: d.Fleet.Now, Boot: at} }
	tell := func(text string) error {
		_, _, err := d.answer(t.Context(), d.web.ID, askPlight, wire.Marshal(plightBody{text}))
		return err
	}
	told := func() map[fleet.ID]string {
		t.Helper()
		_, body, err := d.answer(t.Context(), d.db.ID, askPlights, nil)
		if err != nil {
			t.Fatal(err)
		}
		var list plightList
		if err := wire.Unmarshal(body, &list); err != nil {
			t.Fatal(err)
		}
		out := map[fleet.ID]string{}
		for _, of := range list.Plights {
			out[of.Node] = of.Text
		}
		return out
	}
	if got := told(); len(got) != 0 {
		t.Errorf("before: %v", got)
	}
	if err := tell("paused"); err != nil || told()[d.web.ID] != "paused" {
		t.Errorf("%v, %v", err, told())
	}
	for name, text := range map[string]string{"long": strings.Repeat("x", maxPlight+1), "two lines": "a\nb", "of a terminal": "\x1b[2J"} {
		if err := tell(text); fleet.KindOf(err) != fleet.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	members := d.Agent.Nodes(t.Context())
	for _, m := range members {
		if want := map[fleet.ID]string{d.web.ID: "paused"}[m.ID]; m.Plight != want {
			t.Errorf("%s is shown with %q", m.Name, m.Plight)
		}
	}
	at += plightLife + time.Second
	if got := told(); len(got) != 0 {
		t.Errorf("long after: %v", got)
	}
	if err := tell("paused"); err != nil {
		t.Fatal(err)
	}
	if err := tell(""); err != nil || len(told()) != 0 {
		t.Errorf("taken back: %v, %v", err, told())
	}
	d.SetPlight("shell off", "no shell here")
	d.SetPlight("paused", "paused by root")
	if got := d.Plight(); got != "paused by root; no shell here" {
		t.Errorf("its own: %q", got)
	}
	d.SetPlight("paused", "")
	if got := d.Plight(); got != "no shell here" {
		t.Errorf("its own: %q", got)
	}
}

// TestPlightsAreBounded: whoever says what, a server keeps so many, and the first of them.
func TestPlightsAreBounded(t *testing.T) {
	d := newDesk(t)
	for i := range maxPlights + 10 {
		if err := d.takePlight(fleet.Sum([]byte{byte(i), byte(i >> 8)}), wire.Marshal(plightBody{"x"})); err != nil {
			t.Fatal(err)
		}
	}
	if got := len(d.heardPlights()); got != maxPlights {
		t.Errorf("%d are kept", got)
	}
}

// TestClonesAreToldFirst: however many say something, a server has room for hosts whose key two have; those it keeps.
func TestClonesAreToldFirst(t *testing.T) {
	d := newDesk(t)
	say := func(i int, text string) fleet.ID {
		id := fleet.Sum([]byte{byte(i), byte(i >> 8)})
		if err := d.takePlight(id, wire.Marshal(plightBody{text})); err != nil {
			t.Fatal(err)
		}
		return id
	}
	for i := range maxPlights {
		say(i, "x")
	}
	clone := say(maxPlights, node.ClonePlight+"; x")
	say(maxPlights+1, "x")
	got := d.heardPlights()
	if len(got) != maxPlights || got[clone] == "" {
		t.Errorf("%d are kept, of the clone %q", len(got), got[clone])
	}
	for i := range maxPlights {
		say(i+2000, node.ClonePlight)
	}
	if got = d.heardPlights(); len(got) != maxPlights || got[clone] == "" {
		t.Errorf("%d are kept, of the first clone %q", len(got), got[clone])
	}
}

// TestPlightsOfAServer: what a server says of others is judged as what they say themselves.
func TestPlightsOfAServer(t *testing.T) {
	d := newDesk(t)
	d.mu.Lock()
	d.seen = map[fleet.ID]node.Sighting{d.db.ID: {ID: d.db.ID, Status: fleet.Online}}
	d.mu.Unlock()
	said := plightList{[]plightOf{
		{d.web.ID, "paused"}, {fleet.Sum([]byte("1")), strings.Repeat("x", maxPlight+1)}, {fleet.Sum([]byte("2")), "a\nb"}, {fleet.Sum([]byte("3")), "\x1b[2J"},
		{fleet.Sum([]byte("4")), "\u009b2J"}, {fleet.Sum([]byte("5")), "new disk f\xc3"},
	}}
	d.peers.kind, d.peers.body = done, wire.Marshal(said)
	d.picture.Store(&picture{record: d.Fleet.Record, beacon: auth.Beacon{Voters: []fleet.ID{d.db.ID}}})
	got := d.askPlights(t.Context())
	if len(got) != 2 || got[d.web.ID] != "paused" || got[fleet.Sum([]byte("5"))] != "new disk f" {
		t.Errorf("%q", got)
	}
}

// TestIdle: a host in quarantine starts nothing, opens nothing, and says why.
func TestIdle(t *testing.T) {
	d := newDesk(t)
	cmd, err := auth.Peek[exec.Command](d.order.Statement)
	if err != nil {
		t.Fatal(err)
	}
	d.cfg.Idle = "twice"
	d.posted()
	d.startRun(t.Context(), node.StartRun{Command: cmd}) // its runner would panic
	posted := d.posted()
	if len(posted) != 1 {
		t.Fatalf("it posts %v", posted)
	}
	if ev, ok := posted[0].(node.RunNotStarted); !ok || ev.As != exec.Refused || ev.Why != "twice" || ev.Command != cmd.Header.ID {
		t.Errorf("it posts %+v", posted[0])
	}
	err = d.admitSession(node.SessionOrder{Kind: auth.SessionForward})
	if err == nil {
		t.Error("it admits a session")
	}
	d.sessions.dial = func(context.Context, string) (net.Conn, error) { return nil, context.Canceled }
	if err := d.admitSession(node.SessionOrder{Kind: auth.SessionForward}); fleet.KindOf(err) != fleet.Denied || !strings.Contains(err.Error(), "twice") {
		t.Errorf("a session: %v", err)
	}
	if s := d.Status(t.Context()); !strings.Contains(strings.Join(s.Warnings, "\n"), node.CloneText) {
		t.Errorf("its status: %q", s.Warnings)
	}
}
