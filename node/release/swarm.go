package release

import (
	"math/rand/v2"
	"slices"
	"time"

	"github.com/muster-fleet/muster/node/fleet"
)

// How a host fetches.
const (
	// maxOpen is of how many hosts it takes chunks at a time, and asksPerPeer how many asks of one of them are under way: two
	// keep a line busy while the next is on its way.
	maxOpen     = 6
	asksPerPeer = 2
	// maxShare is how many chunks one ask names at most, of which one is given. Of more a source that is asked by all could give
	// what it gave least; but nobody else is asked for them meanwhile.
	maxShare = 4
	// maxPeers is how many hosts it remembers as ones that may have chunks.
	maxPeers = 64
	// pollEvery is how often a host that has nothing more is asked whether it has by now.
	pollEvery = 100 * time.Millisecond
	// idleFor is how long it may have nothing before another, which was not asked yet, takes its place.
	idleFor = time.Second
	// patience is for how long nothing came when it insists on chunks that were given often enough: by then it has asked others.
	// Up to as much again is added by chance, so that those who wait do not insist all at once.
	patience = 2 * time.Second
	// soonest is how often it is halved while nothing comes otherwise: then there is nobody else.
	soonest = 5
	// againAfter is how long a host is left alone that did not answer, doubled each time up to againMost; busyAfter, one that has
	// no place, which is likely to have one soon.
	againAfter = time.Second
	againMost  = 30 * time.Second
	busyAfter  = 500 * time.Millisecond
	// twiceAfter is after how long a chunk that is under way is also asked of another, when there is nothing else to ask for, and
	// slowTimes how many times the usual time of a chunk that is at least. stalledAfter is when a host that answers nothing is
	// left.
	twiceAfter   = 3 * time.Second
	slowTimes    = 4
	stalledAfter = 45 * time.Second
	// NoProgress is for how long nothing may come before the fetch fails.
	NoProgress = 2 * time.Minute
)

// Swarm chooses, for a host that fetches a build, whom it asks for what. Times are boot time. It is not safe for concurrent use.
//
// Its shell does what Next says, and tells what became of it: Opened or Lost after each Dial, and Took, None or Lost after each
// Want, in the order in which they were said to that host.
type Swarm struct {
	self    fleet.ID
	chunks  int
	have    Bits
	peers   map[fleet.ID]*peer
	order   []fleet.ID // of peers, as they became known
	random  *rand.Rand
	began   time.Duration
	last    time.Duration // when the last new chunk came
	waits   time.Duration // until insisting
	usual   time.Duration // that a chunk takes, smoothed; 0: none came yet
	insists bool          // an Ask that insists is under way
	// insisted is set while nothing comes but what is insisted on; each time the next is insisted on sooner.
	insisted bool
	sooner   int
	lied     int
	why      string // why the last host was lost
}

// peer is a host that may have chunks.
type peer struct {
	state   peerState
	source  bool
	have    Bits
	spent   Bits // what it gives only to who insists
	asks    []underWay
	until   time.Duration // it is left alone until then
	useless time.Duration // since when there is nothing to ask it for; 0: there is
	polled  time.Duration
	fails   int
}

// underWay is an ask that was not answered yet.
type underWay struct {
	want   Bits
	at     time.Duration
	insist bool
}

type peerState uint8

const (
	peerIdle peerState = iota
	peerDialled
	peerOpen
	peerBanned // it lied, or does not know the release's words
)

// NewSwarm returns the Swarm of a host that has some chunks of a build and knows who has others. It is begun at now.
func NewSwarm(self fleet.ID, chunks int, have Bits, sources []fleet.ID, now time.Duration, seed uint64) *Swarm {
	s := &Swarm{
		self: self, chunks: chunks, have: have.Clone(), peers: map[fleet.ID]*peer{}, began: now, last: now,
		random: rand.New(rand.NewPCG(seed, 0x737761726d)),
	}
	for _, id := range sources {
		s.meet(id)
		if p := s.peers[id]; p != nil {
			p.source = true
		}
	}
	s.wait()
	return s
}

// Move is one thing that a fetching host does next.
type Move interface{ move() }

// The moves.
type (
	// Dial opens a stream to a host and asks for the build.
	Dial struct{ Peer fleet.ID }
	// Want sends an Ask to a host.
	Want struct {
		Peer fleet.ID
		Ask  Ask
	}
	// HangUp ends the stream to a host. What is under way there is not told any more.
	HangUp struct{ Peer fleet.ID }
)

func (Dial) move()   {}
func (Want) move()   {}
func (HangUp) move() {}

// Done reports whether all chunks are here.
func (s *Swarm) Done() bool { return s.have.Count() == s.chunks }

// Have returns which chunks are here.
func (s *Swarm) Have() Bits { return s.have.Clone() }

// Open returns how many hosts give now.
func (s *Swarm) Open() (n int) {
	for _, p := range s.peers {
		if p.state == peerOpen {
			n++
		}
	}
	return n
}

// Meet tells of a host that may have chunks, as others name it.
func (s *Swarm) Meet(ids ...fleet.ID) {
	for _, id := range ids {
		s.meet(id)
	}
}

func (s *Swarm) meet(id fleet.ID) {
	if id == s.self || id.IsZero() || s.peers[id] != nil {
		return
	}
	if len(s.peers) >= maxPeers && !s.forgetOne() {
		return
	}
	s.peers[id] = &peer{have: NewBits(s.chunks), spent: NewBits(s.chunks)}
	s.order = append(s.order, id)
}

// forgetOne makes room for another host: the one that failed most of those that are not in use. Sources stay, and so do those
// that lied, for they would be named again.
func (s *Swarm) forgetOne() bool {
	worst := -1
	for i, id := range s.order {
		p := s.peers[id]
		if p.state != peerIdle || p.source || p.fails == 0 {
			continue
		}
		if worst < 0 || p.fails > s.peers[s.order[worst]].fails {
			worst = i
		}
	}
	if worst < 0 {
		return false
	}
	delete(s.peers, s.order[worst])
	s.order = slices.Delete(s.order, worst, worst+1)
	return true
}

// Opened tells that a host answered, and what it said.
func (s *Swarm) Opened(now time.Duration, id fleet.ID, hello Hello) {
	s.Meet(hello.Names...)
	p := s.peers[id]
	if p == nil || p.state != peerDialled {
		return
	}
	if hello.Busy {
		p.state, p.until = peerIdle, now+s.jitter(busyAfter)
		return
	}
	p.state, p.have, p.useless, p.polled, p.asks = peerOpen, hello.Have.Clone(), 0, now, nil
}

// Took tells that a host gave a chunk. held says whether it is the one of the manifest; new, that it was kept: it was not here
// before. A host that gives something else than it was asked for, or unasked, is one that lies.
func (s *Swarm) Took(now time.Duration, id fleet.ID, c Chunk, held bool) (isNew bool) {
	p, ask, ok := s.answered(id)
	if !ok {
		return false
	}
	if !held || !ask.want.Has(c.Index) {
		s.Lied(id)
		return false
	}
	s.Meet(c.Names...)
	p.have, p.fails = c.Have.Clone(), 0
	if s.have.Has(c.Index) {
		return false
	}
	took := now - ask.at
	s.usual += (took - s.usual) / 4
	s.Found(now, c.Index)
	return true
}

// Found tells that a chunk is here, however it came.
func (s *Swarm) Found(now time.Duration, index int) {
	if !s.have.Has(index) {
		s.have.Put(index)
		s.last = now
		s.wait()
	}
}

// None tells that a host gave nothing of what it was asked for.
func (s *Swarm) None(now time.Duration, id fleet.ID, n None) {
	p, ask, ok := s.answered(id)
	if !ok {
		return
	}
	s.Meet(n.Names...)
	p.have, p.polled = n.Have.Clone(), now
	if n.Spent {
		p.spent.add(ask.want.and(p.have))
	}
}

// answered takes the oldest ask off a host's list.
func (s *Swarm) answered(id fleet.ID) (*peer, underWay, bool) {
	p := s.peers[id]
	if p == nil || p.state != peerOpen {
		return nil, underWay{}, false
	}
	if len(p.asks) == 0 { // nobody asked it
		s.Lied(id)
		return nil, underWay{}, false
	}
	ask := p.asks[0]
	p.asks = p.asks[1:]
	if ask.insist {
		s.insists, s.insisted = false, true
	} else {
		s.insisted = false
	}
	return p, ask, true
}

// Lost tells that a host was not reached, or that its stream ended.
func (s *Swarm) Lost(now time.Duration, id fleet.ID, why string) {
	p := s.peers[id]
	if p == nil || p.state != peerDialled && p.state != peerOpen {
		return
	}
	s.why = why
	s.leave(p)
	p.until = now + s.jitter(min(againAfter<<min(p.fails, 10), againMost))
	p.fails++
}

// Lied tells that a host is to be asked for nothing more, whoever names it.
func (s *Swarm) Lied(id fleet.ID) {
	if p := s.peers[id]; p != nil {
		s.leave(p)
		p.state = peerBanned
		s.lied++
	}
}

// Banned reports whether a host lied.
func (s *Swarm) Banned(id fleet.ID) bool {
	return s.peers[id] != nil && s.peers[id].state == peerBanned
}

func (s *Swarm) leave(p *peer) {
	for _, ask := range p.asks {
		if ask.insist {
			s.insists = false
		}
	}
	p.state, p.asks, p.spent = peerIdle, nil, NewBits(s.chunks)
}

// wait says anew for how long nothing may come before this host insists.
func (s *Swarm) wait() {
	if s.sooner++; !s.insisted {
		s.sooner = 0
	}
	s.waits = s.jitter(patience >> min(s.sooner, soonest))
}

func (s *Swarm) jitter(d time.Duration) time.Duration {
	return d + time.Duration(s.random.Int64N(int64(d)))
}

// Next returns what to do now, and when to ask again if nothing is told before. An error says that the fetch has failed.
func (s *Swarm) Next(now time.Duration) (moves []Move, wake time.Duration, err error) {
	if s.Done() {
		return nil, now + NoProgress, nil
	}
	if err := s.hopeless(now); err != nil {
		return nil, now, err
	}
	moves = s.leaveStalled(now, moves)
	moves = s.wantMore(now, moves)
	moves = s.insist(now, moves)
	moves = s.makeWay(now, moves)
	moves = s.dial(now, moves)
	return moves, now + pollEvery, nil
}

// hopeless reports why there is no use in going on, or nil.
func (s *Swarm) hopeless(now time.Duration) error {
	banned := 0
	for _, p := range s.peers {
		if p.state == peerBanned {
			banned++
		}
	}
	switch {
	case len(s.peers) == 0:
		return fleet.Errorf(fleet.Unavailable, "nobody is named who has the release")
	case banned == len(s.peers):
		return fleet.Errorf(fleet.Invalid, "every host that offered the release (%d) gave something else, or does not know how", banned).
			Hinted("muster upgrade from another host, where the release file is")
	case now-s.last > NoProgress:
		why := s.why
		if why == "" {
			why = "nobody who answers has what is missing"
		}
		return fleet.Errorf(fleet.Unavailable, "nothing of the release came for %s: %d of %d chunks are here; the last word was: %s",
			NoProgress, s.have.Count(), s.chunks, why).Hinted("repeat it: what is here stays")
	}
	return nil
}

// leaveStalled leaves those who did not answer for too long.
func (s *Swarm) leaveStalled(now time.Duration, moves []Move) []Move {
	for _, id := range s.order {
		p := s.peers[id]
		if p.state == peerOpen && len(p.asks) > 0 && now-p.asks[0].at > max(stalledAfter, 2*slowTimes*s.usual) {
			moves = append(moves, HangUp{id})
			s.Lost(now, id, "a host that gave chunks gave no more")
		}
	}
	return moves
}

// wantMore asks those who have what is missing, and each for something else.
func (s *Swarm) wantMore(now time.Duration, moves []Move) []Move {
	for range asksPerPeer { // one round each, so that nobody is asked twice before another is asked once
		for _, id := range s.mixed() {
			p := s.peers[id]
			if p.state != peerOpen || len(p.asks) >= asksPerPeer {
				continue
			}
			want := s.choose(now, p)
			switch {
			case want != nil:
				p.useless = 0
				moves = s.ask(now, id, Ask{Want: want}, moves)
			case len(p.asks) == 0:
				if p.useless == 0 {
					p.useless = max(now, 1)
				}
				if now-p.polled >= pollEvery {
					p.polled = now
					moves = s.ask(now, id, Ask{Want: NewBits(s.chunks)}, moves)
				}
			}
		}
	}
	return moves
}

func (s *Swarm) ask(now time.Duration, id fleet.ID, a Ask, moves []Move) []Move {
	p := s.peers[id]
	p.asks = append(p.asks, underWay{a.Want, now, a.Insist})
	return append(moves, Want{id, a})
}

// choose returns what a host is asked for: a share of what is missing, that it has, and that nobody else is asked for; nil:
// nothing. What few others have comes first, and else chance decides.
func (s *Swarm) choose(now time.Duration, p *peer) Bits {
	can := p.have.without(s.have).without(p.spent)
	free := can.without(s.underWay(0, now))
	if free.Count() == 0 {
		free = can.without(s.underWay(max(twiceAfter, slowTimes*s.usual), now))
	}
	list := free.All()
	if len(list) == 0 {
		return nil
	}
	holders := make([]int, s.chunks)
	for _, o := range s.peers {
		if o.state == peerOpen {
			for _, n := range list {
				if o.have.Has(n) {
					holders[n]++
				}
			}
		}
	}
	s.random.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	slices.SortStableFunc(list, func(a, b int) int { return holders[a] - holders[b] })
	want := NewBits(s.chunks)
	for _, n := range list[:min((len(list)+maxOpen*asksPerPeer-1)/(maxOpen*asksPerPeer), maxShare)] {
		want.Put(n)
	}
	return want
}

// underWay returns what somebody was asked for, at most since so long; 0: however long ago.
func (s *Swarm) underWay(most time.Duration, now time.Duration) Bits {
	out := NewBits(s.chunks)
	for _, p := range s.peers {
		for _, ask := range p.asks {
			if most == 0 || now-ask.at < most {
				out.add(ask.want)
			}
		}
	}
	return out
}

// insist asks for what was given often enough, when nothing came for a while: those who have it may be gone, or busy.
func (s *Swarm) insist(now time.Duration, moves []Move) []Move {
	if s.insists || now-s.last < s.waits {
		return moves
	}
	for _, id := range s.mixed() {
		p := s.peers[id]
		want := p.have.without(s.have)
		if p.state == peerOpen && len(p.asks) < asksPerPeer && want.Count() > 0 && want.without(p.spent).Count() == 0 {
			s.insists = true
			return s.ask(now, id, Ask{Want: want, Insist: true}, moves)
		}
	}
	return moves
}

// makeWay leaves hosts that have nothing to give for a while, when there are others.
func (s *Swarm) makeWay(now time.Duration, moves []Move) []Move {
	waiting, last := 0, 0
	for _, p := range s.peers {
		if p.state == peerIdle && p.until <= now {
			waiting++
		}
		if s.hasMore(p) {
			last++
		}
	}
	for _, id := range s.mixed() {
		p := s.peers[id]
		if waiting == 0 || s.inUse() < maxOpen {
			return moves
		}
		if p.state == peerOpen && len(p.asks) == 0 && p.useless != 0 && now-p.useless >= idleFor {
			if s.hasMore(p) { // if no other has, it will be insisted on
				if last--; last == 0 {
					last = 1
					continue
				}
			}
			s.leave(p)
			p.until = now + s.jitter(againAfter)
			moves = append(moves, HangUp{id})
			waiting--
		}
	}
	return moves
}

// hasMore reports whether an open host has something that is missing, and may have given it often enough.
func (s *Swarm) hasMore(p *peer) bool {
	return p.state == peerOpen && p.have.without(s.have).Count() > 0
}

// dial opens streams to more hosts. Sources come last: they are asked by all.
func (s *Swarm) dial(now time.Duration, moves []Move) []Move {
	for _, sources := range []bool{false, true} {
		for _, id := range s.mixed() {
			p := s.peers[id]
			if s.inUse() >= maxOpen {
				return moves
			}
			if p.state == peerIdle && p.until <= now && p.source == sources {
				p.state = peerDialled
				moves = append(moves, Dial{id})
			}
		}
	}
	return moves
}

func (s *Swarm) inUse() (n int) {
	for _, p := range s.peers {
		if p.state == peerOpen || p.state == peerDialled {
			n++
		}
	}
	return n
}

// mixed returns the hosts in an order of chance.
func (s *Swarm) mixed() []fleet.ID {
	ids := slices.Clone(s.order)
	s.random.Shuffle(len(ids), func(i, j int) { ids[i], ids[j] = ids[j], ids[i] })
	return ids
}
