package quorum

import (
	"errors"
	"math/rand/v2"
	"time"

	"github.com/hashicorp/raft"
)

// A poke makes raft look at its heartbeat timer now. Raft draws that timer at once to twice the timeout and does not
// reset it at contact, so that it notices a dead leader 2.4 s late on average; lowering the timeout by pokeBy for
// pokeFor makes it look at once (measured: 2.0 s in 14 of 14 failovers instead of 2.1 to 5.7).
const (
	pokeBy  = time.Millisecond
	pokeFor = 50 * time.Millisecond
)

// pokeDelay says how long to wait before a poke: until the leader has been silent for the timeout and a little, drawn
// anew each time, so that two followers seldom ask for votes at once. A voter without others need not wait.
func pokeDelay(silent, timeout, jitter time.Duration, alone bool) time.Duration {
	if alone {
		return 0
	}
	return timeout + jitter - silent
}

func (q *Quorum) poke() {
	timeout := q.cfg.Timeouts.Heartbeat
	for {
		wait := timeout
		if votes, alone := q.votes(); votes && q.raft.State() == raft.Follower {
			wait = pokeDelay(time.Since(q.lastHeard()), timeout, rand.N(timeout/10), alone)
			if wait <= 0 {
				q.tune(func(c *raft.ReloadableConfig) { c.HeartbeatTimeout = timeout - pokeBy })
				if !q.pause(pokeFor) {
					return
				}
				q.tune(func(c *raft.ReloadableConfig) { c.HeartbeatTimeout = timeout })
				wait = timeout // raft's own timers go on from here
			}
		}
		if !q.doze(wait) {
			return
		}
	}
}

// pause waits, but not beyond Close.
func (q *Quorum) pause(wait time.Duration) bool {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-q.running.Done():
		return false
	}
}

// doze is a pause that Bootstrap cuts short.
func (q *Quorum) doze(wait time.Duration) bool {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-q.kick:
		return true
	case <-q.running.Done():
		return false
	}
}

func (q *Quorum) tune(change func(*raft.ReloadableConfig)) {
	q.reload.Lock()
	defer q.reload.Unlock()
	now := q.raft.ReloadableConfig()
	change(&now)
	if err := q.raft.ReloadConfig(now); err != nil {
		q.cfg.Log.Error("cannot tune raft", "err", err)
	}
}

// trimTrailing tells raft, which counts entries, how many of them are trailingBytes.
func (q *Quorum) trimTrailing() {
	entries := q.store.trailing()
	q.tune(func(c *raft.ReloadableConfig) { c.TrailingLogs = entries })
}

// watch looks after the store: it silences a leader whose disk hangs, and takes a snapshot when the log is large. A leader
// whose machine has halted hands the lead over. It also tells the log who leads.
func (q *Quorum) watch() {
	var tried, handed time.Time
	var leader Replica
	for q.pause(watchEvery) {
		now := time.Now()
		if next := q.leader(); next != leader && !next.IsZero() {
			leader = next
			q.cfg.Log.Info("the quorum has a leader", "leader", leader.ID.String(), "term", q.raft.CurrentTerm())
		}
		stalled := q.store.stalled(now) > stallAfter
		if q.transport.silence(stalled) {
			q.cfg.Log.Warn("the quorum's disk", "stalled", stalled, "path", q.cfg.Dir)
		}
		if err := halted(q.cfg.Machine); err != nil && q.raft.State() == raft.Leader && now.Sub(handed) > snapshotRetry && q.begin() {
			handed = now
			q.cfg.Log.Error("this server cannot lead: its replica takes nothing more", "err", err)
			go func() {
				defer q.done()
				_ = q.raft.LeadershipTransfer().Error() // where nobody can take the lead, it is tried again
			}()
		}
		if q.store.grown.Load() > q.cfg.SnapshotBytes && now.Sub(tried) > snapshotRetry && q.begin() {
			tried = now
			go func() {
				defer q.done()
				q.snapshot()
			}()
		}
	}
}

func (q *Quorum) snapshot() {
	err := q.raft.Snapshot().Error()
	if err != nil && !errors.Is(err, raft.ErrNothingNewToSnapshot) && !errors.Is(err, raft.ErrRaftShutdown) {
		q.cfg.Log.Debug("no snapshot now", "err", err)
	}
}
