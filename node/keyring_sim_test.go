package node

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/auth/authtest"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
)

// A simulation of a keyring: many cores over one queue of events, with a quorum that agrees by itself, and faults.
// Everything follows from its seed.

type ringSim struct {
	*town
	fails rapid.TB
	rand  *rand.Rand
	now   time.Duration
	queue queue
	count int
	hosts []*ringHost
	made  map[fleet.ID]uint64   // key of an accepted epoch → act by which it was
	in    map[fleet.ID][]uint64 // node → acts after which it was a member
	drawn int                   // seeds
	makes int                   // MakeEpoch effects
	calm  bool                  // nothing is lost and nobody crashes any more
}

type ringHost struct {
	i     int
	n     authtest.Node
	node  *Node
	disk  map[fleet.ID]Seed
	acts  int // of the town's, that it has
	life  int
	ticks int
	up    bool
	cut   bool
}

func newRingSim(t rapid.TB, nodes int, seed uint64) *ringSim {
	s := &ringSim{
		town: newTown(nodes, 3), fails: t, rand: rand.New(rand.NewPCG(seed, 2)), made: map[fleet.ID]uint64{}, in: map[fleet.ID][]uint64{},
	}
	for i, n := range s.Nodes {
		s.hosts = append(s.hosts, &ringHost{i: i, n: n, disk: map[fleet.ID]Seed{}})
	}
	for _, h := range s.hosts {
		s.start(h)
	}
	s.agree(s.NewKeyring("web", "tag.role=web"))
	return s
}

// agree has the quorum take an act, and everybody hear of it in his own time.
func (s *ringSim) agree(p authtest.Proposal) error {
	s.Now = authtestEpoch(s.town).Add(s.now)
	if err := s.Take(p); err != nil {
		return err
	}
	act := s.Record.Act
	s.act = act
	if k, ok := s.Record.Keyrings.Get("web"); ok {
		if key := k.Newest().KeyID(); s.made[key] == 0 {
			s.made[key] = act
		}
		for _, n := range s.Nodes {
			if s.Record.InKeyring("web", n.ID) {
				s.in[n.ID] = append(s.in[n.ID], act)
			}
		}
	}
	for _, h := range s.hosts {
		s.hear(h)
	}
	return nil
}

// authtestEpoch is when the simulation begins.
func authtestEpoch(w *town) time.Time { return time.UnixMilli(w.Acts[0].Time).Add(time.Hour) }

func (s *ringSim) after(d time.Duration, then func()) {
	s.count++
	heap.Push(&s.queue, queued{s.now + d, s.count, then})
}

func (s *ringSim) between(from, to time.Duration) time.Duration {
	return from + time.Duration(s.rand.Int64N(int64(to-from)))
}

// hear brings a host what it lacks of the record, a moment later.
func (s *ringSim) hear(h *ringHost) {
	life := h.life
	s.after(s.between(10*time.Millisecond, 400*time.Millisecond), func() {
		for h.up && h.life == life && !h.cut && h.acts < len(s.Acts) {
			h.acts++
			s.step(h, RecordCommitted{Act: s.Acts[h.acts-1]})
		}
	})
}

func (s *ringSim) start(h *ringHost) {
	h.up, h.life = true, h.life+1
	record := auth.NewRecord()
	for _, act := range s.Acts[:h.acts] {
		var err error
		if record, err = record.Apply(act, fleet.ID{}); err != nil {
			s.fails.Fatal(err)
		}
	}
	if h.acts == 0 {
		record, h.acts = s.Record, len(s.Acts)
	}
	var seeds []SeedName
	for _, seed := range h.disk {
		seeds = append(seeds, seed.Name)
	}
	slices.SortFunc(seeds, func(a, b SeedName) int { return byID(a.Key, b.Key) })
	h.node = New(Config{Self: h.n.ID, Seed: s.rand.Uint64(), Record: record, Seeds: seeds})
	s.step(h, Tick{})
	s.hear(h)
	s.gossip()
}

func (s *ringSim) kill(h *ringHost) {
	h.up, h.node = false, nil
	s.gossip()
}

// gossip tells everybody, a little later, whom he can see.
func (s *ringSim) gossip() {
	for _, h := range s.hosts {
		life := h.life
		s.after(s.between(100*time.Millisecond, 4*time.Second), func() {
			if !h.up || h.life != life {
				return
			}
			members := s.sightings(fleet.ConnectionLost)
			for i, other := range s.hosts {
				if other == h || s.reach(h, other) {
					members[i].Status = fleet.Online
				}
			}
			s.step(h, Gossiped{members})
		})
	}
}

func (s *ringSim) reach(a, b *ringHost) bool { return a.up && b.up && !a.cut && !b.cut }

func (s *ringSim) lost() bool { return !s.calm && s.rand.IntN(10) == 0 }

// at is the moment as every host sees it.
func (s *ringSim) at() auth.Instant {
	return auth.Instant{Wall: authtestEpoch(s.town).Add(s.now), Boot: time.Hour + s.now}
}

func (s *ringSim) step(h *ringHost, ev Event) {
	at := s.at()
	for _, e := range h.node.Step(at, ev) {
		s.perform(h, e)
	}
	if !h.up {
		return
	}
	h.ticks++
	tick, life := h.ticks, h.life
	s.after(max(h.node.Deadline(at)-at.Boot, time.Millisecond), func() {
		if h.up && h.life == life && h.ticks == tick {
			s.step(h, Tick{})
		}
	})
}

// post brings an event to a host, unless it dies before.
func (s *ringSim) post(h *ringHost, d time.Duration, ev Event) {
	life := h.life
	s.after(d, func() {
		if h.up && h.life == life {
			s.step(h, ev)
		}
	})
}

func (s *ringSim) perform(h *ringHost, e Effect) {
	hop := s.between(time.Millisecond, 30*time.Millisecond)
	switch e := e.(type) {
	case Ring:
		for _, id := range e.To {
			if to := s.host(id); !s.lost() && s.reach(h, to) {
				s.post(to, hop, BellHeard{e.Bell})
			}
		}
	case FetchSeeds:
		s.fetch(h, e, hop)
	case MakeEpoch:
		s.make(h, e, hop)
	case TellHolding:
		life := h.life
		s.after(hop, func() {
			if !h.up || h.life != life {
				return
			}
			body := auth.KeyringHolding{Header: s.header(h), Keyring: e.Keyring, Life: e.Life, Number: e.Number}
			s.post(h, hop, HoldingTold{Life: e.Life, Failed: !s.propose(h, auth.ActKeyringHolding, h.n.Signer.Sign(auth.ForKeyringHolding, s.ID(), body))})
		})
	case DropSeed:
		delete(h.disk, e.Seed.Key)
	}
}

func (s *ringSim) host(id fleet.ID) *ringHost {
	return s.hosts[slices.IndexFunc(s.hosts, func(h *ringHost) bool { return h.n.ID == id })]
}

// header begins a statement of a host that knows what it knows.
func (s *ringSim) header(h *ringHost) auth.Header {
	head := s.Header(time.Minute)
	head.Issued, head.Expires = s.at().Wall.UnixMilli(), s.at().Wall.Add(time.Minute).UnixMilli()
	if h.node != nil {
		head.Act = h.node.record.Act
	}
	return head
}

// propose brings an act to the quorum; false when it was not taken or nobody knows.
func (s *ringSim) propose(h *ringHost, kind auth.ActKind, e auth.Envelope) bool {
	if h.cut || s.lost() {
		return false
	}
	taken := s.agree(authtest.Proposal{Kind: kind, Data: wire.Marshal(e)}) == nil
	return taken && !s.lost() // the answer may be lost
}

func (s *ringSim) fetch(h *ringHost, e FetchSeeds, hop time.Duration) {
	to, life := s.host(e.From), h.life
	s.after(hop, func() {
		if !h.up || h.life != life {
			return
		}
		out := SeedsFetched{From: e.From, Life: e.Life}
		if s.reach(h, to) && !s.lost() {
			for _, seed := range s.give(to, h, e) {
				k, ok := h.node.record.Keyrings.Get(e.Keyring)
				if !ok {
					continue
				}
				if epoch, known := k.Epoch(seed.Name.Number); known && epoch.KeyID() == seed.Name.Key {
					s.keep(h, seed)
					out.Kept = append(out.Kept, seed.Name)
				}
			}
		}
		s.post(h, hop, out)
	})
}

// give is what a holder answers, by what it knows.
func (s *ringSim) give(from, to *ringHost, e FetchSeeds) (out []Seed) {
	k, err := MayHaveSeeds(from.node.record, from.node.beacon, to.n.ID, e.Keyring, e.Life)
	if err != nil {
		return nil
	}
	for _, number := range e.Numbers {
		if epoch, ok := k.Epoch(number); ok {
			if seed, here := from.disk[epoch.KeyID()]; here {
				out = append(out, seed)
			}
		}
	}
	return out
}

// keep puts a seed on a host's disk, and checks that it may be there.
func (s *ringSim) keep(h *ringHost, seed Seed) {
	h.disk[seed.Name.Key] = seed
	made, known := s.made[seed.Name.Key]
	member := slices.ContainsFunc(s.in[h.n.ID], func(act uint64) bool { return act >= made })
	if known && !member {
		s.fails.Fatalf("%s has the seed of epoch %d, and was no member since that was made", h.n.Name, seed.Name.Number)
	}
}

// make makes an epoch as the shell does, with a crash at every step that has one.
func (s *ringSim) make(h *ringHost, e MakeEpoch, hop time.Duration) {
	s.makes++
	life := h.life
	s.after(hop, func() {
		if !h.up || h.life != life {
			return
		}
		if s.crash(h) { // before the seed is on disk
			return
		}
		seed := s.seedFor(h, e)
		if s.crash(h) { // before anybody heard of it
			return
		}
		key := auth.EpochKey{Key: authtest.Public(seed.Private)}
		for _, to := range e.Keepers {
			key.Escrow = append(key.Escrow, auth.Escrow{Operator: to.Operator, Key: fleet.Sum(to.Key), Box: []byte("box")})
		}
		taken := s.propose(h, auth.ActKeyringEpoch, h.n.Signer.Sign(auth.ForKeyringEpoch, s.ID(), auth.KeyringEpoch{
			Header: s.header(h), Keyring: e.Keyring, Life: e.Life, Number: e.Number, Epoch: key, Need: e.Need,
		}))
		if s.crash(h) { // before it knows what came of it
			return
		}
		s.post(h, hop, EpochMade{Life: e.Life, Kept: []SeedName{seed.Name}, Failed: !taken})
	})
}

func (s *ringSim) seedFor(h *ringHost, e MakeEpoch) Seed {
	digest := KeepersDigest(e.Keepers)
	for _, seed := range h.disk {
		if seed.Name.Life == e.Life && seed.Name.Number == e.Number && seed.For == digest {
			return seed
		}
	}
	s.drawn++
	private := authtest.Private(fmt.Sprint("drawn ", s.drawn))
	seed := Seed{Name: SeedName{e.Life, e.Number, fleet.Sum(authtest.Public(private))}, Keyring: e.Keyring, For: digest, Private: private}
	h.disk[seed.Name.Key] = seed
	return seed
}

func (s *ringSim) crash(h *ringHost) bool {
	if s.calm || s.rand.IntN(8) != 0 {
		return false
	}
	s.kill(h)
	s.after(s.between(time.Second, time.Minute), func() {
		if !h.up {
			s.start(h)
		}
	})
	return true
}

func (s *ringSim) pass(d time.Duration) {
	end := s.now + d
	for s.queue.Len() > 0 && s.queue[0].at <= end {
		next := heap.Pop(&s.queue).(queued)
		s.now = next.at
		next.then()
	}
	s.now = end
}

// handOver gives the first epoch's seed to a node, as an operator does.
func (s *ringSim) handOver(h *ringHost) {
	k, ok := s.Record.Keyrings.Get("web")
	if !ok || !h.up || h.cut || !h.node.record.InKeyring("web", h.n.ID) {
		return
	}
	mine, ok := h.node.record.Keyrings.Get("web")
	if !ok || mine.Life != k.Life {
		return
	}
	private := s.EpochSeed("web", k.Life, 1)
	seed := Seed{Name: SeedName{k.Life, 1, k.Epochs[0].KeyID()}, Keyring: "web", Private: private}
	s.keep(h, seed)
	s.step(h, SeedKept{seed.Name})
}

// ringFault is one thing that goes wrong, or that an operator does.
type ringFault struct {
	After time.Duration
	What  string
	Who   int
}

func (s *ringSim) fault(f ringFault) {
	h := s.hosts[f.Who%len(s.hosts)]
	enrolled := func() bool { _, err := s.Record.Roster.Enrolled(h.n.ID); return err == nil }
	k, there := s.Record.Keyrings.Get("web")
	s.Now = s.at().Wall
	switch f.What {
	case "kill":
		if h.up {
			s.kill(h)
		}
	case "start":
		if !h.up {
			s.start(h)
		}
	case "cut":
		h.cut = true
		s.gossip()
	case "join":
		h.cut = false
		s.hear(h)
		s.gossip()
	case "remove":
		if enrolled() && h.i >= 3 && s.Record.Roster.Len() > 5 {
			_ = s.agree(s.RemoveNode(h.n.ID))
		}
	case "out", "in":
		if enrolled() && h.i >= 3 {
			_ = s.agree(s.TagNode(h.n.ID, map[string]string{"role": map[string]string{"out": "db", "in": "web"}[f.What]}, false))
		}
	case "rotate":
		if there {
			_ = s.agree(s.ChangeKeyring("web", k.Target.String(), true))
		}
	case "hand over":
		s.handOver(h)
	case "anew":
		if there {
			_ = s.agree(s.DeleteKeyring("web"))
		} else {
			_ = s.agree(s.NewKeyring("web", "tag.role=web"))
		}
	}
}

// heal ends all faults but removals.
func (s *ringSim) heal() {
	s.calm = true
	if _, there := s.Record.Keyrings.Get("web"); !there {
		s.fault(ringFault{What: "anew"})
	}
	for i, h := range s.hosts {
		s.fault(ringFault{What: "join", Who: i})
		if !h.up {
			s.start(h)
		}
	}
}

// check is what holds in the end.
func (s *ringSim) check() {
	t := s.fails
	k := s.Keyring("web")
	var members []*ringHost
	anywhere := map[fleet.ID]bool{}
	for _, h := range s.hosts {
		if s.Record.InKeyring("web", h.n.ID) {
			members = append(members, h)
		}
	}
	for _, h := range members {
		for key := range h.disk {
			anywhere[key] = true
		}
	}
	if len(members) == 0 {
		return
	}
	if why, due := s.Record.KeyringDue("web", s.at().Wall.UnixMilli()); due {
		t.Fatalf("nobody made a new epoch: %s", why)
	}
	if _, _, err := s.Record.Sealable("web"); err != nil {
		t.Fatalf("nothing can be sealed: %v", err)
	}
	if e := k.Current(); e.Number > 1 && !anywhere[e.KeyID()] {
		t.Fatalf("epoch %d is used and no member has its seed", e.Number)
	}
	for _, h := range members {
		for i := range k.Epochs {
			if _, has := h.disk[k.Epochs[i].KeyID()]; !has && anywhere[k.Epochs[i].KeyID()] {
				t.Fatalf("%s lacks the seed of epoch %d, which another member has", h.n.Name, k.Epochs[i].Number)
			}
		}
		for _, seed := range h.disk {
			if seed.Name.Life != k.Life {
				continue
			}
			if e, ok := k.Epoch(seed.Name.Number); !ok || e.KeyID() != seed.Name.Key {
				t.Fatalf("%s keeps a seed of epoch %d that opens nothing", h.n.Name, seed.Name.Number)
			}
		}
	}
}

// Whatever fails and whoever comes and goes: in the end the keyring has a key that all its members hold, and nobody ever had
// the seed of an epoch that was made after he left.
func TestKeyringsThroughFaults(t *testing.T) {
	faults := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) ringFault {
		return ringFault{
			After: time.Duration(rapid.IntRange(0, 20_000).Draw(t, "ms")) * time.Millisecond,
			What: rapid.SampledFrom([]string{
				"kill", "start", "start", "cut", "join", "join", "remove", "out", "in", "rotate", "rotate", "hand over", "anew",
			}).Draw(t, "what"),
			Who: rapid.IntRange(0, 9).Draw(t, "who"),
		}
	}), 0, 25)
	rapid.Check(t, func(t *rapid.T) {
		s := newRingSim(t, 10, rapid.Uint64().Draw(t, "seed"))
		s.pass(5 * time.Second)
		s.fault(ringFault{What: "hand over", Who: 4})
		for _, f := range faults.Draw(t, "faults") {
			s.pass(f.After)
			s.fault(f)
		}
		s.heal()
		s.pass(10 * time.Minute)
		s.check()
	})
}

// Where nothing fails, each rotation is made once, by one member.
func TestOneMakerWhereNothingFails(t *testing.T) {
	for seed := range uint64(10) {
		s := newRingSim(t, 40, seed)
		s.calm = true
		s.pass(10 * time.Second)
		s.fault(ringFault{What: "hand over", Who: 4})
		s.pass(time.Second)
		for _, f := range []ringFault{{What: "rotate"}, {What: "remove", Who: 7}, {What: "out", Who: 8}, {What: "in", Who: 8}, {What: "rotate"}} {
			s.fault(f)
			s.pass(20 * time.Second)
		}
		s.check()
		if s.makes != 4 {
			t.Errorf("seed %d: %d epochs were made for 4", seed, s.makes)
		}
	}
}

// The same seed makes the same history.
func TestRingSimRepeats(t *testing.T) {
	run := func() (fleet.ID, int) {
		s := newRingSim(t, 12, 7)
		for i := range 30 {
			s.fault(ringFault{What: []string{"kill", "rotate", "cut", "start", "join", "remove", "hand over"}[i%7], Who: i})
			s.pass(5 * time.Second)
		}
		return s.Record.Head, s.count
	}
	head, count := run()
	if again, events := run(); again != head || events != count {
		t.Errorf("%d events, then %d", count, events)
	}
}
