package agent

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
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
	"github.com/muster-fleet/muster/node/release"
	"github.com/muster-fleet/muster/node/release/store"
)

// hall is agents that open streams on the bulk plane to each other, in memory. Some of them may be no agents.
type hall struct {
	*testing.T
	*authtest.Fleet
	agents []*Agent
	ids    []fleet.ID
	mu     sync.Mutex
	serve  map[fleet.ID]func(Stream)
	sent   map[fleet.ID]int // chunks, by who sent them
	made   releaseMade
	slow   time.Duration // a chunk takes on its way; 0: 20 ms
}

type releaseMade struct {
	signed   release.Signed
	manifest release.Manifest
	binary   []byte
	packed   []byte
	file     []byte
}

// inHall runs a test with so many agents; the fleet takes releases of authtest's "maker".
func inHall(t *testing.T, n int, test func(*hall)) {
	t.Helper()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		h := &hall{T: t, Fleet: authtest.Found("releases"), serve: map[fleet.ID]func(Stream){}, sent: map[fleet.ID]int{}}
		for i := 1; i < n; i++ {
			h.AddNode(fmt.Sprintf("web-%d", i), nil, nil)
		}
		h.trust(auth.FormatReleaseKey(authtest.Signer("maker").Public()))
		h.made = h.make("1.2.0", 12, "maker")
		for i, node := range h.Fleet.Nodes[:n] {
			h.agents = append(h.agents, h.agent(node, filepath.Join(dir, fmt.Sprint(i))))
			h.ids = append(h.ids, node.ID)
		}
		test(h)
		time.Sleep(2 * time.Minute) // whatever still waits for somebody gives up
	})
}

func (h *hall) trust(keys string) {
	change := h.Sign(auth.ForSetting, auth.SettingChange{Header: h.Header(0), Name: auth.SettingReleaseKeys, Value: keys})
	h.MustTake(authtest.Proposal{Kind: auth.ActSetting, Data: wire.Marshal(change)})
}

func (h *hall) make(version string, chunks int, by ...string) (m releaseMade) {
	h.Helper()
	m.binary = make([]byte, chunks*release.ChunkSize-5000)
	_, _ = rand.NewChaCha8(sha256.Sum256([]byte(version))).Read(m.binary)
	build, packed, err := release.Pack(runtime.GOARCH, m.binary)
	if err != nil {
		h.Fatal(err)
	}
	m.packed = packed
	if m.manifest, err = release.NewManifest(version, fleet.LevelNewest, h.Now, []release.Build{build}); err != nil {
		h.Fatal(err)
	}
	var keys []auth.Signer
	for _, name := range by {
		keys = append(keys, authtest.Signer(name))
	}
	if m.signed, err = release.Sign(m.manifest, keys...); err != nil {
		h.Fatal(err)
	}
	var b bytes.Buffer
	if err := release.WriteFile(&b, m.signed, m.manifest, map[string][]byte{build.Arch: packed}); err != nil {
		h.Fatal(err)
	}
	m.file = b.Bytes()
	return m
}

func (h *hall) agent(node authtest.Node, dir string) *Agent {
	h.Helper()
	kept, err := store.Open(store.Config{Dir: dir})
	if err != nil {
		h.Fatal(err)
	}
	h.Cleanup(func() { kept.Close() })
	began := time.Now()
	a := New(Config{
		Key: node.Key, Fleet: h.Fleet.ID(), Name: node.Name, Record: h.Fleet.Record, Folder: &stubFolder{}, Seed: uint64(len(h.agents)) + 1,
		Clock: func() auth.Instant { return auth.Instant{Wall: h.Now, Boot: time.Hour + time.Since(began)} }, Log: slog.New(slog.DiscardHandler),
	})
	a.Attach(Shells{Peers: hallPeers{&stubPeers{}, h, node.ID}, Gossip: stubGossip{}, Runner: stubRunner{}, Releases: shelf4{kept}})
	h.serve[node.ID] = a.ServeBulk
	return a
}

// shelf4 lets an agent use the store, as cmd/host does.
type shelf4 struct{ *store.Store }

func (s shelf4) Build(digest fleet.ID, arch string) (KeptBuild, error) {
	b, err := s.Store.Build(digest, arch)
	if err != nil {
		return nil, err
	}
	return b, nil
}

func (s shelf4) Take(signed release.Signed, m release.Manifest, arch string) (KeptBuild, func(), error) {
	b, done, err := s.Store.Take(signed, m, arch)
	if err != nil {
		return nil, nil, err
	}
	return b, done, nil
}

type hallPeers struct {
	*stubPeers
	hall *hall
	self fleet.ID
}

func (p hallPeers) OpenBulk(_ context.Context, id fleet.ID) (Stream, error) {
	p.hall.mu.Lock()
	serve := p.hall.serve[id]
	p.hall.mu.Unlock()
	if serve == nil {
		return nil, fleet.Errorf(fleet.Unavailable, "no answer")
	}
	mine, theirs := streamPair(id, p.self, func() {
		time.Sleep(max(p.hall.slow, 20*time.Millisecond))
		p.hall.mu.Lock()
		defer p.hall.mu.Unlock()
		p.hall.sent[id]++
	})
	go serve(theirs)
	return mine, nil
}

// down takes a node away, for those who come from now on.
func (h *hall) down(id fleet.ID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.serve, id)
}

// bulkEnd is one end of a stream in memory.
type bulkEnd struct {
	peer   fleet.ID
	in     chan frame
	out    *bulkEnd
	ctx    context.Context
	close  context.CancelFunc
	chunks func()
}

func streamPair(a, b fleet.ID, chunks func()) (*bulkEnd, *bulkEnd) {
	ctx, stop := context.WithCancel(context.Background())
	mine, theirs := &bulkEnd{peer: a, in: make(chan frame, 2), ctx: ctx, close: stop}, &bulkEnd{peer: b, in: make(chan frame, 2), ctx: ctx, close: stop, chunks: chunks}
	mine.out, theirs.out = theirs, mine
	return mine, theirs
}

func (s *bulkEnd) Peer() fleet.ID           { return s.peer }
func (s *bulkEnd) Context() context.Context { return s.ctx }
func (s *bulkEnd) Close() error {
	s.close()
	return nil
}

func (s *bulkEnd) ReadFrame() (byte, []byte, error) {
	select {
	case f := <-s.in:
		return s.read(f)
	case <-s.ctx.Done():
		select {
		case f := <-s.in:
			return s.read(f)
		default:
			return 0, nil, io.EOF
		}
	}
}

func (s *bulkEnd) read(f frame) (byte, []byte, error) {
	if f.kind == 0xff {
		return 0, nil, fleet.Errorf(fleet.ParseKind(string(f.body[:bytes.IndexByte(f.body, 0)])), "%s", f.body[bytes.IndexByte(f.body, 0)+1:])
	}
	return f.kind, f.body, nil
}

func (s *bulkEnd) WriteFrame(kind byte, body []byte) error {
	if kind == releaseChunk {
		s.chunks()
	}
	select {
	case s.out.in <- frame{kind, body}:
		return nil
	case <-s.ctx.Done():
		return fleet.Errorf(fleet.Unavailable, "the stream is closed")
	}
}

func (s *bulkEnd) WriteError(err error) error {
	return s.WriteFrame(0xff, []byte(fleet.KindOf(err).String()+"\x00"+err.Error()))
}

// bring puts the release on an agent's host.
func (h *hall) bring(a *Agent) {
	h.Helper()
	if _, err := a.PutRelease(h.Context(), bytes.NewReader(h.made.file), release.Bringer{}); err != nil {
		h.Fatal(err)
	}
}

type fetchedBy struct {
	release.Fetched
	err  error
	last release.Progress
}

// fetch lets agents fetch, all at once.
func (h *hall) fetch(agents []*Agent, sources ...fleet.ID) []fetchedBy {
	out := make([]fetchedBy, len(agents))
	var work sync.WaitGroup
	for i, a := range agents {
		work.Go(func() {
			out[i].Fetched, out[i].err = a.FetchRelease(h.Context(), h.made.signed.Digest(), sources, func(p release.Progress) error {
				out[i].last = p
				return nil
			})
		})
	}
	work.Wait()
	return out
}

func (h *hall) allHave(all []fetchedBy) {
	h.Helper()
	for i, f := range all {
		got, _ := os.ReadFile(f.Path)
		if f.err != nil || !bytes.Equal(got, h.made.binary) || f.Release.Version != h.made.manifest.Version {
			h.Errorf("fetch %d: %+v: %v", i, f, f.err)
		}
	}
}

func (a *Agent) underWay() int {
	a.releases.mu.Lock()
	defer a.releases.mu.Unlock()
	return len(a.releases.fetches)
}

func (a *Agent) placesTaken() int {
	a.releases.mu.Lock()
	defer a.releases.mu.Unlock()
	return len(a.releases.slots)
}

// gave returns how many chunks a node sent.
func (h *hall) gave(id fleet.ID) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.sent[id]
}

// TestReleaseSpreads: ten hosts fetch at once, and the source sends no more than its copies; each host gets every chunk once, or
// hardly more.
func TestReleaseSpreads(t *testing.T) {
	inHall(t, 11, func(h *hall) {
		h.bring(h.agents[0])
		all := h.fetch(h.agents[1:], h.ids[0])
		h.allHave(all)
		chunks := len(h.made.manifest.Builds[0].Chunks)
		if h.gave(h.ids[0]) > release.Copies*chunks+chunks/3 { // somebody may have had to insist
			h.Errorf("the source sent %d chunks of %d", h.gave(h.ids[0]), chunks)
		}
		sum := 0
		for _, id := range h.ids {
			sum += h.gave(id)
		}
		if sum > 11*chunks {
			h.Errorf("%d chunks were sent for ten hosts of %d", sum, chunks)
		}
		if got := h.agents[0].Releases(h.Context()); got[0].Builds[0].Given != h.gave(h.ids[0]) || h.agents[0].ReleaseStats().Sent == 0 || h.agents[1].ReleaseStats().Got == 0 {
			h.Errorf("%+v is told of what was given", got)
		}
		again := h.fetch(h.agents[1:2])
		h.allHave(again)
		if !again[0].FromDisk || again[0].Bytes != 0 {
			h.Errorf("%+v: it is fetched again", again[0])
		}
	})
}

// TestReleaseGoesOn: the source dies on the way, when the others have all of it between them; and one that was half is whole with
// what was missing alone.
func TestReleaseGoesOn(t *testing.T) {
	inHall(t, 3, func(h *hall) {
		h.bring(h.agents[0])
		h.slow = 300 * time.Millisecond
		ctx, stop := context.WithCancel(h.Context())
		_, err := h.agents[1].FetchRelease(ctx, h.made.signed.Digest(), h.ids[:1], func(p release.Progress) error {
			if p.Have > 3 {
				stop()
			}
			return nil
		})
		if err == nil {
			h.Fatal("it was not ended")
		}
		synctest.Wait()
		time.Sleep(time.Second) // what was on its way
		if h.agents[1].underWay() > 0 {
			h.Fatal("a fetch goes on though nobody wants it")
		}
		held := h.agents[1].Releases(h.Context())[0].Builds[0]
		if held.Have < 3 || held.Have == held.Chunks {
			h.Fatalf("%+v", held)
		}
		got := h.fetch(h.agents[1:2], h.ids[0])
		h.allHave(got)
		if got[0].Resumed != held.Have || int(got[0].Bytes) > (held.Chunks-held.Have)*release.ChunkSize {
			h.Errorf("%+v with %+v there", got[0], held)
		}
		h.down(h.ids[0])
		h.allHave(h.fetch(h.agents[2:], h.ids[0], h.ids[1]))
	})
}

// TestReleaseLiars: whatever members answer, the release comes whole from those who do what they should, and a liar is asked
// no more.
func TestReleaseLiars(t *testing.T) {
	hello := func(s Stream, chunks int) bool {
		kind, _, err := s.ReadFrame()
		if err != nil || kind != askChunks {
			return false
		}
		have := release.NewBits(chunks)
		for n := range chunks {
			have.Put(n)
		}
		return s.WriteFrame(releaseHello, wire.Marshal(release.Hello{Have: have})) == nil
	}
	garbage := func(h *hall, index func(release.Ask) int) func(Stream) {
		return func(s Stream) {
			defer s.Close()
			chunks := len(h.made.manifest.Builds[0].Chunks)
			if !hello(s, chunks) {
				return
			}
			for {
				_, body, err := s.ReadFrame()
				if err != nil {
					return
				}
				want, _ := release.DecodeAsk(body, chunks)
				message, data := release.EncodeChunk(release.Chunk{Index: index(want), Have: release.NewBits(chunks)}, release.ChunkSize)
				copy(data, "not what was asked for")
				if s.WriteFrame(releaseChunk, message) != nil {
					return
				}
			}
		}
	}
	for name, liar := range map[string]func(h *hall) func(Stream){
		"gives rubbish": func(h *hall) func(Stream) {
			return garbage(h, func(a release.Ask) int { return append(a.Want.All(), 0)[0] })
		},
		"gives another chunk": func(h *hall) func(Stream) {
			return func(s Stream) {
				defer s.Close()
				chunks := len(h.made.manifest.Builds[0].Chunks)
				if !hello(s, chunks) {
					return
				}
				for {
					if _, _, err := s.ReadFrame(); err != nil {
						return
					}
					message, data := release.EncodeChunk(release.Chunk{Index: 0, Have: release.NewBits(chunks)}, release.ChunkSize)
					copy(data, h.made.packed)
					if s.WriteFrame(releaseChunk, message) != nil {
						return
					}
				}
			}
		},
		"says what nobody asked": func(h *hall) func(Stream) {
			return func(s Stream) {
				defer s.Close()
				chunks := len(h.made.manifest.Builds[0].Chunks)
				if !hello(s, chunks) {
					return
				}
				message, data := release.EncodeChunk(release.Chunk{Index: 0, Have: release.NewBits(chunks)}, release.ChunkSize)
				copy(data, h.made.packed)
				for s.WriteFrame(releaseChunk, message) == nil {
				}
			}
		},
		"stalls": func(h *hall) func(Stream) {
			return func(s Stream) {
				if hello(s, len(h.made.manifest.Builds[0].Chunks)) {
					<-s.Context().Done()
				}
			}
		},
		"says nothing": func(*hall) func(Stream) { return func(s Stream) { <-s.Context().Done() } },
		"hangs up":     func(*hall) func(Stream) { return func(s Stream) { s.Close() } },
		"is of yesterday": func(*hall) func(Stream) {
			return func(s Stream) {
				defer s.Close()
				_ = s.WriteError(fleet.Errorf(fleet.Invalid, "request of kind 39 is not understood on the bulk plane by this version"))
			}
		},
		"says nonsense": func(*hall) func(Stream) {
			return func(s Stream) {
				defer s.Close()
				_ = s.WriteFrame(releaseHello, bytes.Repeat([]byte{0xdd}, 100))
			}
		},
		"names strangers": func(h *hall) func(Stream) {
			return func(s Stream) {
				defer s.Close()
				_, _, _ = s.ReadFrame()
				out := release.Hello{Have: release.NewBits(len(h.made.manifest.Builds[0].Chunks)), Busy: true}
				for n := range release.MaxNames {
					out.Names = append(out.Names, fleet.Sum([]byte{byte(n)}))
				}
				_ = s.WriteFrame(releaseHello, wire.Marshal(out))
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			inHall(t, 5, func(h *hall) {
				h.bring(h.agents[0])
				for _, id := range h.ids[3:] {
					h.serve[id] = liar(h)
				}
				h.allHave(h.fetch(h.agents[1:3], h.ids[3], h.ids[0], h.ids[4]))
				if name == "gives rubbish" || name == "gives another chunk" {
					for _, id := range h.ids[3:] {
						if h.gave(id) > 2*4 { // two hosts have two asks under way each
							h.Errorf("a liar sent %d chunks", h.gave(id))
						}
					}
				}
			})
		})
	}
}

// TestReleaseNobodyHasIt: it ends with a reason, and what came stays.
func TestReleaseNobodyHasIt(t *testing.T) {
	inHall(t, 3, func(h *hall) {
		got := h.fetch(h.agents[1:2], h.ids[0])
		if fleet.KindOf(got[0].err) != fleet.Unavailable || !strings.Contains(got[0].err.Error(), "is not here") {
			h.Errorf("%v", got[0].err)
		}
		if got := h.fetch(h.agents[1:2]); fleet.KindOf(got[0].err) != fleet.NotFound {
			h.Errorf("%v", got[0].err)
		}
		h.bring(h.agents[0])
		h.serve[h.ids[0]] = func(s Stream) { // the manifest and no chunk
			kind, body, _ := s.ReadFrame()
			if kind == askRelease {
				_ = h.agents[0].serveRelease(s, body)
			}
			s.Close()
		}
		got = h.fetch(h.agents[1:2], h.ids[0])
		if fleet.KindOf(got[0].err) != fleet.Unavailable || !strings.Contains(got[0].err.Error(), "0 of 12 chunks are here") {
			h.Errorf("%v", got[0].err)
		}
	})
}

// TestReleaseTrust: no host installs what its own record does not name the keys of, wherever it comes from.
func TestReleaseTrust(t *testing.T) {
	inHall(t, 4, func(h *hall) {
		h.bring(h.agents[0])
		theirs := h.make("1.3.0", 2, "stranger")
		if _, err := h.agents[0].PutRelease(h.Context(), bytes.NewReader(theirs.file), release.Bringer{}); fleet.KindOf(err) != fleet.Denied || !strings.Contains(err.Error(), "stranger") {
			h.Errorf("%v", err)
		}
		other := h.make("1.2.0", 12, "stranger") // the same but for who signed
		swapped := func(s Stream) {
			defer s.Close()
			if kind, _, _ := s.ReadFrame(); kind == askRelease {
				_ = s.WriteFrame(releaseSigned, other.signed.Encode())
			}
		}
		h.serve[h.ids[1]] = swapped
		got := h.fetch(h.agents[2:3], h.ids[1])
		if fleet.KindOf(got[0].err) != fleet.Denied {
			h.Errorf("%v", got[0].err)
		}
		third := h.make("1.4.0", 2, "maker")
		h.serve[h.ids[1]] = func(s Stream) { // another release than that which was asked for
			defer s.Close()
			if kind, _, _ := s.ReadFrame(); kind == askRelease {
				_ = s.WriteFrame(releaseSigned, third.signed.Encode())
			}
		}
		h.allHave(h.fetch(h.agents[2:3], h.ids[1], h.ids[0]))
		h.agents[3].picture.Store(&picture{record: auth.NewRecord()})
		if got := h.fetch(h.agents[3:], h.ids[0]); fleet.KindOf(got[0].err) != fleet.Denied || !strings.Contains(got[0].err.Error(), "takes nobody's releases") {
			h.Errorf("%v", got[0].err)
		}
	})
}

// sends answers who asks for a manifest with another, and everything else as the agent behind it does.
func (h *hall) sends(a *Agent, signed release.Signed) func(Stream) {
	return func(s Stream) {
		kind, body, err := s.ReadFrame()
		switch {
		case err != nil:
		case kind == askRelease:
			_ = s.WriteFrame(releaseSigned, signed.Encode())
		case kind == askChunks:
			_ = a.serveChunks(s, body)
		}
		s.Close()
	}
}

// TestReleaseStripped: a source that gives the manifest without its signatures keeps nobody from another that has them, and the
// word is final only when all have said so.
func TestReleaseStripped(t *testing.T) {
	inHall(t, 4, func(h *hall) {
		h.bring(h.agents[0])
		stripped := h.made.signed
		stripped.Seals = nil
		h.serve[h.ids[1]] = h.sends(h.agents[1], stripped)
		h.allHave(h.fetch(h.agents[2:3], h.ids[1], h.ids[0]))
		began := time.Now()
		if got := h.fetch(h.agents[3:], h.ids[1]); fleet.KindOf(got[0].err) != fleet.Denied || time.Since(began) > releaseAskAgain {
			h.Errorf("%v after %s", got[0].err, time.Since(began))
		}
		h.down(h.ids[0])
		if got := h.fetch(h.agents[3:], h.ids[1], h.ids[0]); fleet.KindOf(got[0].err) != fleet.Denied || time.Since(began) < releaseAsked {
			h.Errorf("%v after %s: the other source was not waited for", got[0].err, time.Since(began))
		}
	})
}

// TestReleaseSeals: a host keeps, and gives on, the signatures alone that it verified: a bad one of a key that the fleet does not
// take yet is not in the way when it does.
func TestReleaseSeals(t *testing.T) {
	inHall(t, 3, func(h *hall) {
		h.made = h.make("1.2.0", 12, "maker", "second")
		h.bring(h.agents[0])
		spoilt := h.made.signed
		spoilt.Seals = append([]release.Seal{}, spoilt.Seals...)
		for i, seal := range spoilt.Seals {
			if seal.Key == authtest.Signer("second").ID() {
				spoilt.Seals[i].Signature = make([]byte, len(seal.Signature))
			}
		}
		h.serve[h.ids[0]] = h.sends(h.agents[0], spoilt)
		h.allHave(h.fetch(h.agents[1:2], h.ids[0]))
		signed, err := h.agents[1].releases.shell.Signed(h.made.signed.Digest())
		if err != nil || len(signed.Seals) != 1 || signed.Seals[0].Key != authtest.Signer("maker").ID() {
			h.Fatalf("%+v, %v", signed.Seals, err)
		}
	})
}

// TestReleaseJoined: who joins a fetch is not told that nobody wanted it before, and is asked for nothing in vain: the sources that
// they name are asked as well.
func TestReleaseJoined(t *testing.T) {
	inHall(t, 3, func(h *hall) {
		h.bring(h.agents[0])
		h.slow = 300 * time.Millisecond
		a, digest := h.agents[1], h.made.signed.Digest()
		each := func(release.Progress) error { return nil }
		first := a.joinFetch(digest, h.ids[:1])
		time.Sleep(500 * time.Millisecond)
		a.leaveFetch(first) // the last one goes, and the fetch has not ended yet
		got, err := a.FetchRelease(h.Context(), digest, h.ids[:1], each)
		if h.allHave([]fetchedBy{{Fetched: got, err: err}}); a.underWay() > 0 {
			h.Error("it is still under way")
		}

		ctx, stop := context.WithCancel(h.Context())
		defer stop()
		go func() { _, _ = h.agents[2].FetchRelease(ctx, digest, []fleet.ID{fleet.Sum([]byte("nobody"))}, each) }()
		time.Sleep(releaseAskAgain / 2)
		h.allHave(h.fetch(h.agents[2:], h.ids[0]))
	})
}

// TestReleaseFromAnyNode: where no source is named, those who are there are asked, once.
func TestReleaseFromAnyNode(t *testing.T) {
	inHall(t, 4, func(h *hall) {
		h.bring(h.agents[1])
		a := h.agents[2]
		a.mu.Lock()
		a.seen = map[fleet.ID]node.Sighting{}
		for _, id := range h.ids[:2] {
			a.seen[id] = node.Sighting{ID: id, Status: fleet.Online}
		}
		a.mu.Unlock()
		h.allHave(h.fetch([]*Agent{a}))
	})
}

// TestReleaseOperator: who is not root brings a release with an operator's signature, for that release.
func TestReleaseOperator(t *testing.T) {
	inHall(t, 1, func(h *hall) {
		a := h.agents[0]
		ask := func(digest fleet.ID) auth.Envelope {
			return h.Sign(release.ForPut, release.PutAsk{Header: h.Header(release.PutLife), Digest: digest})
		}
		if _, err := a.PutRelease(h.Context(), bytes.NewReader(h.made.file), release.Bringer{Signed: []auth.Envelope{ask(fleet.Sum(nil))}}); fleet.KindOf(err) != fleet.Denied {
			h.Errorf("%v", err)
		}
		forged := authtest.Signer("eve").Sign(release.ForPut, h.Fleet.ID(), release.PutAsk{Header: h.Header(release.PutLife), Digest: h.made.signed.Digest()})
		if _, err := a.PutRelease(h.Context(), bytes.NewReader(h.made.file), release.Bringer{Signed: []auth.Envelope{forged}}); err == nil {
			h.Error("a stranger brings a release")
		}
		if _, err := a.PutRelease(h.Context(), bytes.NewReader(h.made.file), release.Bringer{Signed: []auth.Envelope{ask(h.made.signed.Digest())}}); err != nil {
			h.Error(err)
		}
	})
}

// TestReleasePolicy: an operator brings a release where policy lets them say whose releases are taken, or install them on that host.
func TestReleasePolicy(t *testing.T) {
	inHall(t, 1, func(h *hall) {
		a := h.agents[0]
		for name, c := range map[string]struct {
			rule          string
			brings, evict bool
		}{
			"nothing":           {"", false, false},
			"other settings":    {`permit (principal in Team::"web", action == Action::"setting.put", resource);`, false, false},
			"another document":  {`permit (principal in Team::"web", action == Action::"run", resource) when { context.document == "web-greet" };`, false, false},
			"on another host":   {`permit (principal in Team::"web", action == Action::"run", resource == Node::"elsewhere");`, false, false},
			"may install there": {`permit (principal in Team::"web", action == Action::"run", resource) when { context.document == "AWS-UpdateSSMAgent" && !context.shell };`, true, false},
			"may say whose":     {`permit (principal in Team::"web", action == Action::"release.trust", resource is Fleet);`, true, true},
		} {
			f := h.Fleet.Clone()
			f.MustTake(f.Charter(auth.CharterPutPolicy, auth.PutPolicy{Policy: auth.FirstPolicy + c.rule}))
			record := f.Record
			evict, err := release.MayPut(record, a.self, auth.Operator{Name: "bob", Teams: []string{"web"}}, "AWS-UpdateSSMAgent")
			if (err == nil) != c.brings || evict != c.evict || err != nil && fleet.KindOf(err) != fleet.Denied {
				h.Errorf("%s: %v, %v", name, evict, err)
			}
		}
		if _, evict, err := a.mayBring(release.Bringer{}); err != nil || !evict {
			h.Error("this host's root may not:", err)
		}
		if _, evict, err := a.mayBring(release.Bringer{Key: []fleet.ID{h.Operator.ID()}}); err != nil || !evict {
			h.Error("a root operator elsewhere may not:", err)
		}
		if _, _, err := a.mayBring(release.Bringer{Key: []fleet.ID{authtest.Signer("eve").ID()}}); err == nil {
			h.Error("a stranger may")
		}
	})
}

// TestReleaseArch: a release that has nothing for this host says so.
func TestReleaseArch(t *testing.T) {
	inHall(t, 2, func(h *hall) {
		h.bring(h.agents[0])
		h.agents[1].releases.arch = "arm"
		got := h.fetch(h.agents[1:], h.ids[0])
		if fleet.KindOf(got[0].err) != fleet.Invalid || !strings.Contains(got[0].err.Error(), "has no binary for arm") {
			h.Errorf("%v", got[0].err)
		}
	})
}

// TestReleaseGiveUp: the fetch ends for all who wait, and nothing stays.
func TestReleaseGiveUp(t *testing.T) {
	inHall(t, 2, func(h *hall) {
		h.bring(h.agents[0])
		h.slow = 300 * time.Millisecond
		ended := make(chan error, 2)
		for range 2 { // they share one
			go func() {
				_, err := h.agents[1].FetchRelease(h.Context(), h.made.signed.Digest(), h.ids[:1], func(release.Progress) error { return nil })
				ended <- err
			}()
		}
		time.Sleep(100 * time.Millisecond)
		if h.agents[1].underWay() != 1 {
			h.Error("two fetch the same beside each other")
		}
		if err := h.agents[1].GiveUpRelease(h.Context(), h.made.signed.Digest()); err != nil {
			h.Error(err)
		}
		for range 2 {
			if err := <-ended; fleet.KindOf(err) != fleet.Unavailable {
				h.Errorf("%v", err)
			}
		}
		if got := h.agents[1].Releases(h.Context()); len(got) > 0 {
			h.Errorf("%+v stays", got)
		}
	})
}

// TestReleaseSlots: one host has few places, all have so many; who asks for nothing makes way, and who hears that there is none
// hears of others.
func TestReleaseSlots(t *testing.T) {
	inHall(t, 2, func(h *hall) {
		h.bring(h.agents[0])
		a := h.agents[0]
		ask := func(peer fleet.ID) (Stream, release.Hello) {
			mine, theirs := streamPair(h.ids[0], peer, func() {})
			go a.ServeBulk(theirs)
			_ = mine.WriteFrame(askChunks, wire.Marshal(release.BuildAsk{Digest: h.made.signed.Digest(), Arch: runtime.GOARCH}))
			_, body, err := mine.ReadFrame()
			if err != nil {
				h.Fatal(err)
			}
			hello, err := release.DecodeHello(body, 12)
			if err != nil {
				h.Fatal(err)
			}
			return mine, hello
		}
		var streams []Stream
		defer func() {
			for _, s := range streams {
				s.Close()
			}
		}()
		for n := range releaseSlots {
			s, hello := ask(fleet.Sum([]byte{1, byte(n / 2)}))
			streams = append(streams, s)
			if hello.Busy {
				h.Fatalf("no place for stream %d", n)
			}
		}
		for _, peer := range []fleet.ID{fleet.Sum([]byte{1, 0}), fleet.Sum([]byte{2})} {
			if _, hello := ask(peer); !hello.Busy || len(hello.Names) == 0 {
				h.Errorf("%+v", hello)
			}
		}
		time.Sleep(releaseIdle)
		if _, hello := ask(fleet.Sum([]byte{1, 3})); !hello.Busy {
			h.Error("one host has more places than it may")
		}
		s, hello := ask(fleet.Sum([]byte{3}))
		if streams = append(streams, s); hello.Busy {
			h.Error("who asks for nothing keeps others out")
		}
		// A host that asks all the time for what is not there is answered slowly.
		began, asks := time.Now(), 0
		for ; time.Since(began) < 10*releaseNoneEvery; asks++ {
			_ = s.WriteFrame(releaseWant, wire.Marshal(release.Ask{Want: release.NewBits(12)}))
			if kind, _, err := s.ReadFrame(); err != nil || kind != releaseNone {
				h.Fatal(kind, err)
			}
		}
		if asks > 12 {
			h.Errorf("%d asks are answered in %s", asks, time.Since(began))
		}
		time.Sleep(releaseSilence + time.Second)
		if a.placesTaken() > 0 {
			h.Errorf("%d places are held by nobody who asks", a.placesTaken())
		}
	})
}

// TestReleaseFull: a host whose disk is full says so, and nothing stays.
func TestReleaseFull(t *testing.T) {
	inHall(t, 2, func(h *hall) {
		h.bring(h.agents[0])
		h.agents[1].releases.shell = fullShelf{h.agents[1].releases.shell}
		got := h.fetch(h.agents[1:], h.ids[0])
		if fleet.KindOf(got[0].err) != fleet.Exhausted {
			h.Errorf("%v", got[0].err)
		}
	})
}

type fullShelf struct{ Releases }

func (s fullShelf) Take(signed release.Signed, m release.Manifest, arch string) (KeptBuild, func(), error) {
	b, done, err := s.Releases.Take(signed, m, arch)
	return fullBuild{b}, done, err
}

type fullBuild struct{ KeptBuild }

func (fullBuild) Write(int, []byte) error { return release.Full("/x", 0, 0) }

// FuzzReleaseStream: whatever a member says on the bulk plane about releases, it gets what is signed and nothing else.
func FuzzReleaseStream(f *testing.F) {
	f.Add(joined([]frame{{askRelease, wire.Marshal(releaseAsk{})}}))
	f.Add(joined([]frame{{askChunks, wire.Marshal(release.BuildAsk{Arch: runtime.GOARCH})}, {releaseWant, wire.Marshal(release.Ask{Want: release.Bits{1}})}}))
	d := newDesk(f)
	d.Agent.releases.shell = tinyShelf{}
	f.Fuzz(func(t *testing.T, data []byte) {
		s := &frames{peer: d.web.ID, in: cut(data)}
		d.ServeBulk(s)
		for _, out := range s.out {
			switch out.kind {
			case releaseHello, releaseNone, releaseSigned, releaseChunk:
			default:
				if len(s.fails) == 0 && out.kind >= releaseSigned && out.kind <= releaseNone {
					t.Fatalf("frame of kind %d", out.kind)
				}
			}
			if len(out.body) > frameLimit {
				t.Fatalf("%d bytes", len(out.body))
			}
		}
	})
}

// tinyShelf has one release of one chunk under every digest.
type tinyShelf struct{ Releases }

func (tinyShelf) Signed(fleet.ID) (release.Signed, error) { return release.Signed{}, nil }

func (tinyShelf) Build(fleet.ID, string) (KeptBuild, error) { return tinyBuild{}, nil }

type tinyBuild struct{ KeptBuild }

func (tinyBuild) Of() release.Build {
	return release.Build{Arch: "arm", Size: 1, Packed: 1, Chunks: []fleet.ID{{}}}
}
func (tinyBuild) Have() release.Bits     { return release.Bits{1} }
func (tinyBuild) Read(int, []byte) error { return nil }
