package gossip

import (
	"context"
	"crypto/ed25519"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/serf/serf"

	"github.com/muster-fleet/muster/node/fleet"
)

// Peer is a node and where to look for it.
type Peer struct {
	ID   fleet.ID
	Addr netip.AddrPort
}

// Config is what gossip needs. All but Addrs, Outbound, Seq, Preset and Log is required.
type Config struct {
	Fleet fleet.ID
	Self  fleet.ID
	Key   ed25519.PrivateKey // of the node
	Addrs []netip.AddrPort   // where others reach this node, the best first; Carrier.LocalAddr if empty
	// Outbound is set where nobody can send to this node but through relays: it has no addresses, and nobody is to hear
	// of it before SetVia has named a relay.
	Outbound bool
	Carrier  Carrier
	// Trusted returns the public key of a node that is enrolled and not removed. It is called under locks, often: it must
	// be fast and must not call Gossip.
	Trusted func(id fleet.ID) (ed25519.PublicKey, bool)
	// Seq returns a number to sign next: at least least, above all that it returned in this and in any earlier life of this
	// node. Where there can be none now, it is an error, and what was signed last stands. The wall clock if nil.
	Seq func(least uint64) (uint64, error)
	// Echo is told of the sequence of every tag under this node's key that comes back; nobody but the caller knows which of
	// them are its own. It is called under locks: it must be fast and must not call Gossip. Nobody is told if nil.
	Echo func(seq uint64)
	// Yield is set where this node's key is in use elsewhere too: it says goodbye in all that it signs, so that the others
	// count on it for nothing, and yields as soon as the other one says so too.
	Yield  bool
	Preset Preset       // LAN if zero
	Log    *slog.Logger // nothing is logged if nil
}

// Gossip is this node's part in the fleet's gossip.
type Gossip struct {
	cfg    Config
	public ed25519.PublicKey
	book   *book
	feed   *feed
	drift  drift // used by memberlist's one probing goroutine only
	carry  *carry
	serf   *serf.Serf
	events chan Event

	telling  chan struct{} // holds one: one change of our tag at a time (not a mutex, because it is held for seconds)
	mine     tag           // what we say now; guarded by telling
	said     atomic.Uint64 // its sequence
	echoed   atomic.Uint64 // the highest sequence under our signature that others hold
	outrun   chan struct{} // others hold a tag of ours that is not older than what we say
	exchange chan string   // a member to exchange all members with

	end    context.CancelFunc
	ctx    context.Context //nolint:containedctx // the life of this Gossip
	tasks  sync.WaitGroup
	closed sync.Once
}

// New starts gossip; it knows nobody before Join, or before somebody joins it.
func New(cfg Config) (*Gossip, error) {
	if err := complete(&cfg); err != nil {
		return nil, err
	}
	ctx, end := context.WithCancel(context.Background())
	g := &Gossip{
		cfg: cfg, public: cfg.Key.Public().(ed25519.PublicKey), book: newBook(), feed: newFeed(),
		events: make(chan Event), outrun: make(chan struct{}, 1), exchange: make(chan string, 1),
		telling: make(chan struct{}, 1), ctx: ctx, end: end,
	}
	g.carry = newCarry(ctx, cfg.Self, cfg.Carrier, g.book)
	seq, err := cfg.Seq(0)
	if err != nil {
		end()
		return nil, err
	}
	g.mine = tag{seq: seq, leaving: cfg.Yield, addrs: cfg.Addrs}
	raw := g.record()
	heard := make(chan serf.Event, 64)
	if err := g.start(raw, heard); err != nil {
		end()
		return nil, fleet.Errorf(fleet.Internal, "cannot start gossip: %w", err)
	}
	go g.listen(heard)
	g.tasks.Go(func() { g.feed.pump(ctx, g.events) })
	g.tasks.Go(g.mend)
	return g, nil
}

func complete(cfg *Config) error {
	if cfg.Carrier == nil || cfg.Trusted == nil || len(cfg.Key) != ed25519.PrivateKeySize || cfg.Self.IsZero() {
		return fleet.Errorf(fleet.Internal, "gossip: the configuration is incomplete")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Seq == nil {
		cfg.Seq = func(least uint64) (uint64, error) { return max(uint64(max(0, time.Now().UnixNano())), least), nil }
	}
	if cfg.Echo == nil {
		cfg.Echo = func(uint64) {}
	}
	if cfg.Preset = cfg.Preset.orLAN(); cfg.Outbound {
		cfg.Addrs = nil
		return nil
	}
	if len(cfg.Addrs) == 0 {
		cfg.Addrs = []netip.AddrPort{cfg.Carrier.LocalAddr()}
	}
	cfg.Addrs = cleanAddrs(cfg.Addrs)
	return checkAddrs(cfg.Addrs)
}

func (g *Gossip) start(raw string, heard chan<- serf.Event) error {
	name, logger := g.cfg.Self.Text(), newListLog(g.cfg.Log)
	list := g.cfg.Preset.memberlist(name, g.carry, g.cfg.Carrier.MaxPayload(), logger)
	conf := g.cfg.Preset.serf(name, list, logger)
	conf.Tags = map[string]string{tagKey: raw}
	conf.EventCh = heard
	conf.Merge = gate{g}
	conf.ReconnectTimeoutOverride = gate{g}
	list.Ping = gate{g} // serf leaves it alone while coordinates are off
	var err error
	g.serf, err = serf.Create(conf)
	return err
}

// record signs g.mine and keeps it as our own entry. The caller holds telling, or is alone.
func (g *Gossip) record() string {
	raw := string(g.mine.sign(g.cfg.Fleet, g.cfg.Key))
	g.said.Store(g.mine.seq)
	g.book.take(g.cfg.Self, raw, g.mine)
	return raw
}

// listen drains serf, which would block under its locks if nobody did, and goes on for a moment after serf has ended:
// its last events may still be on their way.
func (g *Gossip) listen(heard <-chan serf.Event) {
	ended := g.serf.ShutdownCh()
	var last <-chan time.Time
	for {
		select {
		case e := <-heard:
			g.onSerf(e)
		case <-ended:
			ended, last = nil, time.After(time.Second)
		case <-last:
			return
		}
	}
}

// outrunPause keeps two hosts with one key from filling the fleet with their dispute. One that yields doubles it up to the
// longest each time: it has to be heard once, by a host that may be about to sign again itself.
const (
	outrunPause   = 5 * time.Second
	longestOutrun = 10 * time.Minute
)

// mend does what the callbacks found to be needed but must not do themselves.
func (g *Gossip) mend() {
	pause := outrunPause
	for {
		select {
		case <-g.ctx.Done():
			return
		case name := <-g.exchange:
			g.cfg.Log.Debug("members differ, exchanging all", "peer", name)
			_, _ = g.serf.Memberlist().Join([]string{joinText(name)}) // the next digest shows whether it helped
		case <-g.outrun:
			g.cfg.Log.Warn("others hold newer addresses under this node's key; signing again",
				"hint", "is there another host with a copy of this node's data folder?")
			_ = g.tell(func(*tag) {})
			select {
			case <-time.After(pause):
			case <-g.ctx.Done():
				return
			}
			if g.cfg.Yield {
				pause = min(2*pause, longestOutrun)
			}
		}
	}
}

// tell changes what we say of ourselves, signs it with a higher sequence and spreads it.
func (g *Gossip) tell(change func(*tag)) error {
	select {
	case g.telling <- struct{}{}:
		defer func() { <-g.telling }()
	case <-g.ctx.Done():
	}
	if g.ctx.Err() != nil {
		return errClosed
	}
	next := g.mine
	change(&next)
	if err := g.mayTell(next); err != nil {
		return err
	}
	seq, err := g.cfg.Seq(max(g.mine.seq, g.echoed.Load()) + 1)
	if err != nil {
		return err
	}
	next.seq = seq
	g.mine = next
	if err := g.serf.SetTags(map[string]string{tagKey: g.record()}); err != nil {
		g.cfg.Log.Debug("the news of this node's addresses is slow to leave", "err", err) // exchanges carry it
	}
	return nil
}

func (g *Gossip) mayTell(t tag) error {
	if g.cfg.Outbound {
		return checkVia(t.via)
	}
	return checkAddrs(t.addrs)
}

var errClosed = fleet.Errorf(fleet.Unavailable, "gossip has ended")

// Packet takes a packet of gossip from the transport. It never blocks: packets over the queue are dropped, as are those
// of a kind that we do not take. payload may be reused afterwards.
func (g *Gossip) Packet(from netip.AddrPort, payload []byte, at time.Time) {
	g.carry.packet(from, payload, at)
}

// Stream takes an incoming push/pull from the transport, which has verified the peer, and closes it when done.
func (g *Gossip) Stream(conn net.Conn, peer fleet.ID) {
	if _, ok := g.trusted(peer); !ok || peer == g.cfg.Self {
		_ = conn.Close()
		return
	}
	g.echoLater(peer)
	g.carry.stream(conn)
}

const (
	joinEnough   = 3 // exchanges with as many members tell all there is
	joinParallel = 4
)

// Join makes this node known to some of the peers and them to it, and returns with how many that worked; three are
// enough. It is an error if none answered.
func (g *Gossip) Join(ctx context.Context, peers []Peer) (int, error) {
	todo := make(chan string, len(peers))
	for _, p := range peers {
		if p.ID != g.cfg.Self && p.Addr.IsValid() {
			g.book.hint(p.ID, netip.AddrPortFrom(p.Addr.Addr().Unmap(), p.Addr.Port()))
			todo <- joinText(p.ID.Text())
		}
	}
	close(todo)
	if len(todo) == 0 {
		return 0, fleet.Errorf(fleet.Invalid, "nobody to join")
	}
	results := make(chan error, len(todo))
	var joined atomic.Int32
	tried := len(todo)
	for range min(joinParallel, tried) {
		go func() {
			for peer := range todo {
				results <- g.joinOne(ctx, peer, &joined)
			}
		}()
	}
	var last error
	for range tried {
		select {
		case err := <-results:
			if err != nil {
				last = err
			}
		case <-ctx.Done():
			return joinResult(int(joined.Load()), ctx.Err())
		case <-g.ctx.Done():
			return joinResult(int(joined.Load()), errClosed)
		}
	}
	return joinResult(int(joined.Load()), last)
}

func (g *Gossip) joinOne(ctx context.Context, peer string, joined *atomic.Int32) error {
	if joined.Load() >= joinEnough || ctx.Err() != nil || g.ctx.Err() != nil {
		return ctx.Err()
	}
	n, err := g.serf.Memberlist().Join([]string{peer})
	joined.Add(int32(n))
	return err
}

func joinResult(joined int, err error) (int, error) {
	if joined > 0 {
		return joined, nil
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return 0, err
	}
	return 0, fleet.Errorf(fleet.Unavailable, "no member of the fleet answers: %w", err).
		Hinted("is the port open (udp) on both sides?")
}

// joinText names a node to memberlist, which must not look anything up.
func joinText(name string) string { return name + "/" + net.JoinHostPort(everywhere, "9") }

// Members returns everybody that this node has met and that was not removed, itself included, by ID.
func (g *Gossip) Members() []Member { return g.book.members() }

// Events yields what happens to other members, each member's newest news once; a slow reader misses what was between.
// It is closed by Close.
func (g *Gossip) Events() <-chan Event { return g.events }

// SetAddrs tells the fleet where this node is from now on, the best address first. With the same addresses it announces
// the node again, which helps when others learned only now that it is enrolled. It may take some seconds.
func (g *Gossip) SetAddrs(addrs []netip.AddrPort) error {
	addrs = cleanAddrs(addrs)
	return g.tell(func(t *tag) { t.addrs = addrs })
}

// SetVia tells the fleet through which members this outbound-only node is reached from now on, the best first. With the
// same ones it announces the node again, as SetAddrs does.
func (g *Gossip) SetVia(via []fleet.ID) error {
	if !g.cfg.Outbound {
		return fleet.Errorf(fleet.Internal, "gossip: this node has addresses, and needs no relays")
	}
	via = slices.Clone(via)
	return g.tell(func(t *tag) { t.via = via })
}

// LastHeard returns when the last packet of gossip came that could be taken, the zero time if none did. Where members
// are online, one comes every second, and more.
func (g *Gossip) LastHeard() time.Time { return g.carry.lastHeard() }

// Evict forgets a node that was removed from the fleet. Trusted must refuse it already. Nothing more is sent to it, so
// that memberlist loses it within seconds.
func (g *Gossip) Evict(id fleet.ID) {
	if id == g.cfg.Self {
		return
	}
	g.book.evict(id)
	g.feed.drop(id)
}

// Leave says goodbye: others will see this node as Left, not as lost. It takes two seconds or more; when ctx ends
// first, the goodbye may have reached some only. Close afterwards.
func (g *Gossip) Leave(ctx context.Context) error {
	done := make(chan error, 1)
	go func() { done <- g.sayGoodbye() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (g *Gossip) sayGoodbye() (err error) {
	if err := g.tell(func(t *tag) { t.leaving = true }); err != nil {
		return err
	}
	defer func() {
		if recover() != nil { // memberlist panics when Close overtakes it here
			err = errClosed
		}
	}()
	return g.serf.Leave()
}

// Close ends gossip at once; without Leave, others find out by probing. Goroutines of memberlist that wait for a timer
// end with it, within seconds.
func (g *Gossip) Close() error {
	var err error
	g.closed.Do(func() {
		g.end()
		err = g.serf.Shutdown()
		g.tasks.Wait()
	})
	return err
}
