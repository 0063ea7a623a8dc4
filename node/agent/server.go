package agent

import (
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/muster-fleet/muster/consensus"
	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
)

// What a server does beside answering: beacons, and, as the leader, the set of voters and the gossip key.
const (
	beaconEvery = 3 * time.Second
	listenFirst = 5 * time.Second // for another server's beacon; when all start at once, nobody has one
	tendEvery   = time.Second
	pruneEvery  = time.Hour
	actsPerFeed = 256
)

// feed brings the replica's record to the loop, act by act, as if a peer had answered. It also catches up what a
// snapshot jumped over.
func (a *Agent) feed(ctx context.Context) {
	a.replica.followed.Store(&following{
		committed: func(c *consensus.Command, cancel []auth.Envelope) {
			if a.quorum.Status().Leading {
				a.Post(node.OrderCommitted{Committed: node.Committed{Act: c.Act, Order: c.Order, Cancel: cancel}})
			}
		},
		paced: func(c *consensus.Command) { a.Post(node.CommandChanged{Command: c}) },
	})
	fed, restored := a.record().Length, a.replica.restored.Load()
	var beside sync.WaitGroup
	defer beside.Wait()
	a.postPaced(ctx, &beside)
	for {
		if now := a.replica.restored.Load(); now != restored {
			restored = now
			a.postPaced(ctx, &beside)
		}
		for {
			acts := a.replica.State().Acts(fed, actsPerFeed)
			if len(acts) == 0 {
				break
			}
			for _, act := range acts {
				a.Post(node.RecordCommitted{Act: act})
				fed++
			}
			a.sendBeacon() // members take acts only up to a head that a server's beacon names
		}
		select {
		case <-ctx.Done():
			return
		case <-a.replica.grown:
		}
	}
}

// serve is a server's own clockwork.
func (a *Agent) serve(ctx context.Context) {
	beacon := time.NewTimer(0)
	defer beacon.Stop()
	tend := time.NewTicker(tendEvery)
	defer tend.Stop()
	prune := time.NewTicker(pruneEvery)
	defer prune.Stop()
	a.postOffice()
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.quorum.Changed():
			a.postOffice()
			a.sendBeacon()
			a.tend(ctx)
		case <-beacon.C:
			next := beaconEvery
			if !a.sendBeacon() { // not founded or not a member yet: until then nobody knows where reports go
				next = retryLeader
			}
			beacon.Reset(next)
		case <-prune.C:
			_, err := a.reports.Prune()
			a.complain("prune old reports", err)
		case <-tend.C:
			a.tend(ctx)
		}
	}
}

// sendBeacon makes this server's summary of the newest state, for the loop to pass on.
func (a *Agent) sendBeacon() bool {
	s, state := a.quorum.Status(), a.replica.State()
	self, enrolled := state.Record.Roster.Node(a.self)
	if a.replica.Halted() != nil { // what it holds is old
		return false
	}
	if !s.Member || !enrolled || !self.Server || !a.maySayTheTime(s) { // nobody believes a beacon of who is no server
		return false
	}
	r := state.Record
	b := auth.Beacon{
		Time: a.stamp(), Epoch: r.Charter.Epoch(), CharterHead: r.Charter.Head(), CharterLen: r.Charter.Len(),
		RecordHead: r.Head, RecordLen: r.Length, Act: state.Act, GossipEpoch: r.Sending.Epoch, Term: s.Term, Leader: s.Leader,
		Voters: firstSorted(s.Voters, auth.MaxVoters), Spares: firstSorted(s.Spares, auth.MaxSpares), FleetVersion: uint16(state.Level),
	}
	signed := a.signer.Sign(auth.ForBeacon, a.cfg.Fleet, b)
	a.own.Store(&signed)
	a.Post(node.BeaconMade{Beacon: b, Envelope: signed})
	return true
}

// maySayTheTime reports whether this server may tell the fleet what time it is. A host may wake up with a clock that is
// wrong, and its beacon would move everybody's: so it hears another server first, unless there is none.
func (a *Agent) maySayTheTime(s Replication) bool {
	alone := len(s.Voters) == 1 && s.Voters[0] == a.self
	return alone || a.picture.Load().clock.Heard != 0 || a.cfg.Clock().Boot-a.began > listenFirst
}

func firstSorted(ids []fleet.ID, most int) []fleet.ID {
	out := slices.Clone(ids)
	slices.SortFunc(out, fleet.ID.Compare)
	return out[:min(most, len(out))]
}

// tend does the leader's upkeep, one step at a time.
func (a *Agent) tend(ctx context.Context) {
	if !a.quorum.Status().Leading {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	did, err := a.quorum.Tend(ctx, a.record().Roster.Len(), a.candidates(ctx))
	if err != nil && !errors.Is(err, context.Canceled) {
		a.log.Debug("the set of voters could not be changed", "err", err)
	}
	if did != "" {
		a.log.Info("quorum: " + did)
		a.sendBeacon()
	}
	a.complain("turn the gossip key", a.rotate(ctx))
	a.complain("sweep parameters", a.sweepParams(ctx))
}

// How long an answer about a server's replica is good: a replica that was replaced is noticed by then. One that holds no
// replicated state is asked less often: each question to a host otherwise keeps a connection to it open, and in a fleet
// where all are eligible that is one to everybody. Whoever goes offline is asked again when it is back.
const (
	copyFresh  = 10 * time.Second
	otherFresh = 2 * time.Minute
)

// copies is which replica each server said it has, and when. Only tend's goroutine touches it.
type copies map[fleet.ID]said

type said struct {
	incarnation uint64
	at          time.Duration // by boot time
}

// candidates lists every eligible server with the replica it has, asking those that have not said lately.
func (a *Agent) candidates(ctx context.Context) []Candidate {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	now := a.cfg.Clock().Boot
	s := a.quorum.Status()
	var out []Candidate
	var ask []int // of out
	for entry := range a.record().Roster.All() {
		if !entry.Server || a.isOutbound(entry.ID) { // raft must be able to dial its servers, from any of them
			continue
		}
		c := Candidate{
			ID: entry.ID, Alive: a.alive(entry.ID), Zone: entry.Tags["zone"],
			Drained: fleet.DrainOf(entry.Tags) != "" || a.left(entry.ID), // who said goodbye is replaced without waiting for it
		}
		fresh := otherFresh
		if slices.Contains(s.Voters, entry.ID) || slices.Contains(s.Spares, entry.ID) {
			fresh = copyFresh
		}
		known, ok := a.copies[entry.ID]
		switch {
		case c.ID == a.self:
			c.Incarnation = a.quorum.Incarnation()
		case !c.Alive:
			delete(a.copies, c.ID)
		case ok && now-known.at < fresh:
			c.Incarnation = known.incarnation
		default:
			ask = append(ask, len(out))
		}
		out = append(out, c)
	}
	var asked sync.WaitGroup
	for _, i := range ask {
		asked.Go(func() {
			var body replicaBody
			if a.ask(ctx, out[i].ID, askReplica, struct{}{}, &body) == nil && a.mayReplicate(ctx, out[i].ID) {
				out[i].Incarnation = body.Incarnation
			}
		})
	}
	asked.Wait()
	for _, i := range ask {
		if out[i].Incarnation != 0 {
			a.copies[out[i].ID] = said{out[i].Incarnation, now}
		}
	}
	return out
}

func (a *Agent) alive(id fleet.ID) bool {
	if id == a.self {
		return true
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.seen[id].Status == fleet.Online
}

// left reports whether a node has said goodbye.
func (a *Agent) left(id fleet.ID) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return id != a.self && a.seen[id].Status == fleet.Left
}

// rotate turns the gossip key when node.NextRotation says so.
func (a *Agent) rotate(ctx context.Context) error {
	r := a.replica.State().Record
	if r.Charter == nil {
		return nil
	}
	have := a.hashes()[r.Gossip.Epoch] == r.Gossip.Hash
	switch node.NextRotation(r, a.cfg.Clock().Wall.UnixMilli(), have) {
	case node.KeepGossipKey:
		return nil
	case node.SendGossipKey:
		return a.commitEpoch(ctx, auth.GossipEpoch{Epoch: r.Gossip.Epoch, Hash: r.Gossip.Hash, Send: true})
	case node.MakeGossipKey:
	}
	var key [32]byte
	rand.Read(key[:])
	epoch := r.Gossip.Epoch + 1
	if err := a.keepKey(epoch, key); err != nil { // on disk first: a key that only the log knows is lost
		return err
	}
	return a.commitEpoch(ctx, auth.GossipEpoch{Epoch: epoch, Hash: fleet.Sum(key[:])})
}

func (a *Agent) commitEpoch(ctx context.Context, g auth.GossipEpoch) error {
	result, err := a.commit(ctx, consensus.PutAct{Kind: auth.ActGossipEpoch, Data: wire.Marshal(g)})
	if err == nil {
		err = result.Err()
	}
	return err
}

// Found bootstraps the quorum and proposes what init prepared. It may be repeated after a crash.
func (a *Agent) Found(ctx context.Context, entries []consensus.Entry) error {
	if err := a.quorum.Bootstrap(); err != nil {
		return err
	}
	for _, e := range entries {
		for {
			result, err := a.commit(ctx, e)
			if err == nil {
				if err := result.Err(); err != nil && fleet.KindOf(err) != fleet.Conflict {
					return err
				}
				break
			}
			select { // it elects itself within a moment
			case <-ctx.Done():
				return err
			case <-time.After(retryLeader):
			}
		}
	}
	return a.await(ctx, func(r auth.Record) bool { return r.Length >= uint64(len(entries)) })
}
