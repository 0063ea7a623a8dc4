package host

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/muster-fleet/muster/consensus"
	"github.com/muster-fleet/muster/consensus/quorum"
	"github.com/muster-fleet/muster/exec/outlet"
	"github.com/muster-fleet/muster/exec/runner"
	"github.com/muster-fleet/muster/node/agent"
	"github.com/muster-fleet/muster/node/api"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/config"
	"github.com/muster-fleet/muster/node/decisions"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/folder"
	"github.com/muster-fleet/muster/node/gossip"
	"github.com/muster-fleet/muster/node/metrics"
	"github.com/muster-fleet/muster/node/release/store"
	"github.com/muster-fleet/muster/node/report"
	"github.com/muster-fleet/muster/node/session"
	"github.com/muster-fleet/muster/node/transport"
	"github.com/muster-fleet/muster/params"
)

// Options of one host.
type Options struct {
	Dir       string
	Version   string
	Bind      string                      // IP:PORT instead of what the folder says; empty: that
	Advertise []string                    // added to what the folder says
	Outbound  *bool                       // nobody can dial this host, or they can; nil: what the folder says
	Supervise []string                    // argv that re-executes this binary as a supervisor of runs
	Act       []string                    // argv that re-executes this binary as one of a document's own actions; its name follows
	Reboot    func(context.Context) error // restarts the machine for a document; nil: documents may not
	// SuperviseSession is argv that re-executes this binary as a supervisor of one session; empty: nothing runs in sessions.
	SuperviseSession []string
	Copy             []string // argv that re-executes this binary as the far end of a copy
	Clock            func() auth.Instant
	Socket           net.PacketConn                                         // instead of binding one: tests
	Runner           agent.Runner                                           // instead of real processes: tests
	Sessions         agent.Sessions                                         // the same
	Dial             func(ctx context.Context, to string) (net.Conn, error) // instead of this host's TCP: tests
	Preset           gossip.Preset
	Timeouts         quorum.Timeouts
	MetricsAddress   string // where metrics are served, see metrics.ParseAddress; empty: nowhere
	Log              *slog.Logger
	Config           config.Config // what counts where nothing above says something else; zero: the defaults
	Source           Source        // where Config comes from
	// Restart starts the agent's program anew in its own place, once Run has ended cleanly: it ends what Run was given. Any goroutine
	// may call it, at any time. nil: it cannot.
	Restart func(reason string)
	// Level returns the newest level that the fleet may count on this host for; nil: the program's newest. A program on trial
	// says the level of the one before it.
	Level func() fleet.Level
}

// Host is a running host.
type Host struct {
	Agent *agent.Agent
	ID    fleet.ID
	Name  string

	opts      Options
	folder    *folder.Folder
	end       *transport.Endpoint
	gossip    *gossip.Gossip
	quorum    *quorum.Quorum
	replica   *agent.Replica
	runner    *runner.Runner
	sessions  *session.Sessions
	operators *api.Operators // their way to the API from elsewhere
	reports   *report.Store
	releases  *store.Store
	decisions *decisions.Log
	copies    *outlet.Queue
	recordings
	keeper     keeper
	configured configured
	socket     net.PacketConn
	started    time.Time
	unmeasured atomic.Pointer[string]  // why metrics are not served where they should be; nil: nothing is wrong
	addrs      func() []netip.AddrPort // where others may reach this host now
	outbound   bool                    // they cannot, but through uplinks
	free       bool                    // and the others do without the replica that this host has from before
	founding   []consensus.Entry
	voice      *voice
	idle       string        // why this host does nothing any more; empty: it works
	ready      chan struct{} // closed when the record names this host's fleet
}

// Ready returns when the host can be asked: at once, or, on a fleet's first host, when the fleet is founded.
func (h *Host) Ready(ctx context.Context) {
	select {
	case <-h.ready:
	case <-ctx.Done():
	}
}

// State returns the agreed state as this host's replica has it, and whether it has a replica.
func (h *Host) State() (consensus.State, bool) {
	if h.replica == nil {
		return consensus.State{}, false
	}
	return h.replica.State(), true
}

// Start opens the data folder and brings everything up. On an error nothing is left running.
func Start(opts Options) (h *Host, err error) {
	if opts.Clock == nil {
		opts.Clock = Clock
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	opts = opts.withConfig()
	if opts.MetricsAddress != "" {
		if _, _, err := metrics.ParseAddress(opts.MetricsAddress); err != nil {
			return nil, err
		}
	}
	h = &Host{opts: opts, ready: make(chan struct{}), operators: api.NewOperators(), started: opts.Clock().Wall}
	h.configured.now = opts.Config
	defer func() {
		if err != nil {
			_ = h.close()
			h = nil
		}
	}()
	if h.folder, err = folder.Open(opts.Dir); err != nil {
		return h, err
	}
	had, err := readFolder(h.folder)
	if err != nil {
		return h, err
	}
	h.ID, h.Name, h.founding = had.identity.ID(), had.identity.Name, had.founding
	record, err := h.folder.LoadRecord(had.identity.Fleet)
	if err != nil {
		return h, err
	}
	h.idle = h.quarantine(record)
	h.voice = newVoice(h.folder)
	private, err := params.NodePrivate(had.identity.HPKESeed)
	if err != nil {
		return h, err
	}
	h.outbound, h.free = had.outbound.Only, had.outbound.Free
	if opts.Outbound != nil {
		h.outbound = *opts.Outbound
	}
	if h.free && !h.outbound {
		h.setFree(false) // it may hold a replica again
	}
	h.makeAgent(had, record, private)
	if err := h.openSocket(had.identity, had.settings); err != nil {
		return h, err
	}
	return h, h.makeShells(had.identity, record)
}

// had is what the data folder holds beside the record.
type had struct {
	identity folder.Identity
	settings folder.Host
	outbound folder.Outbound
	floor    folder.Floor
	keys     []folder.GossipKey
	founding []consensus.Entry
}

// readFolder reads it all before anything in the folder is written: a damaged file stops the start, and nothing is
// changed.
func readFolder(f *folder.Folder) (h had, err error) {
	if h.identity, err = f.Identity(); err != nil {
		return h, err
	}
	if h.settings, err = f.Host(); err != nil {
		return h, err
	}
	if h.outbound, err = f.Outbound(); err != nil {
		return h, err
	}
	if h.floor, err = f.Floor(); err != nil {
		return h, err
	}
	if h.keys, err = f.GossipKeys(); err != nil {
		return h, err
	}
	h.founding, err = readFounding(f)
	return h, err
}

func (h *Host) makeAgent(had had, record auth.Record, private []byte) {
	var seed [8]byte
	rand.Read(seed[:])
	h.Agent = agent.New(agent.Config{
		Key: had.identity.Key(), HPKE: private, Fleet: had.identity.Fleet, Name: had.identity.Name, Version: h.opts.Version, Facts: Facts(h.opts.Version),
		Record: record, Floor: had.floor.Time, Keys: keysOf(had.keys), Hints: hintsOf(h.folder.Peers()), Folder: disk{h.folder},
		Clock: h.opts.Clock, Idle: h.idle, SessionHost: h.sessionHost, Level: h.opts.Level, Consent: h.opts.Config.Consent(), Seed: binary.BigEndian.Uint64(seed[:]), Log: h.opts.Log,
	})
}

// openSocket binds the UDP socket and finds the addresses at which others may reach it.
func (h *Host) openSocket(identity folder.Identity, settings folder.Host) error {
	bind, err := ParseBind(cmp.Or(h.opts.Bind, settings.Bind))
	if err != nil {
		return err
	}
	told := h.opts.Advertise
	if len(told) == 0 {
		told = settings.Advertise
	}
	advertise, err := parseAddrs(told)
	if err != nil {
		return err
	}
	if err := mayHide(h.outbound, told); err != nil {
		return err
	}
	conn := h.opts.Socket
	if conn == nil {
		if conn, err = listen(bind); err != nil {
			return err
		}
	}
	h.socket = conn
	h.end, err = transport.New(transport.Config{
		Conn: conn, Key: identity.Key(), Fleet: identity.Fleet, Gate: gate{h.Agent}, Addrs: h.Agent.Addrs,
		Relays: h.Agent.Relays, Log: h.opts.Log,
	})
	if err != nil {
		return errors.Join(err, conn.Close())
	}
	h.addrs = func() []netip.AddrPort {
		if h.outbound {
			return nil
		}
		return agent.SelfAddrs(advertise, reachable(h.end.LocalAddr()))
	}
	return nil
}

func (h *Host) makeShells(identity folder.Identity, record auth.Record) (err error) {
	now := func() time.Time { return h.opts.Clock().Wall }
	shells := agent.Shells{Peers: peers{h.end}, Runner: h.opts.Runner, Seeds: h.folder, Copies: h.folder, Prober: prober{}}
	if shells.Runner == nil {
		if h.runner, err = runner.Open(runner.Config{
			Dir: h.opts.Dir, Log: h.opts.Log, Self: h.opts.Supervise, Act: h.opts.Act, Reboot: h.opts.Reboot, Now: now,
			KeepBytes: h.outputKeep(record.Settings), MaxRunning: h.opts.Config.Limits().Runs, Secret: openFor(h.Agent),
			Idle: h.idle,
		}); err != nil {
			return err
		}
		shells.Runner = runs{h.runner, h.Name, now, h.mayStart}
	}
	h.makeRecords(&shells)
	h.makeRecordings(&shells, h.serves(record))
	h.makeReleases(&shells)
	h.makeSessions(&shells)
	h.makeKeeper()
	if shells.Sessions != nil {
		shells.Sessions = boundSessions{shells.Sessions, func() error { return h.keeper.refuse(h.Name) }}
	}
	if h.serves(record) {
		if err := h.makeReplica(&shells, now); err != nil {
			return err
		}
	}
	h.gossip, err = gossip.New(gossip.Config{
		Fleet: identity.Fleet, Self: h.ID, Key: identity.Key(), Addrs: h.addrs(), Outbound: h.outbound, Carrier: carrier{h.end}, Trusted: h.trusted(identity),
		Seq: h.sequence, Echo: h.voice.echo, Yield: h.idle != "", Preset: h.opts.Preset, Log: h.opts.Log,
	})
	if err != nil {
		return err
	}
	shells.Gossip = newMembers(h.gossip, now)
	if h.outbound {
		shells.Uplinks = uplinks{end: h.end, gossip: h.gossip, began: time.Now()}
	}
	h.Agent.Attach(shells)
	h.serve()
	return h.end.Start() // from here on peers are heard
}

// serves reports whether this host has a replica: as a server by the record, as the founder, or, while the record does
// not know this host because its file was moved away, because it had one. Without it a fleet's only server could not
// fetch its record from anybody. One that is outbound-only keeps a replica that it has, until the others do without it, and
// begins none. One that does nothing any more has none either: its key could vote twice.
func (h *Host) serves(record auth.Record) bool {
	if h.idle != "" {
		return false
	}
	self, known := record.Roster.Node(h.ID)
	_, err := os.Lstat(filepath.Join(h.opts.Dir, raftName))
	if known {
		return self.Server && self.Removed == 0 && (!h.outbound || err == nil && !h.free) || len(h.founding) > 0
	}
	return err == nil || len(h.founding) > 0
}

func (h *Host) makeReplica(shells *agent.Shells, now func() time.Time) (err error) {
	if h.reports, err = report.Open(filepath.Join(h.opts.Dir, reportsName), report.Options{Now: now, Log: h.opts.Log}); err != nil {
		return err
	}
	shells.Reports = h.reports
	h.replica = agent.NewReplica()
	shells.Replica = h.replica
	h.quorum, err = quorum.Open(quorum.Config{
		Dir: filepath.Join(h.opts.Dir, raftName), Self: h.ID, Machine: shells.Replica, Streams: raftStreams{h.end}, Log: h.opts.Log,
		Eligible: func(id fleet.ID) bool { return h.Agent.Allow(id, true) == nil }, Confirm: h.Agent.ConfirmTerm, Timeouts: h.opts.Timeouts,
	})
	shells.Quorum = &replicas{quorum: h.quorum, self: h.ID, now: now}
	return err
}

// trusted tells gossip the keys of enrolled nodes; this host's own before the record names it.
func (h *Host) trusted(identity folder.Identity) func(fleet.ID) (ed25519.PublicKey, bool) {
	own := auth.NewSigner(identity.Key()).Public()
	return func(id fleet.ID) (ed25519.PublicKey, bool) {
		if id == h.ID {
			return own, true
		}
		return h.Agent.Trusted(id)
	}
}

// serve tells the transport who takes what comes in.
func (h *Host) serve() {
	h.end.Handle(transport.Peer, func(s *transport.Stream) { h.Agent.Serve(s) })
	h.end.Handle(transport.Bulk, func(s *transport.Stream) {
		if err := h.keeper.refuse(h.Name); err != nil {
			_ = s.WriteError(err)
			s.Close()
			return
		}
		h.Agent.ServeBulk(s)
	})
	h.end.Handle(transport.Session, func(s *transport.Stream) { h.Agent.ServeSession(s) })
	h.end.Handle(transport.Join, func(s *transport.Stream) { h.Agent.ServeJoin(s) })
	h.end.Handle(transport.Gossip, func(s *transport.Stream) { h.gossip.Stream(s, s.Peer()) })
	for plane, bulk := range map[transport.Plane]bool{transport.Raft: false, transport.RaftBulk: true} {
		h.end.Handle(plane, func(s *transport.Stream) {
			if h.quorum == nil {
				s.Close()
				return
			}
			if err := h.quorum.Accept(s, s.Peer(), bulk); err != nil {
				h.opts.Log.Debug("a raft stream was refused", "peer", s.Peer(), "err", err)
			}
		})
	}
	h.end.HandlePackets(transport.KindGossip, h.gossip.Packet)
	h.end.HandlePackets(transport.KindBeacon, func(from netip.AddrPort, payload []byte, _ time.Time) { h.Agent.Note(from, payload) })
	h.end.HandlePackets(transport.KindBell, func(_ netip.AddrPort, payload []byte, _ time.Time) { h.Agent.Bell(payload) })
}

// ErrRoleChanged is how Run ends when this host became a server, or is none any more, or does nothing any more because its key
// is used elsewhere: started anew, it opens its replica or leaves it shut.
var ErrRoleChanged = errors.New("the host's role has changed")

// Run works until ctx ends, the host leaves the fleet or its role changes, then stops everything.
func (h *Host) Run(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	if h.runner != nil {
		go runs{runner: h.runner, name: h.Name, now: func() time.Time { return h.opts.Clock().Wall }}.follow(h.Agent.Post)
	}
	switch young := h.young(); {
	case !h.outbound:
		go keepAddrs(ctx, h.gossip, young, h.addrs)
	case young:
		go h.announce(ctx)
	}
	go h.Agent.Refetch(ctx)
	go h.keepAsSet(ctx)
	go h.keeper.run(ctx, h.lastRestart())
	var copying sync.WaitGroup
	if h.opts.MetricsAddress != "" {
		copying.Go(func() { h.serveMetrics(ctx) })
	}
	if h.copies != nil {
		copying.Go(func() { h.copies.Run(ctx) })
	}
	copying.Go(func() { h.runRecordings(ctx) })
	if len(h.founding) > 0 {
		go h.found(ctx)
	} else {
		close(h.ready)
	}
	changed := make(chan bool, 2)
	for _, await := range []func(context.Context) bool{h.awaitRole, h.awaitClone} {
		go func() {
			changed <- await(ctx)
			stop()
		}()
	}
	err := h.Agent.Run(ctx)
	h.handOver()
	stop()
	copying.Wait()
	if errors.Is(err, context.Canceled) {
		err = nil
	}
	err = errors.Join(err, h.close())
	if first, second := <-changed, <-changed; (first || second) && err == nil {
		return ErrRoleChanged
	}
	return err
}

// handOverWait bounds how long a leader that stops waits for another to take the lead.
const handOverWait = 2 * time.Second

// handOver gives the lead away before this host stops, so that nobody has to notice that it is gone.
func (h *Host) handOver() {
	if h.quorum == nil || h.quorum.Status().State != quorum.Leading {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), handOverWait)
	defer cancel()
	if err := h.quorum.TransferLeadership(ctx); err != nil {
		h.opts.Log.Debug("the lead was not handed over", "err", err)
	}
}

func (h *Host) found(ctx context.Context) {
	defer close(h.ready)
	err := h.Agent.Found(ctx, h.founding)
	if err == nil {
		err = h.folder.Founded()
	}
	if err != nil && ctx.Err() == nil {
		h.opts.Log.Error("the fleet could not be founded", "err", err)
	}
}

func (h *Host) close() error {
	var all []error
	if h.quorum != nil {
		all = append(all, h.quorum.Close())
	}
	if h.gossip != nil {
		all = append(all, h.gossip.Close())
	}
	if h.end != nil {
		all = append(all, h.end.Close())
	}
	if h.runner != nil {
		h.runner.Close()
	}
	if h.sessions != nil {
		h.sessions.Close()
	}
	if h.decisions != nil {
		all = append(all, h.decisions.Close())
	}
	if h.reports != nil {
		all = append(all, h.reports.Close())
	}
	if h.releases != nil {
		all = append(all, h.releases.Close())
	}
	if h.folder != nil {
		all = append(all, h.folder.Close())
	}
	return errors.Join(all...)
}
