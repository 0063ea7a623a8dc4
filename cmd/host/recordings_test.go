package host

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/muster-fleet/muster/exec/outlet"
	"github.com/muster-fleet/muster/exec/s3/s3test"
	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/agent"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/auth/authtest"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
	"github.com/muster-fleet/muster/node/session"
)

// studio is a host of which only sessions and their recordings are there.
type studio struct {
	*Host
	fleet *authtest.Fleet
	stop  func()
}

func newStudio(t *testing.T, dir string, settings map[string]string) *studio {
	t.Helper()
	f := authtest.Found("studio")
	for name, value := range settings {
		change := auth.SettingChange{Header: f.Header(0), Name: name, Value: value}
		f.MustTake(authtest.Proposal{Kind: auth.ActSetting, Data: wire.Marshal(f.Sign(auth.ForSetting, change))})
	}
	h := &Host{ID: f.Nodes[0].ID, Name: f.Nodes[0].Name, opts: Options{Dir: dir, Log: slog.New(slog.DiscardHandler)}}
	h.Agent = agent.New(agent.Config{
		Key: f.Nodes[0].Key, Fleet: f.ID(), Name: h.Name, Record: f.Record, Log: h.opts.Log,
		Clock: func() auth.Instant { return auth.Instant{Wall: time.Now(), Boot: time.Hour} },
	})
	var shells agent.Shells
	h.makeRecordings(&shells, true)
	if h.leaving == nil || shells.Archive == nil {
		t.Fatal("there is no queue, or no archive")
	}
	var err error
	h.sessions, err = session.Open(session.Config{Dir: dir, Self: []string{"/bin/false"}, Node: h.ID, NodeName: func() string { return h.Name }, Ended: h.sessionEnded, Wants: h.wantsCopies})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		h.runRecordings(ctx)
	}()
	s := &studio{Host: h, fleet: f}
	s.stop = func() { cancel(); <-done; h.sessions.Close() }
	return s
}

// tunnel has a session, in which there was one connection, begin and end.
func (s *studio) tunnel(t *testing.T, auditors ...[]byte) fleet.UUID {
	t.Helper()
	now := time.Now().UnixMilli()
	o := node.SessionOrder{ID: s.fleet.NewID(), Operator: "ada", From: "10.0.0.9:1", Rule: "rule", Kind: auth.SessionForward, Forward: []string{"db:5432"}, Opened: now, Auditors: auditors}
	if err := s.sessions.OpenTunnel(o); err != nil {
		t.Fatal(err)
	}
	s.sessions.TunnelConnection(o.ID, node.SessionConnection{To: "db:5432", Began: now, Ended: now, In: 4711, Out: 1})
	state := o.State()
	state.Ended, state.Why = now+1, "it is enough"
	s.sessions.EndTunnel(state)
	return o.ID
}

func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(30 * time.Second)
	for !ok() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("waited 30 s until %s", what)
		}
	}
}

func fileOf(t *testing.T, dir string, id fleet.UUID) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, sessionsName, id.String(), "cast"))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// A recording leaves for a bucket when its session has ended, also if the store fails at first, or the agent restarts.
func TestRecordingsLeave(t *testing.T) {
	store := s3test.New(t)
	for _, kv := range store.Env() {
		k, v, _ := strings.Cut(kv, "=")
		t.Setenv(k, v)
	}
	store.Fail(503)
	dir := t.TempDir()
	s := newStudio(t, dir, map[string]string{auth.SettingSessionTo: "s3://logs/sessions"})
	id := s.tunnel(t)
	want := fileOf(t, dir, id)
	key := "logs/sessions/" + id.String() + "/" + s.Name + "/session.cast"
	await(t, "it is in the bucket", func() bool {
		got, ok := store.Object(key)
		return ok && bytes.Equal(got, want)
	})
	if !bytes.Contains(want, []byte("connection: db:5432")) {
		t.Errorf("%s", want)
	}
	s.stop()

	folder := t.TempDir()
	s = newStudio(t, t.TempDir(), map[string]string{auth.SettingSessionTo: folder + "/missing"})
	id = s.tunnel(t)
	s.stop() // while it cannot be copied
	if err := os.Mkdir(folder+"/missing", 0o700); err != nil {
		t.Fatal(err)
	}
	s = newStudio(t, s.opts.Dir, nil) // where the fleet wants it elsewhere by now, it still goes there
	defer s.stop()
	await(t, "it is in the folder", func() bool {
		got, err := os.ReadFile(filepath.Join(folder, "missing", id.String(), s.Name, "session.cast"))
		return err == nil && bytes.Equal(got, fileOf(t, s.opts.Dir, id))
	})
}

// What goes to a log is lines: who, what, each connection, the end; of what is sealed, its digest and nothing else.
func TestRecordingsInLines(t *testing.T) {
	s := newStudio(t, t.TempDir(), nil)
	defer s.stop()
	lines := func(id fleet.UUID) string {
		r, size, err := s.openRecording(id, outlet.StreamLines)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		data, err := io.ReadAll(r)
		if err != nil || int64(len(data)) != size {
			t.Errorf("%d of %d bytes, %v", len(data), size, err)
		}
		return string(data)
	}
	text := lines(s.tunnel(t))
	for _, want := range []string{"\tsession\tby ada from 10.0.0.9:1: db:5432; permitted by rule\n", "\tconnection\tdb:5432, ", "4711 bytes in", "\tend\texit 0, it is enough\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
	id := s.tunnel(t, s.fleet.Record.Charter.Operators()[0].HPKE)
	state, err := s.sessions.Get(id)
	if err != nil || !state.Recording.Sealed {
		t.Fatal(state, err)
	}
	text = lines(id)
	if !strings.Contains(text, "sealed to auditors") || !strings.Contains(text, state.Recording.Digest.Text()) || strings.Contains(text, "4711") || strings.Count(text, "\n") != 2 {
		t.Errorf("of a sealed one:\n%s", text)
	}
	if s.sessions.CopiesOf(id).Want != node.SessionServers {
		t.Error("it is not to be copied to servers")
	}
	if _, _, err := s.openRecording(fleet.UUID{1}, outlet.StreamCast); fleet.KindOf(err) != fleet.NotFound {
		t.Errorf("of none: %v", err)
	}
}
