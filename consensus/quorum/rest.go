package quorum

import (
	"time"

	"github.com/hashicorp/raft"
)

// Raft says the same thing to a quiet follower over and over: a heartbeat at one to two tenths of the heartbeat timeout,
// and its commit index after every CommitTimeout. What a follower knows already is held back here for a while, and one
// message does for both. Nothing else is: what carries news leaves at once.
const (
	commitRest    = 3 // tenths of the heartbeat timeout since the last answer, before a known commit index is repeated
	heartbeatRest = 4 // the same before a heartbeat: later, so that it seldom has to be sent beside the other
)

// tip is what a request leaves its follower with: how much log, and how much of it is committed.
type tip struct{ term, last, commit uint64 }

func tipOf(r *raft.AppendEntriesRequest) tip {
	return tip{r.Term, r.PrevLogEntry + uint64(len(r.Entries)), r.LeaderCommitIndex}
}

func isHeartbeat(r *raft.AppendEntriesRequest) bool {
	return len(r.Entries) == 0 && r.PrevLogEntry == 0 && r.LeaderCommitIndex == 0
}

// restUntil says until when a request need not be sent, the zero time for one that must be sent now. It is never more
// than a few tenths of the timeout after an answer: who does not answer is asked as often as raft wants.
func (c contact) restUntil(r *raft.AppendEntriesRequest, timeout time.Duration) time.Time {
	switch {
	case c.asked.IsZero() || c.tip.term != r.Term:
		return time.Time{}
	case isHeartbeat(r):
		return c.last.Add(heartbeatRest * timeout / 10)
	case len(r.Entries) == 0 && c.tip == tipOf(r):
		return c.last.Add(commitRest * timeout / 10)
	}
	return time.Time{}
}

// rest holds a request back that has no news for its follower, and reports whether there is no need to send it any more.
// For a heartbeat that is an answer to another request that began after this one: as good a sign of life. For a commit
// index it is that the log has grown or more of it is committed: raft must not wait to send that. Raft then takes the
// follower to have answered just now; that is at most commitRest too late, so a leader without a majority may lead for
// so much longer than its lease. Nothing is read under the lease (see Reads in DESIGN.md).
func (t *transport) rest(id raft.ServerID, r *raft.AppendEntriesRequest, response *raft.AppendEntriesResponse) (done bool) {
	called := time.Now()
	known, news := t.known(id)
	until := known.restUntil(r, t.timeout)
	if !until.After(called) {
		return false
	}
	if isHeartbeat(r) {
		news = nil
	}
	timer := time.NewTimer(until.Sub(called))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-news:
		done = true
	case <-t.pipes.closed:
	}
	if isHeartbeat(r) {
		known, _ = t.known(id)
		done = known.asked.After(called) && known.tip.term == r.Term
	}
	if done {
		*response = raft.AppendEntriesResponse{RPCHeader: response.RPCHeader, Term: r.Term, LastLog: known.lastLog, Success: true}
	}
	return done
}

// known returns what is known of a follower, and a channel that is closed by the next stir.
func (t *transport) known(id raft.ServerID) (contact, <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.contacts[id], t.news
}

// stir lets go of what is held back, because the log has grown or more of it is committed.
func (t *transport) stir() {
	t.mu.Lock()
	defer t.mu.Unlock()
	close(t.news)
	t.news = make(chan struct{})
}
