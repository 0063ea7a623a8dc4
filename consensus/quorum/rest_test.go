package quorum

import (
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

func TestRestUntil(t *testing.T) {
	at := time.Unix(1000, 0)
	known := contact{last: at, asked: at.Add(-time.Millisecond), tip: tip{term: 3, last: 7, commit: 6}}
	heartbeat := &raft.AppendEntriesRequest{Term: 3}
	commit := func(term, last, commit uint64) *raft.AppendEntriesRequest {
		return &raft.AppendEntriesRequest{Term: term, PrevLogEntry: last, PrevLogTerm: 1, LeaderCommitIndex: commit}
	}
	entries := commit(3, 6, 6)
	entries.Entries = []*raft.Log{{Index: 7}}
	for name, c := range map[string]struct {
		known   contact
		request *raft.AppendEntriesRequest
		want    time.Time
	}{
		"nothing was answered yet": {contact{last: at, tip: known.tip}, heartbeat, time.Time{}},
		"heartbeat":                {known, heartbeat, at.Add(400 * time.Millisecond)},
		"heartbeat of a new term":  {known, &raft.AppendEntriesRequest{Term: 4}, time.Time{}},
		"commit known":             {known, commit(3, 7, 6), at.Add(300 * time.Millisecond)},
		"more is committed":        {known, commit(3, 7, 7), time.Time{}},
		"the log is longer":        {known, commit(3, 8, 6), time.Time{}},
		"another term":             {known, commit(4, 7, 6), time.Time{}},
		"entries":                  {known, entries, time.Time{}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := c.known.restUntil(c.request, time.Second); !got.Equal(c.want) {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

// What a follower accepted is known; what it refused, or accepted in another term, is not.
func TestHeardTip(t *testing.T) {
	tr := &transport{contacts: map[raft.ServerID]contact{}}
	hear := func(r *raft.AppendEntriesRequest, success bool) tip {
		tr.heard("x", time.Now(), r, &raft.AppendEntriesResponse{Success: success})
		return tr.contacts["x"].tip
	}
	entries := &raft.AppendEntriesRequest{Term: 3, PrevLogEntry: 6, PrevLogTerm: 1, LeaderCommitIndex: 5, Entries: []*raft.Log{{Index: 7}}}
	if got := hear(entries, true); got != (tip{3, 7, 5}) {
		t.Errorf("entries leave %v", got)
	}
	if got := hear(&raft.AppendEntriesRequest{Term: 3}, true); got != (tip{3, 7, 5}) {
		t.Errorf("a heartbeat leaves %v", got)
	}
	if got := hear(&raft.AppendEntriesRequest{Term: 4}, true); got != (tip{term: 4}) {
		t.Errorf("a heartbeat of a new term leaves %v", got)
	}
	if got := hear(entries, false); got != (tip{}) {
		t.Errorf("a refusal leaves %v", got)
	}
}

// A quiet leader says little: two requests a second to a follower would be enough, where raft sends five or more.
func TestQuietLeader(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fabric) {
		nodes := f.grow(3, 0)
		f.propose(nodes[0], "x")
		f.same(nodes...)
		before := f.asked.Load()
		const seconds = 60
		time.Sleep(seconds * time.Second)
		if got := f.asked.Load() - before; got > 2*2*seconds || got < 2*seconds {
			t.Errorf("%d requests in %d s to two followers", got, seconds)
		}
		if leader := f.leader(nodes...); leader != nodes[0] {
			t.Error("the quiet leader was deposed")
		}
	})
}

// What is held back does not delay what is new: followers have a write, commit included, within a tenth of a second,
// whenever it comes.
func TestNewsIsNotHeldBack(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fabric) {
		nodes := f.grow(3, 0)
		for n := range 20 {
			time.Sleep(time.Duration(1000+n*67) * time.Millisecond)
			began := time.Now()
			f.propose(nodes[0], "x")
			f.same(nodes...)
			if took := time.Since(began); took > 100*time.Millisecond {
				t.Errorf("write %d: followers had it after %v", n, took)
			}
		}
	})
}
