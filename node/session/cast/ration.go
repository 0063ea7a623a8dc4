package cast

import "time"

// ration bounds how fast a recording grows. Whoever pours megabytes into one must not use it up, and go on unseen behind them;
// nor may he fill the disk. So two allowances fill up with time: one for all that is written, and one that only what follows a
// typed key may take. Each is large enough for what a person can look at, and none of them ever ends; beyond the limit both
// grow less the larger the file is, so that even a month of pouring makes some gigabytes.
type ration struct {
	limit int64 // bytes of the file
	burst int64 // bytes that may come at once
	bulk  allowance
	human allowance
}

// allowance is a number of bytes that may be written now.
type allowance struct {
	have float64
	at   time.Duration // when it was filled up last
}

const (
	// terminalBurst is a screen that scrolls through 100,000 long lines; plainBurst is what of a dump is worth a look.
	terminalBurst = 16 << 20
	plainBurst    = 8 << 20
	// bulkRate is what is kept of something that goes on and on, in bytes a second: a large screen that is drawn anew several
	// times a second.
	bulkRate = 64 << 10
	// humanRate and humanBurst are what follows keys, beyond that: as much as a person can read.
	humanRate  = 4 << 10
	humanBurst = 1 << 20
	// leastBurst is how much fits at once however large the file has become.
	leastBurst = 64 << 10
	// leastBulk is the part of bulkRate that is left beyond the limit.
	leastBulk = 1.0 / 128
)

func newRation(limit int64, terminal bool) ration {
	r := ration{limit: limit, burst: plainBurst}
	if terminal {
		r.burst = terminalBurst
	}
	r.burst = min(r.burst, max(limit/8, leastBurst))
	r.bulk.have, r.human.have = float64(r.burst), float64(min(humanBurst, r.burst))
	return r
}

// fill adds what time has brought; size is that of the file.
func (r *ration) fill(now time.Duration, size int64) {
	over := min(1, float64(r.limit)/float64(max(size, 1)))
	left := min(1, max(leastBulk, float64(r.limit-size)/float64(max(r.limit/2, 1))))
	r.bulk.fill(now, bulkRate*left*over, max(float64(r.burst)*left*over, leastBurst))
	r.human.fill(now, humanRate*over, max(humanBurst*over, leastBurst))
}

func (a *allowance) fill(now time.Duration, rate, most float64) {
	a.have = min(most, a.have+rate*max(now-a.at, 0).Seconds())
	a.at = now
}

// room reports whether so many bytes may be written; typed: they follow a key.
func (r *ration) room(n float64, typed bool) bool {
	return r.bulk.have >= n || typed && r.human.have >= n
}

// take takes so many bytes, if they may be written; typed: they follow a key.
func (r *ration) take(n int, typed bool) bool {
	switch {
	case r.bulk.have >= float64(n):
		r.bulk.have -= float64(n)
	case typed && r.human.have >= float64(n):
		r.human.have -= float64(n)
	default:
		return false
	}
	return true
}
