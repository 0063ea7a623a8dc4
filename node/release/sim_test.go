package release

import (
	"encoding/binary"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/muster-fleet/muster/node/fleet"
)

// sim is hosts that fetch one build, in virtual time: every host sends one chunk at a time and receives one at a time, each of
// which takes chunkTime; what else they say takes delay. So a build takes chunks*chunkTime at least.
type sim struct {
	t      *testing.T
	now    time.Duration
	chunks int
	hosts  []*simHost
	by     map[fleet.ID]*simHost
	queue  []simEvent
	random *rand.Rand
	slots  int
}

const (
	simChunk = 20 * time.Millisecond // 256 KiB at 100 Mbit/s
	simDelay = 500 * time.Microsecond
)

type simHost struct {
	id      fleet.ID
	swarm   *Swarm // nil: the source
	giver   *Giver
	have    Bits
	sends   time.Duration // busy until
	gets    time.Duration
	takers  map[fleet.ID]int           // who has a stream here, and its number
	number  map[fleet.ID]int           // of the stream to a host, as dialled
	busy    map[fleet.ID]time.Duration // until when the last chunk for a taker is sent
	said    map[fleet.ID]time.Duration // when the last answer to a taker arrives: streams keep their order
	wake    time.Duration
	done    time.Duration // 0: not yet
	dead    bool
	lies    bool
	stalls  bool // answers nothing
	insists int
	failed  error
}

type simEvent struct {
	at time.Duration
	do func()
}

func (s *sim) later(d time.Duration, do func()) { s.at(s.now+d, do) }

func (s *sim) at(when time.Duration, do func()) {
	i, _ := slices.BinarySearchFunc(s.queue, when, func(e simEvent, w time.Duration) int {
		if e.at <= w {
			return -1
		}
		return 1
	})
	s.queue = slices.Insert(s.queue, i, simEvent{when, do})
}

func simID(n int) (id fleet.ID) {
	binary.BigEndian.PutUint32(id[:], uint32(n)+1)
	return id
}

func newSim(t *testing.T, hosts, chunks int, seed uint64) *sim {
	s := &sim{t: t, now: time.Hour, chunks: chunks, by: map[fleet.ID]*simHost{}, random: rand.New(rand.NewPCG(seed, 1)), slots: 16}
	for n := range hosts + 1 {
		h := &simHost{id: simID(n), giver: NewGiver(chunks, seed+uint64(n)), have: NewBits(chunks), takers: map[fleet.ID]int{}, number: map[fleet.ID]int{},
			said: map[fleet.ID]time.Duration{}, busy: map[fleet.ID]time.Duration{}}
		if n == 0 {
			for c := range chunks {
				h.have.Put(c)
			}
		}
		s.hosts = append(s.hosts, h)
		s.by[h.id] = h
	}
	return s
}

// begin lets a host begin to fetch.
func (s *sim) begin(n int, sources ...fleet.ID) {
	h := s.hosts[n]
	h.swarm = NewSwarm(h.id, s.chunks, h.have, sources, s.now, uint64(n)*7919+s.random.Uint64())
	s.step(h)
}

func (s *sim) step(h *simHost) {
	if h.dead || h.swarm == nil || h.done != 0 || h.failed != nil {
		return
	}
	if h.swarm.Done() {
		h.done = s.now
		for id := range h.number {
			delete(s.by[id].takers, h.id)
		}
		return
	}
	moves, wake, err := h.swarm.Next(s.now)
	if err != nil {
		h.failed = err
		return
	}
	for _, m := range moves {
		s.perform(h, m)
	}
	if h.wake <= s.now || wake < h.wake {
		h.wake = wake
		s.at(wake, func() {
			if h.wake == wake {
				s.step(h)
			}
		})
	}
}

func (s *sim) perform(h *simHost, m Move) {
	switch m := m.(type) {
	case Dial:
		h.number[m.Peer]++
		number := h.number[m.Peer]
		s.later(simDelay, func() { s.dialled(h, s.by[m.Peer], number) })
	case HangUp:
		h.number[m.Peer]++
		delete(s.by[m.Peer].takers, h.id)
	case Want:
		if m.Ask.Insist {
			h.insists++
		}
		number := h.number[m.Peer]
		s.later(simDelay, func() { s.wanted(h, s.by[m.Peer], number, m.Ask) })
	}
}

// tell lets something reach a host by a stream, unless that has ended.
func (s *sim) tell(h *simHost, from fleet.ID, number int, do func()) {
	if !h.dead && h.number[from] == number && h.done == 0 {
		do()
		if h.swarm.Banned(from) {
			if !s.by[from].lies {
				s.t.Fatal("a host that is honest is taken for a liar")
			}
			h.number[from]++
			delete(s.by[from].takers, h.id)
		}
		s.step(h)
	}
}

func (s *sim) dialled(h, to *simHost, number int) {
	if to.dead {
		s.later(time.Second, func() { s.tell(h, to.id, number, func() { h.swarm.Lost(s.now, to.id, "dead") }) })
		return
	}
	if to.swarm == nil && to != s.hosts[0] { // it does not fetch yet
		s.later(simDelay, func() { s.tell(h, to.id, number, func() { h.swarm.Lost(s.now, to.id, "not here") }) })
		return
	}
	if to.swarm != nil && to.done == 0 {
		to.swarm.Meet(h.id)
	}
	hello := Hello{Have: to.have.Clone(), Names: to.giver.Names(s.now, h.id), Busy: len(to.takers) >= s.slots}
	if !hello.Busy {
		to.takers[h.id] = number
	}
	s.later(simDelay, func() { s.tell(h, to.id, number, func() { h.swarm.Opened(s.now, to.id, hello) }) })
}

func (s *sim) wanted(h, to *simHost, number int, ask Ask) {
	if to.dead || to.stalls || to.takers[h.id] != number {
		return
	}
	index, ok, spent, err := to.giver.Give(s.now, h.id, to.have, ask)
	if err != nil {
		s.t.Fatal(err)
	}
	have, names := to.have.Clone(), to.giver.Names(s.now, h.id)
	if !ok {
		s.at(max(s.now, to.busy[h.id]), func() {
			s.at(to.inOrder(h, s.now+simDelay), func() {
				s.tell(h, to.id, number, func() { h.swarm.None(s.now, to.id, None{have, spent, names}) })
			})
		})
		return
	}
	sent := max(s.now, to.sends) + simChunk
	to.sends, to.busy[h.id] = sent, sent
	s.at(sent, func() {
		h.gets = max(s.now, h.gets+simChunk)
		s.at(to.inOrder(h, h.gets+simDelay), func() { s.gave(h, to, number, Chunk{Index: index, Have: have, Names: names}) })
	})
}

func (s *sim) gave(h, by *simHost, number int, c Chunk) {
	if by.dead {
		return
	}
	s.tell(h, by.id, number, func() {
		if h.swarm.Took(s.now, by.id, c, !by.lies) {
			h.have.Put(c.Index)
		}
		if by.lies && !h.swarm.Banned(by.id) {
			s.t.Fatal("a liar is asked for more")
		}
	})
}

// inOrder returns when an answer arrives that would arrive at a time, if none before it were slower.
func (h *simHost) inOrder(to *simHost, at time.Duration) time.Duration {
	h.said[to.id] = max(h.said[to.id], at)
	return h.said[to.id]
}

// kill ends a host: its streams break a moment later.
func (s *sim) kill(n int) {
	dead := s.hosts[n]
	dead.dead = true
	for id, number := range dead.takers {
		h := s.by[id]
		s.later(simDelay, func() { s.tell(h, dead.id, number, func() { h.swarm.Lost(s.now, dead.id, "died") }) })
	}
}

func (s *sim) run(most time.Duration) {
	end := s.now + most
	for len(s.queue) > 0 && s.queue[0].at <= end {
		e := s.queue[0]
		s.queue = s.queue[1:]
		s.now = e.at
		e.do()
	}
	if len(s.queue) > 0 {
		s.now = end
	}
}

// spread lets all fetch, begun within a span, and returns what it came to: copies that the source sent, and how long it took the
// last, in times that one host alone would take.
func (s *sim) spread(span time.Duration) (copies, rounds float64) {
	began := s.now
	for n := 1; n < len(s.hosts); n++ {
		s.later(time.Duration(s.random.Int64N(int64(span))), func() { s.begin(n, s.hosts[0].id) })
	}
	s.run(time.Hour)
	last := began
	for n, h := range s.hosts[1:] {
		if h.done == 0 && !h.dead {
			s.t.Fatalf("host %d has %d of %d chunks at the end (%v)", n+1, h.swarm.Have().Count(), s.chunks, h.failed)
		}
		last = max(last, h.done)
	}
	return float64(s.hosts[0].giver.Given()) / float64(s.chunks), float64(last-began) / float64(time.Duration(s.chunks)*simChunk)
}

// TestSpread: however many hosts fetch, the source sends about three copies at most, and all have the build soon.
func TestSpread(t *testing.T) {
	for _, test := range []struct {
		hosts, chunks int
		copies, most  float64
	}{
		{1, 96, 1.01, 1.5}, {3, 96, 2, 2}, {20, 96, Copies + 0.1, 3}, {200, 16, Copies + 0.2, 12}, {1000, 4, Copies + 1, 80},
	} {
		if os.Getenv("MUSTER_LONG") != "" {
			test.chunks = 96
		} else if test.hosts == 1000 {
			test.hosts = 400 // a third of a minute more
		}
		s := newSim(t, test.hosts, test.chunks, uint64(test.hosts))
		copies, rounds := s.spread(50 * time.Millisecond)
		t.Logf("%d hosts, %d chunks: the source sends %.2f copies; all have it in %.1f times the least time; %d insisted", test.hosts, test.chunks, copies, rounds, s.insisted())
		if copies > test.copies || rounds > test.most {
			t.Errorf("%d hosts: %.2f copies in %.1f times the least time; at most %.2f in %.1f are expected", test.hosts, copies, rounds, test.copies, test.most)
		}
	}
}

func (s *sim) insisted() (n int) {
	for _, h := range s.hosts {
		n += h.insists
	}
	return n
}

// all reports which hosts have it all.
func (s *sim) all() (done int) {
	for _, h := range s.hosts[1:] {
		if h.done != 0 {
			done++
		}
	}
	return done
}

// begin20 lets 20 hosts begin.
func begin20(t *testing.T, seed uint64, tune func(*sim)) *sim {
	s := newSim(t, 20, 32, seed)
	if tune != nil {
		tune(s)
	}
	for n := range 20 {
		s.later(time.Duration(n)*time.Millisecond, func() { s.begin(n+1, s.hosts[0].id) })
	}
	return s
}

// TestLiarsAndStallers: five hosts of twenty give rubbish and three nothing; the others get all of it.
func TestLiarsAndStallers(t *testing.T) {
	s := begin20(t, 1, func(s *sim) {
		for n := 1; n <= 5; n++ {
			s.hosts[n].lies = true
		}
		for n := 6; n <= 8; n++ {
			s.hosts[n].stalls = true
		}
	})
	s.run(time.Hour)
	if s.all() != 20 {
		t.Errorf("%d of 20 have it", s.all())
	}
	if copies := s.hosts[0].giver.Given() / s.chunks; copies > 2*Copies {
		t.Errorf("the source sent %d copies", copies)
	}
}

// TestSourceDies: once every chunk is among the others, nobody needs it.
func TestSourceDies(t *testing.T) {
	s := begin20(t, 2, nil)
	union := NewBits(s.chunks)
	for union.Count() < s.chunks {
		s.run(10 * time.Millisecond)
		for _, h := range s.hosts[1:] {
			union.add(h.have)
		}
	}
	if s.all() > 0 {
		t.Fatal("there is nothing left to show")
	}
	s.kill(0)
	s.run(time.Hour)
	if s.all() != 20 {
		t.Errorf("%d of 20 have it", s.all())
	}
}

// TestSourceDiesTooSoon: what nobody has, nobody gets, and it is said; what is here stays.
func TestSourceDiesTooSoon(t *testing.T) {
	s := newSim(t, 5, 32, 3)
	for n := range 5 {
		s.later(time.Duration(n)*time.Millisecond, func() { s.begin(n+1, s.hosts[0].id) })
	}
	s.run(100 * time.Millisecond)
	s.kill(0)
	s.run(time.Hour)
	for _, h := range s.hosts[1:] {
		if h.done != 0 || fleet.KindOf(h.failed) != fleet.Unavailable || !strings.Contains(h.failed.Error(), "of 32 chunks are here") {
			t.Fatalf("%v", h.failed)
		}
	}
}

// TestHostsDie: every second host that has begun dies on the way; the others go on.
func TestHostsDie(t *testing.T) {
	s := begin20(t, 4, nil)
	for n := 1; n <= 20; n += 2 {
		s.run(40 * time.Millisecond)
		s.kill(n)
	}
	s.run(time.Hour)
	if s.all() != 10 {
		t.Errorf("%d of the 10 that live have it", s.all())
	}
}

// TestLaterWaves: who comes when the source has given its copies gets it from those who have it; if these are all gone, from the
// source, which it insists on.
func TestLaterWaves(t *testing.T) {
	for _, gone := range []bool{false, true} {
		s := newSim(t, 30, 32, 5)
		for n := 1; n <= 10; n++ {
			s.begin(n, s.hosts[0].id)
		}
		s.run(time.Minute)
		if s.all() != 10 {
			t.Fatal("the first wave has not got it")
		}
		if gone {
			for n := 1; n <= 10; n++ {
				s.kill(n)
			}
		}
		for n := range s.chunks { // it has given all that it gives of its own accord
			s.hosts[0].giver.given[n] = max(s.hosts[0].giver.given[n], Copies)
		}
		before := s.hosts[0].giver.Given()
		for n := 11; n <= 30; n++ {
			s.begin(n, s.hosts[0].id)
		}
		s.run(10 * time.Minute)
		if s.all() != 30 {
			t.Errorf("gone %v: %d of 30 have it", gone, s.all())
		}
		more := float64(s.hosts[0].giver.Given()-before) / float64(s.chunks)
		t.Logf("gone %v: the source sends %.2f copies to the second wave", gone, more)
		if !gone && more > 0 || gone && more > 3*Copies {
			t.Errorf("gone %v: the source sends %.2f copies to the second wave", gone, more)
		}
	}
}

// TestGoesOn: a host that was restarted asks for nothing that it has.
func TestGoesOn(t *testing.T) {
	s := newSim(t, 1, 32, 6)
	for n := range 30 {
		s.hosts[1].have.Put(n)
	}
	s.begin(1, s.hosts[0].id)
	s.run(time.Minute)
	if s.all() != 1 || s.hosts[0].giver.Given() != 2 {
		t.Errorf("%d chunks were given for two that were missing", s.hosts[0].giver.Given())
	}
}
