package gossip

import "time"

// drift decides when the members that we see and those that others see have been apart for long enough to exchange them
// all. Every ack carries the digest of its sender's members; a full exchange costs 0.3 kB a member both ways, and is
// made when digests differ instead of every half minute.
type drift struct {
	own    uint64    // our digest when we last looked
	steady time.Time // since when it is that
	score  int       // answers that differed, less those that agreed
	next   time.Time // no exchange before
	pause  time.Duration
}

const (
	settle   = 3 * time.Second  // while our own members change, others are likely to differ for a moment
	enough   = 3                // answers that differ
	minPause = 10 * time.Second // between exchanges; doubled each time that one did not help
	maxPause = 10 * time.Minute
)

// compare takes one answer into account and reports whether to exchange members with the one who gave it.
func (d *drift) compare(now time.Time, own, theirs uint64) bool {
	if own != d.own {
		d.own, d.steady, d.score = own, now, 0
	}
	if own == theirs {
		d.score = max(d.score-1, 0)
		if d.score == 0 {
			d.pause = 0
		}
		return false
	}
	d.score = min(d.score+1, 2*enough)
	if d.score < enough || now.Sub(d.steady) < settle || now.Before(d.next) {
		return false
	}
	d.pause = min(max(2*d.pause, minPause), maxPause)
	d.next = now.Add(d.pause)
	d.score = 0
	return true
}
