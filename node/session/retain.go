package session

import (
	"errors"
	"io/fs"
	"os"
	"slices"
	"time"

	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/session/cast"
)

const (
	// MaxKept is how many ended sessions keep their folders, however young they are: one of them each is read by List.
	MaxKept = 2000
	// minKeep is how long one stays in any case: longer than its statement could be used again.
	minKeep = time.Hour
	// pruneEvery is how often old ones are looked for.
	pruneEvery = time.Hour
)

// outdated returns the ended sessions whose folders go, by age, bytes and number; and those too young for that, of which the
// recording goes at once: who may open one session could else fill the disk within the hour. Where there are too many, they are
// those of the operator who has most, so that nobody wipes out what is known of others; while all of his are young, none goes.
func outdated(all []cast.Kept, keep cast.Keep, most int, now time.Time) (folders, recordings []fleet.UUID) {
	all = slices.Clone(all)
	slices.SortStableFunc(all, func(a, b cast.Kept) int { return b.Ended.Compare(a.Ended) })
	gone := map[fleet.UUID]bool{}
	for _, id := range keep.Outdated(all, now) {
		gone[id] = true
	}
	tooMany := beyond(all, most, now)
	for _, k := range all {
		switch young := now.Sub(k.Ended) < minKeep; {
		case young && gone[k.Session]:
			recordings = append(recordings, k.Session)
		case !young && (tooMany[k.Session] || gone[k.Session]):
			folders = append(folders, k.Session)
		}
	}
	return folders, recordings
}

// beyond returns the sessions that are too many, by the rule that bounds their bytes.
func beyond(all []cast.Kept, most int, now time.Time) map[fleet.UUID]bool {
	ones := slices.Clone(all)
	for i := range ones {
		ones[i].Bytes = 1
	}
	out := map[fleet.UUID]bool{}
	for _, id := range (cast.Keep{Bytes: int64(most)}).Outdated(ones, now) {
		out[id] = true
	}
	return out
}

func (s *Sessions) prune() {
	var all []cast.Kept
	lives := map[fleet.UUID]bool{} // ended, but the supervisor waits for its client
	for _, id := range s.all() {
		dir := s.folder(id)
		if e, err := dir.end(); err == nil && dir.told() {
			all = append(all, cast.Kept{Session: id, By: s.operator(id), Bytes: dir.size(), Ended: time.UnixMilli(e.Ended)})
			lives[id] = dir.alive()
		}
	}
	keep := s.cfg.Keep
	if s.cfg.Age != nil {
		keep.Age = s.cfg.Age()
	}
	folders, recordings := outdated(all, keep, MaxKept, s.cfg.Now())
	for _, id := range recordings {
		if err := os.Remove(s.folder(id).path(recordingName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			s.cfg.Log.Warn("the recording of a session cannot be removed", "session", id.String(), "err", err)
		}
	}
	for _, id := range folders {
		if lives[id] {
			continue
		}
		if err := os.RemoveAll(string(s.folder(id))); err != nil {
			s.cfg.Log.Warn("the folder of an old session cannot be removed", "session", id.String(), "err", err)
			continue
		}
		s.forget(id)
	}
}

// operator is the key of whose session it is.
func (s *Sessions) operator(id fleet.UUID) fleet.ID {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.known[id].By
}

// pruneOften looks after each end, and now and then.
func (s *Sessions) pruneOften() {
	tick := time.NewTicker(pruneEvery)
	defer tick.Stop()
	for {
		select {
		case <-s.grown:
		case <-tick.C:
		case <-s.ctx.Done():
			return
		}
		s.prune()
	}
}
