package agent

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
)

// Prober sends packets to an address from a port that nobody knows, as a new member's or an operator's would come.
type Prober interface {
	Probe(ctx context.Context, to netip.AddrPort) Probed
	// ProbeFew sends three packets, and more only to who answered one.
	ProbeFew(ctx context.Context, to netip.AddrPort) Probed
}

// Probed is what came of it.
type Probed struct {
	Answered bool          // to packets as large as a connection needs
	RTT      time.Duration //
	Largest  int           // UDP payload that passed, bytes; 0: none
	Why      string        // why nothing could be sent, or who said no; "": silence, or an answer
}

// Tried is a probe to an address.
type Tried struct {
	Addr netip.AddrPort
	Probed
}

// WayCheck is what was found of the way between this host and a member.
type WayCheck struct {
	Peer     fleet.ID
	Name     string
	Status   fleet.Status
	Voter    bool
	Outbound bool    // nobody can dial it, so nobody tried
	There    []Tried // from here
	Asked    Asked
	Back     []Tried // from the peer to this host
	BackErr  error   // why it did not try
	Others   []OthersTry
}

// Asked is what a peer answered over a connection of the two agents.
type Asked struct {
	OK       bool
	Older    bool  // it is of a version that does not know the question
	Err      error // nil where OK or Older
	RTT      time.Duration
	ClockOff time.Duration // its clock less this host's
	Version  string
	Level    fleet.Level // that its program supports
}

// OthersTry is another member's try to reach a peer that does not answer this host.
type OthersTry struct {
	By    fleet.ID
	Name  string
	Tried []Tried
	Err   error
}

// Bounds of checkups.
const (
	// A checkup of this host looks at so many members, of which so many are servers where there are others.
	checkupSample  = 5
	checkupServers = 3
	checkupHelpers = 2 // who are asked about a peer that does not answer here
	// checkupAddrs bounds the addresses of a member that are tried: what gossip lets it tell of itself.
	checkupAddrs = 4
	// checkupTurns is how many peers' asks to be tried are served at a time, one of each peer.
	checkupTurns = 4
	// checkupWait is what a question without probes may take, a slow disk and a handshake included; askTimeout bounds the
	// others.
	checkupWait = 3 * time.Second
)

// checkupAsk asks a member for its clock and version, or to try the addresses that a member told the fleet of itself: the
// asker's own, or another's. A member tells of itself what it likes, so what is sent for others is bounded: see favours.
type checkupAsk struct {
	Try bool
	Of  fleet.ID // zero: the asker
}

type checkupBody struct {
	Time    int64 // Unix microseconds, by its own clock
	Version string
	Level   uint16 // that its program supports
	Tried   []triedInfo
}

type triedInfo struct {
	Addr     string
	Answered bool
	RTT      int64 // microseconds
	Largest  uint32
	Why      string
}

// checkups bounds what checkups take.
type checkups struct {
	prober Prober
	own    chan struct{} // holds one while a checkup of this host is made
	turns  chan struct{}
	asking perPeer
	done   favours
}

func newCheckups() checkups {
	return checkups{own: make(chan struct{}, 1), turns: make(chan struct{}, checkupTurns)}
}

// MayCheckUp reports why an operator elsewhere may not have this host look at itself and its ways, or nil: who may not read what
// the fleet's hosts did learns nothing of their disks and firewalls either.
func (a *Agent) MayCheckUp(by fleet.ID) error { return node.MayRead(a.record(), by, a.now()) }

// Checkup looks at the ways between this host and a sample of members, or the one member only. It takes up to ten seconds. At
// a time there is one: others wait for it.
func (a *Agent) Checkup(ctx context.Context, only fleet.ID) ([]WayCheck, error) {
	select {
	case a.checkups.own <- struct{}{}:
		defer func() { <-a.checkups.own }()
	case <-ctx.Done():
		return nil, fleet.Errorf(fleet.Unavailable, "another checkup of this host is under way")
	}
	p := a.picture.Load()
	sample := sampleOf(a.nodes(p, nil), a.self, only, a.cfg.Clock().Wall.UnixNano())
	ways := make([]WayCheck, len(sample))
	var looks sync.WaitGroup
	for i, m := range sample {
		looks.Go(func() { ways[i] = a.lookAt(ctx, m) })
	}
	looks.Wait()
	a.askOthers(ctx, ways)
	return ways, nil
}

// sampleOf picks whom to look at: servers first, for without them nothing can be agreed, then others as the seed has it; those
// who are there before those who are not.
func sampleOf(all []fleet.Member, self, only fleet.ID, seed int64) []fleet.Member {
	var servers, rest []fleet.Member
	for _, m := range all {
		switch {
		case m.ID == self || !only.IsZero() && m.ID != only:
		case m.Status == fleet.Left && only.IsZero():
		case m.Role == fleet.Lead || m.Role == fleet.Voter:
			servers = append(servers, m)
		default:
			rest = append(rest, m)
		}
	}
	order := func(list []fleet.Member) {
		draw := func(m fleet.Member) fleet.ID {
			return fleet.Sum(append(m.ID[:], byte(seed), byte(seed>>8), byte(seed>>16)))
		}
		slices.SortFunc(list, func(x, y fleet.Member) int {
			if there := online(y) - online(x); there != 0 {
				return there
			}
			return draw(x).Compare(draw(y))
		})
	}
	order(servers)
	order(rest)
	first := min(len(servers), max(checkupServers, checkupSample-len(rest)))
	out := append(slices.Clone(servers[:first]), rest...)
	return out[:min(len(out), checkupSample)]
}

func online(m fleet.Member) int {
	if m.Status == fleet.Online {
		return 1
	}
	return 0
}

// lookAt looks at one way, in both directions at once.
func (a *Agent) lookAt(ctx context.Context, m fleet.Member) WayCheck {
	w := WayCheck{Peer: m.ID, Name: m.Name, Status: m.Status, Voter: m.Role == fleet.Lead || m.Role == fleet.Voter,
		Outbound: len(m.Addrs) == 0 && len(m.Via) > 0}
	var both sync.WaitGroup
	both.Go(func() { w.There = a.try(ctx, m.Addrs) })
	both.Go(func() {
		w.Asked = a.askClock(ctx, m.ID)
		if w.Asked.OK {
			w.Back, w.BackErr = a.askTry(ctx, m.ID, fleet.ID{})
		}
	})
	both.Wait()
	return w
}

// try probes addresses, all at once.
func (a *Agent) try(ctx context.Context, addrs []netip.AddrPort) []Tried {
	if a.checkups.prober == nil {
		return nil
	}
	out := make([]Tried, min(len(addrs), checkupAddrs))
	var all sync.WaitGroup
	for i, addr := range addrs[:len(out)] {
		all.Go(func() { out[i] = Tried{addr, a.checkups.prober.Probe(ctx, addr)} })
	}
	all.Wait()
	return out
}

// tryFew probes addresses for a member, as far as favours permit: what was found a moment ago is told again.
func (a *Agent) tryFew(ctx context.Context, addrs []netip.AddrPort) []Tried {
	out := make([]Tried, min(len(addrs), checkupAddrs))
	var all sync.WaitGroup
	for i, addr := range addrs[:len(out)] {
		now := a.cfg.Clock().Boot
		mine, found, known := a.checkups.done.begin(addr, now)
		if !mine {
			if known {
				out[i] = Tried{addr, found}
			}
			continue
		}
		all.Go(func() {
			out[i] = Tried{addr, a.checkups.prober.ProbeFew(ctx, addr)}
			a.checkups.done.end(addr, now, out[i].Probed)
		})
	}
	all.Wait()
	return slices.DeleteFunc(out, func(t Tried) bool { return !t.Addr.IsValid() })
}

// askClock asks a peer for its clock, twice: the first question may have to wait for a connection.
func (a *Agent) askClock(ctx context.Context, id fleet.ID) (asked Asked) {
	ctx, cancel := context.WithTimeout(ctx, checkupWait)
	defer cancel()
	for range 2 {
		var body checkupBody
		before := a.cfg.Clock()
		err := a.ask(ctx, id, askCheckup, checkupAsk{}, &body)
		after := a.cfg.Clock()
		switch {
		case err != nil && unknownThere(err):
			return Asked{Older: true}
		case err != nil:
			return Asked{Err: err}
		}
		rtt := after.Boot - before.Boot
		asked = Asked{OK: true, RTT: rtt, Version: body.Version, Level: fleet.Level(body.Level),
			ClockOff: time.UnixMicro(body.Time).Sub(before.Wall.Round(0).Add(rtt / 2))}
	}
	return asked
}

// askTry has a peer try this host's addresses, or another member's.
func (a *Agent) askTry(ctx context.Context, id, of fleet.ID) ([]Tried, error) {
	var body checkupBody
	if err := a.ask(ctx, id, askCheckup, checkupAsk{Try: true, Of: of}, &body); err != nil {
		return nil, err
	}
	return triedOf(body.Tried), nil
}

// askOthers asks members who answer to try those who do not.
func (a *Agent) askOthers(ctx context.Context, ways []WayCheck) {
	var helpers []WayCheck
	for _, w := range ways {
		if w.Asked.OK && len(helpers) < checkupHelpers {
			helpers = append(helpers, w)
		}
	}
	var all sync.WaitGroup
	for i := range ways {
		w := &ways[i]
		if w.Asked.OK || w.Asked.Older || len(w.There) == 0 || len(helpers) == 0 {
			continue
		}
		w.Others = make([]OthersTry, len(helpers))
		all.Go(func() {
			for j, h := range helpers { // one after the other: a helper serves one ask of a peer at a time
				tried, err := a.askTry(ctx, h.Peer, w.Peer)
				w.Others[j] = OthersTry{By: h.Peer, Name: h.Name, Tried: tried, Err: err}
			}
		})
		all.Wait()
	}
}

// answerCheckup tells a member this host's clock, and tries for it.
func (a *Agent) answerCheckup(ctx context.Context, peer fleet.ID, body []byte) ([]byte, error) {
	var ask checkupAsk
	if err := wire.Unmarshal(body, &ask); err != nil {
		return nil, err
	}
	answer := checkupBody{Version: a.cfg.Version, Level: uint16(fleet.LevelNewest)}
	if ask.Try {
		tried, err := a.tryFor(ctx, peer, ask.Of)
		if err != nil {
			return nil, err
		}
		answer.Tried = infosOf(tried)
	}
	answer.Time = a.cfg.Clock().Wall.UnixMicro()
	return wire.Marshal(answer), nil
}

// tryFor tries the addresses at which a member says it is, for the peer itself or for another member.
func (a *Agent) tryFor(ctx context.Context, peer, of fleet.ID) ([]Tried, error) {
	if of.IsZero() {
		of = peer
	}
	if a.checkups.prober == nil {
		return nil, fleet.Errorf(fleet.Unavailable, "%s tries no addresses", a.cfg.Name)
	}
	if _, err := a.record().Roster.Enrolled(of); err != nil {
		return nil, err
	}
	if !a.checkups.asking.begin(peer, 1) {
		return nil, fleet.Errorf(fleet.Exhausted, "%s is at it for this node already", a.cfg.Name)
	}
	defer a.checkups.asking.end(peer)
	select {
	case a.checkups.turns <- struct{}{}:
		defer func() { <-a.checkups.turns }()
	default:
		return nil, fleet.Errorf(fleet.Exhausted, "%s is at it for others", a.cfg.Name).Hinted("try again in a moment")
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	addrs := probeable(a.Addrs(of), askedFrom(ctx))
	tried := a.tryFew(ctx, addrs)
	for i := range tried {
		tried[i].Why = "" // it would tell of hosts and firewalls that are nobody's business
		if of != peer {
			tried[i].Probed = Probed{Answered: tried[i].Answered}
		}
	}
	return tried, nil
}

func infosOf(tried []Tried) []triedInfo {
	out := make([]triedInfo, 0, len(tried))
	for _, t := range tried {
		out = append(out, triedInfo{t.Addr.String(), t.Answered, t.RTT.Microseconds(), uint32(t.Largest), t.Why})
	}
	return out
}

// triedOf reads a peer's tries: its word, and no more of them than it may make.
func triedOf(infos []triedInfo) []Tried {
	var out []Tried
	for _, i := range infos[:min(len(infos), checkupAddrs)] {
		addr, err := netip.ParseAddrPort(i.Addr)
		if err == nil {
			out = append(out, Tried{addr, Probed{i.Answered, time.Duration(i.RTT) * time.Microsecond, int(i.Largest), i.Why}})
		}
	}
	return out
}

// Beacon returns the newest word of the servers, and how old it is by the fleet's time. ok is false before the first.
func (a *Agent) Beacon() (b auth.Beacon, age time.Duration, ok bool) {
	p := a.picture.Load()
	if p.envelope.Format == 0 {
		return b, 0, false
	}
	return p.beacon, p.clock.Now(a.cfg.Clock()).Sub(time.UnixMilli(p.beacon.Time)), true
}

// HasGossipKey reports whether this host has the gossip key that the record names.
func (a *Agent) HasGossipKey() bool {
	epoch := a.record().Gossip.Epoch
	a.mu.Lock()
	defer a.mu.Unlock()
	_, ok := a.keys[epoch]
	return ok
}

// unknownThere reports whether an error is that of a peer whose version does not know the question.
func unknownThere(err error) bool {
	return fleet.KindOf(err) == fleet.Invalid && strings.Contains(err.Error(), "is not understood by this version")
}
