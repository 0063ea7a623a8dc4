package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
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
)

// wires are uplinks in memory.
type wires struct {
	mu      sync.Mutex
	up      map[fleet.ID]context.CancelCauseFunc // that stand
	dead    map[fleet.ID]bool                    // members that do not answer
	broken  map[fleet.ID]bool                    // uplinks that carry nothing, which nobody has noticed
	told    [][]fleet.ID
	joined  []int // how often the fleet had been told, at each join
	checked map[fleet.ID]int
	silent  time.Duration
	members []node.Sighting
	changed chan struct{}
}

func (w *wires) Hold(ctx context.Context, id fleet.ID, up func()) error {
	w.mu.Lock()
	dead := w.dead[id]
	held, end := context.WithCancelCause(ctx)
	defer end(nil)
	if !dead {
		w.up[id] = end
	}
	w.mu.Unlock()
	if dead {
		select {
		case <-time.After(3 * time.Second):
		case <-ctx.Done():
		}
		return errors.New("no answer")
	}
	up()
	<-held.Done()
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.up, id)
	return context.Cause(held)
}

func (w *wires) Check(_ context.Context, id fleet.ID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.checked[id]++
	if end := w.up[id]; end != nil && w.broken[id] {
		end(errors.New("no pong"))
	}
}

func (w *wires) Tell(via []fleet.ID) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.told = append(w.told, slices.Clone(via))
	return nil
}

func (w *wires) Silence() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.silent
}

func (w *wires) set(change func()) {
	w.mu.Lock()
	change()
	w.mu.Unlock()
	select {
	case w.changed <- struct{}{}:
	default:
	}
}

func (w *wires) standing() (out []fleet.ID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for id := range w.up {
		out = append(out, id)
	}
	return out
}

func (w *wires) lastTold() []fleet.ID {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.told) == 0 {
		return nil
	}
	return w.told[len(w.told)-1]
}

// Members and the rest make wires the agent's gossip, too.
func (w *wires) Members() []node.Sighting {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.members)
}
func (w *wires) Changed() <-chan struct{} { return w.changed }
func (w *wires) Join(context.Context, map[fleet.ID][]netip.AddrPort) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.joined = append(w.joined, len(w.told))
	return 1
}
func (w *wires) Evict(fleet.ID)              {}
func (w *wires) Leave(context.Context) error { return nil }

// behind is an outbound-only agent among members that can be dialled, of which it knows the addresses only.
type behind struct {
	*Agent
	*wires
	fleet  *authtest.Fleet
	others []fleet.ID
	slept  time.Duration
}

func newBehind(t *testing.T, others int) *behind {
	t.Helper()
	f := authtest.Found("uplinks")
	self := f.AddNode("till-7", nil, nil)
	b := &behind{fleet: f, others: []fleet.ID{f.Nodes[0].ID}}
	for i := 1; i < others; i++ {
		b.others = append(b.others, f.AddNode(fmt.Sprintf("relay-%d", i), nil, nil).ID)
	}
	hints := map[fleet.ID][]netip.AddrPort{}
	b.wires = &wires{
		up: map[fleet.ID]context.CancelCauseFunc{}, dead: map[fleet.ID]bool{}, broken: map[fleet.ID]bool{}, checked: map[fleet.ID]int{},
		changed: make(chan struct{}, 1),
	}
	for i, id := range b.others {
		hints[id] = []netip.AddrPort{netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 1)}), 7980)}
	}
	began := time.Now()
	clock := func() auth.Instant {
		b.mu().Lock()
		defer b.mu().Unlock()
		return auth.Instant{Wall: f.Now.Add(time.Since(began)), Boot: time.Hour + time.Since(began) + b.slept}
	}
	b.Agent = New(Config{
		Key: self.Key, Fleet: f.ID(), Name: "till-7", Record: f.Record, Folder: &stubFolder{}, Hints: hints, Clock: clock,
		Log: slog.New(slog.DiscardHandler),
	})
	b.Attach(Shells{Peers: &stubPeers{}, Gossip: b.wires, Runner: stubRunner{}, Uplinks: b.wires})
	return b
}

func (b *behind) mu() *sync.Mutex { return &b.wires.mu }

// sees has gossip see all members as something, and itself.
func (b *behind) sees(change func(i int, s *node.Sighting)) {
	b.set(func() {
		b.members = nil
		for i, id := range b.others {
			s := node.Sighting{ID: id, Status: fleet.Online, Seq: 1, Addrs: []netip.AddrPort{netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 1)}), 7980)}}
			if change != nil {
				change(i, &s)
			}
			b.members = append(b.members, s)
		}
	})
}

// keeps runs what keeps uplinks, and what watches gossip, while a test looks on in virtual time.
func keeps(t *testing.T, others int, run func(t *testing.T, b *behind)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := newBehind(t, others)
		ctx, stop := context.WithCancel(t.Context())
		var work sync.WaitGroup
		work.Go(func() { b.keepUplinks(ctx) })
		work.Go(func() { b.watchGossip(ctx) })
		work.Go(func() { // the loop
			for {
				select {
				case <-b.queue:
				case <-ctx.Done():
					return
				}
			}
		})
		run(t, b)
		stop()
		work.Wait()
	})
}

func (b *behind) index(id fleet.ID) int { return slices.Index(b.others, id) }

// expect waits a moment, and wants two uplinks that the fleet was told of, none of them to one of these.
func (b *behind) expect(t *testing.T, within time.Duration, not ...fleet.ID) {
	t.Helper()
	time.Sleep(within)
	synctest.Wait()
	up := b.standing()
	told := b.lastTold()
	if len(up) != 2 || len(told) != 2 || !slices.Contains(told, up[0]) || !slices.Contains(told, up[1]) || !slices.Equal(told, b.Via()) {
		t.Fatalf("%d stand, %d were told; candidates %+v", len(up), len(told), b.uplinkCandidates())
	}
	for _, id := range not {
		if slices.Contains(up, id) {
			t.Fatalf("one of them is to member %d", b.index(id))
		}
	}
}

// TestUplinksAreKept: two stand from the start, others hear of the node when the first does, and what is lost is replaced.
func TestUplinksAreKept(t *testing.T) {
	keeps(t, 5, func(t *testing.T, b *behind) {
		b.expect(t, time.Millisecond)
		b.mu().Lock()
		if len(b.joined) == 0 || b.joined[0] == 0 {
			t.Errorf("others heard of it before an uplink stood: %v", b.joined)
		}
		b.mu().Unlock()
		b.sees(nil)
		lost := b.Via()[0]
		b.mu().Lock()
		end := b.up[lost]
		b.mu().Unlock()
		end(errors.New("cut"))
		b.expect(t, time.Millisecond, lost)
		both := b.Via()
		for _, id := range both {
			b.mu().Lock()
			end := b.up[id]
			b.mu().Unlock()
			end(errors.New("cut"))
		}
		b.expect(t, time.Millisecond, both...)
	})
}

// TestUplinksToTheDead: members that do not answer cost a second, not the three that a handshake takes.
func TestUplinksToTheDead(t *testing.T) {
	keeps(t, 6, func(t *testing.T, b *behind) {
		b.expect(t, time.Millisecond)
		dead := b.Via()
		b.set(func() {
			for _, id := range append(b.others[:0:0], b.others...) {
				if !slices.Contains(dead, id) && len(b.dead) < 2 {
					b.dead[id] = true
				}
			}
			for _, id := range dead {
				b.dead[id] = true
				b.up[id](errors.New("it died"))
			}
		})
		b.expect(t, 2100*time.Millisecond, dead...)
	})
}

// TestUplinksAreDoubted: an uplink that nobody has closed is asked when there is reason to, and else it is not.
func TestUplinksAreDoubted(t *testing.T) {
	for name, c := range map[string]struct {
		doubt  func(b *behind, id fleet.ID)
		within time.Duration
	}{
		"gossip is silent":       {func(b *behind, _ fleet.ID) { b.set(func() { b.silent = uplinkSilence + 1 }) }, 6 * time.Second},
		"its node seems lost":    {func(b *behind, id fleet.ID) { b.sees(func(i int, s *node.Sighting) { mark(b, id, i, s, "lost") }) }, time.Second},
		"its node was restarted": {func(b *behind, id fleet.ID) { b.sees(func(i int, s *node.Sighting) { mark(b, id, i, s, "anew") }) }, time.Second},
		"this host slept":        {func(b *behind, _ fleet.ID) { b.set(func() { b.slept = time.Minute }) }, time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			keeps(t, 4, func(t *testing.T, b *behind) {
				b.sees(nil)
				b.expect(t, 10*time.Second)
				id := b.Via()[1]
				b.set(func() {
					clear(b.checked)
					b.broken[id] = true
				})
				time.Sleep(time.Minute)
				b.mu().Lock()
				if len(b.checked) > 0 {
					t.Errorf("asked without reason: %v", b.checked)
				}
				b.mu().Unlock()
				c.doubt(b, id)
				b.expect(t, c.within+time.Millisecond, id)
				b.set(func() { clear(b.checked) })
				time.Sleep(time.Minute)
				b.mu().Lock()
				defer b.mu().Unlock()
				for id, n := range b.checked {
					if n > 12 {
						t.Errorf("member %d is asked %d times a minute", b.index(id), n)
					}
				}
			})
		})
	}
}

func mark(b *behind, id fleet.ID, i int, s *node.Sighting, how string) {
	if b.others[i] != id {
		return
	}
	if how == "lost" {
		s.Status = fleet.ConnectionLost
		return
	}
	s.Seq++
}

// TestUplinkOfARemovedNode: it is ended and replaced, also where the connection would go on; the same for one that has
// become outbound-only itself.
func TestUplinkOfARemovedNode(t *testing.T) {
	keeps(t, 4, func(t *testing.T, b *behind) {
		b.sees(nil)
		b.expect(t, time.Second)
		removed := b.Via()[0]
		if removed == b.others[0] { // it founded the fleet
			removed = b.Via()[1]
		}
		b.fleet.MustTake(b.fleet.RemoveNode(removed))
		p := *b.picture.Load()
		p.record = b.fleet.Record
		b.picture.Store(&p)
		b.expect(t, time.Second+time.Millisecond, removed)
		hidden := b.Via()[0]
		b.sees(func(i int, s *node.Sighting) {
			if b.others[i] == hidden {
				s.Addrs, s.Via = nil, b.Via()[1:]
			}
		})
		b.wires.set(func() {})
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if up := b.standing(); slices.Contains(up, hidden) || slices.Contains(up, removed) {
			t.Errorf("%d stand, of which one is to a node that nobody can dial", len(up))
		}
		if len(b.Addrs(hidden)) != 0 {
			t.Error("others are told where it was")
		}
	})
}

// TestAllUplinksLost: while none stands the fleet is told nothing, the owner is, and it goes on when somebody answers.
func TestAllUplinksLost(t *testing.T) {
	keeps(t, 3, func(t *testing.T, b *behind) {
		b.sees(nil)
		b.expect(t, time.Second)
		b.set(func() {
			for _, id := range b.others {
				b.dead[id] = true
			}
			for _, end := range b.up {
				end(errors.New("cable cut"))
			}
		})
		time.Sleep(time.Second)
		b.set(func() { b.told, b.joined = nil, nil })
		b.sees(func(_ int, s *node.Sighting) { s.Status = fleet.ConnectionLost })
		time.Sleep(time.Minute)
		if b.lastTold() != nil || len(b.joined) > 0 {
			t.Error("it tells others what cannot be")
		}
		s := b.Status(t.Context())
		if text := strings.Join(s.Warnings, "\n"); !s.Outbound || len(s.Uplinks) != 0 || !strings.Contains(text, "no uplink") || !strings.Contains(text, "no answer") {
			t.Errorf("%v %v %s", s.Outbound, s.Uplinks, text)
		}
		b.set(func() { clear(b.dead) })
		b.expect(t, 3*time.Second+4*time.Second) // a try that hangs, and the longest wait
		b.mu().Lock()
		defer b.mu().Unlock()
		if len(b.joined) == 0 {
			t.Error("it does not make itself known again")
		}
	})
}

// sent keeps by which way packets were sent.
type sent struct {
	stubPeers
	rang, noted []node.Way
}

func (s *sent) Ring(by node.Way, _ []byte) { s.rang = append(s.rang, by) }
func (s *sent) Note(by node.Way, _ []byte) { s.noted = append(s.noted, by) }

// TestPacketsToOutbound: bells go through both relays, beacons and their answers through one.
func TestPacketsToOutbound(t *testing.T) {
	d := newDesk(t)
	peers := &sent{}
	d.Agent.peers = peers
	at := func(n byte) netip.AddrPort { return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, n}), 7980) }
	d.Agent.seen = map[fleet.ID]node.Sighting{
		d.db.ID:  {ID: d.db.ID, Status: fleet.Online, Addrs: []netip.AddrPort{at(2)}},
		d.web.ID: {ID: d.web.ID, Status: fleet.Online, Via: []fleet.ID{d.db.ID, d.self}},
	}
	d.Agent.hints = map[fleet.ID][]netip.AddrPort{d.db.ID: {at(2)}}
	d.ring(node.Ring{To: []fleet.ID{d.web.ID, d.db.ID}})
	own, other := node.Way{To: d.web.ID, Relay: d.self}, node.Way{To: d.web.ID, Relay: d.db.ID, Addr: at(2)}
	if want := []node.Way{own, other, {To: d.db.ID, Addr: at(2)}}; !slices.Equal(peers.rang, want) {
		t.Errorf("rang %+v", peers.rang)
	}
	if got := d.wayBack(d.web.ID, at(9)); got != own {
		t.Errorf("back to an outbound-only node: %+v", got)
	}
	if got := d.wayBack(d.db.ID, at(9)); got != (node.Way{To: d.db.ID, Addr: at(9)}) {
		t.Errorf("back to one that can be dialled: %+v", got)
	}
	if d.swapNotes(over(), d.web.ID, auth.Envelope{}); len(peers.noted) != 1 || peers.noted[0] != own {
		t.Errorf("noted %+v", peers.noted)
	}
	if got := d.Relays(d.web.ID); !slices.Equal(got, []fleet.ID{d.self, d.db.ID}) || d.Relays(d.db.ID) != nil {
		t.Errorf("%v", got)
	}
}

// TestOutboundNeverVotes: the leader does not consider it, and says so.
func TestOutboundNeverVotes(t *testing.T) {
	d := newDesk(t)
	d.Agent.copies = copies{d.db.ID: {1, time.Hour}}
	d.Agent.seen = map[fleet.ID]node.Sighting{d.db.ID: {ID: d.db.ID, Status: fleet.Online}}
	considered := func() bool {
		return slices.ContainsFunc(d.candidates(t.Context()), func(c Candidate) bool { return c.ID == d.db.ID })
	}
	if !considered() || len(d.quorumStatus().Outbound) != 0 {
		t.Fatal("a server that can be dialled is not considered")
	}
	d.Agent.seen[d.db.ID] = node.Sighting{ID: d.db.ID, Status: fleet.Online, Via: []fleet.ID{d.self}}
	if considered() {
		t.Error("an outbound-only node may become a voter")
	}
	if q := d.quorumStatus(); len(q.Outbound) != 1 || q.Outbound[0].Name != "db-1" {
		t.Errorf("%+v", q.Outbound)
	}
}

// TestAllowRelay: members of the record and operators, and nobody who is none any more.
func TestAllowRelay(t *testing.T) {
	d := newDesk(t)
	stranger, operator := d.NewNode("stranger"), d.Fleet.AddOperator("ann")
	p := *d.picture.Load()
	p.record = d.Fleet.Record
	d.picture.Store(&p)
	allowed := func(id fleet.ID) bool { return d.AllowRelay(id) == nil }
	if !allowed(d.web.ID) || !allowed(operator.ID()) || allowed(stranger.ID) {
		t.Errorf("member %v, operator %v, stranger %v", allowed(d.web.ID), allowed(operator.ID()), allowed(stranger.ID))
	}
	carries := func(id fleet.ID) bool { return d.MayCarry(id) == nil }
	if !carries(d.web.ID) || carries(operator.ID()) || carries(stranger.ID) {
		t.Errorf("carries: member %v, operator %v, stranger %v", carries(d.web.ID), carries(operator.ID()), carries(stranger.ID))
	}
	d.Fleet.MustTake(d.Fleet.DeleteOperator("ann", operator, false))
	p.record = d.Fleet.Record
	d.picture.Store(&p)
	if allowed(operator.ID()) {
		t.Error("an operator who was removed")
	}
}
