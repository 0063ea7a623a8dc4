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
// When a leader's word about what is committed comes, nobody knows how long it has been under way: it may have waited for a
// connection, or out a cut. What is known is that a leader goes on behind entries once it has heard that they are here, and
// so says what it says then after they came. On a follower the age counts from there; where nothing is written it grows. On
// the leader it counts from when a majority of the voters last took its word, as another may lead by now.
func (q *Quorum) Age() (age time.Duration, ok bool) {
	now := time.Now()
	if q.raft.State() == raft.Leader {
		return q.leaderAge(now)
	}
	at, ok := q.words.newest(q.shows)
	return now.Sub(at), ok
}

// shows reports whether the machine shows what a leader of a term has called committed, and with it all that was ever
// acknowledged by then. A new leader does not know how far the one before it had come until it has committed an entry of its
// own term: up to there its word is none.
func (q *Quorum) shows(term, commit uint64) bool {
	begun := q.store.begun.Load()
	return begun.term == term && commit >= begun.index && q.raft.CommitIndex() >= commit &&
		q.reached.Load() >= min(commit, q.store.commands.Load())
}

func (q *Quorum) leaderAge(now time.Time) (age time.Duration, ok bool) {
	commit := q.raft.CommitIndex()
	if !q.shows(q.raft.CurrentTerm(), commit) {
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
	came  coming
}

// word says what was committed at some time after at, by the leader of a term; the zero word is none.
type word struct {
	at     time.Time
	term   uint64
	commit uint64
}

// coming is how far a leader's entries reach, and when the first request came that brought them so far.
type coming struct {
	term, last uint64
	at         time.Time
}

// hears takes in a request of a leader that came at a time. It returns when, at the earliest, the leader knew what it says;
// ok is false where nobody can tell.
func (c *coming) hears(r *raft.AppendEntriesRequest, at time.Time) (known time.Time, ok bool) {
	if c.term == r.Term && !c.at.IsZero() && r.PrevLogEntry >= c.last {
		known, ok = c.at, true
	}
	reach := r.PrevLogEntry + uint64(len(r.Entries))
	if len(r.Entries) > 0 && (c.term != r.Term || reach > c.last) { // not one that comes again, or late
		*c = coming{r.Term, reach, at}
	}
	return known, ok
}

// heard takes in a request of a leader.
func (w *words) heard(r *raft.AppendEntriesRequest, at time.Time, shows func(term, commit uint64) bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	known, ok := w.came.hears(r, at)
	if !ok {
		return
	}
	w.settle(shows)
	said := word{known, r.Term, r.LeaderCommitIndex}
	if w.first == (word{}) || w.first.term != r.Term {
		w.first, w.last = said, word{}
		return
	}
	w.last = said
}

// newest returns since when what is shown may lack something.
func (w *words) newest(shows func(term, commit uint64) bool) (at time.Time, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.settle(shows)
	return w.shown, !w.shown.IsZero()
}

func (w *words) settle(shows func(term, commit uint64) bool) {
	for w.first != (word{}) && shows(w.first.term, w.first.commit) {
		if w.first.at.After(w.shown) {
			w.shown = w.first.at
		}
		w.first, w.last = w.last, word{}
	}
}

// listen hands on what other servers ask, and notes what a leader says about the log. What one of an older term says is
// nothing.
func (q *Quorum) listen(from <-chan raft.RPC, to chan<- raft.RPC) {
	for {
		var rpc raft.RPC
		select {
		case rpc = <-from:
		case <-q.running.Done():
			return
		}
		at := time.Now()
		if r, ok := rpc.Command.(*raft.AppendEntriesRequest); ok && !isHeartbeat(r) && r.Term >= q.raft.CurrentTerm() {
			q.words.heard(r, at, q.shows)
		}
		select {
		case to <- rpc:
		case <-q.running.Done():
			return
		}
	}
}
