package quorum

import (
	"net"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// ahead is a leader's entries that are on their way to the followers while they are still being written here, so that a write
// takes the slower of the two disks and not their sum. What raft takes for stored and is not yet, nobody may count on:
//
//   - A follower's answer reaches raft only once the entries that it answers are durable here too (transport.AppendEntries).
//     Raft counts the leader's own copy at once, but commits nothing on that alone: another voter is needed (mayRunAhead).
//   - Who does not lead, and is asked whether it has such an entry, waits until it is durable (store.GetLog), for its answer
//     would be counted.
//   - Any other write waits its turn behind it (store.settled): what is durable never has a gap.
//
// A leader that dies before the entries are durable has promised them to nobody.
type ahead struct {
	mu      sync.Mutex
	entries []*raft.Log // consecutive, oldest first
	bytes   int64
	since   time.Time     // when the oldest of them came, or the last progress was made
	failed  error         // of the last try to write them; nil: under way
	writing bool          // a goroutine is at it
	moved   chan struct{} // closed and made anew when some became durable, or could not be written
}

// aheadBytes is how much may be on its way to the disk; what comes then waits for it.
const aheadBytes = 8 << 20

// mayRunAhead reports whether entries may be sent before they are durable here: commands of a leader that needs another
// voter's copy to commit them. A configuration takes effect as soon as raft has stored it, and may make this replica the only
// voter; so it is durable first, and all before it.
func (s *store) mayRunAhead(entries []*raft.Log) bool {
	r := s.raft.Load()
	if r == nil || r.State() != raft.Leader {
		return false
	}
	for _, entry := range entries {
		if entry.Type != raft.LogCommand {
			return false
		}
	}
	voters, _ := members(r.GetConfiguration().Configuration())
	return len(voters) > 1
}

// runAhead takes entries to be written soon. False means that they must be written now.
func (s *store) runAhead(entries []*raft.Log, size int64) (taken bool, err error) {
	a := &s.ahead
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.failed != nil:
		return true, a.failed // raft lets another lead
	case a.bytes+size > aheadBytes:
		return false, nil
	}
	if len(a.entries) == 0 {
		a.since = time.Now()
	}
	a.entries = append(a.entries, entries...)
	a.bytes += size
	if !a.writing {
		a.writing = true
		s.work.Go(s.catchUp)
	}
	return true, nil
}

// catchUp writes what runs ahead until nothing does. Where that fails it tries again: raft takes the entries for stored.
func (s *store) catchUp() {
	a := &s.ahead
	for {
		batch := a.batch()
		if len(batch) == 0 {
			return
		}
		err := s.write(func() error { return s.bolt.StoreLogs(batch) })
		a.wrote(batch, err, time.Now())
		if err == nil {
			s.grown.Add(sizeOf(batch))
			continue
		}
		s.log.Warn("cannot store; trying again", "file", s.path, "entries", len(batch), "err", err)
		select {
		case <-s.closing:
			return // they are promised to nobody
		case <-time.After(diskRetry):
		}
	}
}

// batch returns all that runs ahead; none ends the writing.
func (a *ahead) batch() []*raft.Log {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.writing = len(a.entries) > 0
	return a.entries[:len(a.entries):len(a.entries)]
}

func (a *ahead) wrote(batch []*raft.Log, err error, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.failed = err; err == nil {
		a.entries, a.since = a.entries[len(batch):], now
		a.bytes -= sizeOf(batch)
	}
	if len(a.entries) == 0 {
		a.entries = nil
	}
	close(a.moved)
	a.moved = make(chan struct{})
}

// find returns the entry of that index if it runs ahead.
func (a *ahead) find(index uint64) (*raft.Log, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.entries) == 0 || index < a.entries[0].Index || index > a.entries[len(a.entries)-1].Index {
		return nil, false
	}
	return a.entries[index-a.entries[0].Index], true
}

// bounds returns the first and the last index that run ahead; ok is false if none does.
func (a *ahead) bounds() (first, last uint64, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.entries) == 0 {
		return 0, 0, false
	}
	return a.entries[0].Index, a.entries[len(a.entries)-1].Index, true
}

// late says for how long nothing of what runs ahead has become durable.
func (a *ahead) late(now time.Time) time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.entries) == 0 {
		return 0
	}
	return now.Sub(a.since)
}

// durable waits until no entry up to index runs ahead any more. An error means that it does still.
func (s *store) durable(index uint64) error {
	a := &s.ahead
	for {
		a.mu.Lock()
		moved, failed := a.moved, a.failed
		waits := len(a.entries) > 0 && a.entries[0].Index <= index
		a.mu.Unlock()
		switch {
		case !waits:
			return nil
		case failed != nil:
			return failed
		}
		select {
		case <-moved:
		case <-s.closing:
			return net.ErrClosed
		}
	}
}

// settled waits until nothing runs ahead.
func (s *store) settled() error { return s.durable(^uint64(0)) }

func sizeOf(entries []*raft.Log) (size int64) {
	for _, entry := range entries {
		size += entrySize(entry)
	}
	return size
}
