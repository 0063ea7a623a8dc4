package quorum

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/muster-fleet/muster/node/fleet"
)

// Quorum is this node's replica. Its methods may be called from several goroutines.
type Quorum struct {
	cfg       Config
	self      Replica
	restarted string
	raft      *raft.Raft
	transport *transport
	store     *store
	pipes     *plumbing
	known     known
	words     words
	reached   atomic.Uint64
	proposals proposals
	reads     reads
	changes   chan struct{}
	opened    time.Time
	kick      chan struct{} // wakes the poke
	reload    sync.Mutex    // ReloadConfig is read, change, write

	running context.Context // ends with Close
	stop    context.CancelFunc
	mu      sync.Mutex
	closed  bool
	work    sync.WaitGroup
}

// known is the newest committed configuration this replica has heard of.
type known struct {
	mu       sync.Mutex
	identity identity
	at       uint64
}

func (k *known) index() uint64 {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.at
}

// Open opens the replica in the folder, or begins an empty one, which waits for Bootstrap or to be added by a leader.
// A replica that cannot be trusted is put aside and begun anew as a higher incarnation (Status.Restarted says why),
// but where it is the fleet's only voter Open refuses.
func Open(cfg Config) (*Quorum, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	raftLog := newRaftLog(cfg.Log)
	home, err := openHome(cfg, raftLog)
	if err != nil {
		return nil, err
	}
	q := &Quorum{
		cfg:       cfg,
		self:      Replica{ID: cfg.Self, Incarnation: home.identity.Incarnation},
		restarted: home.restarted,
		store:     home.store,
		known:     known{identity: home.identity},
		reads:     reads{waiting: map[uint64]*round{}},
		changes:   make(chan struct{}, 1),
		kick:      make(chan struct{}, 1),
		opened:    time.Now(),
	}
	q.running, q.stop = context.WithCancel(context.Background())
	q.pipes = newPlumbing(q.self, cfg.Streams)
	q.transport = newTransport(q.pipes, cfg.Timeouts.Heartbeat, raftLog)
	q.store.stored, q.transport.durable = q.transport.stir, q.store.durable
	home.snapshots.stored = func(configuration raft.Configuration, index uint64) {
		q.store.grown.Store(0)
		q.learn(configuration, index)
	}
	if home.newest != nil {
		home.snapshots.newest.Store(home.newest.Index)
		q.learn(home.newest.Configuration, home.newest.ConfigurationIndex)
	}
	if err := q.start(home, raftLog); err != nil {
		q.stop()
		return nil, errors.Join(err, q.transport.Close(), q.store.close())
	}
	return q, nil
}

func (q *Quorum) start(home *home, raftLog hclog.Logger) (err error) {
	defer panicked(&err, "cannot start the replica in "+q.cfg.Dir)
	fsm := &machine{Machine: q.cfg.Machine, prepare: q.trimTrailing, committed: q.learn, applied: q.transport.stir, reached: &q.reached, newest: &home.snapshots.newest}
	q.reload.Lock() // raft's goroutines may tune before it is here
	defer q.reload.Unlock()
	q.raft, err = raft.NewRaft(q.raftConfig(raftLog), fsm, q.store, q.store, home.snapshots, q.transport)
	if fleet.IsNewer(fsm.refused) {
		if err == nil {
			err = q.raft.Shutdown().Error()
		}
		return errors.Join(newerReplica(q.cfg.Dir, fsm.refused), err)
	}
	if err != nil {
		return fleet.Errorf(fleet.Internal, "cannot start the replica in %s: %w", q.cfg.Dir, err)
	}
	q.store.raft.Store(q.raft)
	q.raft.RegisterObserver(raft.NewObserver(nil, false, q.observe))
	q.work.Go(func() { q.listen(q.transport.NetworkTransport.Consumer(), q.transport.asked) })
	q.work.Go(q.poke)
	q.work.Go(q.watch)
	return nil
}

// newerReplica says that only a newer program can open the replica.
func newerReplica(dir string, err error) error {
	return fleet.Newer("the replica in %s was written by a newer muster: %v", dir, err)
}

func (q *Quorum) raftConfig(raftLog hclog.Logger) *raft.Config {
	cfg := raft.DefaultConfig()
	cfg.LocalID = q.self.serverID()
	cfg.HeartbeatTimeout = q.cfg.Timeouts.Heartbeat
	cfg.ElectionTimeout = q.cfg.Timeouts.Election
	cfg.LeaderLeaseTimeout = q.cfg.Timeouts.Lease
	cfg.CommitTimeout = commitTimeout
	cfg.MaxAppendEntries = maxAppendEntries
	cfg.TrailingLogs = trailingEntries
	cfg.SnapshotInterval = snapshotInterval
	cfg.SnapshotThreshold = q.cfg.SnapshotEntries
	cfg.ShutdownOnRemove = false // a removed server may be added again
	cfg.NoLegacyTelemetry = true
	cfg.Logger = raftLog
	return cfg
}

// observe hears of changes on raft's own goroutines, so it must not block; returning false keeps them from any channel.
func (q *Quorum) observe(o *raft.Observation) bool {
	switch seen := o.Data.(type) {
	case raft.RaftState:
		if seen == raft.Leader {
			q.transport.lead(time.Now())
		}
		q.tick()
	case raft.LeaderObservation, raft.PeerObservation:
		q.tick()
	}
	return false
}

func (q *Quorum) tick() {
	select {
	case q.changes <- struct{}{}:
	default:
	}
}

// Changes ticks when the leader, this replica's state or the configuration has changed. Ticks that nobody takes merge.
func (q *Quorum) Changes() <-chan struct{} { return q.changes }

// learn notes a committed configuration, and remembers its voters for the day the replica is found damaged.
func (q *Quorum) learn(configuration raft.Configuration, index uint64) {
	q.known.mu.Lock()
	defer q.known.mu.Unlock()
	if index <= q.known.at {
		return
	}
	q.known.at = index
	defer q.tick()
	if index <= q.known.identity.Index {
		return // read again after a restart
	}
	voters, _ := members(configuration)
	q.known.identity = q.known.identity.with(index, voters)
	if err := q.known.identity.save(q.cfg.Dir); err != nil {
		q.cfg.Log.Error("cannot note who votes", "err", err)
	}
}

// Incarnation returns which replica of this node this is.
func (q *Quorum) Incarnation() uint64 { return q.self.Incarnation }

// Bootstrap makes this replica the only voter of a new fleet. It is refused to a replica that knows of any history, its
// own or that of a copy it replaces: a second first server would be a second fleet under the same name.
func (q *Quorum) Bootstrap() error {
	if err := q.claimBootstrap(); err != nil {
		return err
	}
	err := q.raft.BootstrapCluster(raft.Configuration{Servers: []raft.Server{
		{Suffrage: raft.Voter, ID: q.self.serverID(), Address: q.self.address()},
	}}).Error()
	if errors.Is(err, raft.ErrCantBootstrap) {
		return fleet.Errorf(fleet.Conflict, "this server already belongs to a quorum")
	}
	if err != nil {
		return fleet.Errorf(fleet.Unavailable, "cannot write the first configuration: %w", err)
	}
	select {
	case q.kick <- struct{}{}: // there is nobody to wait for
	default:
	}
	return nil
}

// claimBootstrap notes first that all there is will be here: a crash right after must not look like an empty replica.
func (q *Quorum) claimBootstrap() error {
	q.known.mu.Lock()
	defer q.known.mu.Unlock()
	id := q.known.identity
	if id.Earlier > 0 {
		return fleet.Errorf(fleet.Conflict, "this host had a replica before; it must be added by the fleet's servers")
	}
	if id.Index > 0 {
		return fleet.Errorf(fleet.Conflict, "this server already belongs to a quorum")
	}
	id = id.with(0, []Replica{q.self})
	if err := id.save(q.cfg.Dir); err != nil {
		return err
	}
	q.known.identity = id
	return nil
}

// Accept takes a stream that a peer opened on the raft plane, or on the bulk plane. The caller has authenticated the
// peer. It owns the stream from here on, and returns once the stream is refused (with the reason) or handed to raft.
func (q *Quorum) Accept(conn net.Conn, peer fleet.ID, bulk bool) error {
	if !q.listensTo(peer) {
		return errors.Join(fleet.Errorf(fleet.Denied, "%s is no server of this quorum", peer), conn.Close())
	}
	if !q.begin() {
		return errors.Join(closedError(), conn.Close())
	}
	defer q.done()
	return q.pipes.accept(conn, peer, bulk)
}

func (q *Quorum) listensTo(peer fleet.ID) bool {
	_, all := members(q.configuration())
	member := false
	for _, replica := range all {
		member = member || replica.ID == peer
	}
	return listens(len(all) > 0, member, q.cfg.Eligible(peer), q.silence(time.Now()))
}

// silence says for how long no leader has been heard.
func (q *Quorum) silence(now time.Time) time.Duration {
	if q.raft.State() == raft.Leader {
		return 0
	}
	return now.Sub(q.lastHeard())
}

func (q *Quorum) lastHeard() time.Time {
	if last := q.raft.LastContact(); last.After(q.opened) {
		return last
	}
	return q.opened
}

// configuration returns the newest configuration in the log, committed or not.
func (q *Quorum) configuration() raft.Configuration { return q.raft.GetConfiguration().Configuration() }

func (q *Quorum) leader() Replica {
	_, id := q.raft.LeaderWithID()
	if id == "" {
		return Replica{}
	}
	leader, err := parseReplica(string(id))
	if err != nil {
		return Replica{}
	}
	return leader
}

// begin registers work that Close waits for; false means that the replica is closed.
func (q *Quorum) begin() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return false
	}
	q.work.Add(1)
	return true
}

func (q *Quorum) done() { q.work.Done() }

// Close stops the replica and closes its files. A leader that has time should call TransferLeadership before.
func (q *Quorum) Close() error {
	q.mu.Lock()
	if q.closed {
		q.mu.Unlock()
		return nil
	}
	q.closed = true
	q.mu.Unlock()
	q.stop()
	err := q.transport.Close() // from here on nobody hears us
	q.store.release()
	err = errors.Join(err, q.raft.Shutdown().Error())
	q.work.Wait()
	if err := errors.Join(err, q.store.close()); err != nil {
		return fleet.Errorf(fleet.Unavailable, "closing the replica in %s: %w", q.cfg.Dir, err)
	}
	return nil
}

// votes reports whether this replica votes, and whether it does so alone, by the newest configuration.
func (q *Quorum) votes() (votes, alone bool) {
	voters, _ := members(q.configuration())
	for _, voter := range voters {
		votes = votes || voter == q.self
	}
	return votes, votes && len(voters) == 1
}
