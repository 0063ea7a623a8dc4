package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/muster-fleet/muster/cmd/host"
	"github.com/muster-fleet/muster/consensus"
	"github.com/muster-fleet/muster/consensus/quorum"
	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/agent"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/gossip"
	"github.com/muster-fleet/muster/testnet/fabric"
)

// bubble is a fleet of whole hosts in virtual time: all of the agent, over a network in memory.
type bubble struct {
	t        *testing.T
	net      *fabric.Fabric
	operator auth.Signer
	fleet    fleet.ID
	began    time.Time
	hosts    []*bubbleHost

	mu  sync.Mutex
	off map[netip.AddrPort]bool // cut off from those that are not
}

type bubbleHost struct {
	bubble *bubble
	title  string
	dir    string
	addr   netip.AddrPort

	mu   sync.Mutex
	host *host.Host // nil: it is down
	stop context.CancelFunc
	done chan error
}

// newBubble founds a fleet and waits until it is whole. It must be called inside of a bubble.
func newBubble(t *testing.T) *bubble {
	b := &bubble{t: t, began: time.Now().Add(-time.Hour), off: map[netip.AddrPort]bool{}}
	b.net = fabric.New(7, fabric.Options{Latency: 2 * time.Millisecond, Jitter: time.Millisecond, Partition: b.cut})
	t.Cleanup(b.down)
	disk := memoryDisk(t)
	for n := range hosts {
		name := fmt.Sprintf("n%d", n+1)
		b.hosts = append(b.hosts, &bubbleHost{
			bubble: b, title: name, dir: filepath.Join(disk, name),
			addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(n + 1)}), host.DefaultPort),
		})
	}
	b.found()
	b.join()
	if err := b.whole(t.Context()); err != nil {
		t.Fatal(err)
	}
	return b
}

// memoryDisk makes a folder in memory where this machine has such a place with room: what a disk takes is no part of this.
func memoryDisk(t *testing.T) string {
	const place, room = "/dev/shm", 512 << 20
	var disk syscall.Statfs_t
	if err := syscall.Statfs(place, &disk); err != nil || disk.Bavail*uint64(disk.Bsize) < room {
		return t.TempDir()
	}
	dir, err := os.MkdirTemp(place, "muster-linear-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func (b *bubble) found() {
	b.t.Helper()
	_, root, _ := ed25519.GenerateKey(rand.Reader)
	_, operator, _ := ed25519.GenerateKey(rand.Reader)
	recovery, _, _ := ed25519.GenerateKey(rand.Reader)
	b.operator = auth.NewSigner(operator)
	h := b.hosts[0]
	var err error
	b.fleet, err = host.Found(host.NewHost{Dir: h.dir, Name: h.title, Bind: h.addr.String()},
		host.Founder{Fleet: "linear", Operator: "tester", Key: operator, Root: root, Recovery: recovery, Keep: func(fleet.ID) error { return nil }}, time.Now())
	if err == nil {
		err = h.start()
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

// join enrols the others, all of them as servers.
func (b *bubble) join() {
	b.t.Helper()
	seed := make([]byte, ed25519.SeedSize)
	_, _ = rand.Read(seed)
	first := b.hosts[0]
	f, err := first.facts(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	var id fleet.UUID
	_, _ = rand.Read(id[:])
	header := auth.Header{ID: id, Issued: f.now.UnixMilli(), Expires: f.now.Add(time.Hour).UnixMilli(), Charter: f.head, Act: f.act, Mode: auth.ByQuorum}
	body := auth.Token{Header: header, Join: auth.NewSigner(ed25519.NewKeyFromSeed(seed)).Public(), Uses: hosts, Server: true}
	if _, err := first.host.Agent.Propose(b.t.Context(), consensus.PutToken{Statement: b.operator.Sign(auth.ForToken, b.fleet, body)}); err != nil {
		b.t.Fatal(err)
	}
	join := auth.JoinString{Seed: seed, Token: id, Fleet: b.fleet, Head: f.head, Addrs: []string{first.addr.String()}}
	for _, h := range b.hosts[1:] {
		_, err := host.Join(b.t.Context(), host.NewHost{Dir: h.dir, Name: h.title, Bind: h.addr.String(), Socket: b.net.Conn(h.addr)}, join, b.clock, nil)
		if err == nil {
			err = h.start()
		}
		if err != nil {
			b.t.Fatal(err)
		}
	}
}

// down ends all hosts and waits until nothing of them is left: the bubble would not end otherwise.
func (b *bubble) down() {
	b.heal()
	for _, h := range b.hosts {
		h.mu.Lock()
		if h.host != nil {
			h.stop()
		}
		h.mu.Unlock()
	}
	for _, h := range b.hosts {
		_ = h.kill()
	}
	b.net.Close()
	time.Sleep(2 * time.Minute) // memberlist's goroutines wait for their timers
}

func (b *bubble) clock() auth.Instant {
	now := time.Now().Round(0)
	return auth.Instant{Wall: now, Boot: now.Sub(b.began.Round(0))}
}

func (b *bubble) cut(from, to netip.AddrPort) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.off[from] != b.off[to]
}

func (b *bubble) split(off ...int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	clear(b.off)
	for _, n := range off {
		b.off[b.hosts[n].addr] = true
	}
}

func (b *bubble) heal() { b.split() }

func (b *bubble) doors() (out []door) {
	for _, h := range b.hosts {
		if h.agent() != nil {
			out = append(out, h)
		}
	}
	return out
}

func (b *bubble) pen() pen { return pen{b.fleet, b.operator} }

// kinds has no pause: goroutines cannot be stopped from outside. A host that is cut off is paused as far as others see it.
func (b *bubble) kinds() []fault { return []fault{faultKill, faultPart, faultAlone, faultLead} }

func (b *bubble) leader(ctx context.Context) int {
	for n, h := range b.hosts {
		if a := h.agent(); a != nil && a.Status(ctx).Quorum.Leader == h.id() {
			return n
		}
	}
	return -1
}

func (b *bubble) begin(ctx context.Context, t trouble) error {
	switch t.fault {
	case faultKill:
		b.split(t.hosts...) // nothing of it comes out any more
		err := b.hosts[t.hosts[0]].kill()
		b.heal()
		return err
	case faultPart, faultAlone:
		b.split(t.hosts...)
	case faultLead:
		if n := b.leader(ctx); n >= 0 {
			return b.hosts[n].restart()
		}
	case faultPause:
	}
	return nil
}

func (b *bubble) end(_ context.Context, t trouble) error {
	b.heal()
	if t.fault == faultKill {
		return b.hosts[t.hosts[0]].start()
	}
	return nil
}

// whole waits until all see all, and a leader.
func (b *bubble) whole(ctx context.Context) error {
	for range 1800 {
		if b.sound(ctx) {
			return nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	return errors.New("the fleet is not whole within three minutes")
}

func (b *bubble) sound(ctx context.Context) bool {
	for _, h := range b.hosts {
		a := h.agent()
		if a == nil {
			return false
		}
		s := a.Status(ctx)
		if s.Online != len(b.hosts) || s.Quorum.Leader.IsZero() || len(s.Quorum.Voters) < quorum.Target(hosts, hosts) ||
			slices.ContainsFunc(s.Quorum.Voters, func(v node.ServerStatus) bool { return !v.Online }) {
			return false
		}
	}
	return true
}

func (h *bubbleHost) start() error {
	started, err := host.Start(host.Options{
		Dir: h.dir, Version: "test", Clock: h.bubble.clock, Socket: h.bubble.net.Conn(h.addr), Runner: idle{}, Preset: gossip.LAN(), Timeouts: quorum.LAN(),
	})
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- started.Run(ctx) }()
	started.Ready(ctx)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.host, h.stop, h.done = started, stop, done
	return nil
}

func (h *bubbleHost) kill() error {
	h.mu.Lock()
	if h.host == nil {
		h.mu.Unlock()
		return nil
	}
	stop, done := h.stop, h.done
	h.host = nil
	h.mu.Unlock()
	stop()
	return <-done
}

// restart ends the agent in order, which hands the lead over, and starts it again.
func (h *bubbleHost) restart() error {
	if err := h.kill(); err != nil {
		return err
	}
	return h.start()
}

func (h *bubbleHost) agent() *agent.Agent {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.host == nil {
		return nil
	}
	return h.host.Agent
}

func (h *bubbleHost) id() fleet.ID {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.host == nil {
		return fleet.ID{}
	}
	return h.host.ID
}

func (h *bubbleHost) name() string { return h.title }

var errDown = fleet.Errorf(fleet.Unavailable, "the host is down")

func (h *bubbleHost) facts(ctx context.Context) (facts, error) {
	a := h.agent()
	if a == nil {
		return facts{}, errDown
	}
	s := a.Status(ctx)
	return facts{now: s.Now, head: s.CharterHead, act: s.Act}, nil
}

func (h *bubbleHost) propose(ctx context.Context, e consensus.PutParams) error {
	a := h.agent()
	if a == nil {
		return errDown
	}
	_, err := a.Propose(ctx, e)
	return err
}

func (h *bubbleHost) read(ctx context.Context, ask node.ParamsAsk) (node.ParamsRead, error) {
	a := h.agent()
	if a == nil {
		return node.ParamsRead{}, errDown
	}
	return a.ReadParams(ctx, ask)
}

// idle is a runner to whom nothing is brought.
type idle struct{}

func (idle) Start(context.Context, node.StartRun) error             { return errors.New("nothing is run here") }
func (idle) Cancel(fleet.UUID) error                                { return nil }
func (idle) Refuse(fleet.UUID, fleet.ID, exec.Status, string) error { return nil }
func (idle) OpenOutput(fleet.UUID, string) (agent.KeptOutput, error) {
	return nil, errDown
}
func (idle) Recall(func(node.Event)) {}
