package session

import (
	"fmt"
	"time"
)

// life is a running session as its limits see it. All moments are of the boot clock, which goes on while the host sleeps.
type life struct {
	now      time.Duration
	began    time.Duration
	active   time.Duration // last input or output
	left     time.Duration // since when nobody is attached
	attached bool
	idle     time.Duration // without input or output; 0: no limit
	most     time.Duration // in all; 0: no limit
	grace    time.Duration // without anybody attached
}

// judge returns why the session is to end now, or "", and after how long to ask again at the latest.
func (l life) judge() (why string, again time.Duration) {
	again = lookAgain
	for _, limit := range []struct {
		applies bool
		at      time.Duration
		why     string
	}{
		{l.most > 0, l.began + l.most, "its time is over: " + short(l.most)},
		{l.idle > 0, l.active + l.idle, "no input or output for " + short(l.idle)},
		{!l.attached, l.left + l.grace, "nobody was attached for " + short(l.grace)},
	} {
		if !limit.applies {
			continue
		}
		if limit.at <= l.now {
			return limit.why, 0
		}
		again = min(again, limit.at-l.now)
	}
	return "", again
}

// lookAgain is how often limits are looked at, whatever they say: the timers of a process stand still while its host
// sleeps, and the boot clock does not.
const lookAgain = 30 * time.Second

// short shows 5m instead of 5m0s.
func short(d time.Duration) string {
	switch {
	case d >= time.Hour && d%time.Hour == 0:
		return fmt.Sprintf("%dh", d/time.Hour)
	case d >= time.Minute && d%time.Minute == 0:
		return fmt.Sprintf("%dm", d/time.Minute)
	}
	return d.String()
}

// rest is an ended session whose last words may not have arrived. Moments as in life.
type rest struct {
	now      time.Duration
	ended    time.Duration
	left     time.Duration
	attached bool
	stay     time.Duration // for a client that may come back
	stall    time.Duration // for one that is there and does not read
}

// over reports whether the supervisor may go, and after how long to ask again at the latest.
func (r rest) over() (over bool, again time.Duration) {
	until := r.ended + r.stall
	if !r.attached {
		until = max(r.ended, r.left) + r.stay
	}
	if until <= r.now {
		return true, 0
	}
	return false, min(lookAgain, until-r.now)
}

// timing is how long a supervisor waits for what. Orders carry it for the tests' sake.
type timing struct {
	Mercy  time.Duration // between SIGHUP, SIGTERM and SIGKILL
	Linger time.Duration // for what the program left to close its output, before it is killed
	Stay   time.Duration // see rest
	Stall  time.Duration
}

func usual() timing {
	return timing{Mercy: 2 * time.Second, Linger: 500 * time.Millisecond, Stay: time.Minute, Stall: 10 * time.Minute}
}
