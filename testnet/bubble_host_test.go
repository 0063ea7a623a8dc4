package testnet

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
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
	"github.com/muster-fleet/muster/node/fleet/wire"
	"github.com/muster-fleet/muster/node/gossip"
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
	hosts    []*townHost

	mu   sync.Mutex
	cut  func(from, to *townHost) bool // nothing passes that way
	ran  map[townRun]int               // how often a node ran a command, over all its lives
	sent []fleet.UUID
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
}

// latency is the network's, one way: a small site.
const latency = 2 * time.Millisecond

// inTown runs a test on a fleet of n hosts in virtual time, all of them servers, and checks at its end what must hold at
// the end of every test.
func inTown(t *testing.T, n int, test func(w *town), tune ...func(*town)) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &town{T: t, began: time.Now().Add(-time.Hour), ran: map[townRun]int{}, timeouts: quorum.LAN(), preset: gossip.LAN(), life: exec.DefaultExpires}
		for _, f := range tune {
			f(w)
		}
		w.net = fabric.New(7, fabric.Options{Latency: latency, Jitter: time.Millisecond, Partition: w.partition})
		t.Cleanup(w.end)
		w.found()
		w.grow(n - 1)
		test(w)
		w.ranAtMostOnce()
	})
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
	h.start()
}

func (w *town) add() *townHost {
	n := len(w.hosts) + 1
	name := fmt.Sprintf("n%d", n)
	h := &townHost{
		town: w, name: name, dir: filepath.Join(w.TempDir(), name), log: &townLog{},
		addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(n)}), host.DefaultPort),
	}
	h.runs = newMemory(h)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hosts = append(w.hosts, h)
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
	return w.cut != nil && w.cut(w.at(from), w.at(to))
}

func (w *town) at(addr netip.AddrPort) *townHost {
	for _, h := range w.hosts {
		if h.addr == addr {
			return h
		}
	}
	return nil
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

// on counts how often a command has run on a host.
func (w *town) on(h *townHost, command fleet.UUID) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.ran[townRun{command, h.name}]
}

func (w *town) ranOn(command fleet.UUID, on ...*townHost) bool {
	return !slices.ContainsFunc(on, func(h *townHost) bool { return w.on(h, command) == 0 })
}

// awaitRun waits until a command has run on all these hosts.
func (w *town) awaitRun(command fleet.UUID, most time.Duration, on ...*townHost) {
	w.Helper()
	w.until("the command runs on all that are meant", most, func() bool { return w.ranOn(command, on...) })
}

// ranAtMostOnce checks the first promise over everything that the test did.
func (w *town) ranAtMostOnce() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for run, times := range w.ran {
		if times > 1 {
			w.Errorf("%s ran %d times on %s", run.command, times, run.node)
		}
		if !slices.Contains(w.sent, run.command) {
			w.Errorf("%s ran on %s, and nobody sent it", run.command, run.node)
		}
	}
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
		for _, h := range w.hosts {
			w.Logf("--- %s\n%s", h.name, h.log.tail())
		}
	}
}

// start starts the agent, for the first time or again.
func (h *townHost) start() {
	h.town.Helper()
	started, err := host.Start(host.Options{
		Dir: h.dir, Version: "test", Clock: h.clock, Socket: h.town.net.Conn(h.addr), Runner: h.runs,
		Preset: h.town.preset, Timeouts: h.town.timeouts, Log: h.log.slog(),
	})
	if err != nil {
		h.town.Fatalf("%s does not start: %v", h.name, err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	h.host, h.stop, h.done, h.id = started, stop, done, started.ID
	h.runs.posts(started.Agent.Post)
	go func() { done <- started.Run(ctx) }()
	started.Ready(ctx)
}

// kill ends the agent.
func (h *townHost) kill() {
	h.town.Helper()
	h.stop()
	if err := <-h.done; err != nil {
		h.town.Errorf("the agent of %s ends with %v", h.name, err)
	}
	h.host = nil
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

func newUUID() (id fleet.UUID) {
	_, _ = rand.Read(id[:])
	return id
}

// header begins a statement as the command line does on that host.
func (h *townHost) header(life time.Duration) auth.Header {
	s := h.status()
	out := auth.Header{ID: newUUID(), Issued: s.Now.UnixMilli(), Charter: s.CharterHead, Act: s.Act, Mode: auth.ByQuorum}
	if life != 0 {
		out.Expires = s.Now.Add(life).UnixMilli()
	}
	return out
}

func (h *townHost) propose(e consensus.Entry) error {
	_, err := h.host.Agent.Propose(h.town.Context(), e)
	return err
}

// amend changes the charter.
func (h *townHost) amend(kind auth.CharterKind, content any) {
	w := h.town
	w.Helper()
	s := h.status()
	entry := auth.SignCharterAt(w.fleet, s.CharterHead, s.CharterLen, h.header(0), kind, content, w.root)
	w.must(h.propose(consensus.PutAct{Kind: auth.ActCharter, Data: wire.Marshal(entry)}))
}

// remove takes a node out of the fleet.
func (h *townHost) remove(gone *townHost) {
	w := h.town
	w.Helper()
	entry, _ := h.host.Agent.Record().Roster.Node(gone.id)
	statement := w.tester.Sign(auth.ForNodeRemove, w.fleet, auth.NodeRemove{Header: h.header(0), Node: gone.id, Seq: entry.Seq + 1})
	w.must(h.propose(consensus.PutAct{Kind: auth.ActNodeRemove, Data: wire.Marshal(statement)}))
}

// order signs a command for some hosts, all that the roster names if none is given.
func (h *townHost) order(by auth.Signer, to ...*townHost) (fleet.UUID, consensus.PutCommand) {
	w := h.town
	target := fleet.All()
	var ids []fleet.ID
	for _, t := range to {
		ids = append(ids, t.id)
	}
	if len(to) == 0 {
		for entry := range h.host.Agent.Record().Roster.All() {
			ids = append(ids, entry.ID)
		}
	} else {
		var names []string
		for _, t := range to {
			names = append(names, t.name)
		}
		var err error
		if target, err = fleet.ParseTarget(strings.Join(names, " or ")); err != nil {
			w.Fatal(err)
		}
	}
	ids = exec.SortIDs(ids)
	body := exec.Command{
		Header: h.header(w.life), Target: target.String(), Count: uint32(len(ids)), Set: exec.SetDigest(ids),
		Run: exec.Run{Argv: []string{"echo done"}, Timeout: exec.DefaultTimeout.Milliseconds()},
	}
	return body.Header.ID, consensus.PutCommand{Statement: by.Sign(auth.ForCommand, w.fleet, body), Nodes: ids}
}

// send brings a command to the fleet.
func (h *townHost) send(to ...*townHost) fleet.UUID {
	h.town.Helper()
	id, entry := h.order(h.town.tester, to...)
	h.town.expect(id)
	if err := h.propose(entry); err != nil {
		h.town.Fatalf("%s cannot send: %v", h.name, err)
	}
	return id
}

// expect notes a command that may run.
func (w *town) expect(id fleet.UUID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sent = append(w.sent, id)
}

func (h *townHost) read(what node.ReadWhat, arg fleet.UUID) auth.Envelope {
	return h.town.tester.Sign(auth.ForRequest, h.town.fleet, node.Read{Header: h.header(node.ReadLife), What: what, Arg: arg})
}

// reports returns what the servers tell a host within a moment of a command's nodes.
func (h *townHost) reports(command fleet.UUID) map[string]exec.Report {
	ctx, cancel := context.WithTimeout(h.town.Context(), 2*time.Second)
	defer cancel()
	out := map[string]exec.Report{}
	_ = h.host.Agent.Watch(ctx, h.read(node.ReadCommand, command), func(u node.Update) error {
		if u.Report != nil {
			out[h.town.nameOf(u.Report.Node)] = *u.Report
		}
		return nil
	})
	return out
}

func (w *town) nameOf(id fleet.ID) string {
	for _, h := range w.hosts {
		if h.id == id {
			return h.name
		}
	}
	return id.String()
}

// awaitStatus waits until the servers have a status of a command from every one of some hosts.
func (h *townHost) awaitStatus(command fleet.UUID, status exec.Status, most time.Duration, of ...*townHost) {
	h.town.Helper()
	h.town.until(fmt.Sprintf("%s reports of %d hosts", status, len(of)), most, func() bool {
		got := h.reports(command)
		return !slices.ContainsFunc(of, func(o *townHost) bool { return got[o.name].Status != status })
	})
}

// memory stands in for the runner: the real ledger's rules, and runs that take no time. Like the ledger on disk it
// outlives the agent.
type memory struct {
	of     *townHost
	mu     sync.Mutex
	ledger *exec.Ledger
	post   func(node.Event)
}

func newMemory(h *townHost) *memory {
	return &memory{of: h, ledger: exec.NewLedger(time.Now().Add(-24*time.Hour), time.Time{})}
}

func (m *memory) posts(post func(node.Event)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.post = post
}

// said is what every run writes.
const said = "done\n"

func stdout() exec.Stream {
	return exec.Stream{Size: int64(len(said)), Kept: int64(len(said)), Digest: fleet.Sum([]byte(said)), Head: []byte(said)}
}

// Start runs a command at once.
func (m *memory) Start(_ context.Context, cmd exec.Command, digest fleet.ID) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	id, now := cmd.Header.ID, m.of.clock().Wall
	if err := m.ledger.MayStart(id, time.UnixMilli(cmd.Header.Issued), time.UnixMilli(cmd.Header.Expires)); err != nil {
		return err
	}
	started := exec.StartedRecord{Command: id, Digest: digest, Issued: time.UnixMilli(cmd.Header.Issued), Expires: time.UnixMilli(cmd.Header.Expires), Time: now}
	ended := exec.EndedRecord{Command: id, Status: exec.Success, Time: now, Stdout: exec.OutputSum{Size: int64(len(said)), Kept: int64(len(said))}}
	for _, record := range []exec.Record{started, ended} {
		if err := m.ledger.Fold(record); err != nil {
			return err
		}
	}
	m.of.town.mu.Lock()
	m.of.town.ran[townRun{id, m.of.name}]++
	m.of.town.mu.Unlock()
	post := m.post
	post(node.RunStarted{Command: id, At: now.UnixMilli()})
	post(endOf(id, now))
	return nil
}

func endOf(id fleet.UUID, at time.Time) node.RunEnded {
	return node.RunEnded{Command: id, Status: exec.Success, Started: at.UnixMilli(), Ended: at.UnixMilli(), Stdout: stdout()}
}

// Cancel keeps a command from ever starting; there is never a run to kill.
func (m *memory) Cancel(command fleet.UUID) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.ledger.Fold(exec.CancelledRecord{Command: command, Time: m.of.clock().Wall})
}

// Refuse keeps a command from ever starting.
func (m *memory) Refuse(command fleet.UUID, digest fleet.ID, reason string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.ledger.Fold(exec.RefusedRecord{Command: command, Digest: digest, Reason: reason, Time: m.of.clock().Wall})
}

// Recall tells what an earlier life ran.
func (m *memory) Recall(post func(node.Event)) {
	m.mu.Lock()
	states := m.ledger.Since(time.Time{})
	m.mu.Unlock()
	for _, s := range states {
		switch {
		case s.Ended != nil:
			post(endOf(s.Command, s.Ended.Time))
		case s.Refused != nil:
			post(node.RunEnded{Command: s.Command, Status: exec.Refused, Detail: s.Refused.Reason})
		case s.Cancelled != nil:
			post(node.RunEnded{Command: s.Command, Status: exec.Cancelled})
		}
	}
}

// townLog keeps a host's log for the case that its test fails.
type townLog struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *townLog) slog() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelInfo}))
}

// Write takes a line.
func (l *townLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *townLog) tail() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	text := l.text.String()
	return text[max(0, len(text)-6<<10):]
}
