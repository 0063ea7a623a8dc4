package agent

import (
	"bytes"
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-fleet/muster/consensus"
	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/auth/authtest"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
	"github.com/muster-fleet/muster/params"
)

// ringTown is a fleet of whole agents with one server, over a network in memory: their loops run, and only shells are
// stand-ins. It lives in a bubble.
type ringTown struct {
	*authtest.Fleet
	t       *testing.T
	quorum  *townQuorum
	members []*member // by place in Fleet.Nodes

	mu    sync.Mutex
	links []link // by place
}

// link is how others reach a member.
type link struct {
	agent *Agent // nil: it is down
	cut   bool   // off from everybody
	mute  bool   // gives nobody a key
}

// relink changes how a member is reached.
func (w *ringTown) relink(i int, change func(*link)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change(&w.links[i])
}

func (w *ringTown) cut(i int)  { w.relink(i, func(l *link) { l.cut = true }) }
func (w *ringTown) join(i int) { w.relink(i, func(l *link) { l.cut = false }) }

// between returns the agent that another reaches at a place.
func (w *ringTown) between(from, to int) (link, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	l := w.links[to]
	return l, l.agent != nil && (from == to || !l.cut && !w.links[from].cut)
}

// townQuorum takes one entry at a time, as raft does.
type townQuorum struct {
	stubQuorum
	mu sync.Mutex
}

func (q *townQuorum) Apply(at uint64, item []byte) any {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.stubQuorum.Apply(at, item)
}

func (q *townQuorum) Propose(_ context.Context, item []byte) (any, error) {
	return q.Apply(0, item), nil
}

// member is one agent of a ringTown. What is on its disk outlives the agent.
type member struct {
	*Agent
	town  *ringTown
	i     int
	self  fleet.ID
	seeds *memSeeds
	acts  *memFolder
	stop  func()
	done  chan struct{}
}

// sealFor seals seeds as the command line does.
func sealFor(f *authtest.Fleet) {
	f.SealSeed = func(keyring string, life fleet.UUID, number uint32, seed, public []byte) []byte {
		box, err := params.SealSeed(params.SeedBinding{Fleet: f.ID(), Keyring: keyring, Life: life, Number: number}, seed, public)
		if err != nil {
			panic(err)
		}
		return box
	}
}

func newRingTown(t *testing.T, nodes int) *ringTown {
	t.Helper()
	f := authtest.Empty("rings")
	f.Secrets = true
	f.Now = time.Now() // the bubble's
	sealFor(f)
	w := &ringTown{Fleet: f, t: t}
	replica := NewReplica()
	w.quorum = &townQuorum{stubQuorum: stubQuorum{Replica: replica}}
	for _, p := range f.Founding() {
		w.take(consensus.PutAct(p))
	}
	w.quorum.self = f.Nodes[0].ID
	token := f.NewToken(uint32(nodes), func(t *auth.Token) { t.Tags = map[string]string{"role": "web"} })
	w.take(consensus.PutToken{Statement: token.Statement})
	for i := 1; i < nodes; i++ {
		n := f.NewNode("web-" + string(rune('a'+i-1)))
		w.take(consensus.PutAct(authtest.Enrol(f.Enrolment(token, n, f.Nodes[0]))))
		f.Nodes = append(f.Nodes, n)
	}
	w.links = make([]link, len(f.Nodes))
	for i := range f.Nodes {
		w.members = append(w.members, &member{town: w, i: i, self: f.Nodes[i].ID, seeds: &memSeeds{}, acts: &memFolder{}})
	}
	for _, m := range w.members {
		m.start()
	}
	return w
}

// take takes an entry into the agreed state at the bubble's time.
func (w *ringTown) take(e consensus.Entry) {
	w.t.Helper()
	result, _ := w.quorum.Apply(0, consensus.Encode(e, time.Now().UnixMilli())).(consensus.Result)
	if err := result.Err(); err != nil {
		w.t.Fatal(err)
	}
	w.follow()
}

// follow has the fixture sign by the newest record, now.
func (w *ringTown) follow() {
	w.Fleet.Record, w.Fleet.Now = w.quorum.State().Record, time.Now()
}

func (w *ringTown) act(p authtest.Proposal) {
	w.t.Helper()
	w.take(consensus.PutAct(p))
}

func (m *member) start() {
	w := m.town
	n := w.Nodes[m.i]
	record := auth.NewRecord()
	acts := m.acts.all()
	if len(acts) == 0 {
		acts = w.quorum.State().Acts(0, 1000)
		m.acts.acts = acts
	}
	for _, act := range acts {
		var err error
		if record, err = record.Apply(act, fleet.ID{}); err != nil {
			w.t.Fatal(err)
		}
	}
	began := time.Now()
	m.Agent = New(Config{
		Key: n.Key, Fleet: w.ID(), Name: n.Name, Record: record, Folder: m.acts, Keys: map[uint32][32]byte{0: {1}}, HPKE: n.Private, Seed: uint64(m.i),
		Clock: func() auth.Instant { return auth.Instant{Wall: time.Now(), Boot: time.Hour + time.Since(began)} }, Log: slog.New(slog.DiscardHandler),
	})
	shells := Shells{Peers: &townPeers{w: w, i: m.i}, Gossip: townGossip{w: w, i: m.i}, Runner: stubIdle{}, Seeds: m.seeds}
	if m.i == 0 {
		w.quorum.Replica = m.replicaOf(w.quorum.Replica)
		shells.Quorum, shells.Replica, shells.Reports = w.quorum, w.quorum.Replica, noReports{}
	}
	m.Attach(shells)
	ctx, cancel := context.WithCancel(context.Background())
	m.stop, m.done = cancel, make(chan struct{})
	w.relink(m.i, func(l *link) { l.agent = m.Agent })
	go func() {
		defer close(m.done)
		_ = m.Run(ctx)
	}()
}

// replicaOf gives a server that starts again a replica with the same state, which no earlier agent follows.
func (m *member) replicaOf(old *Replica) *Replica {
	replica := NewReplica()
	state := old.State()
	replica.state.Store(&state)
	return replica
}

func (m *member) kill() {
	m.town.relink(m.i, func(l *link) { l.agent = nil })
	m.stop()
	<-m.done
}

// end stops everybody: a bubble ends when its goroutines have.
func (w *ringTown) end() {
	for i, m := range w.members {
		if _, up := w.between(i, i); up {
			m.kill()
		}
	}
}

// place returns where a node stands in Fleet.Nodes.
func (w *ringTown) place(id fleet.ID) int {
	return slices.IndexFunc(w.members, func(m *member) bool { return m.self == id })
}

// nameOf names the seed of an epoch.
func nameOf(k *auth.Keyring, e *auth.KeyEpoch) node.SeedName {
	return node.SeedName{Life: k.Life, Number: e.Number, Key: e.KeyID()}
}

// holds reports whether a member has the newest used epoch's seed on its disk, and it is the right one.
func (w *ringTown) holds(i int) bool {
	k := w.Keyring("web")
	seed, err := w.members[i].seeds.Seed(nameOf(k, k.Current()))
	return err == nil && bytes.Equal(authtest.Public(seed.Private), k.Current().Key)
}

// awaitTrue lets the bubble's time pass until something holds.
func (w *ringTown) await(what string, most time.Duration, holds func() bool) {
	w.t.Helper()
	for range most / (50 * time.Millisecond) {
		if w.follow(); holds() {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	w.t.Fatalf("after %s it is not so that %s", most, what)
}

// awaitHeld waits until all these hold the current epoch.
func (w *ringTown) awaitHeld(most time.Duration, members ...int) {
	w.t.Helper()
	w.await("all members hold the key", most, func() bool {
		return !slices.ContainsFunc(members, func(i int) bool { return !w.holds(i) })
	})
}

// townPeers brings requests to the other agents, as over mutual TLS: who asks is known.
type townPeers struct {
	stubPeers
	w *ringTown
	i int
}

func (p *townPeers) Request(ctx context.Context, id fleet.ID, kind byte, body []byte) (byte, []byte, error) {
	to, ok := p.w.between(p.i, p.w.place(id))
	if !ok || to.mute && kind == askSeed {
		return 0, nil, fleet.Errorf(fleet.Unavailable, "%s cannot be reached", id)
	}
	self := p.w.members[p.i].self
	if err := to.agent.Allow(self, false); err != nil {
		return 0, nil, err
	}
	return to.agent.answer(ctx, self, kind, bytes.Clone(body))
}

func (p *townPeers) Ring(by node.Way, bell []byte) {
	if l, ok := p.w.between(p.i, int(by.Addr.Port())); ok {
		l.agent.Bell(bell)
	}
}

func (p *townPeers) Note(node.Way, []byte) {}

// townGossip sees who is up.
type townGossip struct {
	stubGossip
	w *ringTown
	i int
}

func (g townGossip) Members() []node.Sighting {
	var out []node.Sighting
	for i := range g.w.members {
		status := fleet.ConnectionLost
		if _, ok := g.w.between(g.i, i); ok {
			status = fleet.Online
		}
		addr := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, 1}), uint16(i))
		out = append(out, node.Sighting{ID: g.w.members[i].self, Status: status, Addrs: []netip.AddrPort{addr}})
	}
	return out
}

// stir has every agent look at gossip anew, as its members changed.
func (w *ringTown) stir() {
	for i, m := range w.members {
		if _, up := w.between(i, i); up {
			m.look()
		}
	}
}

// noReports keeps no facts.
type noReports struct{ Reports }

func (noReports) PutFacts(fleet.ID, auth.Envelope) error     { return nil }
func (noReports) Facts() (map[fleet.ID]auth.Envelope, error) { return nil, nil }

// stubIdle runs nothing.
type stubIdle struct{ Runner }

func (stubIdle) Recall(func(node.Event)) {}

// memFolder keeps acts in memory.
type memFolder struct {
	stubFolder
	mu sync.Mutex
}

func (f *memFolder) all() []auth.Act {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.acts)
}

func (f *memFolder) AppendActs(acts []auth.Act, _ []fleet.ID) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.acts = append(f.acts, acts...)
	return nil
}

func (f *memFolder) ReadActs(from uint64, _ int) ([]auth.Act, error) {
	all := f.all()
	return all[min(from, uint64(len(all))):], nil
}

// memSeeds keeps seeds in memory.
type memSeeds struct {
	mu   sync.Mutex
	all  map[node.SeedName]node.Seed
	fail error // of PutSeed
}

func (s *memSeeds) PutSeed(seed node.Seed) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		return s.fail
	}
	if s.all == nil {
		s.all = map[node.SeedName]node.Seed{}
	}
	seed.Private = bytes.Clone(seed.Private)
	s.all[seed.Name] = seed
	return nil
}

func (s *memSeeds) Seed(name node.SeedName) (node.Seed, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	seed, ok := s.all[name]
	if !ok {
		return seed, fleet.Errorf(fleet.NotFound, "no seed")
	}
	seed.Private = bytes.Clone(seed.Private)
	return seed, nil
}

func (s *memSeeds) Seeds() ([]node.Seed, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []node.Seed
	for _, seed := range s.all {
		seed.Private = nil
		out = append(out, seed)
	}
	return out, nil
}

func (s *memSeeds) DropSeed(name node.SeedName) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.all, name)
	return nil
}

// failing says how PutSeed fails from now on; nil: it does not.
func (s *memSeeds) failing(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail = err
}

// handOver signs a hand-over of an epoch's seed to a node, as the operator who opened the escrow.
func (w *ringTown) handOver(to int, number uint32, change func(*node.HandOver)) auth.Envelope {
	w.t.Helper()
	w.follow()
	k := w.Keyring("web")
	e, _ := k.Epoch(number)
	bound := params.SeedBinding{Fleet: w.ID(), Keyring: "web", Life: k.Life, Number: number}
	i := slices.IndexFunc(e.Escrow, func(x auth.Escrow) bool { return x.Operator == authtest.OperatorName })
	seed, err := params.OpenSeed(bound, e.Escrow[i].Box, w.OperatorPrivate(authtest.OperatorName))
	if err != nil {
		w.t.Fatal(err)
	}
	box, err := params.SealSeed(bound, seed, authtest.Public(w.Nodes[to].Private))
	if err != nil {
		w.t.Fatal(err)
	}
	h := node.HandOver{Header: w.Header(node.HandOverLife), To: w.Nodes[to].ID, Keyring: "web", Life: k.Life, Number: number, Box: box}
	if change != nil {
		change(&h)
	}
	return w.Sign(auth.ForHandOver, h)
}

// secret puts a secret for the keyring's current epoch, and says which version it is.
func (w *ringTown) secret(name, value string) node.SecretRef {
	w.t.Helper()
	return w.version(name, value, 1, 0, map[string]string{"app": "shop"})
}

// version puts a version of a secret; of the first, born is not looked at.
func (w *ringTown) version(name, value string, number uint32, born int64, tags map[string]string) node.SecretRef {
	w.t.Helper()
	w.follow()
	k, e, err := w.Record.Sealable("web")
	if err != nil {
		w.t.Fatal(err)
	}
	head := w.Header(10 * time.Minute)
	if number == 1 {
		born = head.Issued
	}
	bound := params.Binding{Fleet: w.ID(), Name: name, Born: born, Version: number}
	sealed, readers, err := params.Seal(bound, []byte(value), [32]byte(fleet.Sum([]byte(name))), []params.Recipient{
		{Reader: params.Reader{Kind: params.ByKeyring, Name: "web", Life: k.Life, Epoch: e.Number}, Public: e.Key},
		{Reader: params.Reader{Kind: params.ByOperator, Name: authtest.OperatorName}, Public: authtest.Public(w.OperatorPrivate(authtest.OperatorName))},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	content := params.SealedContent(sealed).Encode()
	put := params.Put{
		Name: name, Born: born, Version: number, Type: params.SecureString, DataType: "text", Digest: fleet.Sum(content),
		Size: uint32(params.SealedSize(len(value))), Tier: params.Standard, Readers: readers, Tags: tags,
	}
	change, ops := params.Commit(head, []params.Op{{Salt: w.NewID(), Put: []params.Put{put}}})
	w.take(consensus.PutParams{Statement: w.Sign(auth.ForParams, change), Ops: ops, Contents: [][]byte{content}})
	return node.SecretRef{Name: name, Born: born, Version: number, Digest: put.Digest}
}

// The way of a secret: an operator makes a keyring and hands its key to one node, the others fetch it from there, and what is
// sealed to the keyring opens on its nodes and nowhere else.
func TestKeyringFromHandOverToSecret(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newRingTown(t, 5)
		defer w.end()
		time.Sleep(10 * time.Second)
		w.act(w.NewKeyring("web", "tag.role=web"))
		time.Sleep(5 * time.Second)
		public, err := w.members[0].NodeHPKE(t.Context(), w.Nodes[2].ID)
		if err != nil || !bytes.Equal(public, authtest.Public(w.Nodes[2].Private)) {
			t.Fatalf("the node's key: %v", err)
		}
		ref := w.secret("/app/password", "correct horse")
		if _, err := w.members[2].OpenSecret(t.Context(), ref); fleet.KindOf(err) != fleet.Unavailable {
			t.Errorf("before it has the key: %v", err)
		}
		if err := w.members[0].HandOver(t.Context(), w.Nodes[2].ID, w.handOver(2, 1, nil)); err != nil {
			t.Fatal(err)
		}
		w.awaitHeld(2*time.Second, 1, 2, 3, 4)
		for i := 1; i < 5; i++ {
			opened, err := w.members[i].OpenSecret(t.Context(), ref)
			if err != nil || string(opened.Value) != "correct horse" || opened.Tags["app"] != "shop" {
				t.Errorf("%s: %v", w.Nodes[i].Name, err)
			}
		}
		if _, err := w.members[0].OpenSecret(t.Context(), ref); fleet.KindOf(err) != fleet.Denied {
			t.Errorf("on a server that is no reader: %v", err)
		}
		if all, _ := w.members[0].seeds.Seeds(); len(all) != 0 {
			t.Error("the server has a key")
		}
		list := w.members[0].Keyrings(t.Context(), "")
		if len(list.All) != 1 || len(list.All[0].Members) != 4 || len(list.Recovery) == 0 {
			t.Fatalf("%+v", list)
		}
		for _, m := range list.All[0].Members {
			if !m.Alive || !m.Said || m.Holds != 1 {
				t.Errorf("%+v", m)
			}
		}
	})
}

// withKey makes a town in which all members of the keyring have its first key.
func withKey(t *testing.T, nodes int) *ringTown {
	t.Helper()
	w := newRingTown(t, nodes)
	time.Sleep(10 * time.Second)
	w.act(w.NewKeyring("web", "tag.role=web"))
	time.Sleep(time.Second)
	if err := w.members[0].HandOver(t.Context(), w.Nodes[1].ID, w.handOver(1, 1, nil)); err != nil {
		t.Fatal(err)
	}
	all := make([]int, nodes-1)
	for i := range all {
		all[i] = i + 1
	}
	w.awaitHeld(5*time.Second, all...)
	return w
}

// A node that is removed: the others make a new key by themselves, once, and the node gets nothing more from anybody.
func TestRemovedNodeGetsNoNewKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := withKey(t, 6)
		defer w.end()
		old := w.secret("/app/old", "old")
		gone := w.members[5]
		w.cut(5) // it does not hear of its removal
		w.act(w.RemoveNode(w.Nodes[5].ID))
		if _, _, err := w.Record.Sealable("web"); fleet.KindOf(err) != fleet.Unavailable {
			t.Fatalf("it may still be sealed to: %v", err)
		}
		w.join(5)
		w.await("there is a new key", 3*time.Second, func() bool { _, _, err := w.Record.Sealable("web"); return err == nil })
		k := w.Keyring("web")
		if e := k.Newest(); e.Number != 2 || e.Need != 3 || len(e.Holders) != 3 || len(e.Escrow) != 2 {
			t.Errorf("epoch %d, held by %d of %d, escrow %d", e.Number, len(e.Holders), e.Need, len(e.Escrow))
		}
		w.awaitHeld(10*time.Second, 1, 2, 3, 4)
		for i := range 6 { // nobody made one in vain
			if all, _ := w.members[i].seeds.Seeds(); len(all) > 2 {
				t.Errorf("node %d keeps %d keys", i, len(all))
			}
		}
		for i := range 5 {
			for _, kind := range []uint32{1, 2} {
				if _, _, err := gone.peers.Request(t.Context(), w.Nodes[i].ID, askSeed, seedsAskOf(k, kind)); fleet.KindOf(err) != fleet.Denied {
					t.Errorf("node %d gives epoch %d to it: %v", i, kind, err)
				}
				// Also where the transport would let it in.
				if _, _, err := w.members[i].answer(t.Context(), gone.self, askSeed, seedsAskOf(k, kind)); fleet.KindOf(err) != fleet.Denied {
					t.Errorf("node %d gives epoch %d to it: %v", i, kind, err)
				}
			}
		}
		ref := w.secret("/app/new", "new")
		if opened, err := w.members[2].OpenSecret(t.Context(), ref); err != nil || string(opened.Value) != "new" {
			t.Error(err)
		}
		if opened, err := w.members[2].OpenSecret(t.Context(), old); err != nil || string(opened.Value) != "old" {
			t.Error(err)
		}
		list := w.members[0].Keyrings(t.Context(), "web")
		if could := list.All[0].Could; len(could) != 1 || could[0].ID != gone.self || could[0].Last != 1 {
			t.Errorf("who could read: %+v", could)
		}
		if seed, err := params.OpenSeed(params.SeedBinding{Fleet: w.ID(), Keyring: "web", Life: k.Life, Number: 2}, k.Newest().Escrow[0].Box,
			w.RecoveryPrivate()); err != nil || !bytes.Equal(authtest.Public(seed), k.Newest().Key) {
			t.Errorf("the recovery key does not open the new epoch: %v", err)
		}
	})
}

func seedsAskOf(k *auth.Keyring, number uint32) []byte {
	return wire.Marshal(seedsAsk{Keyring: k.Name, Life: k.Life, Numbers: []uint32{number}})
}

// Who leaves by its tags, and comes back later, gets the keys again, those of the meantime included.
func TestRetaggedNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := withKey(t, 5)
		defer w.end()
		w.act(w.TagNode(w.Nodes[4].ID, map[string]string{"role": "db"}, false))
		w.await("there is a new key", 5*time.Second, func() bool { return w.Keyring("web").Current().Number == 2 })
		w.awaitHeld(10*time.Second, 1, 2, 3)
		ref := w.secret("/app/x", "x")
		time.Sleep(time.Minute)
		if w.holds(4) {
			t.Error("who left has the new key")
		}
		if _, err := w.members[4].OpenSecret(t.Context(), ref); fleet.KindOf(err) != fleet.Denied {
			t.Errorf("who left: %v", err)
		}
		w.act(w.TagNode(w.Nodes[4].ID, map[string]string{"role": "web"}, false))
		w.awaitHeld(30*time.Second, 1, 2, 3, 4)
		if _, err := w.members[4].OpenSecret(t.Context(), ref); err != nil {
			t.Errorf("who came back: %v", err)
		}
	})
}

// The maker dies after the quorum took its epoch and before anybody has the seed: another makes the next one.
func TestMakerDiesWithTheOnlyCopy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := withKey(t, 6)
		defer w.end()
		w.act(w.ChangeKeyring("web", "tag.role=web", true))
		var maker *member
		for i := range w.members { // nobody can ask anybody for a key
			w.relink(i, func(l *link) { l.mute = true })
		}
		w.await("somebody made one", 10*time.Second, func() bool {
			e := w.Keyring("web").Newest()
			if e.Number == 2 {
				maker = w.members[w.place(e.ByNode)]
			}
			return maker != nil
		})
		maker.kill()
		for i := range w.members {
			w.relink(i, func(l *link) { l.mute = false })
		}
		w.stir()
		w.await("another made one", time.Minute, func() bool { return w.Keyring("web").Current().Number == 3 })
		others := slices.DeleteFunc([]int{1, 2, 3, 4, 5}, func(i int) bool { return i == maker.i })
		w.awaitHeld(30*time.Second, others...)
		if len(w.Keyring("web").Epochs) != 2 {
			t.Errorf("%d epochs", len(w.Keyring("web").Epochs))
		}
		maker.start()
		w.stir()
		w.awaitHeld(time.Minute, maker.i)
		time.Sleep(10 * time.Second)
		if all, _ := maker.seeds.Seeds(); len(all) != 2 {
			t.Errorf("it keeps %d keys", len(all))
		}
	})
}

// All members are away: nothing can be sealed, and an operator's hand-over serves whoever comes.
func TestAllMembersReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := withKey(t, 4)
		defer w.end()
		ref := w.secret("/app/x", "x")
		w.act(w.TagNode(w.Nodes[3].ID, map[string]string{"role": "db"}, false)) // later the only member
		w.await("there is a new key", 10*time.Second, func() bool { return w.Keyring("web").Current().Number == 2 })
		for i := 1; i < 3; i++ {
			w.members[i].kill()
			w.act(w.RemoveNode(w.Nodes[i].ID))
		}
		w.stir()
		time.Sleep(time.Minute)
		w.follow()
		if _, _, err := w.Record.Sealable("web"); err == nil {
			t.Error("it may be sealed to though no member is left")
		}
		w.act(w.ChangeKeyring("web", "tag.role=db", false))
		w.await("the new member made a key", 10*time.Second, func() bool { return w.Keyring("web").Current().Number == 3 })
		w.awaitHeld(time.Second, 3)
		// What was sealed to the first it could always read, for it was a member then.
		if opened, err := w.members[3].OpenSecret(t.Context(), ref); err != nil || string(opened.Value) != "x" {
			t.Errorf("%v", err)
		}
		time.Sleep(time.Minute)
		if held := w.members[3].seeds.count(w.Keyring("web"), 2); held {
			t.Error("it has a key that nobody could give it")
		}
		if err := w.members[0].HandOver(t.Context(), w.Nodes[3].ID, w.handOver(3, 2, nil)); err != nil {
			t.Errorf("the operator hands over what is missing: %v", err)
		}
		if held := w.members[3].seeds.count(w.Keyring("web"), 2); !held {
			t.Error("it was not kept")
		}
	})
}

// count reports whether an epoch's seed is kept.
func (s *memSeeds) count(k *auth.Keyring, number uint32) bool {
	e, ok := k.Epoch(number)
	if !ok {
		return false
	}
	_, err := s.Seed(nameOf(k, e))
	return err == nil
}

// An agent that is started again has its keys.
func TestKeysOutliveTheAgent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := withKey(t, 4)
		defer w.end()
		ref := w.secret("/app/x", "x")
		for i := range w.members[1:] {
			w.members[i+1].kill()
		}
		w.members[2].start()
		w.stir()
		time.Sleep(time.Second)
		if opened, err := w.members[2].OpenSecret(t.Context(), ref); err != nil || string(opened.Value) != "x" {
			t.Errorf("%v", err)
		}
	})
}

// A disk that keeps nothing: no epoch is made that its maker could forget, and another member makes it.
func TestNoEpochWithoutADisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := withKey(t, 4)
		defer w.end()
		full := fleet.Errorf(fleet.Exhausted, "the disk is full")
		for i := 1; i < 4; i++ {
			w.members[i].seeds.failing(full)
		}
		w.act(w.ChangeKeyring("web", "tag.role=web", true))
		time.Sleep(2 * time.Minute)
		if w.follow(); w.Keyring("web").Newest().Number != 1 {
			t.Fatal("an epoch was made whose seed nobody keeps")
		}
		w.members[3].seeds.failing(nil)
		w.await("somebody made one", 3*time.Minute, func() bool { return w.Keyring("web").Newest().Number == 2 })
		w.members[1].seeds.failing(nil)
		w.members[2].seeds.failing(nil)
		w.awaitHeld(3*time.Minute, 1, 2, 3)
	})
}

// Who may not: every way to a key that is not one's own.
func TestKeysAreForMembers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := withKey(t, 5)
		defer w.end()
		k := w.Keyring("web")
		holder := w.members[1]
		ask := func(peer fleet.ID, body []byte) error {
			_, _, err := holder.answer(t.Context(), peer, askSeed, body)
			return err
		}
		if err := ask(w.Nodes[0].ID, seedsAskOf(k, 1)); fleet.KindOf(err) != fleet.Denied {
			t.Errorf("a server that is no member: %v", err)
		}
		stranger := w.NewNode("stranger")
		if err := ask(stranger.ID, seedsAskOf(k, 1)); fleet.KindOf(err) != fleet.Denied {
			t.Errorf("who is not enrolled: %v", err)
		}
		if err := ask(w.Nodes[2].ID, wire.Marshal(seedsAsk{Keyring: "web", Life: fleet.UUID{1}, Numbers: []uint32{1}})); fleet.KindOf(err) != fleet.NotFound {
			t.Errorf("another life: %v", err)
		}
		if err := ask(w.Nodes[2].ID, wire.Marshal(seedsAsk{Keyring: "web", Life: k.Life, Numbers: make([]uint32, node.MaxSeedsAsked+1)})); fleet.KindOf(err) != fleet.Exhausted {
			t.Errorf("too many: %v", err)
		}
		var body seedsBody
		_, raw, err := holder.answer(t.Context(), w.Nodes[2].ID, askSeed, wire.Marshal(seedsAsk{Keyring: "web", Life: k.Life, Numbers: []uint32{9, 1, 7}}))
		if err == nil {
			err = wire.Unmarshal(raw, &body)
		}
		if err != nil || len(body.Seeds) != 1 || body.Seeds[0].Number != 1 {
			t.Errorf("a member: %d, %v", len(body.Seeds), err)
		}
		// A holder that does not know of a removal yet gives what that node might have had before, and nothing newer.
		behind := w.members[2]
		w.cut(2)
		w.stir()
		w.act(w.RemoveNode(w.Nodes[4].ID))
		w.await("there is a new key", 20*time.Second, func() bool { return w.Keyring("web").Current().Number == 2 })
		_, raw, err = behind.answer(t.Context(), w.Nodes[4].ID, askSeed, wire.Marshal(seedsAsk{Keyring: "web", Life: k.Life, Numbers: []uint32{1, 2}}))
		body = seedsBody{}
		if err == nil {
			err = wire.Unmarshal(raw, &body)
		}
		if err != nil || len(body.Seeds) != 1 || body.Seeds[0].Number != 1 {
			t.Errorf("who is behind gives %d keys: %v", len(body.Seeds), err)
		}
		w.join(2)
		p := *behind.picture.Load()
		p.beacon.RecordLen = p.record.Length + 1
		behind.picture.Store(&p)
		if _, _, err = behind.answer(t.Context(), w.Nodes[3].ID, askSeed, seedsAskOf(k, 1)); fleet.KindOf(err) != fleet.Unavailable {
			t.Errorf("who knows that it is behind: %v", err)
		}
	})
}

// A hand-over counts when an operator who may signed it for this node, and the seed is the record's.
func TestHandOverIsVerified(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newRingTown(t, 4)
		defer w.end()
		time.Sleep(10 * time.Second)
		w.act(w.NewKeyring("web", "tag.role=web and id!="+w.Nodes[3].ID.Text()))
		time.Sleep(time.Second)
		bob, added := w.NewOperator("bob", 0, "web")
		w.act(added)
		time.Sleep(time.Second)
		good := w.handOver(1, 1, nil)
		bodyOf := func(e auth.Envelope) node.HandOver {
			h, err := auth.Peek[node.HandOver](e)
			if err != nil {
				t.Fatal(err)
			}
			return h
		}
		other := w.handOver(1, 1, func(h *node.HandOver) {
			box, err := params.SealSeed(params.SeedBinding{Fleet: w.ID(), Keyring: "web", Life: h.Life, Number: 1}, authtest.Private("another"), authtest.Public(w.Nodes[1].Private))
			if err != nil {
				t.Fatal(err)
			}
			h.Box = box
		})
		for name, c := range map[string]struct {
			to   int
			e    auth.Envelope
			want fleet.Kind
		}{
			"to another node":            {2, good, fleet.Denied},
			"sealed to another node":     {1, w.handOver(2, 1, func(h *node.HandOver) { h.To = w.Nodes[1].ID }), fleet.Denied},
			"to who is no member":        {3, w.handOver(3, 1, nil), fleet.Denied},
			"by who may not":             {1, bob.Sign(auth.ForHandOver, w.ID(), bodyOf(good)), fleet.Denied},
			"by nobody":                  {1, w.Nodes[2].Signer.Sign(auth.ForHandOver, w.ID(), bodyOf(good)), fleet.Denied},
			"for another purpose":        {1, w.Sign(auth.ForRequest, bodyOf(good)), fleet.Denied},
			"for ever":                   {1, w.handOver(1, 1, func(h *node.HandOver) { h.Header.Expires = 0 }), fleet.Invalid},
			"for too long":               {1, w.handOver(1, 1, func(h *node.HandOver) { h.Header.Expires += 1 }), fleet.Invalid},
			"of another life":            {1, w.handOver(1, 1, func(h *node.HandOver) { h.Life[0] ^= 1 }), fleet.NotFound},
			"of another epoch":           {1, w.handOver(1, 1, func(h *node.HandOver) { h.Number = 2 }), fleet.Unavailable},
			"of a seed that is another":  {1, other, fleet.Denied},
			"of a box that is none":      {1, w.handOver(1, 1, func(h *node.HandOver) { h.Box = h.Box[1:] }), fleet.Invalid},
			"of a box that is too large": {1, w.handOver(1, 1, func(h *node.HandOver) { h.Box = make([]byte, 5<<10) }), fleet.Exhausted},
		} {
			err := w.members[0].HandOver(t.Context(), w.Nodes[c.to].ID, c.e)
			if fleet.KindOf(err) != c.want || err == nil || name == "to another node" && !strings.Contains(err.Error(), "for another node") {
				t.Errorf("%s: %v", name, err)
			}
		}
		for i := range w.members {
			if all, _ := w.members[i].seeds.Seeds(); len(all) != 0 {
				t.Fatalf("node %d keeps a key", i)
			}
		}
		if err := w.members[0].HandOver(t.Context(), w.Nodes[1].ID, good); err != nil {
			t.Error(err)
		}
		if err := w.members[0].HandOver(t.Context(), w.Nodes[1].ID, good); err != nil {
			t.Errorf("once more: %v", err)
		}
	})
}

// A server, or anybody else who is no member, cannot make an epoch; what a peer gives as a seed counts only if it is the
// record's.
func TestInventedKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := withKey(t, 5)
		defer w.end()
		w.act(w.TagNode(w.Nodes[4].ID, map[string]string{"role": "db"}, false))
		invented := w.KeyringEpoch("web", w.Nodes[0], 1) // signed by the server
		state := w.quorum.State()
		result, _ := w.quorum.Apply(0, consensus.Encode(consensus.PutAct(invented), time.Now().UnixMilli())).(consensus.Result)
		if err := result.Err(); fleet.KindOf(err) != fleet.Denied {
			t.Errorf("the quorum takes it: %v", err)
		}
		// Also where a server shows it as if the quorum had taken it.
		next := auth.Act{Index: state.Act + 1, Time: time.Now().UnixMilli(), Kind: invented.Kind, Data: invented.Data}
		before := w.members[2].record().Length
		w.members[2].Post(node.ActsFetched{From: w.Nodes[0].ID, Acts: []auth.Act{next}})
		synctest.Wait()
		if r := w.members[2].record(); r.Length > before && r.Keyrings.Len() == 1 {
			if k, _ := r.Keyrings.Get("web"); k.Newest().Number > 1 && k.Newest().ByNode == w.Nodes[0].ID {
				t.Error("a member takes it")
			}
		}
		w.await("there is a new key", 20*time.Second, func() bool { return w.Keyring("web").Current().Number == 2 })
		w.awaitHeld(20*time.Second, 1, 2, 3)

		k := w.Keyring("web")
		lie := wire.Marshal(seedsBody{[]seedBody{
			{2, authtest.Private("another")}, {2, []byte("short")}, {2, nil}, {7, authtest.Private("x")}, {1, w.members[1].privateOf(t, k, 1)},
		}})
		a := w.members[2]
		a.seeds.all, a.holding = nil, newHolding()
		a.peers = &stubPeers{kind: done, body: lie}
		a.fetchSeeds(t.Context(), node.FetchSeeds{From: w.Nodes[1].ID, Keyring: "web", Life: k.Life, Numbers: []uint32{2}})
		if all, _ := a.seeds.Seeds(); len(all) != 0 {
			t.Errorf("it keeps %d keys: only the second epoch's was asked for", len(all))
		}
	})
}

func (m *member) privateOf(t *testing.T, k *auth.Keyring, number uint32) []byte {
	t.Helper()
	e, _ := k.Epoch(number)
	seed, err := m.seeds.Seed(nameOf(k, e))
	if err != nil {
		t.Fatal(err)
	}
	return seed.Private
}

// A key whose file is damaged is fetched again from another member, as soon as somebody needs it.
func TestDamagedKeyIsFetchedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := withKey(t, 4)
		defer w.end()
		ref := w.secret("/app/x", "x")
		a := w.members[2]
		if err := a.seeds.DropSeed(nameOf(w.Keyring("web"), w.Keyring("web").Current())); err != nil {
			t.Fatal(err)
		}
		if _, err := a.OpenSecret(t.Context(), ref); fleet.KindOf(err) != fleet.Unavailable {
			t.Errorf("without the file: %v", err)
		}
		w.awaitHeld(5*time.Second, 2)
		if opened, err := a.OpenSecret(t.Context(), ref); err != nil || string(opened.Value) != "x" {
			t.Errorf("%v", err)
		}
	})
}

// What a member answers to who asks for a secret of an account of its host is policy's word about that account.
func TestOpenParamAsksPolicy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := withKey(t, 3)
		defer w.end()
		ref := w.secret("/app/x", "x")
		if value, err := w.members[1].OpenParam(t.Context(), ref, ""); err != nil || string(value) != "x" {
			t.Errorf("the host itself: %v", err)
		}
		if _, err := w.members[1].OpenParam(t.Context(), ref, "www"); fleet.KindOf(err) != fleet.Denied {
			t.Errorf("an account: %v", err)
		}
		w.act(w.Charter(auth.CharterPutPolicy, auth.PutPolicy{Policy: auth.FirstPolicy + `permit (principal == LocalUser::"www", action, resource is Parameter);`}))
		time.Sleep(time.Second)
		if value, err := w.members[1].OpenParam(t.Context(), ref, "www"); err != nil || string(value) != "x" {
			t.Errorf("an account that may: %v", err)
		}
		ref.Version = 2
		if _, err := w.members[1].OpenSecret(t.Context(), ref); fleet.KindOf(err) != fleet.NotFound {
			t.Errorf("a version that is none: %v", err)
		}
	})
}

// A member of one keyring that writes another's public key into the record, as its own epoch's, is not given that one's seed:
// also where the other keyring is deleted, and its members keep the seed.
func TestKeyOfAnotherKeyringIsNotGiven(t *testing.T) {
	d := newSeedDesk(t)
	high := d.Keyring("web")
	d.take(t, d.NewKeyring("low", "*"))
	low := d.Keyring("low")
	low.Epochs[0].Key = high.Newest().Key // as a version that does not compare keys would have taken it
	given := func(k *auth.Keyring) int {
		t.Helper()
		var body seedsBody
		_, raw, err := d.answer(t.Context(), d.web.ID, askSeed, seedsAskOf(k, 1))
		if err == nil {
			err = wire.Unmarshal(raw, &body)
		}
		if err != nil {
			t.Fatal(err)
		}
		return len(body.Seeds)
	}
	if n := given(high); n != 1 {
		t.Fatalf("%d seeds of its own", n)
	}
	if n := given(low); n != 0 {
		t.Error("it gives the seed of another keyring")
	}
	result, _ := d.replica.Apply(0, consensus.Encode(consensus.PutAct(d.DeleteKeyring("web")), d.Fleet.Now.UnixMilli())).(consensus.Result)
	if result.Err() != nil {
		t.Fatal(result.Err())
	}
	p := *d.picture.Load()
	p.record = d.replica.State().Record
	d.picture.Store(&p)
	if !d.holding.holds(nameOf(high, high.Newest())) {
		t.Error("the seed of the deleted keyring is gone")
	}
	if n := given(low); n != 0 {
		t.Error("it gives the seed of a deleted keyring")
	}
}

// A hand-over may come before the act that made the keyring: the node waits for that.
func TestHandOverBeforeTheKeyringIsKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newRingTown(t, 3)
		defer w.end()
		time.Sleep(10 * time.Second)
		w.cut(1)
		w.act(w.NewKeyring("web", "tag.role=web"))
		time.Sleep(time.Second)
		signed := wire.Marshal(w.handOver(1, 1, nil))
		took := make(chan error, 1)
		go func() { took <- w.members[1].takeHandOver(t.Context(), signed) }()
		time.Sleep(500 * time.Millisecond)
		w.join(1)
		for _, act := range w.quorum.State().Acts(w.members[1].record().Length, 100) {
			w.members[1].Post(node.RecordCommitted{Act: act})
		}
		if err := <-took; err != nil {
			t.Error(err)
		}
		w.awaitHeld(2*time.Second, 1)
		began := time.Now()
		late := w.handOver(2, 1, func(h *node.HandOver) { h.Life = fleet.UUID{9} })
		if err := w.members[2].takeHandOver(t.Context(), wire.Marshal(late)); fleet.KindOf(err) != fleet.NotFound || time.Since(began) > handOverWait+time.Second {
			t.Errorf("what never comes: %v after %s", err, time.Since(began))
		}
		began = time.Now()
		forged := w.Nodes[2].Signer.Sign(auth.ForHandOver, w.ID(), node.HandOver{Header: w.Header(time.Minute), To: w.Nodes[2].ID})
		if err := w.members[2].takeHandOver(t.Context(), wire.Marshal(forged)); fleet.KindOf(err) != fleet.Denied || time.Since(began) > 0 {
			t.Errorf("what no operator signed is waited for: %v after %s", err, time.Since(began))
		}
	})
}

// An account that may open what is tagged env=dev does not open an old version of what is env=prod by now.
func TestOpenParamGoesByTheTagsOfNow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := withKey(t, 3)
		defer w.end()
		w.act(w.Charter(auth.CharterPutPolicy, auth.PutPolicy{Policy: auth.FirstPolicy +
			`permit (principal == LocalUser::"www", action, resource is Parameter) when { resource.getTag("env") == "dev" };`}))
		first := w.version("/app/x", "one", 1, 0, map[string]string{"env": "dev"})
		time.Sleep(time.Second)
		if value, err := w.members[1].OpenParam(t.Context(), first, "www"); err != nil || string(value) != "one" {
			t.Fatalf("while it is env=dev: %v", err)
		}
		w.version("/app/x", "two", 2, first.Born, map[string]string{"env": "prod"})
		if value, err := w.members[1].OpenParam(t.Context(), first, "www"); err == nil || len(value) > 0 {
			t.Errorf("an account opens %q by the tags of then", value)
		}
		if value, err := w.members[1].OpenParam(t.Context(), first, ""); err != nil || string(value) != "one" {
			t.Errorf("the host itself: %v", err)
		}
	})
}
