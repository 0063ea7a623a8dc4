package quorum

import (
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// Age says how old a read of the machine is, here and now, without asking anybody: every write that was acknowledged longer
// ago shows. ok is false while that is not known: after a start, until a leader was heard and what it had committed is applied.
//
// On a follower it counts from the newest word of a leader (not a heartbeat, which says nothing about the log) whose committed
// entries are all applied here; that word may have been under way for some milliseconds before. On the leader it counts from
// when a majority of the voters last took its word, as another may lead by now.
func (q *Quorum) Age() (age time.Duration, ok bool) {
	now := time.Now()
	if q.raft.State() == raft.Leader {
		return q.leaderAge(now)
	}
	at, ok := q.words.newest(q.shows)
	return now.Sub(at), ok
}

// shows reports whether an index is committed, as far as is known here, and the machine shows all commands up to it.
func (q *Quorum) shows(index uint64) bool {
	return q.raft.CommitIndex() >= index && q.reached.Load() >= min(index, q.store.commands.Load())
}

func (q *Quorum) leaderAge(now time.Time) (age time.Duration, ok bool) {
	commit := q.raft.CommitIndex()
	if commit < q.store.noop.Load() || !q.shows(commit) {
		return 0, false // not all that earlier leaders have acknowledged
	}
	voters, _ := members(q.configuration())
	var ages []time.Duration
	for _, voter := range voters {
		known := contact{asked: now}
		if voter != q.self {
			known = q.transport.contact(voter.serverID())
		}
		if !known.asked.IsZero() {
			ages = append(ages, now.Sub(known.asked))
		}
	}
	slices.Sort(ages)
	if need := len(voters)/2 + 1; len(voters) > 0 && len(ages) >= need {
		return ages[need-1], true
	}
	return 0, false
}

// words are what leaders have said lately about what is committed: the newest that was shown here to be applied, and up to two
// that were not yet. The second of these gives way to newer ones, so that under load one of them comes to be applied.
type words struct {
	mu    sync.Mutex
	shown time.Time
	first word
	last  word
}

// word is one of them; the zero word is none.
type word struct {
	at     time.Time
	commit uint64
}

// heard notes a word.
func (w *words) heard(new word, shows func(index uint64) bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.settle(shows)
	if w.first == (word{}) {
		w.first = new
		return
	}
	w.last = new
}

// newest returns when the newest word came that is shown.
func (w *words) newest(shows func(index uint64) bool) (at time.Time, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.settle(shows)
	return w.shown, !w.shown.IsZero()
}

func (w *words) settle(shows func(index uint64) bool) {
	for w.first != (word{}) && shows(w.first.commit) {
		w.shown, w.first, w.last = w.first.at, w.last, word{}
	}
}

// listen hands on what other servers ask, and notes what a leader says about the log. A word of an older term is none.
func (q *Quorum) listen(from <-chan raft.RPC, to chan<- raft.RPC) {
	for {
		var rpc raft.RPC
		select {
		case rpc = <-from:
		case <-q.running.Done():
			return
		}
		at := time.Now()
		r, said := rpc.Command.(*raft.AppendEntriesRequest)
		select {
		case to <- rpc:
		case <-q.running.Done():
			return
		}
		if said && !isHeartbeat(r) && r.Term >= q.raft.CurrentTerm() {
			q.words.heard(word{at, r.LeaderCommitIndex}, q.shows)
		}
	}
}
