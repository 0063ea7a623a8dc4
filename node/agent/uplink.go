package agent

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/fleet"
)

// Uplinks are an outbound-only node's connections to members, through which it is reached.
type Uplinks interface {
	// Hold makes an uplink to a member, calls up once when it stands, and returns why it ended. ctx ends it.
	Hold(ctx context.Context, id fleet.ID, up func()) error
	// Check asks over an uplink whether the other end is still there, and ends it where no answer comes.
	Check(ctx context.Context, id fleet.ID)
	// Tell tells the fleet through whom this node is reached from now on.
	Tell(via []fleet.ID) error
	// Silence returns for how long nothing has come by gossip.
	Silence() time.Duration
}

// When an uplink that seems to stand is asked whether it does. A relay that was restarted has forgotten it, and one behind a
// path that broke says nothing: QUIC itself would notice after 15 to 30 s.
const (
	lookAtUplinks = time.Second
	// uplinkSilence is how long gossip may be silent: a member that is online is probed and answered several times a second.
	uplinkSilence = 2 * time.Second
	// uplinkBelief is how long an answer is believed, whatever else is said.
	uplinkBelief = 5 * time.Second
	// sleptFor is after what gap this host was asleep, or its agent: where it is now, nobody knows.
	sleptFor = 5 * time.Second
)

// uplinks is what an outbound-only node knows of its uplinks. Its loop alone touches held and news.
type uplinks struct {
	shell Uplinks // nil: this node is not outbound-only
	held  map[fleet.ID]*heldUplink
	news  chan uplinkNews

	telling chan struct{} // holds one while the fleet is told, so that the newest is told last; no mutex, for it takes seconds

	mu   sync.Mutex
	via  []fleet.ID
	told bool   // the fleet, of some
	why  string // the last uplink ended, or never was
}

// heldUplink is one that stands or is tried.
type heldUplink struct {
	stop   context.CancelFunc
	stands bool
	seen   node.Sighting // of its node, when it was looked at last
	asked  time.Duration // by boot time
}

// uplinkNews says that an uplink stands, or, with an error, why it ended.
type uplinkNews struct {
	id  fleet.ID
	err error
}

// Outbound reports whether this node is outbound-only.
func (a *Agent) Outbound() bool { return a.uplinks.shell != nil }

// Via returns through whom this outbound-only node is reached now.
func (a *Agent) Via() []fleet.ID {
	a.uplinks.mu.Lock()
	defer a.uplinks.mu.Unlock()
	return a.uplinks.via
}

// mayJoinGossip reports whether others may hear of this node: of an outbound-only one they would hear nothing more, without an
// uplink, nor before what it says of itself names one.
func (a *Agent) mayJoinGossip() bool {
	a.uplinks.mu.Lock()
	defer a.uplinks.mu.Unlock()
	return !a.Outbound() || a.uplinks.told && len(a.uplinks.via) > 0
}

// Relays lists the members through which a node is reached that cannot be dialled, the likeliest first.
func (a *Agent) Relays(id fleet.ID) []fleet.ID {
	a.mu.Lock()
	defer a.mu.Unlock()
	return node.Relays(a.self, id, a.seen)
}

// ways lists how packets reach a node.
func (a *Agent) ways(id fleet.ID) []node.Way {
	a.mu.Lock()
	defer a.mu.Unlock()
	return node.Ways(a.self, id, a.seen, a.hints)
}

// MayCarry judges who may bring pipes to this host, and ask for them in another's name: current members, and not operators,
// for whoever does so names others as it likes.
func (a *Agent) MayCarry(peer fleet.ID) error {
	record := a.record()
	if record.Charter == nil {
		return nil
	}
	_, err := record.Roster.Enrolled(peer)
	return err
}

// isOutbound reports whether a node says that it is outbound-only.
func (a *Agent) isOutbound(id fleet.ID) bool {
	if id == a.self {
		return a.Outbound()
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.seen[id].Via) > 0
}

// keepUplinks keeps an outbound-only node's uplinks until ctx ends.
func (a *Agent) keepUplinks(ctx context.Context) {
	u := &a.uplinks
	u.news, u.held, u.telling = make(chan uplinkNews), map[fleet.ID]*heldUplink{}, make(chan struct{}, 1)
	var work sync.WaitGroup
	defer work.Wait()
	choice := node.NewUplinks(a.self)
	looked := a.cfg.Clock().Boot
	look := time.NewTicker(lookAtUplinks)
	defer look.Stop()
	wake := time.NewTimer(0)
	defer wake.Stop()
	for {
		now := a.cfg.Clock().Boot
		plan := choice.Plan(now, a.uplinkCandidates())
		for _, id := range plan.Drop {
			if h := u.held[id]; h != nil {
				h.stop()
			}
		}
		for _, id := range plan.Dial {
			a.holdUplink(ctx, &work, id)
		}
		wake.Reset(max(0, plan.Wake-now))
		select {
		case <-ctx.Done():
			return
		case <-wake.C:
		case <-look.C:
			now = a.cfg.Clock().Boot
			a.doubtUplinks(ctx, &work, now, now-looked > sleptFor)
			looked = now
		case n := <-u.news:
			a.heardOfUplink(choice, n)
			a.tellUplinks(ctx, &work, choice.Via())
		}
	}
}

func (a *Agent) uplinkCandidates() []node.UplinkCandidate {
	record := a.record()
	a.mu.Lock()
	defer a.mu.Unlock()
	return node.UplinkCandidates(a.self, record, a.seen, a.hints)
}

// holdUplink makes an uplink. Its end is always told, but to nobody who has stopped listening.
func (a *Agent) holdUplink(ctx context.Context, work *sync.WaitGroup, id fleet.ID) {
	u := &a.uplinks
	tell := func(err error) {
		select {
		case u.news <- uplinkNews{id, err}:
		case <-ctx.Done():
		}
	}
	held, stop := context.WithCancel(ctx)
	u.held[id] = &heldUplink{stop: stop, seen: a.sighting(id)}
	work.Go(func() {
		defer stop()
		err := u.shell.Hold(held, id, func() { tell(nil) })
		if err == nil {
			err = fleet.Errorf(fleet.Unavailable, "it has ended")
		}
		tell(err)
	})
}

func (a *Agent) sighting(id fleet.ID) node.Sighting {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.seen[id]
}

func (a *Agent) heardOfUplink(choice *node.Uplinks, n uplinkNews) {
	u, now := &a.uplinks, a.cfg.Clock().Boot
	if n.err == nil {
		u.held[n.id].stands, u.held[n.id].asked = true, now
		choice.Stands(now, n.id)
		a.log.Info("an uplink stands", "relay", a.nameOf(n.id))
		return
	}
	stood := u.held[n.id].stands
	delete(u.held, n.id)
	choice.Ended(now, n.id)
	if stood {
		a.log.Warn("an uplink was lost", "relay", a.nameOf(n.id), "err", n.err)
	} else {
		a.log.Debug("no uplink", "relay", a.nameOf(n.id), "err", n.err)
	}
	u.mu.Lock()
	u.why = a.nameOf(n.id) + ": " + n.err.Error()
	u.mu.Unlock()
}

// tellUplinks tells the fleet when others carry than before. While nobody does, what was told stands: nobody could hear
// otherwise.
func (a *Agent) tellUplinks(ctx context.Context, work *sync.WaitGroup, via []fleet.ID) {
	u := &a.uplinks
	u.mu.Lock()
	same := slices.Equal(u.via, via)
	u.via = via
	u.mu.Unlock()
	if same || len(via) == 0 {
		return
	}
	work.Go(func() {
		select {
		case u.telling <- struct{}{}:
		case <-ctx.Done():
			return
		}
		a.complain("tell through whom this node is reached", u.shell.Tell(a.Via()))
		u.mu.Lock()
		u.told = true
		u.mu.Unlock()
		<-u.telling
		if !a.anyOnline() { // all seem lost, for nothing of theirs came through
			a.gossip.Join(ctx, a.everyHint())
		}
	})
}

// doubtUplinks asks over those uplinks of which there is reason to think that they no longer stand: their node seems lost,
// it says something else of itself than before (it may have been restarted), nothing comes by gossip, or this host slept.
func (a *Agent) doubtUplinks(ctx context.Context, work *sync.WaitGroup, now time.Duration, slept bool) {
	u := &a.uplinks
	silent := u.shell.Silence() > uplinkSilence
	for id, h := range u.held {
		seen := a.sighting(id)
		news := seen.Seq != h.seen.Seq || seen.Status != h.seen.Status
		h.seen = seen
		lost := silent || seen.Status == fleet.ConnectionLost
		if !h.stands || !news && !slept && !(lost && now-h.asked > uplinkBelief) {
			continue
		}
		h.asked = now
		work.Go(func() { u.shell.Check(ctx, id) })
	}
}

// uplinkWarnings says what the owner of an outbound-only host should know of its uplinks.
func (a *Agent) uplinkWarnings(s node.Status) []string {
	a.uplinks.mu.Lock()
	why := a.uplinks.why
	a.uplinks.mu.Unlock()
	return node.UplinkWarnings(s, why)
}
