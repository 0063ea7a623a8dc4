package session

import (
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

func aTunnel() node.SessionOrder {
	o := order1(auth.SessionForward)
	o.Record, o.Forward, o.Listen = node.RecordNone, []string{"db:5432"}, []string{"127.0.0.1:0"}
	return o
}

// ends ends a tunnel as the agent does.
func (h *house) ends(o node.SessionOrder, why string) {
	s := o.State()
	s.Ended, s.Active, s.In, s.Out, s.Why = time.Now().UnixMilli(), o.Opened+1, 10, 20, why
	h.EndTunnel(s)
}

// What a tunnel did is kept: each connection in its recording, the last ones with its end; and it is told of once.
func TestATunnelIsKept(t *testing.T) {
	t.Parallel()
	h := open(t, Config{})
	o := aTunnel()
	if err := h.OpenTunnel(o); err != nil {
		t.Fatal(err)
	}
	if err := h.OpenTunnel(o); fleet.KindOf(err) != fleet.Conflict {
		t.Errorf("it is opened twice: %v", err)
	}
	if len(h.List()) > 0 || len(h.Known()) > 0 {
		t.Error("one that runs is told of here, too")
	}
	var all sync.WaitGroup
	for n := range 20 {
		all.Go(func() {
			h.TunnelConnection(o.ID, node.SessionConnection{To: "db:5432", From: strings.Repeat("f", 1000), Began: 1_000, Ended: 2_500, In: int64(n), Out: 7, Why: strings.Repeat("ü", 1000)})
		})
	}
	all.Wait()
	h.ends(o, "ended by ann")
	h.ends(o, "again")
	h.TunnelConnection(o.ID, node.SessionConnection{To: "db:5432"})
	s := h.ended(o.ID)
	if s.Why != "ended by ann" || s.In != 10 || s.Out != 20 || s.Dials != 20 || len(s.Recent) != maxEndRecent || s.Forward[0] != "db:5432" || len(s.Recent[0].Why) > maxEndText {
		t.Errorf("%+v", s)
	}
	h = h.reopen()
	got, err := h.Get(o.ID)
	if err != nil || got.Why != s.Why || got.Dials != 20 || len(got.Recent) != maxEndRecent || got.Recording.Digest.IsZero() || got.Recording.Bytes == 0 {
		t.Errorf("%+v %v", got, err)
	}
	if all := h.List(); len(all) != 1 || all[0].Ended == 0 || len(h.told[o.ID]) != 0 {
		t.Errorf("%+v, told again: %v", all, h.told)
	}
	f, err := h.Recording(o.ID)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	text, err := io.ReadAll(f)
	if err != nil || !strings.Contains(string(text), `"kind":"forward"`) || !strings.Contains(string(text), "1970-01-01T00:00:01.000Z, for 1.5s") || !strings.Contains(string(text), "end: exit 0, ended by ann") {
		t.Errorf("%v\n%s", err, text)
	}
	if n := strings.Count(string(text), "connection: "); n < 1 || n > 20 {
		t.Errorf("%d connections are recorded", n)
	}
}

// A tunnel whose agent died has ended, and is told of by the next one.
func TestATunnelWhoseAgentDied(t *testing.T) {
	t.Parallel()
	h := open(t, Config{})
	o := aTunnel()
	if err := h.OpenTunnel(o); err != nil {
		t.Fatal(err)
	}
	h.TunnelConnection(o.ID, node.SessionConnection{To: "db:5432", Ended: 1})
	h.mu.Lock()
	x := h.tunnels[o.ID]
	h.mu.Unlock()
	x.end.Close() // as the kernel does
	h = h.reopen()
	s := h.ended(o.ID)
	if s.Why != "its agent died" || s.Code != -1 || s.Recording.Bytes == 0 {
		t.Errorf("%+v", s)
	}
	if err := h.OpenTunnel(o); fleet.KindOf(err) != fleet.Conflict {
		t.Errorf("it is opened again: %v", err)
	}
}

// Where auditors are named and none can be found, nothing is recorded that others could read.
func TestATunnelThatMayNotBeRecorded(t *testing.T) {
	t.Parallel()
	h := open(t, Config{})
	o := aTunnel()
	o.Unrecorded = "nobody may read it"
	if err := h.OpenTunnel(o); err != nil {
		t.Fatal(err)
	}
	h.TunnelConnection(o.ID, node.SessionConnection{To: "db:5432"})
	h.ends(o, "")
	if s := h.ended(o.ID); s.Recording != (node.SessionRecording{}) || s.Dials != 1 {
		t.Errorf("%+v", s)
	}
	if _, err := h.Recording(o.ID); fleet.KindOf(err) != fleet.NotFound {
		t.Error(err)
	}
}

// The largest end of a tunnel fits into its block.
func TestTheEndOfATunnelFits(t *testing.T) {
	long := node.SessionConnection{To: strings.Repeat("t", 400), From: strings.Repeat("f", 400), Why: strings.Repeat("w", 400), Began: 1 << 62, Ended: 1 << 62, In: 1 << 62, Out: 1 << 62}
	e := ending{Ended: 1 << 62, Active: 1 << 62, In: 1 << 62, Out: 1 << 62, Why: strings.Repeat("w", maxWhy), Signal: "RTMIN+15", Dials: 1 << 62,
		Recording: node.SessionRecording{Bytes: 1 << 62, Left: 1 << 62, Sealed: true}}
	for range maxEndRecent {
		e.Recent = append(e.Recent, inEnd(long))
	}
	if n := len(e.sealed()); n > 4096 {
		t.Errorf("%d bytes", n)
	}
}
