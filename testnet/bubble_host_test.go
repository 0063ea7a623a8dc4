package testnet

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-fleet/muster/cmd/host"
	"github.com/muster-fleet/muster/consensus"
	"github.com/muster-fleet/muster/consensus/quorum"
	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/gossip"
	"github.com/muster-fleet/muster/testnet/check"
	"github.com/muster-fleet/muster/testnet/fabric"
)

// town is a fleet of real hosts in one bubble of virtual time: all of the agent, over a network in memory. Only the runs
// themselves are stand-ins (memory), as real processes live in real time.
type town struct {
	*testing.T
	net      *fabric.Fabric
	preset   gossip.Preset
	timeouts quorum.Timeouts
	life     time.Duration // of commands: how long a node may wait before it starts one
	began    time.Time
	fleet    fleet.ID
	root     auth.Signer
	tester   auth.Signer
	founder  founderKeys
	disk     string // holds the hosts' folders
	hosts    []*townHost
	where    map[netip.AddrPort]*townHost

	mu      sync.Mutex
	cut     func(from, to *townHost) bool // nothing passes that way
	ran     map[townRun]time.Time         // when a node first ran a command
	orders  map[fleet.UUID]int            // place in history
	history check.History                 // what happened, for the checkers
}

type townRun struct {
	command fleet.UUID
	node    string
}

// townHost is one host: its folder and its ledger outlive its agent.
type townHost struct {
	town *town
	name string
	dir  string
	addr netip.AddrPort
	id   fleet.ID
	log  *townLog
	runs *memory

	mu   sync.Mutex
	off  time.Duration // of its wall clock
	host *host.Host
	stop context.CancelFunc
	done chan error
	down time.Time // since when it is; zero: it is up, or was never

	outbound *bool // what its agent is told; nil: nothing
}

// latency is the network's, one way: a small site.
const latency = 2 * time.Millisecond

// inTown runs a test on a fleet of n hosts in virtual time, all of them servers, and checks at its end what must hold at
// the end of every test.
func inTown(t *testing.T, n int, test func(w *town), tune ...func(*town)) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newTown(t, tune...)
		w.found()
		w.grow(n - 1)
		test(w)
		w.judge()
	})
}

// newTown makes the network of a fleet, with nobody on it.
func newTown(t *testing.T, tune ...func(*town)) *town {
	w := &town{
		T: t, began: time.Now().Add(-time.Hour), timeouts: quorum.LAN(), preset: gossip.LAN(), life: exec.DefaultExpires, disk: memoryDisk(t),
		where: map[netip.AddrPort]*townHost{}, ran: map[townRun]time.Time{}, orders: map[fleet.UUID]int{},
	}
	for _, f := range tune {
		f(w)
	}
	w.net = fabric.New(7, fabric.Options{Latency: latency, Jitter: time.Millisecond, Partition: w.partition})
	t.Cleanup(w.end)
	return w
}

// memoryDisk makes a folder in memory, where this host has such a place with room: what a disk takes to write is no part
// of these tests, and 200 hosts sync thousands of times.
func memoryDisk(t *testing.T) string {
	const place, room = "/dev/shm", 512 << 20 // 200 hosts take 40 MB; a container's place may have 64 in all
	var disk syscall.Statfs_t
	if err := syscall.Statfs(place, &disk); err != nil || disk.Bavail*uint64(disk.Bsize) < room {
		return t.TempDir()
	}
	dir, err := os.MkdirTemp(place, "muster-town-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// slowly lets a fleet live by the timings for wide areas, which cost a fifth: for tests of long times.
func slowly(w *town) { w.timeouts, w.preset = quorum.WAN(), gossip.WAN() }

func newSigner() auth.Signer {
	_, key, _ := ed25519.GenerateKey(rand.Reader)
	return auth.NewSigner(key)
}

func (w *town) found() {
	w.Helper()
	_, root, _ := ed25519.GenerateKey(rand.Reader)
	_, tester, _ := ed25519.GenerateKey(rand.Reader)
	recovery, _, _ := ed25519.GenerateKey(rand.Reader)
	w.root, w.tester = auth.NewSigner(root), auth.NewSigner(tester)
	h := w.add()
	var err error
	w.fleet, err = host.Found(host.NewHost{Dir: h.dir, Name: h.name, Bind: h.addr.String()},
		host.Founder{Fleet: "town", Operator: "tester", Key: tester, Root: root, Recovery: recovery, Keep: func(fleet.ID) error { return nil }}, time.Now())
	if err != nil {
		w.Fatal(err)
	}
	w.founder, err = readFounder(h)
	w.must(err)
	h.start()
}

func (w *town) add() *townHost {
	n := len(w.hosts) + 1
	name := fmt.Sprintf("n%d", n)
	h := &townHost{
		town: w, name: name, dir: filepath.Join(w.disk, name), log: &townLog{},
		addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(n >> 8), byte(n)}), host.DefaultPort),
	}
	h.runs = newMemory(h)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hosts = append(w.hosts, h)
	w.where[h.addr] = h
	return h
}

// grow enrols and starts more hosts, and waits until the fleet has settled.
func (w *town) grow(more int) {
	w.Helper()
	join := w.token(uint32(more), true)
	for range more {
		w.enrol(join)
	}
	w.settled()
}

func (w *town) enrol(join auth.JoinString) *townHost {
	w.Helper()
	h := w.add()
	_, err := host.Join(w.Context(), host.NewHost{Dir: h.dir, Name: h.name, Bind: h.addr.String(), Socket: w.net.Conn(h.addr)}, join, h.clock, h.log.slog())
	if err != nil {
		w.Fatalf("%s does not join: %v", h.name, err)
	}
	h.start()
	return h
}

// token makes a join string that names every host that runs.
func (w *town) token(uses uint32, server bool) auth.JoinString {
	w.Helper()
	seed := make([]byte, ed25519.SeedSize)
	_, _ = rand.Read(seed)
	by := w.running()[0]
	header := by.header(time.Hour)
	body := auth.Token{Header: header, Join: auth.NewSigner(ed25519.NewKeyFromSeed(seed)).Public(), Uses: max(uses, 1), Server: server}
	w.must(by.propose(consensus.PutToken{Statement: w.tester.Sign(auth.ForToken, w.fleet, body)}))
	join := auth.JoinString{Seed: seed, Token: header.ID, Fleet: w.fleet, Head: by.host.Agent.Record().Charter.Head()}
	for _, h := range w.running() {
		join.Addrs = append(join.Addrs, h.addr.String())
	}
	return join
}

func (w *town) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func (w *town) running() []*townHost {
	var out []*townHost
	for _, h := range w.hosts {
		if h.host != nil {
			out = append(out, h)
		}
	}
	return out
}

// partition asks w.cut about two addresses.
func (w *town) partition(from, to netip.AddrPort) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.cut != nil && w.cut(w.where[from], w.where[to])
}

// split cuts some hosts off from all others, both ways; heal ends it.
func (w *town) split(off ...*townHost) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut = func(from, to *townHost) bool { return slices.Contains(off, from) != slices.Contains(off, to) }
}

func (w *town) heal() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut = nil
}

// until waits in virtual time.
func (w *town) until(what string, most time.Duration, holds func() bool) {
	w.Helper()
	start := time.Now()
	for !holds() {
		if time.Since(start) > most {
			w.Fatalf("%s: not within %s", what, most)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// settled waits until every host that runs sees every host that runs, and the quorum has its voters and spares.
func (w *town) settled() {
	w.Helper()
	up := w.running()
	servers := 0
	for entry := range up[0].host.Agent.Record().Roster.All() {
		if entry.Server && slices.ContainsFunc(up, func(h *townHost) bool { return h.id == entry.ID }) {
			servers++
		}
	}
	voters := quorum.Target(servers, len(up))
	w.until("all hosts see each other and the quorum is whole", 3*time.Minute, func() bool {
		for _, h := range up {
			s := h.status()
			online := 0
			for _, v := range slices.Concat(s.Quorum.Voters, s.Quorum.Spares) {
				if v.Online {
					online++
				}
			}
			if s.Online != len(up) || len(s.Quorum.Voters) < voters || online < min(servers, voters+2) {
				return false
			}
		}
		return true
	})
}

// converged waits until the records and the replicas of all hosts that run are equal, and stay so.
func (w *town) converged() {
	w.Helper()
	w.until("records and replicas are equal", 2*time.Minute, func() bool {
		heads, states := map[fleet.ID]bool{}, map[fleet.ID]bool{}
		for _, h := range w.running() {
			heads[h.host.Agent.Record().Head] = true
			if s, ok := h.host.State(); ok {
				states[s.Digest()] = true
				w.noteReplica(h, s)
			}
		}
		return len(heads) == 1 && len(states) == 1
	})
}

// leader returns the host that all of among agree on, or nil.
func (w *town) leader(among ...*townHost) *townHost {
	if len(among) == 0 {
		among = w.running()
	}
	leader := among[0].status().Quorum.Leader
	for _, h := range among {
		if h.status().Quorum.Leader != leader {
			return nil
		}
	}
	for _, h := range among {
		if h.id == leader {
			return h
		}
	}
	return nil
}

func (w *town) awaitLeader(among ...*townHost) *townHost {
	w.Helper()
	var leader *townHost
	w.until("one of them leads", time.Minute, func() bool { leader = w.leader(among...); return leader != nil })
	return leader
}

// others returns the hosts that run, without some.
func (w *town) others(without ...*townHost) []*townHost {
	return slices.DeleteFunc(w.running(), func(h *townHost) bool { return slices.Contains(without, h) })
}

// ranAt returns when a command first ran on a host; zero: it did not.
func (w *town) ranAt(h *townHost, command fleet.UUID) time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.ran[townRun{command, h.name}]
}

func (w *town) ranOn(command fleet.UUID, on ...*townHost) bool {
	return !slices.ContainsFunc(on, func(h *townHost) bool { return w.ranAt(h, command).IsZero() })
}

// awaitRun waits until a command has run on all these hosts.
func (w *town) awaitRun(command fleet.UUID, most time.Duration, on ...*townHost) {
	w.Helper()
	w.until("the command runs on all that are meant", most, func() bool { return w.ranOn(command, on...) })
}

// end stops all hosts and waits until nothing of them is left: the bubble would not end otherwise.
func (w *town) end() {
	w.heal()
	for _, h := range w.running() {
		h.stop() // all at once: one that says goodbye to its peers needs them no more
	}
	for _, h := range w.running() {
		h.kill()
	}
	w.net.Close()
	time.Sleep(2 * time.Minute) // memberlist's goroutines wait for their timers
	if w.Failed() {
		for _, h := range w.hosts[:min(len(w.hosts), 10)] {
			w.Logf("--- %s\n%s", h.name, h.log.tail())
		}
	}
}

// start starts the agent, for the first time or again.
func (h *townHost) start() {
	h.town.Helper()
	if err := h.tryStart(); err != nil {
		h.town.Fatalf("%s does not start: %v", h.name, err)
	}
}

func (h *townHost) tryStart() error {
	started, err := host.Start(host.Options{
		Dir: h.dir, Version: "test", Clock: h.clock, Socket: h.town.net.Conn(h.addr), Runner: h.runs,
		Preset: h.town.preset, Timeouts: h.town.timeouts, Log: h.log.slog(), Outbound: h.outbound,
	})
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	h.host, h.stop, h.done, h.id = started, stop, done, started.ID
	h.town.noteUp(h)
	h.runs.posts(started.Agent.Post)
	go func() { done <- started.Run(ctx) }()
	started.Ready(ctx)
	return nil
}

// kill ends the agent.
func (h *townHost) kill() {
	h.town.Helper()
	h.down = time.Now()
	h.stop()
	if err := <-h.done; err != nil {
		h.town.Errorf("the agent of %s ends with %v", h.name, err)
	}
	h.host = nil
}

// crash ends the agent as a power cut does: nothing of it comes out any more.
func (h *townHost) crash() {
	h.town.Helper()
	h.town.split(h)
	h.kill()
	h.town.heal()
}

func (h *townHost) clock() auth.Instant {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now().Round(0)
	return auth.Instant{Wall: now.Add(h.off), Boot: now.Sub(h.town.began.Round(0))}
}

func (h *townHost) setClock(off time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.off = off
}

func (h *townHost) status() node.Status { return h.host.Agent.Status(h.town.Context()) }
