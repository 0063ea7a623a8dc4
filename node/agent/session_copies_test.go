package agent

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/auth/authtest"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
)

func (s *stubSessions) Look(_ context.Context, id fleet.UUID, who string) (io.ReadCloser, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.states[id].Ended != 0 {
		return nil, fleet.Errorf(fleet.Expired, "it has ended")
	}
	r, w := io.Pipe()
	go func() { _, _ = io.WriteString(w, "shown to "+who) }() // and goes on
	return r, nil
}

func (s *stubSessions) PutCopies(fleet.UUID, node.RecordingCopies) error { return nil }
func (s *stubSessions) CopiesOf(fleet.UUID) (c node.RecordingCopies)     { return c }
func (s *stubSessions) Wanting() []fleet.UUID                            { return nil }

// keptShell remembers copies, as a disk does.
type keptShell struct {
	*stubSessions
	mu     sync.Mutex
	copies map[fleet.UUID]node.RecordingCopies
}

func (s *keptShell) PutCopies(id fleet.UUID, c node.RecordingCopies) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.copies[id] = c
	return nil
}

func (s *keptShell) CopiesOf(id fleet.UUID) node.RecordingCopies {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.copies[id]
	c.At = slices.Clone(c.At)
	return c
}

func (s *keptShell) Wanting() (out []fleet.UUID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, c := range s.copies {
		if len(c.At) < c.Want {
			out = append(out, id)
		}
	}
	return out
}

// memoryArchive keeps recordings in memory.
type memoryArchive struct {
	mu    sync.Mutex
	kept  []node.CopyKept
	data  map[fleet.UUID][]byte // also what broke off
	whole map[fleet.UUID]bool
	fail  int // bytes after which the next ones are refused, once; 0: they are not
	takes int
}

func newMemoryArchive() *memoryArchive {
	return &memoryArchive{data: map[fleet.UUID][]byte{}, whole: map[fleet.UUID]bool{}}
}

func (m *memoryArchive) Take(k node.CopyKept) (IncomingRecording, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.takes++
	return &memoryIncoming{m, k}, nil
}

func (m *memoryArchive) List(id fleet.UUID) iter.Seq[node.CopyKept] {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Values(slices.DeleteFunc(slices.Clone(m.kept), func(k node.CopyKept) bool { return !id.IsZero() && k.Note.Session.ID != id }))
}

func (m *memoryArchive) Read(_ fleet.ID, id fleet.UUID) (io.ReadCloser, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return io.NopCloser(bytes.NewReader(m.data[id])), nil
}

func (m *memoryArchive) has(id fleet.UUID) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.whole[id]
}

type memoryIncoming struct {
	m *memoryArchive
	k node.CopyKept
}

func (in *memoryIncoming) Have() (int64, bool) {
	in.m.mu.Lock()
	defer in.m.mu.Unlock()
	id := in.k.Note.Session.ID
	return int64(len(in.m.data[id])), in.m.whole[id]
}

func (in *memoryIncoming) Write(p []byte) (int, error) {
	in.m.mu.Lock()
	defer in.m.mu.Unlock()
	id := in.k.Note.Session.ID
	if in.m.fail > 0 && len(in.m.data[id])+len(p) > in.m.fail {
		in.m.fail = 0
		return 0, fleet.Errorf(fleet.Exhausted, "the disk is full")
	}
	in.m.data[id] = append(in.m.data[id], p...)
	return len(p), nil
}

func (in *memoryIncoming) Commit() error {
	in.m.mu.Lock()
	defer in.m.mu.Unlock()
	id := in.k.Note.Session.ID
	if sha256.Sum256(in.m.data[id]) != in.k.Note.Session.Recording.Digest {
		return fleet.Errorf(fleet.Invalid, "another digest")
	}
	in.m.whole[id] = true
	in.m.kept = append(in.m.kept, in.k)
	return nil
}

func (in *memoryIncoming) Close() {}

// county is a node with recordings, and three servers.
type county struct {
	*authtest.Fleet
	t        *testing.T
	node     *Agent
	shell    *keptShell
	notes    *stubDecisions
	servers  map[fleet.ID]*Agent
	archives map[fleet.ID]*memoryArchive
}

// countyPeers opens streams to the servers.
type countyPeers struct {
	stubPeers
	c *county
}

func (p *countyPeers) OpenBulk(_ context.Context, id fleet.ID) (Stream, error) {
	near, far := newWire(p.c.node.self)
	go p.c.servers[id].ServeBulk(far)
	return near, nil
}

func inCounty(t *testing.T, test func(t *testing.T, c *county)) {
	synctest.Test(t, func(t *testing.T) {
		f := authtest.Found("county")
		time.Sleep(time.Until(f.Now) + time.Hour)
		f.Now = time.Now()
		c := &county{Fleet: f, t: t, shell: &keptShell{stubSessions: newStubSessions(), copies: map[fleet.UUID]node.RecordingCopies{}}, notes: &stubDecisions{},
			servers: map[fleet.ID]*Agent{}, archives: map[fleet.ID]*memoryArchive{}}
		server := func(token *auth.Token) { token.Server = true }
		nodes := []authtest.Node{f.AddNode("db1", nil, server), f.AddNode("db2", nil, server), f.AddNode("web1", nil, func(token *auth.Token) { token.Server = false })}
		nodes = append(nodes[:2:2], f.Nodes[0], nodes[2])
		for _, n := range nodes {
			a := New(Config{Key: n.Key, Fleet: f.ID(), Name: n.Name, Record: f.Record, Folder: &stubFolder{}, Log: slog.New(slog.DiscardHandler),
				Clock: func() auth.Instant { return auth.Instant{Wall: time.Now(), Boot: time.Hour + time.Since(f.Now)} }})
			if n.Name == "web1" {
				c.node = a
				continue
			}
			archive := newMemoryArchive()
			a.Attach(Shells{Peers: &stubPeers{}, Gossip: stubGossip{}, Runner: stubRunner{}, Archive: archive})
			c.servers[a.self], c.archives[a.self] = a, archive
		}
		c.node.Attach(Shells{Peers: &countyPeers{c: c}, Gossip: stubGossip{}, Runner: stubRunner{}, Decisions: c.notes, Sessions: c.shell})
		for id := range c.servers {
			c.sees(id, fleet.Online)
		}
		test(t, c)
	})
}

// sees has gossip say something of a server.
func (c *county) sees(id fleet.ID, status fleet.Status) {
	c.node.mu.Lock()
	defer c.node.mu.Unlock()
	c.node.seen[id] = node.Sighting{ID: id, Status: status}
}

// ends has a session end of which there is a recording.
func (c *county) ends(n byte, recording string) fleet.UUID {
	s := node.SessionState{ID: fleet.UUID{n}, By: c.Operator.ID(), Kind: auth.SessionShell, Ended: time.Now().UnixMilli(),
		Recording: node.SessionRecording{Bytes: int64(len(recording)), Digest: sha256.Sum256([]byte(recording)), Sealed: true}}
	c.shell.stubSessions.mu.Lock()
	c.shell.states[s.ID], c.shell.recorded = s, recording
	c.shell.stubSessions.mu.Unlock()
	_ = c.shell.PutCopies(s.ID, node.RecordingCopies{Want: 2})
	c.node.SessionEnded(s)
	return s.ID
}

func (c *county) holders(id fleet.UUID) (out []fleet.ID) {
	for server, archive := range c.archives {
		if archive.has(id) {
			out = append(out, server)
		}
	}
	return out
}

// run copies until the test ends.
func (c *county) run() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.node.copyRecordings(ctx)
	}()
	return func() { cancel(); <-done }
}

func TestRecordingsAreCopiedToTwoServers(t *testing.T) {
	inCounty(t, func(t *testing.T, c *county) {
		defer c.run()()
		long := strings.Repeat("0123456789abcdef", 20_000)
		id := c.ends(1, long)
		synctest.Wait()
		at := c.holders(id)
		if len(at) != 2 || len(c.shell.Wanting()) != 0 {
			t.Fatalf("it is at %d servers", len(at))
		}
		for _, server := range at {
			k := slices.Collect(c.archives[server].List(id))
			note, err := node.OpenSessionCopy(k[0].Copy, c.ID())
			if err != nil || note.Node != c.node.self || string(c.archives[server].data[id]) != long {
				t.Errorf("%+v, %v", note, err)
			}
			if !slices.Contains(c.shell.CopiesOf(id).At, server) {
				t.Error("its node does not know")
			}
		}
		if said := c.notes.of(id); strings.Count(said, "copy the recording was copied to") != 2 || !strings.Contains(said, "record 320000 bytes are recorded, SHA-256 "+fleet.Sum([]byte(long)).Text()) {
			t.Errorf("noted:\n%s", said)
		}
	})
}

// What breaks off goes on where it was; a server that does not take it is left alone for a while; one that is gone counts no more.
func TestCopiesAreMadeInTheEnd(t *testing.T) {
	inCounty(t, func(t *testing.T, c *county) {
		for server, archive := range c.archives {
			archive.fail = 100_000
			c.sees(server, fleet.ConnectionLost)
		}
		stop := c.run()
		var text strings.Builder
		for i := range 60_000 { // no part of it is like another
			fmt.Fprint(&text, i, " ")
		}
		long := text.String()
		id := c.ends(1, long)
		time.Sleep(time.Minute)
		synctest.Wait()
		for _, archive := range c.archives {
			if archive.takes > 0 {
				t.Error("a server that is not there is asked")
			}
		}
		for server := range c.archives {
			c.sees(server, fleet.Online)
		}
		time.Sleep(copyAgain) // all are tried, and refuse
		synctest.Wait()
		if n := len(c.holders(id)); n != 0 {
			t.Fatalf("it is at %d servers", n)
		}
		stop() // the agent restarts
		c.node.sessions.wanting = newWanting()
		stop = c.run()
		time.Sleep(copyBackoffMost)
		synctest.Wait()
		at := c.holders(id)
		if len(at) != 2 {
			t.Fatalf("it is at %d servers", len(at))
		}
		for _, server := range at {
			if string(c.archives[server].data[id]) != long {
				t.Error("it is not the same")
			}
		}
		c.MustTake(c.RemoveNode(at[0]))
		p := *c.node.picture.Load()
		p.record = c.Record
		c.node.picture.Store(&p)
		stop()
		_ = c.shell.PutCopies(id, node.RecordingCopies{Want: 2, At: at})
		c.node.sessions.wanting.add(id)
		stop = c.run()
		defer stop()
		synctest.Wait()
		if n := len(c.holders(id)); n != 3 {
			t.Errorf("what was lost with a server is not made again: %d", n)
		}
	})
}

// A server keeps what a node says of itself, as the fleet wants it, and nothing else.
func TestWhatServersDoNotKeep(t *testing.T) {
	inCounty(t, func(t *testing.T, c *county) {
		var server *Agent
		for _, a := range c.servers {
			server = a
		}
		other := c.AddNode("other", nil, nil)
		p := *server.picture.Load()
		p.record = c.Record
		server.picture.Store(&p)
		stranger := authtest.Signer("stranger")
		say := func(peer fleet.ID, signer auth.Signer, change func(*node.RecordingNote)) error {
			s := node.SessionState{ID: fleet.UUID{9}, Ended: 5, Recording: node.SessionRecording{Bytes: 3, Digest: sha256.Sum256([]byte("abc")), Sealed: true}}
			note := node.NoteOf(s, signer.ID())
			change(&note)
			near, far := newWire(peer)
			defer near.Close()
			go server.ServeBulk(far)
			go near.WriteFrame(askKeepRecording, wire.Marshal(node.SessionCopy{Key: signer.Public(), Note: signer.Sign(auth.ForRecording, c.ID(), note)}))
			_, _, err := near.ReadFrame()
			return err
		}
		same := func(*node.RecordingNote) {}
		if err := say(other.ID, other.Signer, same); err != nil {
			t.Error(err)
		}
		wantKind(t, say(c.node.self, other.Signer, same), fleet.Denied, "of its own")
		wantKind(t, say(stranger.ID(), stranger, same), fleet.Denied, "not enrolled")
		wantKind(t, say(other.ID, other.Signer, func(n *node.RecordingNote) { n.Node = c.node.self }), fleet.Denied, "another node")
		wantKind(t, say(other.ID, other.Signer, func(n *node.RecordingNote) { n.Session.Recording.Sealed = false }), fleet.Denied, "session.copies")
		wantKind(t, say(other.ID, other.Signer, func(n *node.RecordingNote) { n.Session.Ended = 0 }), fleet.Invalid, "")
		server.sessions.archive = nil
		wantKind(t, say(other.ID, other.Signer, same), fleet.Unavailable, "keeps no recordings")
	})
}

// What a server keeps is given to those who may have it, and only to them.
func TestCopiesAreRead(t *testing.T) {
	inLobby(t, func(t *testing.T, l *lobby) {
		archive := newMemoryArchive()
		l.Agent.sessions.archive = archive
		web := l.AddNode("web1", nil, nil)
		l.learn()
		s := node.SessionState{ID: fleet.UUID{9}, By: l.Operator.ID(), Started: 4, Ended: 5, Recording: node.SessionRecording{Bytes: 3, Digest: sha256.Sum256([]byte("abc")), Sealed: true}}
		note := node.NoteOf(s, web.ID)
		kept := node.CopyKept{Copy: node.SessionCopy{Key: web.Signer.Public(), Note: web.Signer.Sign(auth.ForRecording, l.ID(), note)}, Note: note}
		archive.kept, archive.data[s.ID] = []node.CopyKept{kept}, []byte("abc")
		ask := func(by auth.Signer, what node.ReadWhat) (*wireEnd, node.SessionCopies, error) {
			l.Fleet.Now = time.Now()
			body := node.Read{Header: l.Header(node.ReadLife), What: what, Arg: s.ID, Name: web.ID.Text(), Node: l.self}
			near, answer, err := l.says(by.ID(), node.SessionAsk, l.signed(by, auth.ForRequest, body))
			if err != nil {
				return near, node.SessionCopies{}, err
			}
			copies, err := node.DecodeSession[node.SessionCopies](answer)
			return near, copies, err
		}
		if _, c, err := ask(l.Operator, node.ReadCopies); err != nil || len(c.Copies) != 1 {
			t.Errorf("%+v %v", c, err)
		}
		if _, c, err := ask(l.bob, node.ReadCopies); err != nil || len(c.Copies) != 0 {
			t.Errorf("bob sees %+v %v", c, err)
		}
		from, _, err := ask(l.Operator, node.ReadCopy)
		if err != nil {
			t.Fatal(err)
		}
		if data, err := io.ReadAll(from); err != nil || string(data) != "abc" {
			t.Errorf("%q %v", data, err)
		}
		_, _, err = ask(l.bob, node.ReadCopy)
		wantKind(t, err, fleet.NotFound, "no copy")
		l.Agent.sessions.archive = nil
		if _, c, err := ask(l.Operator, node.ReadCopies); err != nil || len(c.Copies) != 0 {
			t.Errorf("of a host that keeps nothing: %+v %v", c, err)
		}
	})
}

// Whoever may look on sees; when the right is gone, so is the sight.
func TestLookOn(t *testing.T) {
	inLobby(t, func(t *testing.T, l *lobby) {
		_, id := l.open(auth.SessionShell)
		look := func(by auth.Signer, id fleet.UUID) (*wireEnd, error) {
			l.Fleet.Now = time.Now()
			body := node.Read{Header: l.Header(node.ReadLife), What: node.ReadWatch, Arg: id, Node: l.self}
			near, _, err := l.says(by.ID(), node.SessionWatch, l.signed(by, auth.ForRequest, body))
			return near, err
		}
		_, err := look(l.bob, id)
		wantKind(t, err, fleet.NotFound, "no session")
		_, err = look(l.Operator, l.NewID())
		wantKind(t, err, fleet.NotFound, "no session")
		near, err := look(l.Operator, id)
		if err != nil {
			t.Fatal(err)
		}
		near.hears(t, "shown to ada")
		near.Close() // he has seen enough
		synctest.Wait()
		if said := l.notes.of(id); !strings.Contains(said, "watch ada looks on\n") || !strings.Contains(said, "watch ada looks on no more") {
			t.Errorf("noted:\n%s", said)
		}
		l.SetPolicy(lobbyPolicy + `permit (principal in Team::"web", action in [Action::"read", Action::"session.watch"], resource);`)
		l.learn()
		near, err = look(l.bob, id)
		if err != nil {
			t.Fatal(err)
		}
		near.hears(t, "shown to bob")
		l.SetPolicy(lobbyPolicy)
		l.learn()
		if _, err := io.ReadAll(near); !errors.Is(err, errAborted) {
			t.Errorf("he goes on looking: %v", err)
		}
	})
}

func (e *wireEnd) hears(t *testing.T, want string) {
	t.Helper()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(e, got); err != nil || string(got) != want {
		t.Fatalf("%q, %v; want %q", got, err, want)
	}
}

// FuzzKeepRecording: whatever a node sends on the bulk plane, nothing is kept but what it signed, with the digest that it signed.
func FuzzKeepRecording(f *testing.F) {
	fixture := authtest.Found("county")
	web := fixture.AddNode("web1", nil, nil)
	s := node.SessionState{ID: fleet.UUID{9}, Ended: 5, Recording: node.SessionRecording{Bytes: 3, Digest: sha256.Sum256([]byte("abc")), Sealed: true}}
	good := wire.Marshal(node.SessionCopy{Key: web.Signer.Public(), Note: web.Signer.Sign(auth.ForRecording, fixture.ID(), node.NoteOf(s, web.ID))})
	f.Add(good, recordingData, []byte("abc"), recordingEnd, []byte{})
	f.Add(good, recordingEnd, []byte{}, recordingData, []byte("abc"))
	f.Add(good, recordingData, []byte("abcd"), recordingEnd, []byte{})
	f.Add(good, byte(7), []byte{}, byte(0), []byte{})
	f.Add([]byte{0xc0}, recordingData, []byte{}, recordingEnd, []byte{})
	f.Fuzz(func(t *testing.T, copied []byte, kind1 byte, body1 []byte, kind2 byte, body2 []byte) {
		archive := newMemoryArchive()
		a := New(Config{Key: fixture.Nodes[0].Key, Fleet: fixture.ID(), Name: "node-0", Record: fixture.Record, Folder: &stubFolder{}, Log: slog.New(slog.DiscardHandler),
			Clock: func() auth.Instant { return auth.Instant{Wall: fixture.Now, Boot: time.Hour} }})
		a.Attach(Shells{Peers: &stubPeers{}, Gossip: stubGossip{}, Runner: stubRunner{}, Archive: archive})
		near, far := newWire(web.ID)
		done := make(chan struct{})
		go func() {
			defer close(done)
			a.ServeBulk(far)
		}()
		go func() { _, _ = io.Copy(io.Discard, near) }()
		for _, frame := range []struct {
			kind byte
			body []byte
		}{{askKeepRecording, copied}, {kind1, body1}, {kind2, body2}} {
			if near.WriteFrame(frame.kind, frame.body) != nil {
				break
			}
		}
		near.Close()
		<-done
		for _, k := range archive.kept {
			if !bytes.Equal(wire.Marshal(k.Copy), good) || string(archive.data[k.Note.Session.ID]) != "abc" {
				t.Fatalf("kept: %+v", k.Note)
			}
		}
	})
}
