package slowlink

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/muster-fleet/muster/node/fleet"
)

// Params say what a cable does to packets. The zero value does nothing.
type Params struct {
	Delay     time.Duration // of every packet
	Jitter    time.Duration // up to so much more, drawn for every packet; the order is kept
	Duplicate int           // so many packets of a hundred arrive twice
	Reorder   int           // so many packets of a hundred do not wait, and overtake those that do
	Seed      uint64        // of what is drawn
}

// MaxDelay bounds how long a packet may wait.
const MaxDelay = time.Minute

// None reports whether the cable does nothing to packets.
func (p Params) None() bool {
	return p.Delay == 0 && p.Jitter == 0 && p.Duplicate == 0 && p.Reorder == 0
}

// String says what the cable does, for people.
func (p Params) String() string {
	var out []string
	for _, part := range []struct {
		does bool
		text string
	}{
		{p.Delay > 0, "delay " + p.Delay.String()},
		{p.Jitter > 0, "jitter " + p.Jitter.String()},
		{p.Duplicate > 0, fmt.Sprintf("%d%% doubled", p.Duplicate)},
		{p.Reorder > 0, fmt.Sprintf("%d%% overtake", p.Reorder)},
	} {
		if part.does {
			out = append(out, part.text)
		}
	}
	return strings.Join(out, ", ")
}

// Check returns why there is no such cable, or nil.
func (p Params) Check() error {
	switch {
	case p.Delay < 0 || p.Jitter < 0 || p.Delay+p.Jitter > MaxDelay:
		return fleet.Errorf(fleet.Invalid, "a packet waits from 0 to %s, not %s and up to %s more", MaxDelay, p.Delay, p.Jitter)
	case p.Duplicate < 0 || p.Duplicate > 100 || p.Reorder < 0 || p.Reorder > 100:
		return fleet.Errorf(fleet.Invalid, "of a hundred packets neither %d can be doubled nor %d overtake", p.Duplicate, p.Reorder)
	case p.Reorder > 0 && p.Delay == 0:
		return fleet.Errorf(fleet.Invalid, "no packet can overtake where none waits").Hinted("give a delay, too")
	}
	return nil
}

// Schedule decides when packets leave. It has no clock: it is told.
type Schedule struct {
	params Params
	draw   *rand.Rand
	last   time.Duration // when the last packet leaves that keeps the order
}

// NewSchedule returns the schedule of a cable. Equal parameters and equal times make equal decisions.
func NewSchedule(p Params) *Schedule {
	return &Schedule{params: p, draw: rand.New(rand.NewPCG(p.Seed, 0))}
}

// Next returns when a packet leaves that comes at now: once, or twice. Times count from any one moment.
func (s *Schedule) Next(now time.Duration) []time.Duration {
	overtakes, doubled := s.chance(s.params.Reorder), s.chance(s.params.Duplicate)
	more := time.Duration(0)
	if s.params.Jitter > 0 {
		more = time.Duration(s.draw.Int64N(int64(s.params.Jitter)))
	}
	leaves := now
	if !overtakes {
		s.last = max(s.last, now+s.params.Delay+more)
		leaves = s.last
	}
	if doubled {
		return []time.Duration{leaves, leaves}
	}
	return []time.Duration{leaves}
}

// chance draws; it draws always, so that a change of one parameter leaves the others' luck alone.
func (s *Schedule) chance(percent int) bool { return s.draw.IntN(100) < percent }
