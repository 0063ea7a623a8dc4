package gossip

import (
	"context"
	"sync"

	"github.com/muster-fleet/muster/node/fleet"
)

// Change says what happened to a member.
type Change uint8

// The changes of a member.
const (
	Joined  Change = iota + 1 // it is there, for the first time or again
	Failed                    // it no longer answers
	Left                      // it is gone, and had said so
	Updated                   // it has other addresses
)

// String returns the change's name in logs.
func (c Change) String() string {
	switch c {
	case Joined:
		return "joined"
	case Failed:
		return "failed"
	case Left:
		return "left"
	case Updated:
		return "updated"
	}
	return "unknown"
}

// changeTo names the change of a member whose own word is new.
func changeTo(m Member) Change {
	if m.Status == fleet.Left {
		return Left
	}
	return Updated
}

// Event is the newest change of one member and how it is since.
type Event struct {
	Change Change
	Member Member
}

// feed holds at most one event of each member until it is read, so that a slow reader costs memory for the members once
// and blocks nobody.
type feed struct {
	mu      sync.Mutex
	pending map[fleet.ID]Event
	order   []fleet.ID
	wake    chan struct{}
}

func newFeed() *feed {
	return &feed{pending: make(map[fleet.ID]Event), wake: make(chan struct{}, 1)}
}

func (f *feed) put(e Event) {
	f.mu.Lock()
	waiting, queued := f.pending[e.Member.ID]
	if !queued {
		f.order = append(f.order, e.Member.ID)
	} else if e.Change == Updated {
		e.Change = waiting.Change // who has not read of the join reads of it with the new addresses
	}
	f.pending[e.Member.ID] = e
	f.mu.Unlock()
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// drop forgets what waits of id.
func (f *feed) drop(id fleet.ID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.pending, id)
}

func (f *feed) take() (Event, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for len(f.order) > 0 {
		id := f.order[0]
		f.order = f.order[1:]
		if e, ok := f.pending[id]; ok {
			delete(f.pending, id)
			return e, true
		}
	}
	return Event{}, false
}

// pump hands events out until ctx ends, and closes out.
func (f *feed) pump(ctx context.Context, out chan<- Event) {
	defer close(out)
	for {
		e, ok := f.take()
		if !ok {
			select {
			case <-f.wake:
				continue
			case <-ctx.Done():
				return
			}
		}
		select {
		case out <- e:
		case <-ctx.Done():
			return
		}
	}
}
